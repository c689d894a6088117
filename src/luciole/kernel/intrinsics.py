"""Intrinsics of quantized arithmetic: their meaning is the law of `ir/arithmetic.py`, written in kernel expressions.

Constants and formulas: TensorFlow Lite's reference kernels and gemmlowp, see `luciole.ir.arithmetic.requantize`.
"""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Expr, cast, clamp, maximum, select

I32, I64, U32 = DType.I32, DType.I64, DType.U32


@define_intrinsic("high_multiply", I32, a=I32, b=I32)
def high_multiply(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """a * b / 2**31, rounded to nearest, halves up. Not both may be -2**31 (a multiplier never is)."""
    product = k.let("product", a.cast(I64) * b.cast(I64))
    return ((product + (1 << 30)) >> 31).cast(I32)


@define_intrinsic("rounding_shift_right", I32, value=I32, amount=I32)
def rounding_shift_right(k: IntrinsicBuilder, value: Expr, amount: Expr) -> Expr:
    """value / 2**amount, rounded to nearest, halves away from zero; 0 <= amount <= 31."""
    mask = k.let("mask", ((cast(1, U32) << amount.cast(U32)) - 1).cast(I32))
    threshold = k.let("threshold", (mask >> 1) + select(value < 0, cast(1, I32), cast(0, I32)))
    return (value >> amount) + select((value & mask) > threshold, cast(1, I32), cast(0, I32))


@define_intrinsic("requantize_tflite", I32, accumulator=I32, multiplier=I32, shift=I32)
def requantize_tflite(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """accumulator * multiplier * 2**(shift - 31) with TFLite's double rounding; -31 <= shift <= 30."""
    left = k.let("left", maximum(shift, 0))
    right = k.let("right", maximum(-shift, 0))
    high = k.let("high", high_multiply(accumulator << left, multiplier))
    return rounding_shift_right(high, right)


@define_intrinsic("requantize_tflite_right", I32, accumulator=I32, multiplier=I32, right=I32)
def requantize_tflite_right(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, right: Expr) -> Expr:
    """accumulator * multiplier * 2**(-right - 31), double rounding, for 1 <= right <= 31 and |accumulator| < 2**30.

    The bound keeps the sum of rounding and value inside 32 bits, so that adding half, less one for negatives, rounds
    halves away from zero.
    """
    high = k.let("high", high_multiply(accumulator, multiplier))
    return (high + (cast(1, I32) << (right - 1)) + (high >> 31)) >> right


@define_intrinsic("requantize_single", I32, accumulator=I32, multiplier=I32, shift=I32)
def requantize_single(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """accumulator * multiplier * 2**(shift - 31) with one rounding, halves up; -31 <= shift <= 30."""
    product = k.let("product", accumulator.cast(I64) * multiplier.cast(I64))
    total = k.let("total", (31 - shift).cast(I64))
    return ((product + (cast(1, I64) << (total - 1))) >> total).cast(I32)


@define_intrinsic("average_rounded", I32, total=I32, count=I32)
def average_rounded(k: IntrinsicBuilder, total: Expr, count: Expr) -> Expr:
    """total / count, rounded to nearest, halves away from zero; count > 0."""
    half = k.let("half", count // 2)
    return select(total > 0, total + half, total - half) // count


@define_intrinsic("saturate_i8", I32, value=I32)
def saturate_i8(k: IntrinsicBuilder, value: Expr) -> Expr:
    """value moved into -128..127."""
    return clamp(value, -128, 127)
