"""Scales that are powers of two, so that requantization is a shift."""

from __future__ import annotations

import math

from luciole.quantize.schemes.base import LEAST_SCALE
from luciole.quantize.schemes.symmetric import Symmetric


class PowerOfTwo(Symmetric):
    """As `symmetric`, with the next greater power of two as the scale, of weights too."""

    name = "power-of-two"

    def scale(self, step: float) -> float:
        fraction, exponent = math.frexp(max(step, LEAST_SCALE))
        return math.ldexp(1.0, exponent - 1 if fraction == 0.5 else exponent)
