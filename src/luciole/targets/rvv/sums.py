"""Sums of products of int8 or float32 inputs with the weights of all output channels: a lane is a channel.

Weights are packed [block of channels, product, lane], so that one pointer walks through them. A vector of weights is
widened to 16 bits once for a tile of neighboring pixels; for each of them an input is loaded as a scalar and the vector
takes part in one widening multiply-accumulate (vwmacc.vx) into sums of 32 bits. Floats are multiplied and then added,
each rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from luciole.graph.core import Views
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr, Operand, Splat
from luciole.kernel.vectors import ActiveLanes
from luciole.ops.common import constant_of
from luciole.ops.weighted import WeightedSum
from luciole.targets.rvv.requantization import Block, FloatEnding, Scaling, blocks_of, each_block

#: Pixels side by side by the lanes of a block: their sums take 24 of the 32 vector registers.
TILES = {8: 8, 16: 6, 32: 3}
#: Of floats, whose weights and products take as many registers as sums.
FLOAT_TILES = {8: 8, 16: 5, 32: 2}
#: Products of a turn of the innermost loop; runs shorter than two turns have no loop.
UNROLLED = 8
#: The largest offset of a scalar load.
OFFSET_REACH = 2047


def packed_weights(sums: WeightedSum) -> Array:
    """Weights [blocks of channels, products, lanes], flat; lanes that are no channels have zeros."""
    data = constant_of(sums.op, sums.w, "w")
    weights = np.moveaxis(data, sums.axis, 0).reshape(sums.channels, -1)
    parts = []
    for block in blocks_of(sums.channels):
        packed = np.zeros((weights.shape[1], block.lanes), data.dtype)
        packed[:, : block.count] = weights[block.first : block.first + block.count].T
        parts.append(packed.reshape(-1))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Runs:
    """The inputs of a sum: `lines`, `line_bytes` apart, each of `taps`, `tap_bytes` apart, of `length` inputs."""

    lines: int
    line_bytes: int
    taps: int
    tap_bytes: int
    length: int

    @property
    def products(self) -> int:
        """Inputs in all."""
        return self.lines * self.taps * self.length


@dataclass(frozen=True, eq=False)
class Tiles:
    """Neighboring pixels, `step` bytes apart in the input, with their sums."""

    sums: WeightedSum
    runs: Runs
    step: int
    #: Pixels that lie one after the other.
    count: int

    @cached_property
    def scaling(self) -> Scaling | FloatEnding:
        """From sums to results."""
        return Scaling(self.sums) if self.sums.is_int8 else FloatEnding(self.sums)

    @property
    def dtype(self) -> DType:
        """The type of inputs, weights and results."""
        return self.sums.x.type.dtype

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The output channels."""
        return blocks_of(self.sums.channels)

    @property
    def pixels(self) -> int:
        """Pixels of a tile."""
        tiles = TILES if self.sums.is_int8 else FLOAT_TILES
        return min(tiles[self.blocks[0].lanes], self.count)

    def pointers(self, pixels: int) -> tuple[int, ...]:
        """How many pixels each pointer to inputs reaches."""
        each = max(
            1, min(pixels, (OFFSET_REACH - UNROLLED * self.dtype.size_bytes) // self.step + 1 if self.step else pixels)
        )
        return (*[each] * (pixels // each), *([pixels % each] if pixels % each else []))

    def constants(self) -> dict[str, Array]:
        """The constants that `emit_tiles` reads."""
        return {"weights": packed_weights(self.sums), "channels": self.scaling.packed()}

    @property
    def instructions(self) -> int:
        """Executed instructions of `emit_tiles`, from counting."""
        whole, rest = divmod(self.count, self.pixels)
        return whole * self._tile_instructions(self.pixels) + (self._tile_instructions(rest) if rest else 0) + 4

    def _tile_instructions(self, pixels: int) -> int:
        runs, pointers = self.runs, len(self.pointers(pixels))
        turns = runs.length // UNROLLED if runs.length >= 2 * UNROLLED else 0
        # What neighbors have in common within a turn is loaded once.
        apart = self.step // self.dtype.size_bytes
        loads = [min(pixels * n, (pixels - 1) * apart + n) for n in (UNROLLED, runs.length - turns * UNROLLED)]
        loaded = turns * loads[0] + loads[1] * (runs.length > turns * UNROLLED)
        each = 3 + pixels if self.sums.is_int8 else 2 + 2 * pixels
        products = runs.products * each + runs.lines * runs.taps * loaded
        inner = runs.lines * runs.taps * (turns * (1 + pointers) + (2 * pointers if turns else 0))
        loops = inner + 3 * runs.lines * (runs.lines > 1) + 3 * runs.lines * runs.taps * (runs.taps > 1)
        return len(self.blocks) * (products + loops + pixels * (self.scaling.instructions + 2) + 10) + 6

    @property
    def beats(self) -> int:
        """Cycles of a core whose vector unit takes one register a cycle, scalar instructions beside it."""
        return sum(
            self.count * (self.runs.products * block.lanes // (4 if self.sums.is_int8 else 2) + 10 * block.lanes // 4)
            + -(-self.count // self.pixels) * self.runs.products * (3 * block.lanes // 16 + 1)
            for block in self.blocks
        )


def emit_tiles(k: LoopBuilder, tiles: Tiles, v: Views, source: Expr, target: Expr) -> None:
    """The results of all pixels at `target`, from the window of the first one at `source` on."""
    pixels, channels = tiles.pixels, tiles.sums.channels
    read, write = k.define("source", source), k.define("target", target)
    whole, rest = divmod(tiles.count, pixels)

    def tile(count: int) -> None:
        _tile(k, tiles, v, read, write, count)
        read.set(read + count * tiles.step)
        write.set(write + count * channels * tiles.dtype.size_bytes)

    if whole > 1:
        with k.loop("tile", whole):
            tile(pixels)
    else:
        tile(pixels)
    if rest:
        tile(rest)


def _tile(k: LoopBuilder, tiles: Tiles, v: Views, source: Expr, target: Expr, pixels: int) -> None:
    """All channels of a tile."""
    scaling = tiles.scaling
    header = scaling.header(k, v.channels.address())
    weights = k.define("weights", v.weights.address())
    parameters = k.define("parameters", v.channels.address(scaling.header_bytes))
    tile = _Tile(k, tiles, source, k.define("out", target), weights, header, parameters, pixels)
    each_block(k, tiles.blocks, tile.block)


@dataclass(frozen=True)
class _Tile:
    """What the code of a tile works with; `out`, `weights` and `parameters` move from block to block."""

    k: LoopBuilder
    tiles: Tiles
    source: Expr
    out: Register
    weights: Register
    header: tuple[Expr, ...]
    parameters: Register
    pixels: int

    def block(self, block: Block) -> None:
        """A block of channels; moves the pointers behind it."""
        k, scaling, lanes, size = self.k, self.tiles.scaling, block.lanes, self.tiles.dtype.size_bytes
        bias = scaling.first_bias(k, self.parameters, lanes)
        totals = [k.define("total", bias) for _ in range(self.pixels)]
        self._add_products(totals, lanes)
        mask = None if block.count == lanes else ActiveLanes(Constant(block.count, DType.INDEX), lanes)
        for pixel, total in enumerate(totals):
            result = scaling.result(k, total, self.header, self.parameters, lanes)
            k.write(self.out, pixel * self.tiles.sums.channels * size, result, mask=mask)
            # Parameters that stayed in registers from pixel to pixel would drive sums into memory.
            k.fence()
        self.parameters.set(self.parameters + scaling.block_bytes(lanes))
        self.out.set(self.out + block.count * size)

    def _add_products(self, totals: list[Register], lanes: int) -> None:
        k, runs = self.k, self.tiles.runs
        starts = self._pointers(self.source)

        def taps() -> None:
            if runs.taps == 1:
                self._run(starts, totals, lanes)
                return
            places = [k.define("tap", start) for start in starts]
            with k.loop("tap_number", runs.taps):
                self._run(places, totals, lanes)
                for place in places:
                    place.set(place + runs.tap_bytes)

        if runs.lines == 1:
            taps()
            return
        with k.loop("line", runs.lines):
            taps()
            for start in starts:
                start.set(start + runs.line_bytes)

    def _pointers(self, source: Expr) -> list[Register]:
        groups = self.tiles.pointers(self.pixels)
        before = np.cumsum([0, *groups[:-1]])
        return [self.k.define("inputs", source + int(first) * self.tiles.step) for first in before]

    def _run(self, starts: list[Register], totals: list[Register], lanes: int) -> None:
        """Inputs that lie one after the other."""
        k, length = self.k, self.tiles.runs.length
        if length < 2 * UNROLLED:
            self._products(starts, 0, length, totals, lanes)
            return
        places = [k.define("place", start) for start in starts]
        whole = length // UNROLLED * UNROLLED
        size = self.tiles.dtype.size_bytes
        end = k.define("end", starts[0] + whole * size)
        with k.repeat_while(lambda: places[0].ne(end)):
            self._products(places, 0, UNROLLED, totals, lanes)
            for place in places:
                place.set(place + UNROLLED * size)
        self._products(places, 0, length - whole, totals, lanes)

    def _products(self, places: list[Register], first: Operand, count: int, totals: list[Register], lanes: int) -> None:
        """Some inputs of all pixels from the places on."""
        k = self.k
        groups = self.tiles.pointers(self.pixels)
        reached = [(pointer, i * self.tiles.step) for pointer, n in zip(places, groups, strict=True) for i in range(n)]
        dtype = self.tiles.dtype
        wide = DType.I32 if self.tiles.sums.is_int8 else dtype
        for i in range(count):
            read = k.read(self.weights, 0, dtype, lanes=lanes)
            weight = k.define("weight", read.cast(wide))
            self.weights.set(self.weights + lanes * dtype.size_bytes)
            for total, (pointer, offset) in zip(totals, reached, strict=True):
                x = k.read(pointer, offset + i * dtype.size_bytes, dtype).cast(wide)
                total.set(total + Splat(x.as_data(), lanes) * weight)
