"""Which values of a graph share one scale and zero point, and what these are."""

from __future__ import annotations

from collections.abc import Mapping

from luciole.graph.core import Graph, Operator, Value
from luciole.ir.quant import Quant
from luciole.ops.pad import Pad
from luciole.quantize.observe import Range
from luciole.quantize.roles import CHANNEL_AXES, COMPARING, CUTTING, FIXED, JOINING, KEEPING, SCALING
from luciole.quantize.schemes import Scheme


def choose_quants(
    graph: Graph, operators: tuple[Operator, ...], ranges: Mapping[Value, Range], scheme: Scheme
) -> dict[Value, Quant]:
    """The quantization of each value that has a range, by what `operators`, in order, ask for.

    Values that share numbers get the hull of their ranges, and of the constants that stand among them or are compared
    with them. What only a relu reads gets the range of the relu's result: integers saturate where the relu would cut.
    """
    groups = _Groups()
    cut = _cut_values(graph, operators)
    for op in operators:
        (result,) = graph.results(op)
        kind = type(op)
        if kind in FIXED:
            groups.fix(result, FIXED[kind])
        elif kind in KEEPING or (kind in CUTTING and op.operands[0] in cut):
            groups.join(op.operands[0], result)
        elif kind in JOINING or kind in COMPARING:
            first = result if kind in JOINING else op.operands[0]
            for operand in op.operands:
                # Numbers of a fixed scale are requantized in front of the operator; constants may have many users.
                if operand in ranges and groups.fixed(operand) is None and not operand.is_constant:
                    groups.join(operand, first)
    hulls: dict[Value, Range] = {}
    for value, range in ranges.items():
        if value in cut:
            continue
        root = groups.root(value)
        hulls[root] = hulls.get(root, Range(0.0, 0.0)).hull(range)
    for op in operators:
        if isinstance(op, Pad):
            root = groups.root(op.x)
            hulls[root] = hulls[root].hull(Range(op.value, op.value))
        elif type(op) in JOINING or type(op) in COMPARING:
            (first, *_) = graph.results(op) if type(op) in JOINING else op.operands
            for operand in op.operands:
                if operand in ranges and operand.is_constant:
                    hulls[groups.root(first)] = hulls[groups.root(first)].hull(ranges[operand])
    quants = {root: scheme.activation(*hull) for root, hull in hulls.items()}
    return {value: groups.fixed(value) or quants[groups.root(value)] for value in ranges}


def _cut_values(graph: Graph, operators: tuple[Operator, ...]) -> frozenset[Value]:
    """The results that a relu is the only one to read, of operators that choose the scale of their result."""
    choosing = {graph.result(op) for op in operators if type(op) in (*CHANNEL_AXES, *SCALING)}
    read = (op.operands[0] for op in operators if isinstance(op, CUTTING))
    return frozenset(value for value in read if value in choosing and graph.use_count(value) == 1)


class _Groups:
    """Disjoint sets of values, some with a fixed quantization."""

    def __init__(self) -> None:
        self._parents: dict[Value, Value] = {}
        self._fixed: dict[Value, Quant] = {}

    def root(self, value: Value) -> Value:
        """The value that stands for the set."""
        while value in self._parents:
            value = self._parents[value]
        return value

    def join(self, first: Value, second: Value) -> None:
        """Make two sets one; the second has no fixed quantization."""
        first, second = self.root(first), self.root(second)
        if first is not second:
            self._parents[second] = first

    def fix(self, value: Value, quant: Quant) -> None:
        """Give a set its quantization."""
        self._fixed[self.root(value)] = quant

    def fixed(self, value: Value) -> Quant | None:
        """The fixed quantization of a value's set."""
        return self._fixed.get(self.root(value))
