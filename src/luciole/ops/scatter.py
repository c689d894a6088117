"""A tensor with some elements replaced, or combined with others, at positions that another tensor holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Operand, maximum, minimum
from luciole.ops import common
from luciole.ops.gather import (
    check_elements,
    check_indices,
    check_rows,
    check_tuples,
    known_positions,
    position_of,
    positions_of,
    tuple_position,
    tuple_shapes,
)
from luciole.ops.tflite_options import axis_of

#: What an update does with the element that is there, for kernels and for numpy. The greater of two is the first where
#: it is greater, so that both agree on NaNs.
REDUCTIONS: dict[str, tuple[Callable[[Expr, Expr], Expr], Callable[[Array, Array], Array]]] = {
    "none": (lambda old, new: new, lambda old, new: new),
    "add": (lambda old, new: old + new, np.add),
    "mul": (lambda old, new: old * new, np.multiply),
    "max": (maximum, lambda old, new: np.where(old > new, old, new)),
    "min": (minimum, lambda old, new: np.where(old < new, old, new)),
}


@dataclass(frozen=True, eq=False, repr=False)
class _Scatter(Operator):
    """What the operators of this file share: x, where, and the updates, applied in row-major order of the indices."""

    x: Value
    indices: Value
    updates: Value

    @property
    def combined(self) -> str:
        """The reduction."""
        raise NotImplementedError

    def _result(self, updates: Shape) -> TensorType:
        """The type of the result. Raises `CompileError` when the updates have another shape than this."""
        x = self.x.type
        check_indices(self, self.indices)
        if self.combined not in REDUCTIONS:
            raise self.error(f"reduction {self.combined!r} is none of {', '.join(REDUCTIONS)}")
        if (self.updates.type.dtype, self.updates.type.quant) != (x.dtype, x.quant):
            raise self.error("x and updates must be of one element type and quantization", "unsupported-types")
        if self.updates.type.shape != updates:
            raise self.error(f"updates are {list(self.updates.type.shape)}, not {list(updates)}")
        if self.combined in ("add", "mul") and (x.quant is not None or x.dtype is DType.BOOL):
            raise self.error(f"x cannot be combined by {self.combined}", "unsupported-types")
        return TensorType(x.dtype, x.shape, common.moved_quant(self, self.x))

    def _copy(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("c", *v.x.shape) as indices:
            v.y[tuple(indices)] = v.x[tuple(indices)]


@operator("scatter_elements")
class ScatterElements(_Scatter):
    """y = x but y[i, indices[i, j, ...], ...] = updates[i, j, ...], where the index takes the place of that of `axis`.

    With a `reduction` (add, mul, max, min) the update is combined with the element that is there; where several meet,
    they are applied in row-major order. Indices as in `gather`.
    """

    axis: int = 0
    reduction: str = "none"

    @property
    def combined(self) -> str:
        return self.reduction

    def infer(self) -> TensorType:
        check_elements(self, self.x, self.indices, self.axis)
        return self._result(self.indices.type.shape)

    def compute(self, x: Array, indices: Array, updates: Array) -> Array:
        y, combine = x.copy(), REDUCTIONS[self.reduction][1]
        positions = positions_of(indices, x.shape[self.axis])
        for where in np.ndindex(indices.shape):
            place = (*where[: self.axis], positions[where], *where[self.axis + 1 :])
            y[place] = combine(y[place], updates[where])
        return y

    def loops(self, k: LoopBuilder, v: Views) -> None:
        self._copy(k, v)
        combine = REDUCTIONS[self.reduction][0]
        with k.nest("i", *v.updates.shape) as indices:
            position = position_of(self.indices, v.indices[tuple(indices)], v.x.shape[self.axis])
            place: list[Operand] = list(indices)
            place[self.axis] = k.define("position", position, DType.INDEX)
            v.y[tuple(place)] = combine(v.y[tuple(place)], v.updates[tuple(indices)])

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 4), s.i32(2, 4, low=-5, high=5), s.f32(2, 4), reduction="add")
        yield cls(s.i8(2, 3, zero=1), s.constant(np.array([[2], [-1]], np.int64)), s.i8(2, 1, zero=1), 1)
        yield cls(s.i32(5), s.i32(3, low=-5, high=5), s.i32(3), reduction="max")


@operator("scatter_nd")
class ScatterNd(_Scatter):
    """y = x but y[indices[j..., 0], indices[j..., 1], ..., k...] = updates[j..., k...].

    With a `reduction` (add, mul, max, min) the update is combined with the element that is there; where several meet,
    they are applied in row-major order. Indices as in `gather`.
    """

    reduction: str = "none"

    @property
    def combined(self) -> str:
        return self.reduction

    def infer(self) -> TensorType:
        check_tuples(self, self.x, self.indices, 0)
        indices = self.indices.type.shape
        return self._result((*indices[:-1], *self.x.type.shape[indices[-1] :]))

    def compute(self, x: Array, indices: Array, updates: Array) -> Array:
        y, combine, count = x.copy(), REDUCTIONS[self.reduction][1], indices.shape[-1]
        rows = indices.reshape(-1, count)
        columns = [positions_of(rows[:, axis], x.shape[axis]) for axis in range(count)]
        for place, update in zip(zip(*columns, strict=True), updates.reshape(-1, *x.shape[count:]), strict=True):
            y[place] = combine(y[place], update)
        return y

    def kernel_shapes(self) -> dict[str, Shape]:
        """The rows of indices, and the axes behind those that are indexed, each as one."""
        shapes = tuple_shapes(self.x.type.shape, self.indices.type.shape, 0, ("x", "updates"))
        return shapes | {"y": shapes["x"]}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        self._copy(k, v)
        combine = REDUCTIONS[self.reduction][0]
        _, rows, inner = v.updates.shape
        with k.loop("j", rows) as j:
            place = tuple_position(k, self.indices, v, v.x.shape[1:-1], (0, j))
            with k.loop("i", inner) as i:
                v.y[(0, *place, i)] = combine(v.y[(0, *place, i)], v.updates[0, j, i])

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 4, 2), s.i32(5, 2, low=-4, high=4), s.f32(5, 2), reduction="mul")
        yield cls(s.i8(4, 3, zero=1), s.constant(np.array([[2], [-1]], np.int64)), s.i8(2, 3, zero=1))
        yield cls(s.f32(6), s.i32(3, 1, low=0, high=6), s.f32(3), reduction="min")


@onnx("ScatterElements", "Scatter")
def _import_scatter_elements(node: ForeignNode, g: GraphBuilder) -> Value:
    """An index for each update, along `axis`."""
    x, indices, updates = (node.input(index) for index in range(3))
    axis = axis_of(node, node.integer("axis", 0), x.type.rank)
    known_positions(node, indices, x.type.shape[axis], f"axis {axis}")
    reduction = node.text("reduction", "none")
    return g.add(ScatterElements(x, indices, updates, axis, reduction, location=node.location), node.name)


@onnx("ScatterND")
def _import_scatter_nd(node: ForeignNode, g: GraphBuilder) -> Value:
    """Rows of indices, each with an update."""
    x, indices, updates = (node.input(index) for index in range(3))
    check_rows(node, x, indices)
    return g.add(ScatterNd(x, indices, updates, node.text("reduction", "none"), location=node.location), node.name)
