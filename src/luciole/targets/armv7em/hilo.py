"""Two output channels in one register: what int8 convolutions with packed weights share.

Two weights share a halfword, 256 * odd + even channel, and two halfwords of neighbouring inputs share a word. With x a
pair of widened inputs, SMLAD of the whole word adds 256 * odd + even sums, SMLAD of its sign-extended low bytes adds
the even sums alone, so the odd sum is (whole - even) / 256: one unpacking for four products, at one byte of flash a
weight. Inputs are widened once, centered and doubled, 2 * (x - zero point), so that SMMLAR rounds as TFLite's doubling
high multiply does.
"""

from __future__ import annotations

import numpy as np

from luciole.ir.arithmetic import multiplier_arrays
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, clamp
from luciole.ops.common import Requantizer
from luciole.ops.weighted import WeightedSum
from luciole.targets.armv7em.intrinsics import saturate_byte, smmlar, sxtab16

#: Words of parameters for a pair of channels: two biases, then multiplier, rounding constant and shift of each.
PARAMETER_WORDS = 8
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
    if requantizer.rounding != "tflite":
        return f"rounding is {requantizer.rounding}"
    if any(not MINIMUM_RIGHT_SHIFT <= -m.shift <= MAXIMUM_RIGHT_SHIFT for m in requantizer.multipliers):
        return "a channel's shift is outside 1..23 to the right"
    if 2 * requantizer.accumulator_bound >= 1 << 31:
        return "twice a sum may exceed 32 bits"
    return ""


def _largest_odd_sum(sums: WeightedSum) -> int:
    """The largest magnitude that the sum of an odd channel can reach, every input at its extreme."""
    reach = max(127 - sums.zero_point, sums.zero_point + 128)
    magnitudes = reach * np.abs(sums.weights[1::2]).sum(axis=1) + np.abs(sums.kernel_bias[1::2])
    return int(magnitudes.max(initial=0))


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


def widened_pair(word: Expr, offsets: Expr, scale: int) -> Expr:
    """Bytes 0 and 2 of a word as centered, scaled halves."""
    once = sxtab16(offsets, word)
    return sxtab16(once, word) if scale == 2 else once


def widened_half(value: Expr, zero_point: int, scale: int) -> Expr:
    """One int8 as a centered, scaled half."""
    centered = value.cast(DType.I32) - zero_point
    return (centered << 1 if scale == 2 else centered).cast(DType.I16)


def start_sums(k: LoopBuilder, parameters: Expr, pixels: int) -> tuple[list[Register], list[Register]]:
    """The even sums and the packed sums of a pair of channels at their biases, one register a pixel."""
    even = [k.define(f"even{p}", k.read(parameters, 0, DType.I32)) for p in range(pixels)]
    both = [k.define(f"both{p}", k.read(parameters, 4, DType.I32)) for p in range(pixels)]
    return even, both


def finish_sums(
    k: LoopBuilder,
    weighted: WeightedSum,
    parameters: Expr,
    out: Expr,
    stride: int,
    sums: tuple[list[Register], list[Register]],
    channels: int = 2,
) -> None:
    """Requantize and store the results of a pair of channels (or of its even one), pixels `stride` bytes apart."""
    even, both = sums
    requantizer, doubling = weighted.kernel_requantizer, 2 // scale_of(weighted) - 1
    k.fence()
    for channel in range(channels):
        multiplier = k.define("multiplier", k.read(parameters, 8 + 12 * channel, DType.I32))
        rounding = k.define("rounding", k.read(parameters, 12 + 12 * channel, DType.I32))
        right = k.define("right", k.read(parameters, 16 + 12 * channel, DType.I32))
        for p in range(len(even)):
            total = even[p] << doubling if channel == 0 else (both[p] - even[p]) >> 8 << doubling
            value = requantized(requantizer, k.define("total", total), multiplier, rounding, right)
            k.write(out, p * stride + channel, value.cast(DType.I8))


def requantized(requantizer: Requantizer, total: Expr, multiplier: Expr, rounding: Expr, right: Expr) -> Expr:
    """(SMMLAR(2 * sum, multiplier, (2 * zero + 1) * 2**(right - 1)) - (sum < 0)) >> right, clamped.

    The sign of the sum stands for the sign of the product: they differ only where the result rounds to zero either way.
    """
    value = (smmlar(total, multiplier, rounding) + (total >> 31)) >> right
    if (requantizer.low, requantizer.high) == (-128, 127):
        return saturate_byte(value)
    return clamp(value, requantizer.low, requantizer.high)


def requantized_by(requantizer: Requantizer, total: Expr, multiplier: Expr, rounding: Expr, shift: Expr) -> Expr:
    """As `requantized`, for a shift one less and rounding = (2 * zero + 1) << shift: the last place is shifted out on
    its own, which costs nothing before a saturation.
    """
    value = (smmlar(total, multiplier, rounding) + (total >> 31)) >> shift >> 1
    if (requantizer.low, requantizer.high) == (-128, 127):
        return saturate_byte(value)
    return clamp(value, requantizer.low, requantizer.high)
