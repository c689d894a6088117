"""Running a program in its planned memory: the judge of the plan.

Each instruction reads its operands' bytes from the arena at their planned offsets, computes by the operator's numpy
meaning (or by its kernel, on request), and writes its results there. Memory that nothing lives in is poisoned, so that
a wrong plan gives wrong bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from luciole.errors import InternalError
from luciole.graph.core import Operator, Value
from luciole.graph.interpret import compute_operator
from luciole.ir.types import Array, TensorType
from luciole.kernel.interpret import run_kernel
from luciole.program.core import (
    Buffer,
    Copy,
    Instruction,
    Program,
    Run,
    Stream,
    Take,
    may_be_shorter,
    row_places,
)

_POISON = 0xA5


def run_program(
    program: Program,
    inputs: Mapping[str, Array],
    *,
    use_kernels: bool = False,
    watch: Callable[[Value, Array], None] | None = None,
) -> dict[str, Array]:
    """Run a planned program on arrays by input name; gives arrays by output name.

    `watch` is told every result as it is made. Raises `InternalError` for a program that is not planned.
    """
    memory = _Memory(program)
    for name, value, buffer in program.inputs():
        if buffer.kind == "ring":
            continue
        memory.write(buffer, np.ascontiguousarray(inputs[name], value.type.dtype.numpy))
    streams = {stream.first: stream for stream in program.streams}
    streamed = {step for stream in program.streams for step in stream.steps}
    for step, instruction in enumerate(program.instructions):
        if step in streams:
            memory.poison(step)
            pushed = program.pushed_input()
            rows = None if pushed is None else np.ascontiguousarray(inputs[pushed[0]], pushed[1].type.dtype.numpy)
            _run_stream(program, streams[step], memory, rows, use_kernels=use_kernels, watch=watch)
        if step in streamed:
            continue
        memory.poison(step)
        if use_kernels:
            _run_by_kernel(program, instruction, memory)
        else:
            _run_by_meaning(program, instruction, memory)
        if watch is not None:
            for value in program.graph.results(instruction.operator):
                watch(value, memory.read(program.buffer_of(value), value.type))
    memory.poison(len(program.instructions))
    return {name: memory.read(buffer, value.type) for name, value, buffer in program.outputs()}


def _run_stream(
    program: Program,
    stream: Stream,
    memory: _Memory,
    pushed: Array | None,
    *,
    use_kernels: bool,
    watch: Callable[[Value, Array], None] | None,
) -> None:
    """The schedule of a stream; `watch` is told results that exist as a whole, when it is done. `pushed` are the rows
    that the caller gives one after another.
    """
    taken = 0
    windows = {step: program.instructions[step].window() for step in stream.steps}
    for action in stream.actions:
        if isinstance(action, Run):
            instruction = program.instructions[action.instruction]
            places = row_places(program, instruction, action)
            if use_kernels:
                _run_by_kernel(program, instruction, memory, places)
            else:
                _run_rows_by_meaning(program, instruction, windows[action.instruction], memory, places)
        elif isinstance(action, Take):
            assert pushed is not None, "a stream takes rows that nobody pushes"
            rows = np.ascontiguousarray(pushed[:, taken : taken + action.rows])
            target = program.buffers[action.target]
            memory.put(target, action.slot * target.row_bytes, np.frombuffer(rows.tobytes(), np.uint8))
            taken += action.rows
        elif isinstance(action, Copy):
            target, source = program.buffers[action.target], program.buffers[action.source]
            raw = memory.bytes_at(source, action.source_slot * source.row_bytes, action.rows * source.row_bytes)
            memory.put(target, action.slot * target.row_bytes, raw.copy())
        else:
            target = program.buffers[action.target]
            raw = np.full(action.rows * target.row_bytes, action.byte, np.uint8)
            memory.put(target, action.slot * target.row_bytes, raw)
    if watch is not None:
        for step in stream.steps:
            for value in program.graph.results(program.instructions[step].operator):
                if program.buffer_of(value).kind != "ring":
                    watch(value, memory.read(program.buffer_of(value), value.type))


def _run_rows_by_meaning(
    program: Program, instruction: Instruction, window: Operator, memory: _Memory, places: dict[str, int]
) -> None:
    """Some rows by the meaning of the operator restricted to them; sums that are added to are its operand, too."""
    (written,) = [o for o in instruction.operands if o.kind in ("out", "inout")]
    values = {}
    for name, value in window.named_operands():
        if value.data is not None:
            values[value] = value.data
            continue
        operand = next((o for o in instruction.operands if o.kind == "in" and o.parameter == name), written)
        values[value] = memory.read(program.buffers[operand.buffer], value.type, places[operand.parameter])
    (array,) = compute_operator(window, values)
    memory.write(program.buffers[written.buffer], array, places[written.parameter])


def _run_by_meaning(program: Program, instruction: Instruction, memory: _Memory) -> None:
    op = instruction.operator
    values = {v: v.data if v.data is not None else memory.read(program.buffer_of(v), v.type) for v in op.operands}
    results = compute_operator(op, values)
    for value, array in zip(program.graph.results(op), results, strict=True):
        memory.write(program.buffer_of(value), array)


def _run_by_kernel(
    program: Program, instruction: Instruction, memory: _Memory, places: Mapping[str, int] | None = None
) -> None:
    """`places` are the bytes at which operands begin in their buffers, by parameter."""
    begins = places or {}
    kernel = program.kernels[instruction.kernel]
    arrays, lengths = {}, {}
    for operand in instruction.operands:
        parameter = kernel.parameter(operand.parameter)
        shape = parameter.shape
        if may_be_shorter(kernel, parameter) and not instruction.rows:
            shape = (program.buffers[operand.buffer].size_bytes // parameter.dtype.size_bytes,)
            lengths[parameter.name] = shape[0]
        if operand.kind in ("in", "inout"):
            type = TensorType(parameter.dtype, shape)
            begin = begins.get(parameter.name, 0)
            arrays[parameter.name] = memory.read(program.buffers[operand.buffer], type, begin)
    scalars = {s.name: value for s, value in zip(kernel.scalars, instruction.scalars, strict=True)}
    results = run_kernel(kernel, arrays, scalars, _shared_memory(program, instruction), lengths)
    for operand in instruction.operands:
        if operand.kind in ("out", "inout"):
            begin = begins.get(operand.parameter, 0)
            memory.write(program.buffers[operand.buffer], results[operand.parameter], begin)


def _shared_memory(program: Program, instruction: Instruction) -> tuple[str, str, int] | None:
    """The parameters of the input and of the result that may overlap, and how far below the input the result is."""
    if instruction.overlap is None:
        return None
    source = next(o for o in instruction.operands if o.buffer == instruction.overlap.source)
    result = next(o for o in instruction.operands if o.kind == "out")
    if program.buffers[source.buffer].region != program.buffers[result.buffer].region:
        return None
    distance = _place(program.buffers[source.buffer]) - _place(program.buffers[result.buffer])
    return source.parameter, result.parameter, distance


class _Memory:
    """The bytes of all regions."""

    def __init__(self, program: Program) -> None:
        self._arenas = {region.name: program.in_region(region.name) for region in program.regions_of("arena")}
        self._regions = {
            region.name: np.full(region.size_bytes, _POISON, np.uint8)
            if region.kind == "arena"
            else np.frombuffer(program.weights_blob(region.name), np.uint8)
            for region in program.regions
        }

    def bytes_at(self, buffer: Buffer, begin: int, count: int) -> Array:
        """Some bytes of a buffer, which must lie inside it."""
        if not 0 <= begin <= begin + count <= buffer.size_bytes:
            raise InternalError(f"bytes {begin} to {begin + count} of buffer {buffer.name} of {buffer.size_bytes}")
        start = _place(buffer) + begin
        return self._regions[buffer.region][start : start + count]

    def put(self, buffer: Buffer, begin: int, raw: Array) -> None:
        """Overwrite some bytes of a buffer."""
        self.bytes_at(buffer, begin, len(raw))[:] = raw

    def read(self, buffer: Buffer, type: TensorType, begin: int = 0) -> Array:
        """A copy of the tensor at a byte of a buffer."""
        raw = self.bytes_at(buffer, begin, type.size_bytes)
        return raw.copy().view(type.dtype.numpy).reshape(type.shape)

    def write(self, buffer: Buffer, array: Array, begin: int = 0) -> None:
        """Put a tensor at a byte of a buffer."""
        self.put(buffer, begin, np.frombuffer(array.tobytes(), np.uint8))

    def poison(self, step: int) -> None:
        """Overwrite every byte of the arenas that holds nothing when this step begins."""
        for name, buffers in self._arenas.items():
            alive = np.zeros(len(self._regions[name]), np.bool_)
            for buffer in buffers:
                if buffer.first < step <= buffer.last:
                    start = _place(buffer)
                    alive[start : start + buffer.size_bytes] = True
            self._regions[name][~alive] = _POISON


def _place(buffer: Buffer) -> int:
    if buffer.offset is None:
        raise InternalError(f"buffer {buffer.name} has no place yet")
    return buffer.offset
