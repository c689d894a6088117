"""Half-precision floats (IEEE 754 binary16) as bits: conversions to and from float32, exact or rounded to nearest even.

Kernels store `f16` and compute in `f32`, so that every core can have them, with the same bits, and none needs
instructions for them.
"""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Bitcast, Constant, Expr, Unary, select
from luciole.kernel.elementary import float_of_bits

F32, F64, U16, U32 = DType.F32, DType.F64, DType.U16, DType.U32

#: What exponents of float32 are biased by beyond those of half floats, in place.
_BIAS = 112 << 23
#: The exponent of the smallest normal half float, as a float32 has it, in place; and 1 / 2 there.
_SMALLEST, _HALF = 113 << 23, 126 << 23
#: From here on magnitudes become infinite: the middle of the largest half float and the next power of two, 65520.
_TOO_LARGE = 0x477FF000


def _bits(x: Expr) -> Expr:
    return Bitcast(x.as_data(), U32)


@define_intrinsic("half_to_float", F32, bits=U16)
def half_to_float(k: IntrinsicBuilder, bits: Expr) -> Expr:
    """The half float of these bits; exact.

    The exponent is rebiased; a subnormal number is a normal one less the hidden bit, which float32 subtracts exactly.
    """
    magnitude = k.let("magnitude", (bits.cast(U32) & 0x7FFF) << 13)
    sign = k.let("sign", (bits.cast(U32) & 0x8000) << 16)
    small = k.let("small", _bits(float_of_bits(magnitude + _SMALLEST) - float_of_bits(Constant(_SMALLEST, U32))))
    normal = k.let("normal", magnitude + _BIAS)
    large = k.let("large", select(magnitude >= 0x7C00 << 13, normal + _BIAS, normal))
    return float_of_bits(select(magnitude < 0x0400 << 13, small, large) | sign)


@define_intrinsic("float_to_half", U16, x=F32)
def float_to_half(k: IntrinsicBuilder, x: Expr) -> Expr:
    """The bits of the half float nearest to x, of two the even one; infinities from 65520 on.

    Below the normal half floats, adding 1 / 2 rounds to their last place.
    """
    bits = k.let("bits", _bits(x))
    magnitude = k.let("magnitude", bits & 0x7FFFFFFF)
    small = k.let("small", _bits(float_of_bits(magnitude) + float_of_bits(Constant(_HALF, U32))) - _HALF)
    normal = k.let("normal", (magnitude - _BIAS + 0xFFF + ((magnitude >> 13) & 1)) >> 13)
    finite = k.let("finite", select(magnitude < _SMALLEST, small, normal))
    special = k.let("special", select(magnitude > 0x7F800000, Constant(0x7E00, U32), Constant(0x7C00, U32)))
    unsigned = k.let("unsigned", select(magnitude >= _TOO_LARGE, special, finite))
    return (unsigned | ((bits >> 16) & 0x8000)).cast(U16)


@define_intrinsic("double_to_odd_float", F32, x=F64)
def double_to_odd_float(k: IntrinsicBuilder, x: Expr) -> Expr:
    """x cut to float32, with an odd last bit where anything was lost: from there any rounding to fewer bits is right.

    (S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd",
    2008.)
    """
    near = k.let("near", x.cast(F32))
    magnitude = k.let("magnitude", Unary("abs", x.as_data()))
    back = k.let("back", Unary("abs", near.as_data()).cast(F64))
    cut = k.let("cut", select(back > magnitude, _bits(near) - 1, _bits(near)))
    return float_of_bits(select((back > magnitude) | (back < magnitude), cut | 1, cut))
