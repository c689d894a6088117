"""What is seen of a tensor while samples run, and the range of reals that its integers shall cover.

`Statistics` can be gathered in parts and merged: what comes out depends on the samples and their order only, to the
last bit. An observer is a function from statistics to a `Range`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from luciole.ir.types import Array

#: Bins of a histogram, half of them below zero.
BINS = 8192

#: A histogram reaches from -2**exponent to 2**exponent, at least with this exponent: that of the least normal float32.
_LEAST_EXPONENT = -126

#: What `entropy` and `mse` try as ends of a range, as parts of the whole one's; the first of equals wins.
_PARTS = tuple(1.0 - step / 100 for step in range(81))

#: Numbers that an int8 tensor can hold.
_LEVELS = 256

#: Share of the old estimate that a moving average keeps at each sample.
_MOMENTUM = 0.9

#: Percentage of elements that `percentile` keeps at either end.
_PERCENTILE = 99.99

#: Sums of channel means are whole numbers of 2**-SUM_BITS: every float32 is one.
SUM_BITS = 149

Counts = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


class Range(NamedTuple):
    """Reals from `low` to `high`."""

    low: float
    high: float

    def hull(self, other: Range) -> Range:
        """The least range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


class Statistics:
    """The least and greatest element of each sample in order, a histogram of all elements, and the sum over samples of
    the mean of each channel (place on the last axis) where it was asked for, in units of 2**-`SUM_BITS`.

    The width of a bin is a power of two, and doubles when an element falls outside: neighboring bins become one, so
    that the histogram is the same in whatever order elements come. Sums are exact, each mean rounded to float32.
    """

    def __init__(self) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.exponent = _LEAST_EXPONENT
        self.counts: Counts = np.zeros(BINS, np.int64)
        self.channel_sums: list[int] = []

    def add(self, sample: Array, *, with_channels: bool = False) -> None:
        """Count the elements of one sample, finite floats."""
        if sample.size == 0:
            return
        if with_channels:
            means = sample.reshape(-1, sample.shape[-1]).mean(axis=0, dtype=np.float64).astype(np.float32)
            sums = [int(unit) for unit in np.ldexp(means.astype(np.float64), SUM_BITS).tolist()]
            self.channel_sums = _added(self.channel_sums, sums)
        low, high = float(sample.min()), float(sample.max())
        self.lows.append(low)
        self.highs.append(high)
        self._grow(_exponent(max(abs(low), abs(high))))
        # ldexp is exact, so that the number of an element's bin is its floor in units of the width.
        scaled = np.ldexp(sample.astype(np.float64).reshape(-1), _bin_shift(self.exponent))
        self.counts += np.bincount(np.floor(scaled).astype(np.int64) + BINS // 2, minlength=BINS)

    def merged(self, later: Statistics) -> Statistics:
        """The statistics of these samples and then those of `later`: the same as if all had been added to one."""
        result = Statistics()
        result.lows, result.highs = self.lows + later.lows, self.highs + later.highs
        result.channel_sums = _added(self.channel_sums, later.channel_sums)
        for part in (self, later):
            copy = Statistics()
            copy.exponent, copy.counts = part.exponent, part.counts.copy()
            copy._grow(max(self.exponent, later.exponent))
            result.exponent, result.counts = copy.exponent, result.counts + copy.counts
        return result

    def _grow(self, exponent: int) -> None:
        if exponent <= self.exponent:
            return
        # More than the number of bins' bits puts all elements beside zero.
        moved = (np.arange(BINS) - BINS // 2) >> min(exponent - self.exponent, 32)
        counts = np.zeros(BINS, np.int64)
        np.add.at(counts, moved + BINS // 2, self.counts)
        self.exponent, self.counts = exponent, counts

    def channel_means(self) -> Reals:
        """The mean of each channel over all samples, each rounded once; none where they were not asked for."""
        return np.array([float(Fraction(s, len(self.lows) << SUM_BITS)) for s in self.channel_sums], np.float64)

    def filled(self) -> tuple[Reals, Reals]:
        """The reals in the middle of all bins that are not empty, in order, and how many elements each holds."""
        (indices,) = np.nonzero(self.counts)
        centers = np.ldexp(indices - BINS // 2 + 0.5, -_bin_shift(self.exponent))
        return centers, self.counts[indices].astype(np.float64)


def _added(first: list[int], second: list[int]) -> list[int]:
    """The sums of two parts, of which either may be empty."""
    return [a + b for a, b in zip(first, second, strict=True)] if first and second else first or second


def _exponent(magnitude: float) -> int:
    """The least exponent with magnitude < 2**exponent, within what histograms have."""
    return max(_LEAST_EXPONENT, math.frexp(magnitude)[1]) if magnitude else _LEAST_EXPONENT


def _bin_shift(exponent: int) -> int:
    """The width of a bin is 2**-shift."""
    return (BINS // 2).bit_length() - 1 - exponent


def minmax(statistics: Statistics) -> Range:
    """From the least to the greatest element of all samples."""
    return Range(min(statistics.lows), max(statistics.highs))


def moving_average(statistics: Statistics) -> Range:
    """The ends of the samples' ranges, averaged: each sample moves the estimate by a tenth of the way."""
    ends = []
    for values in (statistics.lows, statistics.highs):
        estimate = values[0]
        for value in values[1:]:
            estimate = _MOMENTUM * estimate + (1 - _MOMENTUM) * value
        ends.append(estimate)
    return Range(ends[0], ends[1])


def percentile(statistics: Statistics) -> Range:
    """Leaves out one element of ten thousand at either end, as far as bins can tell."""
    whole = minmax(statistics)
    centers, counts = statistics.filled()
    spared = counts.sum() * (1 - _PERCENTILE / 100)
    half = math.ldexp(0.5, -_bin_shift(statistics.exponent))
    first = int(np.searchsorted(np.cumsum(counts), spared, side="right"))
    last = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), spared, side="right"))
    return Range(max(whole.low, float(centers[first]) - half), min(whole.high, float(centers[last]) + half))


def mse(statistics: Statistics) -> Range:
    """The range, of those shrunken towards zero, whose integers are nearest to the elements in squares."""
    centers, counts = statistics.filled()

    def error(part: Range) -> float:
        step = (part.high - part.low) / (_LEVELS - 1)
        nearest = np.clip(np.rint((centers - part.low) / step), 0, _LEVELS - 1) * step + part.low
        return float((counts * (centers - nearest) ** 2).sum())

    return _best(minmax(statistics), error)


def entropy(statistics: Statistics) -> Range:
    """The shrunken range that keeps most of the distribution: of least Kullback-Leibler divergence.

    The distribution has what lies outside in its outermost bins; the quantized one has each integer's elements spread
    over the integer's bins, without what lies outside (Migacz, "8-bit inference with TensorRT", 2017). The bin of zero
    is left out: every scheme has an integer for zero, and the many zeros that relu makes would outweigh all else.
    """
    centers, counts = statistics.filled()
    is_counted = np.abs(centers - math.ldexp(0.5, -_bin_shift(statistics.exponent))) > 0
    if is_counted.any():
        centers, counts = centers[is_counted], counts[is_counted]

    def divergence(part: Range) -> float:
        is_inside = (centers >= part.low) & (centers <= part.high)
        if not is_inside.any():
            return math.inf
        inside = counts[is_inside]
        wanted = inside.copy()
        wanted[0] += counts[centers < part.low].sum()
        wanted[-1] += counts[centers > part.high].sum()
        position = (centers[is_inside] - part.low) / (part.high - part.low) * _LEVELS
        level = np.clip(np.floor(position), 0, _LEVELS - 1).astype(np.int64)
        spread = (np.bincount(level, inside) / np.maximum(np.bincount(level), 1))[level]
        first, second = wanted / wanted.sum(), spread / spread.sum()
        return float((first * np.log(first / second)).sum())

    return _best(minmax(statistics), divergence)


def _best(whole: Range, cost: Callable[[Range], float]) -> Range:
    """A shrunken range of low cost: each end in turn is set to its best part, twice; an empty range stays."""
    best = whole = whole.hull(Range(0.0, 0.0))
    if whole.low == whole.high:
        return whole
    for _ in range(2):
        best = min((Range(best.low, whole.high * part) for part in _PARTS), key=cost)
        best = min((Range(whole.low * part, best.high) for part in _PARTS), key=cost)
    return best


#: Every observer by its name.
OBSERVERS: dict[str, Callable[[Statistics], Range]] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
