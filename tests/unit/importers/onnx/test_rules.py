"""What single ONNX nodes mean: compared with onnxruntime over the forms that an attribute or an opset gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from luciole.errors import CompileError
from luciole.graph.interpret import run_graph
from luciole.importers.onnx.build import load_onnx
from luciole.ir.types import Array
from support.onnx_models import Net, random_inputs
from support.onnx_rules import check, imported

CONVOLUTIONS = (
    ((1, 4, 9, 8), (6, 4, 3, 2), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ((2, 4, 9, 8), (8, 1, 3, 3), {"group": 4, "dilations": [2, 1]}),
    ((1, 4, 6, 6), (6, 2, 3, 3), {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ((1, 3, 7, 5), (2, 3, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    ((1, 3, 7, 5), (2, 3, 4, 4), {"auto_pad": "VALID"}),
    ((1, 3, 4, 4), (2, 3, 1, 2), {"pads": [2, 3, 1, 0]}),  # windows that see nothing but padding
    ((2, 3, 11), (4, 3, 3), {"pads": [2, 0], "strides": [2]}),
    ((1, 4, 11), (4, 1, 3), {"group": 4, "dilations": [3]}),
)


@pytest.mark.parametrize("shape, weights, attributes", CONVOLUTIONS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_convolution(
    shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any], has_bias: bool
) -> None:
    net = Net()
    operands = [net.weights(*weights), *([net.weights(weights[0])] if has_bias else [])]
    check(net, shape, net.add("Conv", "x", *operands, **attributes))


POOLS = (
    ((1, 3, 8, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ((1, 3, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 3, 9, 7), {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    ((1, 2, 8, 5), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 8, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((2, 2, 9), {"kernel_shape": [4], "strides": [2], "pads": [1, 2]}),
)


@pytest.mark.parametrize("shape, attributes", POOLS)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_pool(kind: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    net = Net()
    check(net, shape, net.add(kind, "x", **attributes))


def test_average_that_counts_padding() -> None:
    net = Net()
    check(net, (1, 2, 6, 5), net.add("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 0, 1, 1], count_include_pad=1))


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 7)])
def test_global_pool(kind: str, shape: tuple[int, ...]) -> None:
    net = Net()
    check(net, shape, net.add(kind, "x"))


@pytest.mark.parametrize("kind", ["Softmax", "Hardmax"])
@pytest.mark.parametrize("opset, axis", [(11, 1), (11, 2), (11, -1), (13, 1), (13, 0), (13, -1)])
def test_softmax_before_and_since_opset_13(opset: int, axis: int, kind: str) -> None:
    net = Net(opset=opset)
    check(net, (2, 3, 4), net.add(kind, "x", axis=axis))


@pytest.mark.parametrize("low, high", [(0, 6), (0, None), (None, 0.5), (-0.25, 0.75), (None, None), (0.0, 3.0)])
@pytest.mark.parametrize("opset", [7, 13])
def test_clip_before_and_since_opset_11(low: float | None, high: float | None, opset: int) -> None:
    net = Net(opset=opset)
    if opset < 11:
        limits = {name: float(value) for name, value in (("min", low), ("max", high)) if value is not None}
        y = net.add("Clip", "x", **limits)
    else:
        operands = ["" if v is None else net.constant(np.array(v, np.float32)) for v in (low, high)]
        y = net.add("Clip", "x", *operands)
    check(net, (3, 40), y)


@pytest.mark.parametrize("opset", [9, 13])
def test_shapes_before_and_since_opset_13(opset: int) -> None:
    """Axes, starts and sizes are attributes first, and operands later."""
    net = Net(opset=opset)

    def add(kind: str, x: str, name: str, numbers: list[int], outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        if opset < 13:
            return net.add(kind, x, outputs=outputs, **{name: numbers}, **attributes)
        return net.add(kind, x, net.integers(*numbers), outputs=outputs, **attributes)

    x = add("Squeeze", add("Unsqueeze", "x", "axes", [0, 3]), "axes", [0])
    x = net.add("Concat", add("Split", x, "split", [1, 3], ("a", "b"), axis=1), "b", axis=1)
    x = net.add("ReduceMean", x, axes=[-1, 0], keepdims=1)
    x = net.add("Reshape", x, net.integers(0, -1))
    check(net, (3, 4, 5), x)


def test_slice_by_attributes() -> None:
    net = Net(opset=9)
    check(net, (4, 5, 6), net.add("Slice", "x", starts=[1, -3], ends=[9, -1], axes=[0, 2]))


@pytest.mark.parametrize("start, end, step", [(0, 5, 2), (-1, -100, -1), (4, 1, -2), (-3, 2**62, 1), (0, -1, 3)])
def test_slice_by_operands(start: int, end: int, step: int) -> None:
    net = Net()
    y = net.add("Slice", "x", net.integers(start), net.integers(end), net.integers(1), net.integers(step))
    check(net, (2, 7), y)


@pytest.mark.parametrize("attributes", [{}, {"transA": 1}, {"transB": 1, "alpha": 0.5}, {"alpha": 2.0, "beta": 0.25}])
@pytest.mark.parametrize("bias", [None, (), (5,), (1, 5), (1,), (3, 5), (3, 1)])
def test_gemm(attributes: dict[str, Any], bias: tuple[int, ...] | None) -> None:
    net = Net()
    w = net.weights(5, 4) if "transB" in attributes else net.weights(4, 5)
    c = () if bias is None else (net.weights(*bias),)
    check(net, (4, 3) if "transA" in attributes else (3, 4), net.add("Gemm", "x", w, *c, **attributes))


@pytest.mark.parametrize("left, right", [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 1)), ((4,), (4, 3)),
                                         ((3, 4), (4,)), ((1, 3, 4), (5, 1, 4, 2))])  # fmt: skip
@pytest.mark.parametrize("is_constant", [False, True])
def test_product_of_matrices(left: tuple[int, ...], right: tuple[int, ...], is_constant: bool) -> None:
    net = Net()
    b = net.weights(*right)
    if not is_constant:  # a product that the importer cannot know
        b = net.add("Mul", b, net.add("Sigmoid", net.add("ReduceMean", "x", keepdims=0)))
    check(net, left, net.add("MatMul", "x", b))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (2, 3, 4)])
def test_elementwise(kind: str, shape: tuple[int, ...]) -> None:
    net = Net()
    constant = net.constant(net.random.uniform(0.5, 2, shape).astype(np.float32))
    check(net, (2, 3, 4), net.add(kind, "x", constant))
    net = Net()
    constant = net.constant(net.random.uniform(4, 8, shape).astype(np.float32))
    check(net, (3, 4), net.add(kind, constant, net.add("Add", "x", net.constant(np.full(1, 9, np.float32)))))


def test_pads_of_some_axes() -> None:
    net = Net(opset=18)
    value = net.constant(np.array(-1.5, np.float32))
    check(net, (1, 2, 3, 4), net.add("Pad", "x", net.integers(1, 0, 2, 3), value, net.integers(-1, 1)))


def test_one_element_along_an_axis() -> None:
    for index in (np.array(-1, np.int64), np.array([2], np.int64)):
        net = Net()
        check(net, (3, 4, 5), net.add("Gather", "x", net.constant(index), axis=1))


def test_a_shape_that_is_computed_vanishes() -> None:
    net = Net()
    shape = net.add("Shape", "x")
    height = net.add("Gather", shape, net.integers(2), axis=0)
    half = net.add("Div", net.add("Mul", height, net.integers(2)), net.integers(4))
    ends = net.add("Cast", net.add("Floor", net.add("Cast", half, to=1)), to=7)
    last = net.add("Where", net.add("Equal", ends, net.integers(3)), ends, net.integers(1))
    target = net.add(
        "Concat", net.add("Slice", shape, net.integers(0), net.integers(1)), last, net.integers(-1), axis=0
    )
    graph = check(net, (2, 4, 6), net.add("Reshape", "x", net.add("Max", target, net.integers(-1))))
    assert [op.kind for op in graph.operators] == ["reshape"]


def test_a_constant_without_elements_is_not_joined() -> None:
    net = Net()
    graph = check(net, (2, 3), net.add("Concat", "x", net.constant(np.zeros((2, 0), np.float32)), axis=1))
    assert [op.kind for op in graph.operators] == ["concat"]


def test_too_many_axes_are_refused() -> None:
    net = Net()
    with pytest.raises(CompileError, match="has 12 dimensions; the limit is 8"):
        imported(net, (2, 3), net.add("Unsqueeze", "x", net.integers(*range(10))))


def test_a_constant_may_be_an_output() -> None:
    net = Net()
    model = net.model({"x": [2, 3]}, {net.add("Relu", "x"): [2, 3]})
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = net.constant(np.ones((2, 3), np.float32))
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), np.float32), model.graph.output[1].name))
    graph = load_onnx(model.SerializeToString(), "model.onnx")
    results: list[Array] = list(run_graph(graph, {"x": np.full((2, 3), -1, np.float32)}).values())
    assert results[0].max() == 0 and results[1].min() == 1


def test_old_broadcasting_is_numpys_or_refused() -> None:
    net = Net(opset=6)
    y = net.add("Add", "x", net.weights(4), broadcast=1, axis=2)
    model, graph = imported(net, (2, 3, 4), y)
    inputs = random_inputs(model)
    (constant,) = net.constants.values()
    np.testing.assert_allclose(run_graph(graph, inputs)[y], inputs["x"] + constant, rtol=1e-6)
    for attributes in ({"broadcast": 1, "axis": 1}, {}):
        net = Net(opset=6)
        with pytest.raises(CompileError):
            imported(net, (2, 4, 4), net.add("Add", "x", net.weights(4), **attributes))


@pytest.mark.parametrize("kind, operands", [("Dropout", 0), ("BatchNormalization", 4)])
def test_what_trains_is_refused(kind: str, operands: int) -> None:
    net = Net(opset=6)
    constants = [net.constant(np.ones(3, np.float32)) for _ in range(operands)]
    with pytest.raises(CompileError, match="that trains") as error:
        imported(net, (2, 3), net.add(kind, "x", *constants))
    assert error.value.exit_code == 2
