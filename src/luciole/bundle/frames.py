"""How far a function moves the stack pointer, read from its machine code: Thumb, RISC-V and AArch64.

The bound is the sum of everything the function takes from the stack pointer, wherever it stands: never less than what
it really uses, since compilers adjust the stack once on every path and never in a loop. Code that changes the stack
pointer in a way that is not known here has no bound.

Encodings: Armv7-M and Armv8-M Architecture Reference Manuals, chapter "Alphabetical list of instructions"; The RISC-V
Instruction Set Manual, volume I, chapters "RV32I" and "C"; Arm Architecture Reference Manual for A-profile, chapter C4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """A call from the instruction at `site` to the one at `target`, both offsets in the section."""

    site: int
    target: int


@dataclass(frozen=True)
class Frame:
    """What a function takes: `bytes` of stack (None: not known), and the `calls` that the code itself tells.

    `has_indirect_call` is whether it calls through a register, so that nobody can tell what.
    """

    bytes: int | None
    calls: tuple[Call, ...] = ()
    has_indirect_call: bool = False


class _Unknown(Exception):
    """The stack pointer becomes something that cannot be read from the code."""


def thumb_frame(code: bytes, ranges: Iterable[tuple[int, int]]) -> Frame:
    """The frame of a Thumb function in the section `code`; `ranges` are the parts of it that are instructions, not
    data.
    """
    taken: int | None = 0
    calls: list[Call] = []
    is_indirect = False
    constants: dict[int, int] = {}
    for begin, end in ranges:
        at = begin
        while at + 2 <= end:
            first = struct.unpack_from("<H", code, at)[0]
            is_wide = first >> 11 in (0b11101, 0b11110, 0b11111) and at + 4 <= end
            try:
                if is_wide:
                    second = struct.unpack_from("<H", code, at + 2)[0]
                    change = _thumb_wide(first, second)
                    constants.clear()
                    target = _thumb_call(first, second, at)
                    calls += [Call(at, target)] if target is not None else []
                else:
                    change = _thumb_narrow(first, at, code, constants)
                    is_indirect = is_indirect or first & 0xFF80 == 0x4780
                taken = taken if taken is None else taken + change
            except _Unknown:
                taken = None
            at += 4 if is_wide else 2
    return Frame(taken, tuple(calls), is_indirect)


def _thumb_narrow(word: int, at: int, code: bytes, constants: dict[int, int]) -> int:
    """Bytes that a 16-bit instruction takes. `constants` has registers that the instructions right before loaded."""
    if word & 0xFE00 == 0xB400:  # push
        return 4 * (word & 0x1FF).bit_count()
    if word & 0xFF80 == 0xB080:  # sub sp, #n
        return 4 * (word & 0x7F)
    if word & 0xF800 == 0x4800:  # ldr r, [pc, #n]
        place = (at + 4 & ~3) + 4 * (word & 0xFF)
        if place + 4 <= len(code):
            constants[word >> 8 & 7] = struct.unpack_from("<i", code, place)[0]
        return 0
    known = dict(constants)
    constants.clear()
    if word & 0xFF87 == 0x4485:  # add sp, r
        register = word >> 3 & 15
        if register not in known:
            raise _Unknown
        return max(0, -known[register])
    if word & 0xFF87 == 0x4685:  # mov sp, r
        raise _Unknown
    return 0


def _thumb_wide(first: int, second: int) -> int:
    """Bytes that a 32-bit instruction takes."""
    if first == 0xE92D:  # push {...}
        return 4 * second.bit_count()
    if first == 0xF84D and second & 0x0F00 == 0x0D00:  # str r, [sp, #-n]!
        return second & 0xFF
    if first == 0xE96D:  # strd r, r, [sp, #-n]!
        return 4 * (second & 0xFF)
    if first & 0xFFBF == 0xED2D and second & 0x0E00 == 0x0A00:  # vpush
        return 4 * (second & 0xFF)
    if first & 0xFFBF == 0xED2D:  # a vector stored with writeback to sp
        raise _Unknown
    if second & 0x8F00 == 0x0D00:
        immediate = (first & 0x400) << 1 | (second & 0x7000) >> 4 | second & 0xFF
        if first & 0xFBEF == 0xF1AD:  # sub.w sp, sp, #n
            return _thumb_immediate(immediate)
        if first & 0xFBFF == 0xF2AD:  # subw sp, sp, #n
            return immediate
        if first & 0xFFEF in (0xEBAD, 0xEB0D, 0xEA4F):  # sub or add sp, sp, r; mov.w sp, r
            raise _Unknown
        if first & 0xFBE0 in (0xF100, 0xF1A0, 0xF200, 0xF2A0) and first & 15 != 13:  # sp = r + n
            raise _Unknown
    return 0


def _thumb_immediate(value: int) -> int:
    """A "modified immediate constant": 8 bits repeated or rotated."""
    byte = value & 0xFF
    match value >> 8:
        case 0:
            return byte
        case 1:
            return byte | byte << 16
        case 2:
            return byte << 8 | byte << 24
        case 3:
            return byte * 0x0101_0101
    rotation, number = value >> 7, value & 0x7F | 0x80
    return (number >> rotation | number << 32 - rotation) & 0xFFFF_FFFF


def _thumb_call(first: int, second: int, at: int) -> int | None:
    """Where a `bl` goes, as an offset in its section; relocations may say otherwise."""
    if first >> 11 != 0b11110 or second & 0xD000 != 0xD000:
        return None
    sign = first >> 10 & 1
    high = 1 ^ (second >> 13 & 1) ^ sign
    low = 1 ^ (second >> 11 & 1) ^ sign
    offset = sign << 24 | high << 23 | low << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1
    return at + 4 + (offset - (1 << 25) if sign else offset)


def riscv_frame(code: bytes, ranges: Iterable[tuple[int, int]], pointer_bits: int) -> Frame:
    """The frame of a RISC-V function. Calls carry relocations, so none are read from the code."""
    taken: int | None = 0
    is_indirect = False
    constants: dict[int, int] = {}
    for begin, end in ranges:
        at = begin
        while at + 2 <= end:
            word = struct.unpack_from("<H", code, at)[0]
            is_wide = word & 3 == 3 and at + 4 <= end
            if is_wide:
                word = struct.unpack_from("<I", code, at)[0]
            try:
                change = _riscv_wide(word, constants) if is_wide else _riscv_narrow(word, pointer_bits, constants)
                taken = taken if taken is None else taken + change
            except _Unknown:
                taken = None
            if is_wide:
                # jalr ra, n(r): a call follows an AUIPC with a relocation, and then it is direct.
                is_indirect = is_indirect or (word & 0xFFF == 0x0E7 and not _is_after_auipc(code, at))
            else:
                is_indirect = is_indirect or (word & 0xF07F == 0x9002 and word & 0x0F80 != 0)
            at += 4 if is_wide else 2
    return Frame(taken, (), is_indirect)


def _is_after_auipc(code: bytes, at: int) -> bool:
    return at >= 4 and struct.unpack_from("<I", code, at - 4)[0] & 0x7F == 0x17


def _riscv_wide(word: int, constants: dict[int, int]) -> int:
    """Bytes that a 32-bit instruction takes. `constants` has registers that the instructions right before set."""
    opcode, target, function = word & 0x7F, word >> 7 & 31, word >> 12 & 7
    first, second = word >> 15 & 31, word >> 20 & 31
    immediate = _signed(word >> 20, 12)
    known = dict(constants)
    constants.clear()
    if target == 2 and opcode not in (0x23, 0x27, 0x63):  # those have no target there: stores, branches
        if opcode == 0x13 and function == 0 and first == 2:  # addi sp, sp, n
            return max(0, -immediate)
        if opcode == 0x33 and function == 0 and first == 2 and second in known:  # add or sub sp, sp, r
            return max(0, known[second] if word >> 30 else -known[second])
        if opcode not in (0x07, 0x43, 0x47, 0x4B, 0x4F, 0x53, 0x57):  # those may write another file's register 2
            raise _Unknown
    elif opcode == 0x37:  # lui
        constants |= known | {target: _signed(word & 0xFFFF_F000, 32)}
    elif opcode in (0x13, 0x1B) and function == 0 and (first == 0 or first in known):  # addi, addiw
        constants |= known | {target: immediate + known.get(first, 0)}
    return 0


def _riscv_narrow(word: int, pointer_bits: int, constants: dict[int, int]) -> int:
    """Bytes that a 16-bit instruction takes."""
    quadrant, function, target = word & 3, word >> 13, word >> 7 & 31
    immediate = _signed(word >> 7 & 32 | word >> 2 & 31, 6)
    is_addition = function == 0 or (function == 1 and pointer_bits == 64)
    known = dict(constants)
    constants.clear()
    if quadrant == 1 and function == 3 and target == 2:  # c.addi16sp
        number = (word >> 2 & 1) << 5 | (word >> 3 & 3) << 7 | (word >> 5 & 1) << 6 | (word >> 6 & 1) << 4
        return max(0, (512 if word & 0x1000 else 0) - number)
    if quadrant == 1 and is_addition and target == 2:  # c.addi
        return max(0, -immediate)
    if quadrant == 1 and function == 3:  # c.lui
        constants |= known | {target: immediate << 12}
    elif quadrant == 1 and function == 2:  # c.li
        constants |= known | {target: immediate}
    elif quadrant == 1 and is_addition and target in known:  # c.addi, c.addiw
        constants |= known | {target: known[target] + immediate}
    elif quadrant == 2 and function == 0 and target in known:  # c.slli
        constants |= known | {target: known[target] << (word >> 7 & 32 | word >> 2 & 31)}
    elif quadrant == 2 and function == 4 and target == 2 and word >> 2 & 31:  # c.mv or c.add to sp
        register = word >> 2 & 31
        if not word & 0x1000 or register not in known:
            raise _Unknown
        return max(0, -known[register])
    return 0


def aarch64_frame(code: bytes, ranges: Iterable[tuple[int, int]]) -> Frame:
    """The frame of an AArch64 function. Calls carry relocations, so none are read from the code."""
    taken: int | None = 0
    is_indirect = False
    for begin, end in ranges:
        for at in range(begin, end - 3, 4):
            word = struct.unpack_from("<I", code, at)[0]
            target, source = word & 31, word >> 5 & 31
            change: int | None = 0
            if word & 0xFF80_0000 == 0xD100_0000 and target == 31:  # sub sp, r, #n
                number = (word >> 10 & 0xFFF) << (12 if word & 0x40_0000 else 0)
                change = number if source == 31 else None
            elif target == 31 and _writes_stack_pointer(word):
                change = None
            elif word & 0x3BC0_0000 == 0x2980_0000 and source == 31:  # stp, ldp with writeback before
                scale = 4 << (word >> 30) if word & 0x0400_0000 else (8 if word >> 30 else 4)
                change = max(0, -_signed(word >> 15 & 0x7F, 7)) * scale
            elif word & 0x3B20_0C00 == 0x3800_0C00 and source == 31:  # str, ldr with writeback before
                change = max(0, -_signed(word >> 12 & 0x1FF, 9))
            is_indirect = is_indirect or word & 0xFFFF_FC1F == 0xD63F_0000
            taken = None if taken is None or change is None else taken + change
    return Frame(taken, (), is_indirect)


def _writes_stack_pointer(word: int) -> bool:
    """Whether an AArch64 instruction with 31 as its target makes something unknown of the stack pointer."""
    if word & 0xFF80_0000 == 0x9100_0000:  # add sp, r, #n, where r is not sp
        return word >> 5 & 31 != 31
    if word & 0xFFE0_0000 in (0xCB20_0000, 0x8B20_0000):  # sub or add sp, r, r
        return True
    # and, orr or eor with an immediate; the flag-setting ands has no target then
    return word & 0x1F80_0000 == 0x1200_0000 and word & 0x6000_0000 != 0x6000_0000


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value
