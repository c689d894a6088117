"""Operators that only move or rename elements, merged or removed where they do nothing."""

from __future__ import annotations

from dataclasses import replace

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.rewrite import rule
from luciole.ops.concat import Concat
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.transpose import Transpose
from luciole.passes.manager import rules_pass


@rule(Reshape)
def drop_reshape(op: Reshape, graph: Graph) -> Value | None:
    """reshape(x, x.shape) -> x"""
    return op.x if op.shape == op.x.type.shape else None


@rule(Reshape)
def merge_reshapes(op: Reshape, graph: Graph) -> Operator | None:
    """reshape(reshape(x, s), t) -> reshape(x, t)"""
    first = op.x.producer
    return replace(op, x=first.x) if isinstance(first, Reshape) else None


@rule(Transpose)
def drop_transpose(op: Transpose, graph: Graph) -> Value | None:
    """transpose(x, [0, 1, 2, ...]) -> x"""
    return op.x if op.permutation == tuple(range(op.x.type.rank)) else None


@rule(Transpose)
def merge_transposes(op: Transpose, graph: Graph) -> Operator | None:
    """transpose(transpose(x, p), q) -> transpose(x, r)    with r[i] = p[q[i]]"""
    first = op.x.producer
    if not isinstance(first, Transpose):
        return None
    return replace(op, x=first.x, permutation=tuple(first.permutation[axis] for axis in op.permutation))


@rule(Transpose)
def transpose_to_reshape(op: Transpose, graph: Graph) -> Operator | None:
    """transpose(x, p) -> reshape(x, s)    when the axes that are longer than one keep their order."""
    moved = [axis for axis in op.permutation if op.x.type.shape[axis] != 1]
    if moved != sorted(moved):
        return None
    return Reshape(op.x, op.infer().shape, location=op.location)


@rule(Slice)
def drop_slice(op: Slice, graph: Graph) -> Value | None:
    """slice(x) -> x    when it takes everything in order."""
    return op.x if op.size == op.x.type.shape and all(stride > 0 for stride in op.strides) else None


@rule(Concat)
def drop_concat(op: Concat, graph: Graph) -> Value | None:
    """concat([x]) -> x"""
    return op.xs[0] if len(op.xs) == 1 else None


FOLD_SHAPES = rules_pass(
    "fold_shapes",
    "Merge reshapes and transposes of each other, and remove those, slices and concats that change nothing.",
    [
        drop_reshape,
        merge_reshapes,
        drop_transpose,
        merge_transposes,
        transpose_to_reshape,
        drop_slice,
        drop_concat,
    ],
)
