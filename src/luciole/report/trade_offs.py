"""RAM against time as one HTML page: every program worth having is a point, and steps join them.

Like the page of a report it opens offline, without scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luciole.lower.fit import TradeOff
from luciole.report.chart import Label, coordinate, tick_step, tick_text
from luciole.report.html import page_template
from luciole.report.table import format_count, format_size

#: Sizes in CSS pixels.
_PLOT_WIDTH, _PLOT_HEIGHT = 900, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 110, 26, 44

#: The classes that color the ways to save memory; a program with rows from the caller has no other beside it.
_CLASSES = {"every tensor apart": "temp", "results over inputs": "input"}
_OTHER_CLASS = "workspace"


@dataclass(frozen=True)
class Point:
    """A program in the drawing: its center, the class that colors it, the text beside it, and its hover title."""

    x: str
    y: str
    kind: str
    label: Label
    title: str


@dataclass(frozen=True)
class TradeOffChart:
    """Everything that the template draws; numbers are texts with at most two decimals. `steps` is the line that joins
    the points: what time the RAM below it costs at least.
    """

    width: str
    height: str
    left: str
    right: str
    top: str
    bottom: str
    sizes: tuple[Label, ...]
    costs: tuple[Label, ...]
    steps: str
    points: tuple[Point, ...]
    description: str


@dataclass(frozen=True)
class TradeOffRow:
    """A row of the table: a program, its cost as a multiple of the fastest, and the class that colors its way."""

    point: TradeOff
    slowdown: str
    percent: str
    kind: str


def trade_off_chart(points: Sequence[TradeOff]) -> TradeOffChart:
    """The drawing of programs, the fastest first: x is RAM from zero, y is time as a multiple of the fastest."""
    right, bottom = _LEFT + _PLOT_WIDTH, _TOP + _PLOT_HEIGHT
    most = max((point.arena_bytes for point in points), default=1) or 1
    least = min((point.instructions for point in points), default=1) or 1
    slowest = max((point.instructions / least for point in points), default=1.0)
    # A little room above, so that points with equal costs are no line at the top.
    top = max(1.1, 1 + 1.1 * (slowest - 1))

    def x_of(size: int) -> float:
        return _LEFT + _PLOT_WIDTH * size / most

    def y_of(slowdown: float) -> float:
        return bottom - _PLOT_HEIGHT * (slowdown - 1) / (top - 1)

    steps: list[tuple[float, float]] = []
    drawn = []
    for index, point in enumerate(points):
        x, y = x_of(point.arena_bytes), y_of(point.instructions / least)
        # From the fastest to smaller ones: whoever has less RAM than this point pays what the next one costs.
        steps += [(x, steps[-1][1]), (x, y)] if steps else [(x, y)]
        title = (
            f"{point.arena_bytes:,} B, {point.instructions:,} instructions ({point.instructions / least:.2f} x),"
            f" {point.way}, {point.streamed_layers} layers by row"
        )
        # Labels stand above and below by turns, since neighbors are often close.
        label = Label(coordinate(x + 8), coordinate(y + (14 if index % 2 else -8)), format_size(point.arena_bytes))
        drawn.append(Point(coordinate(x), coordinate(y), kind_class(point.way), label, title))
    return TradeOffChart(
        width=coordinate(right + _RIGHT),
        height=coordinate(bottom + _BOTTOM),
        left=coordinate(_LEFT),
        right=coordinate(right),
        top=coordinate(_TOP),
        bottom=coordinate(bottom),
        sizes=tuple(
            Label(coordinate(x_of(size)), coordinate(bottom + 18), tick_text(size))
            for size in range(0, most + 1, tick_step(most))
        ),
        costs=tuple(
            Label(coordinate(_LEFT - 8), coordinate(y_of(1 + (top - 1) * i / 4)), f"{1 + (top - 1) * i / 4:.2f} x")
            for i in range(5)
        ),
        steps=" ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in steps),
        points=tuple(drawn),
        description=f"{len(points)} programs, from {most:,} bytes of RAM down; the cost is estimated instructions.",
    )


def kind_class(way: str) -> str:
    """The class that colors a way to save memory."""
    return _CLASSES.get(way, _OTHER_CLASS)


def render_trade_offs(points: Sequence[TradeOff], name: str, target: str) -> str:
    """The page of a model's programs, the fastest first: equal points give equal bytes."""
    most = max((point.arena_bytes for point in points), default=1) or 1
    least = min((point.instructions for point in points), default=1) or 1
    rows = [
        TradeOffRow(
            point, f"{point.instructions / least:.2f}", f"{100 * point.arena_bytes / most:.1f}", kind_class(point.way)
        )
        for point in points
    ]
    html: str = page_template("trade_offs.html.j2").render(
        name=name,
        target=target,
        chart=trade_off_chart(points),
        rows=rows,
        ways=list(dict.fromkeys((point.way, kind_class(point.way)) for point in points)),
        smallest=format_size(min((point.arena_bytes for point in points), default=0)),
        fastest=format_count(least),
    )
    return html
