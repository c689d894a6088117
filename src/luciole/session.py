"""Compiling and running from Python: `luciole.compile` and `luciole.load`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, Unpack

import numpy as np

from luciole.bundle import Bundle
from luciole.compilation import STAGES, Compilation, Resume
from luciole.driver import assemble, build_program, compile_model
from luciole.emit.entry import kernel_function
from luciole.emulate.result import CallRecord, RunResult
from luciole.engines import Engine, ReferenceEngine, open_bundle_engine
from luciole.errors import CompileError
from luciole.graph.core import Graph, Value
from luciole.graph.extract import copy_graph
from luciole.importers import load_model
from luciole.ir.types import Array, DType, Shape
from luciole.options import (
    EMULATORS,
    RUN_STAGES,
    Emulator,
    OptionKeywords,
    Options,
    Stage,
    check_choice,
    make_options,
)
from luciole.program.core import Program, Run

#: Arrays by input name or position.
Inputs: TypeAlias = Mapping[str, Array] | Mapping[int, Array] | Mapping[str | int, Array]


@dataclass(frozen=True)
class Tensor:
    """A model input or output: name, shape, element type, and the quantization when its numbers stand for reals.

    `dtype` is the name of numpy's type. `scale` and `zero_point` are `None` when the numbers are not quantized.
    """

    name: str
    shape: Shape
    dtype: str
    scale: float | None
    zero_point: int | None

    @classmethod
    def of(cls, name: str, value: Value) -> Tensor:
        """The tensor that a value of the graph is."""
        quant = value.type.quant
        if quant is None or quant.is_per_channel:
            return cls(name, value.type.shape, value.type.dtype.numpy.name, None, None)
        return cls(name, value.type.shape, value.type.dtype.numpy.name, quant.scale, quant.zero_point)

    def __str__(self) -> str:
        return f'"{self.name}" {self.dtype}{list(self.shape)}'


@dataclass(frozen=True)
class LayerRun:
    """What one layer of a measured run took; `None` where the emulator cannot tell layers apart."""

    name: str
    operator: str
    kernel: str
    macs: int
    instructions: int | None
    estimated_cycles: int | None


@dataclass(frozen=True)
class LastRun:
    """What the last run on an emulated core took. Cycles are an estimate; `None` where no rules are known for the core.

    `helpers` are the support functions (soft float) that the program's own compiler has to provide.
    """

    emulator: str
    instructions: int
    estimated_cycles: int | None
    stack_bytes: int
    layers: tuple[LayerRun, ...]
    helpers: tuple[str, ...]


class Session:
    """A compiled model that runs: numpy in, numpy out, by name or by position.

    Attributes:
        inputs, outputs: names, shapes, types and quantization of what `run` takes and gives, in order.
        program: the model as it was compiled.
    """

    def __init__(self, program: Program, engine: Engine, prefix: str) -> None:
        self.program = program
        self.inputs = tuple(Tensor.of(value.name, value) for value in program.graph.inputs)
        self.outputs = tuple(Tensor.of(name, value) for name, value in program.graph.outputs)
        self._engine = engine
        self._prefix = prefix
        self._last: RunResult | None = None

    def run(self, inputs: Inputs, *, measure: bool = True) -> dict[str, Array]:
        """The outputs by name, for inputs by name or position.

        On an emulated core the run is counted, for `last_run`, unless `measure` is off. Raises `CompileError` when an
        input is missing, unknown, given twice, or has another type or shape.
        """
        self._last = self._engine.run(self._given(inputs), measure=measure)
        return self._arrays(self._last)

    def run_many(self, samples: Sequence[Inputs]) -> list[dict[str, Array]]:
        """The outputs for each sample; none of the runs is counted. Raises what `run` raises."""
        given = [self._given(inputs) for inputs in samples]
        self._last = None
        return [self._arrays(result) for result in self._engine.run_many(given)]

    def _given(self, inputs: Inputs) -> list[bytes]:
        return [np.ascontiguousarray(array).tobytes() for array in bind_inputs(self.inputs, inputs)]

    def _arrays(self, result: RunResult) -> dict[str, Array]:
        """The outputs as arrays of their own."""
        return {
            name: np.frombuffer(raw, value.type.dtype.numpy).reshape(value.type.shape).copy()
            for (name, value), raw in zip(self.program.graph.outputs, result.outputs, strict=True)
        }

    @property
    def is_measured(self) -> bool:
        """Whether `last_run` has something to tell."""
        return self._last is not None and self._last.measurement is not None

    @property
    def last_run(self) -> LastRun:
        """What the last run took. Raises `CompileError` when there was none that was counted."""
        if self._last is None or self._last.measurement is None:
            raise CompileError.of(
                "not-measured",
                "the last run was not measured",
                help='instructions are counted on emulated cores: luciole.load(model, target="cortex-m4")',
            )
        measured = self._last.measurement
        return LastRun(
            emulator=self._last.emulator,
            instructions=measured.instructions,
            estimated_cycles=measured.estimated_cycles,
            stack_bytes=measured.stack_bytes,
            layers=tuple(_layer_runs(self.program, self._prefix, measured.calls)),
            helpers=measured.helpers,
        )


def _layer_runs(program: Program, prefix: str, calls: Sequence[CallRecord]) -> Iterator[LayerRun]:
    """Layers with the calls that ran them: those of the kernels' functions, in order, whatever else is called between.

    A compiler may add a suffix to a function it specializes (`.constprop.0`). Where calls are missing, since the
    compiler inlined some or the emulator cannot tell, layers stay without figures.
    """
    functions = [kernel_function(prefix, instruction.kernel) for instruction in program.instructions]
    order = _layer_calls(program)
    known = set(functions)
    found = [call for call in calls if call.symbol.partition(".")[0] in known]
    is_complete = [call.symbol.partition(".")[0] for call in found] == [functions[index] for index in order]
    own: dict[int, list[CallRecord]] = {}
    if is_complete:
        for index, call in zip(order, found, strict=True):
            own.setdefault(index, []).append(call)
    for index, instruction in enumerate(program.instructions):
        op = instruction.operator
        name = instruction.location.node or program.graph.results(op)[0].name
        instructions = sum(call.instructions for call in own.get(index, ())) if is_complete else None
        estimates = [call.estimated_cycles for call in own.get(index, ())]
        known_cycles = [cycles for cycles in estimates if cycles is not None]
        cycles = sum(known_cycles) if is_complete and len(known_cycles) == len(estimates) else None
        yield LayerRun(name, op.kind, functions[index], op.macs(), instructions, cycles)


def _layer_calls(program: Program) -> list[int]:
    """The layers in the order in which they are called; those of a stream once for some rows."""
    order: list[int] = []
    for index in range(len(program.instructions)):
        stream = program.stream_at(index)
        if stream is None:
            order.append(index)
        elif index == stream.first:
            order += [action.instruction for action in stream.actions if isinstance(action, Run)]
    return order


def compile(source: str | Path, target: str = "native", **options: Unpack[OptionKeywords]) -> Bundle:
    """Compile a model file into a bundle; `options` are the fields of `luciole.Options`.

    Raises `CompileError` for what is wrong with the model or the options, `ToolError` for a missing program.
    """
    return compile_model(Path(source), make_options(target, options))


def load(
    source: str | Path,
    target: str = "native",
    *,
    stage: Stage = "native",
    emulator: Emulator = "",
    **options: Unpack[OptionKeywords],
) -> Session:
    """Compile a model and make it ready to run: on this machine, or on an emulated core when `target` names one.

    `stage` runs the reference instead of machine code: `graph` (the numpy meaning of the operators as imported),
    `program` (the same after all passes, in planned memory), `kernel` (the kernel interpreter; slow). `emit="c"`
    compiles the C source, with this machine's compiler or the core's GCC. `emulator` is `unicorn` or `qemu`; by default
    whichever has the core. Raises what `compile` raises.
    """
    with Compilation(Path(source), make_options(target, options)) as run:
        return open_session(run, build_program(run), stage, emulator)


def open_session(
    run: Compilation,
    program: Program,
    stage: Stage = "native",
    emulator: Emulator = "",
    bundle: Bundle | None = None,
) -> Session:
    """A session of a program that was compiled already; `bundle` is its bundle, where that was made too."""
    check_choice("stage", stage, RUN_STAGES)
    check_choice("emulator", emulator, EMULATORS)
    prefix = run.identity.name
    if stage == "graph":
        return Session(
            program, ReferenceEngine(run.reference or load_model(run.source, dict(run.options.dims))), prefix
        )
    if stage != "native":
        return Session(program, ReferenceEngine(program, use_kernels=stage == "kernel"), prefix)
    if bundle is None:
        bundle = assemble(run, program)
    return Session(program, open_bundle_engine(bundle, program, run.target, run.options, emulator), prefix)


def host_session(source: Path, graph: Graph) -> Session:
    """A graph of the file `source`, compiled for this machine; the graph itself stays as it is."""
    with Compilation(source, Options(), resume=Resume(STAGES[0], copy_graph(graph))) as run:
        return open_session(run, build_program(run))


def bind_inputs(tensors: Sequence[Tensor], given: Inputs) -> list[Array]:
    """Arrays in the model's order from arrays by name or position. Raises `CompileError` when they do not fit."""
    expected = ", ".join(str(tensor) for tensor in tensors)
    found: dict[int, Array] = {}
    for key, value in given.items():
        position = _position(tensors, key)
        if position is None:
            raise CompileError.of("bad-input", f"the model has no input {key!r}", help=f"its inputs are {expected}")
        tensor = tensors[position]
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise CompileError.of("bad-input", f"input {tensor} is given no array: {error}") from None
        if position in found:
            raise CompileError.of("bad-input", f"input {tensor} is given twice, the second time as {key!r}")
        if tuple(array.shape) != tensor.shape or array.dtype.name != tensor.dtype:
            raise CompileError.of("bad-input", f"input {tensor} is given {array.dtype.name}{list(array.shape)}")
        found[position] = array.astype(DType.of(array).numpy, copy=False)
    if missing := [str(tensor) for position, tensor in enumerate(tensors) if position not in found]:
        raise CompileError.of("bad-input", f"no data for input {', '.join(missing)}")
    return [found[position] for position in range(len(tensors))]


def _position(tensors: Sequence[Tensor], key: str | int) -> int | None:
    """The input that a key names: by its name, else by its number."""
    for position, tensor in enumerate(tensors):
        if key == tensor.name:
            return position
    if isinstance(key, str) and not (key.isascii() and key.isdigit() and len(key) < 6):
        return None
    number = int(key)
    return number if 0 <= number < len(tensors) else None
