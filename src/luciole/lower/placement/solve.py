"""The placement solver: bound, portfolio, exact search, hill climb, exact search again.

It stops at the first placement that meets the bound. All limits count work, not time, so the same problem gets the same
offsets on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from luciole.lower.placement.bound import table_lower_bound
from luciole.lower.placement.exact import Budget, find_placement
from luciole.lower.placement.hill_climb import hill_climb
from luciole.lower.placement.intervals import ConflictTable, build_table
from luciole.lower.placement.portfolio import Attempt, portfolio
from luciole.lower.placement.problem import Placement, PlacementProblem, placement_size


@dataclass(frozen=True)
class Effort:
    """How much work to spend on a problem that the portfolio does not solve.

    Units are visits of an item or of one of its conflicts; two million take about a second.
    """

    exact_work: int
    hill_climb_work: int
    seed: int = 1


FAST = Effort(exact_work=400_000, hill_climb_work=200_000)
"""About a quarter of a second at most."""

NORMAL = Effort(exact_work=3_000_000, hill_climb_work=1_500_000)
"""About two seconds at most."""

THOROUGH = Effort(exact_work=100_000_000, hill_climb_work=20_000_000)
"""About a minute at most."""


def solve(problem: PlacementProblem, effort: Effort = NORMAL) -> Placement:
    """Offsets of all items, with a proved lower bound; always succeeds."""
    table = build_table(problem)
    bound = table_lower_bound(table)
    best: Attempt | None = None
    best_size = 0
    for attempt in portfolio(table):
        size = placement_size(problem.items, attempt.offsets)
        if best is None or size < best_size:
            best, best_size = attempt, size
        if best_size <= bound:
            break
    if best is None:
        raise AssertionError("the portfolio is never empty")
    if best_size > bound:
        best, bound = _improve(table, best, bound, effort)
        best_size = placement_size(problem.items, best.offsets)
    return Placement(best.offsets, best_size, bound, best_size == bound, best.method)


def _improve(table: ConflictTable, best: Attempt, bound: int, effort: Effort) -> tuple[Attempt, int]:
    """A placement at least as good as `best`, and a lower bound at least as high as `bound`.

    A first round of exact search settles small problems and those that it finds easy, before the hill climb.
    """
    first = effort.exact_work // 8
    best, bound = _bisect(table, best, bound, Budget(first))
    if placement_size(table.items, best.offsets) > bound:
        best = hill_climb(table, best, bound, effort.hill_climb_work, effort.seed)
        best, bound = _bisect(table, best, bound, Budget(effort.exact_work - first))
    return best, bound


def _bisect(table: ConflictTable, best: Attempt, bound: int, budget: Budget) -> tuple[Attempt, int]:
    """Halve the gap between bound and size by exact search until they meet or the budget is spent.

    Each search may spend three quarters of what is left; the first one, at the bound itself, is the most likely to end.
    A limit for which the search ends without an answer is passed over: a smaller placement than that may exist, but
    the work goes to larger limits, where more is found.
    """
    hopeful = bound
    size = placement_size(table.items, best.offsets)
    limit = bound
    while hopeful < size and budget.left > 0:
        part = budget.part(budget.left - budget.left // 4)
        granted = part.left
        answer = find_placement(table, limit, part)
        budget.spend(granted - part.left)
        if answer.offsets is not None:
            best = Attempt(answer.offsets, best.order, "exact search")
            size = placement_size(table.items, answer.offsets)
        else:
            hopeful = limit + 1
            if answer.is_impossible:
                bound = limit + 1
        limit = (hopeful + size - 1) // 2
    return best, bound
