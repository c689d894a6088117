"""Addition, subtraction, multiplication and division, element by element.

Numbers with a quantization stand for reals: these are int8, and results are requantized. Integers without one are just
integers: they wrap, as in NumPy and ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.arithmetic import ADDITION_LEFT_SHIFT, Multiplier, Rounding
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Expr, clamp
from luciole.ops import common
from luciole.ops.common import Requantizer
from luciole.ops.onnx_rounding import UNSIGNED_SHIFT, FloatProduct, FloatSum, float_multiplication, float_sum
from luciole.ops.tflite_options import fused_activation, require_scale


@dataclass(frozen=True, eq=False, repr=False)
class BinaryOperator(Elementwise):
    """Base of operators of two operands that broadcast: floats of one type, quantized i8, or integers of any type.

    An activation may be fused, but not behind plain integers.
    """

    a: Value
    b: Value
    activation: str = "none"
    rounding: Rounding = "tflite"
    #: Rounding `onnx` only: the model's numbers are uint8, 128 more than ours.
    is_unsigned: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether the numbers stand for reals: then all three are int8 with a quantization."""
        return any(quant is not None for quant in (self.a.type.quant, self.b.type.quant, self.quant))

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        dtypes = (DType.F32, DType.I8) if self.is_quantized else tuple(d for d in DType if d is not DType.BOOL)
        if a.dtype is not b.dtype or a.dtype not in dtypes:
            allowed = "f32 or both i8" if self.is_quantized else "f32, both f64, or both integers of one type"
            raise self.error(f"a and b must both be {allowed}", "unsupported-types")
        common.check_activation(self, self.activation)
        if self.activation != "none" and not self.is_quantized and not a.dtype.is_float:
            raise self.error(f"integers without quantization have no activation {self.activation}")
        return TensorType(a.dtype, common.broadcast(self, a.shape, b.shape), self.quant)

    def compute(self, a: Array, b: Array) -> Array:
        if self.is_quantized:
            return self.compute_int8(a, b)
        with np.errstate(all="ignore"):
            result = np.asarray(self.plain_array(a, b), a.dtype)
        return np.asarray(common.float_activation_array(self.activation, result), a.dtype)

    def element(self, v: Views, *operands: Expr) -> Expr:
        if self.is_quantized:
            return self.int8_element(v, *operands)
        return common.float_activation(self.activation, self.plain_element(*operands))

    def plain_array(self, a: Array, b: Array) -> Array:
        """The numpy meaning for floats and plain integers, without the activation."""
        raise NotImplementedError

    def plain_element(self, a: Expr, b: Expr) -> Expr:
        """The kernel expression of `plain_array`."""
        raise NotImplementedError

    def compute_int8(self, a: Array, b: Array) -> Array:
        """The numpy meaning for quantized numbers."""
        raise NotImplementedError

    def int8_element(self, v: Views, a: Expr, b: Expr) -> Expr:
        """The kernel expression of `compute_int8`."""
        raise NotImplementedError

    def in_place_operands(self) -> tuple[str, ...]:
        shape = self.infer().shape
        return tuple(name for name, value in self.named_operands() if value.type.shape == shape)

    def quants(self) -> tuple[Quant, Quant, Quant]:
        """The quantizations of a, of b, and of the result."""
        return common.operand_quant(self, self.a), common.operand_quant(self, self.b), common.result_quant(self)

    def centered_arrays(self, a: Array, b: Array) -> tuple[Array, Array]:
        """int8 operands minus their zero points."""
        first, second, _ = self.quants()
        return a.astype(np.int64) - first.zero_point, b.astype(np.int64) - second.zero_point


def _add(op: BinaryOperator, sign: int, a: Array, b: Array) -> Array:
    """The numpy meaning of int8 addition (sign 1) and subtraction (-1)."""
    if op.rounding == "onnx":
        return _limited_array(op, _float_sum(op, sign).compute(a, b))
    first, second, output = arithmetic.addition_multipliers(*(q.scale for q in op.quants()))
    left, right = (
        arithmetic.requantize(value << ADDITION_LEFT_SHIFT, *multiplier, op.rounding).astype(np.int64)
        for value, multiplier in zip(op.centered_arrays(a, b), (first, second), strict=True)
    )
    return np.asarray(_sum_requantizer(op, output).compute(left + sign * right), np.int8)


def _sum_requantizer(op: BinaryOperator, multiplier: Multiplier) -> Requantizer:
    """From the sum of the scaled operands, each at most half of reach * 2**20 and one from rounding, to the result."""
    first, second, output = op.quants()
    bound = (((common.reach(first) + common.reach(second)) << ADDITION_LEFT_SHIFT) >> 1) + 2
    low, high = common.output_clamp(op, op.activation)
    return Requantizer((multiplier,), output.zero_point, low, high, op.rounding, bound)


def _float_sum(op: BinaryOperator, sign: int) -> FloatSum:
    """How a sum or difference is found for rounding `onnx`. Raises `CompileError` where scales do not fit."""
    try:
        return float_sum(*op.quants(), sign, is_unsigned=op.is_unsigned)
    except ValueError as problem:
        raise op.error(str(problem), "unsupported-quantization") from None


def _limited_array(op: BinaryOperator, numbers: Array) -> Array:
    """int8 results from the model's own numbers, for rounding `onnx`."""
    ours = numbers.astype(np.int64) - (UNSIGNED_SHIFT if op.is_unsigned else 0)
    return arithmetic.clamp(ours, *common.output_clamp(op, op.activation)).astype(np.int8)


def _limited(op: BinaryOperator, number: Expr) -> Expr:
    """The kernel expression of `_limited_array`."""
    ours = number - UNSIGNED_SHIFT if op.is_unsigned else number
    return clamp(ours, *common.output_clamp(op, op.activation)).cast(DType.I8)


def _sum_parameters(op: BinaryOperator, sign: int) -> dict[str, Array]:
    """The table of the second operand for rounding `onnx`."""
    return {"second": _float_sum(op, sign).second} if op.rounding == "onnx" and op.is_quantized else {}


def _add_element(op: BinaryOperator, sign: int, v: Views, a: Expr, b: Expr) -> Expr:
    """The kernel expression of int8 addition (sign 1) and subtraction (-1)."""
    if op.rounding == "onnx":
        return _limited(op, _float_sum(op, sign).element(v.second, a, b))
    first, second, output = arithmetic.addition_multipliers(*(q.scale for q in op.quants()))
    left, right = (
        common.scaled_by(
            common.centered(op, value, element) << ADDITION_LEFT_SHIFT,
            multiplier,
            op.rounding,
            common.reach(common.operand_quant(op, value)) << ADDITION_LEFT_SHIFT,
        )
        for value, element, multiplier in ((op.a, a, first), (op.b, b, second))
    )
    total = left + right if sign > 0 else left - right
    return _sum_requantizer(op, output).emit_constant(total).cast(DType.I8)


@operator("add")
class Add(BinaryOperator):
    """y = act(a + b), with numpy's broadcasting.

    int8: both operands minus their zero points, times 2**20, are scaled to a common scale, added, and requantized; see
    `arithmetic.addition_multipliers`.
    """

    def plain_array(self, a: Array, b: Array) -> Array:
        return np.asarray(a + b)

    def plain_element(self, a: Expr, b: Expr) -> Expr:
        return a + b

    def compute_int8(self, a: Array, b: Array) -> Array:
        return _add(self, 1, a, b)

    def int8_element(self, v: Views, a: Expr, b: Expr) -> Expr:
        return _add_element(self, 1, v, a, b)

    def parameters(self) -> dict[str, Array]:
        return _sum_parameters(self, 1)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4), s.f32(2, 3, 4), activation="relu")
        yield cls(s.f32(2, 3, 4), s.f32_weights(4), activation="relu_n1_to_1")
        yield cls(s.i8(1, 4, 4, 3, zero=-128), s.i8(1, 4, 4, 3, scale=0.031, zero=12), quant=s.quant(0.09, -3))
        yield cls(s.i8(2, 3, 5, zero=127), s.i8(3, 1, scale=0.4), activation="relu", quant=s.quant(0.3, -128))
        yield cls(s.i8(6, scale=0.02), s.i8(1, 6, scale=0.02), activation="relu6", quant=s.quant(0.04, 5))
        yield cls(s.i8(40, scale=2.0), s.i8(40, zero=7), rounding="tflite-single", quant=s.quant(1.9, 1))
        yield cls(s.i8(3, 60, zero=9), s.i8(60, scale=0.07), rounding="onnx", activation="relu", quant=s.quant(0.1, -5))
        yield cls(s.i8(90, zero=-7), s.i8(90), rounding="onnx", is_unsigned=True, quant=s.quant(0.1, -128))
        yield cls(s.f64(3, 5), s.f64(5), activation="relu6")
        yield from (cls(s.numbers(dtype, 3, 5), s.numbers(dtype, 5)) for dtype in common.SAMPLED_INTEGERS)


@operator("sub")
class Sub(BinaryOperator):
    """y = act(a - b), with numpy's broadcasting. int8: as `add`, with the difference."""

    def plain_array(self, a: Array, b: Array) -> Array:
        return np.asarray(a - b)

    def plain_element(self, a: Expr, b: Expr) -> Expr:
        return a - b

    def compute_int8(self, a: Array, b: Array) -> Array:
        return _add(self, -1, a, b)

    def int8_element(self, v: Views, a: Expr, b: Expr) -> Expr:
        return _add_element(self, -1, v, a, b)

    def parameters(self) -> dict[str, Array]:
        return _sum_parameters(self, -1)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 1, 4), s.f32(2, 1), activation="relu6")
        yield cls(s.i8(3, 7, zero=-4), s.i8(3, 7, scale=0.013, zero=127), quant=s.quant(0.06, -30))
        yield cls(s.i8(), s.i8(2, 2, zero=-128), quant=s.quant(0.2, 127))
        yield cls(s.i8(70, zero=-128), s.i8(70, scale=0.013, zero=50), rounding="onnx", quant=s.quant(0.04, 3))
        yield cls(s.f64(3, 5), s.f64(3, 1))
        yield from (cls(s.numbers(dtype, 3, 5), s.numbers(dtype, 3, 5)) for dtype in common.SAMPLED_INTEGERS)


@operator("mul")
class Mul(BinaryOperator):
    """y = act(a * b), with numpy's broadcasting. int8: the product of both minus their zero points is requantized."""

    def plain_array(self, a: Array, b: Array) -> Array:
        return np.asarray(a * b)

    def plain_element(self, a: Expr, b: Expr) -> Expr:
        return a * b

    def compute_int8(self, a: Array, b: Array) -> Array:
        left, right = self.centered_arrays(a, b)
        if self.rounding == "onnx":
            return _limited_array(self, self._float_product().compute(left * right))
        return self.requantizer().compute(left * right).astype(np.int8)

    def _float_product(self) -> FloatProduct:
        return float_multiplication(*self.quants(), is_unsigned=self.is_unsigned)

    def requantizer(self) -> Requantizer:
        """From the product of the centered operands to the result, for roundings other than `onnx`."""
        first, second, output = self.quants()
        multiplier = arithmetic.multiplication_multiplier(first.scale, second.scale, output.scale)
        low, high = common.output_clamp(self, self.activation)
        bound = common.reach(first) * common.reach(second)
        return Requantizer((multiplier,), output.zero_point, low, high, self.rounding, bound)

    def int8_element(self, v: Views, a: Expr, b: Expr) -> Expr:
        product = common.centered(self, self.a, a) * common.centered(self, self.b, b)
        if self.rounding == "onnx":
            return _limited(self, self._float_product().element(product))
        return self.requantizer().emit_constant(product).cast(DType.I8)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4), s.f32(3, 1), activation="relu_n1_to_1")
        yield cls(s.i8(1, 5, 5, 2, zero=-128), s.i8(1, 1, 1, 2, zero=30), quant=s.quant(0.6, -10))
        yield cls(s.i8(4, 4, scale=0.5), s.i8(4, 4, scale=0.5, zero=127), activation="relu", quant=s.quant(20.0, -128))
        yield cls(s.i8(9, zero=5), s.i8(9, zero=-6), rounding="tflite-single", quant=s.quant(0.1, 2))
        yield cls(s.i8(5, 40, zero=5), s.i8(40, zero=-6), rounding="onnx", quant=s.quant(0.1, 2))
        yield cls(s.i8(80, zero=-128), s.i8(80), rounding="onnx", is_unsigned=True, quant=s.quant(0.3, -40))
        yield cls(s.f64(20), s.constant(np.array(0.1)), activation="relu")
        yield from (cls(s.numbers(dtype, 20), s.numbers(dtype, 1)) for dtype in common.SAMPLED_INTEGERS)


def _import_binary(node: ForeignNode, g: GraphBuilder, kind: type[BinaryOperator]) -> Value:
    require_scale(node)
    op = kind(
        node.input(0),
        node.input(1),
        activation=fused_activation(node),
        quant=node.output_type.quant,
        location=node.location,
    )
    return g.add(op, node.name)


@tflite("ADD")
def _import_add(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_binary(node, g, Add)


@tflite("SUB")
def _import_sub(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_binary(node, g, Sub)


@tflite("MUL")
def _import_mul(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_binary(node, g, Mul)


@operator("div")
class Div(BinaryOperator):
    """y = act(a / b), with numpy's broadcasting; f32 or plain integers.

    Floats divided by zero give infinities and NaNs. The quotient of integers is rounded toward zero; divided by zero
    they give 0, on every core.
    """

    def infer(self) -> TensorType:
        if self.is_quantized:
            raise self.error("quantized numbers are not divided", "unsupported-types")
        return super().infer()

    def plain_array(self, a: Array, b: Array) -> Array:
        return np.asarray(a / b) if a.dtype.kind == "f" else common.truncated_quotient(a, b)

    def plain_element(self, a: Expr, b: Expr) -> Expr:
        return a / b if a.dtype.is_float else common.guarded_by(b, lambda divisor: a / divisor)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4, low=-8, high=8), s.f32(3, 1, low=0.25, high=4), activation="relu_n1_to_1")
        yield cls(s.f32_values(1.0, -1.0, 0.0, np.inf, 3e38), s.f32_values(0.0, -0.0, 0.0, np.inf, 1e-5))
        yield cls(s.f64_values(1.0, -1.0, 0.0, np.inf, 3e307, 1.0), s.f64_values(0.0, -0.0, 0.0, np.inf, 1e-5, 3.0))
        for dtype in (DType.I8, DType.U16, DType.I32, DType.U32):
            yield cls(s.numbers(dtype, 40), s.numbers(dtype, 40))
            divisors = s.random.integers(0, 4, 40).astype(dtype.numpy)
            yield cls(s.numbers(dtype, 40), s.array(divisors - divisors.dtype.type(dtype.is_signed)))


def _import_onnx_binary(node: ForeignNode, g: GraphBuilder, kind: type[BinaryOperator]) -> Value:
    return g.add(kind(node.input(0), node.input(1), location=node.location), node.name)


@onnx("Add")
def _import_onnx_add(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_onnx_binary(node, g, Add)


@onnx("Sub")
def _import_onnx_sub(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_onnx_binary(node, g, Sub)


@onnx("Mul")
def _import_onnx_mul(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_onnx_binary(node, g, Mul)


@onnx("Div")
def _import_onnx_div(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_onnx_binary(node, g, Div)


@onnx("Reciprocal")
def _import_reciprocal(node: ForeignNode, g: GraphBuilder) -> Value:
    """1 / x"""
    x = node.input(0)
    return g.add(Div(g.constant(np.array(1, x.type.dtype.numpy)), x, location=node.location), node.name)


@onnx("Sum", "Mean")
def _import_onnx_sum(node: ForeignNode, g: GraphBuilder) -> Value:
    """One operand after the other is added; a mean is divided by their number."""
    total = node.input(0)
    for index in range(1, len(node.inputs)):
        total = g.add(Add(total, node.input(index), location=node.location), node.name)
    if node.kind == "Mean" and len(node.inputs) > 1:
        count = g.constant(np.array(len(node.inputs), total.type.dtype.numpy))
        total = g.add(Div(total, count, location=node.location), node.name)
    return total


@onnx("BatchNormalization")
def _import_batch_normalization(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x and constants of a number for each channel: scale, bias, mean, variance.

    (x - mean) / sqrt(variance + epsilon) * scale + bias is a product and a sum with constants.
    """
    x = node.input(0)
    if node.integer("training_mode", 0) or any(node.output_names[1:]):
        raise node.unsupported("BatchNormalization that trains", help="export the model for inference")
    if node.integer("spatial", 1) != 1:
        raise node.unsupported("BatchNormalization with spatial 0 is not supported")
    if x.type.rank < 2:
        raise node.error(f"BatchNormalization of {x.type}, which has no channels")
    if not x.type.dtype.is_float:
        raise node.unsupported(f"BatchNormalization of {x.type}", code="unsupported-types")
    channels = x.type.shape[1]
    scale, bias, mean, variance = (node.constant(index).astype(np.float64) for index in range(1, 5))
    if any(array.shape != (channels,) for array in (scale, bias, mean, variance)):
        raise node.error(f"BatchNormalization of {channels} channels needs {channels} numbers in each operand")
    deviation = variance + node.number("epsilon", 1e-5)
    if not np.all(deviation > 0):
        raise node.error("BatchNormalization of a variance that is not positive")
    factor = scale / np.sqrt(deviation)
    shape = (channels, *(1,) * (x.type.rank - 2))

    def constant(values: Array, what: str) -> Value:
        return g.constant(values.astype(x.type.dtype.numpy).reshape(shape), name=f"{node.name}/{what}")

    scaled = g.add(Mul(x, constant(factor, "factor"), location=node.location), f"{node.name}/scaled")
    return g.add(Add(scaled, constant(bias - mean * factor, "offset"), location=node.location), node.name)
