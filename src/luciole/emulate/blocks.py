"""Counts of executed basic blocks, and what follows from them: instructions by function and by call.

An emulator translates code in blocks and reports each execution of a block. A block is known by address and size; how
many instructions it has is read off its bytes, since the sizes of Thumb and RISC-V instructions are told by their first
bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from luciole.emulate.cores import Family
from luciole.emulate.loader import LoadedObject
from luciole.emulate.result import CallRecord

#: Address and size in bytes.
Block = tuple[int, int]

#: Estimates the cycles of a set of executed blocks.
CycleEstimator = Callable[[Mapping[Block, tuple[int, int]]], int]


def count_instructions(family: Family, code: bytes) -> int:
    """How many instructions the bytes of a block hold.

    Thumb: a first halfword of 0b11101, 0b11110 or 0b11111 in its five upper bits begins a 32-bit instruction (Armv7-M
    manual, A5.1). RISC-V: the two lowest bits are 0b11 in a 32-bit instruction. AArch64: always 32 bits.
    """
    if family is Family.AARCH64:
        return len(code) // 4
    count = position = 0
    while position < len(code):
        first = int.from_bytes(code[position : position + 2], "little")
        is_long = first >> 11 >= 0b11101 if family is Family.THUMB else first & 3 == 3
        position += 4 if is_long else 2
        count += 1
    return count


@dataclass(frozen=True)
class Interval:
    """A stretch of execution: blocks of the measured function, and then of what it calls once.

    Attributes:
        blocks: executions, and how often another than the following address came next.
        site: address of the last block of the measured function.
        callee: the first address outside it, None while there is none.
    """

    blocks: Mapping[Block, tuple[int, int]]
    site: int
    callee: int | None


@dataclass(frozen=True)
class BlockSummary:
    """What recorded blocks amount to."""

    instructions: int
    instructions_by_function: Mapping[str, int]
    calls: tuple[CallRecord, ...]
    estimated_cycles: int | None


def merge(intervals: Iterable[Interval]) -> dict[Block, tuple[int, int]]:
    """All blocks of several intervals, counts added."""
    total: dict[Block, tuple[int, int]] = {}
    for interval in intervals:
        for block, (executed, taken) in interval.blocks.items():
            before = total.get(block, (0, 0))
            total[block] = (before[0] + executed, before[1] + taken)
    return total


def summarize(
    loaded: LoadedObject,
    root: tuple[int, int],
    intervals: Sequence[Interval],
    read: Callable[[int, int], bytes],
    extra_names: Mapping[int, str],
    estimate: CycleEstimator | None,
) -> BlockSummary:
    """Instructions in all, by function, and by call of the measured function.

    `root` is its begin and end, `read(address, size)` gives code bytes, `extra_names` names addresses outside the
    object (support functions). Functions are listed by the order of their addresses, calls by the order of execution.
    """
    lengths: dict[Block, int] = {}

    def instructions_of(block: Block) -> int:
        if block not in lengths:
            lengths[block] = count_instructions(loaded.family, read(*block))
        return lengths[block]

    def name_of(address: int) -> str:
        if address in extra_names:
            return extra_names[address]
        function = loaded.function_at(address)
        return function.name if function is not None else f"0x{address:08x}"

    total = merge(intervals)
    by_function: dict[str, int] = {}
    for block in sorted(total):
        name = name_of(block[0])
        by_function[name] = by_function.get(name, 0) + total[block][0] * instructions_of(block)
    calls: list[CallRecord] = []
    for interval in intervals:
        if interval.callee is None:
            continue
        below = {block: counts for block, counts in interval.blocks.items() if not root[0] <= block[0] < root[1]}
        calls.append(
            CallRecord(
                index=len(calls),
                site=interval.site,
                symbol=name_of(interval.callee),
                instructions=sum(counts[0] * instructions_of(block) for block, counts in below.items()),
                estimated_cycles=estimate(below) if estimate is not None else None,
            )
        )
    return BlockSummary(
        instructions=sum(by_function.values()),
        instructions_by_function=by_function,
        calls=tuple(calls),
        estimated_cycles=estimate(total) if estimate is not None else None,
    )
