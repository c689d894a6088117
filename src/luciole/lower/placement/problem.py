"""What is to be placed: items with lives, pairwise forbidden intervals, and the check of a result.

Every constraint between two items has one form: the difference of their offsets must not lie strictly inside an
interval. Two items that must share no byte, an output that may overlap the tail of its input, an operator that works in
place, a buffer at a fixed address: all are sets of such intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Interval = tuple[int, int]
"""An open interval (low, high): the integers strictly between the two ends, in bytes."""


@dataclass(frozen=True)
class Item:
    """A block of memory that is needed from instruction step `first` to step `last`, both included.

    `alignment` is a power of two that divides the offset. `fixed_offset` pins the item, `None` lets the solver choose.
    Raises ValueError when a field makes no sense.
    """

    name: str
    size_bytes: int
    alignment: int
    first: int
    last: int
    fixed_offset: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that no placement could satisfy."""
        if self.size_bytes < 0:
            raise ValueError(f"item '{self.name}': size must not be negative, got {self.size_bytes} bytes")
        if self.alignment < 1 or self.alignment & (self.alignment - 1):
            raise ValueError(f"item '{self.name}': alignment must be a power of two, got {self.alignment}")
        if self.last < self.first:
            raise ValueError(f"item '{self.name}': life ends at step {self.last}, before it begins at {self.first}")
        if self.fixed_offset is not None and self.fixed_offset < 0:
            raise ValueError(f"item '{self.name}': fixed offset must not be negative, got {self.fixed_offset}")
        if self.fixed_offset is not None and self.fixed_offset % self.alignment:
            raise ValueError(
                f"item '{self.name}': fixed offset {self.fixed_offset} is no multiple of its alignment {self.alignment}"
            )


@dataclass(frozen=True)
class Forbidden:
    """offset(b) - offset(a) must not lie strictly between `low` and `high`; `a` and `b` are indices of items."""

    a: int
    b: int
    low: int
    high: int


@dataclass(frozen=True)
class PlacementProblem:
    """Items to place from offset 0 up, so that the highest end of any item is as low as possible.

    Two items of non-zero size whose lives meet must be disjoint: offset(b) - offset(a) outside (-size_b, size_a).
    An entry (a, b) of `overrides` replaces that rule for the pair, whether or not the lives meet, by the intervals
    given for offset(b) - offset(a); no interval at all lets the two overlap freely.

    Raises ValueError when an override names unknown items, names a pair twice or has an empty interval, and when two
    items with fixed offsets contradict each other.
    """

    items: tuple[Item, ...]
    overrides: Mapping[tuple[int, int], tuple[Interval, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the overrides and the pairs of fixed items."""
        count = len(self.items)
        for (a, b), intervals in self.overrides.items():
            if not (0 <= a < count and 0 <= b < count):
                raise ValueError(f"override ({a}, {b}) names an item outside 0..{count - 1}")
            if a == b:
                raise ValueError(f"override ({a}, {b}) relates item '{self.items[a].name}' to itself")
            if (b, a) in self.overrides:
                raise ValueError(f"override ({min(a, b)}, {max(a, b)}) is given in both directions")
            for low, high in intervals:
                if low >= high:
                    raise ValueError(
                        f"override of '{self.items[a].name}' and '{self.items[b].name}': "
                        f"interval ({low}, {high}) is empty"
                    )
        for conflict in self.conflicts():
            offset_a, offset_b = self.items[conflict.a].fixed_offset, self.items[conflict.b].fixed_offset
            if offset_a is None or offset_b is None:
                continue
            if conflict.low < offset_b - offset_a < conflict.high:
                raise ValueError(
                    f"items '{self.items[conflict.a].name}' and '{self.items[conflict.b].name}' "
                    f"are fixed at offsets {offset_a} and {offset_b}, which conflict"
                )

    def conflicts(self) -> tuple[Forbidden, ...]:
        """All pairwise constraints, with a < b, ordered by (a, b, low, high)."""
        overridden: dict[tuple[int, int], tuple[Interval, ...]] = {}
        for (a, b), intervals in self.overrides.items():
            overridden[min(a, b), max(a, b)] = intervals if a < b else tuple((-high, -low) for low, high in intervals)
        result = [Forbidden(a, b, low, high) for (a, b), pairs in overridden.items() for low, high in pairs]
        live: list[int] = []
        by_start = sorted(range(len(self.items)), key=lambda index: (self.items[index].first, index))
        for index in by_start:
            item = self.items[index]
            if item.size_bytes == 0:
                continue
            live = [other for other in live if self.items[other].last >= item.first]
            for other in live:
                a, b = min(index, other), max(index, other)
                if (a, b) not in overridden:
                    result.append(Forbidden(a, b, -self.items[b].size_bytes, self.items[a].size_bytes))
            live.append(index)
        return tuple(sorted(result, key=lambda conflict: (conflict.a, conflict.b, conflict.low, conflict.high)))


@dataclass(frozen=True)
class Placement:
    """A valid choice of offsets.

    `offsets` has one entry an item, in bytes. `size_bytes` is the highest end of any item. `lower_bound_bytes` is
    proved: no placement is smaller. `is_optimal` says that the two are equal. `method` names what found the offsets.
    """

    offsets: tuple[int, ...]
    size_bytes: int
    lower_bound_bytes: int
    is_optimal: bool
    method: str

    @property
    def gap_bytes(self) -> int:
        """How much a better placement could save at most; 0 for an optimal one."""
        return self.size_bytes - self.lower_bound_bytes


def placement_size(items: Sequence[Item], offsets: Sequence[int]) -> int:
    """The highest end of any item in bytes, 0 for no items."""
    return max((offset + item.size_bytes for item, offset in zip(items, offsets, strict=True)), default=0)


def check(problem: PlacementProblem, offsets: Sequence[int]) -> tuple[str, ...]:
    """Every violated constraint as a message; empty for a valid placement.

    The rules are evaluated pair by pair from their definition, with none of the solver's code.
    """
    items = problem.items
    if len(offsets) != len(items):
        return (f"{len(items)} items but {len(offsets)} offsets",)
    violations: list[str] = []
    for item, offset in zip(items, offsets, strict=True):
        if offset < 0:
            violations.append(f"'{item.name}' is at the negative offset {offset}")
        if offset % item.alignment:
            violations.append(f"'{item.name}' at offset {offset} is not aligned to {item.alignment} bytes")
        if item.fixed_offset is not None and offset != item.fixed_offset:
            violations.append(f"'{item.name}' is at offset {offset} instead of its fixed offset {item.fixed_offset}")
    for (a, b), intervals in problem.overrides.items():
        for low, high in intervals:
            if low < offsets[b] - offsets[a] < high:
                violations.append(
                    f"'{items[b].name}' is {offsets[b] - offsets[a]} bytes after '{items[a].name}', "
                    f"which the interval ({low}, {high}) forbids"
                )
    for b, item_b in enumerate(items):
        for a in range(b):
            item_a = items[a]
            if item_a.last < item_b.first or item_b.last < item_a.first:
                continue
            if offsets[a] + item_a.size_bytes <= offsets[b] or offsets[b] + item_b.size_bytes <= offsets[a]:
                continue
            if not item_a.size_bytes or not item_b.size_bytes:
                continue
            if (a, b) not in problem.overrides and (b, a) not in problem.overrides:
                violations.append(f"'{item_a.name}' and '{item_b.name}' overlap in memory and in time")
    return tuple(violations)
