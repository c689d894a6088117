"""Dot products of several windows with several channels of weights, all sums of a tile in registers.

A window is `length` elements (int8 or f32) in a run; windows of neighboring results begin `step` bytes apart. Weights
are interleaved by the channels of a tile, [group of channels][k][channel], so that one pointer walks them. For every k
a tile loads its elements of the windows and of the weights once and adds all their products: (pixels + channels) loads
for pixels * channels products. All windows lie wholly in memory, so the zero point of x is in the bias.

On cores whose loads extend no signs, X = x + 128 and W = w + 128 are what memory holds, and
sum of x * w = sum of X * W - 128 * sum of X - 128 * sum of w; the second term is one sum for a window and all channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.core import Views
from luciole.ir.arithmetic import wrap_int32
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr
from luciole.ops import common
from luciole.ops.weighted import WeightedSum
from luciole.targets.scalar.machine import Machine

#: Sums of at most so many products are written out without a loop.
WRITTEN_OUT = 12
#: Bytes of parameters of an int8 channel: bias, multiplier, shift.
PARAMETER_BYTES = 12


@dataclass(frozen=True, eq=False)
class Rows:
    """How many windows (in a run, before the next run begins) meet how many channels, and in which tiles."""

    machine: Machine
    sums: WeightedSum
    length: int
    step: int
    pixels: int
    channels: int
    #: Which weight of a channel belongs to each element of a window.
    order: Array

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return 1 if self.sums.is_int8 else 4

    @property
    def parameter_bytes(self) -> int:
        """Bytes of parameters of a channel: a bias, for int8 multiplier and shift besides."""
        return PARAMETER_BYTES if self.sums.is_int8 else 4

    @property
    def shares_pointer(self) -> bool:
        """Whether all windows of a tile are within reach of one pointer."""
        return (self.pixels - 1) * self.step + 16 * self.size <= self.machine.reach

    @property
    def groups(self) -> tuple[int, int]:
        """Whole groups of channels, and channels in the last, smaller one."""
        return divmod(self.sums.channels, self.channels)

    @property
    def unroll(self) -> int:
        """Products of one sum in a turn of the inner loop."""
        if self.length <= WRITTEN_OUT and not self.machine.is_unsigned:
            return self.length
        most = (self.machine.reach + 1) // self.channels
        unrolls = self.machine.unrolls
        return next((u for u in unrolls if self.length % u == 0 and u <= most), min(unrolls[0], self.length, most))

    @property
    def weights(self) -> Array:
        """The weights as the kernel reads them."""
        whole, _ = self.groups
        data = common.constant_of(self.sums.op, self.sums.w, "w").reshape(self.sums.channels, -1)
        kept = (data.astype(np.int64) + self.machine.bias).astype(np.uint8).view(np.int8) if self.size == 1 else data
        kept, split = kept[:, self.order], whole * self.channels
        parts = [kept[:split].reshape(whole, self.channels, -1).transpose(0, 2, 1), kept[split:].T]
        return np.ascontiguousarray(np.concatenate([part.reshape(-1) for part in parts]))

    @property
    def parameters(self) -> Array:
        """int32 [channels, 3]: bias with all that is constant folded into it, multiplier, shift; or f32 biases."""
        if not self.sums.is_int8:
            bias = None if self.sums.b is None else common.constant_of(self.sums.op, self.sums.b, "b")
            return np.zeros(self.sums.channels, np.float32) if bias is None else bias
        parameters = self.sums.parameters()["channels"].copy()
        parameters[:, 0] = wrap_int32(
            parameters[:, 0].astype(np.int64) - self.machine.bias * self.sums.weights.sum(axis=1)
        )
        return parameters

    def instructions(self, count: int) -> int:
        """About how many instructions `count` windows take."""
        whole, rest = divmod(count, self.pixels)
        return whole * self._tile_instructions(self.pixels) + (self._tile_instructions(rest) if rest else 0)

    def _tile_instructions(self, pixels: int) -> int:
        whole, rest = self.groups
        blocks = whole * self._block_instructions(pixels, self.channels)
        blocks += self._block_instructions(pixels, rest) if rest else 0
        return blocks + 6 + (pixels * self.length * 5 // 2 if self.machine.is_unsigned else 0)

    def _block_instructions(self, pixels: int, channels: int) -> int:
        products = pixels * channels
        a_product = pixels + channels + self.machine.product * products
        turns = -(-self.length // self.unroll)
        return (
            self.length * a_product + turns * self.machine.turn + products * self.machine.requantize + 3 * channels + 8
        )


def plan_rows(machine: Machine, sums: WeightedSum, order: Array, step: int, count: int, tile: int = 0) -> Rows:
    """The cheapest tile for runs of `count` windows that begin `step` bytes apart, or `tile` (see `TiledRecipe`) where
    it is possible. `order` tells which weight of a channel belongs to each element of a window.
    """
    folded, length = replace(sums, folds_zero_point=True), len(order)
    tiles = []
    for pixels in range(1, min(machine.sums, count) + 1):
        is_far = (pixels - 1) * step + 16 > machine.reach and not machine.has_pointers
        if pixels > 1 and (machine.is_unsigned or is_far):
            break
        for channels in range(1, machine.sums // pixels + 1):
            if min(pixels, channels) <= 4:
                tiles.append(Rows(machine, folded, length, step, pixels, min(channels, folded.channels), order))
    wanted = [rows for rows in tiles if 10 * rows.pixels + rows.channels == tile]
    return min(wanted or tiles, key=lambda rows: (rows.instructions(count), rows.pixels * rows.channels))


def emit_rows(k: LoopBuilder, rows: Rows, v: Views, windows: Expr, target: Expr, count: int) -> None:
    """All channels of `count` windows from `windows` on; results are stored from `target` on, pixel by pixel."""
    whole, rest = divmod(count, rows.pixels)
    source, result = k.define("windows", windows), k.define("results", target)
    if whole == 1:
        _tile(k, rows, v, source, result, rows.pixels)
    elif whole:
        end = k.define("results_end", target + whole * rows.pixels * rows.sums.channels * rows.size)
        with k.repeat_while(lambda: result.ne(end)):
            _tile(k, rows, v, source, result, rows.pixels)
            source += rows.pixels * rows.step
            result += rows.pixels * rows.sums.channels * rows.size
    if rest:
        if whole == 1:
            source += rows.pixels * rows.step
            result += rows.pixels * rows.sums.channels * rows.size
        _tile(k, rows, v, source, result, rest)


def _tile(k: LoopBuilder, rows: Rows, v: Views, source: Expr, target: Expr, pixels: int) -> None:
    """All channels of a few windows."""
    corrections = [_window_sum(k, rows, source + p * rows.step) for p in range(pixels)] if rows.machine.bias else []
    weights, parameters = k.define("weights", v.weights.address()), k.define("parameters", v.channels.address())
    out = k.define("out", target)
    whole, rest = rows.groups
    if whole == 1:
        _block(k, rows, corrections, weights, parameters, source, out, (pixels, rows.channels))
    elif whole:
        end = k.define("out_end", target + whole * rows.channels * rows.size)
        with k.repeat_while(lambda: out.ne(end)):
            _block(k, rows, corrections, weights, parameters, source, out, (pixels, rows.channels))
            parameters += rows.parameter_bytes * rows.channels
            out += rows.channels * rows.size
    if rest:
        if whole == 1:
            parameters += rows.parameter_bytes * rows.channels
            out += rows.channels * rows.size
        _block(k, rows, corrections, weights, parameters, source, out, (pixels, rest))


def _window_sum(k: LoopBuilder, rows: Rows, window: Expr) -> Register:
    """-128 * the sum of a window's bytes, which are x + 128."""
    total = k.define("total", 0, DType.I32)
    read = k.define("read", window)
    unroll = rows.unroll
    turns, rest = divmod(rows.length, unroll)
    if turns:
        end = k.define("read_end", window + turns * unroll)
        with k.repeat_while(lambda: read.ne(end)):
            for u in range(unroll):
                total += k.read(read, u, DType.U8).cast(DType.I32)
            read += unroll
    for u in range(rest):
        total += k.read(read, u, DType.U8).cast(DType.I32)
    total.set(total * -rows.machine.bias)
    return total


def _block(
    k: LoopBuilder,
    rows: Rows,
    corrections: list[Register],
    weights: Register,
    parameters: Expr,
    source: Expr,
    out: Expr,
    tile: tuple[int, int],
) -> None:
    """A tile of results; `weights` ends behind those of its channels."""
    pixels, channels = tile
    totals = []
    for p in range(pixels):
        for c in range(channels):
            bias = k.read(parameters, rows.parameter_bytes * c, DType.I32 if rows.size == 1 else DType.F32)
            totals.append(k.define("total", bias + corrections[p] if corrections else bias))
    _accumulate(k, rows, weights, source, totals, tile)
    k.fence()
    if not rows.sums.is_int8:
        for p in range(pixels):
            for c in range(channels):
                value = common.float_activation(rows.sums.activation, totals[p * channels + c])
                k.write(out, 4 * (p * rows.sums.channels + c), value)
        return
    for c in range(channels):
        multiplier = k.define("multiplier", k.read(parameters, PARAMETER_BYTES * c + 4, DType.I32))
        shift = k.define("shift", k.read(parameters, PARAMETER_BYTES * c + 8, DType.I32))
        for p in range(pixels):
            total = totals[p * channels + c]
            value = rows.sums.kernel_requantizer.emit(total, multiplier, shift)
            k.write(out, p * rows.sums.channels + c, value.cast(DType.I8))


def _accumulate(
    k: LoopBuilder, rows: Rows, weights: Register, source: Expr, totals: list[Register], tile: tuple[int, int]
) -> None:
    """Add all products of a tile to its sums."""
    (pixels, channels), unroll = tile, rows.unroll
    turns, rest = divmod(rows.length, unroll)
    if rows.shares_pointer:
        reads = [k.define("read", source)]
    else:
        reads = [k.define("read", source + p * rows.step) for p in range(pixels)]

    def turn(count: int) -> None:
        for u in range(count):
            _products(k, rows, u, weights, reads, totals, tile)
        for read in reads:
            read.set(read + count * rows.size)
        weights.set(weights + count * channels * rows.size)

    if turns > 1:
        end = k.define("weights_end", weights + turns * unroll * channels * rows.size)
        with k.repeat_while(lambda: weights.ne(end)):
            turn(unroll)
    elif turns:
        turn(unroll)
    if rest:
        turn(rest)


def _products(
    k: LoopBuilder,
    rows: Rows,
    u: int,
    weights: Expr,
    reads: list[Register],
    totals: list[Register],
    tile: tuple[int, int],
) -> None:
    """The products at one k; the side of the tile with fewer elements stays in registers."""
    pixels, channels = tile
    signed = DType.I8 if rows.sums.is_int8 else DType.F32
    dtype = DType.U8 if rows.machine.is_unsigned else signed

    def x(p: int) -> Register:
        read, first = (reads[0], p * rows.step) if rows.shares_pointer else (reads[p], 0)
        return k.define("x", common.widened(k.read(read, first + u * rows.size, dtype)))

    def w(c: int) -> Register:
        return k.define("w", common.widened(k.read(weights, (u * channels + c) * rows.size, dtype)))

    k.fence()
    if channels <= pixels:
        held = [w(c) for c in range(channels)]
        for p in range(pixels):
            element = x(p)
            for c in range(channels):
                totals[p * channels + c] += element * held[c]
            k.fence()
    else:
        held = [x(p) for p in range(pixels)]
        for c in range(channels):
            weight = w(c)
            for p in range(pixels):
                totals[p * channels + c] += held[p] * weight
            k.fence()
