"""What holds of buffers that lie in others: invariant 17 of `luciole.program.verify`."""

from __future__ import annotations

from collections.abc import Iterator

from luciole.program.core import Buffer, Program

Problems = Iterator[tuple[int, str]]


def byte_sharers(program: Program) -> dict[str, tuple[str, ...]]:
    """For each part and each whole, the other buffers that share bytes with it."""
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for name, buffer in program.buffers.items():
        if _is_sound_part(program, name):
            root, offset = program.place_in_root(name)
            spans.setdefault(root, []).append((offset, offset + buffer.size_bytes, name))
    return {
        name: tuple(n for b, e, n in members if n != name and b < end and begin < e)
        for members in spans.values()
        if len(members) > 1
        for begin, end, name in members
    }


def _is_sound_part(program: Program, name: str) -> bool:
    """Whether the buffers that a buffer is part of, if any, exist and end."""
    seen = {name}
    while whole := program.buffers[name].whole:
        if whole in seen or whole not in program.buffers:
            return False
        seen.add(whole)
        name = whole
    return True


def part_problems(program: Program) -> Problems:
    """Broken invariants 17."""
    streamed = [program.instructions[step] for stream in program.streams for step in stream.steps]
    for name, buffer in program.buffers.items():
        if not buffer.whole:
            continue
        where = f"buffer {name}, part of {buffer.whole},"
        if not _is_sound_part(program, name):
            yield 17, f"{where} is part of nothing that is"
            continue
        whole = program.buffers[buffer.whole]
        begin, end = buffer.whole_offset, buffer.whole_offset + buffer.size_bytes
        if begin < 0 or end > whole.size_bytes:
            yield 17, f"{where} takes bytes {begin} to {end} of {whole.size_bytes}"
        if buffer.region != whole.region or "const" in (buffer.kind, whole.kind) or buffer.kind == "workspace":
            yield 17, f"{where} is {buffer.kind} in {buffer.region}"
        if whole.alignment % buffer.alignment or begin % buffer.alignment:
            yield 17, f"{where} is aligned to {buffer.alignment}, and lies at {begin} of what is to {whole.alignment}"
        if any({name, whole.name} & set(i.buffers()) for i in streamed):
            yield 17, f"{where} is used in a stream"
        if not whole.first <= buffer.first <= buffer.last <= whole.last:
            yield 17, f"{where} lives {buffer.first} to {buffer.last}, the other {whole.first} to {whole.last}"
        if buffer.offset is not None and buffer.offset != (whole.offset or 0) + begin:
            yield 17, f"{where} is at {buffer.offset}"


def is_within(program: Program, a: Buffer, b: Buffer) -> bool:
    """Whether one of two buffers is a part of the other."""
    for part, whole in ((a, b), (b, a)):
        seen: set[str] = set()
        while part.whole and part.whole in program.buffers and part.whole not in seen:
            seen.add(part.whole)
            part = program.buffers[part.whole]
            if part.name == whole.name:
                return True
    return False
