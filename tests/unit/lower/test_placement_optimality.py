"""The placement solver against an exhaustive search on problems of a few bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from luciole.lower.placement import Effort, Item, PlacementProblem, check, lower_bound, solve
from luciole.lower.placement.exact import Budget, find_placement, peel
from luciole.lower.placement.intervals import (
    build_table,
    extreme_differences,
    greatest_overlap,
    least_span,
    normalize_intervals,
)
from luciole.lower.placement.model import build_model, build_search_space, variants

_LARGE_WORK = 10_000_000


def _fits(problem: PlacementProblem, limit: int) -> bool:
    """Whether any offsets at all end at or below `limit`, by trying them all."""
    items = problem.items
    rules: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, first in enumerate(items):
        for b in range(a + 1, len(items)):
            second = items[b]
            if (a, b) in problem.overrides:
                rules[a, b] = list(problem.overrides[a, b])
            elif (b, a) in problem.overrides:
                rules[a, b] = [(-high, -low) for low, high in problem.overrides[b, a]]
            elif first.last >= second.first and second.last >= first.first and first.size_bytes and second.size_bytes:
                rules[a, b] = [(-second.size_bytes, first.size_bytes)]
    offsets: list[int] = []

    def extend() -> bool:
        index = len(offsets)
        if index == len(items):
            return True
        item = items[index]
        choices = range(0, limit - item.size_bytes + 1, item.alignment)
        if item.fixed_offset is not None:
            choices = range(item.fixed_offset, min(item.fixed_offset, limit - item.size_bytes) + 1)
        for offset in choices:
            if any(
                low < offset - other < high
                for a, other in enumerate(offsets)
                for low, high in rules.get((a, index), ())
            ):
                continue
            offsets.append(offset)
            if extend():
                return True
            offsets.pop()
        return False

    return extend()


def _optimum(problem: PlacementProblem) -> int:
    """The least size of any placement."""
    size = 0
    while not _fits(problem, size):
        size += 1
    return size


@st.composite
def _problems(draw: st.DrawFn, most: int = 5, overridden: bool = True, largest: int = 5) -> PlacementProblem:
    """Small problems with every kind of constraint."""
    count = draw(st.integers(0, most))
    items = []
    for index in range(count):
        first = draw(st.integers(0, 4))
        items.append(
            Item(
                name=f"item{index}",
                size_bytes=draw(st.integers(0, largest)),
                alignment=draw(st.sampled_from([1, 1, 1, 2, 4])),
                first=first,
                last=first + draw(st.integers(0, 3)),
            )
        )
    overrides: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    if overridden and count > 1:
        pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
        for a, b in draw(st.lists(st.sampled_from(pairs), unique=True, max_size=4)):
            size_a, size_b = items[a].size_bytes, items[b].size_bytes
            choices: list[tuple[tuple[int, int], ...]] = [()]
            if size_a and size_b:
                choices += [((-size_b, 0), (0, size_a)), ((0, size_a),), ((-size_b, 0),)]
                choices.append(((-draw(st.integers(0, size_b)), size_a),))
                choices.append(((-size_b - draw(st.integers(0, 2)), size_a + draw(st.integers(0, 2))),))
            low = draw(st.integers(-5, 4))
            choices.append(((low, low + draw(st.integers(1, 5))),))
            choices.append(((-4, -1), (-1, draw(st.integers(0, 3)))))
            intervals = draw(st.sampled_from(choices))
            if draw(st.booleans()):
                overrides[a, b] = intervals
            else:
                overrides[b, a] = tuple((-high, -low) for low, high in intervals)
    return PlacementProblem(tuple(items), overrides)


@st.composite
def _problems_with_fixed_items(draw: st.DrawFn) -> PlacementProblem:
    """Small problems in which the first one or two items stay where an unfixed placement may have them."""
    problem = draw(_problems(most=5, largest=4))
    items = list(problem.items)
    overrides = dict(problem.overrides)
    level = draw(st.integers(0, 1)) * 4
    for index in range(min(len(items), draw(st.integers(0, 2)))):
        items[index] = Item(**{**vars(items[index]), "fixed_offset": level})
        level += 8 if not overrides else 12
    return PlacementProblem(tuple(items), overrides)


def _is_decidable(problem: PlacementProblem) -> bool:
    """Whether the search claims to lose no placement, for every way to merge ties or to keep them apart."""
    table = build_table(problem)
    chosen = [index for index, item in enumerate(problem.items) if item.fixed_offset is None]
    return all(build_search_space(table, variant).is_complete for variant in variants(build_model(table, chosen)))


@settings(max_examples=150, deadline=None)
@given(_problems())
def test_bound_never_exceeds_the_optimum_and_optimal_claims_are_true(problem: PlacementProblem) -> None:
    optimum = _optimum(problem)
    placement = solve(problem, Effort(exact_work=20_000, hill_climb_work=2_000))
    assert not check(problem, placement.offsets)
    assert lower_bound(problem) <= placement.lower_bound_bytes <= optimum <= placement.size_bytes
    assert placement.gap_bytes == placement.size_bytes - placement.lower_bound_bytes
    assert placement.is_optimal == (placement.gap_bytes == 0)


@settings(max_examples=100, deadline=None)
@given(_problems_with_fixed_items())
def test_fixed_offsets_leave_bound_and_claims_true(problem: PlacementProblem) -> None:
    optimum = _optimum(problem)
    placement = solve(problem, Effort(exact_work=20_000, hill_climb_work=2_000))
    assert not check(problem, placement.offsets)
    assert lower_bound(problem) <= placement.lower_bound_bytes <= optimum <= placement.size_bytes


@settings(max_examples=150, deadline=None)
@given(_problems(most=6, overridden=False, largest=6))
def test_disjoint_items_are_placed_optimally(problem: PlacementProblem) -> None:
    placement = solve(problem)
    assert placement.is_optimal
    assert placement.size_bytes == _optimum(problem)


@settings(max_examples=200, deadline=None)
@given(st.one_of(_problems(), _problems_with_fixed_items()))
def test_exact_search_alone_decides_problems_that_it_claims_to_decide(problem: PlacementProblem) -> None:
    table = build_table(problem)
    optimum = _optimum(problem)
    answer = find_placement(table, optimum, Budget(_LARGE_WORK))
    below = find_placement(table, optimum - 1, Budget(_LARGE_WORK))
    assert below.offsets is None
    assert not answer.is_impossible
    if answer.offsets is not None:
        assert not check(problem, answer.offsets)
    if _is_decidable(problem):
        assert answer.offsets is not None
        assert below.is_impossible


@settings(max_examples=150, deadline=None)
@given(_problems(overridden=False, most=6))
def test_exact_search_alone_decides_disjoint_problems(problem: PlacementProblem) -> None:
    table = build_table(problem)
    optimum = _optimum(problem)
    answer = find_placement(table, optimum, Budget(_LARGE_WORK))
    assert answer.offsets is not None and not check(problem, answer.offsets)
    assert find_placement(table, optimum - 1, Budget(_LARGE_WORK)).is_impossible


@settings(max_examples=100, deadline=None)
@given(_problems(), st.integers(0, 12))
def test_peeled_items_can_always_be_placed(problem: PlacementProblem, extra: int) -> None:
    table = build_table(problem)
    core, easy = peel(table, _optimum(problem) + extra)
    assert sorted(core + easy) == list(range(len(problem.items)))
    answer = find_placement(table, _optimum(problem) + extra, Budget(_LARGE_WORK))
    if not core:
        assert answer.offsets is not None
    if answer.offsets is not None:
        assert not check(problem, answer.offsets)
        ends = [offset + item.size_bytes for offset, item in zip(answer.offsets, problem.items, strict=True)]
        assert max(ends, default=0) <= _optimum(problem) + extra


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers(1, 12)), max_size=4),
    st.sampled_from([1, 2, 4, 8]),
)
def test_normalized_intervals_allow_the_same_multiples(pairs: list[tuple[int, int]], granularity: int) -> None:
    intervals = [(low, low + length) for low, length in pairs]
    normalized = normalize_intervals(intervals, granularity)
    assert list(normalized) == sorted(normalized)
    for difference in range(-64, 65, granularity):
        before = any(low < difference < high for low, high in intervals)
        assert before == any(low < difference < high for low, high in normalized)


@given(
    st.integers(0, 8),
    st.integers(0, 8),
    st.lists(st.tuples(st.integers(-12, 12), st.integers(1, 8)), max_size=3),
)
def test_extremes_of_overlap_and_span_match_all_differences(
    size_a: int, size_b: int, pairs: list[tuple[int, int]]
) -> None:
    intervals = normalize_intervals([(low, low + length) for low, length in pairs], 1)
    allowed = [d for d in range(-40, 41) if not any(low < d < high for low, high in intervals)]
    assert set(extreme_differences(size_a, size_b, intervals)) <= set(allowed)
    bytes_a = set(range(size_a))
    overlaps = [len(bytes_a & set(range(d, d + size_b))) for d in allowed]
    spans = [max(size_a, d + size_b) - min(0, d) for d in allowed]
    assert greatest_overlap(size_a, size_b, intervals) == max(overlaps)
    assert least_span(size_a, size_b, intervals) == min(spans)


def test_exact_search_raises_the_bound_where_the_live_sum_cannot_be_met() -> None:
    lives = [(4, 0, 2), (2, 0, 1), (1, 2, 4), (1, 2, 5), (3, 3, 5), (1, 3, 4), (2, 5, 6), (2, 6, 6), (2, 6, 6)]
    problem = PlacementProblem(
        tuple(Item(f"item{index}", size, 1, first, last) for index, (size, first, last) in enumerate(lives))
    )
    assert lower_bound(problem) == 6
    assert _optimum(problem) == 7
    hasty = solve(problem, Effort(exact_work=0, hill_climb_work=0))
    assert (hasty.size_bytes, hasty.lower_bound_bytes, hasty.gap_bytes, hasty.is_optimal) == (7, 6, 1, False)
    patient = solve(problem)
    assert (patient.size_bytes, patient.lower_bound_bytes, patient.gap_bytes, patient.is_optimal) == (7, 7, 0, True)
