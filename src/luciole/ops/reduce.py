"""Means, sums, products and extremes along axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr, maximum, minimum
from luciole.ops import common
from luciole.ops.common import Requantizer
from luciole.ops.tflite_options import axis_of


@dataclass(frozen=True, eq=False, repr=False)
class Reduction(Operator):
    """Base of operators that make one number of all elements along `axes`, which disappear unless `keep_dims`."""

    x: Value
    axes: tuple[int, ...]
    keep_dims: bool = False

    @property
    def count(self) -> int:
        """Of how many elements each result is made."""
        return math.prod(self.x.type.shape[axis] for axis in self.axes)

    def reduced_shape(self) -> Shape:
        """The shape of the result. Raises `CompileError` when the axes are none of x, or there is nothing to reduce."""
        x = self.x.type
        if len(set(self.axes)) != len(self.axes) or any(not 0 <= axis < x.rank for axis in self.axes):
            raise self.error(f"axes {list(self.axes)} must be different ones of 0..{x.rank - 1}")
        if self.count < 1:
            raise self.error(f"the {self.kind} of no elements")
        return tuple(1 if i in self.axes else s for i, s in enumerate(x.shape) if self.keep_dims or i not in self.axes)

    def kernel_shapes(self) -> dict[str, Shape]:
        """x with neighboring axes merged that are both reduced or both kept, y with the kept ones."""
        sizes = [size for size, _ in self._groups()]
        return {"x": tuple(sizes), "y": tuple(size for size, is_reduced in self._groups() if not is_reduced)}

    def _groups(self) -> list[tuple[int, bool]]:
        """Sizes of the merged axes, and whether each is reduced."""
        groups: list[tuple[int, bool]] = []
        for axis, size in enumerate(self.x.type.shape):
            is_reduced = axis in self.axes
            if size == 1:
                continue
            if groups and groups[-1][1] == is_reduced:
                groups[-1] = (groups[-1][0] * size, is_reduced)
            else:
                groups.append((size, is_reduced))
        return groups

    @contextmanager
    def element_loops(self, k: LoopBuilder, v: Views, kept: tuple[Register, ...]) -> Iterator[Expr]:
        """Loops over the elements of x that become one result, whose indices are `kept`."""
        groups = self._groups()
        with k.nest("r", *(size for size, is_reduced in groups if is_reduced)) as reduced:
            outer, inner = iter(kept), iter(reduced)
            yield v.x[tuple(next(inner if is_reduced else outer) for _, is_reduced in groups)]


@operator("mean")
class Mean(Reduction):
    """y = the mean of x along `axes`, which disappear unless `keep_dims`.

    Floats: the sum divided by the number of elements. int8: the sum minus number * zero point is requantized with a
    multiplier that the number divides, see `arithmetic.mean_multiplier`.
    """

    rounding: Rounding = "tflite"

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in (*common.FLOATS, DType.I8):
            raise self.error("x must be f32, f64 or i8", "unsupported-types")
        return TensorType(x.dtype, self.reduced_shape(), self.quant)

    def compute(self, x: Array) -> Array:
        shape = self.infer().shape
        if not common.is_int8(self.x):
            total = x.sum(axis=self.axes, dtype=x.dtype) / x.dtype.type(self.count)
            return np.asarray(total, x.dtype).reshape(shape)
        zero = common.operand_quant(self, self.x).zero_point
        total = x.astype(np.int64).sum(axis=self.axes) - self.count * zero
        return self.requantizer().compute(total).astype(np.int8).reshape(shape)

    def requantizer(self) -> Requantizer:
        """How the int32 sums become the result."""
        source, target = common.operand_quant(self, self.x), common.result_quant(self)
        formula = arithmetic.float_mean_multiplier if self.rounding == "onnx" else arithmetic.mean_multiplier
        multiplier = formula(source.scale, target.scale, self.count)
        return Requantizer(
            (multiplier,), target.zero_point, -128, 127, self.rounding, self.count * common.reach(source)
        )

    def loops(self, k: LoopBuilder, v: Views) -> None:
        is_int8 = common.is_int8(self.x)
        with k.nest("i", *v.y.shape) as kept:
            zero = -self.count * common.operand_quant(self, self.x).zero_point if is_int8 else None
            total = k.define("total", common.float_zero(self.x.type.dtype) if zero is None else zero)
            with self.element_loops(k, v, kept) as element:
                total += common.widened(element)
            if is_int8:
                v.y[tuple(kept)] = self.requantizer().emit_constant(total).cast(DType.I8)
            else:
                v.y[tuple(kept)] = total / float(self.count)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4, 5), (1, 2), keep_dims=True)
        yield cls(s.f32(3, 4), (0, 1))
        yield cls(s.f32(2, 1, 3), (1,))
        yield cls(s.f64(3, 4), (1,))
        yield cls(s.i8(1, 4, 5, 3, zero=-128), (1, 2), quant=s.quant(0.05, -128))
        yield cls(s.i8(2, 3, 4, 2, zero=11), (0, 2), keep_dims=True, quant=s.quant(0.05, 60))
        yield cls(s.i8(3, 7, scale=0.5), (1,), rounding="tflite-single", quant=s.quant(0.1, -1))
        yield cls(s.i8(40, zero=-3), (0,), quant=s.quant(0.05, -3))
        yield cls(s.i8(2, 6, 9, zero=-3), (1,), rounding="onnx", quant=s.quant(0.025, -3))


@dataclass(frozen=True, eq=False, repr=False)
class PlainReduction(Reduction):
    """Base of reductions of floats and of plain integers."""

    #: Element types beside those.
    other_types: ClassVar[tuple[DType, ...]] = ()

    #: Whether the result is one of the elements, whatever these stand for.
    chooses: ClassVar[bool] = False

    def infer(self) -> TensorType:
        x = self.x.type
        is_quantized = x.quant is not None and not self.chooses
        if is_quantized or x.dtype not in (*common.FLOATS, *common.PLAIN_INTEGERS, *self.other_types):
            raise self.error("x must be floats, or integers without quantization", "unsupported-types")
        return TensorType(x.dtype, self.reduced_shape(), common.moved_quant(self, self.x))

    def initial(self) -> float | int:
        """What the result is before the first element."""
        raise NotImplementedError

    def joined(self, element: Expr, result: Expr) -> Expr:
        """The result with one more element."""
        raise NotImplementedError

    def reduce_array(self, x: Array) -> Array:
        """The numpy meaning, with the axes kept."""
        raise NotImplementedError

    def compute(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.reduce_array(x), x.dtype).reshape(self.reduced_shape())

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as kept:
            result = k.define("result", Constant(self.initial(), self.x.type.dtype))
            with self.element_loops(k, v, kept) as element:
                result.set(self.joined(k.define("x", element), result))
            v.y[tuple(kept)] = result

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4, 5), (1, 2), keep_dims=True)
        yield cls(s.f32(3, 4), (0, 1))
        yield cls(s.f32(2, 3), ())
        yield cls(s.array(np.array([[1, np.nan, 3], [-np.inf, 2, -1]], np.float32)), (1,))
        for dtype in (DType.F64, *common.SAMPLED_INTEGERS, *cls.other_types):
            yield cls(s.numbers(dtype, 3, 7), (0,))
        if cls.chooses:
            yield cls(s.i8(2, 5, 3, zero=-7), (1,), keep_dims=True)


@operator("reduce_sum")
class ReduceSum(PlainReduction):
    """y = the sum of x along `axes`, which disappear unless `keep_dims`. Integers wrap."""

    def initial(self) -> float | int:
        return 0

    def joined(self, element: Expr, result: Expr) -> Expr:
        return result + element

    def reduce_array(self, x: Array) -> Array:
        return np.asarray(x.sum(axis=self.axes, dtype=x.dtype, keepdims=True))


@operator("reduce_product")
class ReduceProduct(PlainReduction):
    """y = the product of x along `axes`, which disappear unless `keep_dims`. Integers wrap."""

    def initial(self) -> float | int:
        return 1

    def joined(self, element: Expr, result: Expr) -> Expr:
        return result * element

    def reduce_array(self, x: Array) -> Array:
        return np.asarray(x.prod(axis=self.axes, dtype=x.dtype, keepdims=True))


@operator("reduce_maximum")
class ReduceMaximum(PlainReduction):
    """y = the greatest of x along `axes`, which disappear unless `keep_dims`; NaN where one is a NaN."""

    other_types = (DType.BOOL,)
    chooses = True

    def initial(self) -> float | int:
        dtype = self.x.type.dtype
        return -np.inf if dtype.is_float else dtype.limits[0] if dtype.is_integer else 0

    def joined(self, element: Expr, result: Expr) -> Expr:
        if element.dtype is DType.BOOL:
            return element | result
        return common.greater_or_nan(element, result) if element.dtype.is_float else maximum(element, result)

    def reduce_array(self, x: Array) -> Array:
        return np.asarray(x.max(axis=self.axes, keepdims=True))


@operator("reduce_minimum")
class ReduceMinimum(PlainReduction):
    """y = the smallest of x along `axes`, which disappear unless `keep_dims`; NaN where one is a NaN."""

    other_types = (DType.BOOL,)
    chooses = True

    def initial(self) -> float | int:
        dtype = self.x.type.dtype
        return np.inf if dtype.is_float else dtype.limits[1] if dtype.is_integer else 1

    def joined(self, element: Expr, result: Expr) -> Expr:
        if element.dtype is DType.BOOL:
            return element & result
        return common.smaller_or_nan(element, result) if element.dtype.is_float else minimum(element, result)

    def reduce_array(self, x: Array) -> Array:
        return np.asarray(x.min(axis=self.axes, keepdims=True))


@tflite("MEAN")
def _import_mean(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand holds the axes; a repeated one counts once."""
    x = node.input(0)
    axes = tuple(sorted({axis_of(node, axis, x.type.rank) for axis in node.constant_integers(1)}))
    keep_dims, quant = node.boolean("keep_dims", False), node.output_type.quant
    return g.add(Mean(x, axes, keep_dims=keep_dims, quant=quant, location=node.location), node.name)


_ONNX_KINDS: dict[str, type[Mean] | type[PlainReduction]] = {
    "ReduceMean": Mean,
    "ReduceSum": ReduceSum,
    "ReduceProd": ReduceProduct,
    "ReduceMax": ReduceMaximum,
    "ReduceMin": ReduceMinimum,
}


def onnx_axes(node: ForeignNode, rank: int) -> tuple[int, ...]:
    """The axes of a reduction, in order: the second operand; without it all, or none where `noop_with_empty_axes`."""
    axes = node.constant_integers(1) if node.optional(1) is not None else ()
    if not axes and not node.integer("noop_with_empty_axes", 0):
        return tuple(range(rank))
    return tuple(sorted({axis_of(node, axis, rank) for axis in axes}))


def onnx_reduced(node: ForeignNode, g: GraphBuilder, x: Value, kind: str, name: str) -> Value:
    """x reduced as a node says, in the way of `ReduceSum` or another kind; itself where no axis is reduced."""
    axes = onnx_axes(node, x.type.rank)
    if not axes:
        return x
    op = _ONNX_KINDS[kind](x, axes, keep_dims=bool(node.integer("keepdims", 1)), location=node.location)
    return g.add(op, name)


@onnx(*_ONNX_KINDS)
def _import_reduction(node: ForeignNode, g: GraphBuilder) -> Value:
    return onnx_reduced(node, g, node.input(0), node.kind, node.name)


@onnx("GlobalAveragePool")
def _import_global_average_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """The mean over all axes but batch and channels, which stay with size one."""
    x = node.input(0)
    if x.type.rank < 3:
        raise node.error(f"GlobalAveragePool of {x.type}, which has no spatial dimensions")
    return g.add(Mean(x, tuple(range(2, x.type.rank)), keep_dims=True, location=node.location), node.name)
