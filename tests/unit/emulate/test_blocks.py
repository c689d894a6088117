"""Counting of basic blocks."""

from __future__ import annotations

import pytest

from luciole.emulate.blocks import Interval, count_instructions, merge
from luciole.emulate.cores import Family
from luciole.emulate.recorder import BlockRecorder
from luciole.errors import InternalError


def test_thumb_instructions_have_one_or_two_halfwords() -> None:
    code = bytes.fromhex("704740f20000c0f20000f8bdfff7feff00e0")  # BX, MOVW, MOVT, POP, BL, B
    assert count_instructions(Family.THUMB, code) == 6


def test_riscv_instructions_may_be_compressed() -> None:
    assert count_instructions(Family.RISCV32, bytes.fromhex("130000000100678000008280")) == 4


def test_aarch64_instructions_have_four_bytes() -> None:
    assert count_instructions(Family.AARCH64, bytes(12)) == 3


def record(recorder: BlockRecorder, *blocks: tuple[int, int]) -> list[Interval]:
    for address, size in blocks:
        recorder.record(address, size)
    return recorder.finish()


def test_intervals_begin_where_the_measured_function_is_back() -> None:
    recorder = BlockRecorder(begin=100, end=200, ignored=0, base=0, size=512)
    intervals = record(
        recorder, (100, 10), (300, 4), (300, 4), (304, 6), (110, 20), (130, 8), (400, 2), (138, 2), (0, 2)
    )
    assert [(interval.site, interval.callee) for interval in intervals] == [(100, 300), (130, 400), (138, None)]
    assert intervals[0].blocks == {(100, 10): (1, 1), (300, 4): (2, 1), (304, 6): (1, 1)}
    assert intervals[1].blocks == {(110, 20): (1, 0), (130, 8): (1, 1), (400, 2): (1, 1)}
    assert intervals[2].blocks == {(138, 2): (1, 1)}
    assert merge(intervals)[300, 4] == (2, 1)


def test_a_branch_to_the_next_instruction_counts_as_not_taken() -> None:
    recorder = BlockRecorder(begin=0, end=100, ignored=1000, base=0, size=100)
    (interval,) = record(recorder, (0, 4), (4, 4), (0, 4), (4, 4), (1000, 2))
    assert interval.blocks == {(0, 4): (2, 0), (4, 4): (2, 2)}


def test_blocks_outside_of_the_counted_memory_are_left_out() -> None:
    recorder = BlockRecorder(begin=1000, end=1100, ignored=0, base=1000, size=100)
    (interval,) = record(recorder, (1000, 4), (2000, 4), (998, 2))
    assert interval.blocks == {(1000, 4): (1, 1)}


def test_blocks_of_two_sizes_at_one_address_are_a_bug() -> None:
    recorder = BlockRecorder(begin=0, end=100, ignored=1000, base=0, size=100)
    with pytest.raises(InternalError, match="blocks of two sizes"):
        record(recorder, (0, 4), (0, 6))
