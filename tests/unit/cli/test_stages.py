"""`--to` a stage and `--from` it: nothing is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luciole.compilation import GRAPH_STAGES, STAGES
from support.small_models import save_small, small_float

Run = Callable[..., Any]


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize("stage", STAGES[:-1])
@pytest.mark.parametrize(
    "more", [(), ("--keep-input", "--generic-kernels", "--keep-all-channels", "--emit", "c")], ids=["plain", "options"]
)
def test_a_bundle_from_a_stage_has_the_same_bytes(luciole: Run, model: Path, stage: str, more: tuple[str, ...]) -> None:
    target = ("--target", "cortex-m4")
    assert luciole("compile", model, "-o", "whole", *target, *more).code == 0
    file = "part.graph" if stage in GRAPH_STAGES else "part.program"
    done = luciole("compile", model, *target, *more, "--to", stage, "-o", file)
    assert done.code == 0 and file in done.out, done.err
    if file.endswith(".program"):
        again = ("--emit", "c") if more else ()
    else:
        again = (*target, *(flag for flag in more if stage != "optimize" or flag != "--keep-all-channels"))
    done = luciole("compile", file, "--from", stage, "-o", "parts", *again)
    assert done.code == 0, done.err
    assert contents("parts") == contents("whole")
    has_proof = b"channel 0 of %stem is always -128" in contents("whole")["small.report.json"]
    assert has_proof is ("--keep-all-channels" not in more)


def test_a_stage_leads_to_the_next(luciole: Run, model: Path) -> None:
    luciole("compile", model, "--to", "lower", "-o", "a.program")
    luciole("compile", model, "--to", "plan", "-o", "b.program")
    assert luciole("compile", "a.program", "--from", "lower", "--to", "plan", "-o", "c.program").code == 0
    assert Path("c.program").read_bytes() == Path("b.program").read_bytes()
    assert Path("c.npz").read_bytes() == Path("b.npz").read_bytes()


def test_a_stage_is_printed(luciole: Run, model: Path) -> None:
    done = luciole("compile", model, "--to", "optimize")
    assert done.code == 0 and "graph small\n" in done.out
    assert "arrays were not printed; --output FILE writes them too" in done.err
    facts = luciole("compile", model, "--to", "schedule", "--json").json
    assert facts["stage"] == "schedule" and "kernel " in facts["text"]
    assert not list(Path().iterdir())


def test_a_text_without_the_line_is_its_own_model(luciole: Run, model: Path) -> None:
    luciole("compile", model, "--to", "plan", "-o", "part.program")
    text = Path("part.program").read_text()
    Path("part.program").write_text(text.partition("\n")[2])
    facts = luciole("compile", "part.program", "--from", "plan", "--json").json
    assert facts["model"]["file"] == "part.program" and facts["model"]["name"] == "part"


def refused(luciole: Run, *arguments: object) -> str:
    """The first line of the error."""
    done = luciole(*arguments)
    assert done.code == 1 and done.out == ""
    return str(done.err.partition("\n")[0])


def test_what_contradicts_the_text_is_refused(luciole: Run, model: Path) -> None:
    luciole("compile", model, "--to", "plan", "-o", "part.program", "--target", "cortex-m4")
    ahead = ("compile", "part.program", "--from", "plan")
    assert refused(luciole, *ahead, "--target", "cortex-m3") == (
        "error[bad-option]: the program was made for cortex-m4, not for cortex-m3"
    )
    assert refused(luciole, *ahead, "--keep-input") == (
        "error[bad-option]: --keep-input comes too late: stage plan is done"
    )
    assert refused(luciole, *ahead, "--keep-all-channels") == (
        "error[bad-option]: --keep-all-channels comes too late: stage plan is done"
    )
    assert refused(luciole, *ahead, "--to", "lower") == "error[bad-option]: --to lower comes before --from plan"
    assert refused(luciole, "compile", model, "--to", "plan", "-o", "part.npz") == (
        "error[bad-option]: what stage plan makes is a .program file, not .npz"
    )
    assert luciole(*ahead, "--target", "cortex-m4").code == 0


@pytest.mark.parametrize("damage", ["{", "[]", '{"identity": {}, "options": {}}', '{"identity": 5}', "[" * 100_000])
def test_a_damaged_first_line_is_refused(luciole: Run, model: Path, damage: str) -> None:
    Path("x.program").write_text(f"# model {damage}\n")
    assert refused(luciole, "compile", "x.program", "--from", "plan") == (
        "error[bad-data]: the first line does not say which model this text was made of"
    )


def test_a_name_in_the_first_line_cannot_leave_the_folder(luciole: Run, model: Path) -> None:
    luciole("compile", model, "--to", "plan", "-o", "x.program")
    line, _, rest = Path("x.program").read_text().partition("\n")
    origin = json.loads(line.removeprefix("# model "))
    origin["identity"]["name"] = "../x"
    Path("x.program").write_text(f"# model {json.dumps(origin)}\n{rest}")
    assert "first line" in refused(luciole, "compile", "x.program", "--from", "plan")


def test_texts_that_are_none(luciole: Run, tmp_path: Path) -> None:
    Path("x.program").write_text("nonsense\n")
    assert refused(luciole, "compile", "x.program", "--from", "plan").startswith("error[program-syntax]")
    assert refused(luciole, "compile", "none.graph", "--from", "import").startswith("error[unreadable-file]")
    path = save_small(tmp_path, small_float())
    path.with_suffix(".npz").unlink()
    assert refused(luciole, "compile", path, "--from", "import").startswith("error[graph-")
