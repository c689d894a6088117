"""Convolution and fully connected layers of int8 with vectors: each pixel's window is one run of inputs.

Windows of one pixel are read where they lie. Others are gathered into the workspace, with the zero point where they
reach outside the input, so that the sum is one of plain int8 products and the zero point is in the bias.
"""

from __future__ import annotations

import math

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand, binary
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.ops.weighted import WeightedSum
from luciole.targets.base import Cost, KernelRecipe, kernel
from luciole.targets.mve import copies
from luciole.targets.mve.dot import (
    VECTOR,
    dot_channels,
    dot_constants,
    dot_instructions,
    is_written_out,
    padded_count,
)
from luciole.targets.mve.requantization import requantization_problem

#: Bytes of workspace that a kernel may take.
WORKSPACE_LIMIT = 4096
#: Rows of a window that have a pointer each.
ROWS_LIMIT = 3

Convolution = Conv2d | DepthwiseConv2d


def _weights_problem(op: Convolution | FullyConnected) -> str:
    if op.w.data is None or (op.b is not None and op.b.data is None):
        return "weights or bias are not constant"
    return requantization_problem(op.sums())


def _cost(sums: WeightedSum, pixels: int, count: int, gathering: int) -> Cost:
    """Cycles: one beat-pair a vector instruction, as on a core with two beats a cycle."""
    instructions = pixels * (dot_instructions(sums, count) + gathering)
    return Cost(instructions, 2 * instructions)


@kernel("fully_connected", DType.I8, needs={"mve"})
class FullyConnectedVectors(KernelRecipe):
    """Fully connected, any shape."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, FullyConnected)
        return _weights_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, FullyConnected)
        return dot_constants(op.sums())

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, FullyConnected)
        count = op.w.type.shape[1]
        return _cost(op.sums(), op.x.type.elements // count, count, 6)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, FullyConnected)
        _rows(k, op.sums(), v, math.prod(op.x.type.shape[:-1]), op.w.type.shape[1])


def _rows(k: LoopBuilder, sums: WeightedSum, v: Views, rows: int, count: int) -> None:
    """Runs of inputs that lie one after the other, and so their results."""
    source, target = k.define("source", v.x.address()), k.define("target", v.y.address())
    if rows == 1:
        dot_channels(k, sums, v, [source], target, count)
        return
    end = k.define("target_end", target + rows * sums.channels)
    with k.repeat_while(lambda: target.ne(end)):
        dot_channels(k, sums, v, [source], target, count)
        source.set(source + count)
        target.set(target + sums.channels)


@kernel("conv2d", DType.I8, needs={"mve"})
@kernel("depthwise_conv2d", DType.I8, needs={"mve"})
class ConvVectors(KernelRecipe):
    """Convolution, any shape whose window fits into the workspace; a depthwise one of a single channel is one too."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Convolution)
        if isinstance(op, DepthwiseConv2d) and op.x.type.shape[3] > 1:
            return "channels are not summed"
        if self.workspace_bytes(op) > WORKSPACE_LIMIT:
            return f"a window exceeds the workspace of {WORKSPACE_LIMIT} bytes"
        return _weights_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Convolution)
        return dot_constants(op.sums())

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, Convolution)
        return 0 if _is_pointwise(op) else padded_count(_window_bytes(op))

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, Convolution)
        pixels = op.result_types()[0].elements // op.sums().channels
        rows, row_bytes = op.window.kernel[0], _row_bytes(op)
        gathering = 12 if _is_pointwise(op) else 20 + rows * (8 + copies.copy_instructions(row_bytes))
        if _has_whole_rows(op) and not _is_pointwise(op):
            gathering = min(gathering, 60)
        count = _window_bytes(op) if _is_pointwise(op) else padded_count(_window_bytes(op))
        return _cost(op.sums(), pixels, count, gathering)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Convolution)
        batch, height, width, channels = op.result_types()[0].shape
        if _is_pointwise(op) and op.strides == (1, 1):
            _rows(k, op.sums(), v, batch * height * width, op.x.type.shape[3])
            return
        if not _is_pointwise(op):
            window, padded = _window_bytes(op), padded_count(_window_bytes(op))
            copies.fill(k, v.workspace.address(window), 0, padded - window)
        target = k.define("target", v.y.address())
        with k.nest("n", batch, height) as (n, oh):
            rows = self._prepare_rows(k, op, v, oh)
            with k.loop("ow", width) as ow:
                if _is_pointwise(op):
                    source = k.define("source", _pixel(op, v, n, oh * op.strides[0], ow * op.strides[1]))
                    dot_channels(k, op.sums(), v, [source], target, op.x.type.shape[3])
                else:
                    sources, count = self._window(k, op, v, (n, oh, ow), rows)
                    dot_channels(k, op.sums(), v, sources, target, count)
                target.set(target + channels)

    def _window(
        self, k: LoopBuilder, op: Convolution, v: Views, pixel: tuple[Expr, Expr, Expr], rows: tuple[Operand, Operand]
    ) -> tuple[list[Register], int]:
        """Where the inputs of a pixel lie, and how many at each place: rows of x, or of the workspace."""
        if not _has_whole_rows(op):
            copies.gather(k, op.window, op.x, v, pixel, rows)
            return [k.define("source", v.workspace.address())], padded_count(_window_bytes(op))
        (n, oh, ow), row_bytes = pixel, _row_bytes(op)
        count = op.window.kernel[0]
        places = [k.define("source", v.workspace.address(i * row_bytes)) for i in range(count)]
        is_inside = copies.lies_inside(op.window, op.x, oh, ow)

        def read_in_place() -> None:
            top, left = oh * op.strides[0] - op.pads[0], ow * op.strides[1] - op.pads[1]
            for i, place in enumerate(places):
                place.set(_pixel(op, v, n, top + i * op.dilations[0], left))

        if is_inside is None:
            read_in_place()
            return places, row_bytes
        with k.if_(is_inside):
            read_in_place()
        with k.else_():
            copies.gather(k, op.window, op.x, v, pixel, rows)
        return places, row_bytes

    def _prepare_rows(self, k: LoopBuilder, op: Convolution, v: Views, oh: Expr) -> tuple[Operand, Operand]:
        """The rows of the window that lie inside the input; the others are filled for all pixels of the row."""
        if _is_pointwise(op):
            return 0, 1
        return copies.prepare_rows(k, op.window, op.x, v, oh, op.sums().zero_point)


def _is_pointwise(op: Convolution) -> bool:
    return op.window.kernel == (1, 1) and not op.window.has_padding


def _row_bytes(op: Convolution) -> int:
    return op.window.kernel[1] * op.x.type.shape[3]


def _has_whole_rows(op: Convolution) -> bool:
    """Whether the rows of a window that lies inside x are read where they are: few, and runs of few whole vectors."""
    rows, is_dense = op.window.kernel[0], op.dilations[1] == 1 or op.window.kernel[1] == 1
    is_whole = is_dense and rows <= ROWS_LIMIT and _row_bytes(op) % VECTOR == 0
    return is_whole and is_written_out(rows, _row_bytes(op))


def _window_bytes(op: Convolution) -> int:
    return op.window.kernel[0] * _row_bytes(op)


def _pixel(op: Convolution, v: Views, n: Expr, row: Operand, column: Operand) -> Expr:
    """The address of a pixel of x."""
    _, height, width, channels = op.x.type.shape
    return v.x.address(binary("mul", binary("add", (n * height + row) * width, column), channels))
