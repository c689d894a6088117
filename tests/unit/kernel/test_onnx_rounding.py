"""Rounding `onnx` in integers gives the numbers of numpy's float32: at random, at ties, and next to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luciole.ir.arithmetic import INT32_MAX, INT32_MIN, quantize_multiplier, requantize
from luciole.ir.quant import Quant
from luciole.ir.types import Array
from luciole.kernel.core import Intrinsic
from luciole.kernel.evaluate import apply_intrinsic
from luciole.kernel.float_hardware import requantize_onnx_float, requantize_onnx_small_float
from luciole.kernel.intrinsics import requantize_onnx, requantize_onnx_small
from luciole.ops.onnx_rounding import float_average

#: Beyond this the intrinsics only promise to stay beyond it.
EXACT = 1 << 21


def expected(accumulator: Array, scale: Array) -> Array:
    """What onnxruntime computes, within the limits of the promise."""
    with np.errstate(over="ignore"):
        real = np.rint(accumulator.astype(np.float32) * scale)
    return np.clip(real.astype(np.float64), -EXACT, EXACT).astype(np.int64)


#: The forms in integers and in float32, of any accumulator and of small ones.
ANY = (requantize_onnx, requantize_onnx_float)
SMALL = (requantize_onnx_small, requantize_onnx_small_float)


def check(intrinsics: tuple[Intrinsic, ...], accumulator: Array, scale: Array) -> None:
    """Assert that intrinsics give what is expected."""
    for intrinsic in intrinsics:
        np.testing.assert_array_equal(
            found(intrinsic, accumulator, scale), expected(accumulator, scale), intrinsic.name
        )


def found(intrinsic: Intrinsic, accumulator: Array, scale: Array) -> Array:
    pairs = np.array([quantize_multiplier(float(s)) for s in np.broadcast_to(scale, accumulator.shape)], np.int32)
    pairs = pairs.reshape(-1, 2)
    result = apply_intrinsic(intrinsic, accumulator.astype(np.int32), pairs[:, 0], pairs[:, 1])
    return np.clip(result.astype(np.int64), -EXACT, EXACT)


scales = st.floats(min_value=2.0**-31, max_value=2.0**20, width=32)


@given(st.lists(st.tuples(st.integers(INT32_MIN, INT32_MAX), scales), min_size=200, max_size=200))
def test_random_accumulators(cases: list[tuple[int, float]]) -> None:
    accumulator = np.array([a for a, _ in cases], np.int32)
    scale = np.array([s for _, s in cases], np.float32)
    check(ANY, accumulator, scale)
    small = accumulator // 256
    check(SMALL, small, np.minimum(scale, np.float32(0.2)))


@pytest.mark.parametrize("bits", [8, 16, 23, 24, 26, 31])
def test_ties_and_their_neighbors(bits: int) -> None:
    """For each accumulator the float32 scales around the one whose product is n + 1/2."""
    random = np.random.default_rng(bits)
    accumulator = random.integers(1, 1 << bits, 2000).astype(np.int32) * random.choice([-1, 1], 2000).astype(np.int32)
    number = random.integers(0, 300, 2000) + 0.5
    scale = (number / np.abs(accumulator)).astype(np.float32)
    ties = 0
    for step in range(-3, 4):
        near = (scale.view(np.int32) + step).view(np.float32)
        ties += int(np.sum(np.abs(accumulator.astype(np.float32) * near) % 1 == 0.5))
        check(ANY, accumulator, near)
        if bits <= 24:
            check(SMALL, accumulator, near)
    assert ties > 1000


def test_accumulators_that_no_float_holds() -> None:
    """Odd numbers around 2**24 and above are rounded to even first."""
    start = np.array([1 << 24, 1 << 25, 1 << 26, (1 << 31) - 600], np.int64)
    accumulator = (start[:, None] + np.arange(-300, 300)).clip(INT32_MIN, INT32_MAX).reshape(-1).astype(np.int32)
    for sign in (1, -1):
        for scale in (2.0**-25, 2.0**-20, 0.5, 1.0, 3.0e-6):
            numbers, factor = accumulator * np.int32(sign), np.full(accumulator.size, scale, np.float32)
            check(ANY, numbers, factor)


def test_extremes() -> None:
    accumulator = np.array([0, 1, -1, INT32_MIN, INT32_MAX], np.int32)
    for scale in (0.0, 2.0**-40, 2.0**-32, 1.0, 2.0**29, 3e38):
        factor = np.full(5, scale, np.float32)
        check(ANY, accumulator, factor)


def test_meaning_is_that_of_the_arithmetic() -> None:
    """The law for numpy and the intrinsic are one."""
    accumulator = np.random.default_rng(0).integers(-(1 << 30), 1 << 30, 5000).astype(np.int32)
    multiplier = quantize_multiplier(float(np.float32(0.00123)))
    law = requantize(accumulator, *multiplier, "onnx")
    np.testing.assert_array_equal(
        found(requantize_onnx, accumulator, np.float32(math.ldexp(multiplier[0], multiplier[1] - 31))), law
    )


@pytest.mark.parametrize("seed", range(20))
def test_averages_of_floats_are_no_further_from_exact_ones_than_the_margin(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 60))
    source, target = (np.float32(scale) for scale in random.uniform(0.001, 2.0, 2))
    zero = int(random.integers(-128, 128))
    average = float_average(
        Quant.per_tensor(float(source), zero), Quant.per_tensor(float(target), 5), count, is_unsigned=seed % 2 == 0
    )
    margin = average.margin
    assert margin is not None
    numbers = random.integers(-128, 128, (count, 3000)) - zero
    total = np.zeros(numbers.shape[1], np.float32)
    for row in numbers:
        total = total + row.astype(np.float32) * source
    real = total / np.float32(count) / target + np.float32(average.zero)
    fixed = numbers.sum(axis=0) * average.multiplier(count) + (average.zero << average.fraction_bits)
    lost = np.abs(real.astype(np.float64) * 2.0**average.fraction_bits - fixed)
    assert 0 < lost.max() < margin
