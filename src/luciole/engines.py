"""What runs a session: the model's meaning, the bundle on this machine, or the bundle on an emulated core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from luciole.bundle import Bundle, HostSession, Interface, Tensor
from luciole.bundle.cross import build_cross_object
from luciole.emulate.bundle import open_bundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, EmulatedBundle, Slot
from luciole.emulate.result import RunResult
from luciole.errors import EXIT_UNSUPPORTED, CompileError
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.ir.target import Target
from luciole.options import Emulator, Options
from luciole.program.core import ARENA, Program
from luciole.program.interpret import run_program


class Engine(Protocol):
    """Runs a model on the bytes of its inputs; `RunResult.measurement` is None where nothing is counted."""

    def run(self, inputs: Sequence[bytes], *, measure: bool = False) -> RunResult:
        """One inference, counted if asked to and if this engine can."""

    def run_many(self, samples: Sequence[Sequence[bytes]]) -> list[RunResult]:
        """An inference for each sample, none of them counted."""


class ReferenceEngine:
    """The meaning of the model, without machine code: of a graph, of a program, or of a program's kernels."""

    def __init__(self, model: Graph | Program, *, use_kernels: bool = False) -> None:
        self._model = model
        self._graph = model if isinstance(model, Graph) else model.graph
        self._use_kernels = use_kernels

    def run(self, inputs: Sequence[bytes], *, measure: bool = False) -> RunResult:
        """See `Engine`."""
        arrays = {
            value.name: np.frombuffer(raw, value.type.dtype.numpy).reshape(value.type.shape)
            for value, raw in zip(self._graph.inputs, inputs, strict=True)
        }
        if isinstance(self._model, Graph):
            outputs = run_graph(self._model, arrays)
        else:
            outputs = run_program(self._model, arrays, use_kernels=self._use_kernels)
        return RunResult(tuple(np.ascontiguousarray(outputs[name]).tobytes() for name, _ in self._graph.outputs))

    def run_many(self, samples: Sequence[Sequence[bytes]]) -> list[RunResult]:
        """See `Engine`."""
        return [self.run(inputs) for inputs in samples]


class HostEngine:
    """The bundle in this process; code of one instance runs on all samples."""

    def __init__(self, session: HostSession) -> None:
        self._session = session
        session.close()  # the code is loaded; only its files go

    def run(self, inputs: Sequence[bytes], *, measure: bool = False) -> RunResult:
        """See `Engine`."""
        return RunResult(tuple(self._session.run(inputs)))

    def run_many(self, samples: Sequence[Sequence[bytes]]) -> list[RunResult]:
        """See `Engine`."""
        return [self.run(inputs) for inputs in samples]


class EmulatedEngine:
    """The bundle on an emulated core. Outputs that are constants stand in flash, where the emulator does not look."""

    def __init__(self, bundle: EmulatedBundle, constants: dict[int, bytes]) -> None:
        self._bundle = bundle
        self._constants = constants

    def run(self, inputs: Sequence[bytes], *, measure: bool = False) -> RunResult:
        """See `Engine`."""
        return self._with_constants(self._bundle.run(inputs, measure=measure))

    def run_many(self, samples: Sequence[Sequence[bytes]]) -> list[RunResult]:
        """See `Engine`."""
        return [self._with_constants(result) for result in self._bundle.run_many(samples)]

    def _with_constants(self, result: RunResult) -> RunResult:
        outputs = list(result.outputs)
        for position, data in sorted(self._constants.items()):
            outputs.insert(position, data)
        return RunResult(tuple(outputs), result.measurement, result.emulator)


def open_bundle_engine(
    bundle: Bundle, program: Program, target: Target, options: Options, emulator: Emulator
) -> HostEngine | EmulatedEngine:
    """The engine for a bundle's own code.

    Raises `CompileError` when its target does not run here, `ToolError` when an emulator or a C compiler is missing.
    """
    if target.is_native:
        if options.emit == "c":
            return HostEngine(HostSession.from_c(bundle.files, bundle.interface, bundle.constant_weights))
        return HostEngine(HostSession.from_object(bundle.object_bytes, bundle.interface, bundle.constant_weights))
    if not target.emulated_core:
        raise CompileError.of(
            "not-runnable",
            f"code for {target.name} cannot be run here",
            help="run with --target native, or with a core that is emulated (see `luciole targets`)",
            exit_code=EXIT_UNSUPPORTED,
        )
    if options.bundle_api != "luciole":
        raise CompileError.of(
            "not-runnable",
            f"bundles with the interface of {options.bundle_api} are run on this machine only",
            help="leave --bundle-api away, or run with --target native",
            exit_code=EXIT_UNSUPPORTED,
        )
    object_bytes = build_cross_object(bundle.files, target) if options.emit == "c" else bundle.object_bytes
    core, interface = find_core(target.emulated_core), _emulated_interface(bundle.interface)
    if emulator == "qemu":
        from luciole.emulate.qemu import QemuBundle

        emulated: EmulatedBundle = QemuBundle(object_bytes, core, interface)
    elif emulator == "unicorn" and not core.unicorn_model:
        raise CompileError.of(
            "not-runnable",
            f"unicorn has no {core.name}",
            help="leave --emulator away to use QEMU",
            exit_code=EXIT_UNSUPPORTED,
        )
    else:
        emulated = open_bundle(object_bytes, core, interface)
    constants = {
        position: buffer.data.tobytes()
        for position, (_, _, buffer) in enumerate(program.outputs())
        if buffer.data is not None
    }
    return EmulatedEngine(emulated, constants)


def _emulated_interface(interface: Interface) -> BundleInterface:
    """What the emulator has to know of a bundle's interface."""
    return BundleInterface(
        interface.prefix,
        interface.arena_bytes,
        interface.arena_alignment,
        _slots(interface, interface.inputs),
        _slots(interface, interface.outputs),
        tuple((r.region, r.size_bytes, r.alignment) for r in interface.ranges[1:]),
        interface.inputs[0].shape[1] if interface.takes_rows else 0,
    )


def _slots(interface: Interface, tensors: Sequence[Tensor]) -> tuple[Slot, ...]:
    """Where the tensors are that do not lie among the constants."""
    memories = {ARENA, *(range.region for range in interface.ranges)}
    return tuple(Slot(t.offset, t.size_bytes, t.region) for t in tensors if t.region in memories)
