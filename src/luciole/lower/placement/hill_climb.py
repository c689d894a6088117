"""Improvement of a first-fit order by small random changes where the placement is highest.

An item at the top stands on a chain of items, each of which ends where the next begins. Shortening the placement takes
a change to that chain, so a step moves one of its items before another place in the order, and keeps the new order
unless the placement grew. The idea of looking for the bottleneck is that of Vela's hill-climb allocator.
"""

from __future__ import annotations

from collections.abc import Sequence

from luciole.lower.placement.intervals import ConflictTable
from luciole.lower.placement.portfolio import Attempt, first_fit
from luciole.lower.placement.problem import placement_size

_STAGNATION_LIMIT = 200
"""Steps without a better placement after which the search returns to the best order and disturbs it."""

_DISTURBANCES = 4
"""Random moves made at such a return."""

_VISITS_OF_ITEM = 10
"""What an item costs in a step besides its conflicts, in visits (measured)."""


class RandomNumbers:
    """Marsaglia's xorshift64 generator: the same numbers for the same seed, on every machine and Python."""

    def __init__(self, seed: int) -> None:
        """Begin with `seed`, any integer."""
        self._state = (seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**64 or 1

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        state = self._state
        state ^= state << 13 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= state << 17 & 0xFFFFFFFFFFFFFFFF
        self._state = state
        return (state >> 11) * limit >> 53


def hill_climb(table: ConflictTable, start: Attempt, bound: int, work: int, seed: int) -> Attempt:
    """The best placement met from the order of `start`, which is returned itself when nothing better is found.

    Stops at a size of `bound` bytes. `work` limits the visits of neighbors, a measure of time that does not depend on
    the machine: a step visits every conflict of every item.
    """
    items = table.items
    movable = sum(item.fixed_offset is None for item in items)
    if movable < 2:
        return start
    cost = _VISITS_OF_ITEM * len(items) + sum(len(neighbors) for neighbors in table.neighbors)
    random = RandomNumbers(seed)
    best, best_size = start, placement_size(items, start.offsets)
    order = [index for index in start.order if items[index].fixed_offset is None]
    offsets = first_fit(table, order)
    size = placement_size(items, offsets)
    stagnation = 0
    for _ in range(work // cost):
        if best_size <= bound:
            break
        candidate = list(order)
        stagnation += 1
        if stagnation > _STAGNATION_LIMIT:
            stagnation = 0
            candidate = [index for index in best.order if items[index].fixed_offset is None]
            for _ in range(_DISTURBANCES):
                candidate.insert(random.below(len(candidate)), candidate.pop(random.below(len(candidate))))
            size = -1
        else:
            chain = _supporting_chain(table, offsets, size, random)
            _move_one(candidate, chain, random)
        candidate_offsets = first_fit(table, candidate)
        candidate_size = placement_size(items, candidate_offsets)
        if candidate_size <= size or size < 0:
            order, offsets, size = candidate, candidate_offsets, candidate_size
        if size < best_size:
            best, best_size, stagnation = Attempt(tuple(offsets), tuple(order), "hill climb"), size, 0
    return best


def _supporting_chain(table: ConflictTable, offsets: Sequence[int], size: int, random: RandomNumbers) -> list[int]:
    """Items from one at the top down to one at the bottom, each begun where a neighbor below forbids anything lower."""
    items = table.items
    top = [index for index, item in enumerate(items) if offsets[index] + item.size_bytes == size]
    current = top[random.below(len(top))]
    chain = [current]
    while True:
        supports = sorted(
            {
                other
                for other, _, high in table.neighbors[current]
                if offsets[other] < offsets[current]
                and 0 <= offsets[current] - offsets[other] - high < items[current].alignment
            }
        )
        if not supports:
            return chain
        current = supports[random.below(len(supports))]
        chain.append(current)


def _move_one(order: list[int], chain: Sequence[int], random: RandomNumbers) -> None:
    """Move or swap one item of the chain with another place of the order."""
    movable = [index for index in chain if index in order]
    if not movable:
        movable = order
    position = order.index(movable[random.below(len(movable))])
    other = random.below(len(order))
    if random.below(2):
        order[position], order[other] = order[other], order[position]
    else:
        order.insert(other, order.pop(position))
