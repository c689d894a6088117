"""Scales and zero points of each scheme."""

from __future__ import annotations

import math

import numpy as np
import pytest

from luciole.ir.quant import Quant
from luciole.options import OBSERVER_NAMES, SCHEME_NAMES
from luciole.quantize import OBSERVERS, SCHEMES


def test_options_know_the_names() -> None:
    assert (tuple(SCHEMES), tuple(OBSERVERS)) == (SCHEME_NAMES, OBSERVER_NAMES)


@pytest.mark.parametrize(
    ("name", "low", "high", "expected"),
    [
        ("affine", 0.0, 255.0, Quant.per_tensor(1.0, -128)),
        ("affine", -128.0, 127.0, Quant.per_tensor(1.0, 0)),
        ("affine", -51.0, 0.0, Quant.per_tensor(0.2, 127)),
        ("symmetric", -254.0, 3.0, Quant.per_tensor(2.0)),
        ("symmetric", 0.0, 127.0, Quant.per_tensor(1.0)),
        ("symmetric-uint8", 0.0, 255.0, Quant.per_tensor(1.0, -128)),
        ("symmetric-uint8", -1.0, 127.0, Quant.per_tensor(1.0)),
        ("power-of-two", -1.0, 127.0, Quant.per_tensor(1.0)),
        ("power-of-two", -1.0, 128.0, Quant.per_tensor(2.0)),
        ("power-of-two", 0.0, 1.0, Quant.per_tensor(1 / 64)),
    ],
)
def test_activations(name: str, low: float, high: float, expected: Quant) -> None:
    assert SCHEMES[name].activation(low, high) == expected


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.0, 1e-45), (-3.4e38, 3.4e38), (-1e-30, 0.0), (-0.3, 7.0)])
def test_any_range_has_a_scale_and_holds_zero(name: str, low: float, high: float) -> None:
    quant = SCHEMES[name].activation(low, high)
    assert quant.scale > 0 and math.isfinite(quant.scale) and -128 <= quant.zero_point <= 127
    assert quant.scale == np.float32(quant.scale)
    if high - low > 1e-25:
        # Half a step is lost where the zero point was rounded.
        assert quant.scale * (-128.5 - quant.zero_point) <= low * (1 - 1e-6)
        assert quant.scale * (127.5 - quant.zero_point) >= high * (1 - 1e-6)


def test_all_zeros_have_the_scale_one() -> None:
    assert {scheme.activation(0.0, 0.0) for scheme in SCHEMES.values()} == {Quant.per_tensor(1.0)}


def test_weights_per_channel_and_per_tensor() -> None:
    weights = np.float32([[1.27, -0.5], [0, 0], [-2.54, 1]])
    affine = SCHEMES["affine"]
    assert affine.weights(weights, 0) == pytest.approx([0.01, 0.02, 0.02])
    assert affine.weights(weights, 1) == pytest.approx([0.02, 1 / 127])
    assert affine.weights(weights, None) == pytest.approx([0.02])
    assert affine.weights(np.zeros((2, 2), np.float32), 0).tolist() == [1, 1]
    assert SCHEMES["power-of-two"].weights(weights, 0).tolist() == [1 / 64, 1 / 32, 1 / 32]
