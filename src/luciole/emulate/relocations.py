"""The arithmetic of ELF relocations for Thumb, RISC-V and AArch64.

Sources: "ELF for the Arm Architecture" (IHI 0044), "ELF for the Arm 64-bit Architecture" (IHI 0056), "RISC-V ELF psABI"
(riscv-elf.adoc), and the instruction encodings of the three architecture manuals. The letters are those of these
documents: S is the symbol's address (bit 0 set for a Thumb function), A the addend, P the address of the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from luciole.emulate.cores import Family
from luciole.errors import CompileError


@dataclass(frozen=True)
class Relocation:
    """One resolved relocation.

    Attributes:
        kind: the architecture's relocation number.
        offset: of the place, in its section.
        place: P, address of the place.
        target: S, address of the symbol.
        addend: A, or None where the section's bytes hold it (Thumb).
        symbol: the symbol's name, for messages.
        section: the section's name, for messages.
        high_part: for the RISC-V low halves of a pc-relative pair, the full S + A - P of the pair's first instruction.
    """

    kind: int
    offset: int
    place: int
    target: int
    addend: int | None
    symbol: str
    section: str
    high_part: int = 0


def _signed(value: int, bits: int) -> int:
    """The low `bits` of `value` as a two's-complement number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _check_range(relocation: Relocation, value: int, bits: int, name: str) -> None:
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise CompileError.of(
            "relocation-overflow",
            f'relocation {name} against "{relocation.symbol}" in {relocation.section} does not reach: {value} needs'
            f" more than {bits} bits",
            help="compile for a code model that reaches the emulator's memory, for instance medium on RV64",
        )


def _get(data: bytearray, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")


def _put(data: bytearray, offset: int, size: int, value: int) -> None:
    data[offset : offset + size] = (value & ((1 << (8 * size)) - 1)).to_bytes(size, "little")


def _addend(data: bytearray, relocation: Relocation, size: int) -> int:
    """A of a plain data word: given, or the signed word in place."""
    if relocation.addend is not None:
        return relocation.addend
    return _signed(_get(data, relocation.offset, size), 8 * size)


def _put_word(data: bytearray, relocation: Relocation, size: int, *, relative: bool) -> None:
    """Store S + A, or S + A - P, as `size` bytes."""
    value = relocation.target + _addend(data, relocation, size) - (relocation.place if relative else 0)
    _put(data, relocation.offset, size, value)


# ---------------------------------------------------------------------------------------------------------------- Thumb
def _thumb_get(data: bytearray, offset: int) -> int:
    """A 32-bit Thumb instruction, first halfword in the high half."""
    return _get(data, offset, 2) << 16 | _get(data, offset + 2, 2)


def _thumb_put(data: bytearray, offset: int, word: int) -> None:
    _put(data, offset, 2, word >> 16)
    _put(data, offset + 2, 2, word)


def _thumb_branch24(data: bytearray, relocation: Relocation) -> None:
    """BL and B.W: imm32 = S:I1:I2:imm10:imm11:0 with I = NOT(J XOR S), encoding T1 of BL and T4 of B."""
    word = _thumb_get(data, relocation.offset)
    addend = relocation.addend
    if addend is None:
        sign = word >> 26 & 1
        i1 = ~(word >> 13 ^ sign) & 1
        i2 = ~(word >> 11 ^ sign) & 1
        addend = _signed(sign << 24 | i1 << 23 | i2 << 22 | (word >> 16 & 0x3FF) << 12 | (word & 0x7FF) << 1, 25)
    value = (relocation.target & ~1) + addend - relocation.place
    _check_range(relocation, value, 25, "R_ARM_THM_CALL or R_ARM_THM_JUMP24")
    sign = value >> 24 & 1
    j1 = ~(value >> 23) & 1 ^ sign
    j2 = ~(value >> 22) & 1 ^ sign
    word &= ~(1 << 26 | 0x3FF << 16 | 1 << 13 | 1 << 11 | 0x7FF)
    word |= sign << 26 | (value >> 12 & 0x3FF) << 16 | j1 << 13 | j2 << 11 | (value >> 1 & 0x7FF)
    _thumb_put(data, relocation.offset, word)


def _thumb_branch19(data: bytearray, relocation: Relocation) -> None:
    """Conditional B.W: imm32 = S:J2:J1:imm6:imm11:0, encoding T3."""
    word = _thumb_get(data, relocation.offset)
    addend = relocation.addend
    if addend is None:
        fields = (word >> 26 & 1) << 20 | (word >> 11 & 1) << 19 | (word >> 13 & 1) << 18
        addend = _signed(fields | (word >> 16 & 0x3F) << 12 | (word & 0x7FF) << 1, 21)
    value = (relocation.target & ~1) + addend - relocation.place
    _check_range(relocation, value, 21, "R_ARM_THM_JUMP19")
    word &= ~(1 << 26 | 0x3F << 16 | 1 << 13 | 1 << 11 | 0x7FF)
    word |= (value >> 20 & 1) << 26 | (value >> 19 & 1) << 11 | (value >> 18 & 1) << 13
    _thumb_put(data, relocation.offset, word | (value >> 12 & 0x3F) << 16 | (value >> 1 & 0x7FF))


def _thumb_short_branch(data: bytearray, relocation: Relocation, bits: int) -> None:
    """16-bit B with an 8- or 11-bit halfword offset."""
    word = _get(data, relocation.offset, 2)
    mask = (1 << bits) - 1
    addend = relocation.addend if relocation.addend is not None else _signed((word & mask) << 1, bits + 1)
    value = (relocation.target & ~1) + addend - relocation.place
    _check_range(relocation, value, bits + 1, f"R_ARM_THM_JUMP{bits}")
    _put(data, relocation.offset, 2, word & ~mask | value >> 1 & mask)


def _thumb_move16(data: bytearray, relocation: Relocation, *, top: bool, relative: bool) -> None:
    """MOVW and MOVT: imm16 = imm4:i:imm3:imm8; the addend in place is that field, signed."""
    word = _thumb_get(data, relocation.offset)
    addend = relocation.addend
    if addend is None:
        addend = _signed((word >> 16 & 0xF) << 12 | (word >> 26 & 1) << 11 | (word >> 12 & 7) << 8 | word & 0xFF, 16)
    value = relocation.target + addend - (relocation.place if relative else 0)
    value = (value >> 16 if top else value) & 0xFFFF
    word &= ~(0xF << 16 | 1 << 26 | 7 << 12 | 0xFF)
    word |= (value >> 12) << 16 | (value >> 11 & 1) << 26 | (value >> 8 & 7) << 12 | value & 0xFF
    _thumb_put(data, relocation.offset, word)


def _thumb_add_byte(data: bytearray, relocation: Relocation, shift: int) -> None:
    """MOVS and ADDS with an 8-bit immediate: a byte of the address (execute-only code of Armv6-M)."""
    word = _get(data, relocation.offset, 2)
    addend = relocation.addend if relocation.addend is not None else word & 0xFF
    _put(data, relocation.offset, 2, word & 0xFF00 | (relocation.target + addend) >> shift & 0xFF)


def _apply_thumb(data: bytearray, relocation: Relocation) -> bool:
    kind = relocation.kind
    if kind in (2, 38):  # R_ARM_ABS32, R_ARM_TARGET1
        _put_word(data, relocation, 4, relative=False)
    elif kind == 3:  # R_ARM_REL32
        _put_word(data, relocation, 4, relative=True)
    elif kind in (10, 30):  # R_ARM_THM_CALL, R_ARM_THM_JUMP24
        _thumb_branch24(data, relocation)
    elif kind in (47, 48):  # R_ARM_THM_MOVW_ABS_NC, R_ARM_THM_MOVT_ABS
        _thumb_move16(data, relocation, top=kind == 48, relative=False)
    elif kind in (49, 50):  # R_ARM_THM_MOVW_PREL_NC, R_ARM_THM_MOVT_PREL
        _thumb_move16(data, relocation, top=kind == 50, relative=True)
    elif kind == 51:  # R_ARM_THM_JUMP19
        _thumb_branch19(data, relocation)
    elif kind in (102, 103):  # R_ARM_THM_JUMP11, R_ARM_THM_JUMP8
        _thumb_short_branch(data, relocation, 11 if kind == 102 else 8)
    elif 132 <= kind <= 135:  # R_ARM_THM_ALU_ABS_G0_NC .. G3
        _thumb_add_byte(data, relocation, 8 * (kind - 132))
    else:
        return kind in (0, 40, 42)  # R_ARM_NONE, R_ARM_V4BX, R_ARM_PREL31 (unwind tables, which are not loaded)
    return True


# --------------------------------------------------------------------------------------------------------------- RISC-V
def _riscv_upper(data: bytearray, relocation: Relocation, value: int) -> None:
    """LUI and AUIPC: the upper 20 bits, rounded since the low 12 are signed."""
    _check_range(relocation, value + 0x800, 32, "of an upper immediate")
    word = _get(data, relocation.offset, 4)
    _put(data, relocation.offset, 4, word & 0xFFF | (value + 0x800 >> 12 & 0xFFFFF) << 12)


def _riscv_lower_i(data: bytearray, offset: int, value: int) -> None:
    _put(data, offset, 4, _get(data, offset, 4) & 0xFFFFF | (value & 0xFFF) << 20)


def _riscv_lower_s(data: bytearray, offset: int, value: int) -> None:
    word = _get(data, offset, 4) & ~(0x7F << 25 | 0x1F << 7)
    _put(data, offset, 4, word | (value >> 5 & 0x7F) << 25 | (value & 0x1F) << 7)


def _riscv_branch(data: bytearray, relocation: Relocation, value: int) -> None:
    """B format: imm[12|10:5] and imm[4:1|11]."""
    _check_range(relocation, value, 13, "R_RISCV_BRANCH")
    word = _get(data, relocation.offset, 4) & 0x01FFF07F
    word |= (value >> 12 & 1) << 31 | (value >> 5 & 0x3F) << 25 | (value >> 1 & 0xF) << 8 | (value >> 11 & 1) << 7
    _put(data, relocation.offset, 4, word)


def _riscv_jump(data: bytearray, relocation: Relocation, value: int) -> None:
    """J format: imm[20|10:1|11|19:12]."""
    _check_range(relocation, value, 21, "R_RISCV_JAL")
    word = _get(data, relocation.offset, 4) & 0xFFF
    word |= (value >> 20 & 1) << 31 | (value >> 1 & 0x3FF) << 21 | (value >> 11 & 1) << 20 | (value >> 12 & 0xFF) << 12
    _put(data, relocation.offset, 4, word)


def _riscv_compressed(data: bytearray, relocation: Relocation, value: int) -> None:
    """C.BEQZ / C.BNEZ (44), C.J / C.JAL (45), C.LUI (46)."""
    word = _get(data, relocation.offset, 2)
    if relocation.kind == 44:
        _check_range(relocation, value, 9, "R_RISCV_RVC_BRANCH")
        word &= 0xE383
        word |= (value >> 8 & 1) << 12 | (value >> 3 & 3) << 10 | (value >> 6 & 3) << 5
        word |= (value >> 1 & 3) << 3 | (value >> 5 & 1) << 2
    elif relocation.kind == 45:
        _check_range(relocation, value, 12, "R_RISCV_RVC_JUMP")
        word &= 0xE003
        word |= (value >> 11 & 1) << 12 | (value >> 4 & 1) << 11 | (value >> 8 & 3) << 9 | (value >> 10 & 1) << 8
        word |= (value >> 6 & 1) << 7 | (value >> 7 & 1) << 6 | (value >> 1 & 7) << 3 | (value >> 5 & 1) << 2
    else:
        upper = value + 0x800 >> 12
        _check_range(relocation, upper, 6, "R_RISCV_RVC_LUI")
        word = word & 0xEF83 | (upper >> 5 & 1) << 12 | (upper & 0x1F) << 2
    _put(data, relocation.offset, 2, word)


def _riscv_accumulate(data: bytearray, relocation: Relocation, value: int) -> bool:
    """ADD8..ADD64 (33..36), SUB8..SUB64 (37..40), SUB6 (52), SET6..SET32 (53..56): differences of labels."""
    kind, offset = relocation.kind, relocation.offset
    if 33 <= kind <= 40:
        size = 1 << (kind - 33) % 4
        _put(data, offset, size, _get(data, offset, size) + (value if kind <= 36 else -value))
    elif kind in (52, 53):
        old = data[offset]
        data[offset] = old & 0xC0 | ((old - value if kind == 52 else value) & 0x3F)
    elif 54 <= kind <= 56:
        _put(data, offset, 1 << (kind - 54), value)
    else:
        return False
    return True


def _apply_riscv(data: bytearray, relocation: Relocation) -> bool:
    kind, offset = relocation.kind, relocation.offset
    value = relocation.target + (relocation.addend or 0)
    relative = value - relocation.place
    if kind in (1, 2):  # R_RISCV_32, R_RISCV_64
        _put(data, offset, 4 * kind, value)
    elif kind == 16:  # R_RISCV_BRANCH
        _riscv_branch(data, relocation, relative)
    elif kind == 17:  # R_RISCV_JAL
        _riscv_jump(data, relocation, relative)
    elif kind in (18, 19):  # R_RISCV_CALL, R_RISCV_CALL_PLT: AUIPC then JALR
        _riscv_upper(data, relocation, relative)
        _riscv_lower_i(data, offset + 4, relative)
    elif kind == 23:  # R_RISCV_PCREL_HI20
        _riscv_upper(data, relocation, relative)
    elif kind == 24:  # R_RISCV_PCREL_LO12_I
        _riscv_lower_i(data, offset, relocation.high_part)
    elif kind == 25:  # R_RISCV_PCREL_LO12_S
        _riscv_lower_s(data, offset, relocation.high_part)
    elif kind == 26:  # R_RISCV_HI20
        _riscv_upper(data, relocation, value)
    elif kind == 27:  # R_RISCV_LO12_I
        _riscv_lower_i(data, offset, value)
    elif kind == 28:  # R_RISCV_LO12_S
        _riscv_lower_s(data, offset, value)
    elif kind in (44, 45):  # R_RISCV_RVC_BRANCH, R_RISCV_RVC_JUMP
        _riscv_compressed(data, relocation, relative)
    elif kind == 46:  # R_RISCV_RVC_LUI
        _riscv_compressed(data, relocation, value)
    elif kind in (57, 59):  # R_RISCV_32_PCREL, R_RISCV_PLT32
        _put(data, offset, 4, relative)
    else:
        # R_RISCV_NONE; R_RISCV_RELAX allows a linker to shorten code; R_RISCV_ALIGN marks no-operations that may then
        # be surplus. Left as they are the code is right, and its count includes these no-operations.
        return kind in (0, 43, 51) or _riscv_accumulate(data, relocation, value)
    return True


# -------------------------------------------------------------------------------------------------------------- AArch64
def _aarch64_branch(data: bytearray, relocation: Relocation, value: int, bits: int, shift: int) -> None:
    """A word offset of `bits` bits at `shift`: B, BL (26 at 0), B.cond, CBZ (19 at 5), TBZ (14 at 5)."""
    _check_range(relocation, value, bits + 2, f"of a {bits}-bit branch")
    mask = ((1 << bits) - 1) << shift
    word = _get(data, relocation.offset, 4)
    _put(data, relocation.offset, 4, word & ~mask | (value >> 2) << shift & mask)


def _aarch64_address(data: bytearray, relocation: Relocation, value: int) -> None:
    """ADR and ADRP: immlo in bits 30:29, immhi in bits 23:5."""
    _check_range(relocation, value, 21, "of ADR or ADRP")
    word = _get(data, relocation.offset, 4) & ~(3 << 29 | 0x7FFFF << 5)
    _put(data, relocation.offset, 4, word | (value & 3) << 29 | (value >> 2 & 0x7FFFF) << 5)


def _aarch64_immediate(data: bytearray, relocation: Relocation, value: int, bits: int, shift: int) -> None:
    mask = ((1 << bits) - 1) << shift
    _put(data, relocation.offset, 4, _get(data, relocation.offset, 4) & ~mask | value << shift & mask)


#: R_AARCH64_ADD_ABS_LO12_NC and R_AARCH64_LDST<8..128>_ABS_LO12_NC, by the scale of the immediate in bits.
_AARCH64_LOW12 = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}


def _apply_aarch64(data: bytearray, relocation: Relocation) -> bool:
    kind = relocation.kind
    value = relocation.target + (relocation.addend or 0)
    relative = value - relocation.place
    if 257 <= kind <= 259:  # R_AARCH64_ABS64, ABS32, ABS16
        _put_word(data, relocation, 8 >> (kind - 257), relative=False)
    elif 260 <= kind <= 262:  # R_AARCH64_PREL64, PREL32, PREL16
        _put_word(data, relocation, 8 >> (kind - 260), relative=True)
    elif kind == 314:  # R_AARCH64_PLT32
        _put_word(data, relocation, 4, relative=True)
    elif 263 <= kind <= 269:  # R_AARCH64_MOVW_UABS_G0, G0_NC, G1, G1_NC, G2, G2_NC, G3
        _aarch64_immediate(data, relocation, value >> 16 * ((kind - 263) // 2) & 0xFFFF, 16, 5)
    elif kind == 274:  # R_AARCH64_ADR_PREL_LO21
        _aarch64_address(data, relocation, relative)
    elif kind in (275, 276):  # R_AARCH64_ADR_PREL_PG_HI21, and _NC
        _aarch64_address(data, relocation, (value >> 12) - (relocation.place >> 12))
    elif kind in _AARCH64_LOW12:
        _aarch64_immediate(data, relocation, (value & 0xFFF) >> _AARCH64_LOW12[kind], 12, 10)
    elif kind == 279:  # R_AARCH64_TSTBR14
        _aarch64_branch(data, relocation, relative, 14, 5)
    elif kind in (273, 280):  # R_AARCH64_LD_PREL_LO19, R_AARCH64_CONDBR19
        _aarch64_branch(data, relocation, relative, 19, 5)
    elif kind in (282, 283):  # R_AARCH64_JUMP26, R_AARCH64_CALL26
        _aarch64_branch(data, relocation, relative, 26, 0)
    else:
        return kind in (0, 256)  # R_AARCH64_NONE, in its two numbers
    return True


_APPLY: Mapping[Family, Callable[[bytearray, Relocation], bool]] = {
    Family.THUMB: _apply_thumb,
    Family.RISCV32: _apply_riscv,
    Family.RISCV64: _apply_riscv,
    Family.AARCH64: _apply_aarch64,
}


def apply_relocation(family: Family, data: bytearray, relocation: Relocation) -> None:
    """Patch the section's bytes `data` for one relocation.

    Raises `CompileError`: `unknown-relocation` for a kind that is not handled, `relocation-overflow` for a target out
    of reach.
    """
    if not _APPLY[family](data, relocation):
        raise CompileError.of(
            "unknown-relocation",
            f'relocation {relocation.kind} against "{relocation.symbol}" in {relocation.section} is not known for'
            f" {family.value}",
            help="compile without position-independent code or thread-local data",
        )
