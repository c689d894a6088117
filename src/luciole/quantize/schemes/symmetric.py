"""Activations with the zero point 0, or at the end of int8 where there are no negative ones."""

from __future__ import annotations

from luciole.ir.quant import Quant
from luciole.quantize.schemes.affine import Affine
from luciole.quantize.schemes.base import Scheme


class Symmetric(Scheme):
    """The greatest magnitude becomes 127, the zero point is 0."""

    name = "symmetric"

    def int8(self, low: float, high: float) -> Quant:
        return self.symmetric(low, high)


class SymmetricUnsigned(Scheme):
    """As `symmetric`, but tensors without negative numbers use all of int8, with the zero point -128.

    Glow calls that symmetric_with_uint8: an int8 number with the zero point -128 is a uint8 number minus 128.
    """

    name = "symmetric-uint8"

    def int8(self, low: float, high: float) -> Quant:
        return Affine().int8(low, high) if low >= 0 else self.symmetric(low, high)
