"""Programs written by hand: `tests/golden/program/*.case`.

`run: print` reads a program, verifies it and prints it; `run: problems` lists what the verifier says about it;
`run: error` shows why it is refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from luciole.errors import CompileError
from luciole.graph.interpret import run_graph
from luciole.ops.catalog import load_operators
from luciole.program.interpret import run_program
from luciole.program.text import parse_program, print_program
from luciole.program.verify import program_problems, verify_program
from support.cases import find_cases, run_case
from support.program_checks import assert_same_outputs, random_inputs


def run_print(words: list[str], text: str) -> str:
    """Also runs the program, when its buffers have places."""
    program = parse_program(text)
    verify_program(program)
    if all(buffer.offset is not None for buffer in program.buffers.values()):
        for seed in range(3):
            inputs = random_inputs(program.graph, seed)
            expected = run_graph(program.graph, inputs)
            assert_same_outputs(run_program(program, inputs), expected)
            assert_same_outputs(run_program(program, inputs, use_kernels=True), expected)
    return print_program(program)


def run_problems(words: list[str], text: str) -> str:
    return "".join(f"{number}. {problem}\n" for number, problem in program_problems(parse_program(text)))


def run_error(words: list[str], text: str) -> str:
    with pytest.raises(CompileError) as caught:
        parse_program(text)
    return f"{caught.value}\n"


COMMANDS = {"print": run_print, "problems": run_problems, "error": run_error}


@pytest.mark.parametrize("path", find_cases("program"), ids=lambda path: path.stem)
def test_case(path: Path, update_cases: bool) -> None:
    load_operators()
    run_case(path, COMMANDS, update_cases)
