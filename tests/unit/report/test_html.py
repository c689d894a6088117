from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from luciole.lower.fit import TradeOff
from luciole.report.chart import memory_chart
from luciole.report.html import render_html
from luciole.report.model import EmulatedReport, FlashReport, Report
from luciole.report.trade_offs import render_trade_offs, trade_off_chart

HOSTILE = (
    "</title></style></script><script>alert(1)</script>\"' onload=alert(1) {{7*7}} http://evil.example "
    "\x1b[31m\u202e\ud800"
)
VOID = {"meta", "br", "line", "rect", "img", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], "tags left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID or (tag == "rect" and "/>" not in (self.get_starttag_text() or "")):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(report: Report) -> Report:
    """The report with a hostile string wherever a user's model or file can put one."""
    return replace(
        report,
        target=HOSTILE,
        luciole_version=HOSTILE,
        model=replace(report.model, name=HOSTILE, original_name=HOSTILE, file=HOSTILE.replace("/", "")),
        memory=replace(report.memory, method=HOSTILE),
        layers=tuple(replace(x, name=HOSTILE, operator=HOSTILE, kernel=HOSTILE) for x in report.layers),
        buffers=tuple(replace(b, name=HOSTILE, kind=HOSTILE, dtype=HOSTILE) for b in report.buffers),
        inputs=tuple(replace(t, name=HOSTILE, dtype=HOSTILE) for t in report.inputs),
        link=replace(report.link, files=(HOSTILE,), lines=(HOSTILE,)),
        helpers=(HOSTILE,),
        options=((HOSTILE, HOSTILE),),
        emulated=EmulatedReport(HOSTILE, 1, 1, 1),
    )


def test_page_is_well_formed_and_tells_the_facts(report: Report) -> None:
    measured = report.with_measurement(EmulatedReport("cortex-m4", 30_100, 36_000, 80), [20_000, 100, 10_000])
    page = Page(render_html(measured))
    for fact in ("digits", "cortex-m4", "320 B", "16 B above the lower bound", "96 B of stack", "weights 1,400 B"):
        assert fact in page.text
    for fact in ("11,280", "30,100 instructions, 2.67 per MAC", "36,000 cycles (estimate)", "80 B of stack used"):
        assert fact in page.text
    for fact in ("net/dense", "dense_i8.77f0", "0.00392156886", "arm-none-eabi-gcc main.c digits.o", "No undefined"):
        assert fact in page.text
    assert page.text.count("320 B are occupied while instruction 1 runs: mul") == 1


def test_page_needs_nothing_from_outside(report: Report) -> None:
    text = render_html(report)
    assert re.search(r"https?:|//|@import|url\(", text) is None
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "href", "srcset", "action") or a[1].startswith("on")]
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_page_is_accessible(report: Report) -> None:
    page = Page(render_html(report))
    assert ("html", "lang", "en") in page.attributes
    assert page.tags.count("th") == len([a for a in page.attributes if a == ("th", "scope", "col")]) > 0
    assert ("svg", "aria-labelledby", "chart-title chart-description") in page.attributes
    assert {"desc", "title", "h1", "h2"} <= set(page.tags)


def test_hostile_names_are_text(report: Report) -> None:
    text = render_html(hostile(report))
    text.encode("utf-8")
    page, calm = Page(text), Page(render_html(replace(report, emulated=EmulatedReport("m4", 1, 1, 1), helpers=("f",))))
    assert set(page.tags) == set(calm.tags)
    assert {name for _, name, _ in page.attributes} == {name for _, name, _ in calm.attributes}
    assert "\x1b" not in text and "\u202e" not in text and "<script" not in text
    assert "{{7*7}}" in page.text and "49 http" not in page.text
    classes = {value for _, name, value in page.attributes if name == "class"}
    assert not [value for value in classes if "alert" in value]


def test_c_source_and_an_empty_program_have_a_page(report: Report) -> None:
    source = replace(report, flash=FlashReport.of(1400, None, None), memory=replace(report.memory, stack_bytes=None))
    assert "code: known once your compiler ran" in Page(render_html(source)).text
    memory = replace(report.memory, arena_bytes=0, lower_bound_bytes=0, gap_bytes=0)
    Page(render_html(replace(report, layers=(), buffers=(), macs=0, memory=memory, flash=FlashReport.of(0, 0, 0))))


def test_equal_reports_give_equal_bytes_whatever_the_hash_seed(report: Report, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(report.to_json())
    script = (
        "import sys; from luciole.report.html import render_html; from luciole.report.model import Report;"
        "r = Report.from_json(open('report.json').read());"
        "sys.stdout.buffer.write((r.to_json() + render_html(r)).encode())"
    )
    source = Path(__file__).parents[3] / "src"
    pages = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(source), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert pages[0] == pages[1] == (report.to_json() + render_html(report)).encode()


def test_rectangles_stand_at_their_addresses(report: Report) -> None:
    chart = memory_chart(report)
    assert len(chart.boxes) == len(report.buffers)
    top, bottom, left, right = (float(v) for v in (chart.top, chart.bottom, chart.left, chart.right))
    column, byte = (right - left) / 3, (bottom - top) / 320
    box = next(b for b in chart.boxes if b.title.startswith("net/scale:"))
    assert abs(float(box.x) - (left + column)) < 1 and abs(float(box.width) - 2 * column) < 2
    assert abs(float(box.y) - (bottom - 256 * byte)) < 1 and abs(float(box.height) - 128 * byte) < 2
    assert box.title == "net/scale: temp, i8 1x4x4x8, 128 B at 128 to 256, instructions 1 to 2"
    assert [label.text for label in box.labels] == ["128 B", "net/scale"]
    assert abs(float(chart.bound_y) - (bottom - 304 * byte)) < 0.02 and chart.arena_y == chart.top
    for each in chart.boxes:
        assert left <= float(each.x) and float(each.x) + float(each.width) <= right
        assert top <= float(each.y) and float(each.y) + float(each.height) <= bottom
    assert [label.text for label in chart.ticks] == ["0 B", "64 B", "128 B", "192 B", "256 B", "320 B"]


def test_long_programs_get_a_wide_chart_without_operator_names(report: Report) -> None:
    long = replace(report, layers=report.layers * 100)
    chart = memory_chart(long)
    assert float(chart.right) - float(chart.left) == 300 * 12
    assert chart.operators == () and [label.text for label in chart.columns[:3]] == ["0", "2", "4"]


def test_a_byte_of_workspace_stays_visible(report: Report) -> None:
    tiny = replace(report.buffers[2], offset=319, size_bytes=1)
    memory = replace(report.memory, arena_bytes=1 << 20)
    chart = memory_chart(replace(report, buffers=(tiny,), memory=memory))
    assert float(chart.boxes[0].height) == 2.0 and chart.boxes[0].labels == ()


POINTS = (
    TradeOff(16_000, 1_000_000, "every tensor apart", 0),
    TradeOff(9_400, 1_000_000, "results over inputs", 0),
    TradeOff(6_500, 1_120_000, "row by row", 9),
)


def test_page_of_trade_offs_draws_every_program() -> None:
    text = render_trade_offs(POINTS, HOSTILE, "cortex-m4")
    page = Page(text)
    assert re.search(r"https?:(?!//evil)|@import|url\(", text) is None and "<script" not in text
    assert page.tags.count("circle") == len(POINTS) and page.tags.count("polyline") == 1
    for fact in ("16,000", "9,400", "6,500", "1,120,000", "1.12", "results over inputs", "row by row", "cortex-m4"):
        assert fact in page.text
    assert not [a for a in page.attributes if a[1] in ("src", "href") or a[1].startswith("on")]
    assert page.tags.count("th") == len([a for a in page.attributes if a == ("th", "scope", "col")]) > 0


def test_less_ram_stands_further_left_and_what_is_slower_higher() -> None:
    chart = trade_off_chart(POINTS)
    places = [(float(point.x), float(point.y)) for point in chart.points]
    assert [x for x, _ in places] == sorted((x for x, _ in places), reverse=True)
    assert places[0][1] == places[1][1] > places[2][1] > float(chart.top)
    assert places[0][0] == float(chart.right) and places[0][1] == float(chart.bottom)
    # A step goes left at the height of the faster program, then up to the smaller one.
    corners = [tuple(map(float, corner.split(","))) for corner in chart.steps.split(" ")]
    assert corners == [places[0], (places[1][0], places[0][1]), places[1], (places[2][0], places[1][1]), places[2]]
    assert len(trade_off_chart([]).points) == 0
