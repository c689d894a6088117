"""Convolutions and fully connected layers of int8 on cores with scalar instructions only; the tiles are in `rows`.

Where a window is one run of bytes in x (1x1, or rows without padding), it is read in place. Otherwise the input under a
row of output (a strip of it, where the whole would not fit the workspace) is copied to the workspace column by column,
[column][ky, channel], with the zero point for padding, so that every window is one run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.graph.samples import Samples
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Operand, maximum, minimum
from luciole.ops.conv import Conv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.base import Cost
from luciole.targets.scalar.recipe import TiledRecipe, tiled
from luciole.targets.scalar.rows import Rows, emit_rows, plan_rows
from luciole.targets.scalar.strips import copied, fill_byte

#: The workspace of a strip of output columns stays below this many bytes, if one window does.
WORKSPACE_LIMIT = 4096
#: As above for f32.
FLOAT_WORKSPACE_LIMIT = 8192


@dataclass(frozen=True)
class _Plan:
    """How a convolution is cut."""

    rows: Rows
    #: Whether windows are read from x.
    is_direct: bool
    #: Runs of windows that follow one another without a gap, and the windows of a run.
    runs: int
    count: int
    #: Bytes of x from one run to the next, for direct reading.
    run_bytes: int
    #: Output columns of a strip, and its input columns.
    strip: int
    strip_columns: int
    column_bytes: int

    @property
    def workspace_bytes(self) -> int:
        return 0 if self.is_direct else self.strip_columns * self.column_bytes


@tiled("conv2d")
class TiledConv(TiledRecipe):
    """Convolution with any window, stride and padding, without dilation.

    The tile that is estimated to be cheapest is so on Cortex-M0+, M3 and RV32 for all classes of layers that are tuned;
    on Cortex-M4, whose long multiplications it does not price, others take 1 to 5 % fewer cycles.
    """

    parameter_space: ClassVar = {"tile": (0, 42, 24, 32, 23, 33, 14, 12, 44, 34, 43, 28)}

    def shape_class(self, op: Operator) -> str:
        assert isinstance(op, Conv2d)
        (height, width), channels = op.window.kernel, op.x.type.shape[3]
        some = "some" if channels < 16 else "16" if channels < 32 else "32 or more"
        return f"{op.x.type.dtype.value} {height}x{width} stride {op.strides[1]}, {some} channels"

    def tuning_layers(self, s: Samples) -> Iterator[Operator]:
        for extent, stride in ((3, 1), (3, 2), (1, 1)):
            for channels in (8, 16, 32, 64):
                w = s.i8_weights(16, extent, extent, channels, scale=0.01)
                x, pads = s.i8(1, 4, 24, channels, zero=-128), (extent // 2,) * 4
                yield Conv2d(x, w, s.i32_bias(16), strides=(stride, stride), pads=pads, quant=s.quant(0.9, -128))

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Conv2d)
        if op.dilations != (1, 1):
            return "the window is dilated"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if not op.result_types()[0].elements or not op.w.type.elements:
            return "there is nothing to compute"
        return ""

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Conv2d)
        plan = self._plan(op)
        return {"weights": plan.rows.weights, "channels": plan.rows.parameters}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, Conv2d)
        return self._plan(op).workspace_bytes

    def alignments(self, op: Operator) -> dict[str, int]:
        assert isinstance(op, Conv2d)
        return {} if self._plan(op).is_direct else {"x": math.gcd(4, op.x.type.shape[3] * op.x.type.dtype.size_bytes)}

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        """A strip of a row is copied before it is written; windows that are read in place are read until their tile is
        written.
        """
        assert isinstance(op, Conv2d)
        plan, y = self._plan(op), op.result_types()[0]
        if not plan.is_direct:
            distance = op.window.overlap_bytes(op.x.type, y, plan.strip, reads_first=True)
            return {} if distance is None else {"x": distance}
        runs, starts = np.arange(plan.runs)[:, None], np.arange(0, plan.count, plan.rows.pixels)
        written = (runs * plan.count + np.minimum(starts + plan.rows.pixels, plan.count)) * y.shape[3]
        return {"x": max(0, int((written - runs * plan.run_bytes - starts * plan.rows.step).max()))}

    def cost(self, op: Operator, target: Target) -> Cost:
        assert isinstance(op, Conv2d)
        plan = self._plan(op)
        instructions = plan.runs * plan.rows.instructions(plan.count)
        if not plan.is_direct:
            rows = int(np.prod(op.result_types()[0].shape[:2]))
            width = math.gcd(4, plan.column_bytes)
            strips = -(-plan.count // plan.strip)
            instructions += rows * strips * plan.workspace_bytes * 3 // width
        return Cost(instructions, int(instructions * self.machine.cycles_per_instruction))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Conv2d)
        plan = self._plan(op)
        if plan.is_direct:
            _direct(k, op, plan, v)
            return
        _, height, width, channels = op.x.type.shape
        batch, out_height, out_width, out_channels = op.result_types()[0].shape
        size = op.x.type.dtype.size_bytes
        with k.nest("n", batch, out_height) as (n, oh):
            image = k.define("image", v.x.address(n * (height * width * channels * size)))
            line = k.define("line", v.y.address((n * out_height + oh) * (out_width * out_channels * size)))
            whole, rest = divmod(out_width, plan.strip)
            if whole == 1:
                _strip(k, op, plan, v, image, line, oh, 0, plan.strip)
            else:
                with k.loop("strip", whole) as strip:
                    _strip(k, op, plan, v, image, line, oh, strip * plan.strip, plan.strip)
            if rest:
                _strip(k, op, plan, v, image, line, oh, whole * plan.strip, rest)

    def _plan(self, op: Conv2d) -> _Plan:
        _, height, width, channels = op.x.type.shape
        batch, out_height, out_width, _ = op.result_types()[0].shape
        (kernel_height, kernel_width), stride = op.window.kernel, op.strides[1]
        size = op.x.type.dtype.size_bytes
        column_bytes = kernel_height * channels * size
        is_direct = kernel_height == 1 and not op.window.has_padding and not self.machine.is_unsigned
        runs, count = batch * out_height, out_width
        run_bytes = op.strides[0] * width * channels * size
        if is_direct and stride * out_width == width and op.strides[0] == 1:
            runs, count = 1, runs * count
        if is_direct and batch > 1 and runs > 1 and run_bytes * out_height != height * width * channels * size:
            is_direct = False
        limit = WORKSPACE_LIMIT if size == 1 else FLOAT_WORKSPACE_LIMIT
        fitting = (limit // column_bytes - kernel_width) // stride + 1
        strip = out_width if is_direct else min(out_width, max(1, fitting))
        if strip >= 12 and strip < out_width:
            strip = strip // 12 * 12
        taps = np.arange(kernel_height * kernel_width * channels).reshape(kernel_height, kernel_width, channels)
        order = taps.transpose(1, 0, 2).reshape(-1)
        windows = count if is_direct else strip
        rows = plan_rows(self.machine, op.sums(), order, stride * column_bytes, windows, self.tile)
        return _Plan(rows, is_direct, runs, count, run_bytes, strip, (strip - 1) * stride + kernel_width, column_bytes)


def _direct(k: LoopBuilder, op: Conv2d, plan: _Plan, v: Views) -> None:
    """Windows that are runs of x."""
    source, target = k.define("row", v.x.address()), k.define("line", v.y.address())
    if plan.runs == 1:
        emit_rows(k, plan.rows, v, source, target, plan.count)
        return
    line_bytes = plan.count * plan.rows.sums.channels * plan.rows.size
    end = k.define("line_end", v.y.address(plan.runs * line_bytes))
    with k.repeat_while(lambda: target.ne(end)):
        emit_rows(k, plan.rows, v, source, target, plan.count)
        source += plan.run_bytes
        target += line_bytes


def _strip(
    k: LoopBuilder, op: Conv2d, plan: _Plan, v: Views, image: Expr, line: Expr, oh: Expr, first: Operand, count: int
) -> None:
    """`count` output columns from `first` of one output row: copy the input under them, then all tiles."""
    columns = (count - 1) * op.strides[1] + op.window.kernel[1]
    _, height, width, _ = op.x.type.shape
    piece = op.x.type.shape[3] * plan.rows.size
    fill = fill_byte(plan.rows.sums.zero_point, plan.rows.machine) if plan.rows.size == 1 else 0
    start = k.define("start", first * op.strides[1] - op.pads[1], DType.INDEX)
    begin: Operand = 0
    end: Operand = columns
    if op.pads[1] or op.pads[3]:
        begin = k.define("begin", minimum(maximum(-start, 0), columns))
        end = k.define("end", maximum(minimum(width - start, columns), begin))
    with k.loop("ky", op.window.kernel[0]) as ky:
        row = k.define("row", oh * op.strides[0] - op.pads[0] + ky)
        place = k.define("place", v.workspace.address(ky * piece))
        source = image + ((row * width + start + begin) * piece)

        def whole_row() -> None:
            if op.pads[1]:
                copied(k, plan.rows.machine, place, None, fill, begin, piece, plan.column_bytes)
            after = k.define("after", place + begin * plan.column_bytes)
            inside = end - begin
            copied(k, plan.rows.machine, after, source, fill, inside, piece, plan.column_bytes)
            if op.pads[1] or op.pads[3]:
                rest = k.define("rest", place + end * plan.column_bytes)
                copied(k, plan.rows.machine, rest, None, fill, columns - end, piece, plan.column_bytes)

        if op.pads[0] or op.pads[2]:
            is_inside = k.define("is_inside", 1)
            with k.if_(row < 0):
                is_inside.set(0)
            with k.if_(row >= height):
                is_inside.set(0)
            with k.if_(is_inside.ne(0)):
                whole_row()
            with k.else_():
                copied(k, plan.rows.machine, place, None, fill, columns, piece, plan.column_bytes)
        else:
            whole_row()
    emit_rows(k, plan.rows, v, v.workspace.address(), line + first * (plan.rows.sums.channels * plan.rows.size), count)


@tiled("fully_connected")
class TiledFullyConnected(TiledRecipe):
    """A fully connected layer: its rows are windows one behind the other."""

    def applies(self, op: Operator) -> str:
        assert isinstance(op, FullyConnected)
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if not op.result_types()[0].elements or not op.w.type.elements:
            return "there is nothing to compute"
        if self.machine.is_unsigned and op.w.type.shape[1] > WORKSPACE_LIMIT:
            return f"a row of {op.w.type.shape[1]} elements does not fit the workspace"
        return ""

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, FullyConnected)
        rows = self._rows(op)
        return {"weights": rows.weights, "channels": rows.parameters}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, FullyConnected)
        return op.w.type.shape[1] if self.machine.is_unsigned else 0

    def alignments(self, op: Operator) -> dict[str, int]:
        assert isinstance(op, FullyConnected)
        return {"x": math.gcd(4, op.w.type.shape[1])} if self.machine.is_unsigned else {}

    def cost(self, op: Operator, target: Target) -> Cost:
        assert isinstance(op, FullyConnected)
        rows, count = self._rows(op), self._count(op)
        instructions = rows.instructions(count) + 2 * count * self.workspace_bytes(op)
        return Cost(instructions, int(instructions * self.machine.cycles_per_instruction))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, FullyConnected)
        rows, count = self._rows(op), self._count(op)
        if not self.machine.is_unsigned:
            emit_rows(k, rows, v, v.x.address(), v.y.address(), count)
            return
        with k.loop("row", count) as row:
            source, place = v.x.address(row * rows.length), k.define("place", v.workspace.address())
            copied(k, self.machine, place, source, 0, 1, rows.length, rows.length)
            emit_rows(k, rows, v, v.workspace.address(), v.y.address(row * rows.sums.channels), 1)

    def _count(self, op: FullyConnected) -> int:
        return op.result_types()[0].elements // op.w.type.shape[0]

    def _rows(self, op: FullyConnected) -> Rows:
        count = 1 if self.machine.is_unsigned else self._count(op)
        return plan_rows(
            self.machine,
            op.sums(),
            np.arange(op.w.type.shape[1]),
            op.w.type.shape[1] * op.w.type.dtype.size_bytes,
            count,
        )
