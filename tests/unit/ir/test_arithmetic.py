"""Exact integer arithmetic against models in Python's unbounded integers and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luciole.ir import arithmetic
from luciole.ir.arithmetic import INT32_MAX, INT32_MIN, Multiplier

int32 = st.integers(INT32_MIN, INT32_MAX)
shifts = st.integers(arithmetic.MINIMUM_SHIFT, arithmetic.MAXIMUM_SHIFT)
multipliers = st.integers(1 << 30, INT32_MAX)
scales = st.floats(2.0**-20, 2.0**8, width=32)


def truncating_division(a: int, b: int) -> int:
    return abs(a) // b * (1 if a >= 0 else -1)


def wrap(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def double_rounding(x: int, multiplier: int, shift: int) -> int:
    """The reference, in its own words: a nudge by the sign, truncating division, then a masked remainder."""
    product = wrap(x << max(shift, 0)) * multiplier
    high = truncating_division(product + ((1 << 30) if product >= 0 else 1 - (1 << 30)), 1 << 31)
    amount = max(-shift, 0)
    mask = (1 << amount) - 1
    return (high >> amount) + ((high & mask) > (mask >> 1) + (high < 0))


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (0.5, (1 << 30, 0)),
        (1.0, (1 << 30, 1)),
        (0.75, (3 << 29, 0)),
        (1 - 2.0**-40, (1 << 30, 1)),
        (0.5 + 2.0**-32, ((1 << 30) + 1, 0)),
        (-0.375, (-(3 << 29), -1)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (2.0**29, (1 << 30, 30)),
        (2.0**30, (INT32_MAX, 30)),
        (-(2.0**77), (-INT32_MAX, 30)),
        (math.inf, (INT32_MAX, 30)),
    ],
)
def test_quantize_multiplier(real: float, expected: tuple[int, int]) -> None:
    assert arithmetic.quantize_multiplier(real) == expected


def test_quantize_multiplier_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not a number"):
        arithmetic.quantize_multiplier(math.nan)


@given(st.floats(2.0**-31, 2.0**29))
def test_quantize_multiplier_is_the_nearest(real: float) -> None:
    pair = arithmetic.quantize_multiplier(real)
    assert 1 << 30 <= pair.multiplier <= INT32_MAX
    assert abs(Fraction(real) - Fraction(pair.multiplier) * Fraction(2) ** (pair.shift - 31)) <= Fraction(2) ** (
        pair.shift - 32
    )


@given(st.floats(2.0**-31, 2.0**29, width=32))
def test_quantize_multiplier_keeps_float32_numbers(real: float) -> None:
    assert arithmetic.quantize_multiplier(real).real == real


@given(int32, int32)
@example(INT32_MIN, INT32_MIN)
@example(-1, 1 << 30)
@example(INT32_MIN, INT32_MAX)
def test_doubling_high_multiply(a: int, b: int) -> None:
    product = a * b
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    expected = INT32_MAX if a == b == INT32_MIN else truncating_division(product + nudge, 1 << 31)
    assert arithmetic.saturating_rounding_doubling_high_multiply(a, b) == expected


@given(int32, st.integers(0, 62))
@example(INT32_MAX, 32)
@example(INT32_MIN, 31)
@example(-3, 1)
def test_rounding_right_shift(value: int, amount: int) -> None:
    quotient = Fraction(abs(value), 1 << amount)
    expected = math.floor(quotient + Fraction(1, 2)) * (1 if value >= 0 else -1)
    assert arithmetic.rounding_right_shift(value, amount) == expected


@given(int32, multipliers, shifts)
@example(INT32_MIN, INT32_MAX, -31)
@example(INT32_MIN, INT32_MAX, 0)
@example((1 << 29) + 5, 1 << 30, 3)
def test_requantize_with_two_roundings(x: int, multiplier: int, shift: int) -> None:
    assert arithmetic.requantize(x, multiplier, shift, "tflite") == double_rounding(x, multiplier, shift)


@given(int32, multipliers, shifts)
def test_requantize_with_one_rounding(x: int, multiplier: int, shift: int) -> None:
    exact = Fraction(x) * multiplier * Fraction(2) ** (shift - 31)
    assert arithmetic.requantize(x, multiplier, shift, "tflite-single") == wrap(math.floor(exact + Fraction(1, 2)))


def nearest_even(value: Fraction, bits: int) -> Fraction:
    """`value` rounded to a significand of `bits`, ties to even; the exponent is unbounded."""
    if value == 0:
        return value
    exponent = math.floor(math.log2(abs(value))) - bits + 1
    while abs(value) >= Fraction(2) ** (exponent + bits):
        exponent += 1
    while abs(value) < Fraction(2) ** (exponent + bits - 1):
        exponent -= 1
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


@given(int32, st.floats(2.0**-31, 2.0**20, width=32))
@example((1 << 24) + 1, 1.0)
@example(INT32_MIN, 2.0**20)
@example(3, 0.5)
def test_requantize_of_onnx_is_float32_to_nearest_even(x: int, real: float) -> None:
    product = nearest_even(nearest_even(Fraction(x), 24) * Fraction(real), 24)
    expected = min(max(round(product), INT32_MIN), INT32_MAX)
    multiplier, shift = arithmetic.quantize_multiplier(real)
    assert arithmetic.requantize(x, multiplier, shift, "onnx") == expected


def test_roundings_differ_on_halves() -> None:
    half = arithmetic.quantize_multiplier(0.5)
    values = [-5, -3, -1, 1, 3, 5]
    assert arithmetic.requantize(values, *half, "tflite").tolist() == [-2, -1, 0, 1, 2, 3]
    assert arithmetic.requantize(values, *half, "tflite-single").tolist() == [-2, -1, 0, 1, 2, 3]
    assert arithmetic.requantize(values, *half, "onnx").tolist() == [-2, -2, 0, 0, 2, 2]
    quarter = arithmetic.quantize_multiplier(0.25)
    # Two roundings: 5 * 0.25 leaves the high multiply as 3 (2.5 up), and 3 / 2 is 2.
    assert arithmetic.requantize([-10, -6, -5, 5, 6, 10], *quarter, "tflite").tolist() == [-3, -2, -1, 2, 2, 3]
    assert arithmetic.requantize([-10, -6, -5, 5, 6, 10], *quarter, "tflite-single").tolist() == [-2, -1, -1, 1, 2, 3]


def test_requantize_broadcasts_channels_and_wraps_accumulators() -> None:
    multiplier, shift = arithmetic.multiplier_arrays(map(arithmetic.quantize_multiplier, (1.0, 0.5, 4.0)))
    result = arithmetic.requantize(np.array([[10, 10, 10], [-7, -8, -9]]), multiplier, shift)
    assert result.dtype == np.int32
    assert result.tolist() == [[10, 5, 40], [-7, -4, -36]]
    assert arithmetic.requantize((1 << 32) + 3, *arithmetic.quantize_multiplier(1.0)) == 3
    # 2**30 moved left by 3 is 0 in int32.
    assert arithmetic.requantize(1 << 30, *arithmetic.quantize_multiplier(4.0)) == 0


def test_multiplier_arrays() -> None:
    multiplier, shift = arithmetic.multiplier_arrays([Multiplier(5, -3), Multiplier(0, 0)])
    assert (multiplier.tolist(), shift.tolist()) == ([5, 0], [-3, 0])
    assert multiplier.dtype == shift.dtype == np.int32
    assert multiplier.flags.c_contiguous
    assert [a.shape for a in arithmetic.multiplier_arrays([])] == [(0,), (0,)]


def test_convolution_multiplier_of_onnx_is_a_float32_number() -> None:
    sx, sw, sy = (float(np.float32(v)) for v in (0.0235, 0.00317, 0.0471))
    expected = np.float32(np.float32(sx) * np.float32(sw)) / np.float32(sy)
    assert arithmetic.convolution_multiplier(sx, sw, sy, "onnx").real == float(expected)
    assert arithmetic.convolution_multiplier(sx, sw, sy) == arithmetic.quantize_multiplier(sx * sw / sy)


def test_addition_multipliers() -> None:
    result = arithmetic.addition_multipliers(0.5, 0.25, 2.0)
    assert [m.real for m in result] == [0.5, 0.25, 1.0 / (2.0 * (1 << 20))]


@given(scales, scales, st.integers(1, 1 << 20))
def test_mean_multiplier_divides_by_the_count(input_scale: float, output_scale: float, count: int) -> None:
    result = arithmetic.mean_multiplier(input_scale, output_scale, count)
    assert 0 < result.multiplier <= INT32_MAX
    assert arithmetic.MINIMUM_SHIFT <= result.shift <= arithmetic.MAXIMUM_SHIFT
    exact = arithmetic.rescaling_multiplier(input_scale, output_scale).real / count
    assert abs(result.real - exact) <= 2.0 ** (result.shift - 31)


def test_mean_multiplier_refuses_an_empty_mean() -> None:
    with pytest.raises(ValueError, match="a mean of 0 elements"):
        arithmetic.mean_multiplier(1.0, 1.0, 0)


def test_leaky_relu_multipliers_take_alpha_as_float32() -> None:
    identity, slope = arithmetic.leaky_relu_multipliers(0.5, 0.25, 0.1)
    assert identity.real == 2.0
    assert slope == arithmetic.quantize_multiplier(float(np.float32(0.1)) * 2)


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("none", 0.1, 5, (-128, 127)),
        ("relu", 0.1, 5, (5, 127)),
        ("relu", 0.1, -128, (-128, 127)),
        ("relu6", 0.1, -100, (-100, -40)),
        ("relu6", 0.01, -100, (-100, 127)),
        ("relu6", 4.0, 0, (0, 2)),
        ("relu_n1_to_1", 0.25, 10, (6, 14)),
        ("relu_n1_to_1", 2.0, 0, (-1, 1)),
        ("relu6", 1e-45, 0, (0, 127)),
    ],
)
def test_activation_range(activation: str, scale: float, zero_point: int, expected: tuple[int, int]) -> None:
    assert arithmetic.activation_range(activation, scale, zero_point) == expected


def test_activation_range_refuses_unknown_names() -> None:
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        arithmetic.activation_range("swish", 1.0, 0)


@given(st.integers(-(1 << 24), 1 << 24), st.integers(1, 1 << 12))
def test_average_rounds_halves_away(total: int, count: int) -> None:
    half = count // 2
    expected = truncating_division(total + half if total > 0 else total - half, count)
    assert arithmetic.average(total, count) == expected


def test_quantize_and_dequantize() -> None:
    reals = np.array([0.25, 0.75, -0.25, -0.75, 1e9, -1e9, math.inf, -math.inf, math.nan], np.float32)
    assert arithmetic.quantize(reals, 0.5, 3).tolist() == [4, 5, 2, 1, 127, -128, 127, -128, 3]
    assert arithmetic.quantize(reals[:4], 0.5, 3, rounding="onnx").tolist() == [3, 5, 3, 1]
    assert arithmetic.quantize([0.49999997, -0.49999997], 1.0, 0).tolist() == [0, 0]
    assert arithmetic.quantize([300.0], 1.0, 0, (0, 255)).tolist() == [255]
    result = arithmetic.dequantize(np.array([-128, 127], np.int8), 0.1, 127)
    assert result.dtype == np.float32
    assert result.tolist() == [float(np.float32(0.1) * np.float32(-255)), 0.0]


def test_saturation() -> None:
    assert arithmetic.saturate_int8([-129, -128, 127, 128]).tolist() == [-128, -128, 127, 127]
    assert arithmetic.wrap_int32([1 << 31, -(1 << 31) - 1]).tolist() == [INT32_MIN, INT32_MAX]
    # The upper bound wins when bounds cross.
    assert arithmetic.clamp([0], 5, -5).tolist() == [-5]
