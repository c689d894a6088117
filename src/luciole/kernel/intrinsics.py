"""Intrinsics of quantized arithmetic: their meaning is the law of `ir/arithmetic.py`, written in kernel expressions.

Constants and formulas: TensorFlow Lite's reference kernels and gemmlowp, see `luciole.ir.arithmetic.requantize`.
"""

from __future__ import annotations

from luciole.ir.fixed_point import ONE_Q2, RECIPROCAL_INTERCEPT_Q2, RECIPROCAL_SLOPE_Q2, RECIPROCAL_STEPS
from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Expr, cast, clamp, maximum, minimum, select

I8, I16 = DType.I8, DType.I16
I32, I64, U32, U64 = DType.I32, DType.I64, DType.U32, DType.U64

#: Bits of a float32 significand.
_SIGNIFICAND = 24

#: Bits behind the point of the sums that `nearest_float` rounds.
FRACTION_BITS = 44


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


@define_intrinsic("shift_rounded", I32, value=I32, amount=I32)
def shift_rounded(k: IntrinsicBuilder, value: Expr, amount: Expr) -> Expr:
    """value * 2**amount, rounded to nearest, halves up; -31 <= amount <= 0. One instruction on MVE and NEON (VRSHL)."""
    half = k.let("half", ((cast(1, U32) << (-amount).cast(U32)) >> 1).cast(I32))
    return (value >> -amount) + select((value & half).ne(0), cast(1, I32), cast(0, I32))


@define_intrinsic("multiply_high", I32, a=I32, b=I32)
def multiply_high(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """a * b / 2**32, rounded down: the upper half of the product."""
    return ((a.cast(I64) * b.cast(I64)) >> 32).cast(I32)


@define_intrinsic("narrow_rounded", I16, value=I32, right=I16)
def narrow_rounded(k: IntrinsicBuilder, value: Expr, right: Expr) -> Expr:
    """value / 2**right, rounded to nearest, halves up, and saturated; 0 <= right <= 31. One instruction on RVV."""
    shifted = k.let("shifted", shift_rounded(value, -right.cast(I32)))
    return clamp(shifted, *I16.limits).cast(I16)


@define_intrinsic("add_saturated", I16, a=I16, b=I16)
def add_saturated(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """a + b, saturated."""
    return clamp(a.cast(I32) + b.cast(I32), *I16.limits).cast(I16)


@define_intrinsic("narrow_saturated", I8, value=I16)
def narrow_saturated(k: IntrinsicBuilder, value: Expr) -> Expr:
    """The nearest int8 number."""
    return clamp(value.cast(I32), *I8.limits).cast(I8)


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
    total = k.let("total", a.cast(I64) * b.cast(I64) + ((addend.cast(U32).cast(I64) << 32) | (1 << 31)))
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


#: Bits behind the point of the reciprocal that `average_of_bytes` multiplies by: all that leaves room for 8 bits above.
_RECIPROCAL_BITS = 24


def average_of_bytes(total: Expr, count: int) -> Expr:
    """total / count, rounded to nearest, halves away from zero, for the `i32` sum of `count` int8 numbers.

    A half is added, and one is taken from negative sums, whose halves would be rounded up; 128 * count makes the sum
    u of that positive. With M = ceil(2**24 / count) and e = M * count - 2**24, u * M / 2**24 exceeds u / count by
    u * e / count / 2**24: less than 1 / count, so that both have the same integer part, where u * e < 2**24.
    """
    if count == 1:
        return total
    half = count // 2
    rounded = total + half + (total >> 31) if count % 2 == 0 else total + half
    if not has_reciprocal(count):
        return average_rounded(total, count)
    if count.bit_count() == 1:
        return rounded >> (count.bit_length() - 1)
    return (((rounded + 128 * count).cast(U32) * reciprocal(count)) >> _RECIPROCAL_BITS).cast(I32) - 128


def reciprocal(count: int) -> int:
    """2**24 / count, rounded up: M in `average_of_bytes`."""
    return -(-(1 << _RECIPROCAL_BITS) // count)


def has_reciprocal(count: int) -> bool:
    """Whether the proof of `average_of_bytes` holds, and its product fits 32 bits."""
    largest, excess = 255 * count + count // 2, reciprocal(count) * count - (1 << _RECIPROCAL_BITS)
    return largest * excess < 1 << _RECIPROCAL_BITS and largest * reciprocal(count) < 1 << 32


def average_by_reciprocal(total: Expr, count: Expr, factor: Expr) -> Expr:
    """As `average_of_bytes`, for a count known at run time only, with `reciprocal(count)`; `has_reciprocal(count)`.

    One is taken from negative sums where the count is even.
    """
    correction = (total >> 31) & ((count & 1) - 1)
    positive = total + ((count >> 1) + (count << 7)) + correction
    return ((positive.cast(U32) * factor.cast(U32)) >> _RECIPROCAL_BITS).cast(I32) - 128


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


def _shifted_half_even(k: IntrinsicBuilder, name: str, value: Expr, amount: Expr) -> Expr:
    """value / 2**amount of an unsigned number, rounded to nearest, halves to even.

    One less than half of 2**amount is added, and one more where the result would be odd. The lowest bit of `mask` says
    whether anything is shifted at all.
    """
    mask = k.let(f"{name}_mask", (cast(1, value.dtype) << amount) - 1)
    is_odd = k.let(f"{name}_odd", (value >> amount) & mask & 1)
    return k.let(name, (value + (mask >> 1) + is_odd) >> amount)


def _requantized_onnx(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr, *, is_small: bool) -> Expr:
    """The meaning of both intrinsics below, in three roundings: to float32, of the product, to an integer.

    The significand of a float32 number has 24 bits: that of the accumulator, unless it `is_small`, is rounded to so
    many, the product of 48 bits again. Factors of two are counted apart: what is left to shift is `down`.
    """
    magnitude: Expr = k.let("magnitude", select(accumulator < 0, -accumulator, accumulator).cast(U32))
    dropped: Expr = cast(0, I32)
    if not is_small:
        dropped = k.let("dropped", maximum(32 - _SIGNIFICAND - leading_zeros(magnitude), 0))
        magnitude = _shifted_half_even(k, "significand", magnitude, dropped.cast(U32))
    product = k.let("product", magnitude.cast(U64) * (multiplier.cast(U32) >> (31 - _SIGNIFICAND)).cast(U64))
    zeros = leading_zeros((product >> (2 * _SIGNIFICAND - 32)).cast(U32))
    excess = k.let("excess", maximum(_SIGNIFICAND - zeros, 0))
    rounded = k.let("rounded", _shifted_half_even(k, "kept", product, excess.cast(U64)).cast(U32))
    down = k.let("down", _SIGNIFICAND - shift - dropped - excess)
    whole = _shifted_half_even(k, "whole", rounded, minimum(maximum(down, 0), 31).cast(U32))
    if is_small:
        result = k.let("result", whole.cast(I32))
    else:
        large = rounded << minimum(maximum(-down, 0), 30 - _SIGNIFICAND).cast(U32)
        result = k.let("result", select(down < 0, large, whole).cast(I32))
    return select(accumulator < 0, -result, result)


@define_intrinsic("requantize_onnx", I32, accumulator=I32, multiplier=I32, shift=I32)
def requantize_onnx(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """rint(float32(accumulator) * float32(multiplier * 2**(shift - 31))) in integers, each step rounding half to even.

    For multipliers of 24 significant bits, as `arithmetic.quantize_multiplier` gives them for float32 numbers, that are
    not negative; -31 <= shift <= 30. Results of 2**21 and more in magnitude are not exact, but stay above that and
    below 2**31. Targets with floating-point hardware take `requantize_onnx_float`.
    """
    return _requantized_onnx(k, accumulator, multiplier, shift, is_small=False)


@define_intrinsic("requantize_onnx_small", I32, accumulator=I32, multiplier=I32, shift=I32)
def requantize_onnx_small(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """`requantize_onnx` for |accumulator| <= 2**24, which is a float32 number as it is, and results below 2**21."""
    return _requantized_onnx(k, accumulator, multiplier, shift, is_small=True)


@define_intrinsic("float_product", I64, number=I32, multiplier=I32, shift=I32)
def float_product(k: IntrinsicBuilder, number: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """float32(number * multiplier * 2**(shift - 31)) in a fixed point of `FRACTION_BITS`, for |number| <= 2**24.

    For multipliers as in `requantize_onnx`. What is below the last bit is dropped, and results above 2**15 in magnitude
    are not exact but stay above it and below 2**17.
    """
    magnitude = k.let("magnitude", select(number < 0, -number, number).cast(U32))
    product = k.let("product", magnitude.cast(U64) * (multiplier.cast(U32) >> (31 - _SIGNIFICAND)).cast(U64))
    zeros = leading_zeros((product >> (2 * _SIGNIFICAND - 32)).cast(U32))
    excess = k.let("excess", maximum(_SIGNIFICAND - zeros, 0))
    kept = _shifted_half_even(k, "kept", product, excess.cast(U64))
    up = k.let("up", FRACTION_BITS - _SIGNIFICAND + shift + excess)
    moved = kept << clamp(up, 0, 60 - _SIGNIFICAND).cast(U64)
    result = k.let("result", (moved >> clamp(-up, 0, 63).cast(U64)).cast(I64))
    return select(number < 0, -result, result)


@define_intrinsic("nearest_float", I32, value=I64)
def nearest_float(k: IntrinsicBuilder, value: Expr) -> Expr:
    """rint(float32(value / 2**44)), both roundings half to even, for |value| < 2**62.

    The float32 sum of numbers that were added without loss, in a fixed point of `FRACTION_BITS`, and its integer.
    """
    magnitude = k.let("magnitude", select(value < 0, -value, value).cast(U64))
    high = k.let("high", (magnitude >> 32).cast(U32))
    low_zeros = k.let("low_zeros", leading_zeros(magnitude.cast(U32)) + 32)
    zeros = select(high.eq(0), low_zeros, leading_zeros(high))
    excess = k.let("excess", maximum(64 - _SIGNIFICAND - zeros, 0))
    rounded = k.let("rounded", _shifted_half_even(k, "kept", magnitude, excess.cast(U64)).cast(U32))
    down = k.let("down", minimum(FRACTION_BITS - excess, 31))
    result = k.let("result", _shifted_half_even(k, "whole", rounded, down.cast(U32)).cast(I32))
    return select(value < 0, -result, result)


@define_intrinsic("reciprocal_of_one_plus", I32, fraction=I32)
def reciprocal_of_one_plus(k: IntrinsicBuilder, fraction: Expr) -> Expr:
    """1 / (1 + fraction) for 0 <= fraction < 1, Q0 to Q0: `luciole.ir.fixed_point.one_over_one_plus_x`."""
    half_denominator = k.let("half_denominator", (fraction >> 1) + (1 << 30))
    x: Expr = k.let("x", high_multiply(half_denominator, RECIPROCAL_SLOPE_Q2) + RECIPROCAL_INTERCEPT_Q2)
    for step in range(RECIPROCAL_STEPS):
        error = k.let(f"error{step}", ONE_Q2 - high_multiply(half_denominator, x))
        x = k.let(f"x{step}", x + (high_multiply(x, error) << 2))
    return select(x > (1 << 30) - 1, cast((1 << 31) - 1, I32), x << 1)
