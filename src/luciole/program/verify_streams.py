"""What holds of the streams of a program: invariants 15 and 16 of `luciole.program.verify`.

The schedule is run on the numbers of rows alone: for every slot of every buffer it is known which row of which value
it holds.
"""

from __future__ import annotations

from collections.abc import Iterator

from luciole.graph.core import RowAccess, Value
from luciole.program.core import Action, Buffer, Copy, Fill, Instruction, Operand, Program, Run, Stream, Take

Problems = Iterator[tuple[int, str]]

#: What a slot holds: a row of a value, named by its buffer if the stream did not make it; bytes of padding; a sum of
#: the first so many rows.
Row = tuple[str, Value | str | int, int]


def stream_problems(program: Program) -> Problems:
    """The broken invariants 15 and 16, each with its number."""
    end = 0
    for stream in program.streams:
        where = f"stream {stream.first} to {stream.last}"
        if not end <= stream.first <= stream.last < len(program.instructions):
            yield 15, f"{where} is not behind the one before, or has no instructions"
            return
        end = stream.last + 1
        wrong = list(_shape_problems(program, stream, where))
        yield from wrong
        if not wrong:
            yield from _Rows(program, stream, where).problems()
    for step, instruction in enumerate(program.instructions):
        if bool(instruction.rows) != (program.stream_at(step) is not None):
            where = "outside of streams" if instruction.rows else "in a stream"
            yield 15, f"instruction {step} runs {instruction.rows} rows a time {where}"


def _shape_problems(program: Program, stream: Stream, where: str) -> Problems:
    """What must hold before rows can be followed."""
    for step in stream.steps:
        op, instruction = program.instructions[step].operator, program.instructions[step]
        accesses = op.row_accesses() if op in program.graph else None
        if accesses is None or instruction.rows < 1:
            yield 15, f"{where}: instruction {step} computes {op}, which does not run by rows"
        elif _run_count(instruction) * instruction.rows != _rows_to_run(instruction):
            yield 15, f"{where}: instruction {step} runs {instruction.rows} rows a time, which does not divide all"
        elif {o.parameter for o in instruction.operands if _is_read(program, o)} - set(accesses):
            yield 15, f"{where}: instruction {step} reads an operand whose rows {op} does not know"
    for action in stream.actions:
        if isinstance(action, Run):
            if action.instruction not in stream.steps:
                yield 15, f"{where} runs instruction {action.instruction}"
            elif len(action.slots) != len(_placed(program, program.instructions[action.instruction])):
                yield 15, f"{where} runs instruction {action.instruction} at {len(action.slots)} rows"
            continue
        names = (action.target, action.source) if isinstance(action, Copy) else (action.target,)
        buffers = [program.buffers.get(name) for name in names]
        kernel = program.kernels.get(action.kernel)
        kinds = [(parameter.kind, parameter.name) for parameter in kernel.parameters] if kernel is not None else []
        wanted = [("out", "y")] if isinstance(action, Fill) else [("in", "x"), ("out", "y")]
        known = [buffer for buffer in buffers if buffer is not None and buffer.kind != "const"]
        if kernel is None or kinds != wanted or len(kernel.scalars) != 3 - len(wanted):
            yield 15, f"{where}: there is no kernel {action.kernel} that does this"
        elif len(known) < len(names):
            yield 15, f"{where}: there is no buffer {' or '.join(names)} that can be written"
        else:
            size = kernel.parameters[0].dtype.size_bytes
            pushed = program.pushed_input()
            if isinstance(action, Take) and (pushed is None or pushed[2].name != action.target):
                yield 15, f"{where} takes rows to {action.target}, which is no input"
            for buffer in known:
                if buffer.row_bytes % size or buffer.alignment % size or buffer.row_bytes != known[0].row_bytes:
                    yield 15, f"{where}: {action.kernel} does not move rows of {buffer.row_bytes} bytes"


def _is_read(program: Program, operand: Operand) -> bool:
    return operand.kind == "in" and program.buffers[operand.buffer].kind != "const"


def _placed(program: Program, instruction: Instruction) -> list[Operand]:
    """The operands that are tensors in the arena."""
    return [o for o in instruction.operands if o.kind != "workspace" and program.buffers[o.buffer].kind != "const"]


def _rows_to_run(instruction: Instruction) -> int:
    """The rows that all runs together go through."""
    op = instruction.operator
    type = op.operands[0].type if op.adds_rows else op.result_types()[0]
    return type.shape[1]


def _run_count(instruction: Instruction) -> int:
    return _rows_to_run(instruction) // instruction.rows


class _Rows:
    """The schedule of one stream, followed row by row."""

    def __init__(self, program: Program, stream: Stream, where: str) -> None:
        self.program = program
        self.stream = stream
        self.where = where
        self.done = dict.fromkeys(stream.steps, 0)
        self.taken = 0
        self.holds: dict[str, dict[int, Row]] = {}
        self.made = {
            value: step for step in stream.steps for value in program.graph.results(program.instructions[step].operator)
        }
        #: The bytes written of the result that may overlap an input, and those of the input needed, in order.
        self.trace: list[tuple[int, int]] = []

    def problems(self) -> Problems:
        """Everything that is wrong, up to the first action that is."""
        for number, action in enumerate(self.stream.actions):
            found = [f"{self.where}, action {number}: {problem}" for problem in self._follow(action)]
            yield from ((16, problem) for problem in found)
            if found:
                return
        for value, step in self.made.items():
            buffer = self.program.buffers[self.program.bindings[value]]
            if buffer.kind != "ring":
                rows = buffer.shape[1] if len(buffer.shape) == 4 else 1
                held = self.holds.get(buffer.name, {})
                if any(held.get(row) != ("row", value, row) for row in range(rows)):
                    yield 16, f"{self.where}: instruction {step} has not made all of {value!r} at the end"
        pushed = self.program.pushed_input()
        if self.taken and pushed is not None and self.taken != pushed[1].type.shape[1]:
            yield 16, f"{self.where} takes {self.taken} rows of {pushed[1]!r}"
        yield from self._overlap()

    def _overlap(self) -> Problems:
        overlap = self.stream.overlap
        if overlap is None:
            return
        needed = self.program.buffers[overlap.source].size_bytes
        for written, read in reversed(self.trace):
            needed = min(needed, read)
            if written - needed > overlap.distance_bytes:
                yield 14, f"{self.where}: {self.stream.result} overwrites {overlap.source} before it is read"
                return

    def _follow(self, action: Action) -> Iterator[str]:
        if isinstance(action, Run):
            yield from self._run(action)
            return
        target = self.program.buffers[action.target]
        yield from self._bounds(target, action.slot, action.rows)
        held = self.holds.setdefault(target.name, {})
        if isinstance(action, Fill):
            held |= {action.slot + i: ("fill", action.byte, 0) for i in range(action.rows)}
            return
        if isinstance(action, Take):
            held |= {action.slot + i: ("row", target.name, self.taken + i) for i in range(action.rows)}
            self.taken += action.rows
            return
        source = self.program.buffers[action.source]
        yield from self._bounds(source, action.source_slot, action.rows)
        if source is target and action.slot > action.source_slot:
            yield f"rows of {target.name} move up"
        if source.kind != "ring":
            self._read(source, action.source_slot)
        rows = [self._held(source, action.source_slot + i) for i in range(action.rows)]
        for i, row in enumerate(rows):
            if row is None:
                yield f"{source.name} holds nothing at {action.source_slot + i}"
            else:
                held[action.slot + i] = row

    def _held(self, buffer: Buffer, slot: int) -> Row | None:
        """What a slot holds; buffers from outside hold their rows in order."""
        if buffer.kind != "ring" and not any(self.program.bindings.get(v) == buffer.name for v in self.made):
            return ("row", buffer.name, slot)
        return self.holds.get(buffer.name, {}).get(slot)

    def _bounds(self, buffer: Buffer, slot: int, rows: int) -> Iterator[str]:
        height = buffer.shape[1] if len(buffer.shape) == 4 else 1
        if rows < 1 or not 0 <= slot <= slot + rows <= height:
            yield f"rows {slot} to {slot + rows} of {buffer.name}, which has {height}"

    def _read(self, buffer: Buffer, slot: int) -> None:
        if self.stream.overlap is not None and buffer.name == self.stream.overlap.source:
            self.trace.append((-1, slot * buffer.row_bytes))

    def _run(self, action: Run) -> Iterator[str]:
        instruction = self.program.instructions[action.instruction]
        op, count = instruction.operator, self.done[action.instruction]
        if count >= _run_count(instruction):
            yield f"instruction {action.instruction} runs once too often"
            return
        accesses, values = op.row_accesses() or {}, dict(op.named_operands())
        for operand, slot in zip(_placed(self.program, instruction), action.slots, strict=True):
            buffer = self.program.buffers[operand.buffer]
            alignment = self.program.kernels[instruction.kernel].parameter(operand.parameter).alignment
            if slot * buffer.row_bytes % max(1, alignment):
                yield f"{operand.parameter} at row {slot} of {buffer.name} is not aligned to {alignment}"
            if operand.kind == "in":
                access = accesses[operand.parameter]
                yield from self._window(buffer, slot, values[operand.parameter], access, instruction, count)
            else:
                yield from self._result(buffer, slot, instruction, count)
        self.done[action.instruction] += 1

    def _window(
        self, buffer: Buffer, slot: int, value: Value, access: RowAccess, instruction: Instruction, count: int
    ) -> Iterator[str]:
        rows = access.window_rows(instruction.rows)
        first = count * instruction.rows * access.stride - access.before
        yield from self._bounds(buffer, slot, rows)
        if buffer.kind != "ring":
            self._read(buffer, slot)
        for i in range(rows):
            row = first + i
            wanted: Row = ("row", value if value in self.made else self.program.bindings.get(value, ""), row)
            if not 0 <= row < value.type.shape[1]:
                wanted = ("fill", -1 if access.fill is None else access.fill, 0)
            if self._held(buffer, slot + i) != wanted:
                yield f"{buffer.name} does not hold row {row} of {value!r} at {slot + i}"
                return

    def _result(self, buffer: Buffer, slot: int, instruction: Instruction, count: int) -> Iterator[str]:
        value = self.program.graph.result(instruction.operator)
        held = self.holds.setdefault(buffer.name, {})
        if not instruction.operator.adds_rows:
            yield from self._bounds(buffer, slot, instruction.rows)
            first = count * instruction.rows
            held |= {slot + i: ("row", value, first + i) for i in range(instruction.rows)}
            if buffer.kind != "ring" and slot != first:
                yield f"row {first} of {value!r} is written at {slot}"
        else:
            before: Row = ("sum", value, count) if count else ("fill", 0, 0)
            if slot != 0 or held.get(0) != before:
                yield f"{buffer.name} does not hold the sum of {count * instruction.rows} rows"
            is_last = count + 1 == _run_count(instruction)
            held[0] = ("row", value, 0) if is_last else ("sum", value, count + 1)
        if self.stream.overlap is not None and buffer.name == self.stream.result:
            rows = 1 if instruction.operator.adds_rows else slot + instruction.rows
            source = self.program.buffers[self.stream.overlap.source].size_bytes
            self.trace.append((rows * buffer.row_bytes, source))
