"""Every verb does what it says, in words and in JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luciole.cli.main import VERBS
from luciole.cli.main import luciole as command_group
from luciole.report.model import Report
from support.small_models import CLASSES, IMAGE

Run = Callable[..., Any]


def images(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(-128, 128, (count, *IMAGE[1:])).astype(np.int8)


def test_the_help_of_the_group_is_that_of_the_verbs(luciole: Run) -> None:
    context = command_group.make_context("luciole", ["check"])
    shown = luciole("--help").out
    for name, verb in VERBS.items():
        command = command_group.get_command(context, name)
        assert command is not None and command.name == name and command.help
        assert f"  {name} " in shown and verb.help in shown
        assert luciole(name, "--help").code == 0


def test_version(luciole: Run) -> None:
    assert luciole("--version").out.startswith("luciole, version ")


def test_check_counts_layers_and_bytes(luciole: Run, model: Path) -> None:
    done = luciole("check", model, "--target", "cortex-m4")
    assert done.code == 0 and done.err == ""
    assert "small.graph compiles for cortex-m4" in done.out and "softmax" in done.out
    facts = luciole("check", model, "--json").json
    assert facts["compiles"] is True and facts["layers"] == 6
    assert facts["operators"] == {"add": 1, "conv2d": 3, "fully_connected": 1, "softmax": 1}


def test_compile_writes_what_it_says(luciole: Run, model: Path) -> None:
    done = luciole("compile", model, "--target", "cortex-m4", "-o", "out")
    assert done.code == 0 and done.err == ""
    files = sorted(path.name for path in Path("out").iterdir())
    assert files == ["small.h", "small.o", "small.report.html", "small.report.json", "small_test.c"]
    assert all(f"out/{name}" in done.out for name in files)
    assert "arm-none-eabi-gcc" in done.out


def test_compile_to_json_gives_the_report(luciole: Run, model: Path) -> None:
    done = luciole("compile", model, "--name", "My Net", "--emit", "c", "--keep-input", "--json")
    written = Path("build/my_net.report.json").read_text()
    assert done.json == luciole("inspect", model, "--name", "My Net", "--emit", "c", "--keep-input", "--json").json
    report = Report.from_json(written)
    assert report.to_document() == done.json | {"layers": report.to_document()["layers"]}
    assert report.options == (("emit", "c"), ("keep_input", True))
    assert report.model.original_name == "small"


def test_run_gives_the_same_on_every_engine(luciole: Run, model: Path) -> None:
    np.savez("in.npz", image=images(1))
    np.save("in.npy", images(1))
    results = []
    for more in (
        ("--input", "in.npz"),
        ("--input", "in.npy", "--stage", "graph"),
        ("--input", "in.npz", "--stage", "program"),
        ("--input", "in.npz", "--stage", "kernel"),
        ("--input", "in.npz", "--target", "cortex-m4"),
        ("--input", "in.npz", "--bundle-api", "glow"),
    ):
        done = luciole("run", model, "--output", "out.npz", *more)
        assert done.code == 0, done.err
        with np.load("out.npz") as arrays:
            assert list(arrays) == ["classes"]
            results.append(arrays["classes"])
    assert results[0].shape == (1, CLASSES) and results[0].dtype == np.int8
    assert all(np.array_equal(result, results[0]) for result in results)


def test_run_shows_values_and_what_an_emulated_core_took(luciole: Run, model: Path) -> None:
    np.savez("in.npz", **{"0": images(1)})
    done = luciole("run", model, "-i", "in.npz", "--target", "cortex-m4", "-o", "y.npy")
    assert "1x5" in done.out and "int8" in done.out and "unicorn" in done.out
    assert str(np.load("y.npy")[0, 0]) in done.out
    facts = luciole("run", model, "-i", "in.npz", "--target", "cortex-m4", "--json").json
    values = np.load("y.npy").reshape(-1).tolist()
    assert facts["outputs"] == {"classes": {"shape": [1, CLASSES], "dtype": "int8", "values": values}}
    assert facts["emulated"]["instructions"] > 1000


@pytest.mark.parametrize("more", [(), ("--stage", "program"), ("--target", "cortex-m4")])
def test_validate_counts_right_answers(luciole: Run, model: Path, more: tuple[str, ...]) -> None:
    x = images(40)
    np.savez("x.npz", x=x)
    y = []
    for image in x:
        np.save("one.npy", image[None])
        luciole("run", model, "-i", "one.npy", "-o", "y.npy", "--stage", "graph")
        y.append(int(np.load("y.npy").argmax()))
        if len(y) == 6:
            break
    labels = np.array([*y[:4], (y[4] + 1) % CLASSES, y[5]])
    np.savez("data.npz", x=x[:6], y=labels)
    facts = luciole("validate", model, "--data", "data.npz", "--json", *more).json
    assert (facts["samples"], facts["mismatches"], facts["correct"], facts["reference_correct"]) == (6, 0, 5, 5)
    assert facts["accuracy"] == pytest.approx(5 / 6) and facts["first_difference"] is None
    assert sum(map(sum, facts["confusion"])) == 6 and facts["confusion"][labels[4]][y[4]] >= 1
    done = luciole("validate", model, "--data", "data.npz", "--limit", 5, *more)
    assert done.code == 0 and "4 of 5 (80.00 %)" in done.out and done.err == ""
    assert luciole("validate", model, "--data", "x.npz", "--json", *more).json["correct"] is None


def test_profile_tells_layers_apart(luciole: Run, model: Path) -> None:
    done = luciole("profile", model, "--target", "cortex-m4", "-o", "out")
    assert done.code == 0, done.err
    assert "an estimate" in done.out and "stack used" in done.out and "by operator" in done.out
    report = Report.from_json(Path("out/small.report.json").read_text())
    assert report.emulated is not None and report.emulated.core == "cortex-m4"
    counts = [layer.instructions or 0 for layer in report.layers]
    assert min(counts) > 10 and 0 < report.emulated.instructions - sum(counts) < 200
    assert all(layer.estimated_cycles and layer.estimated_cycles > layer.instructions for layer in report.layers)
    assert report.memory.stack_bytes is not None
    assert 0 < report.emulated.stack_bytes <= report.memory.stack_bytes
    assert luciole("profile", model, "--target", "cortex-m4", "--json").json == report.to_document()


def test_profile_measures_what_other_kernels_would_have_cost(luciole: Run, model: Path) -> None:
    done = luciole("profile", model, "--target", "cortex-m4", "--measure", "-o", "out")
    assert "kernels to choose from" in done.out, done.err
    report = Report.from_json(Path("out/small.report.json").read_text())
    stem = report.layers[0]
    assert {"hilo", "tiled_thumb2", "generic"} <= {other.kernel.split()[0] for other in stem.alternatives}
    for layer in report.layers:
        (chosen,) = [other for other in layer.alternatives if other.is_chosen]
        assert chosen.instructions == layer.instructions
        for other in layer.alternatives:
            assert other.instructions is not None and other.estimated_cycles >= other.estimated_instructions
            assert 0.5 < other.estimated_instructions / other.instructions < 2
    estimated = luciole("profile", model, "--target", "cortex-m4", "--alternatives", "--json").json["layers"][0]
    assert [other["instructions"] for other in estimated["alternatives"]] == [None] * len(stem.alternatives)


def test_profile_without_a_model_of_cycles(luciole: Run, model: Path) -> None:
    done = luciole("profile", model, "--target", "rv32imc")
    assert done.code == 0 and "cycles" not in done.out.splitlines()[-1]


@pytest.mark.qemu
def test_profile_by_qemu_counts_the_same(luciole: Run, model: Path) -> None:
    facts = [
        luciole("profile", model, "--target", "cortex-m4", "--json", "--emulator", emulator).json
        for emulator in ("unicorn", "qemu")
    ]
    first, second = (f["emulated"]["instructions"] for f in facts)
    assert abs(first - second) <= 80


@pytest.mark.cross
def test_c_runs_on_an_emulated_core(luciole: Run, model: Path) -> None:
    np.savez("data.npz", x=images(3))
    facts = luciole("validate", model, "--data", "data.npz", "--target", "cortex-m4", "--emit", "c", "--json").json
    assert (facts["mismatches"], facts["target"]) == (0, "cortex-m4 (C)")


def test_inspect_draws_memory_and_the_peak(luciole: Run, model: Path) -> None:
    done = luciole("inspect", model, "--target", "cortex-m4")
    assert done.code == 0
    for words in ("at the peak", "memory over time", "fully_connected", "zero point", "1x6x6x3"):
        assert words in done.out


def test_targets_and_ops(luciole: Run) -> None:
    by_name = {record["name"]: record for record in luciole("targets", "--json").json}
    assert by_name["cortex-m4"]["runs_here"] == "emulated" and by_name["native"]["runs_here"] == "yes"
    assert "cortex-m4" in luciole("targets").out
    boards = {record["name"]: record for record in luciole("targets", "--boards", "--json").json}
    assert boards["stm32f746g-disco"]["target"] == "cortex-m7"
    assert "[memory.dtcm]" in luciole("targets", "--board", "stm32f746g-disco").out
    refused = luciole("targets", "--board", "nucleo-f9")
    assert refused.code == 1 and "boards are mps2-an500, " in refused.err
    facts = luciole("ops", "--json").json
    kinds = {record["operator"]: record for record in facts["operators"]}
    assert "pointwise_hilo (i8, dsp)" in kinds["conv2d"]["kernels"]
    assert {"kind": "CONV_2D", "family": "conv"}.items() <= next(
        r for r in facts["tflite"] if r["kind"] == "CONV_2D"
    ).items()
    assert "SOFTMAX" in luciole("ops").out


def test_developer_options_show_passes(luciole: Run, model: Path) -> None:
    done = luciole("check", model, "--time", "--print-after", "lower", "--dump", "dump", "--verify", "each", "--json")
    assert done.json["compiles"]
    assert "# after lower" in done.err and "program small for native" in done.err and " ms " in done.err
    assert any(path.suffix == ".program" for path in Path("dump").iterdir())
