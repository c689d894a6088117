"""Conversion between element types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel import core, halves
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

    takes_halves = True

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
        x = x.astype(np.float32) if x.dtype == np.float16 else x
        low, high = _float_limits(self.dtype, DType.of(x))
        inside = np.clip(np.where(np.isnan(x), x.dtype.type(0), x), low, high)
        result = inside.astype(self.dtype.numpy)
        return np.where(x > high, self.dtype.numpy.type(self.dtype.limits[1]), result)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        if x.dtype is self.dtype:
            return x
        if self.dtype is DType.F16:
            return _half(x)
        if x.dtype is DType.F16:
            x = halves.half_to_float(core.Bitcast(x.as_data(), DType.U16))
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
        halves = np.array([0, 1, -1, 65504, 65519.9, 65520, 5.96e-8, 2.98e-8, 3e-8, 6.1e-5, 6.104e-5, 0.1, 1e30, -2049])
        steps = np.array([2.0**-24 * 1.5, 2.0**-24 * 2.5, 2.0**-15, 1 + 2.0**-11, 1 + 3 * 2.0**-11, np.nan, np.inf])
        for kind in (np.float32, np.float64):
            yield cls(s.array(np.concatenate([halves, steps]).astype(kind)), "f16")
        yield cls(s.array(np.array([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11 - 2.0**-40, -(2.0**-25) - 2.0**-60])), "f16")
        bits = s.random.integers(0, 1 << 16, 40).astype(np.uint16)
        bits[:6] = 0, 0x8000, 1, 0x7C00, 0xFC00, 0x03FF
        for name in ("f32", "f64", "i32", "bool", "f16"):
            yield cls(s.array(bits.view(np.float16)), name)
        yield cls(s.numbers(DType.I64, 20), "f16")
        yield cls(s.i32(20, low=-70000, high=70000), "f16")
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


def _half(x: Expr) -> Expr:
    """A number as half float; integers become floats before, which loses nothing that a half float has."""
    nearest = halves.double_to_odd_float(x) if x.dtype is DType.F64 else x.cast(DType.F32)
    return core.Bitcast(halves.float_to_half(nearest).as_data(), DType.F16)


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
