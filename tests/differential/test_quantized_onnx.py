"""Models that onnxruntime quantized compile to integer kernels, and say what onnxruntime says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnx
from onnxruntime.quantization import QuantFormat

import luciole
from luciole.graph.core import Graph
from luciole.ir.arithmetic import dequantize, quantize
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


def check_integer_kernels(model: onnx.ModelProto, folder: Path) -> None:
    """Floats only at both ends; results within a step of onnxruntime's, the largest at the same place."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    session = luciole.load(path)
    assert float_operators(session.program.graph) == ["quantize", "dequantize"], "between input and output"
    for seed in range(SAMPLES):
        inputs = random_inputs(model, seed)
        (expected,) = reference(model, inputs).values()
        (result,) = session.run(inputs).values()
        assert np.max(np.abs(result - expected)) <= 1.01 * STEP
        assert np.argmax(result) == np.argmax(expected)


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_models_of_onnxruntime_have_integer_kernels(name: str, scheme: str, tmp_path: Path) -> None:
    check_integer_kernels(quantized(name, scheme, tmp_path), tmp_path)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in FLOAT_MODELS])
def test_models_of_qlinear_operators_have_integer_kernels(name: str, tmp_path: Path) -> None:
    check_integer_kernels(quantized(name, "u8s8", tmp_path, format=QuantFormat.QOperator), tmp_path)


def test_models_of_integers_alone_give_the_same_bits_everywhere(tmp_path: Path) -> None:
    """With int8 ends: on this machine by LLVM and C, and on emulated cores with and without floating-point hardware."""
    model = quantized("ds_cnn", "u8s8", tmp_path)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    host = luciole.load(path, require_int8=True)
    others = [
        luciole.load(path, require_int8=True, emit="c"),
        luciole.load(path, target="cortex-m4", require_int8=True),
        luciole.load(path, target="cortex-m0plus", require_int8=True),
    ]
    assert float_operators(host.program.graph) == []
    (taken,), (given,) = host.inputs, host.outputs
    assert (taken.dtype, given.dtype) == ("int8", "int8")
    (inputs,) = random_inputs(model, 3).values()
    numbers = {taken.name: quantize(inputs, taken.scale or 1.0, taken.zero_point or 0, rounding="onnx").astype(np.int8)}
    (result,) = host.run(numbers).values()
    for session in others:
        np.testing.assert_array_equal(next(iter(session.run(numbers).values())), result)
    (expected,) = reference(model, random_inputs(model, 3)).values()
    reals = dequantize(result, given.scale or 1.0, given.zero_point or 0)
    assert np.max(np.abs(reals - expected)) <= 1.01 * STEP
