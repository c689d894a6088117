"""The schedule of a stream as a table of small numbers, and the calls that the numbers stand for.

Code goes through the table: a number says which call comes next, those behind it say at which rows. Numbers that are
the same for every run of a call stand in the call and not in the table. The number behind the last entry is that of no
call and ends the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luciole.ir.types import DType
from luciole.program.core import Action, Buffer, Copy, Program, Run, Stream, Take


@dataclass(frozen=True)
class Number:
    """base + scale * the entry of the table `entry` places behind the call's number; just base where there is none."""

    base: int
    scale: int = 0
    entry: int = 0


@dataclass(frozen=True)
class Place:
    """A pointer argument: a byte of a buffer."""

    buffer: Buffer
    parameter: str
    offset: Number


@dataclass(frozen=True)
class Call:
    """What one number of the table stands for: a kernel, its pointers and its scalars; `entries` is how many numbers
    the table has for it behind its own; `title` is what it does, for readers.
    """

    kernel: str
    pointers: tuple[Place, ...]
    scalars: tuple[Number, ...]
    entries: int
    title: str
    #: Bytes of the caller's rows that it takes; these are then its first pointer.
    taken_bytes: int = 0


@dataclass(frozen=True)
class Table:
    """The calls of a stream by number, and the numbers in order."""

    calls: tuple[Call, ...]
    numbers: tuple[int, ...]

    @property
    def dtype(self) -> DType:
        """The type of the numbers."""
        return DType.U8 if max(self.numbers) <= 255 else DType.U16

    @property
    def size_bytes(self) -> int:
        """Bytes of the table in flash."""
        return len(self.numbers) * self.dtype.size_bytes


@dataclass(frozen=True)
class _Draft:
    """A call before it is known which of its numbers differ from run to run: offsets and scalars as (base, scale)."""

    kernel: str
    pointers: tuple[tuple[Buffer, str, int], ...]
    scalars: tuple[tuple[int, int], ...]
    title: str
    taken_bytes: int = 0


def schedule_table(program: Program, stream: Stream) -> Table:
    """The table of a stream of a planned program."""
    drafts: dict[_Draft, list[tuple[int, ...]]] = {}
    order: list[tuple[_Draft, tuple[int, ...]]] = []
    for action in stream.actions:
        draft, values = _draft(program, action)
        drafts.setdefault(draft, []).append(values)
        order.append((draft, values))
    varying = {
        draft: tuple(i for i, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1)
        for draft, rows in drafts.items()
    }
    numbers: list[int] = []
    indices = {draft: index for index, draft in enumerate(drafts)}
    for draft, values in order:
        numbers += [indices[draft], *(values[i] for i in varying[draft])]
    calls = tuple(_call(draft, rows[0], varying[draft]) for draft, rows in drafts.items())
    return Table(calls, (*numbers, len(calls)))


def _draft(program: Program, action: Action) -> tuple[_Draft, tuple[int, ...]]:
    """A call and its numbers, one for each pointer and scalar; pointers that stay have the number 0."""
    if isinstance(action, Run):
        instruction = program.instructions[action.instruction]
        slots = iter(action.slots)
        pointers, values = [], []
        for operand in instruction.operands:
            buffer = program.buffers[operand.buffer]
            is_placed = operand.kind != "workspace" and buffer.kind != "const"
            pointers.append((buffer, operand.parameter, buffer.row_bytes if is_placed else 0))
            values.append(next(slots) if is_placed else 0)
        node = instruction.location.node
        title = f"{node} ({instruction.operator.kind})" if node else instruction.operator.kind
        scalars = tuple((scalar, 0) for scalar in instruction.scalars)
        return _Draft(instruction.kernel, tuple(pointers), scalars, title), (*values, *(0 for _ in scalars))
    kernel, target = program.kernels[action.kernel], program.buffers[action.target]
    count = (0, target.row_bytes // kernel.parameters[0].dtype.size_bytes)
    if isinstance(action, Take):
        taken = action.rows * target.row_bytes
        title = f"a row of {target.name} from the caller"
        draft = _Draft(action.kernel, ((target, "y", target.row_bytes),), (count,), title, taken)
        return draft, (action.slot, action.rows)
    if isinstance(action, Copy):
        source = program.buffers[action.source]
        pointers = [(source, "x", source.row_bytes), (target, "y", target.row_bytes)]
        title = f"rows of {target.name} move down" if source is target else f"rows of {source.name}"
        return _Draft(action.kernel, tuple(pointers), (count,), title), (action.source_slot, action.slot, action.rows)
    title = f"rows of {target.name} are filled"
    byte = action.byte if kernel.parameters[0].dtype is DType.I8 else action.byte * 0x01010101
    scalars = (count, (byte if byte < 1 << 31 else byte - (1 << 32), 0))
    return _Draft(action.kernel, ((target, "y", target.row_bytes),), scalars, title), (action.slot, action.rows, 0)


def _call(draft: _Draft, values: Sequence[int], varying: tuple[int, ...]) -> Call:
    def number(index: int, base: int, scale: int) -> Number:
        if index in varying:
            return Number(base, scale, varying.index(index) + 1)
        return Number(base + scale * values[index])

    pointers = []
    for index, (buffer, parameter, row_bytes) in enumerate(draft.pointers):
        assert buffer.offset is not None
        pointers.append(Place(buffer, parameter, number(index, buffer.offset, row_bytes)))
    first = len(pointers)
    scalars = tuple(number(first + index, base, scale) for index, (base, scale) in enumerate(draft.scalars))
    return Call(draft.kernel, tuple(pointers), scalars, len(varying), draft.title, draft.taken_bytes)
