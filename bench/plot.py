"""Bars side by side as an SVG file: one group a model, one bar a program, shorter is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_COLORS = ("#1f6f78", "#69a297", "#b9c9c3", "#d9a441", "#c2703d", "#8c5e58", "#6b6570")
_BAR, _GAP, _LEFT, _WIDTH = 14, 22, 190, 640


@dataclass(frozen=True)
class Chart:
    """A chart: a title, a remark below, and for each group the value of each series that has one."""

    title: str
    remark: str
    series: Sequence[str]
    groups: Mapping[str, Mapping[str, float]]


def svg(charts: Sequence[Chart]) -> str:
    """The charts one below the other, each in its own scale."""
    parts: list[str] = []
    top = 10
    for chart in charts:
        lines, height = _chart(chart, top)
        parts += lines
        top += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 90}" height="{top}" '
    return "\n".join([head + 'font-family="sans-serif" font-size="11">', *parts, "</svg>", ""])


def _chart(chart: Chart, top: int) -> tuple[list[str], int]:
    longest = max((v for group in chart.groups.values() for v in group.values()), default=1.0)
    lines = [_text(10, top + 14, chart.title, "font-weight='bold' font-size='13'")]
    y = top + 30
    for group, values in chart.groups.items():
        lines.append(_text(10, y + _BAR - 3, group, "font-weight='bold'"))
        for series in chart.series:
            if series not in values:
                continue
            width = max(1, round(_WIDTH * values[series] / longest))
            color = _COLORS[list(chart.series).index(series) % len(_COLORS)]
            lines.append(f'<rect x="{_LEFT}" y="{y}" width="{width}" height="{_BAR - 3}" fill="{color}"/>')
            lines.append(_text(_LEFT - 6, y + _BAR - 5, series, "text-anchor='end' fill='#444'"))
            lines.append(_text(_LEFT + width + 4, y + _BAR - 5, f"{values[series]:.2f}", "fill='#444'"))
            y += _BAR
        y += _GAP - _BAR
    lines.append(_text(10, y + 4, chart.remark, "fill='#666' font-size='9'"))
    return lines, y + 24 - top


def _text(x: int, y: int, text: str, attributes: str) -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'
