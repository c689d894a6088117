"""Depthwise convolution of int8 and float32 with vectors: a block of channels at a time, of a few neighboring pixels.

A vector of weights is loaded once for the pixels, a vector of inputs once for all the pixels whose windows hold it,
where windows move by one column. Products are added in 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr
from luciole.kernel.vectors import ActiveLanes
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.targets.base import Cost, KernelRecipe, kernel
from luciole.targets.rvv.conv import weights_problem
from luciole.targets.rvv.requantization import Block, FloatEnding, Scaling, blocks_of, each_block
from luciole.targets.rvv.rows import RowPlan, emit_rows, row_overlap, row_plan, row_problem
from luciole.targets.rvv.sums import packed_weights

#: Pixels side by side by the lanes of a block: sums and inputs share the 32 vector registers.
TILES = {8: 4, 16: 4, 32: 2}
FLOAT_TILES = {8: 4, 16: 2, 32: 1}
#: Windows of more columns would make long code; those of no more taps have no loop over their lines.
COLUMNS_LIMIT, WRITTEN_TAPS = 16, 9


@kernel("depthwise_conv2d", DType.I8, needs={"rvv"})
@kernel("depthwise_conv2d", DType.F32, needs={"rvv", "fpu"})
class DepthwiseVectors(KernelRecipe):
    """Depthwise convolution, one output channel for each input channel."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, DepthwiseConv2d)
        if op.multiplier != 1:
            return f"{op.multiplier} output channels for each input channel"
        if op.window.kernel[1] > COLUMNS_LIMIT:
            return f"the window has more than {COLUMNS_LIMIT} columns"
        return weights_problem(op) or row_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, DepthwiseConv2d)
        return {"weights": packed_weights(op.sums()), "channels": _Layer(op, row_plan(op)).scaling.packed()}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, DepthwiseConv2d)
        return row_plan(op).workspace_bytes

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        assert isinstance(op, DepthwiseConv2d)
        layer = _Layer(op, row_plan(op))
        return row_overlap(op, layer.plan, layer.tile(layer.plan.width))

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, DepthwiseConv2d)
        layer = _Layer(op, row_plan(op))
        counts = layer.plan.counts
        copying = len(counts) * layer.plan.copying_instructions
        instructions = layer.plan.rows * (sum(layer.row_instructions(n) for n in counts) + copying)
        # A register is a beat: widened products take four for each one of inputs.
        beats = sum(layer.taps * block.lanes // 16 * 8 for block in layer.blocks) * op.result_types()[0].elements
        cycles = max(instructions, beats // op.sums().channels)
        return Cost(instructions, cycles)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, DepthwiseConv2d)
        layer = _Layer(op, row_plan(op))

        def emit(source: Expr, target: Expr, count: int) -> None:
            _pixels(k, layer, v, source, target, count)

        emit_rows(k, op, layer.plan, v, emit)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the code and its cost depend on."""

    op: DepthwiseConv2d
    plan: RowPlan

    @cached_property
    def scaling(self) -> Scaling | FloatEnding:
        return Scaling(self.op.sums()) if self.op.sums().is_int8 else FloatEnding(self.op.sums())

    @property
    def dtype(self) -> DType:
        return self.op.x.type.dtype

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return blocks_of(self.op.sums().channels)

    @property
    def taps(self) -> int:
        return self.op.window.kernel[0] * self.op.window.kernel[1]

    @property
    def column_bytes(self) -> int:
        """From one tap of a line to the next."""
        return self.op.window.dilations[1] * self.op.x.type.shape[3] * self.dtype.size_bytes

    @property
    def shares_inputs(self) -> bool:
        """Whether an input is a tap of neighboring pixels one after the other."""
        return self.plan.step == self.column_bytes

    def tile(self, count: int) -> int:
        """Pixels of a tile in a run of so many."""
        tiles = TILES if self.op.sums().is_int8 else FLOAT_TILES
        return min(tiles[self.blocks[0].lanes], count)

    def row_instructions(self, count: int) -> int:
        """Executed instructions of a run of pixels."""
        tile = self.tile(count)
        whole, rest = divmod(count, tile)
        return whole * self._tile_instructions(tile) + (self._tile_instructions(rest) if rest else 0) + 4

    def _tile_instructions(self, pixels: int) -> int:
        lines, columns = self.op.window.kernel
        inputs = columns + pixels - 1 if self.shares_inputs else columns * pixels
        line = 3 * columns + 3 * inputs + columns * pixels
        if self.dtype.is_float:
            line = 2 * columns + 2 * inputs + 2 * columns * pixels
        loop = 3 if self.taps > WRITTEN_TAPS else 0
        return len(self.blocks) * (lines * (line + loop) + pixels * self.scaling.instructions + 6) + 5


def _pixels(k: LoopBuilder, layer: _Layer, v: Views, source: Expr, target: Expr, count: int) -> None:
    """A run of pixels."""
    tile, channels = layer.tile(count), layer.op.sums().channels
    read, write = k.define("source", source), k.define("target", target)

    def step(pixels: int) -> None:
        _channels(k, layer, v, read, write, pixels)
        read.set(read + pixels * layer.plan.step)
        write.set(write + pixels * channels * layer.dtype.size_bytes)

    if count // tile > 1:
        with k.loop("tile", count // tile):
            step(tile)
    else:
        step(tile)
    if count % tile:
        step(count % tile)


def _channels(k: LoopBuilder, layer: _Layer, v: Views, source: Expr, target: Expr, pixels: int) -> None:
    """All channels of a tile."""
    scaling = layer.scaling
    header = scaling.header(k, v.channels.address())
    weights = k.define("weights", v.weights.address())
    parameters = k.define("parameters", v.channels.address(scaling.header_bytes))
    tile = _Tile(k, layer, k.define("inputs", source), k.define("out", target), weights, header, parameters, pixels)
    each_block(k, layer.blocks, tile.block)


@dataclass(frozen=True)
class _Tile:
    """What the code of a tile works with; the registers move from block to block."""

    k: LoopBuilder
    layer: _Layer
    inputs: Register
    out: Register
    weights: Register
    header: tuple[Expr, ...]
    parameters: Register
    pixels: int

    def block(self, block: Block) -> None:
        """A block of channels."""
        k, layer, lanes, size = self.k, self.layer, block.lanes, self.layer.dtype.size_bytes
        mask = None if block.count == lanes else ActiveLanes(Constant(block.count, DType.INDEX), lanes)
        bias = layer.scaling.first_bias(k, self.parameters, lanes)
        totals = [k.define("total", bias) for _ in range(self.pixels)]
        line = k.define("line", self.inputs)
        if layer.taps <= WRITTEN_TAPS:
            for _ in range(layer.op.window.kernel[0]):
                self._line(line, totals, lanes, mask)
        else:
            with k.loop("line_number", layer.op.window.kernel[0]):
                self._line(line, totals, lanes, mask)
        for pixel, total in enumerate(totals):
            result = layer.scaling.result(k, total, self.header, self.parameters, lanes)
            k.write(self.out, pixel * layer.op.sums().channels * size, result, mask=mask)
            # Parameters that stayed in registers from pixel to pixel would drive sums into memory.
            k.fence()
        self.parameters.set(self.parameters + layer.scaling.block_bytes(lanes))
        self.inputs.set(self.inputs + block.count * size)
        self.out.set(self.out + block.count * size)

    def _line(self, line: Register, totals: list[Register], lanes: int, mask: Expr | None) -> None:
        """The taps of a line of the windows; moves to the next one."""
        k, layer, dtype = self.k, self.layer, self.layer.dtype
        wide = DType.I32 if layer.op.sums().is_int8 else dtype
        inputs: dict[int, Expr] = {}
        for column in range(layer.op.window.kernel[1]):
            weight = k.define("weight", k.read(self.weights, 0, dtype, lanes=lanes).cast(wide))
            self.weights.set(self.weights + lanes * dtype.size_bytes)
            for pixel, total in enumerate(totals):
                offset = pixel * layer.plan.step + column * layer.column_bytes
                if offset not in inputs:
                    read = k.read(line, offset, dtype, lanes=lanes, mask=mask)
                    inputs[offset] = k.define("x", read.cast(wide))
                total.set(total + inputs[offset] * weight)
            if not layer.shares_inputs:
                inputs.clear()
        line.set(line + layer.plan.line_bytes)
