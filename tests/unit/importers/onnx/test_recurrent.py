"""Recurrent layers in ONNX's forms, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from luciole.errors import CompileError
from support.onnx_models import Net
from support.onnx_rules import check, imported

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, INPUTS, UNITS = 5, 2, 3, 4


def layer(kind: str, *, bias: bool = True, states: bool = False, lengths: bool = False, **attributes: Any) -> Net:
    """A recurrent layer of constant weights over the input; its results are y, h and perhaps c."""
    net = Net(opset=14)
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    operands = [net.weights(count, GATES[kind] * UNITS, INPUTS), net.weights(count, GATES[kind] * UNITS, UNITS)]
    operands.append(net.weights(count, 2 * GATES[kind] * UNITS) if bias else "")
    operands.append(net.constant(np.array([3, 5], np.int32)) if lengths else "")
    if states:
        operands.append(net.weights(count, BATCH, UNITS))
        if kind == "LSTM":
            operands += [net.weights(count, BATCH, UNITS), net.weights(count, 3 * UNITS)]
    outputs = ["y", "h", "c"] if kind == "LSTM" else ["y", "h"]
    net.add(kind, "x", *operands, outputs=outputs, hidden_size=UNITS, **attributes)
    return net


FORMS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False, "direction": "reverse"},
    {"states": True, "direction": "bidirectional"},
    {"lengths": True, "direction": "bidirectional"},
    {"states": True, "lengths": True, "clip": 0.4},
)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", GATES)
def test_a_layer_in_every_form(kind: str, form: dict[str, Any]) -> None:
    for output in ("y", "h", "c") if kind == "LSTM" else ("y", "h"):
        graph = check(layer(kind, **form), (STEPS, BATCH, INPUTS), output)
        assert sum(op.kind == kind.lower() for op in graph.operators) == (2 if "bidirectional" in form.values() else 1)


@pytest.mark.parametrize("after", [0, 1])
def test_a_reset_before_and_after_the_product(after: int) -> None:
    check(layer("GRU", linear_before_reset=after, direction="bidirectional"), (STEPS, BATCH, INPUTS), "y")


@pytest.mark.parametrize(
    "kind, attributes",
    [
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.25]}),
        ("GRU", {"activations": ["HardSigmoid", "Softsign"], "activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("LSTM", {"activations": ["Sigmoid", "Elu", "Tanh"], "activation_alpha": [0.75]}),
        ("LSTM", {"activations": ["Sigmoid", "LeakyRelu", "ThresholdedRelu"], "activation_alpha": [0.2, 0.1]}),
    ],
)
def test_other_activations(kind: str, attributes: dict[str, Any]) -> None:
    check(layer(kind, **attributes), (STEPS, BATCH, INPUTS), "y")


def test_weights_that_are_computed() -> None:
    net = Net()
    scale = net.add("Sigmoid", net.add("ReduceMean", "x", keepdims=0))
    shapes = ((1, 3 * UNITS, INPUTS), (1, 3 * UNITS, UNITS), (1, 6 * UNITS))
    operands = [net.add("Mul", net.weights(*shape), scale) for shape in shapes]
    net.add("GRU", "x", *operands, outputs=["y"], hidden_size=UNITS, linear_before_reset=1)
    check(net, (STEPS, BATCH, INPUTS), "y")


@pytest.mark.parametrize(
    "kind, attributes, message, code",
    [
        ("RNN", {"activations": ["Softmax"]}, "RNN with the activation softmax", 2),
        ("LSTM", {"activations": ["Tanh"]}, "not 3 a direction", 1),
        ("LSTM", {"input_forget": 1}, "LSTM with input_forget is not supported", 2),
        ("GRU", {"direction": "sideways"}, "direction sideways is not supported", 2),
        ("GRU", {"clip": -1.0}, "clip is -1.0", 1),
    ],
)
def test_what_is_refused(kind: str, attributes: dict[str, Any], message: str, code: int) -> None:
    with pytest.raises(CompileError, match=message) as error:
        imported(layer(kind, **attributes), (STEPS, BATCH, INPUTS), "y")
    assert error.value.exit_code == code


def test_lengths_beyond_the_steps_are_refused() -> None:
    with pytest.raises(CompileError, match="lengths beyond the 4 steps") as error:
        imported(layer("RNN", lengths=True), (4, BATCH, INPUTS), "y")
    assert error.value.exit_code == 1
