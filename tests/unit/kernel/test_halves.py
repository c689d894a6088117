"""Half floats as bits: every one of them to float32 and back, and all that lies between."""

from __future__ import annotations

import numpy as np

from luciole.kernel.evaluate import apply_intrinsic
from luciole.kernel.halves import double_to_odd_float, float_to_half, half_to_float
from support.random_kernels import equal_bits

EVERY = np.arange(1 << 16, dtype=np.uint16)


def test_every_half_float_is_a_float() -> None:
    assert equal_bits(apply_intrinsic(half_to_float, EVERY), EVERY.view(np.float16).astype(np.float32))


def test_floats_become_the_nearest_half_float() -> None:
    """Half floats, the middles between them, and the floats beside these."""
    half = EVERY.view(np.float16)
    finite = half[np.isfinite(half)].astype(np.float64)
    middles = ((finite[:-1] + finite[1:]) / 2).astype(np.float32)
    special = np.array([np.inf, -np.inf, np.nan, 65520, 3e38, 1e-45], np.float32)
    x = np.concatenate([finite.astype(np.float32), middles, special])
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    with np.errstate(over="ignore"):
        assert equal_bits(apply_intrinsic(float_to_half, x).view(np.float16), x.astype(np.float16))


def test_doubles_are_rounded_once() -> None:
    half = EVERY.view(np.float16)
    finite = half[np.isfinite(half)].astype(np.float64)
    middles = (finite[:-1] + finite[1:]) / 2
    x = np.concatenate([middles, middles * (1 + 2.0**-40), middles * (1 - 2.0**-40), [1e300, -1e300, np.nan, 5e-324]])
    rounded = apply_intrinsic(float_to_half, apply_intrinsic(double_to_odd_float, x)).view(np.float16)
    with np.errstate(over="ignore"):
        assert equal_bits(rounded, x.astype(np.float16))
