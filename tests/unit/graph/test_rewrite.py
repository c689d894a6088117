"""Rules and their driver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luciole.errors import InternalError, Location
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Operator, Value
from luciole.graph.interpret import run_graph
from luciole.graph.rewrite import RuleCounter, apply_rules, remove_unused, rule
from luciole.graph.verify import graph_problems
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from support.toy_operators import ToyAdd, ToyAttributes, ToyRelu, ToySplit


@rule(ToyRelu)
def drop_second_relu(op: ToyRelu, graph: Graph) -> Value | None:
    """relu(relu(x)) ->
    relu(x)"""
    return op.x if isinstance(op.x.producer, ToyRelu) else None


@rule(ToyAdd)
def double_to_attributes(op: ToyAdd, graph: Graph) -> Operator | None:
    """add(x, x) -> attributes(x, number=1)"""
    return ToyAttributes(op.a, number=1, location=op.location) if op.a is op.b else None


def relus(count: int, quant: Quant | None = None) -> Graph:
    g = GraphBuilder("relus")
    value = g.input("x", DType.I8 if quant else DType.F32, (2,), quant)
    for number in range(count):
        value = g.add(ToyRelu(value, location=Location(node=f"relu {number}")))
    g.output("y", value)
    return g.graph


def sound(graph: Graph) -> bool:
    # Toy operators are not registered, which is invariant 9.
    return [problem for problem in graph_problems(graph) if problem[0] != 9] == []


def test_a_value_takes_the_place_of_an_operator() -> None:
    graph = relus(4)
    assert apply_rules(graph, [drop_second_relu]) == 3
    assert [op.location.node for op in graph.operators] == ["relu 0"]
    assert graph.outputs == [("y", graph.result(graph.operators[0]))]
    assert sound(graph)


def test_an_operator_takes_the_place_of_an_operator_and_the_value_stays() -> None:
    g = GraphBuilder("double")
    x = g.input("x", DType.F32, (2,))
    y = g.add(ToyAdd(x, x), "y")
    z = g.add(ToyRelu(y), "z")
    g.output("z", z)
    assert apply_rules(g.graph, [drop_second_relu, double_to_attributes]) == 1
    first, second = g.graph.operators
    assert isinstance(first, ToyAttributes) and first.number == 1
    assert g.graph.results(first) == (y,) and y.producer is first
    assert second.operands == (y,)
    assert sound(g.graph)


def test_rules_see_what_other_rules_made_possible() -> None:
    """add(relu(relu(x)), relu(x)) has equal operands only after the inner rule and the sharing of relu(x)."""

    @rule(ToyAttributes)
    def attributes_to_relu(op: ToyAttributes, graph: Graph) -> Operator | None:
        """attributes(x) -> relu(x)"""
        return ToyRelu(op.x)

    g = GraphBuilder("chain")
    x = g.input("x", DType.F32, (2,))
    doubled = g.add(ToyAdd(x, x))
    y = g.add(ToyRelu(g.add(ToyRelu(doubled))), "y")
    g.output("y", y)
    assert apply_rules(g.graph, [drop_second_relu, double_to_attributes, attributes_to_relu]) == 4
    (left,) = g.graph.operators
    assert isinstance(left, ToyRelu) and left.x is x
    assert sound(g.graph)


def test_what_nobody_reads_after_a_rule_is_removed() -> None:
    @rule(ToyAdd)
    def forget(op: ToyAdd, graph: Graph) -> Value | None:
        """add(x, anything) -> x"""
        return op.a

    g = GraphBuilder("forget")
    x, c = g.input("x", DType.F32, (2,)), g.constant(np.zeros(2, np.float32))
    first, second = g.add_all(ToySplit(c))
    joined = g.add(ToyAdd(first, second))
    y = g.add(ToyRelu(g.add(ToyAdd(x, g.add(ToyAdd(joined, g.constant(np.ones(1, np.float32))))))))
    g.output("y", y)
    assert apply_rules(g.graph, [forget]) == 2
    (left,) = g.graph.operators
    assert (left.operands, g.graph.results(left), g.graph.constants) == ((x,), (y,), ())


def test_remove_unused_keeps_operators_of_which_one_result_is_read() -> None:
    g = GraphBuilder("split")
    x = g.input("x", DType.F32, (2,))
    first, second = g.add_all(ToySplit(x))
    g.output("y", first)
    assert remove_unused(g.graph, [second, x]) == 0
    g.graph.outputs.clear()
    assert remove_unused(g.graph, [second]) == 1
    assert g.graph.operators == ()


def test_the_counter_limits_and_traces() -> None:
    lines: list[str] = []
    graph = relus(4)
    counter = RuleCounter(2, lines.append)
    assert apply_rules(graph, [drop_second_relu], counter) == 2
    assert apply_rules(graph, [drop_second_relu], counter) == 0
    assert counter.is_exhausted and len(graph.operators) == 2
    assert lines[0] == '1 drop_second_relu: toy_relu(%1) node "relu 1" -> %1: f32[2]'
    assert [line.split()[:2] for line in lines] == [["1", "drop_second_relu:"], ["2", "drop_second_relu:"]]
    assert sound(graph)


def test_a_rule_knows_its_name_and_algebra() -> None:
    assert (drop_second_relu.name, drop_second_relu.algebra) == ("drop_second_relu", "relu(relu(x)) -> relu(x)")


def test_rules_that_never_end_are_our_bug() -> None:
    @rule(ToyRelu)
    def again(op: ToyRelu, graph: Graph) -> Operator | None:
        """relu(x) -> relu(x)"""
        return replace(op)

    with pytest.raises(InternalError, match="rules again go on for ever, last at toy_relu"):
        apply_rules(relus(1), [again])


def test_a_replacement_of_another_type_is_our_bug() -> None:
    @rule(ToyAdd)
    def wrong(op: ToyAdd, graph: Graph) -> Value | None:
        """add(x, y) -> x    whatever the quantization"""
        return op.a

    g = GraphBuilder("quantized")
    x = g.input("x", DType.I8, (2,), Quant.per_tensor(0.5))
    g.output("y", g.add(ToyRelu(g.add(ToyAdd(x, x, quant=Quant.per_tensor(1.0))))))
    with pytest.raises(InternalError, match="rule wrong gives %x"):
        apply_rules(g.graph, [wrong])


def test_an_operator_of_the_graph_is_no_replacement() -> None:
    @rule(ToyRelu)
    def same(op: ToyRelu, graph: Graph) -> Operator | None:
        """relu(x) -> relu(x)    the very same"""
        return op

    with pytest.raises(InternalError, match="it is in the graph already"):
        apply_rules(relus(1), [same])


@rule(ToyRelu)
def drop_relu(op: ToyRelu, graph: Graph) -> Value | None:
    """relu(x) -> x"""
    return op.x


def test_an_output_stays_memory_of_its_own() -> None:
    g = GraphBuilder("outputs")
    x, c = g.input("x", DType.F32, (2,)), g.constant(np.zeros(2, np.float32))
    t = g.add(ToyAdd(x, c), "t")
    g.output("input", g.add(ToyRelu(x)))
    g.output("constant", g.add(ToyRelu(c)))
    g.output("first", g.add(ToyRelu(t)))
    g.output("second", g.add(ToyRelu(t)))
    assert apply_rules(g.graph, [drop_relu]) == 1
    assert [value.name for _, value in g.graph.outputs] == ["3", "4", "t", "6"]


def test_meaning_is_kept() -> None:
    graph = relus(5)
    inputs = {"x": np.array([-1.5, 2.5], np.float32)}
    before = run_graph(graph, inputs)
    apply_rules(graph, [drop_second_relu])
    assert before["y"].tolist() == run_graph(graph, inputs)["y"].tolist() == [0.0, 2.5]
