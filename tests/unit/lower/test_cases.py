"""Lowering, order and planning on small graphs: `tests/golden/{lower,plan}/*.case`; each program also runs.

Commands are `lower`, `plan`, and `order` (which plans after ordering); words are `target=NAME`, `keep_input`,
`keep_output`, `recipes` (hand-scheduled kernels, which are off otherwise) and `parts` (tensors that lie in others).
What is compared is the program without its graph and kernels; the hashes in kernels' names are left out, since they
change with every kernel.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.text import parse_graph, print_graph
from luciole.graph.verify import verify_graph
from luciole.ir.target import find_target
from luciole.lower.lower import LoweringOptions, lower
from luciole.lower.order import order_operators
from luciole.lower.parts import place_parts
from luciole.lower.plan import plan_memory
from luciole.ops.catalog import load_operators
from luciole.program.core import Program
from luciole.program.interpret import run_program
from luciole.program.text import parse_program, render_program
from luciole.program.verify import verify_program
from support.cases import find_cases, run_case
from support.program_checks import assert_same_outputs, random_inputs

_HASH = re.compile(r"^(  \d+: \w+)_[0-9a-f]{6}\(", re.MULTILINE)


def shown(program: Program) -> str:
    text = render_program(program).text
    begin = text.index("\nprogram ") + 1
    end = text.find("\nkernel ")
    return _HASH.sub(r"\1(", text[begin : end + 1 if end >= 0 else len(text)])


def lowered(words: list[str], graph: Graph) -> Program:
    target = next((word.removeprefix("target=") for word in words if word.startswith("target=")), "cortex-m4")
    unknown = {word for word in words if "=" not in word} - {"keep_input", "keep_output", "recipes", "parts"}
    assert not unknown
    options = LoweringOptions("recipes" in words, "keep_input" in words, "keep_output" in words)
    program = lower(graph, find_target(target), options)
    verify_program(program)
    if "parts" in words:
        program = place_parts(program)
        verify_program(program)
    return program


def read_graph(text: str) -> Graph:
    load_operators()
    graph = parse_graph(text)
    verify_graph(graph)
    assert print_graph(graph) == text, "the graph is not written as it prints"
    return graph


def check_run(program: Program, graph: Graph) -> None:
    """The planned program, and the same read from its text, give what the graph gives."""
    verify_program(program)
    rendered = render_program(program)
    again = parse_program(rendered.text, rendered.arrays)
    for seed in range(3):
        inputs = random_inputs(graph, seed)
        expected = run_graph(graph, inputs)
        assert_same_outputs(run_program(program, inputs), expected)
        assert_same_outputs(run_program(again, inputs, use_kernels=True), expected)


def run_lower(words: list[str], text: str) -> str:
    program = lowered(words, read_graph(text))
    check_run(plan_memory(program), read_graph(text))
    return shown(program)


def run_plan(words: list[str], text: str) -> str:
    program = plan_memory(lowered(words, read_graph(text)))
    check_run(program, read_graph(text))
    return shown(program)


def run_order(words: list[str], text: str) -> str:
    graph = read_graph(text)
    order_operators(graph, keep_input="keep_input" in words, keep_output="keep_output" in words)
    verify_graph(graph)
    program = plan_memory(lowered(words, graph))
    check_run(program, read_graph(text))
    return shown(program)


COMMANDS = {"lower": run_lower, "plan": run_plan, "order": run_order}


@pytest.mark.parametrize("path", [*find_cases("lower"), *find_cases("plan")], ids=lambda path: path.stem)
def test_case(path: Path, update_cases: bool) -> None:
    run_case(path, COMMANDS, update_cases)
