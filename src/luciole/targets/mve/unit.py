"""The vectors of the M-profile Vector Extension."""

from __future__ import annotations

from luciole.kernel.core import Constant, Expr, Splat, binary
from luciole.kernel.intrinsics import high_multiply, shift_rounded
from luciole.kernel.vectorize import VectorUnit


def _negated(value: Expr) -> Expr:
    if isinstance(value, Splat) and isinstance(value.a, Constant):
        return Splat(Constant(-value.a.value, value.a.dtype), value.lanes)
    return binary("sub", 0, value)


def _scaled(accumulator: Expr, multiplier: Expr, right: Expr) -> Expr:
    """accumulator * multiplier * 2**(-right - 31) for 1 <= right: one less for negative products rounds their halves
    away from zero.
    """
    high = high_multiply(accumulator, multiplier)
    return shift_rounded(high + (high >> 31), _negated(right))


def _requantize_right(arguments: tuple[Expr, ...]) -> Expr:
    accumulator, multiplier, right = arguments
    return _scaled(accumulator, multiplier, right)


def _requantize_offset(arguments: tuple[Expr, ...]) -> Expr:
    """The shift of `requantize_tflite_offset` is one less, and the offset twice the zero point and one."""
    accumulator, multiplier, shift, offset = arguments
    return _scaled(accumulator, multiplier, shift + 1) + (offset >> 1)


MVE = VectorUnit(
    bits=128,
    unrolled_vectors=3,
    forms={"requantize_tflite_right": _requantize_right, "requantize_tflite_offset": _requantize_offset},
)
