"""ONNX's and onnxruntime's operators of quantized tensors give onnxruntime's numbers, every one, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnxruntime
from onnx import helper, numpy_helper

from luciole import backend
from luciole.ir.types import Array

#: An operand: an input of the model, or a constant.
Operand = tuple[str, Any]

both_types = pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=["int8", "uint8"])


class Operands:
    """Random operands of one of the two types."""

    def __init__(self, dtype: type[np.generic], seed: int) -> None:
        self.dtype = np.dtype(dtype)
        self.low, self.high = (-128, 127) if dtype is np.int8 else (0, 255)
        self.random = np.random.default_rng(seed)

    def tensor(self, *shape: int) -> Operand:
        """An activation."""
        return "input", self.random.integers(self.low, self.high + 1, shape).astype(self.dtype)

    def scaling(self, low: float = 0.005, high: float = 0.1) -> list[Operand]:
        """A scale and a zero point."""
        scale = np.float32(self.random.uniform(low, high))
        return [("constant", scale), ("constant", self.random.integers(self.low, self.high + 1, ()).astype(self.dtype))]

    def weights(self, *shape: int, channels: int = 1) -> list[Operand]:
        """Constant symmetric int8 weights with their scales."""
        data = self.random.integers(-127, 128, shape).astype(np.int8)
        scales = self.random.uniform(0.002, 0.01, channels).astype(np.float32)
        zeros = np.zeros(channels, np.int8)
        scaling = (scales, zeros) if channels > 1 else (scales[0], zeros[0])
        return [("constant", data), *(("constant", array) for array in scaling)]

    def pairs(self) -> list[Operand]:
        """Two inputs that hold every pair of numbers."""
        numbers = np.arange(self.low, self.high + 1).astype(self.dtype)
        return [("input", array.copy()) for array in np.meshgrid(numbers, numbers)]

    def numbers(self) -> Operand:
        """Every number once."""
        return "input", np.arange(self.low, self.high + 1).astype(self.dtype)


def check(
    kind: str, operands: list[Operand], dtype: type[np.generic], domain: str = "com.microsoft", **given: Any
) -> None:
    """Assert that one node gives onnxruntime's numbers, without any float."""
    inputs: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    for number, (role, data) in enumerate(operands):
        (inputs if role == "input" else constants)[f"x{number}"] = np.asarray(data)
    names = [f"x{number}" for number in range(len(operands))]
    element = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"], domain=domain, **given)],
        "node",
        [helper.make_tensor_value_info(name, element(data.dtype), data.shape) for name, data in inputs.items()],
        [helper.make_tensor_value_info("y", element(np.dtype(dtype)), None)],
        [numpy_helper.from_array(data, name) for name, data in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, inputs)
    prepared = backend.prepare(model)
    (result,) = prepared.run(list(inputs.values()))
    np.testing.assert_array_equal(result, expected)
    assert not any(value.type.dtype.is_float for value in prepared.session.program.graph.values())


@both_types
def test_convolutions(dtype: type[np.generic]) -> None:
    o = Operands(dtype, 1)
    bias: list[Operand] = [("constant", o.random.integers(-5000, 5000, 8).astype(np.int32))]
    strided = [o.tensor(1, 6, 9, 9), *o.scaling(), *o.weights(8, 6, 3, 3, channels=8), *o.scaling(0.5, 1.0), *bias]
    check("QLinearConv", strided, dtype, "", pads=[1, 1, 1, 1], strides=[2, 2])
    depthwise = [o.tensor(1, 8, 9, 9), *o.scaling(), *o.weights(8, 1, 3, 3, channels=8), *o.scaling(0.1, 0.3)]
    check("QLinearConv", depthwise, dtype, "", group=8)
    check("QLinearConv", [o.tensor(2, 4, 9), *o.scaling(), *o.weights(4, 2, 3), *o.scaling()], dtype, "", group=2)


@both_types
def test_products_of_matrices(dtype: type[np.generic]) -> None:
    o = Operands(dtype, 2)
    check("QLinearMatMul", [o.tensor(5, 40), *o.scaling(), *o.weights(40, 12), *o.scaling(0.5, 1.0)], dtype, "")
    activations = [o.tensor(2, 5, 40), *o.scaling(), o.tensor(2, 40, 12), *o.scaling(), *o.scaling(1.0, 2.0)]
    check("QLinearMatMul", activations, dtype, "")
    bias: Operand = ("constant", o.random.integers(-5000, 5000, 12).astype(np.int32))
    dense = [o.tensor(5, 40), *o.scaling(), *o.weights(12, 40, channels=12), bias, *o.scaling(0.5, 1.0)]
    check("QGemm", dense, dtype, transB=1)


@both_types
@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
def test_sums_and_products_of_all_pairs(kind: str, dtype: type[np.generic]) -> None:
    for seed in range(2):
        o = Operands(dtype, seed)
        first, second = o.pairs()
        check(kind, [first, *o.scaling(), second, *o.scaling(), *o.scaling()], dtype)
        check(kind, [o.tensor(1, 4, 1, 1), *o.scaling(), o.tensor(1, 4, 9, 9), *o.scaling(), *o.scaling()], dtype)


@both_types
@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
def test_sums_and_products_that_often_end_in_a_half(kind: str, dtype: type[np.generic]) -> None:
    o = Operands(dtype, 0)
    first, second = o.pairs()
    for scales in ((0.05, 0.05, 0.1), (0.05, 0.07, 0.1), (0.5, 0.25, 1.0)):
        scaling = [[("constant", np.float32(s)), o.scaling()[1]] for s in scales]
        check(kind, [first, *scaling[0], second, *scaling[1], *scaling[2]], dtype)


@both_types
def test_pools(dtype: type[np.generic]) -> None:
    o = Operands(dtype, 3)
    for seed in range(2):
        o = Operands(dtype, seed)
        check("QLinearGlobalAveragePool", [o.tensor(1, 6, 7, 9), *o.scaling(), *o.scaling()], dtype)
        last = [o.tensor(1, 7, 9, 6), *o.scaling(), *o.scaling()]
        check("QLinearGlobalAveragePool", last, dtype, channels_last=1)
    check("QLinearAveragePool", [o.tensor(1, 6, 7, 9), *o.scaling(), *o.scaling()], dtype, kernel_shape=[3, 3])


@both_types
def test_pools_whose_windows_differ(dtype: type[np.generic]) -> None:
    """Windows over padding, which counts or does not, and those that `ceil_mode` adds."""
    for seed, pads in enumerate(([1, 1, 1, 1], [0, 2, 1, 0])):
        o = Operands(dtype, seed)
        for counted, ceil in ((1, seed), (0, 1)):
            given = {"kernel_shape": [2, 3], "strides": [2, 2], "count_include_pad": counted, "ceil_mode": ceil}
            check("QLinearAveragePool", [o.tensor(1, 5, 7, 8), *o.scaling(), *o.scaling()], dtype, pads=pads, **given)
    o = Operands(dtype, 3)
    line = [o.tensor(2, 3, 30), *o.scaling(), *o.scaling()]
    check("QLinearAveragePool", line, dtype, kernel_shape=[4], strides=[3])
    last = [o.tensor(1, 6, 5, 4), *o.scaling(), *o.scaling()]
    check("QLinearAveragePool", last, dtype, kernel_shape=[2, 2], channels_last=1)
    check("QLinearAveragePool", [o.tensor(1, 6, 5, 4), *o.scaling(), *o.scaling()], dtype, kernel_shape=[5, 4])


@both_types
def test_averages_that_often_end_in_a_half(dtype: type[np.generic]) -> None:
    """Where the sum of float32 numbers decides: a half is above or below as they were rounded one after the other."""
    for seed, factor in enumerate((1.0, 1.0, 2.0, 1.25)):
        o = Operands(dtype, seed)
        scale, zero = o.scaling()
        target = [("constant", np.float32(factor) * scale[1]), o.scaling()[1]]
        for size in ([2, 2], [2, 3]):
            operands = [o.tensor(1, 4, 33, 33), scale, zero, *target]
            check("QLinearAveragePool", operands, dtype, kernel_shape=size)


@both_types
def test_functions_and_joins(dtype: type[np.generic]) -> None:
    o = Operands(dtype, 4)
    least = ("constant", np.array(o.low, dtype))
    for _ in range(3):
        unit: list[Operand] = [("constant", np.float32(1 / 256)), least]
        check("QLinearSigmoid", [o.numbers(), *o.scaling(), *unit], dtype)
        check("QLinearLeakyRelu", [o.numbers(), *o.scaling(), *o.scaling()], dtype, alpha=0.1)
        joined = [*o.scaling(), o.tensor(3, 4), *o.scaling(), o.tensor(3, 5), *o.scaling()]
        check("QLinearConcat", joined, dtype, axis=1)
