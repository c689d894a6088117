"""Running a graph by the operators' meaning in numpy: the reference that everything else is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from luciole.errors import InternalError
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.types import Array


def arguments_of(op: Operator, values: Mapping[Value, Array]) -> Iterator[Array | tuple[Array, ...] | None]:
    """What an operator's `compute` takes: an array for each field of one operand, a tuple of arrays for one of many."""
    for name in op.operand_fields:
        operand = getattr(op, name)
        if isinstance(operand, tuple):
            yield tuple(values[v] for v in operand)
        else:
            yield None if operand is None else values[operand]


def compute_operator(op: Operator, values: Mapping[Value, Array]) -> tuple[Array, ...]:
    """The results of one operator. Raises `InternalError` when they do not have the inferred types."""
    result = op.compute(*arguments_of(op, values))
    results = result if isinstance(result, tuple) else (result,)
    for array, type in zip(results, op.result_types(), strict=True):
        if tuple(array.shape) != type.shape or array.dtype != type.dtype.numpy:
            raise InternalError(f"{op} computes {array.dtype}{list(array.shape)}, its type is {type}")
    return results


def run_graph(
    graph: Graph, inputs: Mapping[str, Array], watch: Callable[[Value, Array], None] | None = None
) -> dict[str, Array]:
    """Run a graph on arrays by input name; gives arrays by output name. `watch` is told every value as it is made."""
    values: dict[Value, Array] = {v: inputs[v.name] for v in graph.inputs}
    values |= {v: v.data for v in graph.constants if v.data is not None}
    for op in graph.operators:
        for value, array in zip(graph.results(op), compute_operator(op, values), strict=True):
            values[value] = array
            if watch is not None:
                watch(value, array)
    return {name: values[value] for name, value in graph.outputs}
