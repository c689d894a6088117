"""Statistics are the same for any split of the data; observers find the ranges that they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luciole.ir.types import Array
from luciole.quantize.observe import OBSERVERS, Range, Statistics, minmax, moving_average, mse, percentile


def statistics_of(*samples: Array) -> Statistics:
    statistics = Statistics()
    for sample in samples:
        statistics.add(sample)
    return statistics


def facts(statistics: Statistics) -> tuple[object, ...]:
    return statistics.lows, statistics.highs, statistics.exponent, statistics.counts.tolist()


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(floats, min_size=1, max_size=6), min_size=2, max_size=6), st.integers(0, 6))
def test_any_split_gives_the_same_statistics(samples: list[list[float]], cut: int) -> None:
    arrays = [np.array(sample, np.float32) for sample in samples]
    merged = statistics_of(*arrays[:cut]).merged(statistics_of(*arrays[cut:]))
    whole = statistics_of(*arrays)
    assert facts(merged) == facts(whole)
    for observe in OBSERVERS.values():
        assert observe(merged) == observe(whole)


@given(st.lists(floats, min_size=1, max_size=20))
def test_every_element_is_in_a_bin_that_holds_it(elements: list[float]) -> None:
    statistics = statistics_of(np.array(elements, np.float32))
    assert statistics.counts.sum() == len(elements)
    centers, counts = statistics.filled()
    width = 2.0 ** (statistics.exponent - 12)
    for center, count in zip(centers, counts, strict=True):
        inside = [e for e in elements if center - width / 2 <= e < center + width / 2]
        assert len(inside) == count


def test_the_least_and_the_greatest_element() -> None:
    assert minmax(statistics_of(np.float32([1, 2]), np.float32([-3, 0.5]))) == Range(-3, 2)


def test_a_moving_average_forgets() -> None:
    first, second = np.float32([-1, 1]), np.float32([-2, 3])
    assert moving_average(statistics_of(first, second)) == pytest.approx((-1.1, 1.2))
    assert moving_average(statistics_of(first, *[second] * 200)) == pytest.approx((-2, 3))


@pytest.mark.parametrize(("name", "limit"), [("percentile", 6), ("mse", 36), ("entropy", 15)])
def test_an_outlier_is_left_out(name: str, limit: float) -> None:
    elements = np.random.default_rng(1).normal(0, 1, 100_000).astype(np.float32)
    elements[0] = 40
    low, high = OBSERVERS[name](statistics_of(elements))
    assert 2.5 < high < limit and -5 < low < -2.5


def test_a_percentile_keeps_few_elements_as_they_are() -> None:
    assert percentile(statistics_of(np.float32([-5, 1, 7]))) == Range(-5, 7)


def test_numbers_that_are_integers_already_keep_their_range() -> None:
    assert mse(statistics_of(np.arange(256, dtype=np.float32))).high == pytest.approx(255, abs=1)


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("constant", [0.0, 3.0, -3.0, 1e-42, 3e38])
def test_a_constant_has_a_range(name: str, constant: float) -> None:
    low, high = OBSERVERS[name](statistics_of(np.full(10, constant, np.float32)))
    assert low <= np.float32(constant) <= high and np.isfinite([low, high]).all()
