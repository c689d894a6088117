"""Chains of elementwise operators become one operator, whose intermediate results never reach memory."""

from __future__ import annotations

from luciole.errors import CompileError
from luciole.graph.core import Elementwise, Graph, Operator, Value
from luciole.graph.rewrite import RuleCounter, remove_unused
from luciole.ir.types import DType
from luciole.ops.fused import Fused, fuse
from luciole.passes.manager import graph_pass

#: Bounds on one fused operator: code grows with the operators, registers with the inputs.
MAXIMUM_OPERATORS, MAXIMUM_INPUTS = 8, 6

_ELEMENT_TYPES = (DType.I8, DType.F32)


@graph_pass
def fuse_elementwise(graph: Graph, counter: RuleCounter) -> int:
    """Join elementwise operators whose results only one of them reads.

        %0 = add(%a, %b)                   %1 = fused([%a, %b], body={ %0 = add(%a, %b)
        %1 = tanh(%0)             ->                                   %1 = tanh(%0) })

    Only int8 and float operators of one shape. Each keeps its own rounding inside, so that no bit changes. An operator
    moves down to its reader only where that cannot keep more bytes alive: when it reads no more bytes than it
    writes, or when all that the reader needs was there already.
    """
    changes = 0
    for root in reversed(graph.operators):
        if root not in graph or counter.is_exhausted or not _can_join(graph, root):
            continue
        fused = _fused(graph, _group(graph, root))
        if fused is None:
            continue
        counter.count("fuse_elementwise", f"{root} {root.location}".rstrip(), fused)
        graph.replace(root, fused)
        remove_unused(graph, root.operands)
        changes += 1
    return changes


def _fused(graph: Graph, group: list[Operator]) -> Fused | None:
    """The fused operator for a group, or nothing where one of its operators cannot be in one."""
    if len(group) < 2:
        return None
    try:
        return fuse(group, graph)
    except CompileError:
        return None


def _can_join(graph: Graph, op: Operator) -> bool:
    """Whether an operator may be part of a fused one at all."""
    if not isinstance(op, Elementwise) or len(graph.results(op)) != 1:
        return False
    return all(value.type.dtype in _ELEMENT_TYPES for value in (*op.operands, *graph.results(op)))


def _group(graph: Graph, root: Operator) -> list[Operator]:
    """`root` and the operators that can be computed within its loop, in order."""
    position = {op: index for index, op in enumerate(graph.operators)}
    group = {root}
    pending = [root]
    while pending:
        for value in pending.pop().operands:
            producer = value.producer
            if producer is None or producer in group or not _can_join(graph, producer):
                continue
            if graph.is_output(value) or any(user not in group for user in value.users):
                continue
            if value.type.shape != graph.result(root).type.shape or not _keeps_lifetimes(
                producer, value, group, position
            ):
                continue
            larger = group | {producer}
            if len(larger) > MAXIMUM_OPERATORS or len(_inputs(graph, larger)) > MAXIMUM_INPUTS:
                continue
            group = larger
            pending.append(producer)
    return sorted(group, key=lambda op: position[op])


def _inputs(graph: Graph, group: set[Operator]) -> dict[Value, None]:
    """What a group reads from outside."""
    made = {graph.result(op) for op in group}
    return dict.fromkeys(value for op in group for value in op.operands if value not in made)


def _keeps_lifetimes(producer: Operator, value: Value, group: set[Operator], position: dict[Operator, int]) -> bool:
    """Whether computing `value` as late as the group keeps no more bytes alive than before."""
    activations = {operand for operand in producer.operands if not operand.is_constant}
    if sum(operand.type.size_bytes for operand in activations) <= value.type.size_bytes:
        return True
    needed = [v.producer for op in group for v in op.operands if v.producer is not None and v.producer not in group]
    return all(position[other] <= position[producer] for other in needed)
