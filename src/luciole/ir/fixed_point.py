"""Exponential, logistic, tanh and softmax of int8 tensors in exact fixed-point integers.

The numbers are those of TensorFlow Lite's int8 reference kernels, which compute with gemmlowp's fixed-point functions.
A raw int32 number r in the format Qm (m integer bits, 31 - m fractional bits) stands for r * 2**(m - 31). The product
of a Qm and a Qn number is the `saturating_rounding_doubling_high_multiply` of the raw numbers and has the format Q(m +
n).

Every function of one int8 number becomes a table of 256 int8 at compile time (`logistic_table`, `tanh_table`, ...),
indexed by q + 128. Softmax becomes a table of 256 int32 (`exp_table`) and a few int32 operations (`softmax_reciprocal`,
`softmax_scaled`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from luciole.ir.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    INT32_MAX,
    Int8Array,
    Int32Array,
    Multiplier,
    Rounding,
    activation_range,
    clamp,
    leaky_relu_multipliers,
    quantize_multiplier,
    requantize,
    rescaling_multiplier,
    rounding_right_shift,
    saturate_int8,
    wrap_int32,
)
from luciole.ir.arithmetic import saturating_rounding_doubling_high_multiply as multiply_high
from luciole.ir.quant import Quant

#: The only quantizations that the reference kernels produce.
LOGISTIC_OUTPUT = Quant.per_tensor(1 / 256, -128)
TANH_OUTPUT = Quant.per_tensor(1 / 128, 0)
SOFTMAX_OUTPUT = Quant.per_tensor(1 / 256, -128)

#: Integer bits of the argument of logistic and tanh, of the argument of exp in softmax, and of softmax's sum.
UNARY_INTEGER_BITS, SOFTMAX_INTEGER_BITS, SOFTMAX_SUM_INTEGER_BITS = 4, 5, 12

#: Longest row of an int8 softmax: the sum of more exponentials than this may not fit in 32 unsigned bits.
SOFTMAX_MAXIMUM_ROW = 8191

#: Constants of the Newton-Raphson reciprocal in Q2: 48/17 and -32/17, the minimax line for 1/d on [1/2, 1].
RECIPROCAL_INTERCEPT_Q2, RECIPROCAL_SLOPE_Q2, ONE_Q2 = 1515870810, -1010580540, 1 << 29
RECIPROCAL_STEPS = 3

#: Constants of exp on [-1/4, 0) in Q0: exp(-1/8) and 1/3.
_EXP_MINUS_EIGHTH_Q0, _THIRD_Q0 = 1895147668, 715827883

#: exp(-2**k) in Q0 for k = -2..4: each set bit of the argument multiplies the result.
_EXP_OF_BIT_Q0 = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}


# --- functions of fixed-point numbers ---------------------------------------------------------------------------------


def _exp_above_minus_quarter(argument: npt.ArrayLike) -> Int32Array:
    """exp(argument) for arguments in [-1/4, 0), Q0 to Q0: the Taylor polynomial of degree 4 around -1/8."""
    x = wrap_int32(np.asarray(argument, np.int64) + (1 << 28))
    square = multiply_high(x, x)
    cube = multiply_high(square, x)
    quarter_fourth = rounding_right_shift(multiply_high(square, square), 2)
    # x**4 / 24 + x**3 / 6 + x**2 / 2 = ((x**4 / 4 + x**3) / 3 + x**2) / 2
    tail = rounding_right_shift(
        wrap_int32(multiply_high(_sum(quarter_fourth, cube), _THIRD_Q0).astype(np.int64) + square), 1
    )
    return _sum(_EXP_MINUS_EIGHTH_Q0, multiply_high(_EXP_MINUS_EIGHTH_Q0, _sum(x, tail)))


def exp_on_negative_values(argument: npt.ArrayLike, integer_bits: int) -> Int32Array:
    """exp(argument) for raw arguments <= 0 in the format Q`integer_bits` (at most 5), as Q0; exp(0) is INT32_MAX.

    argument = a - b with a in [-1/4, 0) and b a sum of powers of two from 1/4 to 2**(integer_bits - 1);
    exp(a) is a polynomial, and each bit of b multiplies by a constant.
    """
    numbers = np.asarray(argument, np.int64)
    fractional_bits = 31 - integer_bits
    quarter = 1 << (fractional_bits - 2)
    above_minus_quarter = (numbers & (quarter - 1)) - quarter
    remainder = above_minus_quarter - numbers
    result = _exp_above_minus_quarter(above_minus_quarter << integer_bits)
    for exponent, factor in _EXP_OF_BIT_Q0.items():
        if exponent < integer_bits:
            is_set = (remainder >> (fractional_bits + exponent)) & 1
            result = np.where(is_set != 0, multiply_high(result, factor), result)
    return np.where(numbers == 0, np.int32(INT32_MAX), result).astype(np.int32)


def _twice_reciprocal_of_one_plus(argument: npt.ArrayLike) -> Int32Array:
    """2 / (1 + argument) for Q0 arguments in [0, 1], as Q2: three Newton-Raphson steps."""
    numbers = np.asarray(argument, np.int64)
    half_denominator = (numbers + INT32_MAX + 1) >> 1
    x = _sum(multiply_high(half_denominator, RECIPROCAL_SLOPE_Q2), RECIPROCAL_INTERCEPT_Q2)
    for _ in range(RECIPROCAL_STEPS):
        error = _sum(ONE_Q2, -multiply_high(half_denominator, x).astype(np.int64))
        x = _sum(x, _shift_left_saturating(multiply_high(x, error), 2))
    return x


def one_over_one_plus_x(argument: npt.ArrayLike) -> Int32Array:
    """1 / (1 + argument) for arguments in [0, 1], Q0 to Q0; 1 saturates to INT32_MAX."""
    return _shift_left_saturating(_twice_reciprocal_of_one_plus(argument), 1)


def one_minus_x_over_one_plus_x(argument: npt.ArrayLike) -> Int32Array:
    """(1 - argument) / (1 + argument) for arguments in [0, 1], Q0 to Q0."""
    return _shift_left_saturating(_sum(_twice_reciprocal_of_one_plus(argument), -ONE_Q2), 2)


def logistic(argument: npt.ArrayLike, integer_bits: int = UNARY_INTEGER_BITS) -> Int32Array:
    """1 / (1 + exp(-argument)), Q`integer_bits` to Q0; exactly one half (2**30) at zero."""
    numbers = np.asarray(argument, np.int64)
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(numbers), integer_bits))
    return np.where(numbers == 0, 1 << 30, np.where(numbers > 0, positive, INT32_MAX - positive)).astype(np.int32)


def tanh(argument: npt.ArrayLike, integer_bits: int = UNARY_INTEGER_BITS) -> Int32Array:
    """tanh(argument), Q`integer_bits` (at most 4) to Q0: (1 - exp(-2|x|)) / (1 + exp(-2|x|)) with the sign of x."""
    numbers = np.asarray(argument, np.int64)
    # The raw number of x read with one more integer bit is 2 * x.
    magnitude = one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(numbers), integer_bits + 1))
    return (np.sign(numbers) * magnitude).astype(np.int32)


def _sum(first: npt.ArrayLike, second: npt.ArrayLike) -> Int32Array:
    return wrap_int32(np.asarray(first, np.int64) + np.asarray(second, np.int64))


def _shift_left_saturating(values: Int32Array, amount: int) -> Int32Array:
    return clamp(values.astype(np.int64) << amount, -INT32_MAX - 1, INT32_MAX).astype(np.int32)


# --- unary functions of int8 tensors as tables ------------------------------------------------------------------------


def table_of(function: Callable[[Int32Array], npt.ArrayLike]) -> Int8Array:
    """The table of a function of one int8 number: entry q + 128 is function(q) saturated to int8.

    `function` takes the array -128..127 of int32 and returns as many integers.
    """
    return saturate_int8(function(np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int32)))


def input_radius(integer_bits: int, shift: int) -> int:
    """The least magnitude of an input that may not fit in Q`integer_bits` once rescaled.

    floor((2**integer_bits - 1) * 2**(31 - integer_bits - shift)).
    `shift` is that of the multiplier that brings inputs to the format (TFLite's CalculateInputRadius).
    """
    return math.floor(math.ldexp((1 << integer_bits) - 1, 31 - integer_bits - shift))


def _input_multiplier(scale: float, integer_bits: int) -> tuple[Multiplier, int]:
    """What brings inputs of a scale to raw numbers of Q`integer_bits`, and the radius where the function saturates."""
    real = scale * (1 << (31 - integer_bits))
    return quantize_multiplier(real), input_radius(integer_bits, math.frexp(real)[1])


def _saturating_unary(
    numbers: Int32Array, source: Quant, function: Callable[[Int32Array], Int32Array], bits: int
) -> Int32Array:
    """`function` of Q4 numbers for inputs inside the radius, rounded to `bits` fractional bits; saturated outside it.

    Below or at minus the radius the result is the least number, and only then above or at the radius the greatest: with
    a scale so large that the radius is 0, zero counts as negative, as in the reference.
    """
    multiplier, radius = _input_multiplier(source.scale, UNARY_INTEGER_BITS)
    centered = numbers.astype(np.int64) - source.zero_point
    inside = np.abs(centered) < radius
    raw = requantize(np.where(inside, centered, 0), multiplier.multiplier, multiplier.shift)
    result = rounding_right_shift(function(raw), 31 - bits)
    return np.where(inside, result, np.where(centered <= -radius, -(1 << bits), 1 << bits)).astype(np.int32)


def logistic_table(source: Quant, target: Quant = LOGISTIC_OUTPUT) -> Int8Array:
    """The table of logistic for int8 input of quantization `source`; the output is always `LOGISTIC_OUTPUT`.

    Q4.27 logistic, rounded to 8 fractional bits, minus 128, clamped (so 1 becomes 255/256).
    Raises `ValueError` when `target` is another quantization: the reference kernel ignores the scale it is given.
    """
    if target != LOGISTIC_OUTPUT:
        raise ValueError(f"logistic of int8 has the output {LOGISTIC_OUTPUT}, not {target}")
    return table_of(lambda q: clamp(_saturating_unary(q, source, logistic, 8), 0, 256) + LOGISTIC_OUTPUT.zero_point)


def tanh_table(source: Quant, target: Quant = TANH_OUTPUT) -> Int8Array:
    """The table of tanh for int8 input of quantization `source`; the output is always `TANH_OUTPUT`.

    Q4.27 tanh, rounded to 7 fractional bits, clamped (so 1 becomes 127/128).
    Raises `ValueError` when `target` is another quantization: the reference kernel ignores what it is given.
    """
    if target != TANH_OUTPUT:
        raise ValueError(f"tanh of int8 has the output {TANH_OUTPUT}, not {target}")
    return table_of(lambda q: _saturating_unary(q, source, tanh, 7))


def relu_table(source: Quant, target: Quant, rounding: Rounding = "tflite") -> Int8Array:
    """The table of a relu operator: requantize(x - zx) + zy, at least zy.

    The multiplier is `rescaling_multiplier`.
    """
    multiplier = rescaling_multiplier(source.scale, target.scale)
    lowest, highest = activation_range("relu", target.scale, target.zero_point)
    return table_of(
        lambda q: clamp(
            requantize(q - source.zero_point, *multiplier, rounding).astype(np.int64) + target.zero_point,
            lowest,
            highest,
        )
    )


def relu6_table(source: Quant) -> Int8Array:
    """The table of a relu6 operator: x clamped between the integers for 0 and 6 in the *input's* quantization.

    The reference kernel neither reads the output's quantization nor rescales: both must be the same.
    """
    lowest, highest = activation_range("relu6", source.scale, source.zero_point)
    return table_of(lambda q: clamp(q, lowest, highest))


def leaky_relu_table(source: Quant, target: Quant, alpha: float, rounding: Rounding = "tflite") -> Int8Array:
    """The table of leaky relu: requantize(x - zx) + zy, with one multiplier for x >= zx and another below.

    See `leaky_relu_multipliers`.
    """
    identity, slope = leaky_relu_multipliers(source.scale, target.scale, alpha)

    def function(q: Int32Array) -> npt.ArrayLike:
        centered = q - source.zero_point
        scaled = np.where(
            centered >= 0, requantize(centered, *identity, rounding), requantize(centered, *slope, rounding)
        )
        return scaled.astype(np.int64) + target.zero_point

    return table_of(function)


def absolute_table(source: Quant, target: Quant) -> Int8Array:
    """The table of an absolute value: requantize(|x - zx|) + zy, without a multiplier where both scales are equal."""
    multiplier = rescaling_multiplier(source.scale, target.scale)

    def function(q: Int32Array) -> npt.ArrayLike:
        magnitude = np.abs(q - source.zero_point)
        scaled = magnitude if source.scale == target.scale else requantize(magnitude, *multiplier)
        return scaled.astype(np.int64) + target.zero_point

    return table_of(function)


def hard_swish_table(source: Quant, target: Quant) -> Int8Array:
    """The table of x * min(max(x + 3, 0), 6) / 6 as TensorFlow Lite's reference kernel HardSwish computes it.

    In 16 bits: x in units of its scale / 128 goes by one multiplier to the result's scale, and by another to units of
    3 / 2**15, in which it saturates where the gate ends; half of that plus one is the gate. The product of both is cut
    off to 16 bits and shifted to the result.
    """
    fine = np.float32(source.scale) * np.float32(1 / 128)
    result = _short_multiplier(float(fine / np.float32(target.scale)))
    gate = _short_multiplier(float(fine / np.float32(3 / 32768)))

    def function(q: Int32Array) -> npt.ArrayLike:
        x = (q.astype(np.int64) - source.zero_point) << 7
        scaled = _high_half(x, result.multiplier)
        wide = x if gate.shift <= 0 else _short(x << (gate.shift - 1))
        wide = _high_half(wide, gate.multiplier)
        if gate.shift > 0:
            wide = _short(wide << 1)
        elif gate.shift < 0:
            wide = rounding_right_shift(wide, -gate.shift).astype(np.int64)
        opened = (wide + (1 << 15)) >> 1
        product = np.sign(scaled) * (opened * np.abs(scaled) >> 15)
        if result.shift <= 0:
            product = rounding_right_shift(product, -result.shift).astype(np.int64)
        numbers: npt.NDArray[np.int64] = product + target.zero_point
        return numbers

    return table_of(function)


def _short_multiplier(real: float) -> Multiplier:
    """A multiplier of 16 bits: `quantize_multiplier` rounded to its upper half."""
    multiplier, shift = quantize_multiplier(real)
    return Multiplier(min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), shift)


def _short(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers saturated to 16 bits."""
    return np.clip(numbers, -(1 << 15), (1 << 15) - 1)


def _high_half(numbers: npt.NDArray[np.int64], multiplier: int) -> npt.NDArray[np.int64]:
    """numbers * multiplier / 2**15 of 16-bit numbers, rounded to nearest, halves up."""
    return (numbers * multiplier + (1 << 14)) >> 15


# --- softmax ----------------------------------------------------------------------------------------------------------


def exp_table(beta: float, scale: float) -> Int32Array:
    """exp(-beta * scale * i) in Q0 for i = 0..255: every exponential that int8 softmax can meet, indexed by max - x.

    i is brought to Q5.26 by the multiplier beta * scale * 2**26, at most 2**31 - 1 (TFLite's PreprocessSoftmaxScaling),
    then `exp_on_negative_values`. Entries beyond the `input_radius` are 0: the reference leaves those elements out of
    the sum and gives them the least output, and a term of 0 does just that. Entry 0 is INT32_MAX. Raises `ValueError`
    unless beta * scale > 0.
    """
    if not beta * scale > 0:
        raise ValueError(f"softmax needs a positive beta * scale, not {beta} * {scale}")
    real = min(beta * scale * (1 << (31 - SOFTMAX_INTEGER_BITS)), float(INT32_MAX))
    # At the cap the shift is 31 and the radius 0: only the maximum itself counts, and its product is zero.
    difference = -np.arange(256, dtype=np.int64)
    inside = -difference <= input_radius(SOFTMAX_INTEGER_BITS, math.frexp(real)[1])
    multiplier = quantize_multiplier(real)
    raw = requantize(np.where(inside, difference, 0), multiplier.multiplier, multiplier.shift)
    return np.where(inside, exp_on_negative_values(raw, SOFTMAX_INTEGER_BITS), 0).astype(np.int32)


def softmax_reciprocal(total: npt.ArrayLike) -> tuple[Int32Array, Int32Array]:
    """The reciprocal of a sum of exponentials as a Q0 number in [1/2, 1] and a right shift, for `softmax_scaled`.

    `total` is the sum of rounding_right_shift(exponential, 12) of a row, a raw Q12 number in [2**19, 2**32),
    unsigned. All of this is int32; M(a, b) = `saturating_rounding_doubling_high_multiply`, which never meets
    INT32_MIN twice here, so it is (int32_t)(((int64_t)a * b + (1 << 30)) >> 31):

        z     = count of leading zeros of total as uint32          # 0 <= z <= 12
        bits  = 12 - z                                             # total = (1 + f) * 2**(19 + bits), 0 <= f < 1
        f     = (total << z) - 2**31                               # wrapping: the leading one falls off; Q0
        h     = (f >> 1) + 2**30                                   # Q0: half the denominator, in [2**30, 2**31)
        x     = 1515870810 + M(h, -1010580540)                     # Q2: 48/17 - 32/17 * h
        three times:
            e = 2**29 - M(h, x)                                    # Q2: 1 - h * x
            x = x + (M(x, e) << 2)                                 # M(x, e) is Q4 and small: no overflow
        scale = x > 2**30 - 1 ? 2**31 - 1 : 2 * x                  # Q2 read as Q1 is 1 / (1 + f); to Q0, saturating
        shift = bits + 23                                          # 31 - 8 output bits

    Returns (scale, shift), 23 <= shift <= 36; a row of fewer than 512 elements has shift <= 31.
    """
    numbers = np.asarray(total, np.int64)
    bits = np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 20
    fraction = wrap_int32((numbers << (12 - bits)) - (1 << 31))
    return one_over_one_plus_x(fraction), (bits + 31 - 8).astype(np.int32)


def softmax_scaled(exponential: npt.ArrayLike, scale: npt.ArrayLike, shift: npt.ArrayLike) -> Int8Array:
    """One output of softmax: rounding_right_shift(M(scale, exponential), shift) - 128, at most 127.

    `exponential` is an entry of `exp_table`, `scale` and `shift` come from `softmax_reciprocal`. A shift above 31
    leaves nothing: the output is -128. (The reference stops the program there: the sum of exponentials is 512 or
    more.)
    """
    return saturate_int8(rounding_right_shift(multiply_high(scale, exponential), shift).astype(np.int64) - 128)


def softmax_int8(x: npt.ArrayLike, beta: float, scale: float) -> Int8Array:
    """Softmax over the last axis of int8 numbers, as TFLite's reference computes it; the output is `SOFTMAX_OUTPUT`.

    Three passes a row, each exactly as a kernel does them: the maximum; total = sum of rounding_right_shift(table[max
    - x], 12); `softmax_scaled` of each table[max - x]. The zero point cancels. Raises `ValueError` for rows longer
    than SOFTMAX_MAXIMUM_ROW.
    """
    numbers = np.asarray(x, np.int64)
    if numbers.shape[-1] > SOFTMAX_MAXIMUM_ROW:
        raise ValueError(f"softmax of a row of {numbers.shape[-1]} elements, above {SOFTMAX_MAXIMUM_ROW}")
    exponential = exp_table(beta, scale)[numbers.max(axis=-1, keepdims=True) - numbers]
    total = rounding_right_shift(exponential, SOFTMAX_SUM_INTEGER_BITS).astype(np.int64).sum(axis=-1, keepdims=True)
    reciprocal, shift = softmax_reciprocal(total)
    return softmax_scaled(exponential, reciprocal, shift)
