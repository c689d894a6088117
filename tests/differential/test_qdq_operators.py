"""Operators between DequantizeLinear and QuantizeLinear give the numbers of onnxruntime, which fuses them as we do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel

from luciole import backend
from luciole.ir.types import Array

both_types = pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=["int8", "uint8"])

#: A scale and a zero point.
Scaling = tuple[np.float32, int]


def scalings(dtype: type[np.generic], count: int, seed: int) -> list[Scaling]:
    """Random ones; every second time all scales are the same, so that many results end in a half."""
    random, limits = np.random.default_rng(seed), np.iinfo(dtype)
    scales = random.uniform(0.02, 0.1, count) if seed % 2 else np.full(count, random.uniform(0.02, 0.1))
    return [(np.float32(s), int(random.integers(limits.min, limits.max + 1))) for s in scales]


def model_of(
    kind: str, dtype: type[np.generic], shapes: list[tuple[int, ...]], given: list[Scaling], is_open: bool, **more: Any
) -> onnx.ModelProto:
    """A node whose operands are dequantized and whose result is quantized.

    With `is_open` the quantized tensors are inputs and output of the model, otherwise floats are.
    """
    nodes, constants, operands = [], [], []
    for number, (scale, zero) in enumerate(given):
        constants.append(numpy_helper.from_array(scale, f"s{number}"))
        constants.append(numpy_helper.from_array(np.array(zero, dtype), f"z{number}"))
    for number in range(len(shapes)):
        scaling = [f"s{number}", f"z{number}"]
        quantized = f"x{number}"
        if not is_open:
            quantized = f"q{number}"
            nodes.append(helper.make_node("QuantizeLinear", [f"x{number}", *scaling], [quantized]))
        nodes.append(helper.make_node("DequantizeLinear", [quantized, *scaling], [f"d{number}"]))
        operands.append(f"d{number}")
    scaling = [f"s{len(shapes)}", f"z{len(shapes)}"]
    nodes.append(helper.make_node(kind, operands, ["real"], **more))
    nodes.append(helper.make_node("QuantizeLinear", ["real", *scaling], ["y" if is_open else "number"]))
    if not is_open:
        nodes.append(helper.make_node("DequantizeLinear", ["number", *scaling], ["y"]))
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) if is_open else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(f"x{i}", element, shape) for i, shape in enumerate(shapes)]
    graph = helper.make_graph(nodes, "node", inputs, [helper.make_tensor_value_info("y", element, None)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def operands_of(
    model: onnx.ModelProto, dtype: type[np.generic], given: list[Scaling], numbers: list[Array]
) -> dict[str, Array]:
    """Quantized numbers, as the model takes them."""
    if model.graph.input[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        return {f"x{i}": array.astype(dtype) for i, array in enumerate(numbers)}
    return {
        f"x{i}": (array - zero).astype(np.float32) * scale
        for i, (array, (scale, zero)) in enumerate(zip(numbers, given[:-1], strict=True))
    }


def reference(model: onnx.ModelProto, inputs: dict[str, Array], level: GraphOptimizationLevel) -> Array:
    """What onnxruntime gives."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, inputs)
    return np.asarray(y)


def check(kind: str, dtype: type[np.generic], numbers: list[Array], seed: int, *, is_open: bool, **more: Any) -> None:
    """No number differs from onnxruntime's with its fusions, and none by more than one step from those without."""
    given = scalings(dtype, len(numbers) + 1, seed)
    model = model_of(kind, dtype, [array.shape for array in numbers], given, is_open, **more)
    inputs = operands_of(model, dtype, given, numbers)
    (result,) = backend.prepare(model).run(list(inputs.values()))
    np.testing.assert_array_equal(result, reference(model, inputs, GraphOptimizationLevel.ORT_ENABLE_ALL))
    step = 1.0 if is_open else 1.001 * given[-1][0]
    written = reference(model, inputs, GraphOptimizationLevel.ORT_DISABLE_ALL)
    assert np.max(np.abs(np.subtract(result, written, dtype=np.float64))) <= step


def pairs(dtype: type[np.generic]) -> list[Array]:
    """Every pair of numbers."""
    limits = np.iinfo(dtype)
    numbers = np.arange(limits.min, limits.max + 1)
    return [array.copy() for array in np.meshgrid(numbers, numbers)]


@both_types
@pytest.mark.parametrize("is_open", [False, True], ids=["float-ends", "integer-ends"])
@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_sums_and_products_of_all_pairs(kind: str, is_open: bool, dtype: type[np.generic]) -> None:
    for seed in range(3):
        check(kind, dtype, pairs(dtype), seed, is_open=is_open)


@both_types
@pytest.mark.parametrize("is_open", [False, True], ids=["float-ends", "integer-ends"])
def test_averages(is_open: bool, dtype: type[np.generic]) -> None:
    limits = np.iinfo(dtype)
    for seed in range(2):
        numbers = np.random.default_rng(seed).integers(limits.min, limits.max + 1, (1, 4, 23, 12))
        for size in ([2, 2], [23, 12]):
            check("AveragePool", dtype, [numbers], seed, is_open=is_open, kernel_shape=size)
        padded: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 1]}
        check("AveragePool", dtype, [numbers], seed, is_open=is_open, **padded)
        check("AveragePool", dtype, [numbers], seed, is_open=is_open, count_include_pad=1, **padded)
        check("GlobalAveragePool", dtype, [numbers], seed, is_open=is_open)


@both_types
def test_functions_and_joins(dtype: type[np.generic]) -> None:
    limits, random = np.iinfo(dtype), np.random.default_rng(7)

    def numbers(*shape: int) -> Array:
        return random.integers(limits.min, limits.max + 1, shape)

    every = np.arange(limits.min, limits.max + 1).reshape(1, 2, 128)
    for kind in ("Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Exp"):
        check(kind, dtype, [every], 1, is_open=False)
    check("Max", dtype, pairs(dtype), 1, is_open=False)
    check("Concat", dtype, [numbers(1, 3, 50), numbers(1, 4, 50)], 1, is_open=False, axis=1)
    check("MatMul", dtype, [numbers(2, 7, 33), numbers(2, 33, 9)], 1, is_open=True)
    check("MaxPool", dtype, [numbers(1, 3, 9, 9)], 1, is_open=False, kernel_shape=[3, 2])
