"""A regular part of a tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder, nested_loops
from luciole.ops.reshape import Reshape


@operator("slice")
class Slice(Operator):
    """y[i, j, ...] = x[begin[0] + i * strides[0], begin[1] + j * strides[1], ...]; strides may be negative."""

    x: Value
    begin: tuple[int, ...]
    size: tuple[int, ...]
    strides: tuple[int, ...]

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if not len(self.begin) == len(self.size) == len(self.strides) == len(shape):
            raise self.error(f"begin, size and strides need {len(shape)} numbers each")
        for extent, begin, size, stride in zip(shape, self.begin, self.size, self.strides, strict=True):
            last = begin + (size - 1) * stride
            if size < 1 or stride == 0 or not 0 <= begin < extent or not 0 <= last < extent:
                raise self.error(f"{size} elements from {begin} in steps of {stride} do not lie in an axis of {extent}")
        return self.x.type.with_shape(self.size)

    def compute(self, x: Array) -> Array:
        indices = (np.arange(n) * s + b for b, n, s in zip(self.begin, self.size, self.strides, strict=True))
        return np.ascontiguousarray(x[np.ix_(*indices)]) if self.begin else x

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with nested_loops(k, v.y.shape) as indices:
            source = [i * s + b for i, b, s in zip(indices, self.begin, self.strides, strict=True)]
            v.y[tuple(indices)] = v.x[tuple(source)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 5), (1, 0), (2, 5), (1, 1))
        yield cls(s.i8(1, 6, 4), (0, 5, 1), (1, 3, 2), (1, -2, 2))
        yield cls(s.i8(7), (6,), (7,), (-1,))


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
