"""Functions of one element: relu, relu6, leaky_relu, logistic, tanh.

For int8 each is a table of 256 entries, made at compile time in exact integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir import fixed_point
from luciole.ir.arithmetic import Rounding
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel import elementary, elementary_double
from luciole.kernel.core import Expr, select
from luciole.kernel.evaluate import apply_intrinsic
from luciole.ops import common
from luciole.ops.comparison import Maximum, Minimum


@dataclass(frozen=True, eq=False, repr=False)
class UnaryOperator(Elementwise):
    """Base of functions of one element, f32 or i8; those of `takes_doubles` f64 too."""

    x: Value

    takes_doubles: ClassVar[bool] = False

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype is DType.F32 or (x.dtype is DType.F64 and self.takes_doubles):
            return TensorType(x.dtype, x.shape)
        if x.dtype is not DType.I8:
            raise self.error("x must be f32 or i8", "unsupported-types")
        common.operand_quant(self, self.x)
        quant = common.result_quant(self)
        try:
            self.table()
        except ValueError as problem:
            raise self.error(str(problem), "unsupported-quantization") from None
        return TensorType(DType.I8, x.shape, quant)

    def int8_table(self, source: Quant, target: Quant) -> Array:
        """The int8 results for -128..127. Raises `ValueError` when the quantizations do not fit."""
        raise NotImplementedError

    def float_array(self, x: Array) -> Array:
        """The function of a float array."""
        raise NotImplementedError

    def float_element(self, x: Expr) -> Expr:
        """The kernel expression of the function of a float."""
        raise NotImplementedError

    def table(self) -> Array:
        """The int8 results for -128..127 with the quantizations of x and of the result."""
        return self.int8_table(common.operand_quant(self, self.x), common.result_quant(self))

    def compute(self, x: Array) -> Array:
        if common.is_int8(self.x):
            return common.looked_up(self.table(), x)
        return np.asarray(self.float_array(x), x.dtype)

    def parameters(self) -> dict[str, Array]:
        return {"table": self.table()} if common.is_int8(self.x) else {}

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        return common.table_element(v.table, x) if common.is_int8(self.x) else self.float_element(x)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)


@operator("relu")
class Relu(UnaryOperator):
    """y = max(x, 0); NaN for a NaN. int8: x is requantized and clamped at the zero point."""

    rounding: Rounding = "tflite"

    takes_doubles = True

    def int8_table(self, source: Quant, target: Quant) -> Array:
        return fixed_point.relu_table(source, target, self.rounding)

    def float_array(self, x: Array) -> Array:
        return common.float_activation_array("relu", x)

    def float_element(self, x: Expr) -> Expr:
        return common.float_activation("relu", x)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 7))
        yield cls(s.f64_values(np.nan, -np.inf, np.inf, -0.0, 3e308, -5e-324))
        yield cls(s.f32_values(np.nan, -np.inf, np.inf, -0.0, 3e38, -1e-45))
        yield cls(s.i8(2, 50, zero=-9), quant=s.quant(0.03, -128))
        yield cls(s.i8(50, zero=127), rounding="tflite-single", quant=s.quant(0.07, 100))


@operator("relu6")
class Relu6(UnaryOperator):
    """y = min(max(x, 0), 6); NaN for a NaN. int8: a clamp; the result keeps the quantization of x."""

    takes_doubles = True

    def int8_table(self, source: Quant, target: Quant) -> Array:
        if target != source:
            raise ValueError(f"relu6 keeps the quantization of its operand, {source}, the result cannot have {target}")
        return fixed_point.relu6_table(source)

    def float_array(self, x: Array) -> Array:
        return common.float_activation_array("relu6", x)

    def float_element(self, x: Expr) -> Expr:
        return common.float_activation("relu6", x)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 7, low=-10, high=10))
        yield cls(s.f32_values(np.nan, -np.inf, np.inf, 6.0000005))
        yield cls(s.i8(100, scale=0.1, zero=-9), quant=s.quant(0.1, -9))


@operator("leaky_relu")
class LeakyRelu(UnaryOperator):
    """y = x for positive x, otherwise alpha * x. int8: both slopes are multipliers.

    See `arithmetic.leaky_relu_multipliers`.
    """

    alpha: float = 0.01
    rounding: Rounding = "tflite"

    takes_doubles = True

    def int8_table(self, source: Quant, target: Quant) -> Array:
        return fixed_point.leaky_relu_table(source, target, self.alpha, self.rounding)

    def float_array(self, x: Array) -> Array:
        return np.where(x > 0, x, x * x.dtype.type(self.alpha))

    def float_element(self, x: Expr) -> Expr:
        return select(x > 0.0, x, x * self.alpha)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 30), alpha=0.2)
        yield cls(s.f64(30), alpha=0.2)
        yield cls(s.i8(150, zero=4), alpha=0.1, quant=s.quant(0.04, -20))
        yield cls(s.i8(150, zero=100), alpha=-1.5, quant=s.quant(0.04, 3))


_LOGISTIC = {DType.F32: elementary.logistic, DType.F64: elementary_double.logistic}
_TANH = {DType.F32: elementary.tanh, DType.F64: elementary_double.tanh}


@operator("logistic")
class Logistic(UnaryOperator):
    """y = 1 / (1 + exp(-x)). int8: TensorFlow Lite's fixed-point function; the result is `LOGISTIC_OUTPUT`."""

    def int8_table(self, source: Quant, target: Quant) -> Array:
        return fixed_point.logistic_table(source, target)

    takes_doubles = True

    def float_array(self, x: Array) -> Array:
        return apply_intrinsic(_LOGISTIC[DType.of(x)], x)

    def float_element(self, x: Expr) -> Expr:
        return _LOGISTIC[x.dtype](x)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 60, low=-20, high=20))
        yield cls(s.f64(2, 30, low=-50, high=50))
        yield cls(s.f32_values(np.inf, -np.inf, np.nan, 0.0, -0.0, 100.0, -95.0, -88.0, 1e-45))
        yield cls(s.i8(200, scale=0.06, zero=5), quant=fixed_point.LOGISTIC_OUTPUT)


@operator("tanh")
class Tanh(UnaryOperator):
    """y = tanh(x). int8: TensorFlow Lite's fixed-point function; the result is `TANH_OUTPUT`."""

    def int8_table(self, source: Quant, target: Quant) -> Array:
        return fixed_point.tanh_table(source, target)

    takes_doubles = True

    def float_array(self, x: Array) -> Array:
        return apply_intrinsic(_TANH[DType.of(x)], x)

    def float_element(self, x: Expr) -> Expr:
        return _TANH[x.dtype](x)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 60, low=-3, high=3))
        yield cls(s.f64_values(np.inf, -np.inf, np.nan, 0.0, -0.0, 19.1, -19.0, 0.25, -0.2499, 5e-324, 1e300))
        yield cls(s.f32_values(np.inf, -np.inf, np.nan, 0.0, 9.1, -9.1, 0.55, -0.54999, 1e-45, 1e30))
        yield cls(s.i8(200, scale=0.03, zero=-30), quant=fixed_point.TANH_OUTPUT)


def _import_unary(node: ForeignNode, g: GraphBuilder, kind: type[UnaryOperator]) -> Value:
    return g.add(kind(node.input(0), quant=node.output_type.quant, location=node.location), node.name)


@tflite("RELU")
def _import_relu(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_unary(node, g, Relu)


@tflite("RELU6")
def _import_relu6(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_unary(node, g, Relu6)


@tflite("LOGISTIC")
def _import_logistic(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_unary(node, g, Logistic)


@tflite("TANH")
def _import_tanh(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_unary(node, g, Tanh)


@tflite("LEAKY_RELU")
def _import_leaky_relu(node: ForeignNode, g: GraphBuilder) -> Value:
    alpha, quant = node.number("alpha"), node.output_type.quant
    return g.add(LeakyRelu(node.input(0), alpha=alpha, quant=quant, location=node.location), node.name)


@operator("clamp")
class Clamp(UnaryOperator):
    """y = min(max(x, low), high); NaN for a NaN. Floats only; infinite limits do not limit."""

    low: float
    high: float

    takes_doubles = True

    def infer(self) -> TensorType:
        if not self.x.type.dtype.is_float:
            raise self.error("x must be f32 or f64", "unsupported-types")
        if np.isnan(self.low) or np.isnan(self.high):
            raise self.error("limits must be numbers")
        return super().infer()

    def float_array(self, x: Array) -> Array:
        return common.float_clamp_array(x, self.low, self.high)

    def float_element(self, x: Expr) -> Expr:
        return common.float_clamp(x, self.low, self.high)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 30, low=-4, high=4), -1.25, 2.5)
        yield cls(s.f64(2, 30, low=-4, high=4), -0.1, 2.3)
        yield cls(s.f32(9, low=-4, high=4), -np.inf, 0.1)
        yield cls(s.f32_values(np.inf, -np.inf, 1.0, 3e38, np.nan), 0.5, np.inf)
        yield cls(s.f32_values(np.inf, -np.inf, np.nan, -0.0), -1.0, 0.5)
        yield cls(s.f32_values(0.0, 1.0, 2.0), 1.5, -1.5)


def _import_onnx_unary(node: ForeignNode, g: GraphBuilder, kind: type[UnaryOperator]) -> Value:
    return g.add(kind(node.input(0), location=node.location), node.name)


@onnx("Relu")
def _import_onnx_relu(node: ForeignNode, g: GraphBuilder) -> Value:
    """Of plain integers the maximum with 0."""
    x = node.input(0)
    if x.type.dtype.is_integer and x.type.quant is None:
        zero = g.constant(np.array(0, x.type.dtype.numpy))
        return g.add(Maximum(x, zero, location=node.location), node.name)
    return _import_onnx_unary(node, g, Relu)


@onnx("Sigmoid")
def _import_onnx_sigmoid(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_onnx_unary(node, g, Logistic)


@onnx("Tanh")
def _import_onnx_tanh(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_onnx_unary(node, g, Tanh)


@onnx("LeakyRelu")
def _import_onnx_leaky_relu(node: ForeignNode, g: GraphBuilder) -> Value:
    return g.add(LeakyRelu(node.input(0), alpha=node.number("alpha", 0.01), location=node.location), node.name)


@onnx("Clip")
def _import_onnx_clip(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second and third operand are one number each, either may be left out; of plain integers, or where a limit is
    not known at compile time, the limits are a maximum and a minimum.
    """
    x = node.input(0)
    bounds = [value for index in (1, 2) if (value := node.optional(index)) is not None]
    if not x.type.dtype.is_float or any(value.data is None for value in bounds):
        return _clipped(node, g, x)
    limits = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        data = node.constant(index) if node.optional(index) is not None else np.array(default, x.type.dtype.numpy)
        if data.size != 1:
            raise node.error(f"operand {index} of Clip has {data.size} elements; it must have one")
        limits.append(float(data.item()))
    low, high = limits
    if (low, high) == (0.0, 6.0):
        return g.add(Relu6(x, location=node.location), node.name)
    if low == 0.0 and high >= float(np.finfo(x.type.dtype.numpy.name).max):
        return g.add(Relu(x, location=node.location), node.name)
    return g.add(Clamp(x, low, high, location=node.location), node.name)


def _clipped(node: ForeignNode, g: GraphBuilder, x: Value) -> Value:
    for index, kind in ((1, Maximum), (2, Minimum)):
        limit = node.optional(index)
        if limit is None:
            continue
        if limit.type.elements != 1:
            raise node.error(f"operand {index} of Clip has {limit.type.elements} elements; it must have one")
        x = g.add(kind(x, limit, location=node.location), node.name)
    return x
