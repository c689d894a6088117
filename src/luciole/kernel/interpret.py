"""The slow, exact interpreter of kernels: the judge of every back end.

Memory is checked: an index outside its axis, an address outside its buffer, a misaligned access, and a read of memory
that nothing has written (outputs and workspaces start undefined) all raise `KernelError` with the statement's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from luciole.ir.types import Array, DType, row_major_strides
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Bitcast,
    Body,
    Call,
    Cast,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Parameter,
    Read,
    Repeat,
    Select,
    Splat,
    Stmt,
    Store,
    Unary,
    Variable,
    Write,
)
from luciole.kernel.evaluate import (
    EvaluationError,
    active_lanes,
    binary_value,
    call_value,
    cast_value,
    compare_value,
    dot_value,
    reduce_value,
    unary_value,
)
from luciole.kernel.vectors import ActiveLanes, Dot, Gather, Lanes, Reduce


class KernelError(Exception):
    """A kernel did something that is not allowed; the message shows the statement."""


@dataclass(frozen=True)
class Pointer:
    """An address: a buffer and a byte within it."""

    buffer: str
    offset: int


class _Memory:
    """The bytes of one buffer and which of them hold a value."""

    def __init__(self, parameter: Parameter, array: Array | None, length: int | None) -> None:
        if length is not None:
            parameter = replace(parameter, shape=(length,))
        self.parameter = parameter
        size = int(np.prod(parameter.shape, dtype=np.int64)) * parameter.dtype.size_bytes
        if array is None:
            self.bytes = np.full(size, 0xA5, np.uint8)
            self.defined = np.zeros(size, np.bool_)
        else:
            if tuple(array.shape) != parameter.shape or array.dtype != parameter.dtype.numpy:
                raise KernelError(
                    f"{parameter.name} is {parameter.dtype.value}{list(parameter.shape)}, "
                    f"given {array.dtype}{list(array.shape)}"
                )
            self.bytes = np.frombuffer(array.tobytes(), np.uint8).copy()
            self.defined = np.ones(size, np.bool_)
        self.strides = row_major_strides(parameter.shape)
        #: An input that this result shares memory with, and how many bytes behind this one it begins.
        self.shared: tuple[_Memory, int] | None = None

    def element_offset(self, indices: list[int]) -> int:
        """Byte offset of an element; raises `KernelError` outside the shape."""
        for axis, (index, size) in enumerate(zip(indices, self.parameter.shape, strict=True)):
            if not 0 <= index < size:
                raise KernelError(f"index {index} of axis {axis} of {self.parameter.name} is outside 0..{size}")
        return sum(i * s for i, s in zip(indices, self.strides, strict=True)) * self.parameter.dtype.size_bytes

    def read(self, offset: int, dtype: DType) -> Array:
        self._check(offset, dtype.size_bytes)
        if not self.defined[offset : offset + dtype.size_bytes].all():
            raise KernelError(
                f"bytes {offset}..{offset + dtype.size_bytes} of {self.parameter.name} are read before they are written"
            )
        return self.bytes[offset : offset + dtype.size_bytes].view(dtype.numpy)[0]  # type: ignore[no-any-return]

    def write(self, offset: int, value: Array, dtype: DType) -> None:
        self._check(offset, dtype.size_bytes)
        if self.parameter.kind == "in":
            raise KernelError(f"{self.parameter.name} is an input and is written")
        self.bytes[offset : offset + dtype.size_bytes] = np.frombuffer(
            np.asarray(value, dtype.numpy).tobytes(), np.uint8
        )
        self.defined[offset : offset + dtype.size_bytes] = True
        if self.shared is not None:
            source, distance = self.shared
            source.defined[max(0, offset - distance) : max(0, offset + dtype.size_bytes - distance)] = False

    def _check(self, offset: int, size: int) -> None:
        if not 0 <= offset <= len(self.bytes) - size:
            raise KernelError(
                f"bytes {offset}..{offset + size} are outside {self.parameter.name} of {len(self.bytes)} bytes"
            )


def run_kernel(
    kernel: Kernel,
    buffers: Mapping[str, Array],
    scalars: Mapping[str, int] | None = None,
    overlap: tuple[str, str, int] | None = None,
    lengths: Mapping[str, int] | None = None,
) -> dict[str, Array]:
    """Run a kernel and return its `out` and `inout` buffers.

    `buffers` holds an array for every `in` and `inout` parameter. `overlap` names an input and a result that share
    memory, and how many bytes the result begins below the input: reading what was overwritten is an error. A kernel
    with scalars may be given vectors shorter than its parameters: `lengths` names them. Raises `KernelError` on
    anything the IR forbids.
    """
    short = lengths or {}
    memories = {
        p.name: _Memory(p, buffers[p.name] if p.kind in ("in", "inout") else None, short.get(p.name))
        for p in kernel.parameters
    }
    if overlap is not None:
        source, result, distance = overlap
        memories[result].shared = memories[source], distance
    registers: dict[str, Array | Pointer] = {}
    for scalar in kernel.scalars:
        registers[scalar.name] = np.int32((scalars or {})[scalar.name])  # type: ignore[assignment]  # a numpy scalar is an array here
    machine = _Machine(memories, registers)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        machine.run(kernel.body)
    results = {}
    for parameter in kernel.parameters:
        memory = memories[parameter.name]
        if parameter.kind in ("out", "inout"):
            if not memory.defined.all():
                raise KernelError(f"{int((~memory.defined).sum())} bytes of {parameter.name} were never written")
            results[parameter.name] = memory.bytes.view(parameter.dtype.numpy).reshape(memory.parameter.shape)
    return results


class _Machine:
    def __init__(self, memories: dict[str, _Memory], registers: dict[str, Array | Pointer]) -> None:
        self.memories = memories
        self.registers = registers

    def run(self, body: Body) -> None:
        for stmt in body:
            try:
                self.step(stmt)
            except EvaluationError as error:
                raise KernelError(f"{error} in {stmt}") from error

    def step(self, stmt: Stmt) -> None:
        match stmt:
            case Define() | Assign():
                self.registers[stmt.variable.name] = self.value(stmt.value)
            case Store():
                memory = self.memories[stmt.buffer]
                offset = memory.element_offset([self.integer(i) for i in stmt.indices])
                memory.write(offset, self.number(stmt.value), memory.parameter.dtype)
            case Write():
                pointer = self.pointer(stmt.pointer, stmt.offset, stmt.alignment)
                self.write(pointer, stmt)
            case For():
                begin, end = self.integer(stmt.begin), self.integer(stmt.end)
                for i in range(begin, end, stmt.step):
                    self.registers[stmt.variable.name] = np.int32(i)  # type: ignore[assignment]  # a numpy scalar is an array here
                    self.run(stmt.body)
            case Repeat():
                self.run(stmt.body)
                while bool(self.value(stmt.condition)):
                    self.run(stmt.body)
            case If():
                self.run(stmt.then if bool(self.value(stmt.condition)) else stmt.otherwise)

    def write(self, pointer: Pointer, stmt: Write) -> None:
        memory, value, dtype = self.memories[pointer.buffer], self.number(stmt.value), stmt.value.dtype
        if stmt.value.lanes == 1:
            memory.write(pointer.offset, value, dtype)
            return
        for lane in self.lanes(stmt.mask, stmt.value.lanes):
            memory.write(pointer.offset + lane * dtype.size_bytes, value[lane], dtype)

    def lanes(self, mask: Expr | None, lanes: int) -> list[int]:
        """The lanes that an access touches."""
        return list(range(lanes)) if mask is None else [int(lane) for lane in np.flatnonzero(self.number(mask))]

    def gather(self, buffer: str, offsets: list[int], expr: Read | Gather) -> Array:
        """A vector from these bytes of a buffer, one offset a lane."""
        result = np.zeros(expr.lanes, expr.dtype.numpy)
        for lane in self.lanes(expr.mask, expr.lanes):
            result[lane] = self.memories[buffer].read(offsets[lane], expr.dtype)
        return result

    def integer(self, expr: Expr) -> int:
        return int(self.number(expr))

    def number(self, expr: Expr) -> Array:
        value = self.value(expr)
        assert not isinstance(value, Pointer)
        return value

    def pointer(self, expr: Expr, offset: int, alignment: int) -> Pointer:
        value = self.value(expr)
        assert isinstance(value, Pointer)
        base = self.memories[value.buffer].parameter.alignment
        if (value.offset + offset) % min(alignment, max(base, alignment)):
            raise KernelError(f"address {value.offset + offset} of {value.buffer} is not a multiple of {alignment}")
        if base % alignment:
            raise KernelError(f"{value.buffer} is aligned to {base} and accessed with alignment {alignment}")
        return Pointer(value.buffer, value.offset + offset)

    def value(self, expr: Expr) -> Array | Pointer:
        match expr:
            case Variable():
                return self.registers[expr.name]
            case Constant():
                return expr.dtype.numpy.type(expr.value)  # type: ignore[return-value]  # a numpy scalar is an array here
            case Load():
                memory = self.memories[expr.buffer]
                return memory.read(memory.element_offset([self.integer(i) for i in expr.indices]), expr.dtype)
            case Address():
                return Pointer(expr.buffer, self.integer(expr.offset))
            case Read():
                pointer = self.pointer(expr.pointer, expr.offset, expr.alignment)
                if expr.lanes == 1:
                    return self.memories[pointer.buffer].read(pointer.offset, expr.dtype)
                size = expr.dtype.size_bytes
                return self.gather(pointer.buffer, [pointer.offset + size * i for i in range(expr.lanes)], expr)
            case Gather():
                pointer = self.pointer(expr.pointer, 0, 1)
                offsets = [pointer.offset + int(offset) for offset in self.number(expr.offsets)]
                return self.gather(pointer.buffer, offsets, expr)
            case Binary():
                a = self.value(expr.a)
                if isinstance(a, Pointer):
                    step = self.integer(expr.b)
                    return Pointer(a.buffer, a.offset + (step if expr.operation == "add" else -step))
                return binary_value(expr.operation, a, self.number(expr.b), expr.dtype)
            case Compare():
                return self.compare(expr)
            case Unary():
                return unary_value(expr.operation, self.number(expr.a), expr.dtype)
            case Select():
                condition, a, b = self.number(expr.condition), self.value(expr.a), self.value(expr.b)
                if expr.lanes == 1:
                    return a if condition else b
                assert not isinstance(a, Pointer) and not isinstance(b, Pointer)
                return np.where(condition, a, b)
            case Cast():
                return cast_value(self.number(expr.a), expr.a.dtype, expr.dtype)
            case Bitcast():
                return (
                    np.ascontiguousarray(self.number(expr.a))
                    .view(expr.dtype.numpy)
                    .reshape(() if expr.lanes == 1 else expr.lanes)
                )
            case Call():
                return call_value(expr.intrinsic, [self.number(a) for a in expr.arguments])
            case Splat():
                return np.full(expr.lanes, self.number(expr.a))
            case Lanes():
                return np.asarray([self.number(e) for e in expr.elements], expr.dtype.numpy)
            case ActiveLanes():
                return active_lanes(self.number(expr.count), expr.lanes)
            case Dot():
                return dot_value(*(self.number(e) for e in (expr.accumulator, expr.a, expr.b)))
            case Reduce():
                return reduce_value(expr.operation, self.number(expr.a))
        raise EvaluationError(f"no meaning for {type(expr).__name__}")

    def compare(self, expr: Compare) -> Array:
        a, b = self.value(expr.a), self.value(expr.b)
        if isinstance(a, Pointer) and isinstance(b, Pointer):
            if a.buffer != b.buffer:
                raise KernelError(f"pointers into {a.buffer} and {b.buffer} are compared")
            return compare_value(expr.operation, np.asarray(a.offset), np.asarray(b.offset))
        assert not isinstance(a, Pointer) and not isinstance(b, Pointer)
        return compare_value(expr.operation, a, b)
