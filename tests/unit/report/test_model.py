from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from luciole.errors import CompileError, InternalError
from luciole.report.model import EmulatedReport, FlashReport, Report, occupied_bytes

Damage = Callable[[dict[str, Any]], object]


def measured(report: Report) -> Report:
    return report.with_measurement(EmulatedReport("cortex-m4", 30_100, 36_000, 80), [20_000, 100, 10_000], [9, 8, 7])


def test_json_has_the_keys_that_tools_rely_on(report: Report) -> None:
    document = json.loads(measured(report).to_json())
    assert list(document) == [
        "schema_version",
        "luciole_version",
        "model",
        "target",
        "memory",
        "flash",
        "macs",
        "layers",
        "buffers",
        "inputs",
        "outputs",
        "link",
        "helpers",
        "removed_channels",
        "options",
        "quantization",
        "memories",
        "emulated",
    ]
    assert {"name", "sha256"} <= set(document["model"])
    assert set(document["memory"]) == {
        "arena_bytes",
        "alignment_bytes",
        "activation_bytes",
        "workspace_bytes",
        "lower_bound_bytes",
        "gap_bytes",
        "is_optimal",
        "method",
        "state_bytes",
        "input_bytes",
        "output_bytes",
        "stack_bytes",
    }
    assert list(document["flash"]) == ["weights_bytes", "code_bytes", "rodata_bytes", "total_bytes"]
    promised = {"name", "operator", "kernel", "macs", "weights_bytes", "instructions", "estimated_cycles"}
    assert all(promised <= set(layer) for layer in document["layers"])
    assert document["emulated"] == {
        "core": "cortex-m4",
        "instructions": 30_100,
        "estimated_cycles": 36_000,
        "stack_bytes": 80,
    }
    assert document["options"] == {"emit": "object", "keep_input": False}
    assert document["inputs"][0]["scale"] == 0.003921568859368563


def test_json_round_trips(report: Report) -> None:
    for each in (report, measured(report)):
        assert Report.from_json(each.to_json()) == each
        assert Report.from_json(each.to_json()).to_json() == each.to_json()


def test_json_is_ascii_text_with_a_line_for_each_layer(report: Report) -> None:
    named = replace(report, target="c\u0153ur \ud800")
    text = named.to_json()
    assert text.isascii() and text.endswith("}\n")
    assert sum('"kernel"' in line for line in text.splitlines()) == len(report.layers)
    assert Report.from_json(text) == named


def test_what_is_not_measured_is_null(report: Report) -> None:
    document = json.loads(report.to_json())
    assert document["emulated"] is None
    assert {layer["instructions"] for layer in document["layers"]} == {None}


def test_measurements_go_to_their_layers(report: Report) -> None:
    result = measured(report)
    assert [layer.instructions for layer in result.layers] == [20_000, 100, 10_000]
    assert [layer.estimated_cycles for layer in result.layers] == [9, 8, 7]
    assert result.emulated is not None and result.emulated.instructions == 30_100
    with pytest.raises(ValueError, match="2 and 3 measurements of 3 layers"):
        report.with_measurement(EmulatedReport("cortex-m4", 1, None, 0), [1, 2])


def test_buffers_at_an_instruction_and_the_peak(report: Report) -> None:
    assert [b.name for b in report.buffers_at(0)] == ["net/conv", "image"]
    assert [b.name for b in report.buffers_at(1)] == ["net/conv", "net/scale", "scratch"]
    assert report.peak_instruction() == 1
    assert [occupied_bytes(report.buffers_at(i)) for i in range(3)] == [192, 320, 138]
    assert replace(report, layers=(), buffers=()).peak_instruction() == 0


def test_bytes_that_two_buffers_share_count_once(report: Report) -> None:
    first = report.buffers[1]
    inside = replace(first, name="view", offset=32, size_bytes=16)
    across = replace(first, name="overlapped", offset=100, size_bytes=50)
    assert occupied_bytes((across, inside, first)) == 150


def test_flash_parts_that_are_not_known_do_not_count() -> None:
    assert FlashReport.of(100, 20, 3).total_bytes == 123
    assert FlashReport.of(100, None, None).total_bytes == 100


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"macs": -1}, "report.macs is out of range"),
        ({"macs": 1 << 63}, "report.macs is out of range"),
        ({"flash": FlashReport(1, 2, 3, 7)}, "report.flash.total_bytes is 7, not the sum of the parts"),
    ],
)
def test_a_report_that_contradicts_itself_is_not_written(report: Report, change: dict[str, Any], problem: str) -> None:
    broken = replace(report, **change)
    assert broken.problems() == (problem,)
    with pytest.raises(InternalError, match="the report contradicts itself"):
        broken.to_json()


def test_problems_of_buffers_and_the_model(report: Report) -> None:
    buffer = report.buffers[0]
    outside = replace(report, buffers=(replace(buffer, offset=300),))
    assert outside.problems() == ("report.buffers[0] ends at 364, outside the arena of 320 bytes",)
    for first, last in ((2, 1), (-2, 0), (0, 4)):
        never = replace(report, buffers=(replace(buffer, first=first, last=last),))
        assert never.problems() == (f"report.buffers[0] lives from {first} to {last} among 3 layers",)
    with_folder = replace(report, model=replace(report.model, file="/home/me/digits.tflite", sha256="0" * 63 + "G"))
    assert with_folder.problems() == ("report.model.file has a folder", "report.model.sha256 is not a SHA-256")
    infinite = replace(report, inputs=(replace(report.inputs[0], scale=float("inf")),))
    assert infinite.problems() == ("report.inputs[0].scale is not finite",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("memory"), 'report has no key "memory"'),
        (lambda d: d.pop("schema_version"), "report.schema_version is missing"),
        (lambda d: d["memory"].pop("arena_bytes"), 'report.memory has no key "arena_bytes"'),
        (lambda d: d.update(macs="many"), "report.macs is a string, not an integer"),
        (lambda d: d.update(macs=True), "report.macs is a boolean, not an integer"),
        (lambda d: d.update(macs=1.0), "report.macs is a number, not an integer"),
        (lambda d: d.update(macs=None), "report.macs is null, not an integer"),
        (lambda d: d.update(layers={}), "report.layers is an object, not a list"),
        (lambda d: d["layers"].append(7), "report.layers[3] is an integer, not an object"),
        (lambda d: d["layers"][1]["output_shapes"].append(["a"]), "report.layers[1].output_shapes[1][0] is a string"),
        (lambda d: d["buffers"][0].update(offset=-4), "report.buffers[0].offset is out of range"),
        (lambda d: d["buffers"][0].update(offset=10**6), "report.buffers[0] ends at 1000064, outside the arena"),
        (lambda d: d.update(options=[]), "report.options is a list, not an object"),
        (lambda d: d.update(options={"a": []}), "report.options.a is a list, not a scalar"),
        (lambda d: d.update(emulated=3), "report.emulated is an integer, not an object"),
        (lambda d: d["model"].update(sha256="?"), "report.model.sha256 is not a SHA-256"),
    ],
)
def test_damage_is_named(report: Report, damage: Damage, message: str) -> None:
    document = json.loads(report.to_json())
    damage(document)
    with pytest.raises(CompileError) as caught:
        Report.from_json(json.dumps(document), "digits.report.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("error[damaged-report]: the report cannot be read: ")
    assert "digits.report.json" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "[" * 100_000,
        '{"schema_version": 1, "schema_version": 1}',
        '{"schema_version": 1, "macs": NaN}',
        '{"schema_version": 1, "macs": ' + "9" * 10_000 + "}",
        "\x7fELF",
    ],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(CompileError, match="damaged-report"):
        Report.from_json(text)


def test_every_truncation_and_change_of_a_byte_is_a_report_or_an_error(report: Report) -> None:
    text = report.to_json()
    for position in range(0, len(text) - 2, 5):
        with pytest.raises(CompileError):
            Report.from_json(text[:position])
        for character in '0-"{':
            try:
                Report.from_json(text[:position] + character + text[position + 1 :])
            except CompileError:
                continue


def test_another_schema_version_is_refused_by_its_number(report: Report) -> None:
    text = report.to_json().replace('"schema_version": 1', '"schema_version": 9')
    with pytest.raises(CompileError) as caught:
        Report.from_json(text)
    assert str(caught.value) == (
        "error[report-version]: the report has schema version 9, this luciole reads version 1\n"
        "  help: compile the model again to get a fresh report"
    )


def test_keys_may_be_added_and_optional_ones_left_out_within_a_version(report: Report) -> None:
    document = json.loads(report.to_json())
    document["energy"] = {"joule": 1}
    document["layers"][0]["color"] = "blue"
    del document["layers"][0]["code_bytes"], document["emulated"]
    assert Report.from_json(json.dumps(document)) == report
