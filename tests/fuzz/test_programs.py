"""Random graphs, ordered, lowered and planned: the program is sound, reads back, and gives what the graph gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.text import print_graph
from luciole.graph.verify import verify_graph
from luciole.ir.board import Board, Memory
from luciole.ir.target import find_target
from luciole.ir.types import Array
from luciole.lower.lower import LoweringOptions, lower
from luciole.lower.order import order_operators, order_problem, peak_bytes
from luciole.lower.parts import place_parts
from luciole.lower.plan import plan_memory
from luciole.lower.regions import assign_regions, check_regions
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.passes.pipeline import OPTIMIZE
from luciole.program.core import Program
from luciole.program.interpret import run_program
from luciole.program.text import parse_program, render_program
from luciole.program.verify import verify_program
from support.program_checks import alive_bytes, random_inputs
from support.random_graphs import graphs
from support.two_results import registered_halves

OPTIONS = st.builds(
    LoweringOptions,
    use_recipes=st.booleans(),
    keep_input=st.booleans(),
    keep_output=st.booleans(),
    allows_overlap=st.booleans(),
    places_parts=st.booleans(),
)
TARGETS = st.sampled_from(["cortex-m4", "cortex-m0plus", "native"])
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(autouse=True)
def halves() -> Iterator[None]:
    with registered_halves():
        yield


def assert_exactly(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in found.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in expected.items()
    }


def assert_nearly(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Integers equal; floats as near as sums in another order leave them, measured at the largest of a tensor."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        if array.dtype.kind == "f":
            largest = float(np.abs(array).max(initial=1.0))
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5 * largest)
        else:
            assert np.array_equal(found[name], array)


def planned(graph: Graph, target: str, options: LoweringOptions) -> Program:
    note(print_graph(graph))
    program = lower(graph, find_target(target), options)
    verify_program(program)
    if options.places_parts:
        program = place_parts(program)
        verify_program(program)
    result = plan_memory(program)
    verify_program(result)
    return result


@QUICK
@given(graphs(), OPTIONS, TARGETS)
def test_programs_give_what_their_graphs_give(graph: Graph, options: LoweringOptions, target: str) -> None:
    verify_graph(graph)
    program = planned(graph, target, options)
    inputs = random_inputs(graph, 0)
    expected = run_graph(graph, inputs)
    assert_exactly(run_program(program, inputs), expected)
    assert_nearly(run_program(program, inputs, use_kernels=True), expected)


@QUICK
@given(graphs(), OPTIONS)
def test_programs_print_and_read_back(graph: Graph, options: LoweringOptions) -> None:
    program = planned(graph, "cortex-m4", options)
    rendered = render_program(program)
    again = parse_program(rendered.text, rendered.arrays)
    assert render_program(again).text == rendered.text
    verify_program(again)
    inputs = random_inputs(graph, 1)
    assert_exactly(run_program(again, inputs), run_program(program, inputs))


@QUICK
@given(graphs(), st.booleans())
def test_another_order_never_needs_more_and_gives_the_same(graph: Graph, keep_input: bool) -> None:
    options = LoweringOptions(keep_input=keep_input, places_parts=False)
    inputs = random_inputs(graph, 2)
    expected = run_graph(graph, inputs)
    before = planned(graph, "cortex-m4", options)
    problem = order_problem(graph, keep_input=keep_input)
    assert peak_bytes(problem, range(len(problem.tasks))) == alive_bytes(before)
    gained = order_operators(graph, keep_input=keep_input)
    verify_graph(graph)
    after = planned(graph, "cortex-m4", options)
    assert alive_bytes(after) == alive_bytes(before) - gained
    assert_exactly(run_program(after, inputs), expected)


@QUICK
@given(graphs(), OPTIONS)
def test_optimized_graphs_become_programs_too(graph: Graph, options: LoweringOptions) -> None:
    inputs = random_inputs(graph, 3)
    expected = run_graph(graph, inputs)
    PassContext(DeveloperOptions(verify="ends")).run_pipeline(graph, OPTIMIZE)
    program = planned(graph, "cortex-m4", options)
    assert_nearly(run_program(program, inputs), expected)
    assert_nearly(run_program(program, inputs, use_kernels=True), expected)


@QUICK
@given(graphs(), OPTIONS, st.lists(st.integers(0, 9), min_size=2, max_size=2))
def test_programs_on_boards_compute_what_the_graph_does(
    graph: Graph, options: LoweringOptions, shares: list[int]
) -> None:
    """The faster memory of each kind has room for a part only."""
    order_operators(graph, keep_input=options.keep_input, keep_output=options.keep_output)
    program = planned(graph, "cortex-m4", options)
    sizes = (program.arena.size_bytes, program.weights.size_bytes)
    memories = []
    for kind, whole, share in zip(("ram", "flash"), sizes, shares, strict=True):
        memories.append(Memory(f"{kind}_a", kind, len(memories) << 28, whole * share // 10, 1, ".a", "A"))  # type: ignore[arg-type]  # a MemoryKind
        memories.append(Memory(f"{kind}_b", kind, len(memories) << 28, 4 * whole + 64, 2, ".b", "B"))  # type: ignore[arg-type]
    board = Board("random", tuple(memories))
    spread = plan_memory(assign_regions(program, board))
    check_regions(spread, board)
    verify_program(spread)
    text = render_program(spread)
    assert render_program(parse_program(text.text, text.arrays)).text == text.text
    inputs = random_inputs(graph, 1)
    assert_exactly(run_program(spread, inputs), run_graph(graph, inputs))
