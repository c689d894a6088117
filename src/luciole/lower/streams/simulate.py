"""The schedule of a segment, found by running it on numbers of rows alone.

The last operator is run to its end; whatever rows it needs are made just before, by the same rule. So as few rows as
possible exist at a time. A ring of a tensor holds rows one after the other from slot 0 on; when the next one would not
fit, the rows that somebody still needs move down to slot 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from luciole.errors import InternalError
from luciole.lower.streams.segment import Segment, Stage


@dataclass(frozen=True)
class StageRun:
    """A stage runs once: the slots of what it reads, and that of its result."""

    stage: int
    slots: tuple[int, ...]
    result_slot: int


@dataclass(frozen=True)
class RowsMoved:
    """Rows of a ring move down to slot 0."""

    tensor: int
    slot: int
    rows: int


@dataclass(frozen=True)
class RowsCopied:
    """Rows of a whole tensor come into a ring."""

    tensor: int
    slot: int
    source_row: int
    rows: int


@dataclass(frozen=True)
class RowsFilled:
    """Rows of padding, or of a sum that begins at zero."""

    tensor: int
    slot: int
    rows: int
    byte: int


Event = StageRun | RowsMoved | RowsCopied | RowsFilled


@dataclass(frozen=True)
class Reserve:
    """Room is made for the rows of a tensor from `made` to before `end`; nobody needs those before `first`."""

    first: int
    made: int
    end: int


@dataclass
class Schedule:
    """What happens, in order; the rows that each ring must hold at least; and when room for rows is made in each."""

    events: list[Event] = field(default_factory=list)
    capacities: list[int] = field(default_factory=list)
    reserves: list[list[Reserve]] = field(default_factory=list)


def simulate(segment: Segment, capacities: Sequence[int] | None = None) -> Schedule:
    """The schedule of a segment with rings of so many rows, or with endless ones, which tells how many rows they need.

    Raises `InternalError` when a ring is too small.
    """
    return _Simulation(segment, capacities).run()


class _Simulation:
    def __init__(self, segment: Segment, capacities: Sequence[int] | None) -> None:
        self.segment = segment
        self.limits = capacities
        self.schedule = Schedule([], [0] * len(segment.tensors), [[] for _ in segment.tensors])
        self.events = self.schedule.events
        self.done = [0] * len(segment.stages)
        self.readers: list[list[tuple[int, int, int, int]]] = [[] for _ in segment.tensors]
        self.producers = {stage.result: index for index, stage in enumerate(segment.stages)}
        for index, stage in enumerate(segment.stages):
            for read in stage.reads:
                step = stage.rows * read.access.stride
                self.readers[read.tensor].append((index, step, read.access.before, stage.runs))
        tops = [max((before for _, _, before, _ in readers), default=0) for readers in self.readers]
        #: For each tensor the next row to be made, and the row in slot 0.
        self.made = [-top for top in tops]
        self.base = [-top for top in tops]

    def run(self) -> Schedule:
        for index in reversed(range(len(self.segment.stages))):
            if self.segment.tensors[self.segment.stages[index].result].role == "result":
                while self.done[index] < self.segment.stages[index].runs:
                    self._run_stage(index)
        return self.schedule

    def _first_needed(self, tensor: int) -> int | float:
        """The first row that some stage has yet to read."""
        done = self.done
        return min(
            (done[stage] * step - before for stage, step, before, runs in self.readers[tensor] if done[stage] < runs),
            default=math.inf,
        )

    def _run_stage(self, index: int) -> None:
        stage = self.segment.stages[index]
        firsts = []
        for read in stage.reads:
            access = read.access
            first = self.done[index] * stage.rows * access.stride - access.before
            firsts.append(first)
            if self.segment.tensors[read.tensor].role != "source":
                self._make(read.tensor, first + access.window_rows(stage.rows))
        adds = stage.operator.adds_rows
        if not adds:
            self._reserve(stage.result, stage.rows)
        elif self.done[index] == 0:
            self._reserve(stage.result, 1)
            self.events.append(RowsFilled(stage.result, 0, 1, 0))
        slots = tuple(first - self.base[read.tensor] for first, read in zip(firsts, stage.reads, strict=True))
        self.events.append(StageRun(index, slots, self.made[stage.result] - self.base[stage.result]))
        self.done[index] += 1
        if not adds:
            self.made[stage.result] += stage.rows
        elif self.done[index] == stage.runs:
            self.made[stage.result] = 1

    def _make(self, tensor: int, end: int) -> None:
        """Make the rows before `end`."""
        subject = self.segment.tensors[tensor]
        while self.made[tensor] < end:
            row = self.made[tensor]
            if row < 0 or row >= subject.rows:
                rows = (min(end, 0) if row < 0 else end) - row
                if subject.fill is None:
                    raise InternalError(f"row {row} of {subject.value!r} is read, which has {subject.rows}")
                self._reserve(tensor, rows)
                self.events.append(RowsFilled(tensor, row - self.base[tensor], rows, subject.fill))
                self.made[tensor] += rows
            elif subject.role == "copied":
                rows = min(end, subject.rows) - row
                self._reserve(tensor, rows)
                self.events.append(RowsCopied(tensor, row - self.base[tensor], row, rows))
                self.made[tensor] += rows
            else:
                self._run_stage(self.producers[tensor])

    def _reserve(self, tensor: int, rows: int) -> None:
        """Make room for the next rows."""
        if self.segment.tensors[tensor].role == "result":
            return
        end = self.made[tensor] + rows
        first = int(min(self._first_needed(tensor), self.made[tensor]))
        self.schedule.capacities[tensor] = max(self.schedule.capacities[tensor], end - first)
        self.schedule.reserves[tensor].append(Reserve(first, self.made[tensor], end))
        if self.limits is None or end - self.base[tensor] <= self.limits[tensor]:
            return
        if end - first > self.limits[tensor]:
            raise InternalError(f"a ring of {self.limits[tensor]} rows needs {end - first}")
        if self.made[tensor] > first:
            self.events.append(RowsMoved(tensor, first - self.base[tensor], self.made[tensor] - first))
        self.base[tensor] = first


def moved_rows(schedule: Schedule, tensor: int) -> int:
    """How many rows of a tensor move down in a ring of the capacity that a schedule with endless rings found: neither
    the order nor the rows depend on the size of rings.
    """
    reserves = schedule.reserves[tensor]
    base, moved = reserves[0].made if reserves else 0, 0
    for reserve in schedule.reserves[tensor]:
        if reserve.end - base > schedule.capacities[tensor]:
            moved += reserve.made - reserve.first
            base = reserve.first
    return moved


def overlap_distance(segment: Segment, schedule: Schedule, source: int, result: int) -> int:
    """How many bytes below a whole tensor that the segment reads its result must begin, so that no row is overwritten
    before its last read. `source` is the number of a tensor whose value may also be copied.
    """
    tensors = segment.tensors
    value, row_bytes = tensors[source].value, tensors[source].row_bytes
    needed, distance = tensors[source].rows * row_bytes, 0
    for event in reversed(schedule.events):
        if isinstance(event, RowsCopied) and tensors[event.tensor].value is value:
            needed = min(needed, event.source_row * row_bytes)
        elif isinstance(event, StageRun):
            stage: Stage = segment.stages[event.stage]
            for read, slot in zip(stage.reads, event.slots, strict=True):
                if tensors[read.tensor].role == "source" and tensors[read.tensor].value is value:
                    needed = min(needed, slot * row_bytes)
            if stage.result == result:
                written = (event.result_slot + stage.rows) * tensors[result].row_bytes
                distance = max(distance, written - needed)
    return distance
