"""What ONNX nodes mean that choose elements by constants, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from onnx import TensorProto

from luciole.errors import CompileError
from support.onnx_models import Net
from support.onnx_rules import check, imported


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("offset", [None, -1, 2, 100, -(2**62)])
def test_triangles(upper: int, offset: int | None) -> None:
    net = Net()
    operands = [] if offset is None else [net.constant(np.array(offset, np.int64))]
    check(net, (2, 3, 4), net.add("Trilu", "x", *operands, upper=upper))


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_vectors(axis: int) -> None:
    net = Net()
    scaled = net.add("Mul", "x", net.constant(np.array(4.0, np.float32)))
    indices = net.add("Cast", scaled, to=TensorProto.INT64)
    values = net.constant(np.array([-1.0, 2.5], np.float32))
    check(net, (3, 4), net.add("OneHot", indices, net.integers(5), values, axis=axis))


@pytest.mark.parametrize("time, lengths", [(0, (1, 4, 2)), (1, (3, 1, 2, 3))])
def test_sequences_in_reverse(time: int, lengths: tuple[int, ...]) -> None:
    net = Net()
    attributes = {"time_axis": time, "batch_axis": 1 - time}
    check(net, (4, 3, 2), net.add("ReverseSequence", "x", net.integers(*lengths), **attributes))


def test_elements_that_a_constant_chooses() -> None:
    for shape, attributes in (((3, 4), {"axis": 1}), ((3, 4), {})):
        net = Net()
        chosen = net.constant(np.array([True, False, True]))
        check(net, shape, net.add("Compress", "x", chosen, **attributes))


@pytest.mark.parametrize(
    "shape, image, block, attributes",
    [
        ((1, 8, 6), (3, 4), (2, 2), {}),
        ((2, 6, 12), (5, 6), (2, 3), {"strides": [2, 1], "pads": [1, 0, 1, 0]}),
        ((1, 4, 12), (5, 6), (2, 2), {"dilations": [2, 2]}),
    ],
)
def test_windows_back_to_an_image(shape: Any, image: Any, block: Any, attributes: dict[str, Any]) -> None:
    net = Net(opset=18)
    check(net, shape, net.add("Col2Im", "x", net.integers(*image), net.integers(*block), **attributes))


def test_ones_on_a_diagonal() -> None:
    for offset in (0, -1, 9):
        net = Net()
        check(net, (3, 4), net.add("Add", "x", net.add("EyeLike", "x", k=offset)))


def test_a_dropout_keeps_everything() -> None:
    net = Net()
    mask = "mask"
    net.add("Dropout", "x", outputs=["kept", mask])
    check(net, (3, 4), net.add("Where", mask, "kept", net.constant(np.array(7, np.float32))))


@pytest.mark.parametrize(
    "kind, operands, message, code",
    [
        ("Compress", (np.zeros(3, np.bool_),), "Compress takes nothing", 2),
        ("Compress", (np.ones(13, np.bool_),), "by 13 conditions", 1),
        ("ReverseSequence", (np.array([1, 4, 1, 9]),), r"lengths \[1, 4, 1, 9\]", 1),
        ("Trilu", (np.array([1, 2]),), "Trilu with 2 offsets", 1),
        ("Col2Im", (np.array([3, 3]), np.array([2, 2])), "Col2Im of", 1),
    ],
)
def test_what_is_refused(kind: str, operands: tuple[Any, ...], message: str, code: int) -> None:
    net = Net(opset=18)
    with pytest.raises(CompileError, match=message) as error:
        imported(net, (3, 4), net.add(kind, "x", *map(net.constant, operands)))
    assert error.value.exit_code == code
