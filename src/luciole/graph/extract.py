"""Parts of graphs, as graphs of their own: to compile and run a model up to a value."""

from __future__ import annotations

from collections.abc import Sequence

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.facts import share_facts


def copy_graph(graph: Graph) -> Graph:
    """The same graph over again, of operators and values of its own; constants share their data.

    Operators that no output needs are left out.
    """
    copy = graph_up_to(graph, [value for _, value in graph.outputs])
    copy.outputs = [(name, value) for (name, _), (_, value) in zip(graph.outputs, copy.outputs, strict=True)]
    copy.remarks.extend(graph.remarks)
    return copy


def graph_up_to(graph: Graph, results: Sequence[Value]) -> Graph:
    """A new graph of what `results` depend on, with these values as its outputs, each under its own name.

    Operators stand in the same order, values have the same names and types, and all inputs are kept, also those that
    no output needs any more.
    """
    needed = set(results)
    operators: list[Operator] = []
    for op in reversed(graph.operators):
        if not needed.isdisjoint(graph.results(op)):
            needed.update(op.operands)
            operators.append(op)
    part = Graph(graph.name)
    copies = {value: part.add_input(value.name, value.type) for value in graph.inputs}
    for value in graph.constants:
        if value in needed and value.data is not None:
            copies[value] = part.add_constant(value.data, value.type.quant, value.name)
    for op in reversed(operators):
        values = graph.results(op)
        copied = op.with_operands(copies.__getitem__)
        share_facts(op, copied)
        new = part.add(copied, [value.name for value in values])
        copies.update(zip(values, new, strict=True))
    for value in results:
        part.add_output(value.name, copies[value])
    return part
