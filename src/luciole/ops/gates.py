"""Activation functions of recurrent cells, by name, for kernels and for numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luciole.ir.types import Array
from luciole.kernel.core import Expr, Unary, clamp, select
from luciole.kernel.elementary import exp, logistic, tanh
from luciole.kernel.evaluate import apply_intrinsic
from luciole.ops import common


@dataclass(frozen=True)
class Gate:
    """A function of one float with up to two parameters, alpha and beta, and what those are unless given."""

    element: Callable[[Expr, float, float], Expr]
    array: Callable[[Array, np.float32, np.float32], Array]
    alpha: float = 0.0
    beta: float = 0.0


def _elu_array(x: Array, alpha: np.float32) -> Array:
    return np.where(x > 0, x, (apply_intrinsic(exp, x) - np.float32(1)) * alpha)


#: All functions by name, with the formula of ONNX's operator documentation (LSTM, "activations").
GATES: dict[str, Gate] = {
    "sigmoid": Gate(lambda x, a, b: logistic(x), lambda x, a, b: apply_intrinsic(logistic, x)),
    "tanh": Gate(lambda x, a, b: tanh(x), lambda x, a, b: apply_intrinsic(tanh, x)),
    "relu": Gate(
        lambda x, a, b: common.float_activation("relu", x),
        lambda x, a, b: common.float_activation_array("relu", x),
    ),
    "affine": Gate(lambda x, a, b: x * a + b, lambda x, a, b: x * a + b, 1.0, 0.0),
    "leaky_relu": Gate(lambda x, a, b: select(x < 0.0, x * a, x), lambda x, a, b: np.where(x < 0, x * a, x), 0.01),
    "thresholded_relu": Gate(
        lambda x, a, b: select(x >= a, x, 0.0), lambda x, a, b: np.where(x >= a, x, np.float32(0)), 1.0
    ),
    "scaled_tanh": Gate(lambda x, a, b: tanh(x * b) * a, lambda x, a, b: apply_intrinsic(tanh, x * b) * a, 1.0, 1.0),
    "hard_sigmoid": Gate(
        lambda x, a, b: clamp(x * a + b, 0.0, 1.0),
        lambda x, a, b: np.minimum(np.maximum(x * a + b, np.float32(0)), np.float32(1)),
        0.2,
        0.5,
    ),
    "elu": Gate(lambda x, a, b: select(x > 0.0, x, (exp(x) - 1.0) * a), lambda x, a, b: _elu_array(x, a), 1.0),
    "softsign": Gate(
        lambda x, a, b: x / (Unary("abs", x.as_data()) + 1.0), lambda x, a, b: x / (np.abs(x) + np.float32(1))
    ),
}


def gate_element(name: str, parameters: tuple[float, float], x: Expr, clip: float) -> Expr:
    """The kernel expression of a function, of x clipped to -clip..clip unless that is 0."""
    return GATES[name].element(clamp(x, -clip, clip) if clip else x, *parameters)


def gate_array(name: str, parameters: tuple[float, float], x: Array, clip: float) -> Array:
    """The meaning of `gate_element` in numpy."""
    alpha, beta = map(np.float32, parameters)
    clipped = np.minimum(np.maximum(x, np.float32(-clip)), np.float32(clip)) if clip else x
    return np.asarray(GATES[name].array(clipped, alpha, beta), np.float32)
