"""Transposes from channels last to channels first move down, until they meet the transpose back and disappear.

Formats with channels first bring a pair of transposes around each convolution and pool. All others of their operators
work as well with channels last, so nothing is left between the first convolution and the last. A transpose moves down
only, so this ends. Before flattened weights a transpose becomes another order of the weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from luciole.graph.core import Elementwise, Graph, Operator, Value
from luciole.graph.rewrite import rule
from luciole.ir.types import Shape
from luciole.ops.activation import UnaryOperator
from luciole.ops.concat import Concat
from luciole.ops.elementwise import BinaryOperator
from luciole.ops.fused import Fused
from luciole.ops.gather import Gather
from luciole.ops.matmul import FullyConnected
from luciole.ops.pad import Pad
from luciole.ops.reduce import Reduction
from luciole.ops.resample import Resample
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.transpose import Transpose
from luciole.passes.manager import rules_pass
from luciole.passes.shape_folding import drop_transpose, merge_transposes


@rule(Elementwise)
def sink_through_elementwise(op: Elementwise, graph: Graph) -> Operator | None:
    """f(transpose(x, p), y...) -> transpose(f(x, y'...), p)

    when p moves the last axis in front of the others; y' is what was transposed, a constant, a tensor with one long
    axis, or y transposed back.
    """
    if isinstance(op, Fused) or any(v.type.quant is not None and v.type.quant.is_per_channel for v in op.operands):
        return None
    result = graph.result(op)
    return _sunk(op, graph, _moved_permutation(op.operands, result.type.rank), result.type.rank)


@rule(Concat)
def sink_through_concat(op: Concat, graph: Graph) -> Operator | None:
    """concat([transpose(x, p), y...], axis=a) -> transpose(concat([x, y'...], axis=p[a]), p)    as for elementwise."""
    permutation = _moved_permutation(op.xs, graph.result(op).type.rank)
    if permutation is None:
        return None
    return _sunk(replace(op, axis=permutation[op.axis]), graph, permutation, len(permutation), op)


@rule(Pad)
def sink_through_pad(op: Pad, graph: Graph) -> Operator | None:
    """pad(transpose(x, p), b, a) -> transpose(pad(x, b', a'), p)    with b'[p[i]] = b[i]."""
    permutation = _moved_permutation((op.x,), op.x.type.rank)
    if permutation is None:
        return None
    before, after = _back(op.before, permutation), _back(op.after, permutation)
    return _sunk(replace(op, before=before, after=after), graph, permutation, len(permutation), op)


@rule(Slice)
def sink_through_slice(op: Slice, graph: Graph) -> Operator | None:
    """slice(transpose(x, p), b, s, t) -> transpose(slice(x, b', s', t'), p)    with b'[p[i]] = b[i]."""
    permutation = _moved_permutation((op.x,), op.x.type.rank)
    if permutation is None:
        return None
    begin, size, steps = (_back(numbers, permutation) for numbers in (op.begin, op.size, op.steps))
    return _sunk(replace(op, begin=begin, size=size, strides=steps), graph, permutation, len(permutation), op)


@rule(Reduction)
def sink_through_reduction(op: Reduction, graph: Graph) -> Operator | None:
    """mean(transpose(x, p), axes) -> transpose(mean(x, p[axes]), p')    with p' the order of the axes that are left."""
    permutation = _moved_permutation((op.x,), op.x.type.rank)
    if permutation is None or not isinstance(op.x.producer, Transpose):
        return None
    axes = tuple(sorted(permutation[axis] for axis in op.axes))
    mean = replace(op, x=op.x.producer.x, axes=axes)
    left = [axis for axis in permutation if op.keep_dims or axis not in axes]
    order = tuple(sorted(left).index(axis) for axis in left)
    (inner,) = graph.add(mean, (f"{graph.result(op).name}/last",), before=op)
    return Transpose(inner, order, location=op.location)


@rule(Gather, Resample)
def sink_along_axis(op: Gather | Resample, graph: Graph) -> Operator | None:
    """gather(transpose(x, p), i, axis=a) -> transpose(gather(x, i, axis=p[a]), p)    for constant i of one axis."""
    permutation = _moved_permutation((op.x,), op.x.type.rank)
    if permutation is None or not isinstance(op.x.producer, Transpose):
        return None
    if isinstance(op, Gather) and (op.indices.data is None or op.indices.type.rank != 1):
        return None
    inner = replace(op, x=op.x.producer.x, axis=permutation[op.axis])
    (moved,) = graph.add(inner, (f"{graph.result(op).name}/last",), before=op)
    return Transpose(moved, permutation, location=op.location)


@rule(UnaryOperator, BinaryOperator)
def sink_reshape(op: UnaryOperator | BinaryOperator, graph: Graph) -> Operator | None:
    """f(reshape(x, s), y) -> reshape(f(x, y'), s)

    for functions of one element; for two reshapes of one shape; and when the last axis is the same and y is a constant
    of it alone.
    """
    shape = graph.result(op).type.shape
    reshapes = [v.producer for v in op.operands if isinstance(v.producer, Reshape) and v.type.shape == shape]
    if not reshapes:
        return None
    source = reshapes[0].x.type.shape
    inner: dict[Value, Value] = {}
    for value in op.operands:
        if isinstance(value.producer, Reshape) and value.producer in reshapes and value.producer.x.type.shape == source:
            inner[value] = value.producer.x
        elif not _is_row(value, shape, source):
            return None
    for value in op.operands:
        if value not in inner and value.data is not None:
            inner[value] = graph.add_constant(value.data.reshape(-1), value.type.quant, value.name)
    (moved,) = graph.add(op.with_operands(lambda value: inner[value]), (f"{graph.result(op).name}/plain",), before=op)
    return Reshape(moved, shape, location=op.location)


def _is_row(value: Value, shape: Shape, source: Shape) -> bool:
    """Whether a value is a constant along the last axis, which is the same in both shapes."""
    size = value.type.elements
    if not value.is_constant or not shape or not source or shape[-1] != source[-1]:
        return False
    return size == 1 or (size == shape[-1] and value.type.shape[-1] == size)


@rule(FullyConnected)
def reorder_weights(op: FullyConnected, graph: Graph) -> Operator | None:
    """fully_connected(reshape(transpose(x, p), [n, k]), w) -> fully_connected(reshape(x, [n, k]), w')

    when w is constant and the rows stay apart; w' has the columns of w in the order of x.
    """
    flat = op.x.producer
    if not isinstance(flat, Reshape) or not isinstance(flat.x.producer, Transpose) or op.w.data is None:
        return None
    moved = flat.x.producer
    permutation, shape = moved.permutation, flat.x.type.shape
    if op.w.type.quant is not None and op.w.type.quant.is_per_channel and op.w.type.quant.axis != 0:
        return None
    if permutation[0] != 0 or flat.shape != (shape[0], int(np.prod(shape[1:], dtype=np.int64))):
        return None
    inverse = tuple(permutation.index(axis) for axis in range(len(permutation)))
    columns = op.w.data.reshape(-1, *shape[1:]).transpose(inverse).reshape(op.w.type.shape)
    w = graph.add_constant(np.ascontiguousarray(columns), op.w.type.quant, op.w.name)
    (x,) = graph.add(replace(flat, x=moved.x), before=op)
    return replace(op, x=x, w=w)


def _moved_permutation(operands: tuple[Value, ...], rank: int) -> tuple[int, ...] | None:
    """The permutation of the first operand that was transposed from channels last to channels first, if one was."""
    if rank < 3:
        return None
    to_front = (0, rank - 1, *range(1, rank - 1))
    producers = [v.producer for v in operands]
    moved = [op for op in producers if isinstance(op, Transpose) and op.permutation == to_front]
    if rank == 3:  # the permutation back is the same, which an input may have got below
        moved = [op for op in moved if op.x.producer is not None]
    return to_front if moved else None


def _sunk(
    op: Operator, graph: Graph, permutation: tuple[int, ...] | None, rank: int, old: Operator | None = None
) -> Operator | None:
    """The transpose of `op` over operands that are not transposed; `op` takes the place of `old`, itself by default."""
    if permutation is None or not all(_can_move_back(value, permutation, rank) for value in op.operands):
        return None
    place = old or op
    moved = {value: _moved_back(value, permutation, rank, graph, place) for value in op.operands}
    name = f"{graph.result(place).name}/last"
    (inner,) = graph.add(op.with_operands(lambda value: moved[value]), (name,), before=place)
    return Transpose(inner, permutation, location=op.location)


def _can_move_back(value: Value, permutation: tuple[int, ...], rank: int) -> bool:
    """Three axes are moved back by the permutation that moves them: but of inputs, such a transpose could go round."""
    if isinstance(value.producer, Transpose) and value.producer.permutation == permutation:
        return True
    has_rank = value.type.rank == rank and (rank == 4 or (rank == 3 and value.producer is None))
    return value.is_constant or _is_line(value.type.shape) or has_rank


def _is_line(shape: Shape) -> bool:
    return sum(size > 1 for size in shape) <= 1


def _moved_back(value: Value, permutation: tuple[int, ...], rank: int, graph: Graph, place: Operator) -> Value:
    """The value with its axes, broadcast from the last, in the order before the permutation."""
    if isinstance(value.producer, Transpose) and value.producer.permutation == permutation:
        return value.producer.x
    if value.type.elements == 1 and value.type.rank <= 1:
        return value
    shape = (1,) * (rank - value.type.rank) + value.type.shape
    inverse = tuple(permutation.index(axis) for axis in range(rank))
    if value.data is not None:
        data = np.ascontiguousarray(value.data.reshape(shape).transpose(inverse))
        return graph.add_constant(data, value.type.quant, value.name)
    if _is_line(value.type.shape):
        (moved,) = graph.add(Reshape(value, tuple(shape[axis] for axis in inverse)), before=place)
    else:
        (moved,) = graph.add(Transpose(value, inverse), before=place)
    return moved


def _back(numbers: tuple[int, ...], permutation: tuple[int, ...]) -> tuple[int, ...]:
    """A number for each axis, before the permutation."""
    return tuple(numbers[permutation.index(axis)] for axis in range(len(permutation)))


MOVE_LAYOUTS = rules_pass(
    "move_layouts",
    "Move transposes from channels last to channels first down, until they meet their inverse.",
    [
        drop_transpose,
        merge_transposes,
        sink_through_elementwise,
        sink_through_concat,
        sink_through_pad,
        sink_through_slice,
        sink_along_axis,
        sink_through_reduction,
        sink_reshape,
        reorder_weights,
    ],
)
