"""Elementary functions of float32 as intrinsics: exponentials, logarithms, powers, hyperbolic functions, erf.

No C library is called at run time, so a bundle has the same bits on every machine: each function is a straight line of
IEEE operations in a fixed order, without fused multiplications, and numpy evaluates the same line
(`evaluate.apply_intrinsic`). Integers are made from floats by adding 1.5 * 2**23, which leaves the rounded number in
the low bits, and no cast can go out of range.

Error bounds are in units in the last place of the exact result, measured over dense grids against float64 in
`tests/unit/kernel/test_elementary.py`. The polynomials are minimax fits made for this file (Lawson's iteratively
reweighted least squares on Chebyshev nodes, in float64, with the weight that makes the error of the whole function
relative). A NaN gives a NaN, of no particular sign or payload.
"""

from __future__ import annotations

import math

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Bitcast, Constant, Expr, Intrinsic, Operand, Unary, maximum, minimum, select

F32, I32 = DType.F32, DType.I32

#: Adding this to a float of magnitude below 2**22 rounds it to an integer, ties to even, in the low bits of the sum.
_ROUNDING = 12582912.0
_ROUNDING_BITS = 0x4B400000

#: ln 2 in two parts: the first has 10 bits, so that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.1219444005469057e-4
_LOG2_E = 1.4426950408889634

#: The arguments where exp is surely 0 and surely infinite.
_EXP_LOWEST, _EXP_HIGHEST = -105.0, 89.0

#: (exp(r) - 1 - r) / r**2 on |r| <= ln(2) / 2; 3.1e-9 relative to exp(r).
_EXP = (0.49999993, 0.1666652, 0.0416684, 0.00836885, 0.00138143)

#: (log(1 + f) - f + f**2 / 2) / f**3 on sqrt(1/2) <= 1 + f <= sqrt(2); 7.5e-10 relative to log(1 + f).
_LOG = (
    0.33333313, -0.2500001, 0.20002119, -0.16667996, 0.14219551, -0.12405586, 0.11888168, -0.1167567, 0.06746651,
)  # fmt: skip

#: (tanh(x) / x - 1) / x**2 in x**2 on |x| < 0.55; 1.1e-9 relative to tanh(x).
_TANH_SMALL = 0.55
_TANH = (-0.33333318, 0.13332586, -0.05385231, 0.02107168, -0.00627424)

#: erf(x) / x in x**2 on |x| < 1, and -log(1 - erf(x)) on 1 <= x <= 4, beyond which erf is 1; 1.3e-9 relative to erf.
_ERF_SMALL, _ERF_LARGEST = 1.0, 4.0
_ERF = (1.12837917, -0.376126258, 0.112835851, -0.0268538119, 0.00518832768, -0.000801019358, 7.85386121e-05)
_ERF_TAIL = (
    3.53719640e-04, 1.12704004, 0.638225678, 0.103037368, -0.0218053179, 0.00293960719, -0.000185573998,
)  # fmt: skip

#: (exp(x) - 1 - x) / x**2 on |x| <= 0.5; 1.5e-8 relative to exp(x) - 1.
_EXPM1_SMALL = 0.5
_EXPM1 = (0.50000006, 0.166666642, 0.0416653603, 0.00833357871, 0.00139961764, 0.000198498106)

#: (sinh(x) / x - 1) / x**2 in x**2 on |x| < 1; 5.2e-9 relative to sinh(x).
_SINH_SMALL = 1.0
_SINH = (0.166666672, 0.0083333496, 0.000198361595, 2.81695134e-06)

#: (atanh(s) / s - 1) / s**2 in s**2 on |s| <= 0.1716, where s = (m - 1) / (m + 1) for a mantissa m; 4.5e-10 of s**2.
_ATANH = (0.333333313, 0.200001672, 0.142686427, 0.117913)

#: From here on 1 in x**2 + 1 is lost, and inverse hyperbolic functions are log(2 * x).
_INVERSE_LARGE = 4096.0

_SMALLEST_NORMAL, _LARGEST = 1.1754943508222875e-38, 3.4028234663852886e38


def polynomial(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """c0 + x * (c1 + x * (c2 + ...))."""
    result: Operand = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        result = x * result + coefficient
    assert isinstance(result, Expr)
    return result


def float_of_bits(bits: Expr) -> Expr:
    """The float32 that an integer's bits are."""
    return Bitcast(bits.as_data(), F32)


def bits_of(x: Expr) -> Expr:
    """The bits of a float32 as an integer."""
    return Bitcast(x.as_data(), I32)


def _power_of_two(exponent: Expr) -> Expr:
    """2**exponent for -126 <= exponent <= 127."""
    return float_of_bits((exponent + 127) << 23)


def magnitude_of(x: Expr) -> Expr:
    """The number without its sign."""
    return Unary("abs", x.as_data())


def with_sign_of(value: Expr, x: Expr) -> Expr:
    """A number, or its negative where x is below zero."""
    return select(x < 0.0, -value, value)


def not_a_number() -> Expr:
    """A NaN."""
    return float_of_bits(Constant(0x7FC00000, I32))


@define_intrinsic("exp", F32, x=F32)
def exp(k: IntrinsicBuilder, x: Expr) -> Expr:
    """e**x within 1 ulp; 0 below about -103.97, infinity above 88.7228, and both at the infinities.

    x = n * ln 2 + r with |r| <= ln(2) / 2; the factor 2**n is applied in two halves, so that results below 2**-126 are
    right as well.
    """
    # The constant first: then a NaN passes through min and max.
    bounded = k.let("bounded", minimum(_EXP_HIGHEST, maximum(_EXP_LOWEST, x)))
    shifted = k.let("shifted", bounded * _LOG2_E + _ROUNDING)
    whole = k.let("whole", shifted - _ROUNDING)
    exponent = k.let("exponent", bits_of(shifted) - _ROUNDING_BITS)
    r = k.let("r", bounded - whole * _LN2_HIGH - whole * _LN2_LOW)
    power = k.let("power", r * r * polynomial(r, _EXP) + r + 1.0)
    half = k.let("half", exponent >> 1)
    return power * _power_of_two(half) * _power_of_two(exponent - half)


@define_intrinsic("log", F32, x=F32)
def log(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The natural logarithm within 1 ulp; -infinity at zeros, NaN below, infinity at infinity.

    x = 2**e * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), found on the bits; subnormal numbers are scaled before.
    """
    is_subnormal = k.let("is_subnormal", x < _SMALLEST_NORMAL)
    bits = k.let("bits", bits_of(select(is_subnormal, x * 8388608.0, x)))
    power = k.let("power", (bits - 0x3F3504F3) >> 23)
    f = k.let("f", float_of_bits(bits - (power << 23)) - 1.0)
    exponent = k.let("exponent", (power - select(is_subnormal, Constant(23, I32), Constant(0, I32))).cast(F32))
    square = k.let("square", f * f)
    rest = k.let("rest", square * f * polynomial(f, _LOG) + exponent * _LN2_LOW - square * 0.5)
    result = k.let("result", rest + f + exponent * _LN2_HIGH)
    finite = k.let("finite", select(x <= _LARGEST, result, x))
    positive = k.let("positive", select(x.eq(0.0), float_of_bits(Constant(-0x00800000, I32)), finite))
    return select(x < 0.0, not_a_number(), positive)


@define_intrinsic("tanh", F32, x=F32)
def tanh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The hyperbolic tangent within 2 ulp; zeros give zero, and 1 with the sign of x is reached from 9.02.

    A polynomial for |x| < 0.55, otherwise 1 - 2 / (exp(2 |x|) + 1).
    """
    magnitude = k.let("magnitude", magnitude_of(x))
    square = k.let("square", x * x)
    small = k.let("small", x * square * polynomial(square, _TANH) + x)
    large = k.let("large", 1.0 - 2.0 / (exp(magnitude * 2.0) + 1.0))
    return select(magnitude < _TANH_SMALL, small, select(x < 0.0, -large, large))


@define_intrinsic("logistic", F32, x=F32)
def logistic(k: IntrinsicBuilder, x: Expr) -> Expr:
    """1 / (1 + exp(-x)) within 3 ulp; 0 and 1 at the infinities.

    With e = exp(-|x|) it is 1 / (1 + e) for positive x and e / (1 + e) for negative, which keeps small results exact.
    """
    power = k.let("power", exp(-magnitude_of(x)))
    return select(x < 0.0, power, 1.0) / (power + 1.0)


@define_intrinsic("erf", F32, x=F32)
def erf(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The error function within 3 ulp; 1 with the sign of x at the infinities.

    A polynomial for |x| < 1, otherwise 1 - exp(-p(|x|)) with a polynomial p.
    """
    magnitude = k.let("magnitude", magnitude_of(x))
    small = k.let("small", x * polynomial(x * x, _ERF))
    tail = k.let("tail", polynomial(minimum(_ERF_LARGEST, magnitude), _ERF_TAIL))
    large = k.let("large", 1.0 - exp(-tail))
    return select(magnitude < _ERF_SMALL, small, select(x < 0.0, -large, large))


@define_intrinsic("expm1", F32, x=F32)
def expm1(k: IntrinsicBuilder, x: Expr) -> Expr:
    """e**x - 1 within 4 ulp, also where x is small; a polynomial for |x| <= 0.5."""
    small = k.let("small", x * x * polynomial(x, _EXPM1) + x)
    return select(magnitude_of(x) <= _EXPM1_SMALL, small, exp(x) - 1.0)


def corrected_log1p(k: IntrinsicBuilder, x: Expr, log: Intrinsic, largest: float) -> Expr:
    """log(1 + x) by the logarithm of an element type whose largest number is given.

    What 1 + x loses of x is known exactly, and is added as (x - (sum - 1)) / sum.
    """
    total = k.let("total", x + 1.0)
    logarithm = k.let("logarithm", log(total))
    corrected = k.let("corrected", logarithm + (x - (total - 1.0)) / total)
    has_loss = k.let("has_loss", (total > 0.0) & (total <= largest))
    return select(has_loss, corrected, logarithm)


@define_intrinsic("log1p", F32, x=F32)
def log1p(k: IntrinsicBuilder, x: Expr) -> Expr:
    """log(1 + x) within 3 ulp, also where x is small; -infinity at -1, NaN below."""
    return corrected_log1p(k, x, log, _LARGEST)


@define_intrinsic("sinh", F32, x=F32)
def sinh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The hyperbolic sine within 4 ulp: a polynomial for |x| < 1, otherwise (e**|x| - e**-|x|) / 2.

    e**|x| / 2 is the square of e**(|x| / 2), halved before it can overflow.
    """
    magnitude = k.let("magnitude", magnitude_of(x))
    square = k.let("square", x * x)
    small = k.let("small", x * square * polynomial(square, _SINH) + x)
    root = k.let("root", exp(magnitude * 0.5))
    half = k.let("half", root * 0.5 * root)
    return select(magnitude < _SINH_SMALL, small, with_sign_of(half - 0.25 / half, x))


@define_intrinsic("cosh", F32, x=F32)
def cosh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The hyperbolic cosine within 4 ulp; see `sinh`."""
    root = k.let("root", exp(magnitude_of(x) * 0.5))
    half = k.let("half", root * 0.5 * root)
    return half + 0.25 / half


@define_intrinsic("asinh", F32, x=F32)
def asinh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The inverse of `sinh` within 4 ulp: log1p(a + a**2 / (1 + sqrt(1 + a**2))) with a = |x|."""
    magnitude = k.let("magnitude", magnitude_of(x))
    a = k.let("a", minimum(_INVERSE_LARGE, magnitude))
    square = k.let("square", a * a)
    small = k.let("small", log1p(a + square / (Unary("sqrt", square + 1.0) + 1.0)))
    large = k.let("large", log(magnitude) + math.log(2.0))
    return with_sign_of(select(magnitude > _INVERSE_LARGE, large, small), x)


@define_intrinsic("acosh", F32, x=F32)
def acosh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The inverse of `cosh` within 4 ulp: log1p(t + sqrt(2 * t + t**2)) with t = x - 1; NaN below 1."""
    t = k.let("t", minimum(_INVERSE_LARGE, x) - 1.0)
    small = k.let("small", log1p(t + Unary("sqrt", maximum(0.0, t * 2.0 + t * t))))
    large = k.let("large", log(x) + math.log(2.0))
    return select(x < 1.0, not_a_number(), select(x > _INVERSE_LARGE, large, small))


@define_intrinsic("atanh", F32, x=F32)
def atanh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The inverse of `tanh` within 4 ulp: log1p(2 * a / (1 - a)) / 2 with a = |x|; infinite at 1, NaN beyond."""
    magnitude = k.let("magnitude", magnitude_of(x))
    return with_sign_of(log1p(magnitude * 2.0 / (1.0 - magnitude)) * 0.5, x)


def _exact_product(k: IntrinsicBuilder, name: str, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """a * b as a float and the rest that it lacks, from halves of 12 bits. (T. J. Dekker, "A floating-point technique
    for extending the available precision", 1971.)
    """
    product = k.let(name, a * b)
    highs, lows = [], []
    for letter, value in (("a", a), ("b", b)):
        high = k.let(f"{name}_{letter}_high", float_of_bits(bits_of(value) & -4096))
        highs.append(high)
        lows.append(k.let(f"{name}_{letter}_low", value - high))
    error = highs[0] * highs[1] - product + highs[0] * lows[1] + lows[0] * highs[1] + lows[0] * lows[1]
    return product, k.let(f"{name}_error", error)


def _precise_log(k: IntrinsicBuilder, x: Expr) -> tuple[Expr, Expr]:
    """log(x) as the sum of two floats, for positive finite x: about 30 bits.

    x = 2**e * m with sqrt(1/2) <= m < sqrt(2), and log(m) = 2 * atanh(s) with s = (m - 1) / (m + 1) in two floats.
    """
    is_subnormal = k.let("is_subnormal", x < _SMALLEST_NORMAL)
    bits = k.let("bits", bits_of(select(is_subnormal, x * 8388608.0, x)))
    power = k.let("power", (bits - 0x3F3504F3) >> 23)
    f = k.let("f", float_of_bits(bits - (power << 23)) - 1.0)
    exponent = k.let("exponent", (power - select(is_subnormal, Constant(23, I32), Constant(0, I32))).cast(F32))
    denominator = k.let("denominator", f + 2.0)
    s = k.let("s", f / denominator)
    product, error = _exact_product(k, "product", s, denominator)
    lost = k.let("lost", f - (denominator - 2.0))
    s_low = k.let("s_low", (f - product - error - s * lost) / denominator)
    square = k.let("square", s * s)
    rest = k.let("rest", s * square * polynomial(square, _ATANH) + s_low)
    whole = k.let("whole", exponent * _LN2_HIGH)
    high = k.let("high", whole + s * 2.0)
    tail = k.let("tail", s * 2.0 - (high - whole) + (rest * 2.0 + exponent * _LN2_LOW))
    total = k.let("total", high + tail)
    return total, k.let("total_low", tail - (total - high))


@define_intrinsic("power", F32, x=F32, y=F32)
def power(k: IntrinsicBuilder, x: Expr, y: Expr) -> Expr:
    """x**y within 2 ulp, with the special values of IEEE 754-2019, section 9.2.1 (pow).

    |x|**y is exp(y * log |x|) with the logarithm and the product in two floats. A negative x has a power for whole y
    only, negative for odd ones.
    """
    magnitude = k.let("magnitude", magnitude_of(x))
    is_special = k.let("is_special", magnitude.eq(0.0) | (magnitude > _LARGEST))
    high, low = _precise_log(k, k.let("base", select(is_special, Constant(1.0, F32), magnitude)))
    # Beyond these, powers of all numbers but 1 are 0 or infinite.
    bounded = k.let("bounded", minimum(1e12, maximum(-1e12, y)))
    scaled, error = _exact_product(k, "scaled", bounded, high)
    is_moderate = k.let("is_moderate", magnitude_of(scaled) < 200.0)
    correction = k.let("correction", select(is_moderate, error + bounded * low, Constant(0.0, F32)))
    raised = k.let("raised", exp(scaled))
    finite = k.let("finite", select(raised <= _LARGEST, raised * correction + raised, raised))
    infinity = float_of_bits(Constant(0x7F800000, I32))
    grows = k.let("grows", magnitude.eq(0.0) ^ (y > 0.0))
    positive = k.let("positive", select(is_special, select(grows, infinity, Constant(0.0, F32)), finite))
    is_whole = k.let("is_whole", Unary("floor", y).eq(y))
    half = k.let("half", y * 0.5)
    is_odd = k.let("is_odd", is_whole & Unary("floor", half).ne(half))
    is_below = k.let("is_below", bits_of(x) < 0)
    signed = k.let("signed", select(is_below & is_odd, -positive, positive))
    has_power = k.let("has_power", is_whole | (x >= 0.0) | is_special)
    real = k.let("real", select(has_power, signed, not_a_number()))
    total = k.let("total_nan", x + y)
    has_nan = k.let("has_nan", x.ne(x) | y.ne(y))
    result = k.let("result", select(has_nan, total, real))
    return select(y.eq(0.0) | x.eq(1.0), Constant(1.0, F32), result)
