"""The interface of `onnx.backend`."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from luciole import backend
from luciole.errors import CompileError
from support.onnx_models import MODELS, Net, random_inputs, reference


def test_a_model_runs() -> None:
    model = MODELS["flattened_cnn"]()
    inputs = random_inputs(model)
    results = backend.run_model(model, list(inputs.values()))
    assert len(results) == 2
    for result, expected in zip(results, reference(model, inputs).values(), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_compile_is_not_compatible() -> None:
    net = Net()
    model = net.model({"x": [2, 2]}, {net.add("NonZero", "x"): [2, 2]})
    assert not backend.is_compatible(model)
    assert backend.is_compatible(MODELS["mlp"]())


def test_other_devices_are_refused() -> None:
    assert backend.supports_device("CPU") and backend.supports_device("CPU:0") and not backend.supports_device("CUDA:1")
    with pytest.raises(CompileError, match="no device CUDA"):
        backend.prepare(MODELS["mlp"](), "CUDA")
    with pytest.raises(CompileError, match="no data for input"):
        backend.run_model(MODELS["mlp"](), [])
