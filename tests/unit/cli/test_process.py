"""The program as a process: quick to start, quiet in a pipe, and well-behaved when interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luciole.cli.main import EXIT_INTERRUPTED, run_command
from support.small_models import IMAGE

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
LUCIOLE = [sys.executable, "-m", "luciole"]

#: What starting the program must not load.
HEAVY = ("numpy", "llvmlite", "unicorn", "capstone", "elftools", "jinja2", "rich", "tflite", "flatbuffers")


def loaded_by(statement: str) -> set[str]:
    """The packages that are loaded after a statement in a new interpreter."""
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True, timeout=60
    )
    return {module.partition(".")[0] for module in done.stderr.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import luciole",
        "from luciole.cli.main import run_command; run_command(['--help'])",
        "from luciole.cli.main import run_command; run_command(['targets', '--json'])",
    ],
)
def test_starting_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_compiling_loads_no_emulator_and_no_terminal_library(model: Path, tmp_path: Path) -> None:
    statement = (
        f"from luciole.cli.main import run_command; run_command(['compile', {str(model)!r}, '-o', {str(tmp_path)!r}])"
    )
    loaded = loaded_by(statement)
    assert "llvmlite" in loaded and loaded.isdisjoint({"unicorn", "capstone", "rich", "tflite"})


def test_a_reader_that_goes_away_is_no_error(model: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    for verb in (["inspect", str(model)], ["compile", str(model), "--to", "plan"], ["targets"]):
        done = subprocess.run([*LUCIOLE, *verb], stdout=write, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
        assert b"Error" not in done.stderr and b"Traceback" not in done.stderr and b"internal" not in done.stderr
        assert done.returncode == 0
    os.close(write)


def test_output_is_plain_in_a_pipe_and_with_any_encoding(model: Path) -> None:
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*LUCIOLE, "inspect", str(model)], capture_output=True, env=environment, check=True)
    assert b"\x1b" not in done.stdout and done.stderr == b""
    done.stdout.decode("ascii")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_says_so(model: Path, tmp_path: Path) -> None:
    code = (
        "import signal, luciole.driver\n"
        # Who starts the tests in the background may have this signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "luciole.driver.load_model = lambda path, dims: signal.raise_signal(signal.SIGINT)\n"
        "from luciole.cli.main import main\n"
        f"main(['compile', {str(model)!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (EXIT_INTERRUPTED, "interrupted")
    assert signal.SIGINT + 128 == EXIT_INTERRUPTED
    assert not list(tmp_path.iterdir())


def test_memory_that_does_not_suffice_is_no_bug_of_ours(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(path: Path, dims: dict[str, int]) -> None:
        raise MemoryError

    monkeypatch.setattr("luciole.driver.load_model", load)
    assert run_command(["compile", str(model)]) == 1
    assert capsys.readouterr().err == "error: there is not enough memory for this model\n"


def on_a_terminal(stream: str, *arguments: str) -> tuple[bytes, bytes]:
    """What a command shows when a stream is a terminal, and what it writes to the other one."""
    pty = pytest.importorskip("pty", reason="pseudo-terminals of POSIX")
    controller, terminal = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "160"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: terminal}
    done = subprocess.run([*LUCIOLE, *arguments], **streams, env=environment, check=True)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal that nobody writes to any more
        while part := os.read(controller, 1 << 16):
            shown += part
    os.close(controller)
    return shown, (done.stdout or b"") + (done.stderr or b"")


def test_tables_are_drawn_on_a_terminal() -> None:
    shown, other = on_a_terminal("stdout", "targets")
    assert other == b"" and b"\x1b[1m" in shown and "─".encode() in shown


def test_progress_is_shown_on_a_terminal(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((64, *IMAGE[1:]), np.int8))
    shown, other = on_a_terminal("stderr", "validate", str(model), "--data", str(tmp_path / "data.npz"), "--json")
    assert b"compiling small.graph" in shown and b"100%" in shown
    assert json.loads(other)["samples"] == 64
