"""Averages of int8 by a multiplication: the rule of `arithmetic.average` for every sum."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.ir.arithmetic import average
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Kernel
from luciole.kernel.interpret import run_kernel
from luciole.kernel.intrinsics import average_by_reciprocal, average_of_bytes, has_reciprocal, reciprocal


def averages(count: int, totals: int, *, is_late: bool = False) -> Kernel:
    """A kernel that divides many sums by one number, or by one that it knows at run time only."""
    k = LoopBuilder("averages")
    x, y = k.buffer("in", "x", DType.I32, (totals,)), k.buffer("out", "y", DType.I32, (totals,))
    taps, factor = k.define("taps", count), k.define("factor", reciprocal(count))
    with k.loop("i", totals) as i:
        y[i] = average_by_reciprocal(x[i], taps, factor) if is_late else average_of_bytes(x[i], count)
    return k.build()


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 9, 16, 25, 49, 125, 243, 254, 255, 256, 257, 300, 1000, 4099])
def test_every_kind_of_sum_is_rounded_as_the_rule_says(count: int) -> None:
    ends = np.array([-128 * count, 127 * count])
    near = np.concatenate([end + np.arange(-2 * count, 2 * count) for end in (*ends, 0)])
    totals = np.unique(np.clip(near, *ends))
    totals = totals[:: max(1, len(totals) // 1500)].astype(np.int32)
    totals = np.unique(np.concatenate([totals, ends, ends + [count // 2, -(count // 2)]])).astype(np.int32)
    found = run_kernel(averages(count, len(totals)), {"x": totals})["y"]
    expected = average(totals.astype(np.int64), np.int64(count))
    assert np.array_equal(found, expected)
    if has_reciprocal(count):
        late = run_kernel(averages(count, len(totals), is_late=True), {"x": totals})["y"]
        assert np.array_equal(late, expected)


def test_all_windows_of_up_to_256_taps_have_a_reciprocal() -> None:
    assert all(map(has_reciprocal, range(1, 257)))
    assert not has_reciprocal(4099)
