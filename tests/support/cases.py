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

A case of what must be refused has no second text. The lines at fault end in what is said of them:

    run: verify
    kernel f(in x: i32[4])
      x[0] = 1  # error: [7] the input x is written

`pytest --update` rewrites what is expected; whoever does it reads the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from luciole.errors import CompileError, LucioleError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

#: What begins the remark on a line that must be refused.
ERROR = "# error: "

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
    if ERROR in case.text:
        clean = re.sub(rf" *{ERROR}.*$", "", case.text, flags=re.MULTILINE)
        given, found = case.text, annotated(clean, refusal(lambda: commands[name](words, clean)))
    else:
        given, found = f"{case.text}----\n{case.expected}", f"{case.text}----\n{commands[name](words, case.text)}"
    if update and found != given:
        path.write_text(f"{case.head}{found}", encoding="utf-8")
    else:
        assert found == given


def refusal(action: Callable[[], object]) -> list[str]:
    """What an action says when it refuses its text: the diagnostics or the lines of the error."""
    with pytest.raises(LucioleError) as info:
        action()
    if isinstance(info.value, CompileError):
        return [f"{d.location.file}: {d.message}" for d in info.value.diagnostics]
    return str(info.value).splitlines()


def annotated(text: str, problems: list[str]) -> str:
    """The text with each problem at the end of its line: the line that its position names, or that it ends with."""
    lines = text.splitlines()
    for problem in problems:
        position = re.match(r"[^:]*:(\d+):\d+: (.*)", problem)
        if position is not None:
            at, message = int(position[1]) - 1, position[2]
        else:
            ends = [(n, line.strip()) for n, line in enumerate(lines) if problem.endswith(f": {_statement(line)}")]
            if not ends:
                continue
            at, message = ends[0][0], problem.strip().removesuffix(f": {_statement(ends[0][1])}")
        lines[at] += f"{'; ' if ERROR in lines[at] else f'  {ERROR}'}{message}"
    return "\n".join([*lines, ""])


def _statement(line: str) -> str:
    return line.partition(f"  {ERROR}")[0].strip()
