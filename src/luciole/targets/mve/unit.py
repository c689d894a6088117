"""The vectors of the M-profile Vector Extension."""

from __future__ import annotations

from luciole.kernel.core import Expr, binary
from luciole.kernel.vectorize import VectorUnit
from luciole.targets.mve.requantization import requantize_by_negated_right


def _requantize_right(arguments: tuple[Expr, ...]) -> Expr:
    accumulator, multiplier, right = arguments
    return requantize_by_negated_right(accumulator, multiplier, binary("sub", 0, right))


def _requantize_offset(arguments: tuple[Expr, ...]) -> Expr:
    """The shift of `requantize_tflite_offset` is one less, and the offset twice the zero point and one."""
    accumulator, multiplier, shift, offset = arguments
    scaled = requantize_by_negated_right(accumulator, multiplier, binary("sub", -1, shift))
    return scaled + (offset >> 1)


#: Requantization by a rounding high multiplication and a rounding shift, which vector units have.
SHORT_FORMS = {"requantize_tflite_right": _requantize_right, "requantize_tflite_offset": _requantize_offset}
MVE = VectorUnit(bits=128, unrolled_vectors=3, forms=SHORT_FORMS)
