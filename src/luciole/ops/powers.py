"""Powers, and remainders of integer division."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Expr, binary, select
from luciole.kernel.elementary import power
from luciole.kernel.evaluate import apply_intrinsic
from luciole.ops import common
from luciole.ops.cast import Cast
from luciole.ops.elementwise import Mul
from luciole.ops.float_remainder import FloatRemainder

#: Integer powers are products of so many factors at most: exponents stay below 2**5.
_MAXIMUM_EXPONENT_BITS = 5


@operator("power")
class Power(Elementwise):
    """y = a**b, with numpy's broadcasting; f32 only.

    Special values are those of IEEE 754's pow: a**0 and 1**b are 1 even for NaNs, negative numbers have powers for
    whole b only.
    """

    a: Value
    b: Value

    def infer(self) -> TensorType:
        if self.a.type.dtype is not DType.F32 or self.b.type.dtype is not DType.F32:
            raise self.error("a and b must both be f32", "unsupported-types")
        return TensorType(DType.F32, common.broadcast(self, self.a.type.shape, self.b.type.shape))

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(apply_intrinsic(power, a, b), np.float32)

    def element(self, v: Views, *operands: Expr) -> Expr:
        return power(*operands)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("a", "b")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 20, low=0, high=8), s.f32(20, low=-4, high=4))
        special = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.0, -2.0, 0.5, 1e30, -1e-30, 3.0)
        a = np.array(special, np.float32)
        yield cls(s.array(a.reshape(-1, 1)), s.array(a))


@operator("remainder")
class Remainder(Elementwise):
    """y = a - b * q with the quotient q = a / b, with numpy's broadcasting; plain integers.

    `rounding` says how q is rounded: with "floor" the remainder has the sign of b, toward "zero" that of a. Divided by
    zero the remainder is 0, on every core.
    """

    a: Value
    b: Value
    rounding: str = "floor"

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if a.dtype is not b.dtype or not a.dtype.is_integer or a.quant is not None or b.quant is not None:
            raise self.error("a and b must both be integers of one type", "unsupported-types")
        if self.rounding not in ("floor", "zero"):
            raise self.error(f'rounding {self.rounding!r} is neither "floor" nor "zero"')
        return TensorType(a.dtype, common.broadcast(self, a.shape, b.shape))

    def compute(self, a: Array, b: Array) -> Array:
        with np.errstate(all="ignore"):
            divisor = np.where(b == 0, b.dtype.type(1), b)
            rest = a - divisor * common.truncated_quotient(a, divisor)
            if self.rounding == "floor":
                rest = rest + np.where((rest != 0) & ((rest < 0) != (divisor < 0)), divisor, b.dtype.type(0))
            return np.asarray(np.where(b == 0, a.dtype.type(0), rest), a.dtype)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands

        def rest(divisor: Expr) -> Expr:
            toward_zero = a % divisor
            if self.rounding == "zero" or not a.dtype.is_signed:
                return toward_zero
            differs = binary("xor", toward_zero < 0, divisor < 0)
            return toward_zero + select(binary("and", toward_zero.ne(0), differs), divisor, 0)

        return common.guarded_by(b, rest)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("a", "b")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        for dtype in (DType.I8, DType.U16, DType.I32, DType.U32):
            divisors = s.random.integers(0, 6, 40).astype(dtype.numpy)
            divisors = divisors - divisors.dtype.type(2 if dtype.is_signed else 0)
            yield cls(s.numbers(dtype, 40), s.array(divisors))
            yield cls(s.numbers(dtype, 40), s.numbers(dtype, 40), rounding="zero")


@onnx("Mod")
def _import_mod(node: ForeignNode, g: GraphBuilder) -> Value:
    """The remainder has the sign of the divisor, with `fmod` that of the dividend."""
    rounding = "zero" if node.integer("fmod", 0) else "floor"
    kind = FloatRemainder if node.input(0).type.dtype.is_float else Remainder
    return g.add(kind(node.input(0), node.input(1), rounding, location=node.location), node.name)


@onnx("Pow")
def _import_pow(node: ForeignNode, g: GraphBuilder) -> Value:
    """The result has the type of the first operand: integers have powers by small constants only."""
    x, exponent = node.input(0), node.input(1)
    constant = exponent.data.reshape(-1) if exponent.data is not None and exponent.type.elements == 1 else None
    if constant is not None and constant[0] == 2:
        return g.add(Mul(x, x, location=node.location), node.name)
    if x.type.dtype is DType.F32:
        if exponent.type.dtype is not DType.F32:
            exponent = g.add(Cast(exponent, "f32", location=node.location))
        return g.add(Power(x, exponent, location=node.location), node.name)
    if constant is None or constant[0] != int(constant[0]) or not 1 <= constant[0] < 1 << _MAXIMUM_EXPONENT_BITS:
        help = f"a constant exponent from 1 to {(1 << _MAXIMUM_EXPONENT_BITS) - 1} is supported"
        raise node.unsupported(f"Pow of {x.type.dtype.value}", code="unsupported-types", help=help)
    result, square = None, x
    for bit in range(int(constant[0]).bit_length()):
        if int(constant[0]) >> bit & 1:
            result = square if result is None else g.add(Mul(result, square, location=node.location))
        if int(constant[0]) >> (bit + 1):
            square = g.add(Mul(square, square, location=node.location))
    assert result is not None
    return result
