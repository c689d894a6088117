"""Conversion between element types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel import core
from luciole.kernel.core import Constant, Expr, maximum, minimum, select
from luciole.ops import common


@operator("cast")
class Cast(Elementwise):
    """y = x as another element type, without regard to any scale.

    Integers lose their high bits or are extended; integers and f64 become the nearest float, ties to even. Floats lose
    their fraction; those beyond an integer type become its least or greatest number, and a NaN becomes 0. Whatever is
    not zero is true.
    """

    x: Value
    to: str

    @property
    def dtype(self) -> DType:
        """The element type of the result."""
        return DType(self.to)

    def infer(self) -> TensorType:
        known = [dtype.value for dtype in DType if dtype not in (DType.INDEX, DType.POINTER)]
        if self.to not in known:
            raise self.error(f"{self.to!r} is no element type", "unsupported-types")
        return TensorType(self.dtype, self.x.type.shape)

    def compute(self, x: Array) -> Array:
        if x.dtype.kind != "f" or not self.dtype.is_integer:
            with np.errstate(over="ignore", under="ignore"):
                return x.astype(self.dtype.numpy)
        low, high = _float_limits(self.dtype, DType.of(x))
        inside = np.clip(np.where(np.isnan(x), x.dtype.type(0), x), low, high)
        result = inside.astype(self.dtype.numpy)
        return np.where(x > high, self.dtype.numpy.type(self.dtype.limits[1]), result)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        if not x.dtype.is_float or self.dtype.is_float:
            return x.cast(self.dtype)
        if self.dtype is DType.BOOL:
            return x.ne(0.0)
        low, high = _float_limits(self.dtype, x.dtype)
        # The limit is the second operand: a NaN becomes it, and is put right after.
        inside = minimum(maximum(x, low), high).cast(self.dtype)
        bounded = select(x > high, Constant(self.dtype.limits[1], self.dtype), inside)
        return select(common.is_nan(x), 0, bounded)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        extremes = (0.0, -0.0, 0.99, -0.99, 1.5, -1.5, 127.9, -128.9, 255.5, 3e9, -3e9, 1e20, -1e20, 1e-45)
        for target in (DType.BOOL, *common.PLAIN_INTEGERS):
            yield cls(s.f32_values(*extremes, np.nan, np.inf, -np.inf, 2147483520.0), target.value)
        for source in common.SAMPLED_INTEGERS:
            yield cls(s.numbers(source, 30), "f32")
            yield cls(s.numbers(source, 30), "bool")
            yield cls(s.numbers(source, 30), "i32" if source.bits != 32 else "u8")
        yield cls(s.numbers(DType.I32, 30), "i64")
        yield cls(s.i8(9, zero=5), "i32")
        yield cls(s.numbers(DType.BOOL, 5), "f32")
        for target in (DType.BOOL, DType.F32, *common.PLAIN_INTEGERS):
            yield cls(s.f64_values(*extremes, np.nan, np.inf, -np.inf, 0.1, 2147483647.75, 1e300, 1e19), target.value)
        for source in (*common.SAMPLED_INTEGERS, DType.I64, DType.F32, DType.BOOL):
            yield cls(s.numbers(source, 30), "f64")
        yield cls(s.numbers(DType.BOOL, 5), "i64")


@operator("bitcast")
class Bitcast(Elementwise):
    """y = the bits of x as another element type of the same width, bool as one byte."""

    x: Value
    to: str

    def infer(self) -> TensorType:
        x = self.x.type
        if self.to not in [dtype.value for dtype in (*common.FLOATS, *common.PLAIN_INTEGERS)]:
            raise self.error(f"{self.to!r} is neither f32, f64 nor an integer type", "unsupported-types")
        to = DType(self.to)
        if x.quant is not None or x.dtype.size_bytes != to.size_bytes:
            raise self.error(f"x must have {to.bits} bits and no quantization", "unsupported-types")
        return TensorType(to, x.shape)

    def compute(self, x: Array) -> Array:
        return np.asarray(x, order="C").view(DType(self.to).numpy)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,), to = operands, DType(self.to)
        if x.dtype in (DType.BOOL, to):
            return x.cast(to)
        return core.Bitcast(x.as_data(), to)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32_values(1.0, -2.5, 0.0, -0.0, np.inf, 1e-45), "i32")
        yield cls(s.f32(), "u32")
        yield cls(s.i32(9, low=-(1 << 30), high=1 << 30), "f32")
        yield cls(s.f64_values(1.0, -2.5, 0.0, -0.0, np.inf, 5e-324), "i64")
        yield cls(s.array(np.array([0, 1, 1 << 62, -(1 << 62)])), "f64")
        yield cls(s.numbers(DType.I8, 9), "u8")
        yield cls(s.numbers(DType.U16, 9), "i16")
        yield cls(s.numbers(DType.U32, 9), "i32")
        yield cls(s.numbers(DType.BOOL, 9), "u8")
        yield cls(s.f32(4), "f32")


def _float_limits(dtype: DType, source: DType) -> tuple[float, float]:
    """The least and greatest number of a floating-point type that is whole and that an integer type holds."""
    low, high = dtype.limits
    greatest = np.array(high).astype(source.numpy)
    if int(greatest) > high:
        greatest = np.nextafter(greatest, source.numpy.type(0))
    return float(low), float(greatest)


def cast_to(g: GraphBuilder, x: Value, dtype: DType, node: ForeignNode) -> Value:
    """x as another element type, for a node of a file; itself where it is that already."""
    return x if x.type.dtype is dtype else g.add(Cast(x, dtype.value, location=node.location), node.name)
