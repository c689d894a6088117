"""Arithmetic of forbidden intervals, and the tables of conflicts that the solvers walk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luciole.lower.placement.problem import Interval, Item, PlacementProblem


def round_up(value: int, multiple: int) -> int:
    """The lowest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def normalize_intervals(intervals: Iterable[Interval], granularity: int) -> tuple[Interval, ...]:
    """The same constraint on a difference that is known to be a multiple of `granularity`.

    The ends become multiples (widened to the next allowed difference), intervals that forbid no multiple vanish, and
    those that overlap merge. The result is sorted; (0, 4) and (4, 8) stay apart, because 4 itself is allowed.
    """
    widened = sorted((low // granularity * granularity, round_up(high, granularity)) for low, high in intervals)
    merged: list[Interval] = []
    for low, high in widened:
        if high - low < 2 * granularity:
            continue
        if merged and low < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def mirror_intervals(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """The intervals of offset(a) - offset(b), from those of offset(b) - offset(a)."""
    return tuple(sorted((-high, -low) for low, high in intervals))


def extreme_differences(size_a: int, size_b: int, intervals: Sequence[Interval]) -> list[int]:
    """Allowed differences among which overlap is greatest and span is least.

    Overlap and span of two blocks, as functions of offset(b) - offset(a), are flat between 0 and size_a - size_b and
    monotone on either side. Their best allowed value lies at an end of the flat part or at an end of an interval.
    """
    candidates = {0, size_a - size_b}
    candidates.update(end for interval in intervals for end in interval)
    return sorted(d for d in candidates if not any(low < d < high for low, high in intervals))


def greatest_overlap(size_a: int, size_b: int, intervals: Sequence[Interval]) -> int:
    """How many bytes two blocks can share at most."""
    differences = extreme_differences(size_a, size_b, intervals)
    return max(max(0, min(size_a, difference + size_b) - max(0, difference)) for difference in differences)


def least_span(size_a: int, size_b: int, intervals: Sequence[Interval]) -> int:
    """Bytes from the lower start to the higher end of two blocks, at their best allowed difference."""
    differences = extreme_differences(size_a, size_b, intervals)
    return min(max(size_a, difference + size_b) - min(0, difference) for difference in differences)


def lowest_allowed(blocked: Sequence[Interval], start: int, alignment: int) -> int:
    """The lowest multiple of `alignment`, not below `start`, inside none of the intervals, which must be sorted."""
    offset = round_up(start, alignment)
    for low, high in blocked:
        if low >= offset:
            break
        if high > offset:
            offset = round_up(high, alignment)
    return offset


@dataclass(frozen=True)
class ConflictTable:
    """The pairwise constraints of a problem, normalized and seen from both sides.

    `pairs[a, b]` with a < b holds the intervals of offset(b) - offset(a), never an empty tuple. `neighbors[i]` lists
    (j, low, high): offset(i) must not lie strictly between offset(j) + low and offset(j) + high.
    `free[a, b]` lists the intervals (possibly none) of pairs that may share bytes although their lives meet.
    """

    items: tuple[Item, ...]
    pairs: dict[tuple[int, int], tuple[Interval, ...]]
    neighbors: tuple[tuple[tuple[int, int, int], ...], ...]
    free: dict[tuple[int, int], tuple[Interval, ...]]


def build_table(problem: PlacementProblem) -> ConflictTable:
    """The normalized conflicts of `problem`."""
    items = problem.items
    collected: dict[tuple[int, int], list[Interval]] = {}
    for conflict in problem.conflicts():
        collected.setdefault((conflict.a, conflict.b), []).append((conflict.low, conflict.high))
    pairs: dict[tuple[int, int], tuple[Interval, ...]] = {}
    for (a, b), intervals in sorted(collected.items()):
        normalized = normalize_intervals(intervals, min(items[a].alignment, items[b].alignment))
        if normalized:
            pairs[a, b] = normalized
    neighbors: list[list[tuple[int, int, int]]] = [[] for _ in items]
    for (a, b), normalized in pairs.items():
        neighbors[b].extend((a, low, high) for low, high in normalized)
        neighbors[a].extend((b, low, high) for low, high in mirror_intervals(normalized))
    free: dict[tuple[int, int], tuple[Interval, ...]] = {}
    for key in sorted((min(a, b), max(a, b)) for a, b in problem.overrides):
        first, second = items[key[0]], items[key[1]]
        if first.last < second.first or second.last < first.first:
            continue
        if greatest_overlap(first.size_bytes, second.size_bytes, pairs.get(key, ())) > 0:
            free[key] = pairs.get(key, ())
    return ConflictTable(items, pairs, tuple(tuple(sorted(entry)) for entry in neighbors), free)


def live_sets(items: Sequence[Item], chosen: Iterable[int]) -> list[tuple[int, ...]]:
    """The sets of items alive at one step, without those contained in another of the sets by an obvious reason.

    A set is listed for the steps at which something begins and something ends before the next beginning; every other
    step has a subset of one of these. Items of size zero are left out.
    """
    by_start = sorted((items[index].first, index) for index in chosen if items[index].size_bytes)
    result: list[tuple[int, ...]] = []
    live: list[int] = []
    for position, (first, index) in enumerate(by_start):
        live = [other for other in live if items[other].last >= first]
        live.append(index)
        following = by_start[position + 1][0] if position + 1 < len(by_start) else None
        if following is None or any(items[other].last < following for other in live):
            result.append(tuple(sorted(live)))
    return result
