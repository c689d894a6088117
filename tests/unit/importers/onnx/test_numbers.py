"""Functions of numbers at the ends of their ranges: nothing overflows on the way, and NaNs stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")

from luciole.graph.interpret import run_graph
from luciole.ir.types import Array
from support.onnx_models import Net
from support.onnx_rules import imported

EXTREMES = np.array([0.0, 1.0, -1.0, 100.0, -100.0, 3e38, -3e38, np.inf, -np.inf], np.float32)


def computed(kind: str, x: Array, *constants: Array, **attributes: Any) -> Array:
    """The first result of one node."""
    net = Net(opset=18)
    y = net.add(kind, "x", *(net.constant(c) for c in constants), **attributes)
    _, graph = imported(net, x.shape, y)
    return run_graph(graph, {"x": x})[y]


def test_softplus_does_not_overflow() -> None:
    with np.errstate(over="ignore"):
        expected = np.logaddexp(0.0, EXTREMES.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(computed("Softplus", EXTREMES), expected, rtol=3e-7, atol=1e-45)


@pytest.mark.parametrize(
    "row", [[1.0, 100.0, 99.0], [-np.inf, -np.inf, -np.inf], [np.inf, 0.0, 1.0], [-200.0, -201.0, 0.0]]
)
def test_log_sum_exp_does_not_overflow(row: list[float]) -> None:
    x = np.array([row], np.float32)
    expected = np.logaddexp.reduce(x.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
    axes = np.array([1], np.int64)
    np.testing.assert_allclose(computed("ReduceLogSumExp", x, axes), expected, rtol=1e-6)


def test_the_variance_of_far_numbers_does_not_cancel() -> None:
    x = np.array([[10000.0, 10001.0, 10002.0, 10003.0]], np.float32)
    y = computed("LayerNormalization", x, np.ones(4, np.float32), epsilon=0.0)
    np.testing.assert_allclose(y, [[-1.3416408, -0.4472136, 0.4472136, 1.3416408]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["Relu", "Sign", "Abs", "Neg", "Ceil", "Floor", "Round", "Sqrt", "Softplus", "Sin"])
def test_a_nan_stays_one(kind: str) -> None:
    assert np.isnan(computed(kind, np.array([np.nan], np.float32))).all()
