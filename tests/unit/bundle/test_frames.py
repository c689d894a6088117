"""Stack frames read from machine code, one instruction after another."""

from __future__ import annotations

import struct

import pytest

from luciole.bundle.frames import Call, Frame, aarch64_frame, riscv_frame, thumb_frame


def code(*words: int, narrow: bool = False) -> bytes:
    return b"".join(struct.pack("<H" if narrow else "<I", word) for word in words)


def thumb(*halfwords: int) -> Frame:
    data = code(*halfwords, narrow=True)
    return thumb_frame(data, [(0, len(data))])


@pytest.mark.parametrize(
    ("halfwords", "taken"),
    [
        ([0xB5F0], 20),  # push {r4-r7, lr}
        ([0xB5F0, 0xBDF0], 20),  # ... pop {r4-r7, pc}
        ([0xB084, 0xB004], 16),  # sub sp, #16; add sp, #16
        ([0xE92D, 0x4FF0], 36),  # push.w {r4-r11, lr}
        ([0xF84D, 0x4D04], 4),  # str r4, [sp, #-4]!
        ([0xE96D, 0x4504], 16),  # strd r4, r5, [sp, #-16]!
        ([0xED2D, 0x8B10], 64),  # vpush {d8-d15}
        ([0xED6D, 0x8A01], 4),  # vpush {s17}
        ([0xF5AD, 0x7D00], 512),  # sub.w sp, sp, #512
        ([0xF1AD, 0x0D80], 128),  # sub.w sp, sp, #128
        ([0xF6AD, 0x7DFC], 4092),  # subw sp, sp, #4092
        ([0xF50D, 0x7D00], 0),  # add.w sp, sp, #512
        ([0xF85D, 0x4B04], 0),  # ldr r4, [sp], #4
        ([0x9001, 0xF8CD, 0x0010], 0),  # str r0, [sp, #4]; str.w r0, [sp, #16]
        ([0xB580, 0xB082, 0xB510], 24),  # every decrement counts
        ([0x4685], None),  # mov sp, r0
        ([0x4485], None),  # add sp, r0, of unknown r0
        ([0xEBAD, 0x0D01], None),  # sub.w sp, sp, r1
        ([0xED2D, 0x1F04], None),  # vstrw.32 q0, [sp, #-16]!
    ],
)
def test_thumb(halfwords: list[int], taken: int | None) -> None:
    assert thumb(*halfwords).bytes == taken


def test_a_large_frame_comes_from_the_literal_pool() -> None:
    # ldr r6, [pc, #0]; add sp, r6; .word -1000
    data = code(0x4E00, 0x44B5, narrow=True) + struct.pack("<i", -1000)
    assert thumb_frame(data, [(0, 4)]).bytes == 1000
    # An instruction in between may change the register.
    data = code(0x4E01, 0x3601, 0x44B5, 0xBF00, narrow=True) + struct.pack("<i", -1000)
    assert thumb_frame(data, [(0, 8)]).bytes is None


def test_data_between_instructions_is_not_read_as_code() -> None:
    data = code(0xB500, 0xB5F0, 0xBD00, narrow=True)
    assert thumb_frame(data, [(0, 2), (4, 6)]).bytes == 4


def test_calls_that_are_resolved_are_found_in_the_code() -> None:
    data = code(0xB580, 0xF000, 0xF803, 0xF7FF, 0xFFFB, 0xBD80, narrow=True)  # bl 12; bl 0
    assert thumb_frame(data, [(0, len(data))]).calls == (Call(2, 12), Call(6, 0))
    assert thumb(0x4780).has_indirect_call  # blx r0
    assert not thumb(0x4770).has_indirect_call  # bx lr


def riscv(*words: int, bits: int = 32) -> Frame:
    data = b"".join(struct.pack("<I" if word & 3 == 3 else "<H", word) for word in words)
    return riscv_frame(data, [(0, len(data))], bits)


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([0x1141], 16),  # addi sp, sp, -16, compressed
        ([0x7179, 0x6145], 48),  # addi sp, sp, -48; addi sp, sp, 48, compressed
        ([0xED010113], 304),  # addi sp, sp, -304
        ([0x13010113], 0),  # addi sp, sp, 304
        ([0x6505, 0x40A10133], 4096),  # lui a0, 1; sub sp, sp, a0
        ([0x00001537, 0x80050513, 0x40A10133], 2048),  # lui a0, 1; addi a0, a0, -2048; sub sp, sp, a0
        ([0x757D, 0x912A], 4096),  # lui a0, -1; add sp, sp, a0
        ([0x40A10133], None),  # sub sp, sp, a0, of unknown a0
        ([0x6505, 0xC22025F3, 0x40A10133], None),  # something else in between
        ([0x810A], 0),  # c.mv sp, sp is no instruction of compilers, and takes nothing
        ([0x812A], None),  # mv sp, a0
        ([0x00A12023], 0),  # sw a0, 0(sp)
        ([0xFE512F23], 0),  # sw t0, -2(sp), with the bits of x30 where others have a target
    ],
)
def test_riscv(words: list[int], taken: int | None) -> None:
    if words == [0x810A]:
        assert riscv(*words).bytes is None
    else:
        assert riscv(*words).bytes == taken


def test_calls_through_registers_are_seen_on_riscv() -> None:
    assert riscv(0x000500E7).has_indirect_call  # jalr a0
    assert riscv(0x9502).has_indirect_call  # c.jalr a0
    assert not riscv(0x8082).has_indirect_call  # ret
    assert not riscv(0x00000097, 0x000080E7).has_indirect_call  # auipc ra, 0; jalr ra, as relocations fill it


@pytest.mark.parametrize(
    ("word", "taken"),
    [
        (0xD10103FF, 64),  # sub sp, sp, #64
        (0xD14007FF, 4096),  # sub sp, sp, #1, lsl #12
        (0x910103FF, 0),  # add sp, sp, #64
        (0xA9BF7BFD, 16),  # stp x29, x30, [sp, #-16]!
        (0x6DBD23E9, 48),  # stp d9, d8, [sp, #-48]!
        (0xF81F0FFE, 16),  # str x30, [sp, #-16]!
        (0xA8C17BFD, 0),  # ldp x29, x30, [sp], #16
        (0x910003BF, None),  # mov sp, x29
        (0xCB2063FF, None),  # sub sp, sp, x0
        (0x927BE81F, None),  # and sp, x0, #-32
        (0xA90103FF, 0),  # stp xzr, x0, [sp, #16]
    ],
)
def test_aarch64(word: int, taken: int | None) -> None:
    data = code(word)
    assert aarch64_frame(data, [(0, 4)]).bytes == taken


def test_calls_through_registers_are_seen_on_aarch64() -> None:
    data = code(0xD63F0100)  # blr x8
    assert aarch64_frame(data, [(0, 4)]).has_indirect_call
