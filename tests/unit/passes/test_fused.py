"""The `fused` operator: its numpy meaning, its loops, its types, and the pass on toys."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Operator, Value
from luciole.graph.interpret import compute_operator, run_graph
from luciole.graph.rewrite import RuleCounter
from luciole.graph.samples import Samples
from luciole.graph.text import parse_graph, render_graph
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.interpret import run_kernel
from luciole.ops.fused import Fused, fuse
from luciole.passes.elementwise_fusion import MAXIMUM_INPUTS, MAXIMUM_OPERATORS, fuse_elementwise
from luciole.targets.base import build_kernel
from support.toy_operators import ToyAdd, ToyRelu, ToyScale, registered_toys


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with registered_toys():
        yield


def arrays_of(s: Samples, op: Operator) -> dict[Value, Array]:
    constants = {value: value.data for value in op.operands if value.data is not None}
    return {**s.arrays, **constants}


def run_loops(op: Operator, arrays: dict[Value, Array]) -> Array:
    bound = build_kernel(op)
    buffers = {name: arrays[value] for name, value in bound.activations} | dict(bound.constants)
    shaped = {p.name: buffers[p.name].reshape(p.shape) for p in bound.kernel.parameters if p.kind == "in"}
    return run_kernel(bound.kernel, shaped)["y"].reshape(op.result_types()[0].shape)


@pytest.mark.parametrize("number", range(3))
def test_the_loops_compute_the_meaning(number: int) -> None:
    s = Samples()
    op = [*Fused.samples(s)][number]
    (expected,) = compute_operator(op, arrays_of(s, op))
    assert run_loops(op, arrays_of(s, op)).tobytes() == expected.tobytes()


def test_parameters_of_the_body_are_found_by_number() -> None:
    x = Value("x", TensorType(DType.I8, (2, 3)))
    graph = Graph("g")
    first = ToyScale(x)
    (t,) = graph.add(first)
    second = ToyScale(t)
    graph.add(second)
    op = fuse([first, second], graph)
    assert list(op.parameters()) == ["op0_table", "op1_table"]
    data = np.arange(-3, 3, dtype=np.int8).reshape(2, 3)
    assert run_loops(op, {x: data}).tolist() == second.compute(first.compute(data)).tolist()


def chain(length: int) -> Graph:
    g = GraphBuilder("chain")
    value = g.input("x", DType.F32, (2,))
    for _ in range(length):
        value = g.add(ToyRelu(value))
    g.output("y", value)
    return g.graph


def test_a_long_chain_becomes_several_operators() -> None:
    graph = chain(2 * MAXIMUM_OPERATORS + 1)
    assert fuse_elementwise.function(graph, RuleCounter()) == 2
    sizes = [len(op.body.operators) if isinstance(op, Fused) else 1 for op in graph.operators]
    assert sizes == [1, MAXIMUM_OPERATORS, MAXIMUM_OPERATORS]


def test_a_wide_tree_stops_at_the_bound_of_inputs() -> None:
    g = GraphBuilder("wide")
    inputs = [g.input("x", DType.F32, (2,)) for _ in range(MAXIMUM_INPUTS + 1)]
    value = inputs[0]
    for other in inputs[1:]:
        value = g.add(ToyAdd(value, other))
    g.output("y", value)
    assert fuse_elementwise.function(g.graph, RuleCounter()) == 1
    assert [len(op.operands) for op in g.graph.operators] == [2, MAXIMUM_INPUTS]


def test_the_limit_of_rules_counts() -> None:
    graph = chain(20)
    assert fuse_elementwise.function(graph, RuleCounter(1)) == 1
    assert len(graph.operators) == 20 - MAXIMUM_OPERATORS + 1


def test_other_element_types_stay() -> None:
    g = GraphBuilder("i32")
    x = g.input("x", DType.I32, (2,))
    g.output("y", g.add(ToyRelu(g.add(ToyAdd(x, x)))))
    assert fuse_elementwise.function(g.graph, RuleCounter()) == 0


def test_an_operand_read_twice_is_one_input() -> None:
    g = GraphBuilder("twice")
    x = g.input("x", DType.F32, (2, 3))
    g.output("y", g.add(ToyAdd(g.add(ToyRelu(x)), x)))
    data = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    expected = run_graph(g.graph, {"x": data})["y"]
    assert fuse_elementwise.function(g.graph, RuleCounter()) == 1
    (op,) = g.graph.operators
    assert op.operands == (x,)
    assert run_graph(g.graph, {"x": data})["y"].tobytes() == expected.tobytes()
    assert run_loops(op, {x: data}).tobytes() == expected.tobytes()


BODY = """
graph g
  in %x: f32[2]
  in %z: f32[1]
  %y: f32[2] = fused([{inputs}], body={{ graph body {body} end }})
end
"""
BAD = {
    "the body takes f32[1]": ("%x", 'in %a: f32[1] %b: f32[1] = toy_relu(%a) out %b as "y"'),
    "the body takes no inputs": ("%x", ""),
    "the body must have operators, one output and no constants": ("%x", "in %a: f32[2] %b: f32[2] = toy_relu(%a)"),
    "the body's output is one of its inputs": ("%x", 'in %a: f32[2] %b: f32[2] = toy_relu(%a) out %a as "y"'),
    "toy_split is not elementwise": ("%x", 'in %a: f32[2] %b: f32[1], %c: f32[1] = toy_split(%a) out %b as "y"'),
    "toy_relu in the body has another shape than the output": (
        "%x, %z",
        'in %a: f32[2] in %c: f32[1] %b: f32[1] = toy_relu(%c) %d: f32[2] = toy_add(%a, %b) out %d as "y"',
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bodies_that_cannot_be_are_refused(message: str) -> None:
    inputs, body = BAD[message]
    with pytest.raises(CompileError) as caught:
        parse_graph(BODY.format(inputs=inputs, body=body))
    assert caught.value.diagnostics[0].message == f"fused: {message}"


def test_constants_in_a_body_are_refused() -> None:
    body = 'in %a: f32[2] const %k: f32[1] = [1] %b: f32[2] = toy_add(%a, %k) out %b as "y"'
    with pytest.raises(CompileError, match="one output and no constants"):
        parse_graph(BODY.format(inputs="%x", body=body))


def test_samples_round_trip_as_text() -> None:
    s = Samples()
    for op in Fused.samples(s):
        g = Graph("sample")
        values = {
            v: g.add_input("x", v.type) if v.data is None else g.add_constant(v.data, v.type.quant) for v in op.operands
        }
        (y,) = g.add(op.with_operands(values.__getitem__))
        g.add_output("y", y)
        rendered = render_graph(g)
        assert render_graph(parse_graph(rendered.text, rendered.arrays)).text == rendered.text
