"""Exact search: is there a placement of at most so many bytes?

Bodies are placed from the lowest offset to the highest, each as low as those before it allow. Among the smallest
placements one has the least sum of offsets; it can be built in this way, so the search may skip whatever contradicts
that it has the least sum. The rules, for the body placed next at offset x:

1. x is not below the offset of the body placed before, and at the same offset the ranks rise.
2. Nothing unplaced could end, as far as later bodies are concerned, at or below x: it would have moved down.
3. The body rests on something: if it could lie lower than x among the placed ones, it would.
4. In every section the bodies still to come, stacked above the lowest start that any of them has, fit under the limit.
5. Bodies that could change places come in the order of their numbers.

Rules 1, 4 and the fixed preference orders follow MiniMalloc (Moffitt, 2023); 2 and 3 hold for any pairwise distances.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from luciole.lower.placement.intervals import ConflictTable, lowest_allowed
from luciole.lower.placement.model import Model, SearchSpace, build_model, build_search_space, variants
from luciole.lower.placement.portfolio import blocked_intervals, fixed_offsets

_FIRST_SHARE = 20_000
"""Least work granted to each preference order in the first round (enough for two straight descents in any case);
every round grants more."""

_GROWTH = 4

_PLACED = -1


class Budget:
    """Work that may still be spent: visits of bodies and of their neighbors, the same on every machine."""

    def __init__(self, work: int) -> None:
        """Grant `work` visits."""
        self.left = work

    def part(self, work: int) -> Budget:
        """A budget of at most `work`, to be paid back with `spend`."""
        return Budget(min(work, self.left))

    def spend(self, work: int) -> None:
        """Take away what was used; the budget may become negative."""
        self.left -= work


@dataclass(frozen=True)
class Answer:
    """What a search found: offsets, or a proof that there are none, or neither because the work ran out."""

    offsets: tuple[int, ...] | None
    is_impossible: bool


_UNDECIDED = Answer(None, False)
_IMPOSSIBLE = Answer(None, True)


def find_placement(table: ConflictTable, limit_bytes: int, budget: Budget) -> Answer:
    """Offsets for all items that end at or below `limit_bytes`, if there are any and the budget suffices."""
    offsets = fixed_offsets(table)
    if (
        max((item.size_bytes + max(0, at) for item, at in zip(table.items, offsets, strict=True)), default=0)
        > limit_bytes
    ):
        return _IMPOSSIBLE
    core, easy = peel(table, limit_bytes)
    is_undecided = False
    for component in split_components(table, core):
        model = build_model(table, component)
        answer = _search_model(table, model, limit_bytes, budget)
        if answer.is_impossible:
            return answer
        if answer.offsets is None:
            is_undecided = True
            continue
        for index, offset in zip(component, answer.offsets, strict=True):
            offsets[index] = offset
    if is_undecided:
        return _UNDECIDED
    for index in easy:
        blocked = blocked_intervals(table, offsets, index)
        offsets[index] = lowest_allowed(blocked, 0, table.items[index].alignment)
    return Answer(tuple(offsets), False)


def peel(table: ConflictTable, limit_bytes: int) -> tuple[list[int], list[int]]:
    """Split the items without fixed offset into a core and easy ones, to be placed by first fit in that order after it.

    An item is easy when it has more offsets under the limit than all its neighbors in the core can forbid.
    """
    items = table.items
    core = [index for index, item in enumerate(items) if item.fixed_offset is None]
    forbidden = [0] * len(items)
    for index in core:
        alignment = items[index].alignment
        forbidden[index] = sum(-(-(high - low - 1) // alignment) for _, low, high in table.neighbors[index])
    is_easy = [False] * len(items)
    easy: list[int] = []
    position = 0
    queue = list(core)
    while position < len(queue):
        index = queue[position]
        position += 1
        choices = (limit_bytes - items[index].size_bytes) // items[index].alignment + 1
        if is_easy[index] or choices <= forbidden[index]:
            continue
        is_easy[index] = True
        easy.append(index)
        for other, low, high in table.neighbors[index]:
            if items[other].fixed_offset is None and not is_easy[other]:
                forbidden[other] -= -(-(high - low - 1) // items[other].alignment)
                queue.append(other)
    return [index for index in core if not is_easy[index]], easy[::-1]


def split_components(table: ConflictTable, chosen: Sequence[int]) -> list[list[int]]:
    """The chosen items in groups without conflicts between groups, each sorted."""
    remaining = set(chosen)
    components = []
    for start in chosen:
        if start not in remaining:
            continue
        remaining.discard(start)
        group = [start]
        for index in group:
            for other, _, _ in table.neighbors[index]:
                if other in remaining:
                    remaining.discard(other)
                    group.append(other)
        components.append(sorted(group))
    return components


def _search_model(table: ConflictTable, model: Model, limit_bytes: int, budget: Budget) -> Answer:
    """Offsets of the items of a model, each body being one item, in order."""
    is_impossible = True
    has_ties = len(list(itertools.islice(variants(model), 2))) > 1
    for variant in variants(model):
        if budget.left <= 0:
            return _UNDECIDED
        space = build_search_space(table, variant)
        budget.spend(len(variant.bodies) + len(variant.pairs))
        part = budget.part(budget.left if not has_ties else budget.left // 2 + 1)
        granted = part.left
        answer = _search_by_turns(table, variant, space, limit_bytes, part)
        budget.spend(granted - part.left)
        if answer.offsets is not None:
            offset_of = {
                index: offset
                for body, offset in zip(variant.bodies, answer.offsets, strict=True)
                for index in body.members
            }
            return Answer(tuple(offset_of[body.members[0]] for body in model.bodies), False)
        is_impossible = is_impossible and answer.is_impossible
    return Answer(None, is_impossible)


def _search_by_turns(
    table: ConflictTable, model: Model, space: SearchSpace, limit_bytes: int, budget: Budget
) -> Answer:
    """Search with one preference order after the other, each round with more work."""
    preferences = preference_orders(table, model)
    descent = len(model.bodies) ** 2 + 2 * len(model.pairs)
    share = max(_FIRST_SHARE, 2 * descent)
    while budget.left > 0:
        for preference in preferences:
            part = budget.part(share)
            granted = part.left
            answer = search(space, limit_bytes, preference, part)
            budget.spend(granted - part.left)
            if answer.offsets is not None or answer.is_impossible:
                return answer
            if part.left > 0:
                return _UNDECIDED
            if budget.left <= 0:
                break
        share *= _GROWTH
    return _UNDECIDED


def preference_orders(table: ConflictTable, model: Model) -> list[list[int]]:
    """Positions of the bodies in several orders; of bodies at the same offset the one with the lower position is
    tried first."""
    durations = []
    for entry in model.bodies:
        first = min(table.items[index].first for index in entry.members)
        last = max(table.items[index].last for index in entry.members)
        durations.append(last - first + 1)
    sizes = [body.size_bytes for body in model.bodies]
    indices = range(len(model.bodies))
    crowding = list(sizes)
    for a, b in model.pairs:
        crowding[a] += sizes[b]
        crowding[b] += sizes[a]
    orders = (
        sorted(indices, key=lambda body: (-sizes[body] * durations[body], body)),
        sorted(indices, key=lambda body: (-durations[body], -sizes[body], body)),
        sorted(indices, key=lambda body: (-sizes[body], -durations[body], body)),
        sorted(indices, key=lambda body: (-crowding[body], -sizes[body] * durations[body], body)),
        sorted(indices, key=lambda body: (table.items[model.bodies[body].members[0]].first, -sizes[body], body)),
    )
    result = []
    for order in orders:
        positions = [0] * len(order)
        for position, body in enumerate(order):
            positions[body] = position
        result.append(positions)
    return result


@dataclass(slots=True)
class _State:
    """A partial placement. `lowest[i]` is the lowest offset left to body i, -1 once it is placed.

    `latest` are the offsets above which the unplaced counted bodies of a section must not all lie, lest they exceed the
    limit; the highest of them may be short of its share by its padding, and then so much is added. `choices` are the
    (offset, body) still to try, the best last.
    """

    lowest: list[int]
    latest: list[int]
    unplaced: list[int]
    level: int
    rank: int
    choices: list[tuple[int, int]]


def search(space: SearchSpace, limit_bytes: int, preference: Sequence[int], budget: Budget) -> Answer:
    """Depth-first search for offsets of the bodies that all end at or below the limit."""
    count = len(space.sizes)
    lowest = [
        lowest_allowed(blocked, 0, alignment)
        for blocked, alignment in zip(space.blocked, space.alignments, strict=True)
    ]
    latest = [limit_bytes - need for need in space.section_need]
    impossible = _IMPOSSIBLE if space.is_complete else _UNDECIDED
    if any(offset + size > limit_bytes for offset, size in zip(lowest, space.sizes, strict=True)):
        return impossible
    state = _State(lowest, latest, list(range(count)), 0, -1, [])
    state.choices = _list_choices(space, state, preference, [], limit_bytes)
    budget.spend(count)
    path: list[tuple[int, int]] = []
    stack = [state]
    while stack:
        state = stack[-1]
        if not state.choices:
            stack.pop()
            continue
        offset, body = state.choices.pop()
        del path[len(stack) - 1 :]
        path.append((body, offset))
        budget.spend(len(space.after[body]) + len(state.unplaced))
        child = _place(space, state, body, offset, limit_bytes)
        if child is not None:
            if not child.unplaced:
                offsets = [0] * count
                for placed, at in path:
                    offsets[placed] = at
                return Answer(tuple(offsets), False)
            child.choices = _list_choices(space, child, preference, path, limit_bytes)
            if child.choices:
                stack.append(child)
        if budget.left <= 0:
            return _UNDECIDED
    return impossible


def _place(space: SearchSpace, state: _State, body: int, offset: int, limit_bytes: int) -> _State | None:
    """The state after placing a body, or None when another one no longer fits under the limit."""
    lowest = state.lowest.copy()
    lowest[body] = _PLACED
    sizes, alignments, blocked = space.sizes, space.alignments, space.blocked
    for other, distance in space.after[body]:
        if 0 <= lowest[other] < offset + distance:
            start = lowest_allowed(blocked[other], offset + distance, alignments[other])
            if start + sizes[other] > limit_bytes:
                return None
            lowest[other] = start
    latest = state.latest.copy()
    for section, size in zip(space.sections[body], space.shares[body], strict=True):
        latest[section] += size
    unplaced = [other for other in state.unplaced if other != body]
    return _State(lowest, latest, unplaced, offset, space.rank[body], [])


def _list_choices(
    space: SearchSpace, state: _State, preference: Sequence[int], path: Sequence[tuple[int, int]], limit_bytes: int
) -> list[tuple[int, int]]:
    """The (offset, body) that may come next, the preferred one last; none if something no longer fits."""
    lowest, level, latest = state.lowest, state.level, state.latest
    reach, rank, twin, sections, padding = space.reach, space.rank, space.twin, space.sections, space.padding
    found: list[tuple[int, int, int]] = []
    end = strictest = limit_bytes + 1
    beginnings = [end] * len(latest)
    paddings = [0] * len(latest)
    for body in state.unplaced:
        own = lowest[body]
        start = own
        if own < level:
            start = lowest_allowed(space.blocked[body], level, space.alignments[body])
            if start + space.sizes[body] > limit_bytes:
                return []
        if start + reach[body] < end:
            end = start + reach[body]
        for section in sections[body]:
            if start < beginnings[section]:
                beginnings[section] = start
        if padding[body]:
            for section in sections[body]:
                paddings[section] = max(paddings[section], padding[body])
        if start == level and rank[body] < state.rank:
            continue
        if twin[body] >= 0 and lowest[twin[body]] >= 0:
            continue
        if own < level and not _is_held_up(space, body, own, path):
            continue
        found.append((start, preference[body], body))
    # Rule 4: of each section one counted body begins at or below the latest start, and the next body, below which
    # none of those to come begins, lies at or below the latest start of every section.
    for beginning, last, missing in zip(beginnings, latest, paddings, strict=True):
        if beginning <= limit_bytes:
            if beginning > last + missing:
                return []
            strictest = min(strictest, last + missing)
    found = [entry for entry in found if entry[0] <= strictest and entry[0] < end]
    found.sort(reverse=True)
    return [(start, body) for start, _, body in found]


def _is_held_up(space: SearchSpace, body: int, offset: int, path: Sequence[tuple[int, int]]) -> bool:
    """Whether a placed body forbids `offset` to `body` from above (rule 3)."""
    if not space.overhang[body]:
        return False
    offsets = dict(path)
    return any(other in offsets and 0 < offsets[other] - offset < distance for other, distance in space.overhang[body])
