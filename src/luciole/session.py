"""Compiling and running from Python: `luciole.compile` and `luciole.load`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from luciole.bundle import Bundle
from luciole.bundle.c import print_bundle_c
from luciole.bundle.host import HostSession
from luciole.bundle.interface import describe_interface
from luciole.bundle.objects import build_object
from luciole.compilation import Compilation
from luciole.driver import build_program, compile_model
from luciole.emulate.bundle import BundleInterface, Slot, open_bundle
from luciole.emulate.cores import find_core
from luciole.emulate.result import Measurement
from luciole.errors import EXIT_UNSUPPORTED, CompileError
from luciole.graph.core import Value
from luciole.graph.interpret import run_graph
from luciole.ir.types import Array, Shape
from luciole.options import Options
from luciole.program.core import ARENA, Buffer, Program
from luciole.program.interpret import run_program

#: What can run a model: its meaning at three levels, or machine code.
RUN_STAGES = ("graph", "program", "kernel", "native")


@dataclass(frozen=True)
class Tensor:
    """A model input or output: name, shape, element type, and the quantization when the numbers stand for scaled reals."""

    name: str
    shape: Shape
    dtype: str
    scale: float | None
    zero_point: int | None

    @classmethod
    def of(cls, name: str, value: Value) -> Tensor:
        """The tensor that a value of the graph is."""
        quant = value.type.quant
        has_one = quant is not None and not quant.is_per_channel
        return cls(
            name,
            value.type.shape,
            value.type.dtype.value,
            quant.scale if quant is not None and has_one else None,
            quant.zero_point if quant is not None and has_one else None,
        )


@dataclass(frozen=True)
class LayerRun:
    """What one layer of a measured run took."""

    name: str
    operator: str
    kernel: str
    macs: int
    instructions: int
    estimated_cycles: int | None


@dataclass(frozen=True)
class LastRun:
    """What the last measured run on an emulated core took; cycles are estimated, not measured."""

    emulator: str
    instructions: int
    estimated_cycles: int | None
    stack_bytes: int
    layers: tuple[LayerRun, ...]
    helpers: tuple[str, ...]


class _Engine(Protocol):
    def run(self, inputs: Sequence[bytes]) -> Sequence[bytes]: ...


class Session:
    """A compiled model that runs: numpy in, numpy out, by name or by position."""

    def __init__(self, program: Program, engine: _Engine) -> None:
        self.program = program
        self.inputs = tuple(Tensor.of(v.name, v) for v in program.graph.inputs)
        self.outputs = tuple(Tensor.of(name, v) for name, v in program.graph.outputs)
        self._engine = engine

    @property
    def last_run(self) -> LastRun:
        """What the last run took. Raises `CompileError` on engines that do not count, or before the first run."""
        if not isinstance(self._engine, _EmulatedEngine) or self._engine.measurement is None:
            raise CompileError.of("not-measured", "no measured run: instructions are counted on emulated cores only")
        return last_run(self.program, self._engine.measurement, self._engine.emulator)

    @property
    def is_measured(self) -> bool:
        """Whether `last_run` has something to tell."""
        return isinstance(self._engine, _EmulatedEngine) and self._engine.measurement is not None

    def run(self, inputs: Mapping[str | int, Array]) -> dict[str, Array]:
        """The outputs by name. Raises `CompileError` when an input is missing, unknown, or has another type or shape."""
        arrays = bind_inputs(self.inputs, inputs)
        given = [np.ascontiguousarray(a).tobytes() for a in arrays]
        results = iter(self._engine.run(given))
        found = {}
        for name, value, buffer in self.program.outputs():
            raw = next(results)
            if buffer.data is not None:
                raw = buffer.data.tobytes()
            found[name] = np.frombuffer(raw, value.type.dtype.numpy).reshape(value.type.shape)
        return found

    def measure_next_runs(self, measure: bool) -> None:
        """Count instructions in the following runs, or do not (much quicker); a fresh session counts its first run
        only.
        """
        if isinstance(self._engine, _EmulatedEngine):
            self._engine.measure = measure


def compile(source: str | Path, target: str = "native", **options: Any) -> Bundle:
    """Compile a model file into a bundle. `options` are the fields of `luciole.Options`. Raises `CompileError` and
    others.
    """
    return compile_model(Path(source), make_options(target=target, **options))


def load(
    source: str | Path, target: str = "native", *, stage: str = "native", emulator: str = "", **options: Any
) -> Session:
    """Compile a model and make it ready to run: on this machine, or on an emulated core when `target` names one.

    `stage` runs the reference instead of machine code: `graph` (the operators' numpy meaning), `program` (the same in
    planned memory), `kernel` (the kernel interpreter; slow). `emit="c"` builds the C source with this machine's
    compiler. `emulator` is `unicorn` or `qemu`; by default whichever has the core. Raises `CompileError`, `ToolError`.
    """
    return load_with(Path(source), make_options(target=target, **options), stage=stage, emulator=emulator)


def load_with(source: Path, options: Options, *, stage: str = "native", emulator: str = "") -> Session:
    """`load` with options as a value."""
    if stage not in RUN_STAGES:
        raise CompileError.of(
            "bad-option", f'--stage cannot be "{stage}"', help=f"it is one of {', '.join(RUN_STAGES)}"
        )
    with Compilation(source, options) as run:
        program = build_program(run)
        run.check_ram(program)
        return open_session(run, program, stage, emulator)


def open_session(run: Compilation, program: Program, stage: str = "native", emulator: str = "") -> Session:
    """A session of a program that was compiled already."""
    return Session(program, _engine(run, program, stage, emulator))


def make_options(**given: Any) -> Options:
    """Options from keywords. Raises `CompileError` that names the unknown ones."""
    known = [f.name for f in fields(Options)]
    if unknown := sorted(set(given) - set(known)):
        raise CompileError.of(
            "bad-option", f"unknown options: {', '.join(unknown)}", help=f"options are {', '.join(known)}"
        )
    return Options(**given)


def bind_inputs(tensors: Sequence[Tensor], given: Mapping[str | int, Array]) -> list[Array]:
    """Arrays in the model's order from arrays by name or position. Raises `CompileError` when they do not fit."""
    names = ", ".join(f'"{t.name}" {t.dtype}{list(t.shape)}' for t in tensors)
    found: dict[int, Array] = {}
    for key, array in given.items():
        position = _position(tensors, key)
        if position is None:
            raise CompileError.of("bad-input", f"the model has no input {key!r}", help=f"inputs are {names}")
        tensor, array = tensors[position], np.asarray(array)
        if tuple(array.shape) != tensor.shape or array.dtype.name != _numpy_name(tensor.dtype):
            message = (
                f'input "{tensor.name}" is {tensor.dtype}{list(tensor.shape)}, given {array.dtype}{list(array.shape)}'
            )
            raise CompileError.of("bad-input", message)
        found[position] = array
    if missing := [t.name for i, t in enumerate(tensors) if i not in found]:
        raise CompileError.of("bad-input", f"no data for input {', '.join(missing)}", help=f"inputs are {names}")
    return [found[i] for i in range(len(tensors))]


def _position(tensors: Sequence[Tensor], key: str | int) -> int | None:
    for position, tensor in enumerate(tensors):
        if key == tensor.name:
            return position
    number = int(key) if isinstance(key, int) or (key.isascii() and key.isdigit()) else -1
    return number if 0 <= number < len(tensors) else None


def _numpy_name(dtype: str) -> str:
    return {
        "i8": "int8",
        "u8": "uint8",
        "i16": "int16",
        "i32": "int32",
        "i64": "int64",
        "f32": "float32",
        "bool": "bool",
    }.get(dtype, dtype)


# Engines


def _engine(run: Compilation, program: Program, stage: str, emulator: str) -> _Engine:
    if stage != "native":
        return _ReferenceEngine(program, stage)
    prefix = run.identity.name
    if run.target.is_native:
        interface = describe_interface(program, prefix)
        if run.options.emit == "c":
            return HostSession.from_c(print_bundle_c(program, prefix, interface), interface)
        return HostSession.from_object(build_object(program, prefix, run.target), interface)
    if not run.target.emulated_core:
        raise CompileError.of(
            "not-runnable",
            f"code for {run.target.name} cannot be run here",
            help="run with --target native, or with a core that is emulated (see `luciole targets`)",
            exit_code=EXIT_UNSUPPORTED,
        )
    return _EmulatedEngine(
        program, build_object(program, prefix, run.target), prefix, run.target.emulated_core, emulator
    )


class _ReferenceEngine:
    """The meaning of the model, without machine code."""

    def __init__(self, program: Program, stage: str) -> None:
        self._program = program
        self._stage = stage

    def run(self, inputs: Sequence[bytes]) -> Sequence[bytes]:
        graph = self._program.graph
        arrays = {
            v.name: np.frombuffer(raw, v.type.dtype.numpy).reshape(v.type.shape)
            for v, raw in zip(graph.inputs, inputs, strict=True)
        }
        if self._stage == "graph":
            outputs = run_graph(graph, arrays)
        else:
            outputs = run_program(self._program, arrays, use_kernels=self._stage == "kernel")
        return [np.ascontiguousarray(outputs[name]).tobytes() for name, _ in graph.outputs]


class _EmulatedEngine:
    """The bundle's object on an emulated core; the first run is counted, in a fresh emulator."""

    def __init__(self, program: Program, data: bytes, prefix: str, core_name: str, emulator: str) -> None:
        interface = BundleInterface(
            prefix,
            program.arena.size_bytes,
            program.arena.alignment,
            tuple(_slot(b) for _, _, b in program.inputs()),
            tuple(_slot(b) for _, _, b in program.outputs()),
        )
        core = find_core(core_name)
        if emulator == "qemu":
            from luciole.emulate.qemu import QemuBundle

            self._bundle: Any = QemuBundle(data, core, interface)
        else:
            self._bundle = open_bundle(data, core, interface)
        self.emulator: str = self._bundle.emulator
        self.measurement: Measurement | None = None
        self.measure = True

    def run(self, inputs: Sequence[bytes]) -> Sequence[bytes]:
        result = self._bundle.run(inputs, measure=self.measure)
        if result.measurement is not None:
            self.measurement = result.measurement
        self.measure = False
        return result.outputs  # type: ignore[no-any-return]  # bytes of every output


def _slot(buffer: Buffer) -> Slot:
    """Where a tensor lies in the arena; a constant output takes no place there."""
    if buffer.region != ARENA or buffer.offset is None:
        return Slot(0, 0)
    return Slot(buffer.offset, buffer.size_bytes)


def last_run(program: Program, measurement: Measurement, emulator: str) -> LastRun:
    """A measurement by layer: the calls of `run` are the instructions of the program, in order."""
    layers = []
    for instruction, call in zip(program.instructions, measurement.calls, strict=False):
        op = instruction.operator
        name = instruction.location.node or program.graph.results(op)[0].name
        layers.append(LayerRun(name, op.kind, instruction.kernel, op.macs(), call.instructions, call.estimated_cycles))
    return LastRun(
        emulator,
        measurement.instructions,
        measurement.estimated_cycles,
        measurement.stack_bytes,
        tuple(layers),
        measurement.helpers,
    )
