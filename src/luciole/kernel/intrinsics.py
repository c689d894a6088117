"""Intrinsics of quantized arithmetic: their meaning is the law of `ir/arithmetic.py`, written in kernel expressions.

Constants and formulas: TensorFlow Lite's reference kernels and gemmlowp, see `luciole.ir.arithmetic.requantize`.
"""

from __future__ import annotations

from luciole.ir.fixed_point import ONE_Q2, RECIPROCAL_INTERCEPT_Q2, RECIPROCAL_SLOPE_Q2, RECIPROCAL_STEPS
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


@define_intrinsic("multiply_add_high", I32, a=I32, b=I32, addend=I32)
def multiply_add_high(k: IntrinsicBuilder, a: Expr, b: Expr, addend: Expr) -> Expr:
    """addend + a * b / 2**32, rounded to nearest, halves up: one instruction (SMMLAR) on cores with DSP extension."""
    total = k.let("total", a.cast(I64) * b.cast(I64) + ((addend.cast(I64) << 32) + (1 << 31)))
    return (total >> 32).cast(I32)


@define_intrinsic("requantize_tflite_offset", I32, accumulator=I32, multiplier=I32, shift=I32, offset=I32)
def requantize_tflite_offset(
    k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr, offset: Expr
) -> Expr:
    """accumulator * multiplier * 2**(-shift - 32) + zero point, double rounding, for offset = 2 * zero point + 1.

    Holds for |accumulator| < 2**30, 0 <= shift <= 21 and int8 zero points. The product of the doubled accumulator is
    taken at bit 32 instead of 31. offset * 2**shift is zero point and rounding in one, below 2**30, so that sums stay
    inside 32 bits. The accumulator's sign stands for that of the product, which may be zero: then both signs give the
    zero point. The last shift by one is free where a saturation follows.
    """
    high = k.let("high", multiply_add_high(accumulator << 1, multiplier, offset << shift))
    return ((high + (accumulator >> 31)) >> shift) >> 1


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


@define_intrinsic("leading_zeros", I32, value=U32)
def leading_zeros(k: IntrinsicBuilder, value: Expr) -> Expr:
    """How many bits above the highest one are zero; 0 <= value. Gives 31 for zero."""
    rest, count = value, cast(0, I32)
    for bits in (16, 8, 4, 2, 1):
        is_low = k.let(f"is_low{bits}", rest < (1 << (32 - bits)))
        count = k.let(f"count{bits}", count + select(is_low, cast(bits, I32), cast(0, I32)))
        rest = k.let(f"rest{bits}", select(is_low, rest << bits, rest))
    return count


@define_intrinsic("reciprocal_of_one_plus", I32, fraction=I32)
def reciprocal_of_one_plus(k: IntrinsicBuilder, fraction: Expr) -> Expr:
    """1 / (1 + fraction) for 0 <= fraction < 1, Q0 to Q0: `luciole.ir.fixed_point.one_over_one_plus_x`."""
    half_denominator = k.let("half_denominator", (fraction >> 1) + (1 << 30))
    x: Expr = k.let("x", high_multiply(half_denominator, RECIPROCAL_SLOPE_Q2) + RECIPROCAL_INTERCEPT_Q2)
    for step in range(RECIPROCAL_STEPS):
        error = k.let(f"error{step}", ONE_Q2 - high_multiply(half_denominator, x))
        x = k.let(f"x{step}", x + (high_multiply(x, error) << 2))
    return select(x > (1 << 30) - 1, cast((1 << 31) - 1, I32), x << 1)
