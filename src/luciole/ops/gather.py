"""Elements of a tensor at positions that another tensor holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr, Operand, clamp, select
from luciole.ops import common
from luciole.ops.reshape import reshaped
from luciole.ops.slice import Slice
from luciole.ops.tflite_options import axis_of

INDEX_TYPES = (DType.I32, DType.I64)


def check_indices(op: Operator, indices: Value, name: str = "indices") -> None:
    """Raise `CompileError` when an operand cannot hold positions."""
    if indices.type.dtype not in INDEX_TYPES:
        raise op.error(f"{name} must be i32 or i64", "unsupported-types")


def positions_of(indices: Array, size: int) -> Array:
    """Indices along an axis of `size` as positions: negative ones count from the end, others outside are clamped."""
    wide = indices.astype(np.int64)
    return np.clip(np.where(wide < 0, wide + size, wide), 0, size - 1)


def position_of(indices: Value, element: Expr, size: int) -> Expr:
    """The kernel expression of `positions_of`; the bare index where a constant holds nothing else."""
    if indices.data is not None and bool(np.all((indices.data >= 0) & (indices.data < size))):
        return element.cast(DType.INDEX)
    dtype = element.dtype
    wrapped = select(element < Constant(0, dtype), element + Constant(size, dtype), element)
    return clamp(wrapped, 0, size - 1).cast(DType.INDEX)


@operator("gather")
class Gather(Operator):
    """y[i..., j..., k...] = x[i..., indices[j...], k...], where `axis` of x comes behind i.

    A negative index counts from the end of the axis. One that is outside takes the nearest element, so that nothing
    beside x is ever read.
    """

    takes_halves = True

    x: Value
    indices: Value
    axis: int = 0

    def infer(self) -> TensorType:
        x = self.x.type
        check_indices(self, self.indices)
        if not 0 <= self.axis < x.rank:
            raise self.error(f"axis {self.axis} is none of the {x.rank} axes")
        if min(x.shape[self.axis], self.indices.type.elements) < 1:
            raise self.error("there is nothing to gather")
        shape = (*x.shape[: self.axis], *self.indices.type.shape, *x.shape[self.axis + 1 :])
        return TensorType(x.dtype, shape, common.moved_quant(self, self.x))

    def compute(self, x: Array, indices: Array) -> Array:
        return np.asarray(x.take(positions_of(indices, x.shape[self.axis]), axis=self.axis))

    def kernel_shapes(self) -> dict[str, Shape]:
        """The axes before `axis` as one, those behind as one."""
        shape, count = self.x.type.shape, self.indices.type.elements
        outer, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        return {"x": (outer, shape[self.axis], inner), "indices": (count,), "y": (outer, count, inner)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        outer, count, inner = v.y.shape
        with k.loop("n", outer) as n, k.loop("j", count) as j:
            position = k.define("position", position_of(self.indices, v.indices[j], v.x.shape[1]), DType.INDEX)
            with k.loop("i", inner) as i:
                v.y[n, j, i] = v.x[n, position, i]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 3), s.constant(np.array([[3, 0], [1, 1]], np.int32)))
        yield cls(s.i8(2, 5, 3, zero=4), s.i32(4, low=-9, high=9), 1)
        yield cls(s.i32(3, 4), s.constant(np.array([-1, 2, -4], np.int64)), 1)
        yield cls(s.f32(6), s.i32(low=-6, high=6))


@operator("gather_elements")
class GatherElements(Operator):
    """y[i, j, ...] = x[i, indices[i, j, ...], ...], where the index takes the place of that of `axis`.

    No axis of `indices` is longer than that of x but `axis`. Negative indices and those outside as in `gather`.
    """

    x: Value
    indices: Value
    axis: int = 0

    def infer(self) -> TensorType:
        x, indices = self.x.type, self.indices.type
        check_indices(self, self.indices)
        check_elements(self, self.x, self.indices, self.axis)
        return TensorType(x.dtype, indices.shape, common.moved_quant(self, self.x))

    def compute(self, x: Array, indices: Array) -> Array:
        where = np.indices(indices.shape, sparse=True)
        positions = positions_of(indices, x.shape[self.axis])
        return np.ascontiguousarray(x[(*where[: self.axis], positions, *where[self.axis + 1 :])])

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as indices:
            place: list[Operand] = list(indices)
            place[self.axis] = position_of(self.indices, v.indices[tuple(indices)], v.x.shape[self.axis])
            v.y[tuple(indices)] = v.x[tuple(place)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 4), s.i32(2, 4, low=-5, high=5))
        yield cls(s.i8(2, 3, 2, zero=1), s.constant(np.array([[[2], [-1], [0], [1]]], np.int64)), 1)


def check_elements(op: Operator, x: Value, indices: Value, axis: int) -> None:
    """Raise `CompileError` when indices do not stand element by element for those of x along an axis."""
    shape, other = x.type.shape, indices.type.shape
    if len(shape) != len(other) or not 0 <= axis < len(shape):
        raise op.error(f"x and indices must have one rank, above axis {axis}")
    if any(n > m for a, (n, m) in enumerate(zip(other, shape, strict=True)) if a != axis) or min(other) < 1:
        raise op.error(f"indices {list(other)} reach outside of x {list(shape)}")


@operator("gather_nd")
class GatherNd(Operator):
    """y[b..., j..., k...] = x[b..., indices[b..., j..., 0], indices[b..., j..., 1], ..., k...].

    `batch` axes b are the same in x and in `indices`, whose last axis holds the positions along the axes of x behind
    them. Negative indices and those outside as in `gather`.
    """

    x: Value
    indices: Value
    batch: int = 0

    def infer(self) -> TensorType:
        x, indices = self.x.type, self.indices.type
        check_indices(self, self.indices)
        check_tuples(self, self.x, self.indices, self.batch)
        shape = (*indices.shape[:-1], *x.shape[self.batch + indices.shape[-1] :])
        return TensorType(x.dtype, shape, common.moved_quant(self, self.x))

    def compute(self, x: Array, indices: Array) -> Array:
        count = indices.shape[-1]
        flat = x.reshape(-1, *x.shape[self.batch :])
        rows = indices.reshape(len(flat), -1, count)
        sizes = x.shape[self.batch : self.batch + count]
        where = [positions_of(rows[:, :, axis], size) for axis, size in enumerate(sizes)]
        return np.ascontiguousarray(flat[(np.arange(len(flat))[:, None], *where)]).reshape(self.infer().shape)

    def kernel_shapes(self) -> dict[str, Shape]:
        """The batch axes, the rows of indices, and the axes behind those that are indexed, each as one."""
        return tuple_shapes(self.x.type.shape, self.indices.type.shape, self.batch, ("x", "y"))

    def loops(self, k: LoopBuilder, v: Views) -> None:
        batches, rows, inner = v.y.shape
        with k.loop("n", batches) as n, k.loop("j", rows) as j:
            place = tuple_position(k, self.indices, v, v.x.shape[1:-1], (n, j))
            with k.loop("i", inner) as i:
                v.y[n, j, i] = v.x[(n, *place, i)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 4, 2), s.i32(5, 2, low=-4, high=4))
        yield cls(s.i8(2, 3, 2, zero=1), s.constant(np.array([[2], [-1]], np.int64)), 1)
        yield cls(s.i32(3, 4), s.constant(np.array([[2, 1], [0, 3]], np.int32)))


def check_tuples(op: Operator, x: Value, indices: Value, batch: int) -> None:
    """Raise `CompileError` when the last axis of indices does not hold positions of x behind its batch axes."""
    shape, other = x.type.shape, indices.type.shape
    if not 0 <= batch < min(len(shape), len(other)) or other[:batch] != shape[:batch]:
        raise op.error(f"x and indices must have {batch} batch axes in common")
    if not 1 <= other[-1] <= len(shape) - batch or min(*other, *shape) < 1:
        raise op.error(f"{other[-1]} positions of each element of indices are too many or none")


def tuple_shapes(x: Shape, indices: Shape, batch: int, names: tuple[str, str]) -> dict[str, Shape]:
    """How kernels see a tensor that is indexed by rows of `indices`, the indices, and a tensor with an element a row;
    `names` are those of the two tensors.
    """
    count, batches = indices[-1], math.prod(indices[:batch])
    rows, inner = math.prod(indices[batch:-1]), math.prod(x[batch + count :])
    indexed = (batches, *x[batch : batch + count], inner)
    return {names[0]: indexed, "indices": (batches, rows, count), names[1]: (batches, rows, inner)}


def tuple_position(
    k: LoopBuilder, indices: Value, v: Views, sizes: Sequence[int], row: tuple[Operand, Operand]
) -> list[Expr]:
    """Registers with the positions that one row of indices holds."""
    elements = [v.indices[(*row, axis)] for axis in range(len(sizes))]
    return [
        k.define("position", position_of(indices, element, size), DType.INDEX)
        for element, size in zip(elements, sizes, strict=True)
    ]


#: Tables of positions that rules make have no more entries.
MAXIMUM_POSITIONS = 1 << 20


def _evenly_spaced(positions: Sequence[int]) -> range | None:
    """The range that has these positions, if there is one."""
    step = positions[1] - positions[0] if len(positions) > 1 else 1
    if step == 0 or any(b - a != step for a, b in pairwise(positions)):
        return None
    return range(positions[0], positions[0] + len(positions) * step, step)


def check_positions(node: ForeignNode, count: int) -> None:
    """Raise `CompileError` for a table of positions that is too long."""
    if count > MAXIMUM_POSITIONS:
        message = f"{node.kind} needs a table of {count} positions; the limit is {MAXIMUM_POSITIONS}"
        raise node.unsupported(message, code="too-large")


def taken(node: ForeignNode, g: GraphBuilder, x: Value, axis: int, positions: Sequence[int], name: str = "") -> Value:
    """The elements of x at known positions along an axis: a slice where they are evenly spaced."""
    shape = x.type.shape
    run = positions if isinstance(positions, range) else _evenly_spaced(positions)
    if run == range(shape[axis]):
        return x
    if run is not None:
        begin, size, strides = [0] * len(shape), list(shape), [1] * len(shape)
        begin[axis], size[axis], strides[axis] = run.start, len(run), run.step
        return g.add(Slice(x, tuple(begin), tuple(size), tuple(strides), location=node.location), name)
    indices = g.constant(np.array(positions, np.int32), name=f"{node.name}/positions")
    return g.add(Gather(x, indices, axis, location=node.location), name)


@tflite("GATHER")
def _import_gather(node: ForeignNode, g: GraphBuilder) -> Value:
    """Elements along `axis`; the indices are constant or computed, of int32 or int64."""
    if node.integer("batch_dims", 0):
        raise node.unsupported("GATHER with batch_dims is not supported")
    x = node.input(0)
    axis = axis_of(node, node.integer("axis", 0), x.type.rank)
    return g.add(Gather(x, node.input(1), axis, location=node.location), node.name)


@tflite("GATHER_ND")
def _import_gather_nd(node: ForeignNode, g: GraphBuilder) -> Value:
    """The last axis of the indices holds positions along the first axes of x."""
    return g.add(GatherNd(node.input(0), node.input(1), location=node.location), node.name)


def known_positions(node: ForeignNode, indices: Value, size: int, what: str) -> Array | None:
    """Constant indices as positions, which must be inside; None for those that are computed."""
    if indices.data is None:
        return None
    if not np.all((indices.data >= -size) & (indices.data < size)):
        raise node.error(f"{node.kind} takes an element of {what} that is outside of its {size}")
    return positions_of(indices.data, size)


@onnx("Gather")
def _import_onnx_gather(node: ForeignNode, g: GraphBuilder) -> Value:
    """Along `axis`. Constant indices that are evenly spaced make a slice."""
    x, indices = node.input(0), node.input(1)
    axis = axis_of(node, node.integer("axis", 0), x.type.rank)
    known = known_positions(node, indices, x.type.shape[axis], f"axis {axis}")
    if known is None or not known.size:
        return g.add(Gather(x, indices, axis, location=node.location), node.name)
    y = taken(node, g, x, axis, known.reshape(-1).tolist(), f"{node.name}/elements")
    shape = (*x.type.shape[:axis], *indices.type.shape, *x.type.shape[axis + 1 :])
    return y if shape == y.type.shape else reshaped(node, g, y, shape)


@onnx("GatherElements")
def _import_gather_elements(node: ForeignNode, g: GraphBuilder) -> Value:
    """An index for each element of the result."""
    x, indices = node.input(0), node.input(1)
    axis = axis_of(node, node.integer("axis", 0), x.type.rank)
    known_positions(node, indices, x.type.shape[axis], f"axis {axis}")
    return g.add(GatherElements(x, indices, axis, location=node.location), node.name)


@onnx("GatherND")
def _import_onnx_gather_nd(node: ForeignNode, g: GraphBuilder) -> Value:
    """Rows of indices, with `batch_dims` axes in common."""
    x, indices, batch = node.input(0), node.input(1), node.integer("batch_dims", 0)
    check_rows(node, x, indices, batch)
    return g.add(GatherNd(x, indices, batch, location=node.location), node.name)


def check_rows(node: ForeignNode, x: Value, indices: Value, batch: int = 0) -> None:
    """Raise `CompileError` when a constant of rows of indices reaches outside of x."""
    if indices.data is None or not indices.type.rank:
        return
    for axis, size in enumerate(x.type.shape[batch : batch + indices.type.shape[-1]]):
        column = indices.data[..., axis]
        if not np.all((column >= -size) & (column < size)):
            raise node.error(f"{node.kind} takes an element outside of axis {batch + axis} of {x.type}")
