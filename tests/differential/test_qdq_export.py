"""Models that we quantize and write to ONNX mean in onnxruntime what they mean here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnx

import luciole
from luciole.ir.arithmetic import dequantize, quantize
from support.onnx_models import MODELS, random_inputs, reference
from support.quantized_models import mobilenet_v1

#: Each operator may differ by one in the last place, and passes that on.
DEEP = 4 / 256


@pytest.mark.parametrize(
    "name",
    ["ds_cnn", "mobilenet_v2", "gated"]
    + [pytest.param(n, marks=pytest.mark.slow) for n in ("resnet", "squeezenet", "mobilenet_v1")],
)
def test_onnxruntime_agrees_on_what_we_quantize(name: str, tmp_path: Path) -> None:
    model = mobilenet_v1() if name == "mobilenet_v1" else MODELS[name]()
    path, integers, written = tmp_path / "float.onnx", tmp_path / "int8.graph", tmp_path / "int8.onnx"
    onnx.save(model, path)
    samples = [random_inputs(model, 100 + seed) for seed in range(4)]
    quantized = luciole.quantize_model(path, samples)
    quantized.save(integers)
    quantized.save(written)
    exported = onnx.load(written)
    onnx.checker.check_model(exported, full_check=True)
    ours, again = luciole.load(integers, stage="graph"), luciole.load(written)
    (taken,), (given,) = ours.inputs, ours.outputs
    for seed in range(4):
        ((input_name, reals),) = random_inputs(model, seed).items()
        numbers = quantize(reals, taken.scale or 1.0, taken.zero_point or 0).astype(np.int8)
        (result,) = ours.run({input_name: numbers}).values()
        expected = dequantize(result, given.scale or 1.0, given.zero_point or 0)
        (found,) = reference(exported, {input_name: reals}).values()
        assert np.max(np.abs(found - expected)) <= DEEP
        assert np.argmax(found) == np.argmax(expected)
        (read,) = again.run({input_name: reals}).values()
        assert np.max(np.abs(read - found)) <= DEEP
