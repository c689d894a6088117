"""Sharing of what is computed twice."""

from __future__ import annotations

from luciole.graph.core import Graph, Operator, Value, content_hash
from luciole.graph.rewrite import RuleCounter
from luciole.graph.text import attribute_text, print_graph
from luciole.ir.types import TensorType
from luciole.passes.manager import graph_pass


@graph_pass
def share_common_subexpressions(graph: Graph, counter: RuleCounter) -> int:
    """Compute once what operators of equal kind, operands and attributes compute, and keep equal constants once.

        %0 = relu(%x)
        %1 = relu(%x)            ->        %0 = relu(%x)
        %2 = add(%0, %1)                   %2 = add(%0, %0)

    Two outputs stay two values: of equal results that are both outputs, both are still computed.
    """
    return _share_constants(graph, counter) + _share_operators(graph, counter)


def _share_constants(graph: Graph, counter: RuleCounter) -> int:
    first: dict[tuple[str, TensorType], list[Value]] = {}
    changes = 0
    for value in graph.constants:
        if value.data is None or counter.is_exhausted:
            continue
        equals = first.setdefault((content_hash(value.data), value.type), [])
        same = next((other for other in equals if _same_bytes(other, value)), None)
        if same is None:
            equals.append(value)
        elif not graph.is_output(value):
            counter.count("share_constant", value, same)
            graph.redirect(value, same)
            graph.erase_constant(value)
            changes += 1
    return changes


def _share_operators(graph: Graph, counter: RuleCounter) -> int:
    first: dict[tuple[object, ...], Operator] = {}
    #: What stands for the results of operators that will go.
    stands_for: dict[Value, Value] = {}
    for op in graph.operators:
        if counter.is_exhausted:
            break
        same = first.setdefault(_key(graph, op, stands_for), op)
        pairs = [*zip(graph.results(op), graph.results(same), strict=True)]
        if same is op or any(graph.is_output(value) and graph.is_output(other) for value, other in pairs):
            continue
        counter.count("share_operator", f"{op} {op.location}".rstrip(), f"{same} {same.location}".rstrip())
        stands_for.update(pairs)
    for value, other in stands_for.items():
        graph.redirect(value, other)
    gone = dict.fromkeys(value.producer for value in stands_for)
    for producer in gone:
        if producer is not None:
            graph.erase(producer)
    return len(gone)


def _key(graph: Graph, op: Operator, stands_for: dict[Value, Value]) -> tuple[object, ...]:
    """What two operators that compute the same have in common."""
    operands = []
    for name in op.operand_fields:
        operand = getattr(op, name)
        values = operand if isinstance(operand, tuple) else (operand,)
        operands.append(tuple(None if v is None else stands_for.get(v, v) for v in values))
    attributes = tuple(
        (name, print_graph(value) if isinstance(value, Graph) else attribute_text(value))
        for name, value in op.attributes().items()
    )
    return op.kind, tuple(operands), attributes, tuple(value.type for value in graph.results(op))


def _same_bytes(first: Value, second: Value) -> bool:
    return (
        first.data is not None
        and second.data is not None
        and first.type == second.type
        and first.data.tobytes() == second.data.tobytes()
    )
