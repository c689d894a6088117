"""Averages and maxima of int8 windows with vectors of channels: sixteen maxima at a time, or four vectors of sums.

An average is total / count, halves away from zero: (|total| + count / 2) / count under the sign of the total. The
division is a product with ceil(2**24 / count), shifted right by 24. With n = |total| + count / 2 <= 128.5 * count and
the reciprocal less than 1 too large in 2**24 / count, the quotient is exact while n * count < 2**24, and the product
fits 32 bits: both hold for counts of up to 361.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr, Operand, Splat, as_expr, binary, cast, maximum, select
from luciole.kernel.vectors import ActiveLanes
from luciole.ops.pool import AveragePool2d, MaxPool2d, Pool
from luciole.targets.base import Cost, KernelRecipe, kernel

I8, I32, U32, INDEX = DType.I8, DType.I32, DType.U32, DType.INDEX

#: Channels of a turn: a vector of bytes, or four of words.
BLOCK = 16
WORD_LANES = 4
#: Counts for which the division is exact.
MAXIMUM_COUNT = 361
#: Binary digits of reciprocals.
RECIPROCAL_BITS = 24


@kernel("average_pool2d", I8, needs={"mve"})
class AveragePoolVectors(KernelRecipe):
    """Average pools of up to 361 taps."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, AveragePool2d)
        return average_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, AveragePool2d)
        return average_constants(op)

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, AveragePool2d)
        return _cost(op, 9, 4 * 13)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, AveragePool2d)

        emit_average_pool(k, op, v, BLOCK, WORD_LANES)


@kernel("max_pool2d", I8, needs={"mve"})
class MaxPoolVectors(KernelRecipe):
    """Maximum pools of any shape."""

    name = "vectors"

    def constants(self, op: Operator) -> dict[str, Array]:
        return {}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, MaxPool2d)
        return _cost(op, 3, 4)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, MaxPool2d)
        emit_max_pool(k, op, v, BLOCK)


def average_problem(op: AveragePool2d) -> str:
    """Why `emit_average_pool` cannot compute an operator, or an empty string."""
    if op.rounding == "onnx":
        return "rounding onnx may need sums of floats"
    taps = op.size[0] * op.size[1]
    return f"the window has more than {MAXIMUM_COUNT} taps" if taps > MAXIMUM_COUNT else ""


def average_constants(op: AveragePool2d) -> dict[str, Array]:
    """The constants that `emit_average_pool` reads: reciprocals of all counts, where there are several."""
    if not op.window.has_padding:
        return {}
    counts = range(1, op.size[0] * op.size[1] + 1)
    return {"reciprocals": np.array([0, *(_reciprocal(count) for count in counts)], np.uint32)}


def emit_average_pool(k: LoopBuilder, op: AveragePool2d, v: Views, block: int, lanes: int) -> None:
    """Averages, `block` channels at a time in vectors of `lanes` sums."""

    def divided(total: Expr, count: Operand) -> Expr:
        half: Expr
        factor: Expr
        if isinstance(count, Expr):
            half, factor = Splat(cast(count, I32) >> 1, lanes), Splat(v.reciprocals[count], lanes)
        else:
            half = as_expr(int(count) // 2, I32, lanes)
            factor = as_expr(_reciprocal(int(count)), U32, lanes)
        magnitude = maximum(total, -total) + half
        quotient = ((magnitude.cast(U32) * factor) >> RECIPROCAL_BITS).cast(I32)
        return op.clamped_element(select(total < 0, -quotient, quotient))

    def add(total: Expr, x: Expr) -> Expr:
        return total + x.cast(I32)

    _pool(k, op, v, _Way(block, lanes, Splat(Constant(0, I32), lanes), add, divided))


def emit_max_pool(k: LoopBuilder, op: MaxPool2d, v: Views, lanes: int) -> None:
    """Maxima in vectors of `lanes` channels."""
    low, high = op.limits

    def clamped(greatest: Expr, count: Operand) -> Expr:
        return greatest if high == I8.limits[1] else binary("min", greatest, high)

    _pool(k, op, v, _Way(lanes, lanes, Splat(Constant(low, I8), lanes), maximum, clamped))


def pool_instructions(op: Pool, block: int, tap: int, finish: int) -> int:
    """Executed instructions: `tap` for a tap of a block of channels, `finish` for its results."""
    channels, pixels = op.x.type.shape[3], op.result_types()[0].elements // op.x.type.shape[3]
    rows, columns = (1, op.size[0] * op.size[1]) if _is_one_run(op) else op.size
    return pixels * (20 + -(-channels // block) * (rows * (columns * (tap + 1) + 6) + finish + 8))


def _reciprocal(count: int) -> int:
    return -(-(1 << RECIPROCAL_BITS) // count)


def _cost(op: Pool, tap: int, finish: int) -> Cost:
    instructions = pool_instructions(op, BLOCK, tap, finish)
    return Cost(instructions, 2 * instructions)


def _is_one_run(op: Pool) -> bool:
    """Whether the taps of a window follow one another without a gap: whole rows of x."""
    return op.size[1] == op.x.type.shape[2] and op.dilations == (1, 1) and not op.window.has_padding


@dataclass(frozen=True)
class _Way:
    """How channels become results, a block of them at a time: lanes of a vector, its first value, one tap taken in, the
    result of so many.
    """

    channels: int
    lanes: int
    first: Expr
    take: Callable[[Expr, Expr], Expr]
    finish: Callable[[Expr, Operand], Expr]


def _pool(k: LoopBuilder, op: Pool, v: Views, way: _Way) -> None:
    """All pixels."""
    batch, rows, columns, channels = op.result_types()[0].shape
    _, height, width, _ = op.x.type.shape
    target = k.define("target", v.y.address())
    with k.nest("n", batch, rows) as (n, oh):
        first_row, last_row = k.define_all(("first_row", "last_row"), op.window.tap_bounds(0, oh, height))
        with k.loop("ow", columns) as ow:
            first, last = k.define_all(("first", "last"), op.window.tap_bounds(1, ow, width))
            top = binary("add", oh * op.strides[0] - op.pads[0], binary("mul", first_row, op.dilations[0]))
            left = binary("add", ow * op.strides[1] - op.pads[1], binary("mul", first, op.dilations[1]))
            origin = k.define("origin", v.x.address(((n * height + top) * width + left) * channels))
            taps = (_difference(last_row, first_row), _difference(last, first))
            window = _Window(k, op, way, origin, target, *(taps if not _is_one_run(op) else (1, taps[0] * width)))
            block = way.channels
            whole = channels // block
            if whole > 1:
                with k.loop("c", 0, whole * block, block) as c:
                    window.block(c, block)
            elif whole:
                window.block(0, block)
            if channels % block:
                window.block(whole * block, channels % block)
            target.set(target + channels)


def _difference(last: Operand, first: Operand) -> Operand:
    return binary("sub", last, first) if isinstance(last, Expr) or isinstance(first, Expr) else last - first


@dataclass(frozen=True)
class _Window:
    """The taps of one pixel that lie inside x, `rows` by `columns` of them from `origin` on."""

    k: LoopBuilder
    op: Pool
    way: _Way
    origin: Register
    target: Register
    rows: Operand
    columns: Operand

    def block(self, c: Operand, channels: int) -> None:
        """Up to a block of channels from one on."""
        k, lanes, (_, _, width, all_channels) = self.k, self.way.lanes, self.op.x.type.shape
        masks = [_mask(channels - i, lanes) for i in range(0, channels, lanes)]
        totals = [k.define("total", self.way.first) for _ in masks]
        place = k.define("place", self.origin + c)
        step = self.op.dilations[1] * all_channels
        line = self.op.dilations[0] * width * all_channels
        with k.loop("kh", self.rows):
            tap = k.define("tap", place)
            with k.loop("kw", self.columns):
                for i, (total, mask) in enumerate(zip(totals, masks, strict=True)):
                    total.set(self.way.take(total, k.read(tap, i * lanes, I8, lanes=lanes, mask=mask)))
                tap.set(tap + step)
            place.set(place + line)
        count = binary("mul", self.rows, self.columns)
        for i, (total, mask) in enumerate(zip(totals, masks, strict=True)):
            result = self.way.finish(total, int(count.value) if isinstance(count, Constant) else count)
            k.write(self.target + c, i * lanes, result, I8, mask=mask)


def _mask(channels: int, lanes: int) -> Expr | None:
    return ActiveLanes(Constant(channels, INDEX), lanes) if channels < lanes else None
