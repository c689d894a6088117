"""Trigonometric functions of float32 as intrinsics, under the rules of `kernel.elementary`.

Arguments of any size are reduced exactly: multiplied by as many bits of 2 / pi as matter, in integers. (M. H. Payne and
R. N. Hanek, "Radian reduction for trigonometric functions", 1983.)
"""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Constant, Expr, Unary, cast, maximum, minimum, select
from luciole.kernel.elementary import bits_of, magnitude_of, not_a_number, polynomial, with_sign_of

F32, I32, I64, U32, U64 = DType.F32, DType.I32, DType.I64, DType.U32, DType.U64

#: 2 / pi in words of 32 bits, behind a word of zeros.
_TWO_OVER_PI = (0, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB)

#: pi / 2 * 2**-30 in two floats; pi / 2, pi / 4 and pi in two floats.
_QUARTER_UNIT, _QUARTER_UNIT_LOW = 1.462918119976564e-09, -4.070940267922164e-17
_HALF_PI, _HALF_PI_LOW = 1.5707963705062866, -4.371138828673793e-08
_FOURTH_PI, _FOURTH_PI_LOW = 0.7853981852531433, -2.1855694143368964e-08
_PI, _PI_LOW = 3.1415927410125732, -8.742277657347586e-08

#: (sin(r) / r - 1) / r**2 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2 on |r| <= pi / 4; 3.7e-9 relative, 5e-10.
_SIN = (-0.166666672, 0.00833332911, -0.000198393129, 2.71812155e-06)
_COS = (0.0416666679, -0.00138888834, 2.47995195e-05, -2.72102369e-07)

#: (atan(x) / x - 1) / x**2 in x**2 on |x| <= tan(pi / 8), 3e-9 relative; tan(pi / 8) and tan(3 * pi / 8).
_ATAN = (-0.333333164, 0.199984714, -0.142435327, 0.105938137, -0.0607822128)
_TAN_EIGHTH_PI, _TAN_THREE_EIGHTHS_PI = 0.41421357, 2.4142135

#: (asin(x) / x - 1) / x**2 in x**2 on |x| <= 1/2; 1.1e-9 relative.
_ASIN = (0.166666597, 0.0750050396, 0.0445169546, 0.0318077244, 0.0144385863, 0.0375164784)

#: Biased exponents: that of 1/2, below which nothing is reduced, and the greatest of a finite number.
_HALF_EXPONENT, _GREATEST_EXPONENT = 126, 254


def _word(k: IntrinsicBuilder, number: Expr, offset: int) -> Expr:
    """Word `number` + `offset` of 2 / pi, for 0 <= number <= 4."""
    word: Expr = Constant(_TWO_OVER_PI[offset], U32)
    for step in range(1, 5):
        word = select(number.eq(step), Constant(_TWO_OVER_PI[step + offset], U32), word)
    return k.let(f"word{offset}", word)


def _reduced(k: IntrinsicBuilder, x: Expr) -> tuple[Expr, Expr]:
    """(q, r) with |x| = q * pi / 2 + r and |r| <= pi / 4, about; q from 0 to 3, whole turns left out.

    |x| = m * 2**e with a mantissa m of 24 bits. Of 2 / pi, bits whose product with m * 2**e is a multiple of 4 are left
    out, and 96 bits after them are taken: u = |x| / (2 * pi) without its whole part, of which the upper 64 bits are
    computed. The two highest are the quadrant, rounded; the others are the rest.
    """
    bits = k.let("magnitude_bits", bits_of(x) & 0x7FFFFFFF)
    exponent = k.let("exponent", minimum(maximum(bits >> 23, _HALF_EXPONENT), _GREATEST_EXPONENT))
    mantissa = k.let("mantissa", ((bits & 0x7FFFFF) | 0x800000).cast(U32).cast(U64))
    start = k.let("start", exponent - 120)
    number = k.let("number", start >> 5)
    shift = k.let("shift", (start & 31).cast(U32))
    words = [_word(k, number, offset) for offset in range(4)]
    parts = []
    for index in range(3):
        following = k.let(f"following{index}", (words[index + 1] >> 1) >> (cast(31, U32) - shift))
        parts.append(k.let(f"part{index}", ((words[index] << shift) | following).cast(U64)))
    turn = k.let("turn", ((mantissa * parts[0]) << 32) + mantissa * parts[1] + ((mantissa * parts[2]) >> 32))
    quadrant = k.let("quadrant", (turn + (1 << 61)) >> 62)
    rest = k.let("rest", (turn - (quadrant << 62)).cast(I64))
    high = k.let("high", (rest >> 32).cast(I32))
    rounded = k.let("rounded", high.cast(F32))
    left = k.let("left", (high - rounded.cast(I32)).cast(F32) + rest.cast(U32).cast(F32) * 2.0**-32)
    angle = k.let("angle", rounded * _QUARTER_UNIT + (rounded * _QUARTER_UNIT_LOW + left * _QUARTER_UNIT))
    is_small = k.let("is_small", bits < (_HALF_EXPONENT << 23))
    q = k.let("q", select(is_small, Constant(0, I32), quadrant.cast(I32)))
    return q, k.let("r", select(is_small, magnitude_of(x), angle))


def _sine_and_cosine(k: IntrinsicBuilder, r: Expr) -> tuple[Expr, Expr]:
    square = k.let("square", r * r)
    sine = k.let("sine", r * square * polynomial(square, _SIN) + r)
    return sine, k.let("cosine", square * square * polynomial(square, _COS) - square * 0.5 + 1.0)


def _finite(x: Expr, result: Expr) -> Expr:
    """The result; NaN for the infinities and NaNs."""
    return select((bits_of(x) & 0x7FFFFFFF) < 0x7F800000, result, not_a_number())


@define_intrinsic("sin", F32, x=F32)
def sin(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The sine within 3 ulp for any finite x; NaN at the infinities."""
    q, r = _reduced(k, x)
    sine, cosine = _sine_and_cosine(k, r)
    value = k.let("value", select((q & 1).eq(0), sine, cosine))
    turned = k.let("turned", select(q > 1, -value, value))
    return _finite(x, with_sign_of(turned, x))


@define_intrinsic("cos", F32, x=F32)
def cos(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The cosine within 3 ulp for any finite x; NaN at the infinities."""
    q, r = _reduced(k, x)
    sine, cosine = _sine_and_cosine(k, r)
    value = k.let("value", select((q & 1).eq(0), cosine, sine))
    is_negative = k.let("is_negative", q.eq(1) | q.eq(2))
    return _finite(x, select(is_negative, -value, value))


@define_intrinsic("tan", F32, x=F32)
def tan(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The tangent within 4 ulp for any finite x; NaN at the infinities."""
    q, r = _reduced(k, x)
    sine, cosine = _sine_and_cosine(k, r)
    is_even = k.let("is_even", (q & 1).eq(0))
    value = k.let("value", select(is_even, sine, -cosine) / select(is_even, cosine, sine))
    return _finite(x, with_sign_of(value, x))


@define_intrinsic("atan", F32, x=F32)
def atan(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The inverse of the tangent within 3 ulp: a polynomial for |x| <= tan(pi / 8).

    Above it is pi / 4 + atan((|x| - 1) / (|x| + 1)), from tan(3 * pi / 8) on pi / 2 - atan(1 / |x|).
    """
    magnitude = k.let("magnitude", magnitude_of(x))
    is_large = k.let("is_large", magnitude > _TAN_THREE_EIGHTHS_PI)
    is_middle = k.let("is_middle", magnitude > _TAN_EIGHTH_PI)
    numerator = k.let("numerator", select(is_large, Constant(-1.0, F32), magnitude - 1.0))
    ratio = k.let("ratio", numerator / select(is_large, magnitude, magnitude + 1.0))
    u = k.let("u", select(is_middle, ratio, magnitude))
    square = k.let("square", u * u)
    base = k.let("base", select(is_large, Constant(_HALF_PI, F32), Constant(_FOURTH_PI, F32)))
    low = k.let("low", select(is_large, Constant(_HALF_PI_LOW, F32), Constant(_FOURTH_PI_LOW, F32)))
    term = k.let("term", u * square * polynomial(square, _ATAN))
    far = k.let("far", base + (u + (term + low)))
    return with_sign_of(select(is_middle, far, term + u), x)


def _arcsine(k: IntrinsicBuilder, magnitude: Expr) -> tuple[Expr, Expr]:
    """Whether |x| is above 1/2, and asin(|x|) or, above, (pi / 2 - asin(|x|)) / 2 = asin(sqrt((1 - |x|) / 2))."""
    is_large = k.let("is_large", magnitude > 0.5)
    square = k.let("square", select(is_large, (1.0 - magnitude) * 0.5, magnitude * magnitude))
    s = k.let("s", select(is_large, Unary("sqrt", square), magnitude))
    return is_large, k.let("angle", s * square * polynomial(square, _ASIN) + s)


@define_intrinsic("asin", F32, x=F32)
def asin(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The inverse of the sine within 3 ulp; NaN beyond 1."""
    is_large, angle = _arcsine(k, k.let("magnitude", magnitude_of(x)))
    return with_sign_of(select(is_large, _HALF_PI - (angle * 2.0 - _HALF_PI_LOW), angle), x)


@define_intrinsic("acos", F32, x=F32)
def acos(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The inverse of the cosine within 3 ulp; NaN beyond 1."""
    is_large, angle = _arcsine(k, k.let("magnitude", magnitude_of(x)))
    near = k.let("near", _HALF_PI - (with_sign_of(angle, x) - _HALF_PI_LOW))
    far = k.let("far", select(x < 0.0, _PI - (angle * 2.0 - _PI_LOW), angle * 2.0))
    return select(is_large, far, near)
