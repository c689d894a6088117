"""Elementary functions of float64 as intrinsics: those of `elementary` that sums of exponentials and activations need.

As there, each function is a straight line of IEEE operations in a fixed order, so that it has the same bits everywhere.
The polynomials are Taylor series, cut where the next term is below 2**-58 of the function: no coefficient is anything
but a quotient of integers, rounded. Arguments are reduced as in W. J. Cody and W. Waite, "Software Manual for the
Elementary Functions" (1980), and the terms of the logarithm stand in the order of K. C. Ng's in fdlibm (1993), which
rounds least. Error bounds are in units in the last place of the exact result, measured against `decimal` in
`tests/unit/kernel/test_elementary_double.py`. A NaN gives a NaN, of no particular sign or payload.
"""

from __future__ import annotations

import math

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Bitcast, Constant, Expr, maximum, minimum, select
from luciole.kernel.elementary import corrected_log1p, magnitude_of, polynomial, with_sign_of

F64, I64 = DType.F64, DType.I64

#: Adding this to a double of magnitude below 2**51 rounds it to an integer, ties to even, in the low bits of the sum.
_ROUNDING = 1.5 * 2.0**52
_ROUNDING_BITS = 0x4338000000000000

#: ln 2 in two parts: the first has 32 bits, so that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_LOG2_E = 1.4426950408889634

#: The arguments where exp is surely 0 and surely infinite.
_EXP_LOWEST, _EXP_HIGHEST = -746.0, 710.0

#: (exp(r) - 1 - r) / r**2 on |r| <= ln(2) / 2, and on |r| <= 1 / 2.
_EXP = tuple(1.0 / math.factorial(k) for k in range(2, 14))
_EXPM1_SMALL = 0.5
_EXPM1 = tuple(1.0 / math.factorial(k) for k in range(2, 17))

#: 2 * atanh(s) / s - 2 in s**2, without its first factor s**2, on |s| <= 3 - 2 * sqrt(2).
_ATANH = tuple(2.0 / (2 * k + 3) for k in range(11))

#: From here on tanh is 1.
_TANH_LARGEST = 22.0

_SMALLEST_NORMAL, _LARGEST = 2.0**-1022, (2.0 - 2.0**-52) * 2.0**1023


def _double_of_bits(bits: Expr) -> Expr:
    return Bitcast(bits.as_data(), F64)


def _bits_of(x: Expr) -> Expr:
    return Bitcast(x.as_data(), I64)


def _power_of_two(exponent: Expr) -> Expr:
    """2**exponent for -1022 <= exponent <= 1023."""
    return _double_of_bits((exponent + 1023) << 52)


def _not_a_number() -> Expr:
    return _double_of_bits(Constant(0x7FF8 << 48, I64))


@define_intrinsic("exp_f64", F64, x=F64)
def exp(k: IntrinsicBuilder, x: Expr) -> Expr:
    """e**x within 1 ulp; 0 below about -745.13, infinity above 709.78, and both at the infinities.

    x = n * ln 2 + r with |r| <= ln(2) / 2; the factor 2**n is applied in two halves, so that results below 2**-1022 are
    right as well.
    """
    # The constant first: then a NaN passes through min and max.
    bounded = k.let("bounded", minimum(_EXP_HIGHEST, maximum(_EXP_LOWEST, x)))
    shifted = k.let("shifted", bounded * _LOG2_E + _ROUNDING)
    whole = k.let("whole", shifted - _ROUNDING)
    exponent = k.let("exponent", _bits_of(shifted) - _ROUNDING_BITS)
    r = k.let("r", bounded - whole * _LN2_HIGH - whole * _LN2_LOW)
    power = k.let("power", r * r * polynomial(r, _EXP) + r + 1.0)
    half = k.let("half", exponent >> 1)
    return power * _power_of_two(half) * _power_of_two(exponent - half)


@define_intrinsic("log_f64", F64, x=F64)
def log(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The natural logarithm within 1 ulp; -infinity at zeros, NaN below, infinity at infinity.

    x = 2**e * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), found on the bits; subnormal numbers are scaled before. With
    s = f / (2 + f), log(1 + f) = 2 * atanh(s) = f - f**2 / 2 + s * (f**2 / 2 + rest of the series).
    """
    is_subnormal = k.let("is_subnormal", x < _SMALLEST_NORMAL)
    bits = k.let("bits", _bits_of(select(is_subnormal, x * 2.0**54, x)))
    power = k.let("power", (bits - 0x3FE6A09E667F3BCD) >> 52)
    f = k.let("f", _double_of_bits(bits - (power << 52)) - 1.0)
    lowered = k.let("lowered", (power - select(is_subnormal, Constant(54, I64), Constant(0, I64))).cast(DType.I32))
    exponent = k.let("exponent", lowered.cast(F64))  # of 32 bits: cores of 32 bits convert no longer ones themselves
    s = k.let("s", f / (f + 2.0))
    square = k.let("square", s * s)
    half = k.let("half", f * f * 0.5)
    rest = k.let("rest", s * (half + square * polynomial(square, _ATANH)) + exponent * _LN2_LOW)
    result = k.let("result", exponent * _LN2_HIGH - (half - rest - f))
    finite = k.let("finite", select(x <= _LARGEST, result, x))
    positive = k.let("positive", select(x.eq(0.0), _double_of_bits(Constant(-(1 << 52), I64)), finite))
    return select(x < 0.0, _not_a_number(), positive)


@define_intrinsic("expm1_f64", F64, x=F64)
def expm1(k: IntrinsicBuilder, x: Expr) -> Expr:
    """e**x - 1 within 3 ulp, also where x is small; a polynomial for |x| <= 0.5."""
    bounded = k.let("bounded", minimum(_EXPM1_SMALL, maximum(-_EXPM1_SMALL, x)))
    small = k.let("small", bounded * bounded * polynomial(bounded, _EXPM1) + bounded)
    return select(magnitude_of(x) <= _EXPM1_SMALL, small, exp(x) - 1.0)


@define_intrinsic("log1p_f64", F64, x=F64)
def log1p(k: IntrinsicBuilder, x: Expr) -> Expr:
    """log(1 + x) within 3 ulp, also where x is small; -infinity at -1, NaN below."""
    return corrected_log1p(k, x, log, _LARGEST)


@define_intrinsic("tanh_f64", F64, x=F64)
def tanh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The hyperbolic tangent within 4 ulp; zeros give zero, and 1 with the sign of x is reached from 19.1.

    With t = e**(-2 |x|) - 1 it is -t / (t + 2).
    """
    magnitude = k.let("magnitude", minimum(_TANH_LARGEST, magnitude_of(x)))
    t = k.let("t", expm1(magnitude * -2.0))
    result = k.let("result", -t / (t + 2.0))
    return select(x.eq(0.0), x, with_sign_of(result, x))


@define_intrinsic("logistic_f64", F64, x=F64)
def logistic(k: IntrinsicBuilder, x: Expr) -> Expr:
    """1 / (1 + exp(-x)) within 3 ulp; 0 and 1 at the infinities.

    With e = exp(-|x|) it is 1 / (1 + e) for positive x and e / (1 + e) for negative, which keeps small results exact.
    """
    power = k.let("power", exp(-magnitude_of(x)))
    return select(x < 0.0, power, 1.0) / (power + 1.0)
