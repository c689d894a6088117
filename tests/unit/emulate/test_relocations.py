"""Relocations, checked by disassembling what they made: the instruction then has the target that was asked for."""

from __future__ import annotations

import capstone
import pytest
from capstone import arm64
from hypothesis import given, settings
from hypothesis import strategies as st

from luciole.emulate.cores import Family
from luciole.emulate.relocations import Relocation, apply_relocation
from luciole.errors import CompileError

PLACE = 0x0810_0000


def relocated(family: Family, kind: int, code: str, target: int, addend: int | None = None, **more: int) -> bytes:
    data = bytearray.fromhex(code)
    relocation = Relocation(kind, 0, PLACE, target, addend, "symbol", ".text", **more)
    apply_relocation(family, data, relocation)
    return bytes(data)


def disassemble(family: Family, code: bytes, address: int = PLACE) -> list[capstone.CsInsn]:
    architecture, mode = {
        Family.THUMB: (capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS),
        Family.RISCV32: (capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC),
        Family.RISCV64: (capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
        Family.AARCH64: (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }[family]
    disassembler = capstone.Cs(architecture, mode)
    disassembler.detail = True
    return list(disassembler.disasm(code, address))


def thumb_even(distance: int) -> st.SearchStrategy[int]:
    """Even offsets of at most `distance` from where a Thumb branch counts, which is 4 bytes on."""
    return even(distance).map(lambda offset: offset + 4)


def even(distance: int) -> st.SearchStrategy[int]:
    """Even offsets of at most `distance` in both directions."""
    return st.integers(-distance // 2, distance // 2 - 1).map(lambda half: 2 * half)


@settings(max_examples=60)
@given(offset=thumb_even(1 << 24), kind=st.sampled_from([(10, "fff7feff", "bl"), (30, "fff7febf", "b.w")]))
def test_thumb_calls_and_jumps_reach_their_target(offset: int, kind: tuple[int, str, str]) -> None:
    number, code, mnemonic = kind
    target = PLACE + offset
    (instruction,) = disassemble(Family.THUMB, relocated(Family.THUMB, number, code, target | 1))
    assert instruction.mnemonic == mnemonic
    assert instruction.operands[0].imm & 0xFFFF_FFFF == target


@settings(max_examples=40)
@given(offset=thumb_even(1 << 20))
def test_thumb_conditional_jumps_reach_their_target(offset: int) -> None:
    (instruction,) = disassemble(Family.THUMB, relocated(Family.THUMB, 51, "3ff4feaf", PLACE + offset | 1))
    assert instruction.mnemonic.startswith("beq")
    assert instruction.operands[0].imm & 0xFFFF_FFFF == PLACE + offset


@pytest.mark.parametrize("offset", [-2044, -252, -4, 0, 2, 258, 2050])
def test_short_thumb_jumps_reach_their_target(offset: int) -> None:
    (instruction,) = disassemble(Family.THUMB, relocated(Family.THUMB, 102, "fee7", PLACE + offset | 1))
    assert instruction.operands[0].imm & 0xFFFF_FFFF == PLACE + offset
    if -252 <= offset <= 258:
        (instruction,) = disassemble(Family.THUMB, relocated(Family.THUMB, 103, "fed0", PLACE + offset | 1))
        assert instruction.operands[0].imm & 0xFFFF_FFFF == PLACE + offset


@settings(max_examples=60)
@given(target=st.integers(0, 0xFFFF_FFFF), relative=st.booleans())
def test_thumb_movw_and_movt_make_the_address(target: int, relative: bool) -> None:
    low = relocated(Family.THUMB, 49 if relative else 47, "40f20000", target)
    high = relocated(Family.THUMB, 50 if relative else 48, "c0f20000", target)
    immediates = [disassemble(Family.THUMB, code)[0].operands[1].imm for code in (low, high)]
    wanted = target - (PLACE if relative else 0)
    assert immediates == [wanted & 0xFFFF, wanted >> 16 & 0xFFFF]


def test_a_thumb_movw_in_place_addend_is_added() -> None:
    code = relocated(Family.THUMB, 47, "40f21000", 0x2000_0000)  # MOVW r0, #16
    assert disassemble(Family.THUMB, code)[0].operands[1].imm == 16


def test_thumb_address_bytes_of_armv6m() -> None:
    target = 0x1234_5678
    found = [relocated(Family.THUMB, 132 + index, "0020", target)[0] for index in range(4)]
    assert found == [0x78, 0x56, 0x34, 0x12]


@pytest.mark.parametrize(
    ("family", "kind", "size", "relative"),
    [
        (Family.THUMB, 2, 4, False),
        (Family.THUMB, 38, 4, False),
        (Family.THUMB, 3, 4, True),
        (Family.RISCV32, 1, 4, False),
        (Family.RISCV64, 2, 8, False),
        (Family.RISCV32, 57, 4, True),
        (Family.AARCH64, 257, 8, False),
        (Family.AARCH64, 258, 4, False),
        (Family.AARCH64, 260, 8, True),
        (Family.AARCH64, 261, 4, True),
    ],
)
def test_data_words(family: Family, kind: int, size: int, relative: bool) -> None:
    target, addend = 0x0812_3456, 20
    if family is Family.THUMB:  # the addend stands in the word itself
        found = relocated(family, kind, addend.to_bytes(size, "little").hex(), target)
    else:
        found = relocated(family, kind, "00" * size, target, addend)
    assert int.from_bytes(found, "little") == target + addend - (PLACE if relative else 0)


@settings(max_examples=60)
@given(offset=st.integers(-(1 << 31) + (1 << 12), (1 << 31) - (1 << 12)))
def test_riscv_calls_and_pc_relative_pairs_reach_their_target(offset: int) -> None:
    code = relocated(Family.RISCV64, 19, "97000000e7800000", PLACE + offset, 0)
    upper, lower = int.from_bytes(code[:4], "little"), int.from_bytes(code[4:], "little")
    assert signed(upper & 0xFFFF_F000, 32) + signed(lower >> 20, 12) == offset
    assert relocated(Family.RISCV64, 23, "97000000", PLACE + offset, 0) == code[:4]


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


@settings(max_examples=60)
@given(value=st.integers(-(1 << 31) + 4096, (1 << 31) - 4096))
def test_riscv_halves_add_up(value: int) -> None:
    word = int.from_bytes(relocated(Family.RISCV64, 26, "37050000", value, 0), "little")
    load = int.from_bytes(relocated(Family.RISCV64, 27, "03250500", value, 0), "little")
    save = int.from_bytes(relocated(Family.RISCV64, 28, "2320a500", value, 0), "little")
    relative_load = int.from_bytes(relocated(Family.RISCV64, 24, "03250500", 0, 0, high_part=value), "little")
    relative_save = int.from_bytes(relocated(Family.RISCV64, 25, "2320a500", 0, 0, high_part=value), "little")
    high = signed(word & 0xFFFF_F000, 32)
    low_of_save = signed((save >> 25) << 5 | save >> 7 & 31, 12)
    assert high + signed(load >> 20, 12) == value
    assert high + low_of_save == value
    assert (relative_load, relative_save) == (load, save)


@settings(max_examples=40)
@given(offset=even(1 << 12))
def test_riscv_branches_reach_their_target(offset: int) -> None:
    (instruction,) = disassemble(Family.RISCV32, relocated(Family.RISCV32, 16, "6304b500", PLACE + offset, 0))
    assert instruction.mnemonic == "beq" and instruction.operands[-1].imm == offset


@settings(max_examples=40)
@given(offset=even(1 << 20))
def test_riscv_jumps_reach_their_target(offset: int) -> None:
    (instruction,) = disassemble(Family.RISCV32, relocated(Family.RISCV32, 17, "ef000000", PLACE + offset, 0))
    assert instruction.mnemonic == "jal" and instruction.operands[-1].imm == offset


@settings(max_examples=40)
@given(offset=even(1 << 8))
def test_compressed_riscv_branches_reach_their_target(offset: int) -> None:
    (instruction,) = disassemble(Family.RISCV32, relocated(Family.RISCV32, 44, "11c1", PLACE + offset, 0))
    assert instruction.mnemonic == "c.beqz" and instruction.operands[-1].imm == offset


@settings(max_examples=40)
@given(offset=even(1 << 11))
def test_compressed_riscv_jumps_reach_their_target(offset: int) -> None:
    (instruction,) = disassemble(Family.RISCV32, relocated(Family.RISCV32, 45, "01a0", PLACE + offset, 0))
    assert instruction.mnemonic == "c.j" and instruction.operands[-1].imm == offset


def test_riscv_differences_of_labels() -> None:
    data = bytearray(8)
    for kind, target in ((35, 0x1000), (39, 0x0FF0)):  # ADD32, SUB32
        apply_relocation(Family.RISCV32, data, Relocation(kind, 0, PLACE, target, 4, "label", ".rodata"))
    assert int.from_bytes(data[:4], "little") == 0x10
    apply_relocation(Family.RISCV32, data, Relocation(53, 4, PLACE, 0x45, 0, "label", ".rodata"))  # SET6
    apply_relocation(Family.RISCV32, data, Relocation(52, 4, PLACE, 2, 0, "label", ".rodata"))  # SUB6
    apply_relocation(Family.RISCV32, data, Relocation(55, 6, PLACE, 0xABCD, 0, "label", ".rodata"))  # SET16
    assert data[4] == 3 and data[6:8] == bytes.fromhex("cdab")


def test_riscv_relaxation_marks_change_nothing() -> None:
    for kind in (0, 43, 51):
        assert relocated(Family.RISCV32, kind, "13000000", 0x1234, 2) == bytes.fromhex("13000000")


@settings(max_examples=40)
@given(offset=st.integers(-(1 << 25), (1 << 25) - 1), kind=st.sampled_from([(283, "00000094"), (282, "00000014")]))
def test_aarch64_calls_and_jumps_reach_their_target(offset: int, kind: tuple[int, str]) -> None:
    (instruction,) = disassemble(Family.AARCH64, relocated(Family.AARCH64, kind[0], kind[1], PLACE + 4 * offset, 0))
    assert signed(instruction.operands[0].imm, 64) == PLACE + 4 * offset


@pytest.mark.parametrize(("kind", "code"), [(280, "00000054"), (279, "00000036"), (273, "00000058")])
@pytest.mark.parametrize("offset", [-32768, -4, 0, 4, 32764])
def test_short_aarch64_branches_reach_their_target(kind: int, code: str, offset: int) -> None:
    (instruction,) = disassemble(Family.AARCH64, relocated(Family.AARCH64, kind, code, PLACE + offset, 0))
    assert instruction.operands[-1].imm == PLACE + offset


@settings(max_examples=60)
@given(target=st.integers(0, (1 << 32) - 1))
def test_aarch64_page_and_low_bits_make_the_address(target: int) -> None:
    (page,) = disassemble(Family.AARCH64, relocated(Family.AARCH64, 275, "00000090", target, 0))
    (low,) = disassemble(Family.AARCH64, relocated(Family.AARCH64, 277, "00000091", target, 0))
    assert page.operands[1].imm + low.operands[2].imm == target
    for kind, code, scale in ((278, "00004039", 1), (284, "00004079", 2), (285, "000040b9", 4), (286, "000040f9", 8)):
        aligned = target // scale * scale
        (load,) = disassemble(Family.AARCH64, relocated(Family.AARCH64, kind, code, aligned, 0))
        (operand,) = [operand for operand in load.operands if operand.type == arm64.ARM64_OP_MEM]
        assert operand.mem.disp == aligned & 0xFFF


def test_aarch64_moves_make_a_64_bit_address() -> None:
    target = 0x1234_5678_9ABC_DEF0
    found = []
    for kind in (264, 266, 268, 269):  # MOVW_UABS_G0_NC, G1_NC, G2_NC, G3
        (move,) = disassemble(Family.AARCH64, relocated(Family.AARCH64, kind, "000080f2", target, 0))
        found.append(move.operands[1].imm & 0xFFFF)
    assert found == [0xDEF0, 0x9ABC, 0x5678, 0x1234]


@pytest.mark.parametrize(
    ("family", "kind", "code", "target"),
    [
        (Family.THUMB, 10, "fff7feff", PLACE + (1 << 24) + 4),
        (Family.THUMB, 103, "fed0", PLACE + 300),
        (Family.RISCV64, 26, "37050000", 0x8000_0000),
        (Family.RISCV32, 16, "6304b500", PLACE + 4096),
        (Family.AARCH64, 283, "00000094", PLACE + (1 << 27)),
    ],
)
def test_a_target_out_of_reach_is_an_error(family: Family, kind: int, code: str, target: int) -> None:
    with pytest.raises(CompileError, match=r'against "symbol" in \.text does not reach'):
        relocated(family, kind, code, target, None if family is Family.THUMB else 0)


def test_an_unknown_relocation_is_an_error_with_its_number() -> None:
    for family in Family:
        with pytest.raises(CompileError) as caught:
            relocated(family, 999, "00000000", 0, 0)
        assert str(caught.value) == (
            f'error[unknown-relocation]: relocation 999 against "symbol" in .text is not known for {family.value}\n'
            "  help: compile without position-independent code or thread-local data"
        )
