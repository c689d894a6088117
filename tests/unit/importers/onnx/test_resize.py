"""Images of another size, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from luciole.errors import CompileError
from luciole.ops.transpose import Transpose
from support.onnx_models import Net
from support.onnx_rules import check, imported

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")


def sized(net: Net, x: str, sizes: tuple[int, ...], **attributes: Any) -> str:
    return net.add("Resize", x, "", "", net.integers(*sizes), **attributes)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(1, 2, 8, 9), (1, 2, 3, 4), (1, 2, 1, 7)])
def test_sizes(mode: str, coordinates: str, sizes: tuple[int, ...]) -> None:
    net = Net()
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check(net, (1, 2, 4, 6), sized(net, "x", sizes, **attributes))


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest(nearest: str) -> None:
    net = Net()
    factors = net.constant(np.array([1, 1, 2.5, 0.6], np.float32))
    check(net, (1, 2, 4, 6), net.add("Resize", "x", "", factors, nearest_mode=nearest))


def test_cubic_without_what_is_outside() -> None:
    net = Net()
    attributes: dict[str, Any] = {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}
    check(net, (1, 2, 4, 6), sized(net, "x", (1, 2, 7, 5), **attributes))


def test_a_part_with_something_beside_it() -> None:
    net = Net()
    part = net.constant(np.array([0, 0, -0.2, 0.25, 1, 1, 0.7, 1.25], np.float32))
    attributes: dict[str, Any] = {
        "mode": "linear",
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 9.5,
    }
    check(net, (1, 2, 5, 6), net.add("Resize", "x", part, "", net.integers(1, 2, 6, 7), **attributes))


@pytest.mark.parametrize("opset, kind", [(10, "Resize"), (9, "Upsample"), (7, "Upsample")])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_before_opset_11(opset: int, kind: str, mode: str) -> None:
    net = Net(opset=opset)
    factors = [1.0, 1.0, 2.0, 3.0]
    if opset < 9:
        y = net.add(kind, "x", mode=mode, scales=factors)
    else:
        y = net.add(kind, "x", net.constant(np.array(factors, np.float32)), mode=mode)
    check(net, (1, 2, 3, 4), y)


def test_no_transpose_is_left_around_a_resize() -> None:
    net = Net()
    x = net.add("Relu", net.conv("x", (2, 4), 3))
    for mode in ("linear", "nearest"):
        x = net.add("Resize", x, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode=mode)
    graph = check(net, (1, 2, 4, 5), net.conv(x, (4, 2), 3))
    assert sum(isinstance(op, Transpose) for op in graph.operators) == 2  # of the input and of the output


def test_what_is_refused() -> None:
    net = Net(opset=18)
    y = sized(net, "x", (1, 2, 2, 3), mode="linear", antialias=1)
    with pytest.raises(CompileError, match="with antialias is not supported") as error:
        imported(net, (1, 2, 4, 6), y)
    assert error.value.exit_code == 2
    net = Net()
    with pytest.raises(CompileError, match="along 4 axes to"):
        imported(net, (1, 2, 4, 6), sized(net, "x", (1, 2, 0, 3)))
