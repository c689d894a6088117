"""Convolution and fully connected layers of int8 and float32: sums are in `sums`, rows of pixels in `rows`.

The zero point stands around the copies of inputs, so that the sum is one of plain int8 products and the zero point is
in the bias.
"""

from __future__ import annotations

from dataclasses import replace

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.base import Cost, KernelRecipe, kernel
from luciole.targets.rvv.requantization import requantization_problem
from luciole.targets.rvv.rows import RowPlan, emit_rows, row_overlap, row_plan, row_problem
from luciole.targets.rvv.sums import Runs, Tiles, emit_tiles

Convolution = Conv2d | DepthwiseConv2d


def weights_problem(op: Convolution | FullyConnected) -> str:
    """Why weights cannot be packed or results not be scaled, or an empty string."""
    if op.w.data is None or (op.b is not None and op.b.data is None):
        return "weights or bias are not constant"
    if not op.result_types()[0].elements or not op.w.type.elements:
        return "there is nothing to compute"
    return requantization_problem(op.sums()) if op.sums().is_int8 else ""


def _cost(runs: list[Tiles], rows: int, plan: RowPlan | None) -> Cost:
    """Of rows of runs of pixels."""
    copying = len(runs) * plan.copying_instructions if plan else 8
    instructions = rows * (sum(tiles.instructions for tiles in runs) + copying)
    cycles = rows * (sum(max(tiles.beats, tiles.instructions) for tiles in runs) + copying)
    return Cost(instructions, cycles)


@kernel("fully_connected", DType.I8, needs={"rvv"})
@kernel("fully_connected", DType.F32, needs={"rvv", "fpu"})
class FullyConnectedVectors(KernelRecipe):
    """Fully connected, any shape."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, FullyConnected)
        return weights_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, FullyConnected)
        return self._tiles(op).constants()

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, FullyConnected)
        return _cost([self._tiles(op)], 1, None)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, FullyConnected)
        emit_tiles(k, self._tiles(op), v, v.x.address(), v.y.address())

    def _tiles(self, op: FullyConnected) -> Tiles:
        length = op.w.type.shape[1]
        step = length * op.x.type.dtype.size_bytes
        return Tiles(op.sums(), Runs(1, 0, 1, 0, length), step, op.x.type.elements // length)


@kernel("conv2d", DType.I8, needs={"rvv"})
@kernel("conv2d", DType.F32, needs={"rvv", "fpu"})
@kernel("depthwise_conv2d", DType.I8, needs={"rvv"})
@kernel("depthwise_conv2d", DType.F32, needs={"rvv", "fpu"})
class ConvVectors(KernelRecipe):
    """Convolution, any shape whose window fits into the workspace; a depthwise one of a single channel is one too."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Convolution)
        if isinstance(op, DepthwiseConv2d) and op.x.type.shape[3] > 1:
            return "channels are not summed"
        return weights_problem(op) or row_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Convolution)
        return _tiles(op, row_plan(op)).constants()

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, Convolution)
        return row_plan(op).workspace_bytes

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        assert isinstance(op, Convolution)
        plan = row_plan(op)
        return row_overlap(op, plan, _tiles(op, plan).pixels)

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, Convolution)
        plan = row_plan(op)
        tiles = _tiles(op, plan)
        return _cost([replace(tiles, count=count) for count in plan.counts], plan.rows, plan)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Convolution)
        plan = row_plan(op)
        tiles = _tiles(op, plan)

        def emit(source: Expr, target: Expr, count: int) -> None:
            emit_tiles(k, replace(tiles, count=count), v, source, target)

        emit_rows(k, op, plan, v, emit)


def _tiles(op: Convolution, plan: RowPlan) -> Tiles:
    """All pixels of a row."""
    window, channels = op.window, op.x.type.shape[3]
    rows, columns = window.kernel
    is_dense = window.dilations[1] == 1 or columns == 1
    taps, length = (1, columns * channels) if is_dense else (columns, channels)
    tap_bytes = window.dilations[1] * channels * op.x.type.dtype.size_bytes
    runs = Runs(rows, plan.line_bytes, taps, tap_bytes, length)
    return Tiles(op.sums(), runs, plan.step, plan.counts[0])
