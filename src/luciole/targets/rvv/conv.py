"""Convolution and fully connected layers of int8 with vectors; the sums are in `sums`.

Windows that lie inside the input are read there. Where there is padding, the rows under a row of outputs (a strip of
their columns, where the whole would not fit) are copied into the workspace, with the zero point around them, so that
the sum is one of plain int8 products and the zero point is in the bias.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.base import Cost, KernelRecipe, kernel
from luciole.targets.rvv.copies import copy_row, row_instructions
from luciole.targets.rvv.requantization import requantization_problem
from luciole.targets.rvv.sums import Runs, Tiles, emit_tiles

#: Bytes of workspace that a kernel may take.
WORKSPACE_LIMIT = 4096

Convolution = Conv2d | DepthwiseConv2d


def _weights_problem(op: Convolution | FullyConnected) -> str:
    if op.w.data is None or (op.b is not None and op.b.data is None):
        return "weights or bias are not constant"
    if not op.result_types()[0].elements or not op.w.type.elements:
        return "there is nothing to compute"
    return requantization_problem(op.sums())


def _cost(tiles: Tiles, times: int, copying: int, workspace: int) -> Cost:
    """Of rows of tiles, each with the instructions of copying its inputs."""
    instructions = times * (tiles.instructions + copying)
    cycles = times * (max(tiles.beats, tiles.instructions) + copying)
    return Cost(instructions, cycles, tiles.code_bytes, tiles.constant_bytes, workspace)


@kernel("fully_connected", DType.I8, needs={"rvv"})
class FullyConnectedVectors(KernelRecipe):
    """Fully connected, any shape."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, FullyConnected)
        return _weights_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, FullyConnected)
        return self._tiles(op).constants()

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, FullyConnected)
        return _cost(self._tiles(op), 1, 8, 0)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, FullyConnected)
        emit_tiles(k, self._tiles(op), v, v.x.address(), v.y.address())

    def _tiles(self, op: FullyConnected) -> Tiles:
        length = op.w.type.shape[1]
        return Tiles(op.sums(), Runs(1, 0, 1, 0, length), length, op.x.type.elements // length)


@dataclass(frozen=True)
class _Plan:
    """How a convolution is cut: rows of tiles, and strips of columns where inputs are copied."""

    #: Rows of pixels that lie one after the other, in the input as in the result.
    rows: int
    tiles: Tiles
    #: Output columns of a strip, 0 where nothing is copied; the last strip may have fewer.
    strip: int
    #: Bytes of a line of the workspace.
    line_bytes: int
    lines: int
    #: Output columns.
    width: int

    @property
    def workspace_bytes(self) -> int:
        return self.lines * self.line_bytes if self.strip else 0


@kernel("conv2d", DType.I8, needs={"rvv"})
@kernel("depthwise_conv2d", DType.I8, needs={"rvv"})
class ConvVectors(KernelRecipe):
    """Convolution, any shape whose window fits into the workspace; a depthwise one of a single channel is one too."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Convolution)
        if isinstance(op, DepthwiseConv2d) and op.x.type.shape[3] > 1:
            return "channels are not summed"
        if problem := _weights_problem(op):
            return problem
        if op.window.has_padding and op.window.kernel[0] * op.window.extent[1] * op.x.type.shape[3] > WORKSPACE_LIMIT:
            return f"a window exceeds the workspace of {WORKSPACE_LIMIT} bytes"
        return ""

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Convolution)
        return _plan(op).tiles.constants()

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, Convolution)
        return _plan(op).workspace_bytes

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, Convolution)
        plan = _plan(op)
        copying = plan.lines * row_instructions(plan.line_bytes) if plan.strip else 6
        strips = -(-op.result_types()[0].shape[2] // plan.strip) if plan.strip else 1
        return _cost(plan.tiles, plan.rows * strips, copying, plan.workspace_bytes)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Convolution)
        plan, (batch, height, width, channels) = _plan(op), op.result_types()[0].shape
        if plan.rows == 1 and not plan.strip:
            emit_tiles(k, plan.tiles, v, v.x.address(), v.y.address())
            return
        target = k.define("row_target", v.y.address())
        with k.nest("n", batch, height) as (n, oh):
            if plan.strip:
                _row_by_strips(k, op, plan, v, (n, oh), target)
            else:
                _, rows, columns, depth = op.x.type.shape
                place = (n * rows + oh * op.strides[0]) * (columns * depth)
                emit_tiles(k, plan.tiles, v, v.x.address(place), target)
                target.set(target + width * channels)


def _plan(op: Convolution) -> _Plan:
    _, _, width, channels = op.x.type.shape
    batch, out_height, out_width, _ = op.result_types()[0].shape
    window = op.window
    rows, columns = window.kernel
    is_dense = window.dilations[1] == 1 or columns == 1
    taps, length = (1, columns * channels) if is_dense else (columns, channels)
    step = window.strides[1] * channels
    if not window.has_padding:
        runs = Runs(rows, window.dilations[0] * width * channels, taps, window.dilations[1] * channels, length)
        is_one_row = window.kernel == (1, 1) and window.strides == (1, 1)
        count = batch * out_height * out_width if is_one_row else out_width
        return _Plan(1 if is_one_row else batch * out_height, Tiles(op.sums(), runs, step, count), 0, 0, 0, out_width)
    most = (WORKSPACE_LIMIT // (rows * channels) - window.extent[1]) // window.strides[1] + 1
    strip = min(out_width, most)
    line_bytes = ((strip - 1) * window.strides[1] + window.extent[1]) * channels
    runs = Runs(rows, line_bytes, taps, window.dilations[1] * channels, length)
    return _Plan(batch * out_height, Tiles(op.sums(), runs, step, strip), strip, line_bytes, rows, out_width)


def _row_by_strips(
    k: LoopBuilder, op: Convolution, plan: _Plan, v: Views, at: tuple[Expr, Expr], target: Register
) -> None:
    """A row of outputs at `target`, which moves behind it."""
    whole, rest = divmod(plan.width, plan.strip)

    def strip(first: Operand, count: int) -> None:
        _copy_strip(k, op, plan, v, (*at, first), count)
        emit_tiles(k, replace(plan.tiles, count=count), v, v.workspace.address(), target)
        target.set(target + count * plan.tiles.sums.channels)

    if whole > 1:
        with k.loop("strip", 0, whole * plan.strip, plan.strip) as first:
            strip(first, plan.strip)
    else:
        strip(0, plan.strip)
    if rest:
        strip(whole * plan.strip, rest)


def _copy_strip(
    k: LoopBuilder, op: Convolution, plan: _Plan, v: Views, at: tuple[Expr, Expr, Operand], count: int
) -> None:
    """The inputs under some pixels of a row of outputs, from one on, line by line into the workspace."""
    n, oh, first = at
    _, height, width, channels = op.x.type.shape
    columns = (count - 1) * op.strides[1] + op.window.extent[1]
    row = k.define("row", oh * op.strides[0] - op.pads[0], DType.INDEX)
    place = k.define("line_place", v.workspace.address())
    start = first * op.strides[1] - op.pads[1]
    with k.loop("line_number", op.window.kernel[0]):
        copy_row(
            k,
            v.x.address(n * (height * width * channels)),
            (height, width, channels),
            (row, start),
            place,
            columns,
            op.sums().zero_point,
        )
        place.set(place + plan.line_bytes)
        row.set(row + op.dilations[0])
