"""Programs that fit into RAM: as fast as they can be within so many bytes, or as small as they can be.

There are three ways, each slower than the one before: every tensor apart from others, results over the inputs that
nobody needs any more, and neighboring operators row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.extract import copy_graph
from luciole.ir.target import Target
from luciole.lower.lower import LoweringOptions, lower
from luciole.lower.overlap import lower_small
from luciole.lower.parts import place_parts
from luciole.lower.plan import plan_memory
from luciole.lower.streams.choose import Divider
from luciole.lower.streams.estimate import direct_groups
from luciole.lower.streams.pools import split_global_averages
from luciole.program.core import Program

#: How often a division is made again for fewer bytes, when its places leave gaps.
TRIES = 6
#: Limits for which trade-offs are looked for.
CURVE_POINTS = 8
#: Percents above the least estimate for which divisions are tried, too: one may leave fewer gaps.
SLACKS = (0, 1, 3)


def lower_without_copies(graph: Graph, target: Target, options: LoweringOptions) -> Program:
    """The program of an ordered graph; tensors that others are made of lie in these, where that is possible."""
    program = lower_small(graph, target, options) if options.allows_overlap else lower(graph, target, options)
    return place_parts(program) if options.places_parts else program


@dataclass(frozen=True)
class TradeOff:
    """A program that no other beats in both RAM and estimated instructions; how it saves, and how many layers run
    row by row.
    """

    arena_bytes: int
    instructions: int
    way: str
    streamed_layers: int


@dataclass(frozen=True)
class Fitting:
    """Finds programs of one graph for different amounts of RAM. `lowered` is one of them, as `options` want it, without
    places.
    """

    lowered: Program
    target: Target
    options: LoweringOptions
    is_pushed: bool = False

    @property
    def graph(self) -> Graph:
        """The graph, its operators in order."""
        return self.lowered.graph

    @cached_property
    def _overlapping(self) -> LoweringOptions:
        return replace(self.options, allows_overlap=True)

    @cached_property
    def plain(self) -> Program:
        """Every tensor apart."""
        if not self.options.allows_overlap:
            return plan_memory(self.lowered)
        return plan_memory(lower_without_copies(self.graph, self.target, replace(self.options, allows_overlap=False)))

    @cached_property
    def overlapped(self) -> Program:
        """Results over inputs, operators one after the other."""
        if self.options.allows_overlap:
            return plan_memory(self.lowered)
        return plan_memory(lower_without_copies(self.graph, self.target, self._overlapping))

    @cached_property
    def divider(self) -> Divider:
        """What tells which operators should run row by row."""
        graph = copy_graph(self.graph)
        split_global_averages(graph)
        return Divider(graph, self.target, self._overlapping, is_pushed=self.is_pushed)

    def trade_offs(self) -> list[TradeOff]:
        """From the fastest program to the smallest; at most so many points as `CURVE_POINTS`."""
        points: list[TradeOff] = []

        def add(program: Program, instructions: int, way: str) -> None:
            size = program.arena.size_bytes
            if not points or size < points[-1].arena_bytes:
                layers = sum(len(stream.steps) for stream in program.streams)
                points.append(TradeOff(size, instructions, way, layers))

        if not self.is_pushed:
            add(self.plain, self._direct_instructions(self.plain), "every tensor apart")
            add(self.overlapped, self._direct_instructions(self.overlapped), "results over inputs")
        way = "rows from the caller" if self.is_pushed else "row by row"
        least = self.divider.smallest_bytes()
        highest = points[-1].arena_bytes - 16 if points else 2 * self.divider.most_bytes
        for point in range(CURVE_POINTS):
            limit = highest - (highest - least) * point // (CURVE_POINTS - 1)
            division = self.divider.fastest_within(limit)
            if division is not None and division.streams:
                add(plan_memory(self.divider.lowered(division)), division.instructions, way)
        return [p for p in points if all(p is q or p.instructions < q.instructions for q in points[points.index(p) :])]

    def _direct_instructions(self, program: Program) -> int:
        """What the instructions of a program without streams cost, an estimate."""
        return sum(group.instructions for group in direct_groups(program, self.target, is_small=False))

    def smallest(self) -> Program:
        """The program with the smallest arena that is found."""
        least = self.divider.smallest_bytes()
        found = [] if self.is_pushed else [self.overlapped]
        for slack in SLACKS:
            found += self._divided(least + least * slack // 100)
            if found[-1].arena.size_bytes <= least:
                break
        while True:
            best = min(found, key=lambda program: program.arena.size_bytes)
            found = [*self._divided(best.arena.size_bytes - 1)]
            if all(program.arena.size_bytes >= best.arena.size_bytes for program in found):
                return best

    def pushed(self, max_bytes: int | None) -> Program:
        """The fastest program within so many bytes, the smallest without a limit, that takes the rows of its input
        from the caller one after another. Raises `CompileError` where that cannot be.
        """
        self.check_pushed()
        if max_bytes is not None:
            for program in self._divided(max_bytes):
                if program.arena.size_bytes <= max_bytes:
                    return program
        return self.smallest()

    def check_pushed(self) -> None:
        """Raise `CompileError` where the rows of the input cannot come from the caller one after another."""
        inputs = self.graph.inputs
        if len(inputs) != 1 or inputs[0].type.rank != 4 or inputs[0].type.shape[0] != 1:
            shapes = ", ".join(f"{value!r}" for value in inputs)
            raise CompileError.of(
                "no-input-rows",
                f"--input-rows needs a model with one input of the shape [1, height, width, channels], not {shapes}",
                help="leave --input-rows away",
            )
        if self.graph.is_output(inputs[0]) or self.divider.fastest_within(1 << 40) is None:
            readers = ", ".join(user.location.node or user.kind for user in inputs[0].users)
            raise CompileError.of(
                "no-input-rows",
                f"the input cannot come row by row: not all that reads it can run on a few rows ({readers})",
                help="--input-layout nhwc, if the model begins with a transpose; else leave --input-rows away",
            )

    def fastest(self) -> Program:
        """The fastest program, whatever it takes."""
        if not self.is_pushed:
            return self.plain
        self.check_pushed()
        return next(self._divided(1 << 40))

    def within(self, max_bytes: int) -> Program:
        """The fastest program whose arena has at most so many bytes; the smallest where none has."""
        for program in (self.plain, self.overlapped):
            if program.arena.size_bytes <= max_bytes:
                return program
        for program in self._divided(max_bytes):
            if program.arena.size_bytes <= max_bytes:
                return program
        return self.smallest()

    def _divided(self, goal: int) -> Iterator[Program]:
        """Programs of the fastest divisions within a limit that becomes smaller until one has at most `goal` bytes:
        places leave gaps that a division knows nothing of.
        """
        limit = goal
        for _ in range(TRIES):
            division = self.divider.fastest_within(limit)
            if division is None:
                return
            program = plan_memory(self.divider.lowered(division))
            yield program
            if program.arena.size_bytes <= goal:
                return
            limit = min(limit - 16, limit - (program.arena.size_bytes - goal))
