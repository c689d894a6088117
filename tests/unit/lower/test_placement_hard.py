"""The placement solver on large random problems and on problems without slack."""

from __future__ import annotations

import random

import pytest

from luciole.lower.placement import FAST, NORMAL, Item, PlacementProblem, check, lower_bound, solve
from luciole.lower.placement.hill_climb import RandomNumbers, hill_climb
from luciole.lower.placement.intervals import build_table
from luciole.lower.placement.portfolio import Attempt, best_fit, first_fit, portfolio
from luciole.lower.placement.problem import placement_size


def _random_problem(count: int, seed: int, longest: int, alignment: int = 1) -> PlacementProblem:
    """Items of very different sizes that begin anywhere."""
    numbers = random.Random(seed)
    items = []
    for index in range(count):
        first = numbers.randrange(count)
        size = numbers.choice([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]) * numbers.choice([16, 64, 100])
        items.append(Item(f"item{index}", size, alignment, first, first + numbers.randrange(longest)))
    return PlacementProblem(tuple(items))


def _guillotine_problem(count: int, seed: int, steps: int = 60, height: int = 1_000) -> PlacementProblem:
    """Rectangles cut from a whole one of `steps` times `height`, which only a perfect packing fills again."""
    numbers = random.Random(seed)
    rectangles = [(0, steps, 0, height)]
    while len(rectangles) < count:
        areas = [(end - begin) * (top - bottom) * numbers.random() for begin, end, bottom, top in rectangles]
        begin, end, bottom, top = rectangles.pop(areas.index(max(areas)))
        if numbers.random() < 0.5 and end - begin > 1:
            cut = numbers.randrange(begin + 1, end)
            rectangles += [(begin, cut, bottom, top), (cut, end, bottom, top)]
        elif top - bottom > 1:
            cut = numbers.randrange(bottom + 1, top)
            rectangles += [(begin, end, bottom, cut), (begin, end, cut, top)]
        else:
            rectangles.append((begin, end, bottom, top))
    numbers.shuffle(rectangles)
    return PlacementProblem(
        tuple(
            Item(f"piece{index}", top - bottom, 1, begin, end - 1)
            for index, (begin, end, bottom, top) in enumerate(rectangles)
        )
    )


def _live_sum(problem: PlacementProblem) -> int:
    """The most live bytes at any step."""
    return max(
        sum(item.size_bytes for item in problem.items if item.first <= step <= item.last)
        for step in {item.first for item in problem.items}
    )


@pytest.mark.parametrize("seed", range(8))
def test_sixty_random_items_are_placed_optimally(seed: int) -> None:
    problem = _random_problem(60, seed, longest=12)
    placement = solve(problem)
    assert check(problem, placement.offsets) == ()
    assert placement.is_optimal
    assert placement.size_bytes == _live_sum(problem)


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_random_items_are_placed_optimally(seed: int) -> None:
    problem = _random_problem(200, seed, longest=20)
    placement = solve(problem)
    assert check(problem, placement.offsets) == ()
    assert placement.is_optimal
    assert placement.size_bytes == _live_sum(problem)


def test_aligned_random_items_are_placed_optimally() -> None:
    problem = _random_problem(60, 3, longest=12, alignment=64)
    placement = solve(problem)
    assert check(problem, placement.offsets) == ()
    assert placement.is_optimal
    assert placement.size_bytes >= _live_sum(problem)


@pytest.mark.parametrize(("count", "seed"), [(25, 0), (25, 1), (25, 2), (25, 3), (40, 1), (40, 2), (60, 4), (60, 5)])
def test_problems_without_slack_are_solved(count: int, seed: int) -> None:
    problem = _guillotine_problem(count, seed)
    assert lower_bound(problem) == 1_000
    placement = solve(problem)
    assert check(problem, placement.offsets) == ()
    assert placement.is_optimal
    assert placement.size_bytes == 1_000


@pytest.mark.parametrize("seed", range(2))
def test_hard_problems_state_their_gap(seed: int) -> None:
    problem = _guillotine_problem(150, seed, steps=200, height=5_000)
    placement = solve(problem, FAST)
    assert check(problem, placement.offsets) == ()
    assert placement.lower_bound_bytes == 5_000
    assert placement.gap_bytes == placement.size_bytes - 5_000
    assert placement.is_optimal == (placement.gap_bytes == 0)
    assert placement.size_bytes <= 2 * 5_000


@pytest.mark.parametrize("seed", range(3))
def test_the_same_problem_gets_the_same_offsets(seed: int) -> None:
    problem = _guillotine_problem(60, seed)
    assert solve(problem, FAST) == solve(problem, FAST)


def test_diagonal_overlap_in_a_large_graph_never_costs_memory() -> None:
    problem = _random_problem(60, 11, longest=6)
    overrides = {}
    for a, first in enumerate(problem.items):
        for b, second in enumerate(problem.items):
            if first.last == second.first and first.first < second.first and (b, a) not in overrides:
                overrides[a, b] = ((-(second.size_bytes // 4), first.size_bytes),)
    relaxed = PlacementProblem(problem.items, overrides)
    assert overrides
    placement = solve(relaxed)
    assert check(relaxed, placement.offsets) == ()
    assert lower_bound(relaxed) <= placement.size_bytes
    assert placement.size_bytes <= solve(problem).size_bytes


def test_all_rules_of_the_portfolio_give_valid_placements() -> None:
    problem = _random_problem(60, 5, longest=12)
    methods = set()
    for attempt in portfolio(build_table(problem)):
        assert check(problem, attempt.offsets) == ()
        methods.add(attempt.method)
    assert len(methods) == 12


def test_best_fit_takes_the_tightest_hole_and_first_fit_the_lowest() -> None:
    items = (
        Item("floor", 10, 1, 0, 0, fixed_offset=50),
        Item("roof", 10, 1, 0, 0, fixed_offset=80),
        Item("filling", 20, 1, 0, 0),
    )
    table = build_table(PlacementProblem(items))
    assert first_fit(table, (2,)) == [50, 80, 0]
    assert best_fit(table, (2,)) == [50, 80, 60]


def test_hill_climbing_improves_a_bad_order_and_stops_at_the_bound() -> None:
    problem = _random_problem(60, 2, longest=12)
    table = build_table(problem)
    order = tuple(range(len(problem.items)))
    start = Attempt(tuple(first_fit(table, order)), order, "as given")
    bound = lower_bound(problem)
    better = hill_climb(table, start, bound, 1_000_000, seed=1)
    assert check(problem, better.offsets) == ()
    assert placement_size(problem.items, better.offsets) < placement_size(problem.items, start.offsets)
    assert tuple(first_fit(table, better.order)) == better.offsets
    assert hill_climb(table, better, placement_size(problem.items, better.offsets), 1_000_000, seed=1) == better


def test_random_numbers_cover_their_range_and_repeat() -> None:
    first, second = RandomNumbers(7), RandomNumbers(7)
    drawn = [first.below(10) for _ in range(1_000)]
    assert drawn == [second.below(10) for _ in range(1_000)]
    assert set(drawn) == set(range(10))
    assert [RandomNumbers(8).below(1_000) for _ in range(5)] != [RandomNumbers(7).below(1_000) for _ in range(5)]


def test_normal_effort_is_at_least_as_good_as_fast() -> None:
    problem = _guillotine_problem(60, 2)
    assert solve(problem, NORMAL).size_bytes <= solve(problem, FAST).size_bytes
