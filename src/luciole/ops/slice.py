"""A part of a tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Part, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common
from luciole.ops.reshape import Reshape
from luciole.ops.tflite_options import axis_of


@operator("slice")
class Slice(Operator):
    """y[i0, i1, ...] = x[begin[0] + i0 * strides[0], ...], `size` elements along each axis; strides may be negative."""

    takes_halves = True

    x: Value
    begin: tuple[int, ...]
    size: tuple[int, ...]
    strides: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """The strides, 1 along every axis unless given."""
        return self.strides or (1,) * self.x.type.rank

    def infer(self) -> TensorType:
        x = self.x.type
        if {len(self.begin), len(self.size), len(self.steps)} != {x.rank}:
            raise self.error(f"begin, size and strides must have {x.rank} elements")
        for axis, (begin, size, step) in enumerate(zip(self.begin, self.size, self.steps, strict=True)):
            last = begin + (size - 1) * step
            if size < 1 or step == 0 or not (0 <= begin < x.shape[axis] and 0 <= last < x.shape[axis]):
                raise self.error(f"{size} elements from {begin} by {step} do not lie in axis {axis} of {x.shape[axis]}")
        return TensorType(x.dtype, self.size, common.moved_quant(self, self.x))

    def compute(self, x: Array) -> Array:
        positions = [
            np.arange(size) * step + begin for begin, size, step in zip(self.begin, self.size, self.steps, strict=True)
        ]
        return np.ascontiguousarray(x[np.ix_(*positions)]) if positions else x

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as indices:
            source = (i * step + begin for i, begin, step in zip(indices, self.begin, self.steps, strict=True))
            v.y[tuple(indices)] = v.x[tuple(source)]

    def parts(self) -> tuple[Part, ...]:
        """The elements from the first on, where no element that is left out stands between two that are kept."""
        x = self.x.type
        cut = [axis for axis, size in enumerate(self.size) if size > 1]
        outer = cut[0] if cut else x.rank
        is_whole = all(size == x.shape[axis] for axis, size in enumerate(self.size) if axis > outer)
        if not is_whole or any(step != 1 for axis, step in enumerate(self.steps) if self.size[axis] > 1):
            return ()
        first = sum(begin * math.prod(x.shape[axis + 1 :]) for axis, begin in enumerate(self.begin))
        return (Part("x", "y", first * x.dtype.size_bytes),)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 5, 6), (1, 0, 2), (2, 5, 3))
        yield cls(s.i8(7, 4, zero=2), (0, 3), (4, 2), (2, -2))
        yield cls(s.i8(5), (4,), (5,), (-1,))
        yield cls(s.i32(2, 3), (1, 0), (1, 1))


@tflite("SLICE")
def _import_slice(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, where to begin, and the size along each axis, where -1 is all that follows."""
    x, begin, sizes = node.input(0), node.constant_integers(1), node.constant_integers(2)
    if not len(begin) == len(sizes) == x.type.rank:
        raise node.error(f"SLICE of {x.type} from {len(begin)} numbers by {len(sizes)}")
    size = tuple(n - b if s == -1 else s for n, b, s in zip(x.type.shape, begin, sizes, strict=True))
    return g.add(Slice(x, begin, size, (1,) * len(begin), location=node.location), node.name)


@tflite("STRIDED_SLICE")
def _import_strided_slice(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x and, for its first axes, begin, end and stride, with the meaning that Python's slices have.

    Bit i of `begin_mask` or `end_mask` means that axis i has none; a bit of `shrink_axis_mask` that the axis is taken
    at `begin` and dropped.
    """
    x = node.input(0)
    begin, end, strides = (node.constant_integers(i) for i in (1, 2, 3))
    if not len(begin) == len(end) == len(strides) <= x.type.rank:
        raise node.error(f"STRIDED_SLICE of {x.type} by {len(begin)}, {len(end)} and {len(strides)} numbers")
    if 0 in strides:
        raise node.error("STRIDED_SLICE with a stride of 0")
    for name in ("ellipsis_mask", "new_axis_mask"):
        if node.integer(name, 0):
            raise node.unsupported(f"STRIDED_SLICE with {name} {node.integer(name)} is not supported")
    masks = [node.integer(name, 0) for name in ("begin_mask", "end_mask", "shrink_axis_mask")]
    ranges, kept = [range(size) for size in x.type.shape], [True] * x.type.rank
    for axis, (first, last, stride) in enumerate(zip(begin, end, strides, strict=True)):
        has_begin, has_end, is_dropped = (bool(mask >> axis & 1) for mask in (~masks[0], ~masks[1], masks[2]))
        whole = ranges[axis]
        if is_dropped:
            if not -len(whole) <= first < len(whole):
                raise node.error(f"STRIDED_SLICE takes element {first} along axis {axis} of {x.type}")
            ranges[axis], kept[axis] = range(first % len(whole), first % len(whole) + 1), False
        else:
            behind = last + first if node.boolean("offset", False) else last
            ranges[axis] = whole[first if has_begin else None : behind if has_end else None : stride]
    y = Slice(
        x,
        tuple(r.start for r in ranges),
        tuple(len(r) for r in ranges),
        tuple(r.step for r in ranges),
        location=node.location,
    )
    if all(kept):
        return g.add(y, node.name)
    shape = tuple(len(r) for r, is_kept in zip(ranges, kept, strict=True) if is_kept)
    return g.add(Reshape(g.add(y, f"{node.name}/slice"), shape, location=node.location), node.name)


def _axes(node: ForeignNode, index: int, rank: int, count: int) -> tuple[int, ...]:
    """The axes that operand `index` names, or the first ones. Raises `CompileError` when one is named twice."""
    given = node.constant_integers(index) if node.optional(index) is not None else tuple(range(count))
    axes = tuple(axis_of(node, axis, rank) for axis in given)
    if len(set(axes)) != len(axes) or len(axes) != count:
        raise node.error(f"{node.kind} of {count} axes is given {list(given)}")
    return axes


@onnx("Slice")
def _import_onnx_slice(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, starts, ends and perhaps axes and steps, with the meaning that Python's slices have."""
    x = node.input(0)
    starts, ends = node.constant_integers(1), node.constant_integers(2)
    steps = node.constant_integers(4) if node.optional(4) is not None else (1,) * len(starts)
    axes = _axes(node, 3, x.type.rank, len(starts))
    if not len(starts) == len(ends) == len(steps) or 0 in steps:
        raise node.error(f"Slice of {x.type} by {len(starts)} starts, {len(ends)} ends and steps {list(steps)}")
    ranges = [range(size) for size in x.type.shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        ranges[axis] = ranges[axis][start:end:step]
    if any(not r for r in ranges):  # for a Concat to leave out
        return g.constant(np.zeros([len(r) for r in ranges], x.type.dtype.numpy), name=node.name)
    return g.add(_slice_of(node, x, ranges), node.name)


def _slice_of(node: ForeignNode, x: Value, ranges: list[range]) -> Slice:
    """The elements of x at the positions that ranges give along each axis."""
    begin, size = tuple(r.start for r in ranges), tuple(len(r) for r in ranges)
    return Slice(x, begin, size, tuple(r.step for r in ranges), location=node.location)


@onnx("Split")
def _import_onnx_split(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """The second operand holds the sizes; without it parts are equal, the last one smaller where `num_outputs`."""
    x, count = node.input(0), len(node.output_names)
    axis = axis_of(node, node.integer("axis", 0), x.type.rank)
    size = x.type.shape[axis]
    if node.optional(1) is not None:
        sizes = node.constant_integers(1)
    else:
        if node.integer("num_outputs", count) != count or (size % count and "num_outputs" not in node.attributes):
            raise node.error(f"Split of {x.type} along axis {axis} into {count} equal parts")
        part = -(-size // count)
        sizes = (*(part,) * (count - 1), size - part * (count - 1))
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        raise node.error(f"Split of {x.type} along axis {axis} into parts of {list(sizes)}")
    results, begin = [], 0
    for name, length in zip(node.output_names, sizes, strict=True):
        ranges = [range(n) for n in x.type.shape]
        ranges[axis] = range(begin, begin + length)
        if length:
            results.append(g.add(_slice_of(node, x, ranges), name))
        else:  # for a Concat to leave out
            results.append(g.constant(np.zeros([len(r) for r in ranges], x.type.dtype.numpy), name=name))
        begin += length
    return tuple(results)
