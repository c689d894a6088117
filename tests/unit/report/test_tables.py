from __future__ import annotations

from dataclasses import replace

from luciole.report.model import EmulatedReport, FlashReport, Report
from luciole.report.tables import flash_table, layer_table, memory_map, memory_table, peak_table, tensor_table


def test_layers_without_measurement(report: Report) -> None:
    assert layer_table(report).to_text() == (
        "layers\n"
        "#  layer      operator         kernel          output     MACs  weights B  arena B\n"
        "-  ---------  ---------------  --------------  -------  ------  ---------  -------\n"
        "0  net/conv   conv2d           conv2d_i8.a81c  1x4x4x8   9,216        104      192\n"
        "1  net/scale  mul              mul_i8.0d11     1x4x4x8       0         16      320\n"
        "2  net/dense  fully_connected  dense_i8.77f0   1x10      2,064      1,280      144\n"
        "-  ---------  ---------------  --------------  -------  ------  ---------  -------\n"
        "   total                                                11,280      1,400      320\n"
    )


def test_layers_with_measurement(report: Report) -> None:
    emulated = EmulatedReport("cortex-m4", 30_000, None, 80)
    table = layer_table(report.with_measurement(emulated, [18_432, 1_568, 10_000], [1, 2, None]))
    assert [(r["instructions"], r["instructions_per_mac"], r["share_percent"]) for r in table.records()] == [
        (18_432, 2.0, 61.44),
        (1_568, None, 5.23),
        (10_000, 4.84, 33.33),
    ]
    assert [r["estimated_cycles"] for r in table.records()] == [1, 2, None]
    assert table.total[-4:] == (30_000, 2.66, None, None), "a total of cycles of which one is not known is not known"


def test_memory_says_how_good_the_plan_is(report: Report) -> None:
    def verdict(**changes: object) -> object:
        return memory_table(replace(report, memory=replace(report.memory, **changes))).rows[0][2]  # type: ignore[arg-type]

    assert verdict() == "16 B above the lower bound"
    assert verdict(is_optimal=True) == "16 B above the lower bound, proven optimal"
    assert verdict(gap_bytes=0, is_optimal=True) == "equal to the lower bound: optimal"
    rows = {row[0]: row[1] for row in memory_table(report).rows}
    assert rows["arena"] == 320 and rows["stack"] == 96 and "stack used" not in rows
    measured = report.with_measurement(EmulatedReport("cortex-m4", 1, 1, 80), [1, 1, 1])
    assert memory_table(measured).rows[-1] == ("stack used", 80, "on the emulated cortex-m4")


def test_flash_of_c_source_is_honest(report: Report) -> None:
    assert flash_table(report).rows[-1][:2] == ("total", 3704)
    source = replace(report, flash=FlashReport.of(1400, None, None))
    assert flash_table(source).rows[1] == ("code", None, "known once your compiler ran")


def test_tensors(report: Report) -> None:
    assert tensor_table(report).rows == (
        ("image", "input", "i8", (1, 8, 8, 1), 64, 0.003921568859368563, -128),
        ("scores", "output", "f32", (1, 10), 10, None, None),
    )


def test_peak(report: Report) -> None:
    table = peak_table(report)
    assert table.title == "at the peak: instruction 1 (net/scale), 320 B"
    assert [record["name"] for record in table.records()] == ["net/conv", "net/scale", "scratch"]


def test_memory_map(report: Report) -> None:
    drawing, legend = memory_map(report, width=20).split("\n\n")
    assert drawing == (
        "memory over time: 320 B across, 16 B a cell; > marks the peak, . is free\n"
        "     # operator               bytes  0                320\n"
        "     0 conv2d                   192  BBBBBBBBAAAA........\n"
        ">    1 mul                      320  BBBBBBBBCCCCCCCCDDDD\n"
        "     2 fully_connected          138  E.......CCCCCCCC...."
    )
    assert [line.split()[:2] for line in legend.splitlines()[2:]] == [
        ["A", "image"],
        ["B", "net/conv"],
        ["C", "net/scale"],
        ["D", "scratch"],
        ["E", "scores"],
    ]


def test_memory_map_hides_no_small_buffer_and_no_empty_program(report: Report) -> None:
    tiny = replace(report.buffers[2], offset=0, size_bytes=1)
    drawing = memory_map(replace(report, buffers=(*report.buffers[:2], tiny, report.buffers[3])), width=20)
    assert ">    1 mul                      256  CBBBBBBBDDDDDDDD....\n" in drawing
    assert ">    0 -" in memory_map(replace(report, layers=(), buffers=(), macs=0), width=20)
