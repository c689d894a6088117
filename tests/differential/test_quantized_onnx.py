"""Models that onnxruntime quantized compile to integer kernels, and say what onnxruntime says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnx

import luciole
from luciole.graph.core import Graph
from luciole.ops.fused import Fused
from support.onnx_models import random_inputs, reference
from support.quantized_models import FLOAT_MODELS, SCHEMES, quantized

#: Random inputs for each model.
SAMPLES = 8

#: The steps of the last softmax in onnxruntime's quantization.
STEP = 1 / 255

CASES = [
    pytest.param(name, scheme, marks=() if (name, scheme) in (("resnet", "u8s8"), ("ds_cnn", "s8s8")) else slow)
    for slow in (pytest.mark.slow,)
    for name in FLOAT_MODELS
    for scheme in SCHEMES
]


def float_operators(graph: Graph) -> list[str]:
    """Kinds of operators that read or make floats, those in fused ones too."""
    found = []
    for op in graph.operators:
        for inner, owner in [(i, op.body) for i in op.body.operators] if isinstance(op, Fused) else [(op, graph)]:
            if any(value.type.dtype.is_float for value in (*inner.operands, *owner.results(inner))):
                found.append(inner.kind)
    return found


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_models_of_onnxruntime_have_integer_kernels(name: str, scheme: str, tmp_path: Path) -> None:
    model = quantized(name, scheme, tmp_path)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    session = luciole.load(path)
    assert float_operators(session.program.graph) == ["quantize", "dequantize"], "between input and output"
    for seed in range(SAMPLES):
        inputs = random_inputs(model, seed)
        (expected,) = reference(model, inputs).values()
        (result,) = session.run(inputs).values()
        assert np.max(np.abs(result - expected)) <= 1.01 * STEP
        assert np.argmax(result) == np.argmax(expected)
