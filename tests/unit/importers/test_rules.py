"""Every import rule: a model of one operator, imported and interpreted, against TensorFlow Lite Micro.

int8 results must be equal bit by bit, float ones within 1e-5 of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.foreign import tflite
from luciole.graph.interpret import run_graph
from luciole.importers.tflite.build import load_tflite
from support.oracle import require_oracle, run_tflite_micro
from support.tflite_writer import ModelSpec, TensorSpec, single_operator, write_model

GENERATOR = np.random.default_rng(20)


def image(*shape: int, scale: float = 0.05, zero: int = -3, name: str = "x") -> TensorSpec:
    """An int8 activation."""
    return TensorSpec(name, shape, "i8", (scale,), (zero,))


def floats(*shape: int, name: str = "x") -> TensorSpec:
    """A float activation."""
    return TensorSpec(name, shape, "f32")


def float_constant(*shape: int, name: str = "w") -> TensorSpec:
    """A float constant."""
    return TensorSpec(name, shape, "f32", data=GENERATOR.normal(0, 1, shape).astype(np.float32))


def weights(*shape: int, axis: int | None = 0, name: str = "w") -> TensorSpec:
    """Symmetric int8 weights, with scales along `axis` or one for all."""
    data = GENERATOR.integers(-127, 128, shape).astype(np.int8)
    count = 1 if axis is None else shape[axis]
    scales = tuple(float(s) for s in np.float32(GENERATOR.uniform(0.005, 0.02, count)))
    return TensorSpec(name, shape, "i8", scales, (0,) * count, axis or 0, data)


def bias(x: TensorSpec, w: TensorSpec, channels: int) -> TensorSpec:
    """An int32 bias in the unit of the products of x and w."""
    scales = tuple(float(np.float32(x.scales[0]) * np.float32(s)) for s in w.scales)
    data = GENERATOR.integers(-3000, 3000, channels).astype(np.int32)
    return TensorSpec("b", (channels,), "i32", scales, (0,) * len(scales), 0, data)


def integers(*values: int, name: str = "i", shape: tuple[int, ...] | None = None, dtype: str = "i32") -> TensorSpec:
    """A constant of integers: axes, shapes."""
    data = np.array(values, np.int64 if dtype == "i64" else np.int32)
    return TensorSpec(name, (len(values),) if shape is None else shape, dtype, data=data)


def convolution(code: str, w: TensorSpec, y: tuple[int, ...], channels: int, **options: Any) -> ModelSpec:
    """A quantized convolution over an image of 9x8."""
    depth = w.shape[3] if code == "CONV_2D" and w.shape else channels // options.get("depth_multiplier", 1)
    x = image(1, 9, 8, depth, zero=-11)
    options = {"stride_w": 1, "stride_h": 1, "padding": "SAME"} | options
    return single_operator(code, [x, w, bias(x, w, channels)], [image(*y, scale=0.06, zero=4, name="y")], options)


def unary(code: str, x: TensorSpec, y: TensorSpec, *constants: TensorSpec, **options: Any) -> ModelSpec:
    """A model of one operator on one activation."""
    return single_operator(code, [x, *constants], [y], options)


CONVOLUTION_CASES: dict[str, ModelSpec] = {
    "same": convolution("CONV_2D", weights(4, 3, 2, 3), (1, 9, 8, 4), 4),
    "same-stride-2-relu": convolution(
        "CONV_2D", weights(4, 3, 4, 3), (1, 5, 4, 4), 4, stride_w=2, stride_h=2, fused_activation_function="relu"
    ),
    "valid-stride-2x3": convolution(
        "CONV_2D", weights(2, 2, 3, 5), (1, 4, 2, 2), 2, stride_h=2, stride_w=3, padding="VALID"
    ),
    "same-dilated-relu6": convolution(
        "CONV_2D",
        weights(2, 3, 3, 3),
        (1, 9, 8, 2),
        2,
        dilation_w_factor=2,
        dilation_h_factor=3,
        fused_activation_function="relu6",
    ),
    "per-tensor": convolution("CONV_2D", weights(3, 1, 1, 6, axis=None), (1, 9, 8, 3), 3),
    "float-same-stride-2": single_operator(
        "CONV_2D",
        [floats(2, 7, 6, 3), float_constant(5, 3, 3, 3), float_constant(5, name="b")],
        [floats(2, 4, 3, 5, name="y")],
        {"stride_w": 2, "stride_h": 2, "padding": "SAME", "fused_activation_function": "relu_n1_to_1"},
    ),
    "float-without-bias": single_operator(
        "CONV_2D",
        [floats(1, 7, 6, 3), float_constant(2, 2, 2, 3)],
        [floats(1, 6, 5, 2, name="y")],
        {"stride_w": 1, "stride_h": 1, "padding": "VALID"},
    ),
}

CASES: dict[str, Mapping[str, ModelSpec]] = {
    "CONV_2D": CONVOLUTION_CASES,
}


def feed(spec: ModelSpec) -> list[np.ndarray[Any, Any]]:
    """Random inputs of a model, the ends of the range among them."""
    arrays: list[np.ndarray[Any, Any]] = []
    generator = np.random.default_rng(5)
    graph = spec.subgraphs[0]
    tensors = {t.name: t for t in graph.tensors}
    for name in graph.inputs:
        tensor = tensors[str(name)]
        assert tensor.shape is not None
        if tensor.dtype == "f32":
            arrays.append(generator.normal(0, 2, tensor.shape).astype(np.float32))
        else:
            data = generator.integers(-128, 128, tensor.shape).astype(np.int8)
            data.reshape(-1)[:2] = (-128, 127)[: data.size]
            arrays.append(data)
    return arrays


def interpret(graph: Graph, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The outputs of a graph in order."""
    results = run_graph(graph, {v.name: a for v, a in zip(graph.inputs, arrays, strict=True)})
    return [results[name] for name, _ in graph.outputs]


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in CASES.items() for case in cases])
def test_imported_operators_compute_what_tflite_micro_computes(kind: str, case: str) -> None:
    require_oracle()
    spec = CASES[kind][case]
    data = write_model(spec)
    arrays = feed(spec)
    for ours, theirs in zip(
        interpret(load_tflite(data, "one.tflite"), arrays), run_tflite_micro(data, arrays), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if ours.dtype == np.float32:
            assert np.abs(ours - theirs).max() <= 1e-5 * max(1e-30, np.abs(theirs).max())
        else:
            assert np.array_equal(ours, theirs), f"{np.count_nonzero(ours != theirs)} of {ours.size} differ"


def test_every_rule_has_cases() -> None:
    assert set(CASES) == set(tflite.kinds)


def test_names_and_quantization_are_those_of_the_file() -> None:
    graph = load_tflite(write_model(CONVOLUTION_CASES["same"]), "one.tflite")
    (op,) = graph.operators
    assert graph.name == "one"
    assert [v.name for v in graph.values()] == ["x", "w", "b", "y"]
    assert graph.result(op).type.quant == op.quant
    assert op.quant is not None
    assert (op.quant.scale, op.quant.zero_point) == (float(np.float32(0.06)), 4)
    assert (op.location.file, op.location.node, op.location.kind) == ("one.tflite", "y", "CONV_2D")


def test_a_result_of_another_shape_than_declared_is_refused() -> None:
    spec = convolution("CONV_2D", weights(4, 3, 2, 3), (1, 9, 7, 4), 4)
    with pytest.raises(CompileError) as error:
        load_tflite(write_model(spec), "one.tflite")
    assert error.value.diagnostics[0].code == "result-mismatch"
    assert 'give i8[1,9,8,4], but the file says that its result "y" is i8[1,9,7,4]' in str(error.value)
