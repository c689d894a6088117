"""Functions that a model defines for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from onnx import AttributeProto, helper

from luciole.errors import CompileError
from luciole.graph.interpret import run_graph
from luciole.importers.onnx.build import load_onnx
from support.onnx_models import Net, random_inputs, reference

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]


def function(name: str, inputs: list[str], outputs: list[str], nodes: list[Any], **given: Any) -> Any:
    return helper.make_function("mine", name, inputs, outputs, nodes, OPSETS, **given)


def calling(net: Net, output: str, *functions: Any, shape: tuple[int, ...] = (2, 3)) -> Any:
    """A model of one input `x` with functions."""
    model = net.model({"x": list(shape)}, {output: list(shape)})
    model.opset_import.append(OPSETS[1])
    model.functions.extend(functions)
    return model


def leaky(slope: str) -> Any:
    """A node whose `alpha` is the attribute `slope` of the function around it."""
    node = helper.make_node("LeakyRelu", ["a"], ["t"])
    node.attribute.add(name="alpha", ref_attr_name=slope, type=AttributeProto.FLOAT)
    return node


def test_calls_become_the_nodes_of_the_function() -> None:
    inner = function(
        "Inner", ["a", "b"], ["y", "unread"],
        [leaky("slope"), helper.make_node("Add", ["t", "b"], ["y"]), helper.make_node("Relu", ["t"], ["unread"])],
        attributes=["slope"],
    )  # fmt: skip
    twice = function(
        "Twice", ["a"], ["y"],
        [
            helper.make_node("Inner", ["a", "a"], ["t", "u"], domain="mine", slope=0.5),
            helper.make_node("Inner", ["t", "a"], ["y", "v"], domain="mine"),
        ],
    )  # fmt: skip
    net = Net()
    x = net.add("Twice", net.add("Twice", "x", domain="mine"), domain="mine")
    model = calling(net, net.add("Tanh", x), inner, twice)
    inputs = random_inputs(model)
    graph = load_onnx(model.SerializeToString(), "net.onnx")
    (result,), (expected,) = run_graph(graph, inputs).values(), reference(model, inputs).values()
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_result_may_be_left_out() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Tanh", ["b"], ["y"])]
    body = function("F", ["a"], ["y", "b"], nodes)
    net = Net()
    model = calling(net, net.add("F", net.add("F", "x", domain="mine"), domain="mine"), body)
    graph = load_onnx(model.SerializeToString(), "net.onnx")
    assert [op.kind for op in graph.operators] == ["relu", "tanh", "relu", "tanh"]


def test_attributes_of_functions_have_defaults() -> None:
    body = function("F", ["a"], ["t"], [leaky("slope")], attribute_protos=[helper.make_attribute("slope", 0.25)])
    for given, slope in (({}, 0.25), ({"slope": 0.75}, 0.75)):
        net = Net()
        model = calling(net, net.add("F", "x", domain="mine", **given), body)
        graph = load_onnx(model.SerializeToString(), "net.onnx")
        (result,) = run_graph(graph, {"x": np.full((2, 3), -1, np.float32)}).values()
        assert np.all(result == np.float32(-slope))


def refused(*functions: Any) -> tuple[str, int]:
    net = Net()
    model = calling(net, net.add("F", "x", domain="mine"), *functions)
    with pytest.raises(CompileError) as error:
        load_onnx(model.SerializeToString(), "net.onnx")
    return str(error.value), error.value.exit_code


def test_functions_without_end_are_refused() -> None:
    text, code = refused(function("F", ["a"], ["y"], [helper.make_node("F", ["a"], ["y"], domain="mine")]))
    assert "function F calls itself" in text and code == 1


def test_a_billion_laughs_are_refused() -> None:
    def laughing(index: int) -> Any:
        kind, domain = (f"G{index + 1}", "mine") if index < 20 else ("Relu", "")
        nodes = [helper.make_node(kind, [f"t{i}" if i else "a"], [f"t{i + 1}" if i < 9 else "y"], domain=domain)
                 for i in range(10)]  # fmt: skip
        return function(f"G{index}" if index else "F", ["a"], ["y"], nodes)

    text, code = refused(*map(laughing, range(21)))
    assert "its functions make more than 50000 nodes" in text and code == 2


def test_what_functions_may_not_be() -> None:
    relu = helper.make_node("Relu", ["a"], ["y"])
    plain = function("F", ["a"], ["y"], [relu])
    assert "defines a function twice" in refused(plain, plain)[0]
    old = helper.make_function("mine", "F", ["a"], ["y"], [relu], [helper.make_opsetid("", 11)])
    text, code = refused(old)
    assert "function F uses opset 11, the model 17" in text and code == 2
    assert "too many operands" in refused(function("F", [], ["y"], [relu]))[0]
    assert '"f0#1/x" is read, but nothing made it' in refused(
        function("F", ["a"], ["y"], [helper.make_node("Relu", ["x"], ["y"])])
    )[0]  # fmt: skip
