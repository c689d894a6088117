"""Functions of one tensor, element by element: in int8 each is a table of its results for all 256 numbers.

h = x * clip(x + 3, 0, 6) / 6                      one table, of x; nothing between is rounded to int8
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Elementwise, Graph, Operator, Value
from luciole.graph.interpret import arguments_of
from luciole.ir.types import Array, DType
from luciole.quantize.roles import has_own_form


@dataclass(frozen=True)
class Function:
    """Operators, in order, whose last result depends element by element on `x` and on single constants."""

    x: Value
    operators: tuple[Operator, ...]

    def compute(self, graph: Graph, numbers: Array) -> Array:
        """The results for the elements of a float array of any shape, each rounded as the operators do."""
        values: dict[Value, Array] = {self.x: numbers}
        with np.errstate(all="ignore"):
            for op in self.operators:
                values |= {v: v.data.reshape(()) for v in op.operands if v.data is not None}
                values[graph.result(op)] = op.compute(*arguments_of(op, values))
        return np.broadcast_to(values[graph.result(self.operators[-1])], numbers.shape)


def find_functions(graph: Graph, kept: frozenset[Operator]) -> dict[Operator, Function]:
    """The functions of a float graph by their last operators; none has an operator of another, or one of `kept`.

    One operator alone is a function only where it has no form in int8 of its own.
    """
    depends_on = _dependencies(graph, kept)
    functions: dict[Operator, Function] = {}
    taken: set[Operator] = set()
    for root in reversed(graph.operators):
        if root in taken or root not in depends_on or graph.result(root).type.dtype is not DType.F32:
            continue
        operators = _group(graph, root, depends_on)
        (x, *others) = dict.fromkeys(_read_from_outside(graph, operators))
        if others or (len(operators) == 1 and has_own_form(root)):
            continue
        functions[root] = Function(x, operators)
        taken.update(operators)
    return functions


def tabulated_operators(functions: Mapping[Operator, Function]) -> set[Operator]:
    """All operators that tables stand for; the last one of each function gives the table's place and result."""
    return {op for function in functions.values() for op in function.operators}


def _dependencies(graph: Graph, kept: frozenset[Operator]) -> dict[Operator, Value]:
    """For each operator that computes a function of the elements of a single float tensor, the first such tensor."""
    found: dict[Operator, Value] = {}
    for op in graph.operators:
        if not isinstance(op, Elementwise) or op in kept or len(graph.results(op)) != 1:
            continue
        constants = [v for v in op.operands if v.data is not None]
        variables = [v for v in op.operands if v.data is None]
        shapes = {v.type.shape for v in (*variables, graph.result(op))}
        if len(shapes) != 1 or any(v.type.elements != 1 for v in constants):
            continue
        sources = {found.get(v.producer, v) if v.producer is not None else v for v in variables}
        if len(sources) == 1 and next(iter(sources)).type.dtype is DType.F32:
            (found[op],) = sources
    return found


def _group(graph: Graph, root: Operator, candidates: dict[Operator, Value]) -> tuple[Operator, ...]:
    """`root` and those candidates whose results only the group reads, in order."""
    group, pending = {root}, [root]
    while pending:
        for value in pending.pop().operands:
            producer = value.producer
            if producer is None or producer in group or producer not in candidates or graph.is_output(value):
                continue
            if all(user in group for user in value.users):
                group.add(producer)
                pending.append(producer)
    return tuple(op for op in graph.operators if op in group)


def _read_from_outside(graph: Graph, operators: tuple[Operator, ...]) -> Iterator[Value]:
    """The variables that a group reads and does not make."""
    made = {graph.result(op) for op in operators}
    return (v for op in operators for v in op.operands if v.data is None and v not in made)
