"""Depthwise convolution of int8 with vectors: four channels at a time, all taps of the window written out.

Weights are packed [blocks of 4 channels, taps, 4]. Where windows reach outside the input, or where there are so many
channels that the taps are out of reach of a load's offset, a slice of the channels of the rows under some rows of
outputs is copied into the workspace, with the zero point around. Two neighboring pixels share weights and inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand, binary, minimum
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.targets.armv7em.intrinsics import kept
from luciole.targets.base import Cost, KernelRecipe, kernel
from luciole.targets.mve import copies
from luciole.targets.mve.depthwise_plan import TAPS_LIMIT, WORKSPACE_LIMIT, Plan, plan_of
from luciole.targets.mve.requantization import (
    BLOCK_BYTES,
    LANES,
    blocks_of,
    packed_parameters,
    requantization_problem,
    requantized,
)


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
        if op.window.kernel[0] * op.window.kernel[1] > TAPS_LIMIT:
            return f"the window has more than {TAPS_LIMIT} taps"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if plan_of(op) is None:
            return f"the rows under a row of outputs exceed the workspace of {WORKSPACE_LIMIT} bytes"
        return requantization_problem(op.sums())

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, DepthwiseConv2d)
        sums, taps = op.sums(), _plan(op).taps
        weights = np.zeros((blocks_of(sums.channels) * LANES, taps), np.int8)
        weights[: sums.channels] = sums.weights
        packed = np.ascontiguousarray(weights.reshape(-1, LANES, taps).transpose(0, 2, 1))
        return {"weights": packed, "channels": packed_parameters(sums)}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, DepthwiseConv2d)
        return _plan(op).workspace_bytes

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, DepthwiseConv2d)
        plan = _plan(op)
        instructions = plan.batch * plan.instructions
        return Cost(instructions, 2 * instructions)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, DepthwiseConv2d)
        plan = _plan(op)
        if not plan.strip:
            line_bytes = plan.size[1] * plan.channels
            with k.nest("n", plan.batch, plan.outputs[0]) as (n, oh):
                source = v.x.address((n * plan.size[0] + oh * plan.strides[0]) * line_bytes)
                _row(k, op, plan, v, source, (n, oh, 0))
            return
        for part, starts in plan.parts():
            _fill_margins(k, op, part, v)
            with k.nest("n", plan.batch) as (n,), k.loop("c", starts.start, starts.stop, starts.step) as c:
                _slice(k, op, part, v, n, c)


def _plan(op: DepthwiseConv2d) -> Plan:
    plan = plan_of(op)
    assert plan is not None
    return plan


Place = tuple[Expr, Operand, Operand]


def _fill_margins(k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views) -> None:
    """The columns outside x, once."""
    left = plan.pads[1] * plan.slice
    right = left + plan.copied_columns * plan.slice
    if not left and right == plan.row_bytes:
        return
    with k.loop("margin", plan.strip_rows) as row:
        base = k.define("margin_place", v.workspace.address(row * plan.row_bytes))
        copies.fill(k, base, op.sums().zero_point, left)
        copies.fill(k, base + right, op.sums().zero_point, plan.row_bytes - right)


def _slice(k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views, n: Expr, c: Expr) -> None:
    """All outputs of a slice of channels."""
    if plan.strip == plan.outputs[0]:
        _strip(k, op, plan, v, (n, 0, c))
        return
    with k.loop("first", 0, plan.outputs[0], plan.strip) as first:
        _strip(k, op, plan, v, (n, first, c))


def _strip(k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views, at: Place) -> None:
    """Some rows of outputs of a slice of channels, from the first one on."""
    n, first, c = at
    _copy_rows(k, op, plan, v, at)
    line = k.define("strip_line", v.workspace.address())
    last = minimum(first + plan.strip, plan.outputs[0])
    with k.loop("oh", first, last) as oh:
        _row(k, op, plan, v, line, (n, oh, c))
        line.set(line + plan.strides[0] * plan.row_bytes)


def _copy_rows(k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views, at: Place) -> None:
    """A slice of the rows of x under a strip, the zero point where there are none."""
    n, first, c = at
    columns, line_bytes = plan.copied_columns, plan.size[1] * plan.channels
    place = k.define("strip", v.workspace.address(plan.pads[1] * plan.slice))
    row = k.define("top", first * plan.strides[0] - plan.pads[0], DType.INDEX)
    line = k.define("line", v.x.address((n * plan.size[0] + row) * line_bytes + c))
    with k.loop("line_number", plan.strip_rows):
        with k.if_(binary("and", row >= 0, row < plan.size[0])):
            if plan.slice == plan.channels:
                copies.copy(k, place, line, columns * plan.channels)
            else:
                read, write = k.define("column_source", line), k.define("column_place", place)
                with k.loop("column_number", columns):
                    copies.copy(k, write, read, plan.slice)
                    read.set(read + plan.channels)
                    write.set(write + plan.slice)
        with k.else_():
            copies.fill(k, place, op.sums().zero_point, columns * plan.slice)
        place.set(place + plan.row_bytes)
        line.set(line + line_bytes)
        row.set(row + 1)


def _row(k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views, source: Expr, at: Place) -> None:
    """A slice of a row of outputs whose windows lie one after the other from `source` on."""
    n, oh, c = at
    width, pixels = plan.outputs[1], plan.pixels
    column = k.define("column", source)
    target = k.define("target", v.y.address((n * plan.outputs[0] + oh) * (width * plan.channels) + c))

    def step(count: int) -> None:
        _channels(k, op, plan, v, column, target, c, count)
        column.set(column + count * plan.strides[1] * plan.slice)
        target.set(target + count * plan.channels)

    if width // pixels > 1:
        with k.loop("ow", width // pixels):
            step(pixels)
    else:
        step(pixels)
    if width % pixels:
        step(width % pixels)


def _channels(
    k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views, source: Expr, target: Expr, c: Operand, pixels: int
) -> None:
    """All channels of a slice of one pixel or two."""
    weights = k.define("weights", v.weights.address(c * plan.taps))
    parameters = k.define("parameters", v.channels.address(c * (BLOCK_BYTES // LANES)))
    groups = plan.groups(pixels)
    pointers = [k.define("inputs", kept(source + group.middle) if len(groups) > 1 else source) for group in groups]
    body = _Block(k, op, plan, pixels, pointers, weights, parameters, k.define("out", target))
    whole, rest = plan.slice // LANES, plan.slice % LANES
    if whole > 1:
        out_end = k.define("out_end", body.out + whole * LANES)
        with k.repeat_while(lambda: body.out.ne(out_end)):
            _block(body, LANES)
    elif whole:
        _block(body, LANES)
    if rest:
        _block(body, rest)


@dataclass(frozen=True)
class _Block:
    """What the code of four channels works with."""

    k: LoopBuilder
    op: DepthwiseConv2d
    plan: Plan
    pixels: int
    #: Into the inputs, one for each group of taps.
    pointers: list[Register]
    weights: Register
    parameters: Register
    out: Register

    def input(self, lane: Expr, row: int, column: int) -> Expr:
        """An input under the windows, as `i32`."""
        offset = self.plan.offset(row, column)
        groups = self.plan.groups(self.pixels)
        number = next(i for i, group in enumerate(groups) if group.first <= offset <= group.last)
        base = groups[number].middle if len(groups) > 1 else 0
        return self.k.read(self.pointers[number] + lane, offset - base, DType.I8).cast(DType.I32)


def _block(b: _Block, channels: int) -> None:
    """Up to four channels; moves the pointers behind them."""
    k, stride = b.k, b.plan.strides[1]
    rows, columns = b.plan.kernel
    with k.loop("lane", channels, is_vector=True) as lane:
        totals: list[Expr] = [k.read(b.parameters + lane * 4, 0, DType.I32)] * b.pixels
        for i in range(rows):
            inputs: dict[int, Expr] = {}
            for j in range(columns):
                tap = k.read(b.weights + lane, LANES * (i * columns + j), DType.I8).cast(DType.I32)
                weight = k.define("weight", tap)
                for p in range(b.pixels):
                    column = p * stride + j
                    if column not in inputs:
                        inputs[column] = k.define("x", b.input(lane, i, column))
                    totals[p] = k.define("total", totals[p] + inputs[column] * weight)
        for p, total in enumerate(totals):
            result = requantized(k, b.op.sums(), total, b.parameters, lane)
            k.write(b.out + lane, p * b.plan.channels, result, DType.I8)
    for pointer in b.pointers:
        moved = pointer + LANES
        pointer.set(kept(moved) if len(b.pointers) > 1 else moved)
    b.weights.set(b.weights + LANES * rows * columns)
    b.parameters.set(b.parameters + BLOCK_BYTES)
    b.out.set(b.out + channels)
