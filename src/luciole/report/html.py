"""The report as one HTML file that opens offline: no scripts, no fonts, no reference to anything outside itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from luciole.quantize.remarks import LayerError
from luciole.report.chart import memory_chart
from luciole.report.model import LayerReport, Report, occupied_bytes
from luciole.report.table import format_cell, format_count, format_size, shorten, visible


@dataclass(frozen=True)
class Bar:
    """A number with a bar: its text, and its share of the largest of its column in percent."""

    text: str
    percent: str


@dataclass(frozen=True)
class LayerRow:
    """One row of the table of layers; `instructions` and what follows are `None` until measured."""

    index: int
    layer: LayerReport
    is_peak: bool
    output: str
    macs: Bar
    weights: Bar
    arena: Bar
    instructions: Bar | None
    per_mac: str
    cycles: str


@dataclass(frozen=True)
class FlashPart:
    """A part of the flash: what it is, its bytes, its share of the whole in percent, the class that colors it."""

    title: str
    size_bytes: int
    percent: str
    css: str


@cache
def _environment() -> Any:
    """The templates, each compiled once: that takes longer than a small model."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("luciole.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=format_cell, size=format_size, count=format_count, shorten=shorten, visible=visible)
    return environment


def page_template(name: str) -> Any:
    """A template of a page."""
    return _environment().get_template(name)


def render_html(report: Report) -> str:
    """The page of a report, the text of `<name>.report.html`: equal reports give equal bytes.

    All that comes from the user's model is escaped, control characters become visible, and long names lose their
    middle.
    """
    peak = report.peak_instruction()
    alive = report.buffers_at(peak)
    largest = max((buffer.size_bytes for buffer in alive), default=0)
    emulated = report.emulated
    html: str = page_template("report.html.j2").render(
        report=report,
        chart=memory_chart(report),
        rows=_layer_rows(report, peak),
        flash_parts=_flash_parts(report),
        verdict=_verdict(report),
        peak=peak,
        peak_layer=report.layers[peak] if report.layers else None,
        peak_bytes=occupied_bytes(alive),
        peak_buffers=[(buffer, _bar(buffer.size_bytes, largest)) for buffer in reversed(alive)],
        buffers=sorted(report.buffers, key=lambda b: (b.first, b.offset, b.name)),
        tensors=[("input", t) for t in report.inputs] + [("output", t) for t in report.outputs],
        instructions_per_mac=f"{emulated.instructions / report.macs:.2f}" if emulated and report.macs else "",
        quantization_rows=_quantization_rows(report),
        is_measured=any(layer.instructions is not None for layer in report.layers),
    )
    return html


def _layer_rows(report: Report, peak: int) -> list[LayerRow]:
    """The rows of the table of layers; bars compare the layers of one column."""
    macs = max((layer.macs for layer in report.layers), default=0)
    weights = max((layer.weights_bytes for layer in report.layers), default=0)
    arena = max((layer.arena_bytes for layer in report.layers), default=0)
    instructions = max((layer.instructions or 0 for layer in report.layers), default=0)
    rows = []
    for index, layer in enumerate(report.layers):
        count = layer.instructions
        rows.append(
            LayerRow(
                index,
                layer,
                index == peak,
                " ".join(format_cell(shape) for shape in layer.output_shapes),
                _bar(layer.macs, macs),
                _bar(layer.weights_bytes, weights),
                _bar(layer.arena_bytes, arena),
                None if count is None else _bar(count, instructions),
                "" if count is None or not layer.macs else f"{count / layer.macs:.2f}",
                format_cell(layer.estimated_cycles),
            )
        )
    return rows


def _quantization_rows(report: Report) -> list[tuple[LayerError, Bar]]:
    """The error of each result that quantization made; bars are of the ratio of signal to noise."""
    layers = report.quantization.layers if report.quantization is not None else ()
    return [
        (
            layer,
            Bar(
                f"{layer.signal_to_noise_db:.1f}",
                _percent(round(10 * min(60.0, max(0.0, layer.signal_to_noise_db))), 600),
            ),
        )
        for layer in layers
    ]


def _flash_parts(report: Report) -> list[FlashPart]:
    """The parts of the flash that are known, largest concern first."""
    flash = report.flash
    parts = (("weights", flash.weights_bytes), ("code", flash.code_bytes), ("other constants", flash.rodata_bytes))
    known = [(title, size) for title, size in parts if size is not None]
    return [
        FlashPart(title, size, _percent(size, flash.total_bytes), css)
        for (title, size), css in zip(known, ("weights", "code", "rodata"), strict=False)
    ]


def _verdict(report: Report) -> str:
    """How good the plan of the arena is, in a few words."""
    memory = report.memory
    if memory.gap_bytes == 0:
        return "optimal: equal to the lower bound"
    proof = ", proven optimal" if memory.is_optimal else ""
    return f"{memory.gap_bytes:,} B above the lower bound{proof}"


def _bar(value: int, largest: int) -> Bar:
    """A bar that compares `value` with the largest of its column."""
    return Bar(format_cell(value), _percent(value, largest))


def _percent(part: int, whole: int) -> str:
    """A share for a style sheet, with one decimal."""
    return f"{100 * part / whole:.1f}" if whole else "0"
