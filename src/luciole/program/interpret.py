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
from luciole.ir.types import Array
from luciole.kernel.interpret import run_kernel
from luciole.program.core import ARENA, Buffer, Instruction, Program

_POISON = 0xA5


def run_program(
    program: Program,
    inputs: Mapping[str, Array],
    *,
    use_kernels: bool = False,
    watch: Callable[[Value, Array], None] | None = None,
) -> dict[str, Array]:
    """Run a planned program on arrays by input name; gives arrays by output name. `watch` is told every result as it is
    made.
    """
    memory = np.full(program.arena.size_bytes, _POISON, np.uint8)
    for name, value, buffer in program.inputs():
        _write(memory, buffer, np.ascontiguousarray(inputs[name], value.type.dtype.numpy))
    for step, instruction in enumerate(program.instructions):
        _poison_dead(program, memory, step)
        if use_kernels:
            _run_by_kernel(program, instruction, memory)
        else:
            _run_by_meaning(program, instruction, memory)
        if watch is not None:
            for value in program.graph.results(instruction.operator):
                watch(value, _read_value(program, memory, value))
    return {name: _read_value(program, memory, value) for name, value, _ in program.outputs()}


def _run_by_meaning(program: Program, instruction: Instruction, memory: Array) -> None:
    op = instruction.operator
    values = {v: v.data if v.data is not None else _read_value(program, memory, v) for v in op.operands}
    results = compute_operator(op, values)
    for value, array in zip(program.graph.results(op), results, strict=True):
        _write(memory, program.buffer_of(value), np.ascontiguousarray(array))


def _run_by_kernel(program: Program, instruction: Instruction, memory: Array) -> None:
    kernel = program.kernels[instruction.kernel]
    arrays = {}
    for operand in instruction.operands:
        parameter = kernel.parameter(operand.parameter)
        if operand.kind in ("in", "inout"):
            raw = _bytes(program, memory, program.buffers[operand.buffer])
            arrays[parameter.name] = (
                raw[: _size(parameter.shape) * parameter.dtype.size_bytes]
                .view(parameter.dtype.numpy)
                .reshape(parameter.shape)
            )
    scalars = {s.name: value for s, value in zip(kernel.scalars, instruction.scalars, strict=True)}
    results = run_kernel(kernel, arrays, scalars)
    for operand in instruction.operands:
        if operand.kind in ("out", "inout"):
            _write(memory, program.buffers[operand.buffer], np.ascontiguousarray(results[operand.parameter]))


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _poison_dead(program: Program, memory: Array, step: int) -> None:
    """Overwrite every byte of the arena in which nothing lives during this step."""
    alive = np.zeros(len(memory), np.bool_)
    for buffer in program.in_region(ARENA):
        if buffer.first <= step <= buffer.last and buffer.kind != "workspace":
            assert buffer.offset is not None
            alive[buffer.offset : buffer.offset + buffer.size_bytes] = True
    memory[~alive] = _POISON


def _bytes(program: Program, memory: Array, buffer: Buffer) -> Array:
    if buffer.data is not None:
        return np.frombuffer(buffer.data.tobytes(), np.uint8)
    assert buffer.offset is not None
    return memory[buffer.offset : buffer.offset + buffer.size_bytes]


def _read_value(program: Program, memory: Array, value: Value) -> Array:
    if value.data is not None:
        return value.data
    raw = _bytes(program, memory, program.buffer_of(value))[: value.type.size_bytes]
    return raw.copy().view(value.type.dtype.numpy).reshape(value.type.shape)


def _write(memory: Array, buffer: Buffer, array: Array) -> None:
    if buffer.offset is None:
        raise InternalError(f"buffer {buffer.name} has no place yet")
    raw = np.frombuffer(array.tobytes(), np.uint8)
    memory[buffer.offset : buffer.offset + len(raw)] = raw
