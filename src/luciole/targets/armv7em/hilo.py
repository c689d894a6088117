"""Two output channels in one register: what int8 convolutions with packed weights share.

Two weights share a halfword, 256 * odd + even channel, and two halfwords of neighbouring inputs share a word. With x a
pair of widened inputs, SMLAD of the whole word adds 256 * odd + even sums, SMLAD of its sign-extended low bytes adds
the even sums alone, so the odd sum is (whole - even) / 256: one unpacking for four products, at one byte of flash a
weight. Inputs are widened once, centered and doubled, 2 * (x - zero point), so that SMMLAR rounds as TFLite's doubling
high multiply does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.samples import Samples
from luciole.ir.arithmetic import multiplier_arrays
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, clamp
from luciole.ops.common import Requantizer
from luciole.ops.conv import Conv2d
from luciole.ops.weighted import WeightedSum
from luciole.targets.armv7em.intrinsics import saturate_byte, smmlar, sxtab16, sxtab16_odd
from luciole.targets.armv7em.parameters import ChannelParameters, Scaling, float_factors, rounded_as_float

#: Words of parameters for a pair of channels: two biases, then multiplier, rounding constant and shift of each.
PARAMETER_WORDS = 8
#: Layers of up to so many pixels read lean parameters.
LEAN_PIXELS = 64
#: The sum of an odd channel stands 8 bits higher in its register.
ODD_SUM_LIMIT = 1 << 23
#: The five-instruction requantization holds for right shifts in this range.
MINIMUM_RIGHT_SHIFT, MAXIMUM_RIGHT_SHIFT = 1, 23


def packing_problem(sums: WeightedSum) -> str:
    """Why packed sums or the short requantization would not be exact, or an empty string.

    The bound takes every input at its extreme.
    """
    if problem := requantization_problem(sums):
        return problem
    weights = sums.weights
    if _largest_odd_sum(sums) >= ODD_SUM_LIMIT:
        return "a sum may exceed 23 bits"
    even = weights[0::2][: len(weights) // 2]
    if np.any((weights[1::2] == -128) & (even < 0)):
        return "a pair of weights does not fit a halfword"
    return ""


def requantization_problem(sums: WeightedSum) -> str:
    """Why the short requantization of doubled sums would not be exact, or an empty string."""
    requantizer = sums.kernel_requantizer
    if requantizer.rounding == "onnx":
        return "" if requantizer.is_small else "sums may exceed what float32 holds"
    if requantizer.rounding != "tflite":
        return f"rounding is {requantizer.rounding}"
    if any(not MINIMUM_RIGHT_SHIFT <= -m.shift <= MAXIMUM_RIGHT_SHIFT for m in requantizer.multipliers):
        return "a channel's shift is outside 1..23 to the right"
    if 2 * requantizer.accumulator_bound >= 1 << 31:
        return "twice a sum may exceed 32 bits"
    return ""


def _largest_odd_sum(sums: WeightedSum) -> int:
    """The largest magnitude that the sum of an odd channel can reach, every input at its extreme."""
    return int(sums.largest_sums(sums.kernel_bias)[1::2].max(initial=0))


def scale_of(sums: WeightedSum) -> int:
    """2 where sums are kept doubled, as SMMLAR wants them; 1 where twice an odd sum could exceed 23 bits."""
    return 2 if 2 * _largest_odd_sum(sums) < ODD_SUM_LIMIT else 1


def pair_rows(values: Array) -> Array:
    """[channels, ...] with a row of zeros appended when the number of channels is odd."""
    if len(values) % 2 == 0:
        return values
    return np.concatenate([values, np.zeros_like(values[:1])])


def packed_words(weights: Array, order: Array) -> Array:
    """Words [pairs of channels, pairs of products]; `order` holds the two products that share each word."""
    whole = pair_rows(weights)
    halves = 256 * whole[1::2] + whole[0::2]
    low, high = halves[:, order[:, 0]], halves[:, order[:, 1]]
    words: Array = ((low & 0xFFFF) | ((high & 0xFFFF) << 16)).astype(np.uint32).view(np.int32)
    return np.ascontiguousarray(words)


def channel_parameters(sums: WeightedSum) -> Array:
    """Words [pairs of channels, 8]: scaled bias of the even channel, packed bias of both, (multiplier, rounding,
    shift) twice.

    The rounding constant is (2 * zero point + 1) * 2**(shift - 1): half of the last place, and the zero point above it.
    """
    requantizer, bias = sums.kernel_requantizer, scale_of(sums) * pair_rows(sums.kernel_bias)
    multiplier, shift = multiplier_arrays(requantizer.multipliers)
    right = -shift.astype(np.int64)
    if requantizer.rounding == "onnx":
        multiplier, right = float_factors(requantizer), np.ones_like(right)
    rounding = (2 * requantizer.zero_point + 1) << (right - 1)
    triples = pair_rows(np.stack([multiplier.astype(np.int64), rounding, right], axis=1)).reshape(-1, 6)
    packed = np.concatenate([bias[0::2, None], (256 * bias[1::2] + bias[0::2])[:, None], triples], axis=1)
    return np.ascontiguousarray(packed.astype(np.uint64).astype(np.uint32).view(np.int32))


def widening_offsets(sums: WeightedSum) -> int:
    """-zero point, scaled, in both halves of a word, as a signed number: what SXTAB16 adds while widening."""
    return offsets_word(-scale_of(sums) * sums.zero_point)


def offsets_word(offset: int) -> int:
    """A number in both halves of a word, as a signed number."""
    half = offset & 0xFFFF
    word = half | (half << 16)
    return word - (1 << 32) if word >= 1 << 31 else word


def widened_pair(word: Expr, offsets: Expr, scale: int, *, odd: bool = False) -> Expr:
    """Bytes 0 and 2 of a word (or 1 and 3) as centered, scaled halves."""
    add = sxtab16_odd if odd else sxtab16
    once = add(offsets, word)
    return add(once, word) if scale == 2 else once


def widened_half(value: Expr, zero_point: int, scale: int) -> Expr:
    """One int8 as a centered, scaled half."""
    centered = value.cast(DType.I32) - zero_point
    return (centered << 1 if scale == 2 else centered).cast(DType.I16)


def lean_parameters(sums: WeightedSum, pixels: int, *, is_lean: bool = False) -> ChannelParameters | None:
    """The parameters of layers of so few pixels that their bytes of flash count more than their instructions, or of
    any layer that `is_lean`; `None` for the others, which read `channel_parameters`.
    """
    if pixels > LEAN_PIXELS and not is_lean:
        return None
    requantizer, bias = sums.kernel_requantizer, scale_of(sums) * sums.kernel_bias
    if len(bias) % 2:
        multipliers = (*requantizer.multipliers, requantizer.multipliers[-1])
        requantizer, bias = replace(requantizer, multipliers=multipliers), np.append(bias, 0)
    return ChannelParameters(requantizer, bias)


def tuning_layer(s: Samples, size: int, channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> Conv2d:
    """A convolution of random data with weights that may be packed, padded so that its size stays."""
    w = s.i8_weights(out_channels, kernel, kernel, channels, scale=0.01)
    assert w.data is not None
    small = s.constant((w.data // (4 if kernel == 1 else 16)).astype(np.int8), w.type.quant)
    bias, pads = s.i32_bias(out_channels), (kernel // 2,) * 4
    x = s.i8(1, size, size, channels, zero=-128)
    return Conv2d(x, small, bias, strides=(stride, stride), pads=pads, quant=s.quant(0.9, -128))


@dataclass(frozen=True, eq=False)
class PairParameters:
    """How a kernel reads the parameters of pairs of channels: those of `lean`, or of `channel_parameters`."""

    sums: WeightedSum
    lean: ChannelParameters | None

    @staticmethod
    def of(sums: WeightedSum, pixels: int, *, is_lean: bool = False) -> PairParameters:
        """The parameters of a layer of so many pixels, see `lean_parameters`."""
        return PairParameters(sums, lean_parameters(sums, pixels, is_lean=is_lean))

    def words(self) -> Array:
        """The words that the kernel reads."""
        return channel_parameters(self.sums) if self.lean is None else self.lean.words()

    @property
    def header_bytes(self) -> int:
        """Bytes before those of the first pair."""
        return 0 if self.lean is None else self.lean.header_bytes

    @property
    def bytes_each(self) -> int:
        """Bytes of a pair."""
        return 4 * PARAMETER_WORDS if self.lean is None else 2 * self.lean.bytes_each

    @property
    def extra_instructions(self) -> int:
        """What unpacking costs for a pair of channels."""
        return 0 if self.lean is None or self.lean.is_uniform else 8

    def read_shared(self, k: LoopBuilder, begin: Expr) -> Scaling | None:
        """What all pairs share, see `ChannelParameters.read_shared`."""
        return None if self.lean is None else self.lean.read_shared(k, begin)

    def start(self, k: LoopBuilder, pointer: Expr, pixels: int) -> tuple[list[Register], list[Register]]:
        """The even sums and the packed sums of a pair of channels at their biases, one register a pixel."""
        if self.lean is None:
            first, packed = k.read(pointer, 0, DType.I32), k.read(pointer, 4, DType.I32)
        else:
            first = k.define("bias", self.lean.read_bias(k, pointer))
            packed = k.define("packed", first + (self.lean.read_bias(k, pointer, 1) << 8))
        even = [k.define(f"even{p}", first) for p in range(pixels)]
        return even, [k.define(f"both{p}", packed) for p in range(pixels)]

    def finish(
        self,
        k: LoopBuilder,
        pointer: Expr,
        shared: Scaling | None,
        out: Expr,
        stride: int,
        sums: tuple[list[Register], list[Register]],
        channels: int = 2,
    ) -> None:
        """Requantize and store the results of a pair of channels (or of its even one), pixels `stride` bytes apart."""
        even, both = sums
        requantizer, doubling = self.sums.kernel_requantizer, 2 // scale_of(self.sums) - 1
        # Without it the last products would be computed between these lines, and spilled for it.
        k.fence(holds_arithmetic=True)
        for channel in range(channels):
            if channel:
                k.fence()
            if self.lean is None:
                names, at = ("multiplier", "rounding", "right"), 8 + 12 * channel
                words = [k.define(n, k.read(pointer, at + 4 * i, DType.I32)) for i, n in enumerate(names)]
            else:
                scaling = self.lean.read_scaling(k, shared, pointer, channel)
            for p in range(len(even)):
                total = even[p] << doubling if channel == 0 else (both[p] - even[p]) >> 8 << doubling
                doubled = k.define("total", total)
                if self.lean is None:
                    value = requantized(requantizer, doubled, *words)
                else:
                    value = self.lean.finished(doubled, scaling)
                k.write(out, p * stride + channel, value.cast(DType.I8))


def requantized(requantizer: Requantizer, total: Expr, multiplier: Expr, rounding: Expr, right: Expr) -> Expr:
    """(SMMLAR(2 * sum, multiplier, (2 * zero + 1) * 2**(right - 1)) - (sum < 0)) >> right, clamped.

    The sign of the sum stands for the sign of the product: they differ only where the result rounds to zero either way.
    """
    if requantizer.rounding == "onnx":
        return rounded_as_float(requantizer, total, multiplier)
    value = (smmlar(total, multiplier, rounding) + (total >> 31)) >> right
    if (requantizer.low, requantizer.high) == (-128, 127):
        return saturate_byte(value)
    return clamp(value, requantizer.low, requantizer.high)
