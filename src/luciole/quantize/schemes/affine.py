"""Activations with a zero point anywhere in int8: the whole of -128..127 is used."""

from __future__ import annotations

from luciole.ir.quant import Quant
from luciole.quantize.schemes.base import Scheme


class Affine(Scheme):
    """low becomes -128 and high 127, but for what makes zero an integer."""

    name = "affine"

    def int8(self, low: float, high: float) -> Quant:
        scale = self.scale((high - low) / 255)
        return Quant.per_tensor(scale, max(-128, min(127, round(-128 - low / scale))))
