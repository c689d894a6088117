"""A size below which no placement can go.

At one step the live items occupy at least the size of their union. By Bonferroni's inequality a union is not smaller
than the sum of the sizes of any chosen live items, less the greatest possible overlap of each pair among the chosen.
Without overrides this is the sum of the live bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from luciole.lower.placement.intervals import (
    ConflictTable,
    build_table,
    greatest_overlap,
    least_span,
    live_sets,
    lowest_allowed,
    round_up,
)
from luciole.lower.placement.problem import PlacementProblem

_EXHAUSTIVE_LIMIT = 14
"""Groups of mutually overlapping items up to this size get the best subset, larger ones a good one."""


def best_subset(weights: Mapping[int, int], costs: Mapping[tuple[int, int], int]) -> tuple[int, list[int]]:
    """Keys whose weights, less the costs of the pairs among them, sum highest: (sum, sorted keys).

    The sum is always attained by the keys; it is the maximum unless more than 14 keys hang together by costs.
    """
    linked: dict[int, list[tuple[int, int]]] = {}
    for (a, b), cost in costs.items():
        if a in weights and b in weights:
            linked.setdefault(a, []).append((b, cost))
            linked.setdefault(b, []).append((a, cost))
    total = sum(weight for key, weight in weights.items() if key not in linked)
    chosen = [key for key in weights if key not in linked]
    seen: set[int] = set()
    for start in sorted(linked):
        if start in seen:
            continue
        group = [start]
        seen.add(start)
        for key in group:
            for other, _ in linked[key]:
                if other not in seen:
                    seen.add(other)
                    group.append(other)
        group.sort(key=lambda key: (-weights[key], key))
        value, members = _best_of_group(group, weights, linked)
        total += value
        chosen.extend(members)
    return total, sorted(chosen)


def _best_of_group(
    group: Sequence[int], weights: Mapping[int, int], linked: Mapping[int, Sequence[tuple[int, int]]]
) -> tuple[int, list[int]]:
    """The best subset of one group, which comes with the heaviest key first."""
    best: tuple[int, list[int]] = (0, [])
    taken: list[int] = []

    def gain_of(key: int) -> int:
        return weights[key] - sum(cost for other, cost in linked[key] if other in taken)

    if len(group) > _EXHAUSTIVE_LIMIT:
        value = 0
        for key in group:
            gain = gain_of(key)
            if gain > 0:
                taken.append(key)
                value += gain
        return value, taken

    def extend(position: int, value: int, remaining: int) -> None:
        nonlocal best
        if value > best[0]:
            best = (value, list(taken))
        if position == len(group) or value + remaining <= best[0]:
            return
        key = group[position]
        gain = gain_of(key)
        if gain > 0:
            taken.append(key)
            extend(position + 1, value + gain, remaining - weights[key])
            taken.pop()
        extend(position + 1, value, remaining - weights[key])

    extend(0, 0, sum(weights[key] for key in group))
    return best


def lower_bound(problem: PlacementProblem) -> int:
    """Bytes that every placement of `problem` needs; the true optimum is never below it."""
    return table_lower_bound(build_table(problem))


def table_lower_bound(table: ConflictTable) -> int:
    """The same for conflicts already tabulated."""
    return max(_bound_of_single_items(table), _bound_of_pairs(table), _bound_of_live_sets(table))


def _bound_of_single_items(table: ConflictTable) -> int:
    """The lowest end each item can have next to the fixed items alone."""
    bound = 0
    for index, item in enumerate(table.items):
        offset = item.fixed_offset
        if offset is None:
            offset = lowest_allowed(fixed_intervals(table, index), 0, item.alignment)
        bound = max(bound, offset + item.size_bytes)
    return bound


def fixed_intervals(table: ConflictTable, index: int) -> list[tuple[int, int]]:
    """The offsets that the fixed neighbors forbid to an item, sorted."""
    blocked = []
    for other, low, high in table.neighbors[index]:
        fixed = table.items[other].fixed_offset
        if fixed is not None:
            blocked.append((fixed + low, fixed + high))
    return sorted(blocked)


def _bound_of_pairs(table: ConflictTable) -> int:
    """The least span of two items that constrain each other."""
    items = table.items
    return max(
        (least_span(items[a].size_bytes, items[b].size_bytes, intervals) for (a, b), intervals in table.pairs.items()),
        default=0,
    )


def _bound_of_live_sets(table: ConflictTable) -> int:
    """The most bytes that any step needs.

    Offsets of items aligned to at least g are multiples of g, so such items may count with sizes rounded up to g; only
    the highest of them need not be followed by its padding.
    """
    items = table.items
    bound = 0
    for live in live_sets(items, range(len(items))):
        for granularity in sorted({1} | {items[index].alignment for index in live}):
            counted = [index for index in live if items[index].alignment >= granularity]
            weights = {index: round_up(items[index].size_bytes, granularity) for index in counted}
            if sum(weights.values()) <= bound:
                continue
            costs = {
                key: greatest_overlap(weights[key[0]], weights[key[1]], intervals)
                for key, intervals in table.free.items()
                if key[0] in weights and key[1] in weights
            }
            total, chosen = best_subset(weights, costs)
            padding = max((weights[index] - items[index].size_bytes for index in chosen), default=0)
            bound = max(bound, total - padding)
    return bound
