"""Depthwise convolution of int8 with vectors: four channels at a time, all taps of the window written out.

Weights are packed [blocks of 4 channels, taps, 4]. Where windows reach outside the input, the rows under a row of
outputs are copied into the workspace, with the zero point at both sides, so that no pixel needs a test; where they are
too long for it, the windows at the border are gathered one by one.
"""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand, binary
from luciole.ops.common import lies_in
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.targets.armv7em.intrinsics import kept
from luciole.targets.base import Cost, KernelRecipe, kernel
from luciole.targets.mve import copies
from luciole.targets.mve.requantization import (
    BLOCK_BYTES,
    LANES,
    blocks_of,
    packed_parameters,
    requantization_problem,
    requantized,
)

#: Bytes of workspace that a kernel may take.
WORKSPACE_LIMIT = 4096
#: Windows of more taps would make long code.
TAPS_LIMIT = 32


@kernel("depthwise_conv2d", DType.I8, needs={"mve"})
class DepthwiseVectors(KernelRecipe):
    """Depthwise convolution, one output channel for each input channel, any window of not too many taps."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, DepthwiseConv2d)
        if op.multiplier != 1:
            return f"{op.multiplier} output channels for each input channel"
        if op.dilations != (1, 1):
            return "the window is dilated"
        if _taps(op) > TAPS_LIMIT:
            return f"the window has more than {TAPS_LIMIT} taps"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if self.workspace_bytes(op) > WORKSPACE_LIMIT:
            return f"a window exceeds the workspace of {WORKSPACE_LIMIT} bytes"
        return requantization_problem(op.sums())

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, DepthwiseConv2d)
        weights = np.zeros((blocks_of(op.sums().channels) * LANES, _taps(op)), np.int8)
        weights[: op.sums().channels] = op.sums().weights
        packed = np.ascontiguousarray(weights.reshape(-1, LANES, _taps(op)).transpose(0, 2, 1))
        return {"weights": packed, "channels": packed_parameters(op.sums())}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, DepthwiseConv2d)
        if not op.window.has_padding:
            return 0
        return _strip_bytes(op) if _has_strip(op) else _taps(op) * op.x.type.shape[3]

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops; gathering is for the pixels at the border."""
        assert isinstance(op, DepthwiseConv2d)
        batch, height, width, channels = op.result_types()[0].shape
        size = op.x.type.shape[1:3]
        inner = len(op.window.inner_range(0, size[0])) * len(op.window.inner_range(1, size[1]))
        blocks = blocks_of(channels)
        window = _taps(op) * channels // 8 + 10 * op.window.kernel[0] + 20
        gathering = (height * width - inner) * window
        if op.window.has_padding and _has_strip(op):
            gathering = height * (3 * _strip_bytes(op) // 16 + 12 * op.window.kernel[0] + 20)
        pixel = blocks * (4 * _taps(op) + 14) + 16
        instructions = batch * (height * width * pixel + gathering)
        constants = blocks * (LANES * _taps(op) + BLOCK_BYTES)
        return Cost(instructions, 2 * instructions, 300 + 12 * _taps(op), constants, self.workspace_bytes(op))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, DepthwiseConv2d)
        batch, height, width, channels = op.result_types()[0].shape
        target = k.define("target", v.y.address())
        has_strip = op.window.has_padding and _has_strip(op)
        if has_strip:
            _fill_margins(k, op, v)
        with k.nest("n", batch, height) as (n, oh):
            if has_strip:
                _copy_strip(k, op, v, n, oh)
                column = k.define("column", v.workspace.address())
                stride = k.define("stride", _strip_columns(op) * channels, DType.INDEX)
                with k.loop("ow", width):
                    _channels(k, op, v, column, stride, target)
                    column.set(column + op.strides[1] * channels)
                    target.set(target + channels)
            else:
                _windows(k, op, v, n, oh, target)


def _taps(op: DepthwiseConv2d) -> int:
    return op.window.kernel[0] * op.window.kernel[1]


def _strip_columns(op: DepthwiseConv2d) -> int:
    """Columns under a row of outputs, padding included."""
    return (op.result_types()[0].shape[2] - 1) * op.strides[1] + op.window.kernel[1]


def _strip_bytes(op: DepthwiseConv2d) -> int:
    return op.window.kernel[0] * _strip_columns(op) * op.x.type.shape[3]


def _has_strip(op: DepthwiseConv2d) -> bool:
    return _strip_bytes(op) <= WORKSPACE_LIMIT


def _copied_columns(op: DepthwiseConv2d) -> int:
    """Columns of x that a strip has."""
    return min(op.x.type.shape[2], _strip_columns(op) - op.pads[1])


def _fill_margins(k: LoopBuilder, op: DepthwiseConv2d, v: Views) -> None:
    """The columns outside x, once."""
    channels, columns = op.x.type.shape[3], _strip_columns(op)
    right = op.pads[1] + _copied_columns(op)
    for row in range(op.window.kernel[0]):
        base = row * columns * channels
        copies.fill(k, v.workspace.address(base), op.sums().zero_point, op.pads[1] * channels)
        margin = (columns - right) * channels
        copies.fill(k, v.workspace.address(base + right * channels), op.sums().zero_point, margin)


def _copy_strip(k: LoopBuilder, op: DepthwiseConv2d, v: Views, n: Expr, oh: Expr) -> None:
    """The rows of x under a row of outputs, the zero point where there are none."""
    _, height, width, channels = op.x.type.shape
    row_bytes = _strip_columns(op) * channels
    rows, count = op.window.kernel[0], _copied_columns(op) * channels
    place = k.define("strip", v.workspace.address(op.pads[1] * channels))
    row = k.define("top", oh * op.strides[0] - op.pads[0], DType.INDEX)
    line = k.define("line", v.x.address((n * height + row) * (width * channels)))
    with k.loop("kh", rows):
        if op.window.inner_range(0, height) == range(op.result_types()[0].shape[1]):
            copies.copy(k, place, line, count)
        else:
            with k.if_(binary("and", row >= 0, row < height)):
                copies.copy(k, place, line, count)
            with k.else_():
                copies.fill(k, place, op.sums().zero_point, count)
        place.set(place + row_bytes)
        line.set(line + width * channels)
        row.set(row + 1)


def _windows(k: LoopBuilder, op: DepthwiseConv2d, v: Views, n: Expr, oh: Expr, target: Register) -> None:
    """A row of outputs from windows where they lie, or gathered one by one."""
    width, channels = op.result_types()[0].shape[2:]
    rows: tuple[Operand, Operand] = (0, op.window.kernel[0])
    if op.window.has_padding:
        rows = copies.prepare_rows(k, op.window, op.x, v, oh, 0, op.sums().zero_point)
    with k.loop("ow", width) as ow:
        source, stride = _window(k, op, v, (n, oh, ow), rows)
        _channels(k, op, v, source, stride, target)
        target.set(target + channels)


def _window(
    k: LoopBuilder, op: DepthwiseConv2d, v: Views, pixel: tuple[Expr, Expr, Expr], rows: tuple[Operand, Operand]
) -> tuple[Expr, Expr]:
    """A pointer to the first tap of a pixel's window, and the bytes from one of its rows to the next."""
    n, oh, ow = pixel
    _, height, width, channels = op.x.type.shape
    inner = op.window.inner_range(0, height), op.window.inner_range(1, width)
    top, left = oh * op.strides[0] - op.pads[0], ow * op.strides[1] - op.pads[1]
    inside = v.x.address(((n * height + top) * width + left) * channels)
    outputs = op.window.output_size((height, width))
    if inner == (range(outputs[0]), range(outputs[1])):
        return k.define("source", inside), k.define("stride", width * channels, DType.INDEX)
    source = k.define("source", v.workspace.address())
    stride = k.define("stride", op.window.kernel[1] * channels, DType.INDEX)
    tests = [
        lies_in(position, found, size)
        for position, found, size in zip((oh, ow), inner, outputs, strict=True)
        if found != range(size)
    ]
    if not all(inner):
        copies.gather(k, op.window, op.x, v, pixel, rows, 0)
        return source, stride
    with k.if_(tests[0] if len(tests) == 1 else binary("and", tests[0], tests[1])):
        source.set(inside)
        stride.set(width * channels)
    with k.else_():
        copies.gather(k, op.window, op.x, v, pixel, rows, 0)
    return source, stride


def _channels(k: LoopBuilder, op: DepthwiseConv2d, v: Views, source: Expr, stride: Expr, target: Expr) -> None:
    """All channels of a pixel."""
    channels = op.sums().channels
    weights, parameters = k.define("weights", v.weights.address()), k.define("parameters", v.channels.address())
    # From the middle column more channels are within reach of a load's offset.
    first = source + op.window.kernel[1] // 2 * channels
    rows = [k.define("row", kept(first))]
    for _ in range(1, op.window.kernel[0]):
        rows.append(k.define("row", kept(rows[-1] + stride)))
    out, whole, rest = k.define("out", target), channels // LANES, channels % LANES
    if whole > 1:
        out_end = k.define("out_end", out + whole * LANES)
        with k.repeat_while(lambda: out.ne(out_end)):
            _block(k, op, rows, weights, parameters, out, LANES)
    elif whole:
        _block(k, op, rows, weights, parameters, out, LANES)
    if rest:
        _block(k, op, rows, weights, parameters, out, rest)


def _block(
    k: LoopBuilder,
    op: DepthwiseConv2d,
    rows: list[Register],
    weights: Register,
    parameters: Register,
    out: Register,
    channels: int,
) -> None:
    """Up to four channels; moves the pointers behind them."""
    step = op.x.type.shape[3]
    with k.loop("lane", channels) as lane:
        total: Expr = k.read(parameters + lane * 4, 0, DType.I32)
        for i, row in enumerate(rows):
            for j in range(op.window.kernel[1]):
                x = k.read(row + lane, (j - op.window.kernel[1] // 2) * step, DType.I8).cast(DType.I32)
                tap = LANES * (i * op.window.kernel[1] + j)
                total = total + x * k.read(weights + lane, tap, DType.I8).cast(DType.I32)
        total = k.define("total", total)
        k.write(out + lane, 0, requantized(k, op.sums(), total, parameters, lane), DType.I8)
    for row in rows:
        row.set(kept(row + LANES))
    weights.set(weights + LANES * len(rows) * op.window.kernel[1])
    parameters.set(parameters + BLOCK_BYTES)
    out.set(out + channels)
