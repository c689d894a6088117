"""Which memory of a board each buffer lives in: what is used most, for its size, in the fastest memory that has room.

The arena is the board's fastest RAM and the weights its fastest flash; what does not fit there goes into regions with
the names of other memories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from luciole.errors import EXIT_BUDGET, CompileError
from luciole.ir.board import Board, Memory
from luciole.lower.placement import FAST, solve
from luciole.lower.plan import pack, placement_problem
from luciole.program.core import ARENA, WEIGHTS, Buffer, Program, Region, RegionKind


def assign_regions(program: Program, board: Board) -> Program:
    """The program with every buffer in a region of the board, before any has a place.

    Raises `CompileError` when a buffer fits nowhere beside those that are used more.
    """
    uses = _uses(program)
    homes: dict[str, str] = {}
    regions: list[Region] = []
    for first, kind, memories in (
        (program.weights, "const", board.fastest_first("flash")),
        (program.arena, "arena", board.fastest_first("ram")),
    ):
        names = {memory.name: first.name if index == 0 else memory.name for index, memory in enumerate(memories)}
        found = _fill(program, program.roots(first.name), memories, uses)
        homes |= {buffer: names[memory] for buffer, memory in found.items()}
        used = [names[memory.name] for memory in memories if names[memory.name] in homes.values()]
        extra = [Region(name, _kind(kind), first.alignment) for name in used if name != first.name]
        regions += [first, *extra]
    buffers = {}
    for name, buffer in program.buffers.items():
        root, _ = program.place_in_root(name)
        buffers[name] = replace(buffer, region=homes[root], offset=None)
    return replace(program, buffers=buffers, regions=tuple(regions))


def memory_of(region: str, board: Board) -> Memory:
    """The memory of the board that a region of the program is."""
    if region == WEIGHTS:
        return board.fastest_first("flash")[0]
    if region == ARENA:
        return board.fastest_first("ram")[0]
    return next(memory for memory in board.memories if memory.name == region)


def check_regions(program: Program, board: Board) -> None:
    """Raise `CompileError` when a region came out larger than its memory: the board has not that much."""
    for region in program.regions:
        memory = memory_of(region.name, board)
        if region.size_bytes > memory.size_bytes:
            raise CompileError.of(
                "does-not-fit",
                f"{region.name} needs {region.size_bytes:,} B, the memory {memory.name} has {memory.size_bytes:,} B",
                exit_code=EXIT_BUDGET,
            )


def _kind(kind: str) -> RegionKind:
    return "const" if kind == "const" else "arena"


def _uses(program: Program) -> dict[str, int]:
    """About how often elements of each root buffer are read or written in a run: once each for every instruction, and
    what is multiplied as often as it is.
    """
    uses: dict[str, int] = {}
    for instruction in program.instructions:
        macs = instruction.operator.macs()
        for operand in instruction.operands:
            buffer = program.buffers[operand.buffer]
            root, _ = program.place_in_root(operand.buffer)
            count = buffer.size_bytes // buffer.dtype.size_bytes
            uses[root] = uses.get(root, 0) + (count if operand.kind == "out" else max(count, macs))
    return uses


def _fill(
    program: Program, buffers: Sequence[Buffer], memories: Sequence[Memory], uses: dict[str, int]
) -> dict[str, str]:
    """The name of a memory for each buffer."""
    if all(b.size_bytes == 0 for b in buffers) or _fits(program, buffers, memories[0]):
        return {buffer.name: memories[0].name for buffer in buffers}
    position = {buffer.name: index for index, buffer in enumerate(buffers)}
    filled: dict[str, list[Buffer]] = {memory.name: [] for memory in memories}
    for buffer in sorted(buffers, key=lambda b: (-_density(b, uses), -b.size_bytes, b.name)):
        for memory in memories:
            together = sorted([*filled[memory.name], buffer], key=lambda b: position[b.name])
            if _fits(program, together, memory):
                filled[memory.name] = together
                break
        else:
            sizes = ", ".join(f"{memory.name} {memory.size_bytes:,} B" for memory in memories)
            raise CompileError.of(
                "does-not-fit",
                f"%{buffer.name} of {buffer.size_bytes:,} B fits into no memory of the board",
                notes=(f"memories are {sizes}; buffers that are used more, for their size, come first",),
                help="give the model more of a memory, or a smaller input",
                exit_code=EXIT_BUDGET,
            )
    return {buffer.name: memory for memory, members in filled.items() for buffer in members}


def _density(buffer: Buffer, uses: dict[str, int]) -> float:
    return uses.get(buffer.name, 0) / buffer.size_bytes if buffer.size_bytes else math.inf


def _fits(program: Program, buffers: Sequence[Buffer], memory: Memory) -> bool:
    """Whether buffers have room in a memory, at the same time or one after the other."""
    _, end = pack(tuple(buffers))
    if end <= memory.size_bytes:
        return True
    if buffers[0].kind == "const" or max(b.size_bytes for b in buffers) > memory.size_bytes:
        return False
    return solve(placement_problem(tuple(buffers), program.overlaps()), FAST).size_bytes <= memory.size_bytes
