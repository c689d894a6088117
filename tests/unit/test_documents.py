"""What the documents show is what happens: their commands run, their texts are what is printed, their paths exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from luciole.cli.main import VERBS
from luciole.errors import EXIT_BUDGET, EXIT_INTERNAL, EXIT_MISMATCH, EXIT_UNSUPPORTED, EXIT_USER

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "luciole"

#: Runs the command line of this checkout, whether it is installed or not.
LUCIOLE = """#!/bin/sh
exec "{python}" -c "from luciole.cli.main import main; main()" "$@"
"""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def]  # a function, from a command to what it printed
    """Runs a command in a folder that holds the examples, with `luciole` on the path."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = tmp_path / "bin" / "luciole"
    script.parent.mkdir()
    script.write_text(LUCIOLE.format(python=sys.executable))
    script.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }

    def run_command(*command: str) -> str:
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    return run_command


def test_the_commands_of_the_readme_run(run) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    setup, quick_start = blocks("README.md", "sh")
    assert setup.splitlines() == ["make demo", "make test"]
    printed = run("bash", "-euc", quick_start)
    for fact in ("digits.graph compiles for cortex-m4", "build/digits.o", "equal to the reference", "memory over time"):
        assert fact in printed


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_python_of_a_page_runs(name: str, run) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    code = blocks(name, "python")
    assert code
    run(sys.executable, "-c", "\n".join(code))


def test_the_readme_tells_every_verb_and_exit_code() -> None:
    text = page("README.md")
    for verb in VERBS:
        assert f"`{verb}`" in text
    for code in (EXIT_USER, EXIT_UNSUPPORTED, EXIT_BUDGET, EXIT_MISMATCH, EXIT_INTERNAL):
        assert re.search(rf"^\| {code} \| ", text, flags=re.MULTILINE)


def test_the_three_forms_of_the_architecture_are_those_that_are_printed(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    (graph,), (program,), (kernel,) = (blocks("ARCHITECTURE.md", form) for form in ("graph", "program", "kernel"))
    (tmp_path / "tiny.graph").write_text(graph)
    assert graph in run("luciole", "compile", "tiny.graph", "--to", "import")
    planned = run("luciole", "compile", "tiny.graph", "--target", "cortex-m4", "--to", "plan")
    assert program in planned
    assert kernel in planned


def test_every_layer_is_in_the_architecture() -> None:
    table = page("ARCHITECTURE.md").partition("## Layers")[2].partition("\n## ")[0]
    layers = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))} - {"__init__"}
    assert layers == {name for name in re.findall(r"`(\w+)`", table) if name in layers}


def test_paths_in_the_documents_exist() -> None:
    for name in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        for path in re.findall(r"`([a-z_0-9/.*]+/[a-z_0-9/.*]*)`", page(name)):
            places = [place for base in (ROOT, SOURCE) for place in base.glob(path.rstrip("/"))]
            assert places, f"{name} names {path}"
