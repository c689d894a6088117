"""The form of a problem that exact search works on.

A *body* is one item, or several that lie at the same offset. The search places bodies from the lowest offset to the
highest, so of the intervals of a pair it needs two numbers: how far above `a` must `b` begin when it comes later, and
the reverse. That loses nothing for a *regular* pair, whose only interval reaches from a difference <= 0 to one >= 0:
disjoint items are such pairs, diagonal overlap is another.

A *tie* is a pair which may lie at exactly the same offset but is kept apart on both sides of it (in place). A model
with ties stands for several without: in each, a tie is either merged into one body or kept apart.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luciole.lower.placement.bound import best_subset, fixed_intervals
from luciole.lower.placement.intervals import (
    ConflictTable,
    live_sets,
    mirror_intervals,
    normalize_intervals,
    round_up,
)
from luciole.lower.placement.problem import Interval


@dataclass(frozen=True)
class Body:
    """Items at one common offset; `blocked` are the offsets that fixed items forbid to it, sorted."""

    members: tuple[int, ...]
    size_bytes: int
    alignment: int
    blocked: tuple[Interval, ...]


@dataclass(frozen=True)
class Model:
    """Bodies and the intervals of their pairs: `pairs[a, b]`, a < b, restricts offset(b) - offset(a)."""

    bodies: tuple[Body, ...]
    pairs: dict[tuple[int, int], tuple[Interval, ...]]


def build_model(table: ConflictTable, chosen: Sequence[int]) -> Model:
    """One body for each chosen item, none of which may be fixed."""
    bodies = tuple(
        Body(
            (index,),
            table.items[index].size_bytes,
            table.items[index].alignment,
            tuple(fixed_intervals(table, index)),
        )
        for index in chosen
    )
    position = {index: body for body, index in enumerate(chosen)}
    pairs: dict[tuple[int, int], tuple[Interval, ...]] = {}
    for (a, b), intervals in table.pairs.items():
        if a in position and b in position:
            if position[a] < position[b]:
                pairs[position[a], position[b]] = intervals
            else:
                pairs[position[b], position[a]] = mirror_intervals(intervals)
    return Model(bodies, pairs)


def variants(model: Model) -> Iterator[Model]:
    """Models without ties that together allow what `model` allows; those with most ties merged come first."""
    waiting = [model]
    while waiting:
        current = waiting.pop()
        tie = next((key for key, intervals in current.pairs.items() if _has_tie(intervals)), None)
        if tie is None:
            yield current
            continue
        apart = dict(current.pairs)
        apart[tie] = ((current.pairs[tie][0][0], current.pairs[tie][-1][1]),)
        waiting.append(Model(current.bodies, apart))
        waiting.append(_merge(current, *tie))


def _has_tie(intervals: Sequence[Interval]) -> bool:
    """Whether the difference 0 is allowed but none next to it."""
    return any(low == 0 for low, _ in intervals) and any(high == 0 for _, high in intervals)


def _merge(model: Model, a: int, b: int) -> Model:
    """The model with the bodies a < b at the same offset; `b` goes, `a` stands for both."""
    first, second = model.bodies[a], model.bodies[b]
    merged = Body(
        first.members + second.members,
        max(first.size_bytes, second.size_bytes),
        max(first.alignment, second.alignment),
        tuple(sorted(first.blocked + second.blocked)),
    )
    bodies = [merged if index == a else body for index, body in enumerate(model.bodies) if index != b]
    collected: dict[tuple[int, int], list[Interval]] = {}
    for (low_index, high_index), intervals in model.pairs.items():
        left, right = (a if index == b else index - (index > b) for index in (low_index, high_index))
        if left == right:
            continue
        key = (min(left, right), max(left, right))
        collected.setdefault(key, []).extend(intervals if left < right else mirror_intervals(intervals))
    pairs: dict[tuple[int, int], tuple[Interval, ...]] = {}
    for key, gathered in sorted(collected.items()):
        granularity = min(bodies[key[0]].alignment, bodies[key[1]].alignment)
        normalized = normalize_intervals(gathered, granularity)
        if normalized:
            pairs[key] = normalized
    return Model(tuple(bodies), pairs)


@dataclass(frozen=True)
class SearchSpace:
    """A model without ties, tabulated for the search. Lists are indexed by body, `section_*` by section.

    A section is a step at which something ends; in each, some live bodies are *counted*, all of which are disjoint.

    after: (other, bytes): `other`, placed later, begins at least that far above this body.
    reach: the greatest of these distances, at least 1; nothing placed later that far above is in conflict.
    overhang: (other, bytes) for those placed earlier that bind this body only when they lie above it.
    rank: the order of bodies at equal offsets.
    twin: an earlier body that could change places with this one, or -1.
    sections: those that count this body.
    shares: what it adds to the sum of each of these, in bytes.
    padding: the most by which a share exceeds the bytes that the body has in that section.
    section_need: the sum of the shares, bytes that the counted bodies of a section occupy if all are padded.
    is_complete: no placement of the model is lost; a search without result proves that there is none.
    """

    sizes: tuple[int, ...]
    alignments: tuple[int, ...]
    blocked: tuple[tuple[Interval, ...], ...]
    after: tuple[tuple[tuple[int, int], ...], ...]
    reach: tuple[int, ...]
    overhang: tuple[tuple[tuple[int, int], ...], ...]
    rank: tuple[int, ...]
    twin: tuple[int, ...]
    sections: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[int, ...], ...]
    padding: tuple[int, ...]
    section_need: tuple[int, ...]
    is_complete: bool


def build_search_space(table: ConflictTable, model: Model) -> SearchSpace:
    """Tabulate a model that has no ties."""
    count = len(model.bodies)
    distance: list[dict[int, int]] = [{} for _ in range(count)]
    lower_first: list[tuple[int, int]] = []
    is_complete = True
    for (a, b), intervals in model.pairs.items():
        above, below = max(0, intervals[-1][1]), max(0, -intervals[0][0])
        if above:
            distance[a][b] = above
        if below:
            distance[b][a] = below
        if len(intervals) > 1 or not intervals[0][0] <= 0 <= intervals[0][1]:
            is_complete = False
        elif not above:
            lower_first.append((a, b))
        elif not below:
            lower_first.append((b, a))
    rank, is_acyclic = _rank_bodies(count, lower_first)
    sections = _Sections.build(table, model, distance)
    return SearchSpace(
        sizes=tuple(body.size_bytes for body in model.bodies),
        alignments=tuple(body.alignment for body in model.bodies),
        blocked=tuple(body.blocked for body in model.bodies),
        after=tuple(tuple(sorted(entry.items())) for entry in distance),
        reach=tuple(max(entry.values(), default=1) for entry in distance),
        overhang=tuple(
            tuple((b, bytes_) for b, bytes_ in sorted(entry.items()) if a not in distance[b])
            for a, entry in enumerate(distance)
        ),
        rank=rank,
        twin=_find_twins(model),
        sections=tuple(tuple(section for section, _ in entry) for entry in sections.counted),
        shares=tuple(tuple(size for _, size in entry) for entry in sections.counted),
        padding=sections.padding,
        section_need=sections.need,
        is_complete=is_complete and is_acyclic,
    )


def _rank_bodies(count: int, lower_first: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], bool]:
    """Ranks in which the first body of each pair comes before the second, and whether such ranks exist."""
    followers: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for earlier, later in lower_first:
        followers[earlier].append(later)
        waiting[later] += 1
    ready = [body for body in range(count) if not waiting[body]]
    ranks = [count] * count
    ranked = 0
    while ready:
        body = heapq.heappop(ready)
        ranks[body] = ranked
        ranked += 1
        for later in followers[body]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, later)
    return tuple(ranks), ranked == count


def _find_twins(model: Model) -> tuple[int, ...]:
    """For each body the last one before it, in conflict with it, of the same size and relation to others, else -1."""
    relations: list[dict[int, tuple[Interval, ...]]] = [{} for _ in model.bodies]
    for (a, b), intervals in model.pairs.items():
        relations[a][b] = intervals
        relations[b][a] = mirror_intervals(intervals)
    alike: dict[tuple[int, int, tuple[Interval, ...], frozenset[int]], list[int]] = {}
    twins = [-1] * len(model.bodies)
    for index, body in enumerate(model.bodies):
        # Bodies in conflict with each other and with the same others have the same neighbors, each one included.
        neighborhood = frozenset(relations[index]) | {index}
        earlier = alike.setdefault((body.size_bytes, body.alignment, body.blocked, neighborhood), [])
        for other in reversed(earlier):
            own = {key: value for key, value in relations[index].items() if key != other}
            others = {key: value for key, value in relations[other].items() if key != index}
            mutual = relations[index][other]
            if mutual == mirror_intervals(mutual) and own == others:
                twins[index] = other
                break
        earlier.append(index)
    return tuple(twins)


@dataclass(frozen=True)
class _Sections:
    """The part of a search space that describes sections; see there."""

    counted: tuple[tuple[tuple[int, int], ...], ...]
    need: tuple[int, ...]
    padding: tuple[int, ...]

    @staticmethod
    def build(table: ConflictTable, model: Model, distance: Sequence[dict[int, int]]) -> _Sections:
        """The sections of a model whose later bodies keep the distances given."""
        body_of = {index: body for body, entry in enumerate(model.bodies) for index in entry.members}
        granularity = min((body.alignment for body in model.bodies), default=1)
        counted: list[list[tuple[int, int]]] = [[] for _ in model.bodies]
        need: list[int] = []
        padding = [0] * len(model.bodies)
        for section, live in enumerate(live_sets(table.items, sorted(body_of))):
            sizes: dict[int, int] = {}
            for index in live:
                body = body_of[index]
                sizes[body] = max(sizes.get(body, 0), table.items[index].size_bytes)
            weights = {body: round_up(size, granularity) for body, size in sizes.items()}
            alive = sorted(weights)
            exclusive = {
                (a, b): weights[a] + weights[b]
                for position, a in enumerate(alive)
                for b in alive[position + 1 :]
                if distance[a].get(b, 0) < weights[a] or distance[b].get(a, 0) < weights[b]
            }
            total, chosen = best_subset(weights, exclusive)
            need.append(total)
            for body in chosen:
                padding[body] = max(padding[body], weights[body] - sizes[body])
                counted[body].append((section, weights[body]))
        return _Sections(
            tuple(tuple(entry) for entry in counted),
            tuple(need),
            tuple(padding),
        )
