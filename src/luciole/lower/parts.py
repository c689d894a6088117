"""Copies that are not made: tensors that are computed, or read, where they lie in another.

    0: f(in %x, out %a) computes %a                    0: f(in %x, out %a) computes %a
    1: g(in %x, out %b) computes %b             ->     1: g(in %x, out %b) computes %b
    2: concat(in %a, in %b, out %y) computes %y        (%a is part of %y from 0, %b from 64)

An operator whose operands are parts of its result disappears if nobody reads them afterwards. Operators whose results
are parts of their operand disappear together, if they are the last that read it and their parts do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from luciole.lower.overlap import needed_bytes
from luciole.program.core import ARENA, Buffer, Instruction, Program, Run, Stream


def place_parts(program: Program) -> Program:
    """The program without the copies that it can do without. The bytes alive at once do not become more."""
    peak, step = _peak(program), 0
    while step < len(program.instructions):
        without = _without(program, step)
        if without is not None and (needed := _peak(without)) <= peak:
            program, peak = without, needed
        else:
            step += 1
    return program


def _peak(program: Program) -> int:
    return max(needed_bytes(program), default=0)


def _without(program: Program, step: int) -> Program | None:
    """The program without the instruction of a step, and without others that go with it; None where it has to stay."""
    instruction = program.instructions[step]
    parts = instruction.operator.parts()
    if not parts or instruction.overlap is not None or program.stream_at(step) is not None:
        return None
    if parts[0].whole == "y":
        return _placed(program, (step,)) if _are_read_last(program, step, instruction.buffers("in")) else None
    whole = instruction.buffers("in")[0]
    group = [s for s, i in enumerate(program.instructions) if s >= step and whole in i.buffers()]
    if any(program.stream_at(s) or not _is_slice(program.instructions[s]) for s in group):
        return None
    return _placed(program, group) if _are_read_last(program, group[-1], (whole,)) else None


def _is_slice(instruction: Instruction) -> bool:
    """Whether all that an instruction does is to make a part of its operand."""
    return any(part.part == "y" for part in instruction.operator.parts())


def _are_read_last(program: Program, step: int, names: Iterable[str]) -> bool:
    """Whether no byte of these buffers, nor of their parts, is needed after a step."""
    wanted = set(names)
    return all(buffer.last <= step for name, buffer in program.buffers.items() if _wholes(program, name) & wanted)


def _wholes(program: Program, name: str) -> set[str]:
    """A buffer and all that it is part of."""
    found = {name}
    while name := program.buffers[name].whole:
        found.add(name)
    return found


def _placed(program: Program, steps: Iterable[int]) -> Program | None:
    """The program without the instructions of these steps, parts being where they belong; None if that cannot be."""
    removed = sorted(steps)
    buffers = {name: _renumbered(buffer, removed) for name, buffer in program.buffers.items()}
    taken: list[tuple[str, int, int]] = []
    for step in removed:
        instruction = program.instructions[step]
        bound = {operand.parameter: operand.buffer for operand in instruction.operands}
        for part in instruction.operator.parts():
            inner, outer = buffers[bound[part.part]], buffers[bound[part.whole]]
            begin, end = part.offset_bytes, part.offset_bytes + inner.size_bytes
            overlaps = any(name == outer.name and begin < e and b < end for name, b, e in taken)
            if overlaps or not _may_be_part(program, inner, outer, begin):
                return None
            if {inner.kind, outer.kind} == {"input", "output"} and _is_kept(program, inner, outer):
                return None
            taken.append((outer.name, begin, end))
            buffers[inner.name] = replace(inner, whole=outer.name, whole_offset=begin)
    kept = tuple(i for s, i in enumerate(program.instructions) if s not in removed)
    used = {i.kernel for i in kept} | {name for stream in program.streams for name in stream.kernels()}
    kernels = {name: kernel for name, kernel in program.kernels.items() if name in used}
    streams = tuple(_renumbered_stream(stream, removed) for stream in program.streams)
    return replace(program, instructions=kept, kernels=kernels, buffers=_outlived(buffers), streams=streams)


def _may_be_part(program: Program, inner: Buffer, outer: Buffer, offset: int) -> bool:
    return (
        (inner.region, outer.region) == (ARENA, ARENA)
        and not inner.whole
        and inner.name not in _wholes(program, outer.name)
        and offset % inner.alignment == 0
        and not _is_bound_otherwise(program, {inner.name, outer.name})
    )


def _is_kept(program: Program, *buffers: Buffer) -> bool:
    """Whether an output among the buffers must outlast the writing of the next input."""
    return any(b.kind == "output" and program.buffers[b.name].first < 0 for b in buffers)


def _is_bound_otherwise(program: Program, names: set[str]) -> bool:
    """Whether one of these buffers overlaps another, or is used in a stream."""
    overlapping = {name for result, overlap in program.overlaps() for name in (result, overlap.source)}
    streamed = {name for s in program.streams for step in s.steps for name in program.instructions[step].buffers()}
    return bool(names & (overlapping | streamed))


def _renumbered_stream(stream: Stream, removed: list[int]) -> Stream:
    """The stream behind as many instructions as are left."""
    shift = sum(step < stream.first for step in removed)
    actions = tuple(replace(a, instruction=a.instruction - shift) if isinstance(a, Run) else a for a in stream.actions)
    return replace(stream, first=stream.first - shift, last=stream.last - shift, actions=actions)


def _renumbered(buffer: Buffer, removed: list[int]) -> Buffer:
    """The buffer with its life in the steps that are left."""
    if buffer.region != ARENA:
        return buffer
    first, last = (step - sum(r < step for r in removed) for step in (buffer.first, buffer.last))
    ends_there = buffer.last in removed and last > first
    return replace(buffer, first=first, last=last - ends_there)


def _outlived(buffers: dict[str, Buffer]) -> dict[str, Buffer]:
    """Every whole lives, and is aligned, as its parts need."""
    result = dict(buffers)
    for name in buffers:
        part = result[name]
        while part.whole:
            whole = result[part.whole]
            first, last = min(whole.first, part.first), max(whole.last, part.last)
            whole = replace(whole, first=first, last=last, alignment=max(whole.alignment, part.alignment))
            result[whole.name] = part = whole
    return result
