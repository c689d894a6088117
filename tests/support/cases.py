"""Case files: a comment that says what they show, the command to run, a text, and the text expected.

    # relu runs where its operand lies
    run: plan target=cortex-m4
    graph g
      ...
    end
    ----
    program g for "cortex-m4"
      ...
    end

`pytest --update` rewrites what is expected; whoever does it reads the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

#: A command takes the words after its name and the text, and gives what is compared.
Command = Callable[[list[str], str], str]


@dataclass(frozen=True)
class Case:
    """A case file: its head with the line `run:`, the text, and what is expected of it."""

    path: Path
    head: str
    text: str
    expected: str

    @property
    def words(self) -> list[str]:
        """The command and its words."""
        line = re.search(r"^run: (.+)$", self.head, re.MULTILINE)
        assert line is not None, f"{self.path.name} has no line `run: COMMAND`"
        return line.group(1).split()


def find_cases(folder: str) -> list[Path]:
    """The case files of a folder of `tests/golden`; there is at least one."""
    found = sorted((GOLDEN / folder).glob("*.case"))
    assert found, f"no cases in {GOLDEN / folder}"
    return found


def read_case(path: Path) -> Case:
    """A case file in its parts."""
    given, _, expected = path.read_text(encoding="utf-8").partition("----\n")
    head = re.match(r"(?:(?:#[^\n]*|run:[^\n]*)?\n)*", given)
    assert head is not None
    return Case(path, head.group(), given[head.end() :], expected)


def run_case(path: Path, commands: Mapping[str, Command], update: bool) -> None:
    """Run a case file's command and compare, or rewrite what the file expects."""
    case = read_case(path)
    name, *words = case.words
    assert name in commands, f"{path.name} runs {name}; commands are {', '.join(commands)}"
    found = commands[name](words, case.text)
    if update and found != case.expected:
        path.write_text(f"{case.head}{case.text}----\n{found}", encoding="utf-8")
    else:
        assert found == case.expected
