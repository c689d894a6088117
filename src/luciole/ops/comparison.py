"""Comparisons, selection by them, and the greater and smaller of two, element by element, for any element type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Expr, maximum, minimum, select
from luciole.ops import common
from luciole.ops.bits import Not, Or


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Elementwise):
    """Base of comparisons of two operands of one type, which broadcast. A comparison with a NaN is false."""

    a: Value
    b: Value

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if (a.dtype, a.quant) != (b.dtype, b.quant):
            raise self.error("a and b must have one type", "unsupported-types")
        return TensorType(DType.BOOL, common.broadcast(self, a.shape, b.shape))

    def in_place_operands(self) -> tuple[str, ...]:
        return ("a", "b")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32_values(1.0, 2.0, np.nan, 0.0, np.inf), s.f32_values(1.0, 1.5, np.nan, -0.0, np.inf))
        yield cls(s.f32_values(1.0, 2.0), s.constant(np.array(np.nan, np.float32)))
        yield cls(s.f64_values(1.0, 2.0, np.nan, 0.1), s.f64_values(1.0, 1.5, np.nan, 0.30000000000000004))
        yield cls(s.numbers(DType.BOOL, 2, 8), s.numbers(DType.BOOL, 8))
        yield cls(s.i8(3, 20, zero=4), s.i8(3, 1, zero=4))
        yield from (cls(s.numbers(dtype, 2, 9), s.numbers(dtype, 2, 9)) for dtype in common.SAMPLED_INTEGERS)


@operator("equal")
class Equal(Comparison):
    """y = (a = b), with numpy's broadcasting."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a == b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return a.eq(b)


@operator("less")
class Less(Comparison):
    """y = (a < b), with numpy's broadcasting; false is less than true."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a < b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return a < b


@operator("less_equal")
class LessEqual(Comparison):
    """y = (a <= b), with numpy's broadcasting; false is less than true."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a <= b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return a <= b


@operator("select")
class Select(Elementwise):
    """y = a where the condition holds, otherwise b, with numpy's broadcasting; any element type."""

    condition: Value
    a: Value
    b: Value

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if self.condition.type.dtype is not DType.BOOL:
            raise self.error("the condition must be bool", "unsupported-types")
        if (a.dtype, a.quant) != (b.dtype, b.quant):
            raise self.error("a and b must have one type", "unsupported-types")
        shape = common.broadcast(self, self.condition.type.shape, a.shape, b.shape)
        return TensorType(a.dtype, shape, common.moved_quant(self, self.a))

    def compute(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        return select(*operands)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("a", "b")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.numbers(DType.BOOL, 2, 9), s.f32(2, 9), s.f32(9))
        yield cls(s.numbers(DType.BOOL, 2, 9), s.f64(2, 9), s.constant(np.array(np.nan)))
        yield cls(s.numbers(DType.BOOL, 3, 1), s.i8(4, zero=3), s.i8(3, 4, zero=3))
        yield cls(s.numbers(DType.BOOL, 4), s.numbers(DType.BOOL, 4), s.numbers(DType.BOOL, 4))
        yield cls(s.numbers(DType.BOOL, 6), s.numbers(DType.I64, 6), s.numbers(DType.I64, 1))


@dataclass(frozen=True, eq=False, repr=False)
class Extremum(Elementwise):
    """Base of the greater and the smaller of two operands of one type, which broadcast.

    A NaN among the two gives a NaN. Of two zeros any may be taken.
    """

    a: Value
    b: Value

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if (a.dtype, a.quant) != (b.dtype, b.quant) or a.dtype is DType.BOOL:
            raise self.error("a and b must have one type, and be numbers", "unsupported-types")
        return TensorType(a.dtype, common.broadcast(self, a.shape, b.shape), common.moved_quant(self, self.a))

    def in_place_operands(self) -> tuple[str, ...]:
        return ("a", "b")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32_values(1.0, 2.0, np.nan, 3.0, -np.inf), s.f32_values(1.5, np.nan, np.nan, 2.0, np.inf))
        yield cls(s.f32(2, 3, 4), s.f32_weights(4))
        yield cls(s.f64_values(1.0, np.nan, 0.1, -np.inf), s.f64_values(1.5, 2.0, 0.10000000000000002, -1.7e308))
        yield cls(s.i8(3, 20, zero=4), s.i8(3, 1, zero=4))
        yield from (cls(s.numbers(dtype, 2, 9), s.numbers(dtype, 9)) for dtype in common.SAMPLED_INTEGERS)


@operator("maximum")
class Maximum(Extremum):
    """y = max(a, b), with numpy's broadcasting; NaN where either is a NaN."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return common.greater_or_nan(a, b) if a.dtype.is_float else maximum(a, b)


@operator("minimum")
class Minimum(Extremum):
    """y = min(a, b), with numpy's broadcasting; NaN where either is a NaN."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return common.smaller_or_nan(a, b) if a.dtype.is_float else minimum(a, b)


@onnx("Equal")
def _import_equal(node: ForeignNode, g: GraphBuilder) -> Value:
    return g.add(Equal(node.input(0), node.input(1), location=node.location), node.name)


@onnx("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def _import_order(node: ForeignNode, g: GraphBuilder) -> Value:
    """`Greater` is `less` of the operands the other way round."""
    kind = LessEqual if node.kind.endswith("Equal") else Less
    a, b = node.input(0), node.input(1)
    if node.kind.startswith("Greater"):
        a, b = b, a
    return g.add(kind(a, b, location=node.location), node.name)


@onnx("Where")
def _import_where(node: ForeignNode, g: GraphBuilder) -> Value:
    return g.add(Select(node.input(0), node.input(1), node.input(2), location=node.location), node.name)


@onnx("Max", "Min")
def _import_extremum(node: ForeignNode, g: GraphBuilder) -> Value:
    """Of any number of operands, one after the other."""
    kind = Maximum if node.kind == "Max" else Minimum
    result = node.input(0)
    for index in range(1, len(node.inputs)):
        result = g.add(kind(result, node.input(index), location=node.location), node.name)
    return result


@onnx("IsNaN")
def _import_is_nan(node: ForeignNode, g: GraphBuilder) -> Value:
    """What is not equal to itself."""
    x = node.input(0)
    if not x.type.dtype.is_float:
        raise node.unsupported(f"IsNaN of {x.type}", code="unsupported-types")
    return g.add(Not(g.add(Equal(x, x, location=node.location)), location=node.location), node.name)


@onnx("IsInf")
def _import_is_inf(node: ForeignNode, g: GraphBuilder) -> Value:
    """Equal to one of the infinities, those that the attributes ask for."""
    x = node.input(0)
    if not x.type.dtype.is_float:
        raise node.unsupported(f"IsInf of {x.type}", code="unsupported-types")
    found = []
    for attribute, infinity in (("detect_negative", -np.inf), ("detect_positive", np.inf)):
        if node.integer(attribute, 1):
            limit = g.constant(np.array(infinity, x.type.dtype.numpy))
            found.append(g.add(Equal(x, limit, location=node.location)))
    if not found:
        return g.add(Less(x, x, location=node.location), node.name)
    return found[0] if len(found) == 1 else g.add(Or(*found, location=node.location), node.name)
