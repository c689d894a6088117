"""The geometry of the drawing "memory over time": x is the instruction, y the address, a rectangle is a buffer."""

from __future__ import annotations

from dataclasses import dataclass

from luciole.report.model import BufferReport, Report
from luciole.report.table import format_cell, format_size, shorten

#: Sizes in CSS pixels.
_PLOT_WIDTH, _PLOT_HEIGHT = 950, 320
_NARROWEST_COLUMN, _WIDEST_COLUMN = 12.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 26, 24
_CHARACTER_WIDTH, _LINE_HEIGHT = 6.6, 14
_GAP = 1.0

#: Operators are written under their columns where these leave room for a slanted line (sine of 50 degrees: 0.77).
_LONGEST_OPERATOR, _OPERATOR_COLUMN = 16, 17.0

#: The kinds of buffers that have a color of their own; others share one.
KINDS = ("input", "output", "temp", "workspace", "state")


@dataclass(frozen=True)
class Box:
    """One rectangle: its place, the class that colors it, the text inside and the text of its hover title."""

    x: str
    y: str
    width: str
    height: str
    kind: str
    labels: tuple[Label, ...]
    title: str


@dataclass(frozen=True)
class Label:
    """A text and where its anchor is."""

    x: str
    y: str
    text: str


@dataclass(frozen=True)
class MemoryChart:
    """Everything that the template draws; all numbers are texts with at most two decimals, so that bytes do not vary.

    `arena_y` and `bound_y` are the heights of the two horizontal lines, `peak` the column of the peak.
    """

    width: str
    height: str
    left: str
    right: str
    top: str
    bottom: str
    boxes: tuple[Box, ...]
    ticks: tuple[Label, ...]
    columns: tuple[Label, ...]
    operators: tuple[Label, ...]
    arena_y: str
    bound_y: str
    peak_x: str
    peak_width: str
    peak_center: str
    kinds: tuple[str, ...]
    description: str


def memory_chart(report: Report) -> MemoryChart:
    """The drawing of a report's buffers; a program without instructions gets one empty column."""
    count = max(1, len(report.layers))
    column = min(_WIDEST_COLUMN, max(_NARROWEST_COLUMN, _PLOT_WIDTH / count))
    arena = max(1, report.memory.arena_bytes)
    right, bottom = _LEFT + column * count, _TOP + _PLOT_HEIGHT

    def height_of(address: int) -> float:
        return bottom - _PLOT_HEIGHT * min(1.0, address / arena)

    peak = report.peak_instruction()
    ordered = sorted(report.buffers, key=lambda b: (-b.size_bytes, b.first, b.offset, b.name))
    step = tick_step(arena)
    every = max(1, -(-22 // int(column)))
    operators = (
        [shorten(layer.operator, _LONGEST_OPERATOR) for layer in report.layers] if column >= _OPERATOR_COLUMN else []
    )
    present = {_kind_class(b.kind) for b in report.buffers}
    return MemoryChart(
        width=coordinate(right + _RIGHT),
        height=coordinate(bottom + _BOTTOM + 0.77 * _CHARACTER_WIDTH * max((len(o) for o in operators), default=0)),
        left=coordinate(_LEFT),
        right=coordinate(right),
        top=coordinate(_TOP),
        bottom=coordinate(bottom),
        boxes=tuple(_box(b, count, column, height_of(b.offset), height_of(b.offset + b.size_bytes)) for b in ordered),
        ticks=tuple(
            Label(coordinate(_LEFT - 8), coordinate(height_of(a)), tick_text(a)) for a in range(0, arena + 1, step)
        ),
        columns=tuple(
            Label(coordinate(_LEFT + column * (i + 0.5)), coordinate(bottom + 16), str(i))
            for i in range(0, count, every)
        ),
        operators=tuple(
            Label(coordinate(_LEFT + column * (i + 0.5) + 3), coordinate(bottom + 28), operator)
            for i, operator in enumerate(operators)
        ),
        arena_y=coordinate(height_of(arena)),
        bound_y=coordinate(height_of(report.memory.lower_bound_bytes)),
        peak_x=coordinate(_LEFT + column * peak),
        peak_width=coordinate(column),
        peak_center=coordinate(_LEFT + column * (peak + 0.5)),
        kinds=tuple(kind for kind in (*KINDS, "other") if kind in present),
        description=(
            f"{len(report.buffers)} buffers over {len(report.layers)} instructions in an arena of "
            f"{report.memory.arena_bytes:,} bytes; the peak is at instruction {peak}."
        ),
    )


def _box(buffer: BufferReport, count: int, column: float, low: float, high: float) -> Box:
    """The rectangle of one buffer; `low` and `high` are the y of its first and past-the-last byte."""
    first, last = max(0, buffer.first), min(count - 1, buffer.last)
    x = _LEFT + column * min(first, count - 1) + _GAP / 2
    width = column * max(1, last - first + 1) - _GAP
    # A few bytes of workspace must stay visible beside buffers of many kilobytes.
    height = max(2.0, low - high - _GAP)
    y = min(high + _GAP / 2, low - height)
    end = buffer.offset + buffer.size_bytes
    title = (
        f"{shorten(buffer.name, 80)}: {shorten(buffer.kind, 24)}, "
        f"{shorten(buffer.dtype, 12)} {format_cell(buffer.shape)}, {buffer.size_bytes:,} B at "
        f"{buffer.offset:,} to {end:,}, instructions {buffer.first} to {buffer.last}"
    )
    return Box(
        coordinate(x),
        coordinate(y),
        coordinate(width),
        coordinate(height),
        _kind_class(buffer.kind),
        _labels(buffer, x, y, width, height),
        title,
    )


def _labels(buffer: BufferReport, x: float, y: float, width: float, height: float) -> tuple[Label, ...]:
    """The texts inside a rectangle, as far as they fit: its size, and below that its name."""
    room = int((width - 8) / _CHARACTER_WIDTH)
    size = format_size(buffer.size_bytes)
    if room < len(size) or height < _LINE_HEIGHT + 2:
        return ()
    texts = [size]
    if height >= 2 * _LINE_HEIGHT + 4 and room >= min(len(buffer.name), 8):
        texts.append(shorten(buffer.name, room))
    first = y + height / 2 - _LINE_HEIGHT * (len(texts) - 1) / 2
    center = coordinate(x + width / 2)
    return tuple(Label(center, coordinate(first + _LINE_HEIGHT * i), text) for i, text in enumerate(texts))


def _kind_class(kind: str) -> str:
    """The class that colors a kind of buffer; the kind itself never reaches an attribute."""
    return kind if kind in KINDS else "other"


def tick_step(arena: int) -> int:
    """The least power of two that makes at most six steps."""
    step = 1
    while arena > 6 * step:
        step *= 2
    return step


def tick_text(address: int) -> str:
    """An address on the axis, without needless decimals."""
    return format_size(address).replace(".00 ", " ").replace(".0 ", " ")


def coordinate(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
