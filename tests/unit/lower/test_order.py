"""The order of execution: optimal against brute force, found in bounded work, and counted as lowering counts."""

from __future__ import annotations

import itertools
import random

import pytest

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.interpret import run_graph
from luciole.graph.text import print_graph
from luciole.graph.verify import verify_graph
from luciole.ir.types import DType
from luciole.lower.lower import LoweringOptions
from luciole.lower.order import OrderProblem, Storage, Task, find_order, order_operators, order_problem, peak_bytes
from luciole.ops.activation import Relu
from luciole.ops.concat import Concat
from luciole.ops.elementwise import Add
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from support.program_checks import alive_bytes, assert_same_outputs, build, check, random_inputs


def random_problem(rng: random.Random, count: int) -> OrderProblem:
    """Tasks with one result each that read some of the earlier results, a few in place of one of them."""
    sizes = [rng.randint(0, 9) for _ in range(count + 2)]
    readers = [0] * (count + 2)
    tasks = []
    for index in range(count):
        reads = sorted(rng.sample(range(index + 2), rng.randint(1, min(3, index + 2))))
        for number in reads:
            readers[number] |= 1 << index
        needs = sum(1 << (number - 2) for number in reads if number >= 2)
        replaces = tuple(number for number in reads if rng.random() < 0.3)
        for number in replaces:
            sizes[index + 2] = sizes[number]
        tasks.append(Task(needs, tuple(reads), (index + 2,), replaces[-1:]))
    storages = tuple(
        Storage(size, readers[number], is_initial=number < 2, is_kept=not readers[number] or rng.random() < 0.1)
        for number, size in enumerate(sizes)
    )
    return OrderProblem(tuple(tasks), storages)


def is_valid(problem: OrderProblem, order: tuple[int, ...]) -> bool:
    done = 0
    for task in order:
        if problem.tasks[task].needs & ~done:
            return False
        done |= 1 << task
    return sorted(order) == list(range(len(problem.tasks)))


def brute_force(problem: OrderProblem) -> int:
    orders = itertools.permutations(range(len(problem.tasks)))
    return min(peak_bytes(problem, order) for order in orders if is_valid(problem, order))


@pytest.mark.parametrize("seed", range(60))
def test_the_exact_search_equals_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    problem = random_problem(rng, rng.randint(1, 6))
    found = find_order(problem)
    assert found.is_optimal
    assert is_valid(problem, found.tasks)
    assert found.peak_bytes == peak_bytes(problem, found.tasks) == brute_force(problem)


@pytest.mark.parametrize("seed", range(20))
def test_the_beam_never_loses_against_the_file_order(seed: int) -> None:
    rng = random.Random(1000 + seed)
    problem = random_problem(rng, 12)
    file_order = tuple(range(12))
    found = find_order(problem, exact_budget=0)
    assert is_valid(problem, found.tasks)
    assert found.peak_bytes == peak_bytes(problem, found.tasks) <= peak_bytes(problem, file_order)
    assert found.peak_bytes >= find_order(problem).peak_bytes


@pytest.mark.parametrize("shape", ["wide", "layered", "long"])
def test_work_is_bounded_on_five_hundred_operators(shape: str) -> None:
    rng = random.Random(7)
    tasks: list[Task] = []
    readers = [0] * 501
    sizes = [rng.randint(1, 1000) for _ in range(501)]
    for index in range(500):
        if shape == "wide":
            reads = [0] if index < 499 else list(range(1, 500))
        elif shape == "layered":
            reads = sorted({max(0, index - rng.randint(0, 24)) for _ in range(3)})
        else:
            reads = [index]
        for number in reads:
            readers[number] |= 1 << index
        needs = sum(1 << (number - 1) for number in reads if number)
        tasks.append(Task(needs, tuple(reads), (index + 1,)))
    storages = tuple(
        Storage(s, r, is_initial=i == 0, is_kept=not r) for i, (s, r) in enumerate(zip(sizes, readers, strict=True))
    )
    problem = OrderProblem(tuple(tasks), storages)
    found = find_order(problem)
    assert is_valid(problem, found.tasks)
    assert found.peak_bytes <= peak_bytes(problem, range(500))
    assert found.work < 1_500_000


# Graphs


def grow(g: GraphBuilder, x: Value, times: int, name: str = "") -> Value:
    """x several times over: a large tensor."""
    return g.add(Concat((x,) * times, 0), name)


def shrink(g: GraphBuilder, x: Value, count: int, name: str = "") -> Value:
    """The first elements of x: a small tensor."""
    return g.add(Slice(x, (0,), (count,), (1,)), name)


def two_branches() -> Graph:
    """Both branches grow and shrink; side by side both large tensors are alive at once."""
    g = GraphBuilder("branches")
    x = g.input("x", DType.F32, (4,))
    a = grow(g, x, 20, "a")
    b = grow(g, x, 25, "b")
    c = shrink(g, a, 4, "c")
    d = shrink(g, b, 4, "d")
    g.output("y", g.add(Add(c, d), "y"))
    return g.graph


def test_branches_run_one_after_the_other() -> None:
    graph, before = two_branches(), two_branches()
    # x, a and b are alive at once in the file order; then x, a and c, or c and b.
    assert alive_bytes(build(before)) == 4 * (4 + 80 + 100)
    assert order_operators(graph) == 4 * 76
    verify_graph(graph)
    assert sorted([graph.result(op).name for op in graph.operators][:2]) in (["a", "c"], ["b", "d"])
    program = check(graph)
    assert alive_bytes(program) == 4 * (4 + 4 + 100)
    inputs = random_inputs(graph, 0)
    assert_same_outputs(run_graph(graph, inputs), run_graph(before, inputs))


def test_the_branch_that_leaves_little_comes_first() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (4,))
    a = shrink(g, grow(g, x, 10, "a"), 30, "leaves much")
    b = shrink(g, grow(g, x, 20, "b"), 2, "leaves little")
    g.output("y", g.add(Concat((a, b), 0), "y"))
    assert order_operators(g.graph) > 0
    assert [g.graph.result(op).name for op in g.graph.operators][:2] == ["b", "leaves little"]
    check(g.graph)


def test_the_file_order_stays_where_nothing_is_gained() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (4,))
    first = g.add(Relu(x), "first")
    second = shrink(g, x, 2, "second")
    third = shrink(g, x, 3, "third")
    g.output("y", g.add(Concat((third, second, first), 0)))
    text = print_graph(g.graph)
    assert order_operators(g.graph) == 0
    assert print_graph(g.graph) == text


def test_the_order_is_the_same_every_time() -> None:
    texts = set()
    for _ in range(3):
        graph = two_branches()
        order_operators(graph)
        texts.add(print_graph(graph))
    assert len(texts) == 1


def test_views_move_with_their_readers() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (4,))
    a = g.add(Reshape(grow(g, x, 20, "a"), (2, 40)), "a view")
    flat = g.add(Reshape(a, (80,)), "a flat")
    b = grow(g, x, 25, "b")
    c = shrink(g, flat, 4, "c")
    d = shrink(g, b, 4, "d")
    y = g.add(Add(c, d), "y")
    g.output("y", g.add(Reshape(y, (2, 2)), "y view"))
    assert order_operators(g.graph) > 0
    verify_graph(g.graph)
    names = [g.graph.result(op).name for op in g.graph.operators]
    assert names[-2:] == ["y", "y view"]
    at = names.index("c")
    assert names[at - 2 : at] == ["a view", "a flat"]
    check(g.graph)


@pytest.mark.parametrize("keep", [(False, False), (True, False), (False, True), (True, True)])
def test_kept_inputs_and_outputs_are_counted(keep: tuple[bool, bool]) -> None:
    keep_input, keep_output = keep
    graph = two_branches()
    problem = order_problem(graph, keep_input=keep_input, keep_output=keep_output)
    program = check(graph, options=LoweringOptions(keep_input=keep_input, keep_output=keep_output))
    # Where the output is kept, what it takes over is counted beside it.
    spare = 16 if keep_output else 0
    assert 0 <= peak_bytes(problem, range(len(problem.tasks))) - alive_bytes(program) <= spare
    order_operators(graph, keep_input=keep_input, keep_output=keep_output)
    check(graph, options=LoweringOptions(keep_input=keep_input, keep_output=keep_output))


def test_results_in_place_of_operands_are_counted() -> None:
    """Adding in place needs no third tensor."""
    g = GraphBuilder("g")
    total = g.input("x", DType.F32, (8,))
    for _ in range(3):
        total = g.add(Add(total, g.add(Relu(total))))
    g.output("y", total)
    problem = order_problem(g.graph)
    assert peak_bytes(problem, range(len(problem.tasks))) == alive_bytes(build(g.graph)) == 2 * 32


def test_a_graph_without_operators_has_an_order() -> None:
    g = GraphBuilder("g")
    g.output("x", g.input("x", DType.F32, (4,)))
    assert order_operators(g.graph) == 0
