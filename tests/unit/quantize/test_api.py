"""Quantizing from Python, with any source of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.graph.interpret import run_graph
from luciole.graph.text import render_graph
from support.float_nets import images, residual
from support.small_models import save_small


def test_a_file_and_an_iterable_give_the_same_model(tmp_path: Path) -> None:
    model, data = save_small(tmp_path, residual(4)), images(20)
    np.savez(tmp_path / "data.npz", x=np.concatenate([sample["image"] for sample in data]))
    from_file = luciole.quantize_model(model, tmp_path / "data.npz", observer="mse")
    streamed = luciole.quantize_model(model, (sample["image"] for sample in data), observer="mse")
    assert render_graph(from_file.graph).text == render_graph(streamed.graph).text
    assert from_file.layers == streamed.layers
    assert [layer.name for layer in streamed.layers][-1] == "probabilities"
    assert all(layer.signal_to_noise_db > 15 for layer in streamed.layers)


def test_a_quantized_model_is_saved_and_compiled(tmp_path: Path) -> None:
    model = save_small(tmp_path, residual(4))
    quantized = luciole.quantize_model(model, images(5), scheme="symmetric", per_tensor=True)
    quantized.save(tmp_path / "int8.graph")
    session = luciole.load(tmp_path / "int8.graph")
    assert session.inputs[0].dtype == "int8" and session.inputs[0].zero_point == 0
    assert "scheme symmetric, weights per tensor" in quantized.graph.remarks[0]
    given = {"image": np.random.default_rng(3).integers(-128, 128, (1, 8, 8, 3)).astype(np.int8)}
    expected = run_graph(quantized.graph, given)
    assert np.array_equal(session.run(given)["probabilities"], expected["probabilities"])


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    quantized = luciole.quantize_model(save_small(tmp_path, residual(4)), images(1))
    for name, problem in (("x.tflite", "a quantized model is a .graph or .onnx file"), ("no/x.graph", "cannot write")):
        with pytest.raises(luciole.CompileError, match=problem):
            quantized.save(tmp_path / name)


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(luciole.CompileError, match="there are no samples to calibrate with"):
        luciole.quantize_model(save_small(tmp_path, residual(4)), [])


def test_a_profile_from_python(tmp_path: Path) -> None:
    model = save_small(tmp_path, residual(4))
    first = luciole.quantize_model(model, images(5), correct_bias=True, float_operators=["softmax"])
    first.save_profile(tmp_path / "p.json")
    again = luciole.quantize_model(model, profile=tmp_path / "p.json", correct_bias=True, float_operators=["softmax"])
    assert [r for r in first.graph.remarks if "layer" not in r] == again.graph.remarks and again.layers == ()
    assert all(
        np.array_equal(a.data, b.data)  # type: ignore[arg-type]
        for a, b in zip(first.graph.constants, again.graph.constants, strict=True)
    )
    with pytest.raises(luciole.CompileError, match="needs samples"):
        luciole.quantize_model(model)
    with pytest.raises(luciole.CompileError, match="cannot write"):
        first.save_profile(tmp_path / "no" / "p.json")


def test_samples_from_a_folder_of_npy_files(tmp_path: Path) -> None:
    model, data = save_small(tmp_path, residual(4)), images(6)
    folder = tmp_path / "samples"
    folder.mkdir()
    for number, sample in enumerate(data):
        np.save(folder / f"{number}.npy", sample["image"])
    assert luciole.quantize_model(model, folder).profile == luciole.quantize_model(model, data).profile
