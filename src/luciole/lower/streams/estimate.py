"""What neighboring operators need and cost, each on its own or row by row together, before anything is lowered.

Rings depend only on what comes behind them: rows are made when somebody needs them. So one simulation of the longest
stream that ends with an operator gives the rings of all shorter ones that end there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.core import Graph, Operator, RowAccess, Value
from luciole.ir.target import Target
from luciole.ir.types import Array
from luciole.lower.lower import LoweringOptions
from luciole.lower.streams.lowering import (
    RowKernel,
    StreamChoice,
    estimated_instructions,
    row_kernels,
    within_workspace,
)
from luciole.lower.streams.segment import Segment, describe_segment
from luciole.lower.streams.simulate import Schedule, StageRun, moved_rows, simulate
from luciole.program.core import ARENA, Program
from luciole.targets.base import GENERIC, candidate_recipes

#: Instructions of one run of a kernel beside its own: the entry of the table, the call, saved registers.
CALL_INSTRUCTIONS = 40
#: Instructions for each byte that is moved within a ring or copied into one.
MOVE_INSTRUCTIONS = 0.6
#: Workspaces of streams stay within one of these, in bytes; None means any.
WORKSPACE_LIMITS = (None, 2048, 1024, 512)


@dataclass(frozen=True)
class Group:
    """Operators `first` to `last` of the order that run as one: a stream, or a single operator, with its smallest
    kernel or its fastest.

    A result may overlap a source, from `distance_bytes` below it on: `pair_bytes` are their sizes, source and result,
    0 and 0 where there is no such pair. `other_bytes` is what else is alive meanwhile, workspace included.
    `instructions` is an estimate.
    """

    first: int
    last: int
    other_bytes: int
    pair_bytes: tuple[int, int]
    distance_bytes: int
    instructions: int
    stream: StreamChoice | None = None
    is_small: bool = False

    @property
    def core_bytes(self) -> int:
        """Source and result, as close as may be."""
        return max(self.pair_bytes[0] + self.distance_bytes, self.pair_bytes[1])

    @property
    def size_bytes(self) -> int:
        """Everything, as close as may be."""
        return self.other_bytes + self.core_bytes


def direct_groups(program: Program, target: Target, *, is_small: bool) -> list[Group]:
    """A group for each instruction of a program without streams."""
    buffers = program.in_region(ARENA)
    found = []
    for step, instruction in enumerate(program.instructions):
        candidates = candidate_recipes(instruction.operator, target)
        recipe = next((r for r in candidates if r.name == instruction.recipe), GENERIC)
        cost = estimated_instructions(instruction.operator, recipe, target)
        alive = sum(b.size_bytes for b in buffers if b.first <= step <= b.last)
        overlap, pair, distance = instruction.overlap, (0, 0), 0
        if overlap is not None:
            (result,) = instruction.buffers("out")
            pair = program.buffers[overlap.source].size_bytes, program.buffers[result].size_bytes
            distance = 0 if overlap.in_place else overlap.distance_bytes
        found.append(Group(step, step, alive - sum(pair), pair, distance, cost, is_small=is_small))
    return found


class StreamEstimator:
    """Estimates of all streams of a graph on a target."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        options: LoweringOptions,
        *,
        rows: int = 1,
        pushed: Value | None = None,
    ) -> None:
        self.graph = graph
        self.target = target
        self.options = options
        self.rows = rows
        self.pushed = pushed
        self.code = [op for op in graph.operators if not op.is_view]
        self.steps = {op: step for step, op in enumerate(self.code)}
        self.accesses: dict[Operator, dict[str, RowAccess] | None] = {op: op.row_accesses() for op in self.code}
        self.lives = self._lives(keep_input=options.keep_input)
        #: Life and size of every tensor that is kept.
        self.table: Array = np.array([(*life, value.type.size_bytes) for value, life in self.lives.items()])
        self.kernels: dict[tuple[Operator, int], list[RowKernel]] = {}

    def _root(self, value: Value) -> Value:
        while value.producer is not None and value.producer.is_view:
            value = value.producer.operands[0]
        return value

    def _lives(self, *, keep_input: bool) -> dict[Value, tuple[int, int]]:
        """First and last step of every value that has memory of its own."""
        end = len(self.code)
        lives: dict[Value, tuple[int, int]] = {value: (-1, -1) for value in self.graph.inputs}
        for step, op in enumerate(self.code):
            lives |= {value: (step, step) for value in self.graph.results(op)}
        uses = [(value, end) for _, value in self.graph.outputs]
        uses += [(value, end) for value in self.graph.inputs if keep_input]
        uses += [(value, step) for step, op in enumerate(self.code) for value in op.operands]
        for value, step in uses:
            root = self._root(value)
            if root in lives:
                lives[root] = (lives[root][0], max(lives[root][1], step))
        if self.pushed is not None:
            del lives[self.pushed]
        if self.options.keep_output:
            outputs = {self._root(value) for _, value in self.graph.outputs}
            lives = {value: (-1 if value in outputs else first, last) for value, (first, last) in lives.items()}
        return lives

    def streams_ending_at(self, last: int, most_bytes: int | float) -> Iterator[Group]:
        """All streams whose last operator is number `last`, with several limits of workspace each, that need at most
        so many bytes.
        """
        first, segment = last, None
        while first >= 0 and self.accesses[self.code[first]] is not None:
            longer = self._describe(first, last)
            if longer is None:
                break
            segment, first = longer, first - 1
        if segment is None:
            return
        yield from _Ending(self, first + 1, last, segment).groups(most_bytes)

    def _describe(self, first: int, last: int) -> Segment | None:
        operators = self.code[first : last + 1]
        return describe_segment(self.graph, operators, (self.rows,) * len(operators), self.accesses, pushed=self.pushed)

    def kernel(self, op: Operator, rows: int, row_bytes: dict[str, int], limit: int | None) -> tuple[int, int]:
        """Instructions and workspace of a run of an operator on some rows."""
        key = (op, rows)
        if key not in self.kernels:
            window = op.restricted_to_rows(rows)
            self.kernels[key] = row_kernels(
                window,
                row_bytes,
                self.target,
                use_recipes=self.options.use_recipes,
                may_trade_memory=self.options.may_trade_flash(rows),
            )
        chosen = within_workspace(self.kernels[key], limit)
        return chosen.instructions, chosen.workspace_bytes


class _Ending:
    """The streams that end with one operator, from one simulation of the longest."""

    def __init__(self, estimator: StreamEstimator, first: int, last: int, segment: Segment) -> None:
        self.estimator = estimator
        self.first = first
        self.last = last
        self.segment = segment
        self.schedule: Schedule = simulate(segment)
        runs = [event.stage for event in self.schedule.events if isinstance(event, StageRun)]
        self.stages: Array = np.array(runs)
        counts = [0] * len(segment.stages)
        order = []
        for stage in runs:
            order.append(counts[stage])
            counts[stage] += 1
        self.counts: Array = np.array(order)
        self.capacities = {
            tensor.value: capacity
            for tensor, capacity in zip(segment.tensors, self.schedule.capacities, strict=True)
            if tensor.role in ("ring", "copied")
        }
        self.row_bytes = {tensor.value: tensor.row_bytes for tensor in segment.tensors}
        #: Bytes that are moved down in each ring.
        self.moves = {
            tensor.value: moved_rows(self.schedule, number) * tensor.row_bytes
            for number, tensor in enumerate(segment.tensors)
            if tensor.role == "ring"
        }

    def groups(self, most_bytes: int | float) -> Iterator[Group]:
        """Longer and longer ones."""
        estimator, segment = self.estimator, self.segment
        rings, ring_life = 0, 0
        instructions = {limit: 0.0 for limit in WORKSPACE_LIMITS}
        workspaces = dict.fromkeys(WORKSPACE_LIMITS, 0)
        inside: set[Value] = set()
        copied: dict[Value, int] = {}
        results: list[Value] = []
        for index in reversed(range(len(segment.stages))):
            stage = segment.stages[index]
            value = segment.tensors[stage.result].value
            inside.add(value)
            copied.pop(value, None)
            if segment.tensors[stage.result].role == "ring":
                rings += self.capacities[value] * self.row_bytes[value]
                ring_life += value.type.size_bytes
                moved = self.moves.get(value, 0) * MOVE_INSTRUCTIONS
            else:
                results.append(value)
                moved = 0
            row_bytes = {read.operand: segment.tensors[read.tensor].row_bytes for read in stage.reads}
            row_bytes["y"] = segment.tensors[stage.result].row_bytes
            for limit in WORKSPACE_LIMITS:
                cost, workspace = estimator.kernel(stage.operator, stage.rows, row_bytes, limit)
                instructions[limit] += stage.runs * (cost + CALL_INSTRUCTIONS) + moved
                workspaces[limit] = max(workspaces[limit], workspace)
            for read in stage.reads:
                source = segment.tensors[read.tensor].value
                is_copied = read.access.fill is not None or source is estimator.pushed
                if is_copied and source not in inside and source in self.capacities:
                    copied[source] = self.capacities[source] * self.row_bytes[source]
            first = self.first + index
            table = estimator.table
            alive = int(table[(table[:, 0] <= self.last) & (table[:, 1] >= first), 2].sum())
            kept = alive - ring_life + rings + sum(copied.values())
            sources = self._dying_sources(index, inside)
            most_shared = max((min(s.type.size_bytes, r.type.size_bytes) for s in sources for r in results), default=0)
            if kept - most_shared > most_bytes:
                continue
            pairs = [(s, r) for s in sources for r in results]
            distances = [self._distance(index, s, r, is_copied=s in copied) for s, r in pairs]
            best = Group(first, self.last, kept, (0, 0), 0, 0)
            for (source, result), distance in zip(pairs, distances, strict=True):
                sizes = source.type.size_bytes, result.type.size_bytes
                group = Group(first, self.last, kept - sum(sizes), sizes, distance, 0)
                best = min(best, group, key=lambda group: group.size_bytes)
            operators = tuple(stage.operator for stage in segment.stages[index:])
            known: set[tuple[int, int]] = set()
            for limit in WORKSPACE_LIMITS:
                others, cost = best.other_bytes + workspaces[limit], int(instructions[limit])
                if others + best.core_bytes <= most_bytes and (others, cost) not in known:
                    known.add((others, cost))
                    pushed = estimator.pushed if estimator.pushed in copied else None
                    choice = StreamChoice(operators, (estimator.rows,) * len(operators), limit, pushed)
                    yield replace(best, other_bytes=others, instructions=cost, stream=choice)

    def _dying_sources(self, index: int, inside: set[Value]) -> list[Value]:
        """Tensors from outside that nobody needs after the stream."""
        found: dict[Value, None] = {}
        for stage in self.segment.stages[index:]:
            for read in stage.reads:
                value = self.segment.tensors[read.tensor].value
                lives = self.estimator.lives
                if value not in inside and value in lives and lives[value][1] <= self.last:
                    found[value] = None
        return list(found)

    def _distance(self, index: int, source: Value, result: Value, *, is_copied: bool) -> int:
        """How far below a source a result must begin."""
        if self.estimator.options.keep_output and self.estimator.lives[result][1] > self.last:
            return result.type.size_bytes
        needed = np.full(len(self.stages), source.type.shape[1], np.int64)
        ends = np.zeros(len(self.stages), np.int64)
        written = np.zeros(len(self.stages), np.int64)
        for number, stage in enumerate(self.segment.stages[index:], index):
            runs = self.stages == number
            for read in stage.reads:
                if self.segment.tensors[read.tensor].value is not source:
                    continue
                begins = self.counts[runs] * stage.rows * read.access.stride - read.access.before
                if read.access.fill is None:
                    needed[runs] = np.minimum(needed[runs], np.maximum(begins, 0))
                else:
                    ends[runs] = np.maximum(ends[runs], begins + read.access.window_rows(stage.rows))
            if self.segment.tensors[stage.result].value is result:
                rows = (self.counts[runs] + 1) * stage.rows if not stage.operator.adds_rows else 1
                written[runs] = rows * self.row_bytes[result]
        if is_copied:
            before = np.concatenate(([0], np.maximum.accumulate(ends)[:-1]))
            needed = np.where(ends > before, np.minimum(needed, before), needed)
        later = np.minimum.accumulate(needed[::-1])[::-1] * self.row_bytes[source]
        return min(max(0, int((written - later).max(initial=0))), result.type.size_bytes)
