"""Activations with a zero point anywhere in int8: the whole of -128..127 is used."""

from __future__ import annotations

from luciole.ir.quant import Quant
from luciole.quantize.schemes.base import SCALE_OF_ZEROS, Scheme


class Affine(Scheme):
    """low becomes -128 and high 127, but for what makes zero an integer."""

    name = "affine"

    def activation(self, low: float, high: float) -> Quant:
        if low == high == 0:
            return Quant.per_tensor(SCALE_OF_ZEROS)
        scale = self.scale((high - low) / 255)
        return Quant.per_tensor(scale, max(-128, min(127, round(-128 - low / scale))))
