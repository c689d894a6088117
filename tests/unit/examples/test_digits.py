"""The shipped float model and its samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import luciole
from luciole.graph.interpret import run_graph
from luciole.importers import load_model

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"


def samples() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "digits_samples.npz") as arrays:
        return arrays["x"], arrays["y"]


def test_the_float_model_reads_352_of_360_digits_by_unseen_writers() -> None:
    graph = load_model(DIGITS / "digits.onnx")
    images, labels = samples()
    inputs = images.reshape(-1, 1, 1, 8, 8).astype(np.float32)
    digits = [int(run_graph(graph, {"image": x})["probabilities"].argmax()) for x in inputs]
    assert sum(digit == label for digit, label in zip(digits, labels, strict=True)) == 352
    assert len(images) == 360


def test_the_integer_model_takes_pixels_minus_128() -> None:
    quantized = luciole.quantize_model(DIGITS / "digits.onnx", DIGITS / "digits_calibration.npz").graph
    assert quantized.inputs[0].type.quant is not None
    assert (quantized.inputs[0].type.quant.scale, quantized.inputs[0].type.quant.zero_point) == (1.0, -128)
    images, labels = samples()
    inputs = (images.reshape(-1, 1, 1, 8, 8).astype(np.int16) - 128).astype(np.int8)
    digits = [int(run_graph(quantized, {"image": x})["probabilities"].argmax()) for x in inputs]
    assert sum(digit == label for digit, label in zip(digits, labels, strict=True)) == 350
