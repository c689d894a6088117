"""Which operators run row by row: the best division of the order into streams and single operators."""

from __future__ import annotations

from dataclasses import dataclass

from luciole.graph.core import Graph
from luciole.ir.target import Target
from luciole.lower.lower import BuiltKernels, LoweringOptions, lower
from luciole.lower.streams.estimate import Group, StreamEstimator, direct_groups
from luciole.lower.streams.lowering import StreamChoice
from luciole.program.core import Program

#: How many rows operators compute at a time, of which each stream takes one: two need larger rings and fewer
#: instructions, for kernels of pairs of pixels, and for Winograd's, which need two. For resnet8 in 33 KB that are 25 %
#: with --optimize speed, for vww in 29 KB 1.5 %. Three to five gain another percent at most.
ROWS = (1, 2)


@dataclass(frozen=True)
class Division:
    """Groups one behind the other that run all operators of a graph."""

    groups: tuple[Group, ...]

    @property
    def size_bytes(self) -> int:
        """The most that any group needs."""
        return max((group.size_bytes for group in self.groups), default=0)

    @property
    def instructions(self) -> int:
        """What all groups cost together, an estimate."""
        return sum(group.instructions for group in self.groups)

    @property
    def streams(self) -> tuple[StreamChoice, ...]:
        """The groups that are streams."""
        return tuple(group.stream for group in self.groups if group.stream is not None)


@dataclass(frozen=True)
class _Tail:
    """Groups that run the last operators: their cost, and the least offset that the tensor they begin with can have.

    Results lie below the inputs that they overlap, so that the distances of such groups in a row add up.
    """

    instructions: int
    offset: int
    group: Group | None = None
    rest: _Tail | None = None


class Divider:
    """Divides one graph within any number of bytes; what groups need is found once."""

    def __init__(self, graph: Graph, target: Target, options: LoweringOptions, *, is_pushed: bool = False) -> None:
        """With `is_pushed` the rows of the model's one input come from the caller one after another."""
        self.graph = graph
        self.target = target
        self.options = options
        self.code = [op for op in graph.operators if not op.is_view]
        self.built: BuiltKernels = {}
        smallest = lower(graph, target, options, frozenset(self.code), built=self.built)
        fastest = lower(graph, target, options, built=self.built)
        direct = [
            direct_groups(program, target, is_small=is_small)
            for program, is_small in ((smallest, True), (fastest, False))
        ]
        #: The groups that begin with each operator.
        self.groups: list[list[Group]] = [list(groups) for groups in zip(*direct, strict=True)]
        self.most_bytes = max((min(group.size_bytes for group in groups) for groups in self.groups), default=0)
        estimators = [
            StreamEstimator(graph, target, options, rows=rows, pushed=graph.inputs[0] if is_pushed else None)
            for rows in ROWS
        ]
        if is_pushed:
            # Only a stream with all that read the input can take its rows.
            readers = {step for step, op in enumerate(self.code) if graph.inputs[0] in op.operands}
            last_reader = max(readers, default=0)
            self.groups = [[g for g in groups if step > last_reader] for step, groups in enumerate(self.groups)]
            self.most_bytes = sum(value.type.size_bytes for value in graph.values() if not value.is_constant)
        # No stream that needs more than the largest single operator is of use.
        ends = range(len(self.code))
        for estimator, last in ((estimator, last) for estimator in estimators for last in ends):
            for group in estimator.streams_ending_at(last, self.most_bytes):
                if not is_pushed or (group.first == 0 and last >= last_reader) or group.first > last_reader:
                    self.groups[group.first].append(group)

    def smallest_bytes(self) -> int:
        """The least that some division needs, within a thousandth."""
        low, high = 0, 2 * self.most_bytes
        while high - low > max(16, high // 1000):
            middle = (low + high) // 2
            if self.fastest_within(middle) is None:
                low = middle
            else:
                high = middle
        return high

    def fastest_within(self, limit: int) -> Division | None:
        """The division with the least cost whose groups all need at most so many bytes; None where there is none."""
        tails: list[list[_Tail]] = [[] for _ in range(len(self.code) + 1)]
        tails[-1] = [_Tail(0, 0)]
        for first in reversed(range(len(self.code))):
            found = [
                _Tail(tail.instructions + group.instructions, offset, group, tail)
                for group in self.groups[first]
                if group.size_bytes <= limit
                for tail in tails[group.last + 1]
                if (offset := _offset(group, tail.offset, limit)) is not None
            ]
            found.sort(key=lambda tail: (tail.instructions, tail.offset))
            for tail in found:
                if not tails[first] or tail.offset < tails[first][-1].offset:
                    tails[first].append(tail)
        if not tails[0]:
            return None
        chosen: list[Group] = []
        rest: _Tail | None = tails[0][0]
        while rest is not None:
            chosen += [rest.group] if rest.group is not None else []
            rest = rest.rest
        return Division(tuple(chosen))

    def lowered(self, division: Division) -> Program:
        """The program of a division, without places."""
        small = frozenset(self.code[group.first] for group in division.groups if group.is_small)
        return lower(self.graph, self.target, self.options, small, division.streams, self.built)


def _offset(group: Group, result_offset: int, limit: int) -> int | None:
    """The least offset of a group's source in so many bytes, when its result lies at an offset at least; None where
    the group does not fit.
    """
    if group.other_bytes + sum(group.pair_bytes) <= limit:
        return 0
    above = result_offset + group.core_bytes + group.other_bytes
    if above <= limit:
        return result_offset + group.distance_bytes
    below = max(result_offset, group.other_bytes)
    return below + group.distance_bytes if below + group.core_bytes <= limit else None
