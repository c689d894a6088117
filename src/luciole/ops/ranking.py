"""Where the greatest elements are along an axis, the first of them in order, and running sums and products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr, binary, select
from luciole.ops import common
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import axis_of


@dataclass(frozen=True, eq=False, repr=False)
class AlongAxis(Operator):
    """Base of operators that go along one axis of numbers."""

    #: Whether the result only tells of the order of elements, so that x may have a scale and zero point.
    ranks: ClassVar[bool] = False

    x: Value
    axis: int

    def check(self) -> None:
        """Raise `CompileError` for operands without such an axis, and for other types."""
        x = self.x.type
        is_quantized = x.quant is not None and (x.quant.is_per_channel or not self.ranks)
        if is_quantized or x.dtype not in (*common.FLOATS, *common.PLAIN_INTEGERS):
            raise self.error("x must be floats, or integers without quantization", "unsupported-types")
        if not 0 <= self.axis < x.rank or x.shape[self.axis] < 1:
            raise self.error(f"axis {self.axis} must be one of 0..{x.rank - 1}, with elements")

    def split(self, size: int) -> Shape:
        """A shape with `size` elements along the axis, as what stands before it, the axis, and what is behind."""
        shape = self.x.type.shape
        return (math.prod(shape[: self.axis]), size, math.prod(shape[self.axis + 1 :]))


def _is_nan(x: Expr) -> Expr:
    return common.is_nan(x) if x.dtype.is_float else Constant(0, DType.BOOL)


@dataclass(frozen=True, eq=False, repr=False)
class ArgExtremum(AlongAxis):
    """Base of the positions of the greatest or smallest elements; a NaN counts as more extreme than any number.

    The axis keeps one element. Of equal elements the first one counts, or the last one.
    """

    last: bool = False

    ranks = True

    def infer(self) -> TensorType:
        self.check()
        shape = self.x.type.shape
        return TensorType(DType.I64, (*shape[: self.axis], 1, *shape[self.axis + 1 :]))

    def position(self, x: Array) -> Array:
        """The first positions in numpy."""
        raise NotImplementedError

    def is_beyond(self, x: Expr, best: Expr) -> Expr:
        """Whether an element is more extreme than the best so far."""
        raise NotImplementedError

    def compute(self, x: Array) -> Array:
        found = self.position(np.flip(x, self.axis) if self.last else x)
        return np.asarray(x.shape[self.axis] - 1 - found if self.last else found, np.int64)

    def kernel_shapes(self) -> dict[str, Shape]:
        return {"x": self.split(self.x.type.shape[self.axis]), "y": self.split(1)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        outer, size, inner = v.x.shape
        with k.nest("o", outer, inner) as (o, i):
            best = k.define("best", v.x[o, 0, i])
            position = k.define("position", Constant(0, DType.I32))
            with k.loop("j", 1, size) as j:
                x = k.define("x", v.x[o, j, i])
                beyond = binary("or", self.is_beyond(x, best), x.eq(best)) if self.last else self.is_beyond(x, best)
                new_nan = _is_nan(x) if self.last else binary("and", _is_nan(x), ~_is_nan(best))
                is_new = k.define("is_new", binary("or", beyond, new_nan))
                best.set(select(is_new, x, best))
                position.set(select(is_new, j.cast(DType.I32), position))
            v.y[o, 0, i] = position.cast(DType.I64)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 5, 3), 1)
        rows = np.array([[1, 3, np.nan, 3, np.nan], [2, 1, 2, 1, 2], [-np.inf, np.inf, 0, -np.inf, np.inf]], np.float32)
        for last in (False, True):
            yield cls(s.array(rows), 1, last=last)
            yield cls(s.array(s.random.integers(-3, 3, (4, 6)).astype(np.int8)), 0, last=last)
        yield cls(s.numbers(DType.U32, 9), 0)
        yield cls(s.i8(2, 9, zero=4), 1)


@operator("arg_max")
class ArgMax(ArgExtremum):
    """y = where the greatest element is along the axis, as i64; the axis keeps one element.

    Of equal ones the first counts, or the `last`; a NaN is greater than any number.
    """

    def position(self, x: Array) -> Array:
        return np.asarray(np.argmax(x, axis=self.axis, keepdims=True))

    def is_beyond(self, x: Expr, best: Expr) -> Expr:
        return x > best


@operator("arg_min")
class ArgMin(ArgExtremum):
    """y = where the smallest element is along the axis, as i64; the axis keeps one element.

    Of equal ones the first counts, or the `last`; a NaN is smaller than any number.
    """

    def position(self, x: Array) -> Array:
        return np.asarray(np.argmin(x, axis=self.axis, keepdims=True))

    def is_beyond(self, x: Expr, best: Expr) -> Expr:
        return x < best


@dataclass(frozen=True, eq=False, repr=False)
class Running(AlongAxis):
    """Base of running totals along an axis.

    `exclusive` leaves out the element itself, `backward` begins at the end.
    """

    exclusive: bool = False
    backward: bool = False

    def infer(self) -> TensorType:
        self.check()
        return self.x.type

    def initial(self) -> int:
        """The total of nothing."""
        raise NotImplementedError

    def joined_array(self, total: Array, x: Array) -> Array:
        """The total with one more element, in numpy."""
        raise NotImplementedError

    def joined(self, total: Expr, x: Expr) -> Expr:
        """The kernel expression of `joined_array`."""
        raise NotImplementedError

    def compute(self, x: Array) -> Array:
        size = x.shape[self.axis]
        source = np.moveaxis(x, self.axis, 0)
        result = np.empty_like(source)
        total = np.full(source.shape[1:], self.initial(), x.dtype)
        with np.errstate(all="ignore"):
            for step in range(size):
                position = size - 1 - step if self.backward else step
                joined = self.joined_array(total, source[position])
                result[position] = total if self.exclusive else joined
                total = joined
        return np.ascontiguousarray(np.moveaxis(result, 0, self.axis))

    def kernel_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(("x", "y"), self.split(self.x.type.shape[self.axis]))

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        outer, size, inner = v.x.shape
        with k.nest("o", outer, inner) as (o, i):
            total = k.define("total", Constant(self.initial(), self.x.type.dtype))
            with k.loop("j", size) as j:
                position = size - 1 - j if self.backward else j
                x = k.define("x", v.x[o, position, i])
                if self.exclusive:
                    v.y[o, position, i] = total
                total.set(self.joined(total, x))
                if not self.exclusive:
                    v.y[o, position, i] = total

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 5, 3), 1)
        yield cls(s.f32(7), 0, exclusive=True, backward=True)
        yield cls(s.numbers(DType.I8, 4, 6), 0, exclusive=True)
        yield cls(s.numbers(DType.I32, 4, 6), 1, backward=True)


@operator("running_sum")
class RunningSum(Running):
    """y = the sum of x along the axis up to each element. Integers wrap."""

    def initial(self) -> int:
        return 0

    def joined_array(self, total: Array, x: Array) -> Array:
        return np.asarray(total + x)

    def joined(self, total: Expr, x: Expr) -> Expr:
        return total + x


@operator("running_product")
class RunningProduct(Running):
    """y = the product of x along the axis up to each element. Integers wrap."""

    def initial(self) -> int:
        return 1

    def joined_array(self, total: Array, x: Array) -> Array:
        return np.asarray(total * x)

    def joined(self, total: Expr, x: Expr) -> Expr:
        return total * x


@operator("top_k")
class TopK(AlongAxis):
    """y = the `count` greatest (or smallest) elements along the axis in order, and as i64 where they are.

    Of equal elements the first comes first; NaNs come after all numbers.
    """

    count: int
    smallest: bool = False

    def infer(self) -> tuple[TensorType, TensorType]:
        self.check()
        shape = self.x.type.shape
        if not 1 <= self.count <= shape[self.axis]:
            raise self.error(f"count {self.count} must be from 1 to the {shape[self.axis]} elements of the axis")
        result = (*shape[: self.axis], self.count, *shape[self.axis + 1 :])
        return TensorType(self.x.type.dtype, result), TensorType(DType.I64, result)

    def compute(self, x: Array) -> tuple[Array, Array]:
        rows = np.moveaxis(x, self.axis, -1)
        if self.smallest:
            order = np.argsort(rows, axis=-1, kind="stable")
        else:
            ascending = np.argsort(rows[..., ::-1], axis=-1, kind="stable")
            order = np.flip(rows.shape[-1] - 1 - ascending, -1)
        if x.dtype.kind == "f":
            are_nan = np.isnan(np.take_along_axis(rows, order, -1))
            order = np.take_along_axis(order, np.argsort(are_nan, axis=-1, kind="stable"), -1)
        order = order[..., : self.count]
        values = np.take_along_axis(rows, order, -1)
        return np.moveaxis(values, -1, self.axis).copy(), np.moveaxis(order, -1, self.axis).astype(np.int64)

    def kernel_shapes(self) -> dict[str, Shape]:
        taken = self.split(self.count)
        return {"x": self.split(self.x.type.shape[self.axis]), "y0": taken, "y1": taken}

    def _precedes(self, a: Expr, b: Expr) -> Expr:
        """Whether a comes before b whatever their positions."""
        first = a < b if self.smallest else a > b
        return binary("or", first, binary("and", ~_is_nan(a), _is_nan(b))) if a.dtype.is_float else first

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """For each result, the first in order of those that come after the result before."""
        outer, size, inner = v.x.shape
        with k.nest("o", outer, inner) as (o, i):
            last = k.define("last", v.x[o, 0, i])
            last_position = k.define("last_position", Constant(-1, DType.I32))
            with k.loop("r", self.count) as r:
                best = k.define("best", v.x[o, 0, i])
                position = k.define("position", Constant(-1, DType.I32))
                with k.loop("j", size) as j:
                    x = k.define("x", v.x[o, j, i])
                    is_equal = ~binary("or", self._precedes(last, x), self._precedes(x, last))
                    is_behind = binary("and", is_equal, j.cast(DType.I32) > last_position)
                    follows = binary("or", self._precedes(last, x), is_behind)
                    is_left = binary("or", last_position < 0, follows)
                    is_better = binary("or", position < 0, self._precedes(x, best))
                    is_new = k.define("is_new", binary("and", is_left, is_better))
                    best.set(select(is_new, x, best))
                    position.set(select(is_new, j.cast(DType.I32), position))
                v.y0[o, r, i] = best
                v.y1[o, r, i] = position.cast(DType.I64)
                last.set(best)
                last_position.set(position)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 5, 3), 1, 3)
        rows = np.array([[1, 3, np.nan, 3, np.nan], [2, 1, 2, 1, 2], [-np.inf, np.inf, 0, -np.inf, np.inf]], np.float32)
        for smallest in (False, True):
            yield cls(s.array(rows), 1, 5, smallest=smallest)
            yield cls(s.array(s.random.integers(-3, 3, (8, 2)).astype(np.int8)), 0, 4, smallest=smallest)
        yield cls(s.numbers(DType.U32, 9), 0, 2)


@onnx("ArgMax", "ArgMin")
def _import_arg_extremum(node: ForeignNode, g: GraphBuilder) -> Value:
    """The axis stays with one element unless `keepdims` is 0."""
    x, kind = node.input(0), ArgMax if node.kind == "ArgMax" else ArgMin
    axis = axis_of(node, node.integer("axis", 0), x.type.rank)
    op = kind(x, axis, last=bool(node.integer("select_last_index", 0)), location=node.location)
    found = g.add(op, node.name)
    if node.integer("keepdims", 1):
        return found
    return reshaped(node, g, found, (*x.type.shape[:axis], *x.type.shape[axis + 1 :]))


@onnx("CumSum", "CumProd")
def _import_running(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is the axis, a constant."""
    x, axes = node.input(0), node.constant_integers(1)
    if len(axes) != 1:
        raise node.error(f"{node.kind} along {len(axes)} axes")
    op = (RunningSum if node.kind == "CumSum" else RunningProduct)(
        x,
        axis_of(node, axes[0], x.type.rank),
        exclusive=bool(node.integer("exclusive", 0)),
        backward=bool(node.integer("reverse", 0)),
        location=node.location,
    )
    return g.add(op, node.name)


@onnx("TopK")
def _import_top_k(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """The second operand is the number of results, a constant; they are in order even where that is not asked for."""
    x, count = node.input(0), node.constant_integers(1)
    if len(count) != 1:
        raise node.error(f"TopK with {len(count)} numbers of results")
    axis, smallest = axis_of(node, node.integer("axis", -1), x.type.rank), not node.integer("largest", 1)
    return g.add_all(TopK(x, axis, count[0], smallest=smallest, location=node.location), node.output_names)
