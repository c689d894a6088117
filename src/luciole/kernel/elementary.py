"""Elementary functions of float32 as intrinsics: exp, log, tanh, logistic, erf.

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

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Bitcast, Constant, Expr, Operand, Unary, maximum, minimum, select

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

_SMALLEST_NORMAL, _LARGEST = 1.1754943508222875e-38, 3.4028234663852886e38


def _polynomial(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """c0 + x * (c1 + x * (c2 + ...))."""
    result: Operand = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        result = x * result + coefficient
    assert isinstance(result, Expr)
    return result


def _float_of_bits(bits: Expr) -> Expr:
    return Bitcast(bits.as_data(), F32)


def _bits(x: Expr) -> Expr:
    return Bitcast(x.as_data(), I32)


def _power_of_two(exponent: Expr) -> Expr:
    """2**exponent for -126 <= exponent <= 127."""
    return _float_of_bits((exponent + 127) << 23)


def _magnitude(x: Expr) -> Expr:
    return Unary("abs", x.as_data())


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
    exponent = k.let("exponent", _bits(shifted) - _ROUNDING_BITS)
    r = k.let("r", bounded - whole * _LN2_HIGH - whole * _LN2_LOW)
    power = k.let("power", r * r * _polynomial(r, _EXP) + r + 1.0)
    half = k.let("half", exponent >> 1)
    return power * _power_of_two(half) * _power_of_two(exponent - half)


@define_intrinsic("log", F32, x=F32)
def log(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The natural logarithm within 1 ulp; -infinity at zeros, NaN below, infinity at infinity.

    x = 2**e * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), found on the bits; subnormal numbers are scaled before.
    """
    is_subnormal = k.let("is_subnormal", x < _SMALLEST_NORMAL)
    bits = k.let("bits", _bits(select(is_subnormal, x * 8388608.0, x)))
    power = k.let("power", (bits - 0x3F3504F3) >> 23)
    f = k.let("f", _float_of_bits(bits - (power << 23)) - 1.0)
    exponent = k.let("exponent", (power - select(is_subnormal, Constant(23, I32), Constant(0, I32))).cast(F32))
    square = k.let("square", f * f)
    rest = k.let("rest", square * f * _polynomial(f, _LOG) + exponent * _LN2_LOW - square * 0.5)
    result = k.let("result", rest + f + exponent * _LN2_HIGH)
    finite = k.let("finite", select(x <= _LARGEST, result, x))
    positive = k.let("positive", select(x.eq(0.0), _float_of_bits(Constant(-0x00800000, I32)), finite))
    return select(x < 0.0, _float_of_bits(Constant(0x7FC00000, I32)), positive)


@define_intrinsic("tanh", F32, x=F32)
def tanh(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The hyperbolic tangent within 2 ulp; zeros give zero, and 1 with the sign of x is reached from 9.02.

    A polynomial for |x| < 0.55, otherwise 1 - 2 / (exp(2 |x|) + 1).
    """
    magnitude = k.let("magnitude", _magnitude(x))
    square = k.let("square", x * x)
    small = k.let("small", x * square * _polynomial(square, _TANH) + x)
    large = k.let("large", 1.0 - 2.0 / (exp(magnitude * 2.0) + 1.0))
    return select(magnitude < _TANH_SMALL, small, select(x < 0.0, -large, large))


@define_intrinsic("logistic", F32, x=F32)
def logistic(k: IntrinsicBuilder, x: Expr) -> Expr:
    """1 / (1 + exp(-x)) within 3 ulp; 0 and 1 at the infinities.

    With e = exp(-|x|) it is 1 / (1 + e) for positive x and e / (1 + e) for negative, which keeps small results exact.
    """
    power = k.let("power", exp(-_magnitude(x)))
    return select(x < 0.0, power, 1.0) / (power + 1.0)


@define_intrinsic("erf", F32, x=F32)
def erf(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The error function within 3 ulp; 1 with the sign of x at the infinities.

    A polynomial for |x| < 1, otherwise 1 - exp(-p(|x|)) with a polynomial p.
    """
    magnitude = k.let("magnitude", _magnitude(x))
    small = k.let("small", x * _polynomial(x * x, _ERF))
    tail = k.let("tail", _polynomial(minimum(_ERF_LARGEST, magnitude), _ERF_TAIL))
    large = k.let("large", 1.0 - exp(-tail))
    return select(magnitude < _ERF_SMALL, small, select(x < 0.0, -large, large))
