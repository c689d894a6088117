"""Kernels that do everything there is to do with vectors, for every back end to run as the interpreter does."""

from __future__ import annotations

import luciole.kernel.intrinsics as intrinsics
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import (
    BINARY_OPERATIONS,
    COMPARISONS,
    UNARY_OPERATIONS,
    Bitcast,
    Expr,
    Kernel,
    Splat,
    Unary,
    Variable,
    binary,
    cast,
    clamp,
    compare,
    select,
)
from luciole.kernel.vectors import REDUCTIONS, ActiveLanes, Dot, Gather, Lanes, Reduce

I8, U8, I32, INDEX = DType.I8, DType.U8, DType.I32, DType.INDEX

#: Types whose vectors MVE has, some that it has not, and wider ones.
TYPES = (
    (I8, 16), (U8, 16), (DType.I16, 8), (DType.U16, 8), (I32, 4), (DType.U32, 4),
    (I8, 4), (U8, 4), (DType.I16, 4), (I8, 8), (I32, 16), (DType.I64, 2), (DType.F32, 4),
)  # fmt: skip


def vector_kernel(dtype: DType, lanes: int) -> Kernel:
    """All operations on vectors of a type, their results one after the other."""
    return _Everything(dtype, lanes).kernel()


class _Everything:
    def __init__(self, dtype: DType, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        self.k = LoopBuilder(f"everything_{dtype.value}x{lanes}")
        self.x = self.k.buffer("in", "x", dtype, (4 * lanes + 3,), 4)
        #: Results, each with the mask under which it is written.
        self.results: list[tuple[Expr, Expr | None]] = []

    def kernel(self) -> Kernel:
        k, size = self.k, self.dtype.size_bytes
        a, b = self.let("a", self.read(0)), self.let("b", self.read(self.lanes + 1))
        for value in (*self.arithmetic(a, b), *self.conversions(a), *self.moves(a, b)):
            self.results.append((value, None))
        if self.dtype in (I8, U8):
            self.results += [(self.sum(a, b, lanes), None) for lanes in sorted({1, self.lanes // 4})]
        few = self.let("few", cast(1, INDEX))
        self.results.append((a, self.let("some", ActiveLanes(few, self.lanes))))
        self.results.append((b, compare("lt", a, b)))
        y = k.buffer("inout", "y", self.dtype, (len(self.results) * self.lanes,), 4)
        for i, (value, mask) in enumerate(self.results):
            k.write(y.address(), i * self.lanes * size, value, mask=mask)
        return k.build()

    def let(self, name: str, value: Expr) -> Variable:
        """A register."""
        return self.k.define(name, value).as_data()

    def sum(self, a: Expr, b: Expr, lanes: int) -> Expr:
        """Products added to so many accumulators, the largest in all lanes."""
        totals = tuple(self.let("total", cast(3 - i, I32)) for i in range(lanes))
        sums = self.let("sums", Dot(Lanes(totals) if lanes > 1 else totals[0], a, b))
        return Splat(cast(Reduce("max", sums) if lanes > 1 else sums, self.dtype), self.lanes)

    def read(self, first: int, mask: Expr | None = None) -> Expr:
        return self.k.read(self.x.address(), first * self.dtype.size_bytes, self.dtype, lanes=self.lanes, mask=mask)

    def arithmetic(self, a: Expr, b: Expr) -> list[Expr]:
        is_float, bits = self.dtype.is_float, self.dtype.bits
        names = ("add", "sub", "mul", "min", "max", "divide") if is_float else BINARY_OPERATIONS
        found: list[Expr] = []
        for name in names:
            right = b & (bits - 1) if name.startswith("shift") else b
            if name in ("divide", "remainder") and not is_float:
                right = b | 1
            found.append(binary(name, a, right))
            found.append(binary(name, a, 3))
        found += [select(compare(name, a, b), a, b + 1) for name in COMPARISONS]
        both = binary("and", a < b, ~(a < 2))
        found += [select(binary("or", both, a.eq(b)), a, b), select(binary("xor", both, a < b), a, b)]
        unary = [name for name in UNARY_OPERATIONS if is_float is (name not in ("neg", "not")) or name == "neg"]
        found += [Unary(name, select(a > 0, a, -a) if name == "sqrt" else a) for name in unary]
        if not is_float:
            found += [Splat(Reduce(name, a), self.lanes) for name in REDUCTIONS]
        if self.dtype is I32:
            found.append(intrinsics.high_multiply(a, b & 0x7FFFFFFF))
            found.append(intrinsics.shift_rounded(a, -(b & 31)))
            found.append(intrinsics.requantize_tflite(a >> 8, 1 << 30, 2))
        return found

    def conversions(self, a: Expr) -> list[Expr]:
        targets = [I8, U8, DType.I16, DType.U32, I32, DType.F32]
        if self.dtype.is_float:
            bounded = clamp(a, -100.0, 100.0)
            return [bounded.cast(t).cast(self.dtype) for t in (I8, DType.I16, I32)] + [
                Bitcast(Bitcast(a, DType.U32), self.dtype)
            ]
        found = [(a & 0x7F).cast(t).cast(self.dtype) if t.is_float else a.cast(t).cast(self.dtype) for t in targets]
        unsigned = {8: U8, 16: DType.U16, 32: DType.U32, 64: DType.U64}[self.dtype.bits]
        return [*found, Bitcast(Bitcast(a, unsigned), self.dtype)]

    def moves(self, a: Expr, b: Expr) -> list[Expr]:
        size = self.dtype.size_bytes
        mask = self.let("mask", ActiveLanes(self.let("count", cast(self.lanes - 1, INDEX)), self.lanes))
        scalars = tuple(self.x[self.lanes - i] for i in range(self.lanes))
        if self.dtype.is_float:
            return [self.read(2, mask), Lanes(scalars), Splat(self.x[1], self.lanes)]
        offsets = binary("mul", (a & 3).cast(INDEX), size)
        address = self.x.address(size)
        return [
            self.read(2, mask),
            self.read(1, a < b),
            Lanes(scalars),
            Splat(self.x[1], self.lanes),
            Gather(address, offsets, self.dtype),
            Gather(address, offsets, self.dtype, mask),
        ]
