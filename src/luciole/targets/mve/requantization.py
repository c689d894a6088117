"""From sums to int8 results, four channels at a time: packed parameters and the expression.

Four channels have a block of three vectors of int32: biases, multipliers, and right shifts with a minus sign, as VRSHL
takes them. Channels that fill up the last block have zeros.
"""

from __future__ import annotations

import numpy as np

from luciole.ir.arithmetic import multiplier_arrays
from luciole.ir.types import Array, DType
from luciole.kernel.builder import IntrinsicBuilder, LoopBuilder, define_intrinsic
from luciole.kernel.core import Expr, clamp
from luciole.kernel.intrinsics import high_multiply, shift_rounded
from luciole.ops.common import SHORT_ACCUMULATOR_LIMIT
from luciole.ops.weighted import WeightedSum

I32 = DType.I32

#: Channels in a block, and the bytes of its parameters.
LANES = 4
BLOCK_BYTES = 3 * 4 * LANES
#: The largest right shift of a word.
SHIFT_LIMIT = 31


@define_intrinsic("requantize_by_negated_shift", I32, accumulator=I32, multiplier=I32, negated_shift=I32)
def requantize_by_negated_shift(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, negated_shift: Expr) -> Expr:
    """accumulator * multiplier * 2**(negated_shift - 31) with double rounding, for -31 <= negated_shift <= 0 and
    |accumulator| < 2**30.

    One less for negative products rounds their halves away from zero; there is nothing to round without a shift.
    """
    high = k.let("high", high_multiply(accumulator, multiplier))
    return shift_rounded(high + ((high & negated_shift) >> 31), negated_shift)


@define_intrinsic("requantize_by_negated_right", I32, accumulator=I32, multiplier=I32, negated_right=I32)
def requantize_by_negated_right(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, negated_right: Expr) -> Expr:
    """As `requantize_by_negated_shift` for -31 <= negated_right <= -1, which takes an instruction less."""
    high = k.let("high", high_multiply(accumulator, multiplier))
    return shift_rounded(high + (high >> 31), negated_right)


def requantization_problem(sums: WeightedSum) -> str:
    """Why results cannot be found by `requantized`, or an empty string."""
    requantizer = sums.kernel_requantizer
    if requantizer.rounding != "tflite":
        return f"rounding is {requantizer.rounding}"
    if requantizer.accumulator_bound >= SHORT_ACCUMULATOR_LIMIT:
        return f"sums may reach {requantizer.accumulator_bound}"
    if not all(-SHIFT_LIMIT <= m.shift <= 0 for m in requantizer.multipliers if m.multiplier):
        return "a channel's shift is not 0..31 to the right"
    return ""


def blocks_of(channels: int) -> int:
    """Blocks that so many channels take."""
    return -(-channels // LANES)


def packed_parameters(sums: WeightedSum) -> Array:
    """int32 [blocks, 3, 4]; the biases hold the zero point of x for all products of a sum."""
    multiplier, shift = multiplier_arrays(sums.kernel_requantizer.multipliers)
    bias = sums.kernel_bias - sums.zero_point * sums.weights.sum(axis=1)
    rows = np.zeros((3, blocks_of(sums.channels) * LANES), np.int64)
    rows[:, : sums.channels] = bias, multiplier, np.where(multiplier == 0, 0, shift)
    return np.ascontiguousarray(rows.reshape(3, -1, LANES).transpose(1, 0, 2).astype(np.int32))


def requantized(k: LoopBuilder, sums: WeightedSum, total: Expr, parameters: Expr, lane: Expr) -> Expr:
    """The int8 result of the sum of a block's channel; `parameters` points to the block."""
    multiplier = k.read(parameters + lane * 4, 4 * LANES, I32)
    shift = k.read(parameters + lane * 4, 8 * LANES, I32)
    return _scaled(sums, total, multiplier, shift)


def requantized_vector(k: LoopBuilder, sums: WeightedSum, total: Expr, parameters: Expr) -> Expr:
    """The int8 results of the sums of all channels of a block, a vector."""
    multiplier = k.read(parameters, 4 * LANES, I32, lanes=LANES)
    return _scaled(sums, total, multiplier, k.read(parameters, 8 * LANES, I32, lanes=LANES))


def _scaled(sums: WeightedSum, total: Expr, multiplier: Expr, shift: Expr) -> Expr:
    requantizer = sums.kernel_requantizer
    always_shifts = sums.channels % LANES == 0 and all(m.multiplier and m.shift < 0 for m in requantizer.multipliers)
    requantize = requantize_by_negated_right if always_shifts else requantize_by_negated_shift
    scaled = requantize(total, multiplier, shift)
    return clamp(scaled + requantizer.zero_point, requantizer.low, requantizer.high).cast(DType.I8)
