"""Checks that no source file outgrows its one purpose: more than 500 lines is listed, more than 800 fails.

Usage: `python tools/check_file_length.py [DIRECTORY ...]`, by default the project's own source directories.
"""

from __future__ import annotations

import sys
from pathlib import Path

SOFT_LIMIT_LINES = 500
HARD_LIMIT_LINES = 800

ROOT = Path(__file__).resolve().parent.parent
CHECKED = ("src", "tests", "tools", "examples")
SUFFIXES = (".py", ".j2", ".toml")


def file_lengths(directory: Path) -> list[tuple[int, Path]]:
    """Lines and path of each source file below `directory`, the longest first."""
    files = (path for path in directory.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    lengths = [(path.read_text(encoding="utf-8").count("\n"), path) for path in files]
    return sorted(lengths, key=lambda item: (-item[0], item[1].as_posix()))


def check(directories: list[Path]) -> tuple[list[str], list[str]]:
    """The files above the soft limit and those above the hard one, as lines to print."""
    lengths = [item for directory in directories for item in file_lengths(directory)]
    long = [f"{path}: {lines} lines" for lines, path in lengths if SOFT_LIMIT_LINES < lines <= HARD_LIMIT_LINES]
    too_long = [f"{path}: {lines} lines" for lines, path in lengths if lines > HARD_LIMIT_LINES]
    return long, too_long


def main(arguments: list[str]) -> int:
    """Prints the findings; returns 1 when a file is above the hard limit."""
    directories = [Path(argument) for argument in arguments] or [ROOT / name for name in CHECKED]
    long, too_long = check(directories)
    for line in long:
        print(f"note: {line}, above the soft limit of {SOFT_LIMIT_LINES}")
    for line in too_long:
        print(f"error: {line}, above the limit of {HARD_LIMIT_LINES}; split it by purpose")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
