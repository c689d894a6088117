"""Sums and products of int8 tensors as onnxruntime computes them on x86, in integers.

There, operands become float32, are scaled and added, and the sum is rounded to the nearest even integer. What float32
arithmetic rounds on the way is a matter of the scales, and so of tables made at compile time, or is done by intrinsics
of integers (`float_product`, `nearest_float`), so that all targets give the same numbers, with and without
floating-point hardware.

uint8 tensors of a model are int8 here, 128 less; `shift` is what their numbers lost, because float32 sums depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luciole.ir.arithmetic import Multiplier, convolution_multiplier
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.kernel.builder import View
from luciole.kernel.core import Constant, Expr
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
