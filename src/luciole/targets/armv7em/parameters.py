"""What a channel's sum begins with and how it ends, in as few bytes of flash as its layer allows.

A layer with one multiplier has four bytes a channel, the bias, behind three words that all channels share. Else a
channel has eight: the bias above five bits of shift, and the multiplier; where a bias needs more than 27 bits the shift
has a third word. Nothing of this is in the code, so that layers of equal shapes share theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luciole.ir.arithmetic import multiplier_arrays
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Bitcast, Expr, clamp
from luciole.kernel.float_hardware import ROUNDING, ROUNDING_BITS
from luciole.ops.common import Requantizer
from luciole.targets.armv7em.intrinsics import saturate_byte, smmlar

#: Bits that a shift takes below a bias.
SHIFT_BITS = 5
BIAS_LIMIT = 1 << (31 - SHIFT_BITS)


@dataclass(frozen=True)
class Scaling:
    """How sums become results: the multiplier, one less than the right shift, and (2 * zero point + 1) << shift."""

    multiplier: Expr
    shift: Expr
    rounding: Expr


@dataclass(frozen=True, eq=False)
class ChannelParameters:
    """Biases and multipliers of a layer that `hilo.requantization_problem` accepts."""

    requantizer: Requantizer
    bias: Array

    @property
    def is_uniform(self) -> bool:
        """Whether all channels share one multiplier."""
        return len(set(self.requantizer.multipliers)) == 1

    @property
    def packs_shifts(self) -> bool:
        """Whether biases leave room for shifts."""
        return int(np.abs(self.bias).max(initial=0)) < BIAS_LIMIT

    @property
    def bytes_each(self) -> int:
        """Bytes a channel."""
        if self.is_uniform:
            return 4
        return 8 if self.packs_shifts else 12

    @property
    def header_bytes(self) -> int:
        """Bytes before those of the first channel."""
        return 12 if self.is_uniform else 0

    def words(self) -> Array:
        """The int32 words that a kernel reads."""
        multiplier, shift = (a.astype(np.int64) for a in multiplier_arrays(self.requantizer.multipliers))
        right, offset = -1 - shift, 2 * self.requantizer.zero_point + 1
        if self.requantizer.rounding == "onnx":
            multiplier, right = float_factors(self.requantizer), np.zeros_like(shift)
        if self.is_uniform:
            words = np.concatenate([[multiplier[0], right[0], offset << right[0]], self.bias])
        elif self.packs_shifts:
            words = np.stack([(self.bias << SHIFT_BITS) | right, multiplier], axis=1).reshape(-1)
        else:
            words = np.stack([self.bias, multiplier, right], axis=1).reshape(-1)
        return np.ascontiguousarray(words.astype(np.int32))

    def read_shared(self, k: LoopBuilder, begin: Expr) -> Scaling | None:
        """The scaling of all channels, from where the words begin; `None` where each has its own."""
        if not self.is_uniform:
            return None
        names = ("multiplier", "shift", "rounding")
        multiplier, shift, rounding = (k.define(n, k.read(begin, 4 * i, DType.I32)) for i, n in enumerate(names))
        return Scaling(multiplier, shift, rounding)

    def read_bias(self, k: LoopBuilder, source: Expr, channel: int = 0) -> Expr:
        """The bias of a channel behind the one at `source`."""
        word = k.read(source, channel * self.bytes_each, DType.I32)
        return word >> SHIFT_BITS if self.packs_shifts and not self.is_uniform else word

    def read_scaling(self, k: LoopBuilder, shared: Scaling | None, source: Expr, channel: int = 0) -> Scaling:
        """The scaling of a channel behind the one at `source`."""
        if shared is not None:
            return shared
        first, offset = channel * self.bytes_each, 2 * self.requantizer.zero_point + 1
        multiplier = k.define("multiplier", k.read(source, first + 4, DType.I32))
        if self.packs_shifts:
            right = k.define("shift", k.read(source, first, DType.I32) & ((1 << SHIFT_BITS) - 1))
        else:
            right = k.define("shift", k.read(source, first + 8, DType.I32))
        return Scaling(multiplier, right, k.define("rounding", k.define("offset", offset) << right))

    def finished(self, doubled: Expr, scaling: Scaling) -> Expr:
        """The result of a doubled sum."""
        if self.requantizer.rounding == "onnx":
            return rounded_as_float(self.requantizer, doubled, scaling.multiplier)
        return requantized_by(self.requantizer, doubled, scaling.multiplier, scaling.rounding, scaling.shift)


def float_factors(requantizer: Requantizer) -> Array:
    """int64 [channels]: the bits of half of each multiplier as a float32 number, for `rounded_as_float`."""
    halves = np.array([multiplier.real / 2 for multiplier in requantizer.multipliers], np.float32)
    return halves.view(np.int32).astype(np.int64)


def rounded_as_float(requantizer: Requantizer, doubled: Expr, factor: Expr) -> Expr:
    """The result of a doubled sum for rounding `onnx`, by floating-point hardware.

    All cores with the DSP extension that are targets have it. See `kernel.float_hardware`: twice the sum, and half of
    the multiplier, are float32 numbers as the sum and the multiplier are.
    """
    scaled = doubled.cast(DType.F32) * Bitcast(factor.as_data(), DType.F32)
    value = Bitcast(scaled + ROUNDING, DType.I32) - (ROUNDING_BITS - requantizer.zero_point)
    if (requantizer.low, requantizer.high) == (-128, 127):
        return saturate_byte(value)
    return clamp(value, requantizer.low, requantizer.high)


def requantized_by(requantizer: Requantizer, total: Expr, multiplier: Expr, rounding: Expr, shift: Expr) -> Expr:
    """(SMMLAR(2 * sum, multiplier, (2 * zero + 1) << shift) - (sum < 0)) >> shift >> 1, clamped.

    See `hilo.requantized`; the last place is shifted out on its own, which costs nothing before a saturation.
    """
    value = (smmlar(total, multiplier, rounding) + (total >> 31)) >> shift >> 1
    if (requantizer.low, requantizer.high) == (-128, 127):
        return saturate_byte(value)
    return clamp(value, requantizer.low, requantizer.high)
