"""Rows of outputs of a window: where their inputs are read.

Windows that lie inside the input are read there. Where there is padding, the rows under a row of outputs (a strip of
their columns, where the whole would not fit) are copied into the workspace, with the zero point around them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Views
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Operand
from luciole.ops.weighted import WindowedSum
from luciole.targets.rvv.copies import copy_row, row_instructions

#: Bytes of workspace that a kernel may take.
WORKSPACE_LIMIT = 4096
#: As above for floats.
FLOAT_WORKSPACE_LIMIT = 8192

#: Emits the results of some pixels of a row: source, target, how many.
PixelsEmitter = Callable[[Expr, Expr, int], None]


@dataclass(frozen=True)
class RowPlan:
    """How the outputs of a window are cut into runs of pixels whose inputs are equally far apart."""

    #: Rows, and pixels of each.
    rows: int
    width: int
    #: Bytes of the inputs from one line of a window to the next, and from one pixel to the next.
    line_bytes: int
    step: int
    #: Output columns whose inputs are copied at a time, 0 where they are read in place.
    strip: int
    #: Lines of the workspace, and its bytes.
    lines: int
    workspace_bytes: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Pixels of each run of a row."""
        strip = self.strip or self.width
        whole, rest = divmod(self.width, strip)
        return (strip,) * whole + ((rest,) if rest else ())

    @property
    def copying_instructions(self) -> int:
        """Executed instructions for each run beside those of its pixels."""
        return 6 + (self.lines * row_instructions(self.line_bytes, self.strip == self.width) if self.strip else 0)


def row_problem(op: WindowedSum) -> str:
    """Why there is no plan, or an empty string."""
    bytes_needed = op.window.kernel[0] * op.window.extent[1] * _pixel_bytes(op)
    if op.window.has_padding and bytes_needed > _limit(op):
        return f"a window exceeds the workspace of {_limit(op)} bytes"
    return ""


def _pixel_bytes(op: WindowedSum) -> int:
    return op.x.type.shape[3] * op.x.type.dtype.size_bytes


def _limit(op: WindowedSum) -> int:
    return WORKSPACE_LIMIT if op.x.type.dtype.size_bytes == 1 else FLOAT_WORKSPACE_LIMIT


def row_plan(op: WindowedSum) -> RowPlan:
    """The plan of an operator that has no `row_problem`."""
    window, (batch, height, width, _) = op.window, op.result_types()[0].shape
    columns, channels = op.x.type.shape[2], _pixel_bytes(op)
    step = window.strides[1] * channels
    if not window.has_padding:
        line_bytes = window.dilations[0] * columns * channels
        if window.kernel == (1, 1) and window.strides == (1, 1):
            return RowPlan(1, batch * height * width, line_bytes, step, 0, 0, 0)
        return RowPlan(batch * height, width, line_bytes, step, 0, 0, 0)
    lines = window.kernel[0]
    most = (_limit(op) // (lines * channels) - window.extent[1]) // window.strides[1] + 1
    strip = min(width, most)
    line_bytes = ((strip - 1) * window.strides[1] + window.extent[1]) * channels
    return RowPlan(batch * height, width, line_bytes, step, strip, lines, lines * line_bytes)


def row_overlap(op: WindowedSum, plan: RowPlan, tile: int) -> dict[str, int]:
    """`KernelRecipe.overlap_bytes` where pixels are made `tile` at a time; the inputs of a strip are copied first."""
    y = op.result_types()[0]
    if plan.strip:
        distance = op.window.overlap_bytes(op.x.type, y, plan.strip, reads_first=True)
        return {} if distance is None else {"x": distance}
    if op.x.type.shape[0] > 1 and plan.rows > 1:
        return {}
    run_bytes = op.window.strides[0] * op.x.type.shape[2] * _pixel_bytes(op)
    runs, starts = np.arange(plan.rows)[:, None], np.arange(0, plan.width, tile)
    written = (runs * plan.width + np.minimum(starts + tile, plan.width)) * (y.shape[3] * y.dtype.size_bytes)
    return {"x": max(0, int((written - runs * run_bytes - starts * plan.step).max()))}


def emit_rows(k: LoopBuilder, op: WindowedSum, plan: RowPlan, v: Views, emit: PixelsEmitter) -> None:
    """All outputs."""
    if plan.rows == 1 and not plan.strip:
        emit(v.x.address(), v.y.address(), plan.width)
        return
    y = op.result_types()[0]
    (batch, height, _, channels), size = y.shape, y.dtype.size_bytes
    outputs = channels * size
    target, counts = k.define("row_target", v.y.address()), plan.counts
    with k.nest("n", batch, height) as (n, oh):
        if not plan.strip:
            _, rows, columns, _ = op.x.type.shape
            place = (n * rows + oh * op.window.strides[0]) * (columns * _pixel_bytes(op))
            emit(v.x.address(place), target, plan.width)
            target.set(target + plan.width * outputs)
            return

        def strip(first: Operand, count: int) -> None:
            _copy_strip(k, op, plan, v, (n, oh, first), count)
            emit(v.workspace.address(), target, count)
            target.set(target + count * outputs)

        whole = plan.width // plan.strip
        if whole > 1:
            with k.loop("strip", 0, whole * plan.strip, plan.strip) as first:
                strip(first, plan.strip)
        else:
            strip(0, plan.strip)
        if counts[-1] != plan.strip:
            strip(whole * plan.strip, counts[-1])


def _copy_strip(
    k: LoopBuilder, op: WindowedSum, plan: RowPlan, v: Views, at: tuple[Expr, Expr, Operand], count: int
) -> None:
    """The inputs under some pixels of a row of outputs, from one on, line by line into the workspace."""
    (n, oh, first), window = at, op.window
    size = (op.x.type.shape[1], op.x.type.shape[2], _pixel_bytes(op))
    fill = op.sums().zero_point if op.sums().is_int8 else 0
    columns = (count - 1) * window.strides[1] + window.extent[1]
    row = k.define("row", oh * window.strides[0] - window.pads[0], DType.INDEX)
    place = k.define("line_place", v.workspace.address())
    image = v.x.address(n * (size[0] * size[1] * size[2]))
    start = first * window.strides[1] - window.pads[1]
    with k.loop("line_number", plan.lines):
        copy_row(k, image, size, (row, start), place, columns, fill)
        place.set(place + plan.line_bytes)
        row.set(row + window.dilations[0])
