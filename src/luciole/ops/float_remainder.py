"""Remainders of floats, exact: long division of the mantissas, one bit of the quotient a step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Bitcast, Constant, Expr, Unary, binary, select
from luciole.ops import common
from luciole.ops.loops import broadcast_element

#: The integer type of the same width, and bits of the mantissa, of each floating-point type.
_BITS = {DType.F32: (DType.U32, 23), DType.F64: (DType.U64, 52)}


@operator("float_remainder")
class FloatRemainder(Operator):
    """y = a - b * q with the whole quotient q = a / b, with numpy's broadcasting; exact.

    `rounding` says how q is rounded: with "floor" the remainder has the sign of b, toward "zero" that of a, zeros too.
    Divided by an infinity a stays, but for "floor" and different signs, which give the infinity. Divided by zero, and
    of infinities, it is a NaN.
    """

    a: Value
    b: Value
    rounding: str = "floor"

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if a.dtype is not b.dtype or not a.dtype.is_float:
            raise self.error("a and b must both be f32 or both f64", "unsupported-types")
        if self.rounding not in ("floor", "zero"):
            raise self.error(f'rounding {self.rounding!r} is neither "floor" nor "zero"')
        return TensorType(a.dtype, common.broadcast(self, a.shape, b.shape))

    def compute(self, a: Array, b: Array) -> Array:
        with np.errstate(invalid="ignore"):
            rest = np.fmod(a, b)
            if self.rounding == "zero":
                return np.asarray(rest, a.dtype)
            moved = np.where((rest < 0) != (b < 0), rest + b, rest)
            return np.asarray(np.where(rest == 0, np.copysign(rest, b), moved), a.dtype)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as indices:
            a = k.define("a", broadcast_element(v.a, indices))
            b = k.define("b", broadcast_element(v.b, indices))
            v.y[tuple(indices)] = self._signed(a, b, self._magnitude(k, a, b))

    def _magnitude(self, k: LoopBuilder, a: Expr, b: Expr) -> Expr:
        """The remainder without a sign.

        |a| = m * 2**e and |b| = n * 2**f with whole mantissas. For e >= f it is (m * 2**(e - f) mod n) * 2**f, else a.
        """
        dtype = a.dtype
        word, digits = _BITS[dtype]
        hidden = Constant(1 << digits, word)

        def split(name: str, x: Expr) -> tuple[Expr, Expr]:
            bits = k.define(f"{name}_bits", Bitcast(Unary("abs", x.as_data()), word))
            exponent = k.define(f"{name}_exponent", bits >> digits)
            fraction = bits & ((1 << digits) - 1)
            is_normal = exponent > 0
            # Subnormal numbers have the exponent of the smallest normal ones, without the hidden bit.
            mantissa = k.define(f"{name}_mantissa", select(is_normal, fraction | hidden, fraction))
            return k.define(f"{name}_scale", select(is_normal, exponent, 1)), mantissa

        a_scale, a_mantissa = split("a", a)
        b_scale, b_mantissa = split("b", b)
        divisor = k.define("divisor", select(b_mantissa.eq(0), 1, b_mantissa))
        rest = k.define("rest", a_mantissa % divisor)
        steps = select(a_scale > b_scale, a_scale - b_scale, 0)
        with k.loop("step", steps.cast(DType.INDEX)):
            twice = k.define("twice", rest << 1)
            rest.set(select(twice >= divisor, twice - divisor, twice))
        # A rest below the hidden bit as float: with the hidden bit, which is subtracted again.
        small = Bitcast((b_scale << digits) + rest, dtype) - Bitcast((b_scale << digits).as_data(), dtype)
        large = Bitcast(((b_scale - 1) << digits) + rest, dtype)
        found = select(rest < hidden, small, large)
        is_below = Unary("abs", a.as_data()) < Unary("abs", b.as_data())
        return k.define("magnitude", select(is_below, Unary("abs", a.as_data()), found))

    def _signed(self, a: Expr, b: Expr, magnitude: Expr) -> Expr:
        """The remainder from its magnitude, and the special values."""
        rest = _with_sign(magnitude, a)
        if self.rounding == "floor":
            differs = binary("xor", rest < 0.0, b < 0.0)
            rest = select(magnitude.eq(0.0), _with_sign(magnitude, b), select(differs, rest + b, rest))
        # inf - inf and 0 / 0 are no numbers, neither is what a NaN is added to.
        has_none = binary("or", b.eq(0.0), binary("or", common.is_nan(a - a), common.is_nan(b)))
        word, digits = _BITS[a.dtype]
        not_a_number = Constant(((1 << (word.bits - digits)) - 1) << (digits - 1), word)
        return select(has_none, Bitcast(not_a_number, a.dtype), rest)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        special = (0.0, -0.0, 1.0, -1.0, 5.3, -5.3, 2.1, 1e-45, -1e-40, 3e38, -7e30, np.inf, -np.inf, np.nan, 1.2e-38)
        for rounding in ("floor", "zero"):
            a = np.array(special, np.float32)
            yield cls(s.array(a.reshape(-1, 1)), s.array(a), rounding)
            yield cls(s.f32(3, 20, low=-99, high=99), s.f32(20, low=-4, high=4), rounding)
            b = np.array((*special, 5e-324, 1.7e308, 0.1), np.float64)
            yield cls(s.array(b.reshape(-1, 1)), s.array(b), rounding)


def _with_sign(magnitude: Expr, sign: Expr) -> Expr:
    """A magnitude with the sign of another number, of zeros too."""
    word, _ = _BITS[sign.dtype]
    return select(Bitcast(sign.as_data(), word) >> (word.bits - 1) > 0, -magnitude, magnitude)
