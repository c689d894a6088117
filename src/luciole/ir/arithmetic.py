"""Exact integer arithmetic of quantized operators: multipliers, requantization, rounding.

Everything here works on numpy integers and is exact: the same bits as TensorFlow Lite's reference kernels (rounding
`tflite`, checked against TensorFlow Lite Micro; `tflite-single` for builds with TFLITE_SINGLE_ROUNDING) or as ONNX
operators (rounding `onnx`). Scales are float32 values held as Python floats; a real factor becomes an integer
multiplier and a power of two at compile time, so that no float decides anything at run time.

Every rounding is applied the same way: ``requantize(accumulator, multiplier, shift, rounding) + zero_point``, then a
clamp. The formula of the multiplier belongs to the operator: `convolution_multiplier`, `addition_multipliers`, ...
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

#: How a real multiple of an accumulator is rounded to an integer. See `requantize`.
Rounding = Literal["tflite", "tflite-single", "onnx"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

INT8_MIN, INT8_MAX = -128, 127
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

#: Shifts that `quantize_multiplier` returns and `requantize` takes.
MINIMUM_SHIFT, MAXIMUM_SHIFT = -31, 30

#: Both inputs of a quantized addition or subtraction are shifted left by this before they are scaled (TFLite, int8).
ADDITION_LEFT_SHIFT = 20


class Multiplier(NamedTuple):
    """The real number multiplier * 2**(shift - 31): a positive `shift` moves left.

    The magnitude of `multiplier` is 0 or in [2**30, 2**31), but for `mean_multiplier`, where it may be less.
    """

    multiplier: int
    shift: int

    @property
    def real(self) -> float:
        """The number this stands for, exactly."""
        return math.ldexp(self.multiplier, self.shift - 31)


class AdditionMultipliers(NamedTuple):
    """Multipliers of a quantized addition or subtraction, see `addition_multipliers`."""

    first: Multiplier
    second: Multiplier
    output: Multiplier


def quantize_multiplier(real: float) -> Multiplier:
    """`real` as a 31-bit multiplier and a power of two.

    (q, e) = frexp(real); multiplier = round_half_away(q * 2**31), renormalized when it reaches 2**31. Below 2**-32 (e <
    -31) the result is (0, 0), as TFLite's QuantizeMultiplier has it: every int32 accumulator would round to zero. From
    2**30 (e > 30), where the left shift of the reference has no defined result, it is the greatest multiplier, (2**31 -
    1, 30). Negative numbers keep their sign (leaky relu with a negative slope). A float32 number is represented
    exactly. Raises `ValueError` for a NaN.
    """
    if math.isnan(real):
        raise ValueError("a multiplier is not a number")
    if math.isinf(real):
        return Multiplier(INT32_MAX if real > 0 else -INT32_MAX, MAXIMUM_SHIFT)
    fraction, shift = math.frexp(abs(real))
    multiplier = math.floor(math.ldexp(fraction, 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier >> 1, shift + 1
    if multiplier == 0 or shift < MINIMUM_SHIFT:
        return Multiplier(0, 0)
    if shift > MAXIMUM_SHIFT:
        multiplier, shift = INT32_MAX, MAXIMUM_SHIFT
    return Multiplier(multiplier if real > 0 else -multiplier, shift)


def multiplier_arrays(pairs: Iterable[Multiplier]) -> tuple[Int32Array, Int32Array]:
    """Multipliers one a channel as two int32 arrays, multipliers and shifts, as kernels read them."""
    table = np.array([tuple(pair) for pair in pairs], np.int32).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


# --- the formulas of multipliers --------------------------------------------------------------------------------------


def convolution_multiplier(
    input_scale: float, weight_scale: float, output_scale: float, rounding: Rounding = "tflite"
) -> Multiplier:
    """Multiplier of conv2d, depthwise_conv2d and fully connected layers, for one channel or for the whole tensor.

    tflite: input_scale * weight_scale / output_scale in double, left to right, for one weight scale as for many. (Some
    published TFLite sources round the product of the scales of a per-tensor fully connected layer to float32 first; the
    TensorFlow Lite Micro that is our oracle does not, and large accumulators show it.)
    onnx: the float32 number float32(input_scale * weight_scale) / output_scale.
    """
    if rounding == "onnx":
        return quantize_multiplier(_float32_quotient(_float32_product(input_scale, weight_scale), output_scale))
    return quantize_multiplier(input_scale * weight_scale / output_scale)


def addition_multipliers(first_scale: float, second_scale: float, output_scale: float) -> AdditionMultipliers:
    """Multipliers of a quantized addition or subtraction, in double (roundings `tflite` and `tflite-single`).

    With s = 2 * max(first_scale, second_scale): first_scale / s, second_scale / s and s / (2**20 * output_scale);
    y = M_output(M_first((a - za) << 20) + M_second((b - zb) << 20)) + zy, where each M is a `requantize`.
    The reference refuses an output multiplier of one or more; here it is a left shift like any other.
    """
    common = 2 * max(first_scale, second_scale)
    return AdditionMultipliers(
        quantize_multiplier(first_scale / common),
        quantize_multiplier(second_scale / common),
        quantize_multiplier(common / ((1 << ADDITION_LEFT_SHIFT) * output_scale)),
    )


def multiplication_multiplier(first_scale: float, second_scale: float, output_scale: float) -> Multiplier:
    """Multiplier of a quantized elementwise product: first_scale * second_scale / output_scale in double."""
    return quantize_multiplier(first_scale * second_scale / output_scale)


def float_mean_multiplier(input_scale: float, output_scale: float, count: int) -> Multiplier:
    """Multiplier of a mean over `count` elements for rounding `onnx`: input_scale / float32(output_scale * count).

    As onnxruntime's QLinearGlobalAveragePool has it. Raises `ValueError` when `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"a mean of {count} elements")
    return quantize_multiplier(_float32_quotient(input_scale, _float32_product(output_scale, float(count))))


def rescaling_multiplier(input_scale: float, output_scale: float) -> Multiplier:
    """Multiplier of quantize from integers (requantize), relu and reductions: input_scale / output_scale in double."""
    return quantize_multiplier(input_scale / output_scale)


def mean_multiplier(input_scale: float, output_scale: float, count: int) -> Multiplier:
    """Multiplier of a quantized mean over `count` elements: `rescaling_multiplier` divided by the count in integers.

    (M, e) = rescaling_multiplier(...); s = min(floor(log2(count)), 32, 31 + e); M' = (M << s) // count, e' = e - s
    (TFLite's QuantizedMeanOrSum). M' may be below 2**30. y = requantize(sum - count * zx, M', e') +
    zy. Raises `ValueError` when `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"a mean of {count} elements")
    multiplier, shift = rescaling_multiplier(input_scale, output_scale)
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return Multiplier((multiplier << extra) // count, shift - extra)


def leaky_relu_multipliers(input_scale: float, output_scale: float, alpha: float) -> tuple[Multiplier, Multiplier]:
    """Multipliers of leaky relu for x >= 0 and for x < 0.

    input_scale / output_scale and input_scale * float32(alpha) / output_scale, both in double. `alpha` may be negative
    or above one.
    """
    slope = input_scale * float(np.float32(alpha)) / output_scale
    return rescaling_multiplier(input_scale, output_scale), quantize_multiplier(slope)


def activation_range(
    activation: str, scale: float, zero_point: int, limits: tuple[int, int] = (INT8_MIN, INT8_MAX)
) -> tuple[int, int]:
    """The clamp of a fused activation in the integers of the output: `none`, `relu`, `relu6` or `relu_n1_to_1`.

    Bounds are zero_point + round_half_away(float32(bound / scale)), never wider than `limits`, the range of the element
    type. The reference does not order the bounds: they may cross when the zero point lies far outside the range, and
    then the upper one wins (`clamp`). Raises `ValueError` for another name.
    """
    if activation not in _ACTIVATION_BOUNDS:
        raise ValueError(f"unknown activation {activation!r}")
    lowest, highest = limits
    lower, upper = _ACTIVATION_BOUNDS[activation]
    if lower is not None:
        lowest = max(lowest, zero_point + _round_half_away(_float32_quotient(lower, scale)))
    if upper is not None:
        highest = min(highest, zero_point + _round_half_away(_float32_quotient(upper, scale)))
    return lowest, highest


_ACTIVATION_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def _float32_product(first: float, second: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(first) * np.float32(second))


def _float32_quotient(numerator: float, denominator: float) -> float:
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        return float(np.float32(numerator) / np.float32(denominator))


def _round_half_away(real: float) -> int:
    """The nearest integer, halves away from zero, bounded far outside int8 and int16 (a quotient may be infinite)."""
    bounded = min(max(real, -1e9), 1e9)
    return math.floor(bounded + 0.5) if bounded >= 0 else math.ceil(bounded - 0.5)


# --- integer primitives -----------------------------------------------------------------------------------------------


def wrap_int32(values: npt.ArrayLike) -> Int32Array:
    """The int32 numbers congruent to `values` modulo 2**32: how every integer operation of a kernel overflows."""
    return np.asarray(values, np.int64).astype(np.int32)


def saturating_rounding_doubling_high_multiply(first: npt.ArrayLike, second: npt.ArrayLike) -> Int32Array:
    """first * second / 2**31 of int32 numbers, rounded to nearest, halves up; INT32_MIN * INT32_MIN gives INT32_MAX.

    In C: (int32_t)(((int64_t)a * b + (1 << 30)) >> 31). The reference rounds with a nudge that depends on the sign and
    divides with truncation, which is the same number (checked in the tests).
    """
    product = np.asarray(first, np.int64) * np.asarray(second, np.int64)
    result: Int32Array = np.minimum((product + (1 << 30)) >> 31, INT32_MAX).astype(np.int32)
    return result


def rounding_right_shift(values: npt.ArrayLike, amount: npt.ArrayLike) -> Int32Array:
    """values / 2**amount of int32 numbers, rounded to nearest, halves away from zero; 0 <= amount <= 62.

    In C, up to 31: (v >> n) + ((v & mask) > (mask >> 1) + (v < 0)) with mask = 2**n - 1 (gemmlowp's
    RoundingDivideByPOT, which is undefined above 31; the rounded quotient is 0 there).
    """
    numbers, bits = np.asarray(values, np.int64), np.asarray(amount, np.int64)
    mask = (np.int64(1) << bits) - 1
    return ((numbers >> bits) + ((numbers & mask) > (mask >> 1) + (numbers < 0))).astype(np.int32)


def requantize(
    accumulator: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, rounding: Rounding = "tflite"
) -> Int32Array:
    """accumulator * multiplier * 2**(shift - 31) as int32, rounded as `rounding` says; no zero point, no clamp.

    The operands broadcast, so that channels on the last axis may have multipliers of their own. Accumulators are int32
    numbers; others wrap. MINIMUM_SHIFT <= shift <= MAXIMUM_SHIFT.

    - ``tflite``: two roundings. The accumulator moves left by max(shift, 0), wrapping in int32 as the reference's
      multiplication does; `saturating_rounding_doubling_high_multiply`; `rounding_right_shift` by max(-shift, 0).
    - ``tflite-single``: one rounding, halves up: (accumulator * multiplier + 2**(30 - shift)) >> (31 - shift) in 64
      bits, and the low 32 bits of that.
    - ``onnx``: float32(accumulator), nearest even above 2**24, times the float32 number that multiplier and shift
      represent exactly, rounded to float32, then to the nearest even integer, saturating to int32.
    """
    numbers, factor, exponent = wrap_int32(accumulator), np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    if rounding == "tflite":
        moved = wrap_int32(numbers.astype(np.int64) << np.maximum(exponent, 0))
        return rounding_right_shift(saturating_rounding_doubling_high_multiply(moved, factor), np.maximum(-exponent, 0))
    if rounding == "tflite-single":
        total = 31 - exponent
        return wrap_int32((numbers.astype(np.int64) * factor + (np.int64(1) << (total - 1))) >> total)
    real = np.ldexp(factor.astype(np.float64), exponent - 31).astype(np.float32)
    rounded = np.rint(numbers.astype(np.float32) * real)
    result: Int32Array = np.clip(rounded.astype(np.float64), INT32_MIN, INT32_MAX).astype(np.int64).astype(np.int32)
    return result


def clamp(values: npt.ArrayLike, lowest: npt.ArrayLike, highest: npt.ArrayLike) -> Int64Array:
    """min(max(values, lowest), highest), in this order, in 64 bits."""
    return np.minimum(
        np.maximum(np.asarray(values, np.int64), np.asarray(lowest, np.int64)), np.asarray(highest, np.int64)
    )


def saturate_int8(values: npt.ArrayLike) -> Int8Array:
    """`values` clamped to int8."""
    return clamp(values, INT8_MIN, INT8_MAX).astype(np.int8)


def average(total: npt.ArrayLike, count: npt.ArrayLike) -> Int32Array:
    """total / count rounded to nearest, halves away from zero: average pooling over `count` valid taps.

    The reference adds the raw int8 numbers, zero point included, so padding counts neither in the sum nor in the count.

    In C: total > 0 ? (total + count / 2) / count : (total - count / 2) / count, with truncating divisions.
    """
    numbers, taps = np.asarray(total, np.int64), np.asarray(count, np.int64)
    magnitude = (np.abs(numbers) + taps // 2) // taps
    result: Int32Array = (np.sign(numbers) * magnitude).astype(np.int32)
    return result


# --- reals to integers and back ---------------------------------------------------------------------------------------


def quantize(
    values: npt.ArrayLike,
    scale: float,
    zero_point: int,
    limits: tuple[int, int] = (INT8_MIN, INT8_MAX),
    rounding: Rounding = "tflite",
) -> Int32Array:
    """float32 `values` as integers: round(float32(values / scale)) + zero_point, clamped to `limits`.

    Halves round away from zero for the TFLite roundings, to even for ``onnx``. Infinities saturate and NaN gives the
    zero point.
    """
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        quotient = (np.asarray(values, np.float32) / np.float32(scale)).astype(np.float64)
    quotient = np.clip(np.nan_to_num(quotient, nan=0.0), float(INT32_MIN), float(INT32_MAX))
    nearest = np.rint(quotient) if rounding == "onnx" else np.trunc(quotient + np.copysign(0.5, quotient))
    return clamp(nearest.astype(np.int64) + zero_point, *limits).astype(np.int32)


def dequantize(values: npt.ArrayLike, scale: float, zero_point: int) -> Float32Array:
    """Integers as float32: scale * (value - zero_point), the difference exact, one float32 product."""
    return (np.float32(scale) * (np.asarray(values, np.int64) - zero_point).astype(np.float32)).astype(np.float32)
