"""Functions of one number: elementary functions and rounding of floats; sign and magnitude of any number.

The float functions are computed by code of our own, see `kernel.elementary` and `kernel.trigonometry`.
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
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel import elementary, elementary_double, trigonometry
from luciole.kernel.core import Expr, Intrinsic, Unary, select
from luciole.kernel.evaluate import apply_intrinsic, unary_value
from luciole.ops import common
from luciole.ops.comparison import Less, Maximum, Select
from luciole.ops.elementwise import Add

#: Samples of every float function: special values, and the ends of common domains.
_SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, 1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e6, -88.0)


@dataclass(frozen=True, eq=False, repr=False)
class FloatFunction(Elementwise):
    """Base of functions of one float: f32, and f64 where there is a `double_function`."""

    x: Value

    function: ClassVar[Intrinsic]
    double_function: ClassVar[Intrinsic | None] = None

    def infer(self) -> TensorType:
        if self.x.type.dtype is DType.F64 and self.double_function is not None:
            return self.x.type
        if self.x.type.dtype is not DType.F32:
            raise self.error("x must be f32" + (" or f64" if self.double_function else ""), "unsupported-types")
        return TensorType(DType.F32, self.x.type.shape)

    def compute(self, x: Array) -> Array:
        return np.asarray(apply_intrinsic(self._function(), x), x.dtype)

    def element(self, v: Views, *operands: Expr) -> Expr:
        return self._function()(*operands)

    def _function(self) -> Intrinsic:
        """The function of the element type at hand."""
        is_double = self.x.type.dtype is DType.F64
        return self.double_function if is_double and self.double_function is not None else self.function

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32_values(*_SPECIAL))
        yield cls(s.f32(3, 30, low=-3, high=3))
        if cls.double_function is not None:
            yield cls(s.f64_values(*_SPECIAL, 5e-324, 1e300, -745.0, 709.5))
            yield cls(s.f64(3, 30, low=-3, high=3))


@operator("exp")
class Exp(FloatFunction):
    """y = e**x; f32 or f64."""

    function = elementary.exp
    double_function = elementary_double.exp


@operator("expm1")
class Expm1(FloatFunction):
    """y = e**x - 1, also where x is small; f32 or f64."""

    function = elementary.expm1
    double_function = elementary_double.expm1


@operator("log")
class Log(FloatFunction):
    """y = the natural logarithm of x; -infinity at 0, NaN below; f32 or f64."""

    function = elementary.log
    double_function = elementary_double.log


@operator("log1p")
class Log1p(FloatFunction):
    """y = log(1 + x), also where x is small; -infinity at -1, NaN below; f32 or f64."""

    function = elementary.log1p
    double_function = elementary_double.log1p


@operator("sin")
class Sin(FloatFunction):
    """y = sin(x), of any finite x; f32 only."""

    function = trigonometry.sin


@operator("cos")
class Cos(FloatFunction):
    """y = cos(x), of any finite x; f32 only."""

    function = trigonometry.cos


@operator("tan")
class Tan(FloatFunction):
    """y = tan(x), of any finite x; f32 only."""

    function = trigonometry.tan


@operator("asin")
class Asin(FloatFunction):
    """y = the inverse of sin, from -pi / 2 to pi / 2; NaN beyond 1; f32 only."""

    function = trigonometry.asin


@operator("acos")
class Acos(FloatFunction):
    """y = the inverse of cos, from 0 to pi; NaN beyond 1; f32 only."""

    function = trigonometry.acos


@operator("atan")
class Atan(FloatFunction):
    """y = the inverse of tan, from -pi / 2 to pi / 2; f32 only."""

    function = trigonometry.atan


@operator("sinh")
class Sinh(FloatFunction):
    """y = (e**x - e**-x) / 2; f32 only."""

    function = elementary.sinh


@operator("cosh")
class Cosh(FloatFunction):
    """y = (e**x + e**-x) / 2; f32 only."""

    function = elementary.cosh


@operator("asinh")
class Asinh(FloatFunction):
    """y = the inverse of sinh; f32 only."""

    function = elementary.asinh


@operator("acosh")
class Acosh(FloatFunction):
    """y = the inverse of cosh; NaN below 1; f32 only."""

    function = elementary.acosh


@operator("atanh")
class Atanh(FloatFunction):
    """y = the inverse of tanh; infinite at 1 and -1, NaN beyond; f32 only."""

    function = elementary.atanh


@operator("erf")
class Erf(FloatFunction):
    """y = the error function of x; f32 only."""

    function = elementary.erf


@dataclass(frozen=True, eq=False, repr=False)
class FloatOperation(FloatFunction):
    """Base of functions of one float that kernels know by name; f32 or f64."""

    operation: ClassVar[str]

    def infer(self) -> TensorType:
        if not self.x.type.dtype.is_float:
            raise self.error("x must be f32 or f64", "unsupported-types")
        return self.x.type

    def compute(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray(unary_value(self.operation, x, DType.of(x)), x.dtype)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        return Unary(self.operation, x.as_data())

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield from super().samples(s)
        yield cls(s.f64_values(*_SPECIAL, 4503599627370495.5, -4503599627370497.0, 5e-324, 1e300, 0.1, 2.0))
        yield cls(s.f64(3, 30, low=-3, high=300))


@operator("sqrt")
class Sqrt(FloatOperation):
    """y = the square root of x; NaN below 0; f32 or f64."""

    operation = "sqrt"


@operator("floor")
class Floor(FloatOperation):
    """y = the greatest whole number that is not above x; f32 or f64."""

    operation = "floor"


@operator("round")
class Round(FloatOperation):
    """y = the whole number nearest to x, of two the even one; f32 or f64."""

    operation = "round_even"


@dataclass(frozen=True, eq=False, repr=False)
class NumberFunction(Elementwise):
    """Base of functions of one number: floats, or plain integers, which wrap."""

    x: Value

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype is DType.BOOL or x.quant is not None:
            raise self.error("x must be floats, or integers without quantization", "unsupported-types")
        return x

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32_values(*_SPECIAL))
        yield cls(s.f64_values(*_SPECIAL))
        yield from (cls(s.numbers(dtype, 20)) for dtype in common.SAMPLED_INTEGERS)


@operator("neg")
class Neg(NumberFunction):
    """y = -x. The least of signed integers stays what it is."""

    def compute(self, x: Array) -> Array:
        return np.asarray(-x)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        return -x


@operator("abs")
class Abs(NumberFunction):
    """y = x without its sign. The least of signed integers stays what it is."""

    def compute(self, x: Array) -> Array:
        return np.asarray(np.abs(x))

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        if x.dtype.is_float:
            return Unary("abs", x.as_data())
        return select(x < 0, -x, x) if x.dtype.is_signed else x


_ONNX_KINDS: dict[str, type[FloatFunction] | type[NumberFunction]] = {
    "Exp": Exp,
    "Log": Log,
    "Sin": Sin,
    "Cos": Cos,
    "Tan": Tan,
    "Asin": Asin,
    "Acos": Acos,
    "Atan": Atan,
    "Sinh": Sinh,
    "Cosh": Cosh,
    "Asinh": Asinh,
    "Acosh": Acosh,
    "Atanh": Atanh,
    "Erf": Erf,
    "Sqrt": Sqrt,
    "Floor": Floor,
    "Round": Round,
    "Neg": Neg,
    "Abs": Abs,
}


@onnx(*_ONNX_KINDS)
def _import_function(node: ForeignNode, g: GraphBuilder) -> Value:
    return g.add(_ONNX_KINDS[node.kind](node.input(0), location=node.location), node.name)


@tflite("CEIL")
@onnx("Ceil")
def _import_ceil(node: ForeignNode, g: GraphBuilder) -> Value:
    """-floor(-x)."""
    below = g.add(Floor(g.add(Neg(node.input(0), location=node.location)), location=node.location))
    return g.add(Neg(below, location=node.location), node.name)


@onnx("Sign")
def _import_sign(node: ForeignNode, g: GraphBuilder) -> Value:
    """1 above zero, -1 below, otherwise x: zero, or a NaN."""
    x = node.input(0)
    if not (x.type.dtype.is_float or x.type.dtype.is_integer):
        raise node.unsupported(f"Sign of {x.type.dtype.value}", code="unsupported-types")
    zero, one = (g.constant(np.array(number, x.type.dtype.numpy)) for number in (0, 1))
    result = g.add(Select(g.add(Less(zero, x, location=node.location)), one, x, location=node.location), node.name)
    if x.type.dtype.is_integer and not x.type.dtype.is_signed:
        return result
    minus = g.constant(np.array(-1, x.type.dtype.numpy))
    return g.add(Select(g.add(Less(x, zero, location=node.location)), minus, result, location=node.location), node.name)


@onnx("Softplus")
def _import_softplus(node: ForeignNode, g: GraphBuilder) -> Value:
    """log(1 + e**x) as max(x, 0) + log1p(e**-|x|), which does not overflow."""
    x = node.input(0)
    negative = g.add(Neg(g.add(Abs(x, location=node.location)), location=node.location))
    rest = g.add(Log1p(g.add(Exp(negative, location=node.location)), location=node.location))
    positive = g.add(Maximum(x, g.constant(np.array(0, x.type.dtype.numpy)), location=node.location))
    return g.add(Add(positive, rest, location=node.location), node.name)
