"""Objects without the sections that nobody needs."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile

from luciole.bundle.elf import without_sections, without_unwind_tables
from luciole.bundle.objects import build_object
from luciole.emit.native import LlvmModule, compile_object
from luciole.errors import InternalError
from luciole.ir.target import find_target
from unit.bundle.graphs import chain, program_of

TEXT = """
define i32 @double(i32 %a) nounwind section ".text.double" {
  %b = add i32 %a, %a
  ret i32 %b
}
define i32 @triple(i32 %a) nounwind section ".text.triple" {
  %b = call i32 @double(i32 %a)
  %c = add i32 %a, %b
  ret i32 %c
}
"""


def sections(data: bytes) -> dict[str, bytes]:
    return {s.name: s.data() for s in ELFFile(io.BytesIO(data)).iter_sections()}


def symbols(data: bytes) -> dict[str, tuple[str, int, int]]:
    """Section's name, value and size of each named symbol that is not one of the linker's marks."""
    elf = ELFFile(io.BytesIO(data))
    found = {}
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        if isinstance(symbol["st_shndx"], int) and symbol.name and not symbol.name.startswith("$"):
            home = elf.get_section(symbol["st_shndx"]).name
            found[symbol.name] = (home, symbol["st_value"], symbol["st_size"])
    return found


def relocations(data: bytes) -> list[tuple[str, int, int, str]]:
    """Patched section, offset, type and symbol's name of every relocation."""
    elf = ELFFile(io.BytesIO(data))
    found = []
    for section in elf.iter_sections():
        if section["sh_type"] in ("SHT_REL", "SHT_RELA"):
            table = elf.get_section(section["sh_link"])
            home = elf.get_section(section["sh_info"]).name
            for entry in section.iter_relocations():
                name = table.get_symbol(entry["r_info_sym"]).name
                found.append((home, entry["r_offset"], entry["r_info_type"], name))
    return found


def test_unwind_tables_go_and_all_else_stays() -> None:
    before = compile_object([LlvmModule(TEXT)], find_target("cortex-m4"))
    assert any(name.startswith(".ARM.exidx") for name in sections(before))
    after = without_unwind_tables(before)
    assert len(after) < len(before)
    kept = {n: d for n, d in sections(before).items() if "exidx" not in n}
    changed = {".symtab", ".strtab"} | {n for n in kept if n.startswith(".rel")}
    assert {n: d for n, d in sections(after).items() if n not in changed} == {
        n: d for n, d in kept.items() if n not in changed
    }
    assert set(sections(after)) == set(kept)
    assert symbols(after) == symbols(before)
    assert relocations(after) == [r for r in relocations(before) if "exidx" not in r[0]]


def test_local_symbols_still_come_first() -> None:
    table = ELFFile(io.BytesIO(without_unwind_tables(compile_object([LlvmModule(TEXT)], find_target("cortex-m4")))))
    section = table.get_section_by_name(".symtab")
    is_local = [s["st_info"]["bind"] == "STB_LOCAL" for s in section.iter_symbols()]
    assert is_local == sorted(is_local, reverse=True)
    assert section["sh_info"] == sum(is_local)


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imc", "rv64gc", "cortex-a53", "x86-64"])
def test_any_section_can_go(target: str) -> None:
    before = compile_object([LlvmModule(TEXT)], find_target(target))
    after = without_sections(before, lambda name: name == ".note.GNU-stack")
    assert set(sections(before)) - set(sections(after)) == {".note.GNU-stack"}
    assert symbols(after) == symbols(before)
    assert relocations(after) == relocations(before)


def test_objects_without_such_sections_are_not_touched() -> None:
    data = compile_object([LlvmModule(TEXT)], find_target("rv32imc"))
    assert without_unwind_tables(data) is data


def test_a_section_that_others_refer_to_cannot_go() -> None:
    data = compile_object([LlvmModule(TEXT, optimize=False)], find_target("rv32imc"))
    with pytest.raises(InternalError, match="refers to a section that is to be dropped"):
        without_sections(data, lambda name: name == ".text.double")


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4"])
def test_bundles_have_no_unwind_tables(target: str) -> None:
    data = build_object(program_of(chain(), target), "toy", find_target(target))
    assert not [name for name in sections(data) if "exidx" in name]
    assert b"__aeabi_unwind" not in data
