"""Removal of what no output needs."""

from __future__ import annotations

from luciole.graph.core import Graph
from luciole.graph.rewrite import RuleCounter
from luciole.passes.manager import graph_pass


@graph_pass
def remove_dead_code(graph: Graph, counter: RuleCounter) -> int:
    """Remove operators and constants that no output needs.

    Inputs stay: they are the model's interface.

        %0 = relu(%x)
        %1 = tanh(%x)        ->        %0 = relu(%x)
        out %0 as "y"                  out %0 as "y"
    """
    removed = 0
    for op in reversed(graph.operators):
        if not any(map(graph.use_count, graph.results(op))):
            graph.erase(op)
            removed += 1
    for value in graph.constants:
        if graph.use_count(value) == 0:
            graph.erase_constant(value)
            removed += 1
    return removed
