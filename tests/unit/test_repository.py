"""The repository keeps its own rules: versions agree, links lead somewhere, files stay short."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import luciole

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The fragment of each heading of a page, as GitHub makes it."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, fragment = target.partition("#")
        destination = (page.parent / path).resolve() if path else page
        assert destination.exists(), f"{page.name} links to {target}"
        assert destination.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        if fragment and destination.suffix == ".md":
            assert fragment in anchors(destination), f"{page.name} links to {target}, which has no such heading"


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == luciole.__version__


def test_every_dependency_says_why() -> None:
    table = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = table[table.index("\ndependencies = [") : table.index("\n[project.scripts]")]
    pairs = list(itertools.pairwise(table.splitlines()))
    requirements = [(before.strip(), line.strip()) for before, line in pairs if line.startswith('    "')]
    assert len(requirements) > 10
    assert [line for before, line in requirements if not before.startswith("# ")] == []


def check_file_length(*directories: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "check_file_length.py"), *map(str, directories)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_no_file_of_the_project_is_above_the_hard_limit() -> None:
    result = check_file_length()
    assert result.returncode == 0, result.stdout


def test_the_length_check_lists_long_files_and_fails_on_longer_ones(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("x = 1\n" * 500)
    (tmp_path / "long.py").write_text("x = 1\n" * 501)
    result = check_file_length(tmp_path)
    assert (result.returncode, result.stdout.count("\n")) == (0, 1)
    assert "long.py: 501 lines" in result.stdout

    (tmp_path / "endless.py").write_text("x = 1\n" * 801)
    result = check_file_length(tmp_path)
    assert result.returncode == 1
    assert "error:" in result.stdout and "endless.py: 801 lines" in result.stdout


def test_the_ci_script_and_the_readme_name_the_same_test_command() -> None:
    assert re.search(r"^make test$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert re.search(r"^step make test$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE)
