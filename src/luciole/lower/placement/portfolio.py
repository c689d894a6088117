"""Placing items one after the other in a given order, and the orders that are tried first.

Either rule takes items in the order given and puts each where no placed item forbids it: first fit at the lowest such
offset, best fit in the tightest hole. Fixed items count as placed from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from luciole.lower.placement.intervals import ConflictTable, lowest_allowed, round_up
from luciole.lower.placement.problem import Item

_UNPLACED = -1


def first_fit(table: ConflictTable, order: Iterable[int]) -> list[int]:
    """Offsets with each item as low as the items before it allow; items not in `order` are left at -1."""
    offsets = fixed_offsets(table)
    for index in order:
        if offsets[index] == _UNPLACED:
            offsets[index] = lowest_allowed(blocked_intervals(table, offsets, index), 0, table.items[index].alignment)
    return offsets


def best_fit(table: ConflictTable, order: Iterable[int]) -> list[int]:
    """Offsets with each item in the hole that it fills best, or above everything that it conflicts with."""
    offsets = fixed_offsets(table)
    for index in order:
        if offsets[index] != _UNPLACED:
            continue
        alignment = table.items[index].alignment
        blocked = blocked_intervals(table, offsets, index)
        offset = lowest_allowed(blocked, 0, alignment)
        best_slack: int | None = None
        best_offset = offset
        for low, high in blocked:
            if low >= offset:
                slack = low - offset
                if best_slack is None or slack < best_slack:
                    best_slack, best_offset = slack, offset
            if high > offset:
                offset = round_up(high, alignment)
        offsets[index] = offset if best_slack is None else best_offset
    return offsets


def fixed_offsets(table: ConflictTable) -> list[int]:
    """The offsets of the fixed items, -1 for the others."""
    return [_UNPLACED if item.fixed_offset is None else item.fixed_offset for item in table.items]


def blocked_intervals(table: ConflictTable, offsets: Sequence[int], index: int) -> list[tuple[int, int]]:
    """The open intervals of offsets which the placed neighbors forbid to an item, sorted."""
    blocked = []
    for other, low, high in table.neighbors[index]:
        offset = offsets[other]
        if offset != _UNPLACED:
            blocked.append((offset + low, offset + high))
    blocked.sort()
    return blocked


@dataclass(frozen=True)
class Attempt:
    """A placement found by one rule with one order."""

    offsets: tuple[int, ...]
    order: tuple[int, ...]
    method: str


def item_orders(table: ConflictTable) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The orders worth trying, with the name of what they sort by."""
    items = table.items
    crowding = [
        item.size_bytes + sum(items[other].size_bytes for other in {entry[0] for entry in neighbors})
        for item, neighbors in zip(items, table.neighbors, strict=True)
    ]

    def duration(item: Item) -> int:
        return item.last - item.first + 1

    keys: tuple[tuple[str, list[tuple[int, ...]]], ...] = (
        ("size x duration", [(-item.size_bytes * duration(item), item.first) for item in items]),
        ("size", [(-item.size_bytes, item.first) for item in items]),
        ("duration", [(-duration(item), -item.size_bytes, item.first) for item in items]),
        ("start", [(item.first, -item.size_bytes) for item in items]),
        ("end", [(-item.last, -item.size_bytes) for item in items]),
        ("crowding", [(-crowd, -item.size_bytes) for crowd, item in zip(crowding, items, strict=True)]),
    )
    for name, key in keys:
        yield name, tuple(sorted(range(len(items)), key=lambda index: (key[index], index)))


def portfolio(table: ConflictTable) -> Iterator[Attempt]:
    """Placements by first fit and best fit with every order, the most promising ones first."""
    for name, order in item_orders(table):
        yield Attempt(tuple(first_fit(table, order)), order, f"first fit by {name}")
    for name, order in item_orders(table):
        yield Attempt(tuple(best_fit(table, order)), order, f"best fit by {name}")
