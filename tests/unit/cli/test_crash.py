"""A bug of ours leaves a folder that reproduces it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_a_bug_in_a_stage(luciole: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("luciole.lower.fit.plan_memory", lambda program: {}["no such place"])
        broken.setattr("sys.argv", ["luciole", "compile", str(model)])
        done = luciole("compile", model, "-o", "out")
    assert done.code == 70 and done.out == ""
    (folder,) = Path().iterdir()
    assert done.err == (
        "internal error: stage plan failed: KeyError: 'no such place'\n"
        f"  reproducer: {folder}/\n"
        "  this is a bug in Luciole; please report it, with that folder if the model may be shown\n"
    )
    assert folder.name.startswith("luciole-crash-")
    assert sorted(path.name for path in folder.iterdir()) == [
        "before.npz",
        "before.program",
        "command.txt",
        "traceback.txt",
    ]
    assert "no such place" in (folder / "traceback.txt").read_text()
    command = (folder / "command.txt").read_text()
    assert f"luciole compile {model}\n" in command and "stage plan of" in command
    assert "luciole compile --from lower before.program" in command
    assert luciole("compile", folder / "before.program", "--from", "lower", "-o", "out").code == 0


def test_the_same_bug_gives_the_same_folder(luciole: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luciole.lower.fit.plan_memory", lambda program: 1 // 0)
    errors = [luciole("check", model).err for _ in range(2)]
    assert errors[0] == errors[1] and len(list(Path().iterdir())) == 1


def test_a_bug_outside_of_the_stages(luciole: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luciole.cli.inspect.layer_table", lambda report: [][1])
    done = luciole("inspect", model)
    (folder,) = Path().iterdir()
    assert done.code == 70
    assert done.err.startswith(f"internal error: IndexError: list index out of range\n  reproducer: {folder}/\n")


def test_a_folder_that_cannot_be_written_is_made_elsewhere(
    luciole: Run, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("luciole.lower.fit.plan_memory", lambda program: 1 // 0)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    make = Path.mkdir

    def refuse(path: Path, *arguments: Any, **keywords: Any) -> None:
        if not path.is_absolute():
            raise PermissionError(13, "Permission denied")
        make(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = luciole("check", model)
    assert done.code == 70 and f"reproducer: {tmp_path}/elsewhere/luciole-crash-" in done.err
    monkeypatch.setattr("tempfile.gettempdir", lambda: "nowhere")
    assert "reproducer: none, luciole-crash-" in luciole("check", model).err
