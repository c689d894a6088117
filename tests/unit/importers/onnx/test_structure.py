"""What ONNX nodes mean that move elements, slide windows in all dimensions, or go back from windows to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from luciole.errors import CompileError
from support.onnx_models import Net
from support.onnx_rules import check, imported

VOLUMES = (
    ((2, 4, 5, 6, 7), (6, 4, 3, 2, 3), {"strides": [2, 1, 2], "pads": [1, 0, 2, 1, 1, 0]}),
    ((1, 4, 5, 4, 4), (8, 2, 2, 2, 2), {"group": 2, "strides": [2, 1, 1], "auto_pad": "SAME_UPPER"}),
    ((1, 3, 4, 4, 4), (3, 1, 3, 3, 3), {"group": 3}),
)


@pytest.mark.parametrize("shape, weights, attributes", VOLUMES)
def test_convolution_of_three_dimensions(
    shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    net = Net()
    check(net, shape, net.add("Conv", "x", net.weights(*weights), net.weights(weights[0]), **attributes))


POOLS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 2, 6, 7, 8), {"kernel_shape": [2, 3, 2], "strides": [2, 2, 1], "pads": [1, 0, 0, 0, 1, 1]}),
    ((1, 2, 5, 5, 5), {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1}),
    ((1, 3, 9, 8), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [2, 0, 1, 0]}),
    ((1, 3, 12), {"kernel_shape": [3], "dilations": [2], "strides": [2]}),
)


@pytest.mark.parametrize("shape, attributes", POOLS)
@pytest.mark.parametrize(
    "kind, more", [("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})]
)
def test_pools_of_all_dimensions(kind: str, more: dict[str, Any], shape: tuple[int, ...], attributes: Any) -> None:
    net = Net(opset=19)
    check(net, shape, net.add(kind, "x", **attributes, **more))


@pytest.mark.parametrize("shape, attributes", POOLS)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_of_windows(p: int, shape: tuple[int, ...], attributes: Any) -> None:
    net = Net(opset=18)
    check(net, shape, net.add("LpPool", "x", p=p, **attributes))


def test_norm_of_everything() -> None:
    net = Net()
    check(net, (2, 3, 4, 5), net.add("GlobalLpPool", "x", p=2))


def test_reciprocal() -> None:
    net = Net()
    check(net, (2, 3), net.add("Reciprocal", "x"))


def test_average_that_counts_padding_but_not_what_ceiling_adds() -> None:
    net = Net(opset=19)
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    check(net, (1, 2, 6, 5), net.add("AveragePool", "x", count_include_pad=1, **attributes))


TRANSPOSED: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 3, 4, 5), (3, 2, 3, 3), {}),
    ((2, 3, 4, 5), (3, 2, 3, 2), {"strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 2]}),
    ((1, 4, 4, 3), (4, 3, 2, 2), {"strides": [2, 2], "group": 2}),
    ((1, 2, 4, 3), (2, 3, 3, 2), {"dilations": [2, 3], "strides": [2, 1]}),
    ((1, 2, 4, 3), (2, 3, 3, 3), {"strides": [3, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 4, 3), (2, 3, 3, 3), {"strides": [2, 2], "output_shape": [7, 6]}),
    ((1, 2, 4, 3), (2, 3, 2, 2), {"strides": [2, 1], "output_shape": [9, 4]}),  # more than there is
    ((1, 2, 4, 3), (2, 3, 5, 5), {"pads": [4, 2, 2, 3]}),
    ((2, 3, 7), (3, 4, 4), {"strides": [2], "pads": [1, 1]}),
)


@pytest.mark.parametrize("shape, weights, attributes", TRANSPOSED)
def test_transposed_convolution(shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]) -> None:
    net = Net()
    channels = weights[1] * attributes.get("group", 1)
    check(net, shape, net.add("ConvTranspose", "x", net.weights(*weights), net.weights(channels), **attributes))


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap", "constant"])
def test_borders(mode: str) -> None:
    net = Net(opset=19)
    check(net, (2, 4, 5), net.add("Pad", "x", net.integers(0, 2, 3, 0, 1, 4), mode=mode))
    net = Net(opset=19)
    check(net, (3, 6, 5), net.add("Pad", "x", net.integers(0, -2, 1, 0, -1, -1)))


def test_repeated_elements() -> None:
    net = Net()
    check(net, (2, 3), net.add("Tile", "x", net.integers(2, 3)))
    for shape in ((4, 2, 3), (1,), (2, 1, 1, 3)):
        net = Net()
        check(net, (2, 1) if shape == (4, 2, 3) else (2, 3), net.add("Expand", "x", net.integers(*shape)))


@pytest.mark.parametrize("indices, axis", [([[0, 2], [-1, 1]], 1), ([3, 2, 1], -1), ([1], 0), ([2, 0, 2], 2)])
def test_gather_by_constants(indices: Any, axis: int) -> None:
    net = Net()
    check(net, (3, 3, 4), net.add("Gather", "x", net.constant(np.array(indices, np.int64)), axis=axis))


def test_elements_and_rows_by_constants() -> None:
    net = Net()
    check(net, (3, 4), net.add("GatherElements", "x", net.constant(np.array([[1, -1], [2, 0]])), axis=1))
    net = Net()
    check(net, (2, 3, 4), net.add("GatherND", "x", net.constant(np.array([[[2]], [[-3]]])), batch_dims=1))
    net = Net(opset=18)
    places, updates = net.constant(np.array([[1, -1], [1, 0]])), net.weights(2, 2)
    check(net, (3, 4), net.add("ScatterElements", "x", places, updates, axis=1, reduction="add"))
    net = Net(opset=18)
    check(net, (3, 4), net.add("ScatterND", "x", net.constant(np.array([[2], [0]])), net.weights(2, 4)))


@pytest.mark.parametrize(
    "kind, shape, indices, message",
    [
        ("Gather", (3, 4), [3], "outside of its 3"),
        ("GatherElements", (3, 4), [[-4]], "outside of its 3"),
        ("GatherND", (3, 4), [[1, 4]], "outside of axis 1"),
    ],
)
def test_constant_indices_outside_are_refused(kind: str, shape: tuple[int, ...], indices: Any, message: str) -> None:
    net = Net()
    with pytest.raises(CompileError, match=message) as error:
        imported(net, shape, net.add(kind, "x", net.constant(np.array(indices, np.int64))))
    assert error.value.exit_code == 1


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_border_of_infinities(value: float) -> None:
    net = Net()
    check(net, (2, 3), net.add("Pad", "x", net.integers(0, 1, 1, 2), net.constant(np.array(value, np.float32))))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_to_pixels_and_back(mode: str) -> None:
    net = Net(opset=13)
    check(net, (1, 12, 2, 3), net.add("DepthToSpace", "x", blocksize=2, mode=mode))
    net = Net(opset=13)
    check(net, (2, 3, 4, 6), net.add("SpaceToDepth", "x", blocksize=2))


def test_sizes_that_no_memory_holds_are_refused() -> None:
    for kind, shape, operands, attributes in (
        ("ConvTranspose", (1, 4, 4, 4), [(4, 4, 3, 3)], {"dilations": [4096, 4096]}),
        ("ConvTranspose", (1, 4, 4, 4), [(4, 4, 1, 1)], {"strides": [4096, 4096]}),
        ("Trilu", (40000, 40000), [], {}),
    ):
        net = Net()
        with pytest.raises(CompileError, match="the limit is") as error:
            imported(net, shape, net.add(kind, "x", *(net.weights(*w) for w in operands), **attributes))
        assert error.value.exit_code == 2
    net = Net(opset=19)
    with pytest.raises(CompileError, match="a table of 2000004 positions"):
        imported(net, (2000000,), net.add("Pad", "x", net.integers(2, 2), mode="edge"))
