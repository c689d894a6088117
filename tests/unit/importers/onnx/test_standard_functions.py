"""Operators that ONNX defines by functions over others, and branches that are known: their nodes are imported."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from onnx import TensorProto, helper

from luciole.errors import CompileError
from luciole.importers.onnx.standard_functions import is_standard_function
from support.onnx_models import Net
from support.onnx_rules import check, imported


def test_a_function_with_branches_inside() -> None:
    net = Net(opset=20)
    check(net, (2, 2, 3), net.add("AffineGrid", "x", net.integers(2, 3, 4, 5), align_corners=1))


def test_a_crop_by_a_function() -> None:
    net = Net(opset=18)
    check(net, (3, 6, 5), net.add("CenterCropPad", "x", net.integers(4, 8), axes=[1, 2]))


def test_functions_begin_with_an_opset() -> None:
    assert is_standard_function("AffineGrid", 20)
    assert not is_standard_function("AffineGrid", 19)
    assert not is_standard_function("Conv", 20)


def branching(condition: bool | None) -> tuple[Net, str]:
    """A model that adds or subtracts a constant of the branch, by a condition; None is one that is computed."""
    net = Net()
    branches = {}
    for name, kind in (("then_branch", "Add"), ("else_branch", "Sub")):
        node = helper.make_node(kind, ["x", f"{name}:c"], [f"{name}:y"])
        constant = helper.make_tensor(f"{name}:c", TensorProto.FLOAT, [1], [2.0])
        result = helper.make_tensor_value_info(f"{name}:y", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([node], name, [], [result], [constant])
    if condition is None:
        known = net.add("Cast", net.add("ReduceMean", "x", keepdims=0), to=TensorProto.BOOL)
    else:
        known = net.constant(np.array(condition))
    return net, net.add("If", known, **branches)


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_that_is_known(condition: bool) -> None:
    net, y = branching(condition)
    graph = check(net, (2, 3), y)
    assert [op.kind for op in graph.operators] == ["add" if condition else "sub"]


def test_a_branch_that_is_computed_is_refused() -> None:
    net, y = branching(None)
    with pytest.raises(CompileError):
        imported(net, (2, 3), y)


def test_a_branch_that_reads_what_nothing_made_is_refused() -> None:
    net, y = branching(True)
    for node in net.nodes:
        for attribute in node.attribute:
            attribute.g.node[0].input[0] = "nothing"
    with pytest.raises(CompileError, match='"nothing" is read, but nothing made it') as error:
        imported(net, (2, 3), y)
    assert error.value.exit_code == 1


@pytest.mark.parametrize("opset", [9, 11, 15])
@pytest.mark.parametrize("kind", ["Elu", "HardSigmoid", "LogSoftmax", "Selu", "Shrink", "Softplus", "Softsign"])
def test_functions_that_were_written_down_late(kind: str, opset: int) -> None:
    net = Net(opset=opset)
    check(net, (2, 5), net.add(kind, "x", **({"axis": 1} if kind == "LogSoftmax" else {})))


def test_a_log_softmax_of_several_axes_is_refused() -> None:
    net = Net(opset=11)
    with pytest.raises(CompileError, match="LogSoftmax of several axes") as error:
        imported(net, (2, 3, 4), net.add("LogSoftmax", "x", axis=1))
    assert error.value.exit_code == 2


@pytest.mark.parametrize("shape", [(1,), (3, 1, 1), (2, 3, 4, 5)])
def test_slopes_of_negative_numbers(shape: tuple[int, ...]) -> None:
    net = Net(opset=9)
    check(net, (2, 3, 4, 5), net.add("PRelu", "x", net.weights(*shape)))
