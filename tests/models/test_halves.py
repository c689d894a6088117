"""Half floats: stored and moved as they are, computed as float32, rounded after each operator; on every core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.errors import CompileError
from luciole.ir.types import Array

onnx = pytest.importorskip("onnx", reason="the package onnx is missing")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
HALF = onnx.TensorProto.FLOAT16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, a sum, a transpose and a dense layer of half floats, as exporters write them."""
    random = np.random.default_rng(8)
    weights = {"w": (4, 3, 3, 3), "b": (4,), "shift": (4, 1, 1), "dense": (64, 5)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("Add", ["relu", "shift"], ["sum"], name="sum"),
        helper.make_node("Transpose", ["sum"], ["moved"], name="moved", perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["moved"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "dense"], ["y"], name="y"),
    ]
    graph = helper.make_graph(
        nodes,
        "halves",
        [helper.make_tensor_value_info("x", HALF, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", HALF, [1, 5])],
        [numpy_helper.from_array(random.normal(0, 0.3, s).astype(np.float16), n) for n, s in weights.items()],
    )
    path = tmp_path_factory.mktemp("halves") / "halves.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def sample() -> Array:
    return np.random.default_rng(9).normal(size=(1, 3, 4, 4)).astype(np.float16)


def test_results_are_those_of_onnxruntime(model: Path, sample: Array) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")
    (expected,) = runtime.InferenceSession(str(model)).run(None, {"x": sample})
    found = luciole.load(model).run({"x": sample})["y"]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("target, emit", [("native", "c"), ("cortex-m4", "object"), ("cortex-m0plus", "object")])
def test_every_core_gives_nearly_the_same_half_floats(model: Path, sample: Array, target: str, emit: str) -> None:
    if target != "native":
        pytest.importorskip("unicorn", reason="unicorn is not installed")
    expected = luciole.load(model, stage="graph").run({"x": sample})["y"]
    found = luciole.load(model, target, emit=emit).run({"x": sample})["y"]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_the_interface_has_their_bits(model: Path) -> None:
    files = luciole.compile(model, "cortex-m4", emit="c").files
    assert b"uint16_t *halves_" in files["halves.h"] and b"const int32_t difference" in files["halves_test.c"]


def test_arithmetic_of_half_floats_is_refused(tmp_path: Path) -> None:
    text = 'graph sum\n  in %x: f16[4]\n  %y: f16[4] = add(%x, %x)\n  out %y as "y"\nend\n'
    (tmp_path / "sum.graph").write_text(text)
    with pytest.raises(CompileError, match="add: f16 is only moved and cast; cast it to f32 to compute"):
        luciole.compile(tmp_path / "sum.graph")
