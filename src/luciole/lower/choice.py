"""Which kernel each operator takes: the trade of time for flash, as one curve for the whole model.

Every operator has alternatives with estimated costs. A choice of one for each costs the sum of their cycles, the sum of
their constants, and the code of each kernel once, however many layers run it. `frontier` gives the choices that no
other beats in both cycles and bytes, and what is asked for is a point on that curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from luciole.graph.core import Graph, Operator
from luciole.ir.target import Target
from luciole.options import Optimize
from luciole.targets.base import Alternative, KernelRecipe, alternatives

#: What `balanced` and `size` may cost: instructions of the fastest choice times this; for `size`, which is
#: promised to stay within 1.5, before and after kernels are shared.
BALANCED_SLOWDOWN, SIZE_SLOWDOWN, SHARED_SLOWDOWN = 1.1, 1.3, 1.42
#: A percent of flash counts as much as so many percent of time for `balanced`: most of flash is weights, of which no
#: choice spares much.
_FLASH_WEIGHT = 2
#: Points kept while curves are added up.
_MAXIMUM_POINTS = 400
#: Layers of equal shapes are given so many different kernels at most.
_KERNELS_OF_EQUAL_LAYERS = 2


@dataclass(frozen=True)
class Point:
    """A choice for some operators and what it costs; `flash_bytes` are constants and code."""

    cycles: int
    instructions: int
    flash_bytes: int
    chosen: tuple[tuple[Operator, KernelRecipe], ...] = ()
    #: Instructions that may be added by sharing kernels.
    spare_instructions: int = 0

    def plus(self, other: Point) -> Point:
        """Both choices together."""
        return Point(
            self.cycles + other.cycles,
            self.instructions + other.instructions,
            self.flash_bytes + other.flash_bytes,
            self.chosen + other.chosen,
        )


def frontier(layers: Mapping[Operator, Sequence[Alternative]]) -> list[Point]:
    """The choices that no other beats in both cycles and flash, fastest first; exact but for layers of equal shapes,
    which are given two different kernels at most.
    """
    points = [Point(0, 0, 0)]
    for group in _groups(layers):
        points = _pruned(a.plus(b) for a in points for b in _group_frontier(group))
    return points


def pick(points: Sequence[Point], optimize: Optimize) -> Point:
    """The point that serves a purpose: the fastest, the smallest within `SIZE_SLOWDOWN`, or, for `balanced`, that of
    the least product of cycles and squared bytes within `BALANCED_SLOWDOWN`.
    """
    fastest = points[0]
    if optimize == "size":
        smallest = min(_within(points, SIZE_SLOWDOWN), key=lambda p: p.flash_bytes)
        spare = int(SHARED_SLOWDOWN * min(p.instructions for p in points)) - smallest.instructions
        return replace(smallest, spare_instructions=max(0, spare))
    if optimize == "balanced":
        return min(_within(points, BALANCED_SLOWDOWN), key=lambda p: p.cycles * max(1, p.flash_bytes) ** _FLASH_WEIGHT)
    return fastest


def choose(graph: Graph, target: Target, optimize: Optimize) -> Point:
    """A recipe for each operator that has a choice, and what that costs."""
    if optimize == "ram":
        return Point(0, 0, 0)
    return pick(frontier(all_alternatives(graph, target, optimize)), optimize)


def all_alternatives(graph: Graph, target: Target, optimize: Optimize) -> dict[Operator, list[Alternative]]:
    """The alternatives of each operator that has several.

    `balanced` looks at the variants of the usual recipe only, which is quick; `speed` and `size` at everything.
    """
    found = {
        op: alternatives(op, target, may_trade_memory=optimize == "speed", is_quick=optimize == "balanced")
        for op in graph.operators
        if not op.is_view
    }
    return {op: several for op, several in found.items() if len(several) > 1}


def _within(points: Sequence[Point], slowdown: float) -> list[Point]:
    least = min(p.instructions for p in points)
    return [p for p in points if p.instructions <= slowdown * least] or list(points[:1])


def _groups(layers: Mapping[Operator, Sequence[Alternative]]) -> list[dict[Operator, Sequence[Alternative]]]:
    """The layers, those together that could run one kernel."""
    groups: list[tuple[set[str], dict[Operator, Sequence[Alternative]]]] = []
    for op, several in layers.items():
        names = {a.bound.kernel.name for a in several}
        joined: dict[Operator, Sequence[Alternative]] = {}
        for known, members in [g for g in groups if g[0] & names]:
            names |= known
            joined |= members
            groups.remove((known, members))
        groups.append((names, joined | {op: several}))
    return [members for _, members in groups]


def _group_frontier(group: Mapping[Operator, Sequence[Alternative]]) -> list[Point]:
    """The curve of layers that could run one kernel."""
    code = {a.bound.kernel.name: a.code_bytes for several in group.values() for a in several}
    sizes = range(1, 1 + min(len(group), _KERNELS_OF_EQUAL_LAYERS))
    found: list[Point] = []
    for names in (set(some) for size in sizes for some in combinations(code, size)):
        points = [Point(0, 0, sum(code[name] for name in names))]
        for op, several in group.items():
            own = [
                Point(a.cost.cycles, a.cost.instructions, a.bound.constant_bytes, ((op, a.recipe),))
                for a in several
                if a.bound.kernel.name in names
            ]
            points = _pruned(a.plus(b) for a in points for b in own)
        found += points
    return _pruned(found)


def _pruned(points: Iterable[Point]) -> list[Point]:
    """The points that none beats, fastest first; where there are too many, some from each part of the curve."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cycles, p.flash_bytes)):
        if not kept or point.flash_bytes < kept[-1].flash_bytes:
            kept.append(point)
    if len(kept) <= _MAXIMUM_POINTS:
        return kept
    return [kept[i * (len(kept) - 1) // (_MAXIMUM_POINTS - 1)] for i in range(_MAXIMUM_POINTS)]
