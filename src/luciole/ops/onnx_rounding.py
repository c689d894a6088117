"""Sums, products and averages of int8 tensors as onnxruntime computes them on x86, in integers.

There, operands become float32, are scaled and added, and the sum is rounded to the nearest even integer. What float32
arithmetic rounds on the way is a matter of the scales, and so of tables made at compile time, or is done by intrinsics
of integers (`float_product`, `nearest_float`), so that all targets give the same numbers, with and without
floating-point hardware. Averages are the exception: float32 decides the few that integers leave open.

uint8 tensors of a model are int8 here, 128 less; `shift` is what their numbers lost, because float32 sums depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from luciole.ir.arithmetic import Multiplier, convolution_multiplier
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register, View
from luciole.kernel.core import Constant, Expr, Operand, Unary
from luciole.kernel.evaluate import apply_intrinsic
from luciole.kernel.intrinsics import FRACTION_BITS, float_product, nearest_float

#: What a model's uint8 numbers are above ours.
UNSIGNED_SHIFT = 128

#: An operand may have a scale of so many times the result's: sums stay inside 62 bits.
MAXIMUM_RATIO = float(1 << 9)


@dataclass(frozen=True, eq=False)
class FloatSum:
    """rint(a * factor + second[b]): `factor` and the table `second` (of -128 first) are int64 in fixed point."""

    factor: int
    second: Array

    def compute(self, a: Array, b: Array) -> Array:
        """The int32 sums of int8 arrays, the result's zero point included."""
        total = a.astype(np.int64) * self.factor + self.second[b.astype(np.int64) + 128]
        return apply_intrinsic(nearest_float, total)

    def element(self, table: View, a: Expr, b: Expr) -> Expr:
        """The kernel expression of `compute`."""
        product = a.cast(DType.I64) * Constant(self.factor, DType.I64)
        return nearest_float(product + table[b.cast(DType.INDEX) + 128])


def float_sum(first: Quant, second: Quant, result: Quant, sign: int, *, is_unsigned: bool) -> FloatSum:
    """The sum (sign 1) or difference (-1) of two int8 tensors.

    With ra = sa / sc and rb = sign * sb / sc in float32: fma(a, ra, fma(b, rb, zc - fma(ra, za, float32(rb * zb)))),
    where fma rounds once (onnxruntime, MLAS, QLinearAdd with AVX2). Raises `ValueError` where a ratio of scales is too
    large.
    """
    shift = UNSIGNED_SHIFT if is_unsigned else 0
    ra, rb = np.float32(first.scale) / np.float32(result.scale), np.float32(second.scale) / np.float32(result.scale)
    if not max(ra, rb) < MAXIMUM_RATIO:
        raise ValueError(f"an operand's scale is {MAXIMUM_RATIO:g} times that of the result, or more")
    rb = np.float32(sign) * rb
    za, zb, zc = (np.float32(quant.zero_point + shift) for quant in (first, second, result))
    numbers = np.arange(-128, 128) + shift
    fixed = zc - _multiply_add(ra, za, np.float32(rb * zb))
    parts = _multiply_add(rb, numbers.astype(np.float32), fixed).astype(np.float64)
    factor = round(float(ra) * 2.0**FRACTION_BITS)
    return FloatSum(factor, np.rint(parts * 2.0**FRACTION_BITS).astype(np.int64) + factor * shift)


def _multiply_add(a: np.floating[Any], b: Array | np.floating[Any], c: Array | np.floating[Any]) -> Array:
    """a * b + c rounded to float32 once; the product of a float32 number and one of few bits is exact in float64."""
    return np.asarray(np.float64(a) * np.asarray(b, np.float64) + np.asarray(c, np.float64)).astype(np.float32)


@dataclass(frozen=True)
class FloatProduct:
    """rint(float32(float32(number * multiplier) + zero)): of a product of two int8 numbers less their zero points."""

    multiplier: Multiplier
    zero: int

    def compute(self, number: Array) -> Array:
        """The int32 results, the zero point included."""
        scaled = apply_intrinsic(
            float_product, number.astype(np.int32), *(np.array(n, np.int32) for n in self.multiplier)
        )
        return apply_intrinsic(nearest_float, scaled + (np.int64(self.zero) << FRACTION_BITS))

    def element(self, number: Expr) -> Expr:
        """The kernel expression of `compute`."""
        scaled = float_product(number, self.multiplier.multiplier, self.multiplier.shift)
        return nearest_float(scaled + Constant(self.zero << FRACTION_BITS, DType.I64))


def float_multiplication(first: Quant, second: Quant, result: Quant, *, is_unsigned: bool) -> FloatProduct:
    """The product of two int8 tensors (onnxruntime, MLAS, QLinearMul); the zero point is added before rounding.

    Results are those of the model's own numbers, `UNSIGNED_SHIFT` above ours where these are uint8.
    """
    multiplier = convolution_multiplier(first.scale, second.scale, result.scale, "onnx")
    return FloatProduct(multiplier, result.zero_point + (UNSIGNED_SHIFT if is_unsigned else 0))


#: Bits behind the point of averages, for scales that are no greater than the result's.
_AVERAGE_BITS = 30
#: Windows of so many taps at most, and scales between this and its inverse, have averages that integers decide.
_DECIDED_TAPS = 1 << 16
_SMALLEST_SCALE = 2.0**-60
#: Half of the distance between a float32 number and the next, relative to it.
_HALF_STEP = 2.0**-24


@dataclass(frozen=True)
class FloatAverage:
    """rint(float32(float32(total / count / scale) + zero)), where float32 numbers are added one after the other.

    These are x.scale * (x - x.zero). (onnxruntime, QLinearAveragePool.) In exact arithmetic the result is the integer
    nearest to total * ratio + zero; what float32 loses is bounded, so integers decide unless that number is close to
    a half. The float32 sum decides the rest.
    """

    source: Quant
    target: Quant
    zero: int
    #: How many numbers are averaged at most.
    largest: int

    @property
    def ratio(self) -> float:
        """The operand's scale in units of the result's."""
        return self.source.scale / self.target.scale

    def compute(self, taps: Array, inside: Array, count: Array) -> Array:
        """The int32 results for int8 numbers [..., taps, channels] where `inside` is not 0, `count` of each window."""
        reals = (taps.astype(np.int32) - self.source.zero_point).astype(np.float32) * np.float32(self.source.scale)
        total = np.zeros(count.shape, np.float32)
        for tap in range(taps.shape[-2]):
            total = np.where(inside[..., tap, :] != 0, total + reals[..., tap, :], total)
        scaled = total / count.astype(np.float32) / np.float32(self.target.scale)
        return np.rint(scaled + np.float32(self.zero)).astype(np.int32)

    @property
    def fraction_bits(self) -> int:
        """Bits behind the point of the exact average: multipliers stay below 2**31."""
        return _AVERAGE_BITS - max(0, int(np.ceil(np.log2(self.ratio))))

    def multiplier(self, count: int) -> int:
        """What the integer sum of `count` numbers is multiplied by."""
        return round(self.ratio / count * 2.0**self.fraction_bits)

    @property
    def margin(self) -> int | None:
        """How close to a half the exact average decides no more, in its last bit; `None` where it never decides.

        With n numbers of at most 255 steps of the source, and s = 255 * ratio: each number's rounding and each sum's
        add s * n * 2**-24 / n at most, and there are n of the latter; the two quotients and the last sum add one each,
        of at most s, s, and s + 255. One percent covers products of errors. The multiplier is off by a half at most,
        times 255 * n.
        """
        scales = (self.source.scale, self.target.scale)
        if self.largest > _DECIDED_TAPS or not all(_SMALLEST_SCALE < scale < 1 / _SMALLEST_SCALE for scale in scales):
            return None
        greatest = 255 * self.ratio
        lost = 1.01 * _HALF_STEP * (greatest * (self.largest + 4) + 256)
        margin = int(np.ceil(lost * 2.0**self.fraction_bits)) + 128 * self.largest + 1
        return margin if 2 * margin < 1 << self.fraction_bits else None

    def emit(
        self,
        k: LoopBuilder,
        count: Operand,
        multipliers: View | None,
        each: Callable[[Callable[[Expr], None]], None],
    ) -> Register:
        """A register with the result of a window.

        `each` calls its argument with every tap; the table of `multipliers` is for counts that only the kernel knows.
        """
        result = k.define("result", 0)
        zero_point, margin = self.source.zero_point, self.margin
        if margin is None:
            result.set(self._in_floats(k, count, each))
            return result
        total = k.define("total", 0)
        each(lambda tap: total.set(total + (tap.cast(DType.I32) - zero_point)))
        if isinstance(count, Expr):
            assert multipliers is not None
            multiplier: Expr = multipliers[count.cast(DType.INDEX)]
        else:
            multiplier = Constant(self.multiplier(int(count)), DType.I32)
        bits = self.fraction_bits
        offset = (self.zero << bits) + (1 << (bits - 1))
        scaled = k.define("scaled", total.cast(DType.I64) * multiplier.cast(DType.I64) + Constant(offset, DType.I64))
        result.set((scaled >> bits).cast(DType.I32))
        above_half = (scaled.cast(DType.U32) + margin) & ((1 << bits) - 1)
        with k.if_(above_half <= 2 * margin):
            result.set(self._in_floats(k, count, each))
        return result

    def _in_floats(self, k: LoopBuilder, count: Operand, each: Callable[[Callable[[Expr], None]], None]) -> Expr:
        real = k.define("real", Constant(0.0, DType.F32))
        scale, zero_point = self.source.scale, self.source.zero_point
        each(lambda tap: real.set(real + (tap.cast(DType.I32) - zero_point).cast(DType.F32) * scale))
        number = count.cast(DType.F32) if isinstance(count, Expr) else Constant(float(count), DType.F32)
        scaled = k.define("scaled_real", real / number / self.target.scale + float(self.zero))
        return Unary("round_even", scaled.as_data()).cast(DType.I32)


def float_average(source: Quant, target: Quant, largest: int, *, is_unsigned: bool) -> FloatAverage:
    """The average of up to `largest` int8 numbers; results are those of the model's own numbers.

    Raises `ValueError` where the operand's scale is too large for the result's.
    """
    average = FloatAverage(source, target, target.zero_point + (UNSIGNED_SHIFT if is_unsigned else 0), largest)
    if not average.ratio < MAXIMUM_RATIO:
        raise ValueError(f"the operand's scale is {MAXIMUM_RATIO:g} times that of the result, or more")
    return average
