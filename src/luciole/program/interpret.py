"""Running a program in its planned memory: the judge of the plan.

Each instruction reads its operands' bytes from the arena at their planned offsets, computes by the operator's numpy
meaning (or by its kernel, on request), and writes its results there. Memory that nothing lives in is poisoned, so that
a wrong plan gives wrong bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from luciole.errors import InternalError
from luciole.graph.core import Value
from luciole.graph.interpret import compute_operator
from luciole.ir.types import Array, TensorType
from luciole.kernel.interpret import run_kernel
from luciole.program.core import ARENA, WEIGHTS, Buffer, Instruction, Program

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
        memory.write(buffer, np.ascontiguousarray(inputs[name], value.type.dtype.numpy))
    for step, instruction in enumerate(program.instructions):
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


def _run_by_meaning(program: Program, instruction: Instruction, memory: _Memory) -> None:
    op = instruction.operator
    values = {v: v.data if v.data is not None else memory.read(program.buffer_of(v), v.type) for v in op.operands}
    results = compute_operator(op, values)
    for value, array in zip(program.graph.results(op), results, strict=True):
        memory.write(program.buffer_of(value), array)


def _run_by_kernel(program: Program, instruction: Instruction, memory: _Memory) -> None:
    kernel = program.kernels[instruction.kernel]
    arrays = {}
    for operand in instruction.operands:
        parameter = kernel.parameter(operand.parameter)
        if operand.kind in ("in", "inout"):
            type = TensorType(parameter.dtype, parameter.shape)
            arrays[parameter.name] = memory.read(program.buffers[operand.buffer], type)
    scalars = {s.name: value for s, value in zip(kernel.scalars, instruction.scalars, strict=True)}
    results = run_kernel(kernel, arrays, scalars, _shared_memory(program, instruction))
    for operand in instruction.operands:
        if operand.kind in ("out", "inout"):
            memory.write(program.buffers[operand.buffer], results[operand.parameter])


def _shared_memory(program: Program, instruction: Instruction) -> tuple[str, str, int] | None:
    """The parameters of the input and of the result that may overlap, and how far below the input the result is."""
    if instruction.overlap is None:
        return None
    source = next(o for o in instruction.operands if o.buffer == instruction.overlap.source)
    result = next(o for o in instruction.operands if o.kind == "out")
    distance = _place(program.buffers[source.buffer]) - _place(program.buffers[result.buffer])
    return source.parameter, result.parameter, distance


class _Memory:
    """The bytes of both regions."""

    def __init__(self, program: Program) -> None:
        self._buffers = program.in_region(ARENA)
        self._regions = {
            ARENA: np.full(program.arena.size_bytes, _POISON, np.uint8),
            WEIGHTS: np.frombuffer(program.weights_blob(), np.uint8),
        }

    def read(self, buffer: Buffer, type: TensorType) -> Array:
        """A copy of the tensor at the start of a buffer."""
        start = _place(buffer)
        raw = self._regions[buffer.region][start : start + type.size_bytes]
        return raw.copy().view(type.dtype.numpy).reshape(type.shape)

    def write(self, buffer: Buffer, array: Array) -> None:
        """Put a tensor at the start of a buffer."""
        raw = np.frombuffer(array.tobytes(), np.uint8)
        start = _place(buffer)
        self._regions[buffer.region][start : start + len(raw)] = raw

    def poison(self, step: int) -> None:
        """Overwrite every byte of the arena that holds nothing when this step begins."""
        alive = np.zeros(len(self._regions[ARENA]), np.bool_)
        for buffer in self._buffers:
            if buffer.first < step <= buffer.last:
                start = _place(buffer)
                alive[start : start + buffer.size_bytes] = True
        self._regions[ARENA][~alive] = _POISON


def _place(buffer: Buffer) -> int:
    if buffer.offset is None:
        raise InternalError(f"buffer {buffer.name} has no place yet")
    return buffer.offset
