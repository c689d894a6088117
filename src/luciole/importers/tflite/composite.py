"""TFLite operators that are made of several core operators of one kind."""

from __future__ import annotations

from itertools import accumulate

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, tflite
from luciole.ops.slice import Slice
from luciole.ops.tflite_options import axis_of


def _parts(node: ForeignNode, g: GraphBuilder, x: Value, axis: int, sizes: tuple[int, ...]) -> tuple[Value, ...]:
    """x cut along an axis into parts of some sizes, a slice each."""
    rank = x.type.rank
    if len(sizes) != len(node.output_types) or sum(sizes) != x.type.shape[axis]:
        raise node.error(f"{node.kind} of {x.type} along axis {axis} into {len(node.output_types)} parts")
    ends = accumulate(sizes, initial=0)
    results = []
    for name, begin, size in zip(node.output_names, ends, sizes, strict=False):
        first = tuple(begin if i == axis else 0 for i in range(rank))
        shape = tuple(size if i == axis else n for i, n in enumerate(x.type.shape))
        results.append(g.add(Slice(x, first, shape, (1,) * rank, location=node.location), name))
    return tuple(results)


def _axis(node: ForeignNode, index: int, x: Value) -> int:
    """The axis that a constant operand of one element names."""
    axes = node.constant_integers(index)
    if len(axes) != 1:
        raise node.error(f"{node.kind} along {len(axes)} axes; it takes one")
    return axis_of(node, axes[0], x.type.rank)


@tflite("SPLIT")
def _import_split(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """Operands are the axis and x, which is cut into equal parts."""
    x, count = node.input(1), len(node.output_types)
    axis = _axis(node, 0, x)
    return _parts(node, g, x, axis, (x.type.shape[axis] // count,) * count)


@tflite("SPLIT_V")
def _import_split_by_sizes(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """Operands are x, the sizes (one may be -1, what remains) and the axis."""
    x, sizes = node.input(0), node.constant_integers(1)
    axis = _axis(node, 2, x)
    remaining = x.type.shape[axis] - sum(size for size in sizes if size != -1)
    if sizes.count(-1) == 1:
        sizes = tuple(remaining if size == -1 else size for size in sizes)
    return _parts(node, g, x, axis, sizes)
