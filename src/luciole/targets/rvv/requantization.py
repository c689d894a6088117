"""From sums to int8 results, a block of channels at a time: packed parameters and the expression.

A block has as many lanes as a vector, of which the last ones may be no channels: their parameters are zeros. Parameters
are biases, and multipliers and shifts, each a vector; one multiplier and shift of all channels stand before the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from luciole.ir.arithmetic import multiplier_arrays, wrap_int32
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Splat, clamp, maximum, minimum
from luciole.kernel.intrinsics import (
    add_saturated,
    high_multiply,
    multiply_high,
    narrow_rounded,
    narrow_saturated,
    shift_rounded,
)
from luciole.ops import common
from luciole.ops.common import SHORT_ACCUMULATOR_LIMIT
from luciole.ops.weighted import WeightedSum

I8, I16, I32 = DType.I8, DType.I16, DType.I32

#: Channels of a block: a vector of `i32` in eight registers of 128 bits; fewer at the end.
LARGEST_BLOCK, SMALLEST_BLOCK = 32, 8


@dataclass(frozen=True)
class Block:
    """Channels from `first` on in a vector of `lanes`, of which `count` are channels."""

    first: int
    count: int
    lanes: int


def blocks_of(channels: int) -> tuple[Block, ...]:
    """All channels in blocks: of the largest size, and one of what is left."""
    whole = channels // LARGEST_BLOCK * LARGEST_BLOCK
    found = [Block(first, LARGEST_BLOCK, LARGEST_BLOCK) for first in range(0, whole, LARGEST_BLOCK)]
    if rest := channels - whole:
        lanes = next(n for n in (SMALLEST_BLOCK, 2 * SMALLEST_BLOCK, LARGEST_BLOCK) if n >= rest)
        found.append(Block(whole, rest, lanes))
    return tuple(found)


def each_block(k: LoopBuilder, blocks: Sequence[Block], emit: Callable[[Block], None]) -> None:
    """`emit` for every block, in a loop for those of the first one's size; it moves its pointers behind the block."""
    whole = [block for block in blocks if block.count == blocks[0].lanes]
    if len(whole) > 1:
        with k.loop("block", len(whole)):
            emit(whole[0])
    elif whole:
        emit(whole[0])
    for block in blocks[len(whole) :]:
        emit(block)


def requantization_problem(sums: WeightedSum) -> str:
    """Why results cannot be found by `Scaling`, or an empty string."""
    requantizer = sums.kernel_requantizer
    if requantizer.rounding == "tflite":
        return ""
    if requantizer.rounding != "tflite-single":
        return f"rounding is {requantizer.rounding}"
    if requantizer.accumulator_bound >= SHORT_ACCUMULATOR_LIMIT:
        return f"sums may reach {requantizer.accumulator_bound}"
    if any(m.multiplier and not -31 <= m.shift <= -1 for m in requantizer.multipliers):
        return "a channel's shift is not 1..31 to the right"
    return ""


@dataclass(frozen=True, eq=False)
class Scaling:
    """How the sums of a layer become results."""

    sums: WeightedSum

    @cached_property
    def is_short(self) -> bool:
        """Whether all channels are shifted to the right, and one more bit of sums does not overflow."""
        requantizer = self.sums.kernel_requantizer
        return requantizer.accumulator_bound < SHORT_ACCUMULATOR_LIMIT and all(
            m.multiplier and -31 <= m.shift <= -1 for m in requantizer.multipliers
        )

    @cached_property
    def is_same(self) -> bool:
        """Whether all channels have one multiplier."""
        return self.is_short and len(set(self.sums.kernel_requantizer.multipliers)) == 1

    @property
    def words(self) -> tuple[int, ...]:
        """Where each vector begins in a block's parameters, in half words for each lane, and behind the last."""
        if self.is_same:
            return 0, 2
        return (0, 2, 4, 5) if self.is_short else (0, 2, 4, 6, 8)

    @property
    def header_bytes(self) -> int:
        """Bytes of the parameters before those of the blocks."""
        return 8 if self.is_same else 0

    def header(self, k: LoopBuilder, parameters: Expr) -> tuple[Expr, ...]:
        """Multiplier and shift of all channels, where they have the same; `parameters` points to the first ones."""
        if not self.is_same:
            return ()
        multiplier = k.define("multiplier", k.read(parameters, 0, I32))
        return multiplier, k.define("right", k.read(parameters, 4, I16))

    def block_bytes(self, lanes: int) -> int:
        """Bytes of the parameters of a block."""
        return 2 * self.words[-1] * lanes

    def packed(self) -> Array:
        """int16 parameters, block by block; the biases hold the zero point of x for all products of a sum."""
        sums = self.sums
        multiplier, shift = multiplier_arrays(sums.kernel_requantizer.multipliers)
        bias = wrap_int32(sums.kernel_bias - sums.zero_point * sums.weights.sum(axis=1))
        multiplier, shift = (np.broadcast_to(a, bias.shape) for a in (multiplier, shift))
        right = np.where(multiplier == 0, 0, np.maximum(-shift, 0))
        left = np.where(multiplier == 0, 0, np.maximum(shift, 0))
        columns: list[tuple[Array, type]] = [(bias, np.int32)]
        if not self.is_same:
            columns.append((multiplier, np.int32))
            columns += [(right, np.int16)] if self.is_short else [(left, np.int32), (-right, np.int32)]
        header = np.array([multiplier[0], right[0]] if self.is_same else [], np.int32)
        parts = [header.view(np.int16)]
        for block in blocks_of(sums.channels):
            for values, dtype in columns:
                lanes: Array = np.zeros(block.lanes, dtype)
                lanes[: block.count] = values[block.first : block.first + block.count]
                parts.append(lanes.view(np.int16))
        return np.concatenate(parts)

    def first_bias(self, k: LoopBuilder, parameters: Expr, lanes: int) -> Expr:
        """What the sums of a block begin with."""
        return k.read(parameters, 0, I32, lanes=lanes)

    def result(self, k: LoopBuilder, total: Expr, header: tuple[Expr, ...], parameters: Expr, lanes: int) -> Expr:
        """The int8 results of the sums of a block; `parameters` points to its own."""
        requantizer = self.sums.kernel_requantizer
        places = [2 * word * lanes for word in self.words]
        if not self.is_short:
            return self._general(k, total, parameters, lanes, places)
        multiplier = Splat(header[0].as_data(), lanes) if header else k.read(parameters, places[1], I32, lanes=lanes)
        if requantizer.rounding == "tflite":
            high = k.define("high", high_multiply(total, multiplier))
            # One less for negative products rounds their halves away from zero.
            high = k.define("high", high + (high >> 31))
        else:
            high = k.define("high", multiply_high(total << 1, multiplier))
        right = Splat(header[1].as_data(), lanes) if header else k.read(parameters, places[2], I16, lanes=lanes)
        narrow = narrow_rounded(high, right)
        if requantizer.zero_point:
            narrow = add_saturated(narrow, requantizer.zero_point)
        result = narrow_saturated(narrow)
        if requantizer.low > -128:
            result = maximum(result, requantizer.low)
        return minimum(result, requantizer.high) if requantizer.high < 127 else result

    def _general(self, k: LoopBuilder, total: Expr, parameters: Expr, lanes: int, places: list[int]) -> Expr:
        """Double rounding with any shifts."""
        requantizer = self.sums.kernel_requantizer
        moved = total << k.read(parameters, places[2], I32, lanes=lanes)
        high = k.define("high", high_multiply(moved, k.read(parameters, places[1], I32, lanes=lanes)))
        negated = k.define("negated", k.read(parameters, places[3], I32, lanes=lanes))
        # There is nothing to round without a shift.
        scaled = shift_rounded(high + ((high & negated) >> 31), negated)
        zero_point = requantizer.zero_point
        return (clamp(scaled, requantizer.low - zero_point, requantizer.high - zero_point) + zero_point).cast(I8)

    @property
    def instructions(self) -> int:
        """Executed instructions of `result`."""
        short = 8 + (not self.is_same) * 4 + (self.sums.kernel_requantizer.zero_point != 0)
        return short if self.is_short else 20


@dataclass(frozen=True, eq=False)
class FloatEnding:
    """How the float32 sums of a layer become results; as `Scaling`."""

    sums: WeightedSum
    #: Bytes of the parameters before those of the blocks.
    header_bytes = 0
    #: Executed instructions of `result`.
    instructions = 4

    def header(self, k: LoopBuilder, parameters: Expr) -> tuple[Expr, ...]:
        """Nothing that all channels have in common."""
        return ()

    def block_bytes(self, lanes: int) -> int:
        """Bytes of the parameters of a block."""
        return 4 * lanes

    def packed(self) -> Array:
        """float32 biases, block by block."""
        blocks = blocks_of(self.sums.channels)
        packed = np.zeros(blocks[-1].first + blocks[-1].lanes, np.float32)
        if self.sums.b is not None:
            packed[: self.sums.channels] = common.constant_of(self.sums.op, self.sums.b, "b")
        return packed

    def first_bias(self, k: LoopBuilder, parameters: Expr, lanes: int) -> Expr:
        """What the sums of a block begin with."""
        return k.read(parameters, 0, DType.F32, lanes=lanes)

    def result(self, k: LoopBuilder, total: Expr, header: tuple[Expr, ...], parameters: Expr, lanes: int) -> Expr:
        """The results of the sums of a block."""
        return common.float_activation(self.sums.activation, total)
