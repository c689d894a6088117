"""Lays a relocatable object out in emulated memory, with every address resolved.

No cross tools: ELF is read with pyelftools and patched by `relocations.py`. Code comes first, then constants, then (in
RAM) writable data, each in the order of the file. Unwind tables are left out, since nothing throws.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from luciole.emulate.cores import Family
from luciole.emulate.relocations import Relocation, apply_relocation
from luciole.errors import CompileError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import Relocation as ElfRelocation
    from elftools.elf.sections import Section, Symbol

#: Flags of a section header (System V ABI, "Section header").
_WRITE, _ALLOCATE, _EXECUTE = 1, 2, 4

#: The RISC-V relocations whose symbol is the label of an AUIPC, and those that such an AUIPC has.
_RISCV_LOW_HALVES, _RISCV_PCREL_HIGH = (24, 25), 23

#: Relocations for a symbol's slot in the global offset table, and the same for the slot's own address.
_GOT_RELOCATIONS: Mapping[tuple[Family, int], int] = {
    (Family.RISCV32, 20): 23,  # R_RISCV_GOT_HI20, R_RISCV_PCREL_HI20
    (Family.RISCV64, 20): 23,
    (Family.AARCH64, 311): 275,  # R_AARCH64_ADR_GOT_PAGE, R_AARCH64_ADR_PREL_PG_HI21
    (Family.AARCH64, 312): 286,  # R_AARCH64_LD64_GOT_LO12_NC, R_AARCH64_LDST64_ABS_LO12_NC
}

#: Relocations of calls and of jumps to other functions.
_CALLS: Mapping[Family, tuple[int, ...]] = {
    Family.THUMB: (10, 30),  # R_ARM_THM_CALL, R_ARM_THM_JUMP24
    Family.RISCV32: (17, 18, 19),  # R_RISCV_JAL, R_RISCV_CALL, R_RISCV_CALL_PLT
    Family.RISCV64: (17, 18, 19),
    Family.AARCH64: (282, 283),  # R_AARCH64_JUMP26, R_AARCH64_CALL26
}

#: The value of `e_machine` and the class in bits that a family's objects have.
_MACHINES: Mapping[Family, tuple[str, int]] = {
    Family.THUMB: ("EM_ARM", 32),
    Family.RISCV32: ("EM_RISCV", 32),
    Family.RISCV64: ("EM_RISCV", 64),
    Family.AARCH64: ("EM_AARCH64", 64),
}


@dataclass(frozen=True)
class Function:
    """A function's place in memory: `size` bytes from `address` (bit 0 clear, on Thumb too)."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Segment:
    """A run of bytes with an address. Segments do not overlap."""

    name: str
    address: int
    data: bytes


@dataclass(frozen=True)
class CallSite:
    """A direct call, or jump to another function: the address of the instruction, where it goes, and by what name."""

    address: int
    target: int
    symbol: str


@dataclass(frozen=True)
class LoadedObject:
    """An object at its final addresses.

    Attributes:
        family: its instruction set.
        code, constants, writable: what to put where; any may hold no bytes.
        symbols: address of every global symbol and every local function (bit 0 set for a Thumb function).
        functions: by address.
        calls: direct calls between sections, by address.
    """

    family: Family
    code: Segment
    constants: Segment
    writable: Segment
    symbols: Mapping[str, int]
    functions: tuple[Function, ...]
    calls: tuple[CallSite, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Code, constants and writable data, in this order."""
        return (self.code, self.constants, self.writable)

    def function_at(self, address: int) -> Function | None:
        """The function that holds the instruction at `address`."""
        for function in self.functions:
            if function.address <= address < function.address + function.size:
                return function
        return None

    def address_of(self, symbol: str) -> int:
        """Address of a symbol; raises `CompileError` (`undefined-symbol`) when the object has no such symbol."""
        if symbol not in self.symbols:
            raise CompileError.of("undefined-symbol", f'the object has no symbol "{symbol}"')
        return self.symbols[symbol]


def _bad_object(reason: str) -> CompileError:
    return CompileError.of("bad-object", f"the object file cannot be loaded: {reason}")


@contextmanager
def _parsing() -> Iterator[None]:
    """Turns what the parser raises on a damaged file into our error."""
    from elftools.common.exceptions import ELFError

    try:
        yield
    except ELFError as error:
        raise _bad_object(f"not ELF, or cut off ({error})") from error


def _open(data: bytes, family: Family) -> ELFFile:
    """The parsed file, checked to be a relocatable object for `family`."""
    from elftools.elf.elffile import ELFFile

    file = ELFFile(io.BytesIO(data))
    machine, bits = _MACHINES[family]
    if file["e_type"] != "ET_REL":
        raise _bad_object("it is not relocatable")
    if file["e_machine"] != machine or file.elfclass != bits or not file.little_endian:
        raise _bad_object(f"it is made for {file['e_machine']}, {file.elfclass} bits, and the core is {family.value}")
    return file


def _is_loaded(section: Section) -> bool:
    """Whether a section takes part: allocated, not empty, no unwind table."""
    unwind = section.name.startswith((".ARM.exidx", ".ARM.extab", ".eh_frame"))
    return bool(section["sh_flags"] & _ALLOCATE) and section["sh_size"] > 0 and not unwind


def _symbols(file: ELFFile) -> list[Symbol]:
    from elftools.elf.sections import SymbolTableSection

    table = file.get_section_by_name(".symtab")
    return list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []


def undefined_symbols(data: bytes, family: Family) -> tuple[str, ...]:
    """Names of the symbols that the object's loaded sections need from elsewhere, sorted; weak ones resolve to 0."""
    with _parsing():
        file = _open(data, family)
        placed, _ = _place(file, 0, 0)
        symbols = _symbols(file)
        used = _used_symbols(_relocation_tables(file, placed))
        return tuple(_resolve_symbols(symbols, used, placed, {})[1])


@dataclass(frozen=True)
class _Placed:
    """A section at its address."""

    section: Section
    address: int


def _place(file: ELFFile, flash_address: int, ram_address: int) -> tuple[dict[int, _Placed], list[list[int]]]:
    """Addresses of the loaded sections by index; and the indices of code, constants and writable sections."""
    groups: list[list[int]] = [[], [], []]
    for index, section in enumerate(file.iter_sections()):
        if _is_loaded(section):
            # .data.rel.ro is written by the loader only, so it belongs to the constants
            constant = not section["sh_flags"] & _WRITE or section.name.startswith(".data.rel.ro")
            groups[0 if section["sh_flags"] & _EXECUTE else 1 if constant else 2].append(index)
    placed: dict[int, _Placed] = {}
    address = flash_address
    for number, group in enumerate(groups):
        address = ram_address if number == 2 else -(-address // 16) * 16
        for index in group:
            section = file.get_section(index)
            alignment = max(section["sh_addralign"], 1)
            address = -(-address // alignment) * alignment
            placed[index] = _Placed(section, address)
            address += section["sh_size"]
    return placed, groups


def _resolve_symbols(
    symbols: list[Symbol], used: frozenset[int], placed: Mapping[int, _Placed], provided: Mapping[str, int]
) -> tuple[list[int | None], list[str]]:
    """The address of every symbol, None for those in a section that is not loaded; and the missing names, sorted.

    A name is missing when it is undefined, not weak, not provided, and among the `used` numbers.
    """
    addresses: list[int | None] = []
    missing = set()
    for number, symbol in enumerate(symbols):
        index = symbol["st_shndx"]
        if index == "SHN_UNDEF":
            weak_or_null = not symbol.name or symbol["st_info"]["bind"] == "STB_WEAK"
            if number in used and symbol.name not in provided and not weak_or_null:
                missing.add(symbol.name)
            addresses.append(provided.get(symbol.name, 0))
        elif index == "SHN_ABS":
            addresses.append(symbol["st_value"])
        elif index == "SHN_COMMON":
            raise _bad_object(f'"{symbol.name}" is a common symbol; compile with -fno-common')
        else:
            addresses.append(placed[index].address + symbol["st_value"] if index in placed else None)
    return addresses, sorted(missing)


def _relocation_tables(file: ELFFile, placed: Mapping[int, _Placed]) -> list[tuple[int, list[ElfRelocation]]]:
    """The relocations of each loaded section, with its index."""
    from elftools.elf.relocation import RelocationSection

    return [
        (table["sh_info"], list(table.iter_relocations()))
        for table in file.iter_sections()
        if isinstance(table, RelocationSection) and table["sh_info"] in placed
    ]


def _used_symbols(tables: list[tuple[int, list[ElfRelocation]]]) -> frozenset[int]:
    """Numbers of the symbols whose address a relocation needs: R_*_NONE only keeps a symbol in the file."""
    return frozenset(entry["r_info_sym"] for _, entries in tables for entry in entries if entry["r_info_type"])


@dataclass(frozen=True)
class _Linker:
    """What relocating needs to know.

    Attributes:
        symbols, addresses: of the symbol table; None for an address in a section that is not loaded.
        slots: address of the slot that holds a symbol's address, for code that takes it from the global offset table.
        redirect: other targets for calls, by the place of the call.
    """

    family: Family
    placed: Mapping[int, _Placed]
    symbols: list[Symbol]
    addresses: list[int | None]
    slots: Mapping[int, int]
    redirect: Mapping[int, int]

    def resolve(self, index: int, entry: ElfRelocation) -> Relocation:
        """A relocation of section `index` with its target."""
        section = self.placed[index]
        number, kind = entry["r_info_sym"], entry["r_info_type"]
        target = self.addresses[number] if number < len(self.addresses) else None
        if target is None:
            raise _bad_object(f"{section.section.name} refers to a section that is not loaded")
        place = section.address + entry["r_offset"]
        if (self.family, kind) in _GOT_RELOCATIONS:
            kind, target = _GOT_RELOCATIONS[self.family, kind], self.slots[number]
        return Relocation(
            kind=kind,
            offset=entry["r_offset"],
            place=place,
            target=self.redirect.get(place, target),
            addend=entry["r_addend"] if entry.is_RELA() else None,
            symbol=self.symbols[number].name or "a section",
            section=section.section.name,
        )

    def relocate(self, index: int, entries: list[ElfRelocation], content: bytearray) -> list[CallSite]:
        """Apply the relocations of section `index` to its bytes; the calls in it come back."""
        relocations = [self.resolve(index, entry) for entry in entries]
        is_riscv = self.family in (Family.RISCV32, Family.RISCV64)
        high_parts = {
            relocation.place: relocation.target + (relocation.addend or 0) - relocation.place
            for relocation in relocations
            if is_riscv and relocation.kind == _RISCV_PCREL_HIGH
        }
        calls = []
        for relocation in relocations:
            if is_riscv and relocation.kind in _RISCV_LOW_HALVES:
                if relocation.target not in high_parts:
                    where = f'{relocation.section} has no upper half for the address "{relocation.symbol}"'
                    raise _bad_object(where)
                relocation = replace(relocation, high_part=high_parts[relocation.target])
            apply_relocation(self.family, content, relocation)
            if relocation.kind in _CALLS[self.family]:
                calls.append(CallSite(relocation.place, relocation.target, relocation.symbol))
        return calls


def _global_offset_slots(family: Family, tables: list[tuple[int, list[ElfRelocation]]], start: int) -> dict[int, int]:
    """Address of a slot, from `start` on, for each symbol whose address code takes from the global offset table."""
    slots: dict[int, int] = {}
    end = -(-start // 16) * 16
    for _, entries in tables:
        for entry in entries:
            if (family, entry["r_info_type"]) in _GOT_RELOCATIONS and entry["r_info_sym"] not in slots:
                slots[entry["r_info_sym"]] = end
                end += family.pointer_bytes
    return slots


def _functions(family: Family, placed: Mapping[int, _Placed], symbols: list[Symbol]) -> tuple[Function, ...]:
    """The functions of the symbol table by address; one without a size ends at the next one or with its section."""
    found: dict[int, tuple[str, int, int]] = {}
    for symbol in symbols:
        index = symbol["st_shndx"]
        if symbol["st_info"]["type"] != "STT_FUNC" or index not in placed:
            continue
        start = placed[index].address
        address = start + symbol["st_value"]
        if family is Family.THUMB:
            address &= ~1
        is_global = symbol["st_info"]["bind"] != "STB_LOCAL"
        if address not in found or is_global:
            found[address] = (symbol.name, symbol["st_size"], start + placed[index].section["sh_size"])
    functions = []
    for address in sorted(found):
        name, size, end = found[address]
        following = min((other for other in found if other > address), default=end)
        functions.append(Function(name, address, size or min(end, following) - address))
    return tuple(functions)


def _segment(name: str, group: list[int], placed: Mapping[int, _Placed], contents: Mapping[int, bytearray]) -> Segment:
    """The sections of a group as one run of bytes, gaps filled with zeros."""
    if not group:
        return Segment(name, 0, b"")
    start = placed[group[0]].address
    data = bytearray()
    for index in group:
        data += bytes(placed[index].address - start - len(data)) + contents[index]
    return Segment(name, start, bytes(data))


def _append_slots(
    constants: Segment, slots: Mapping[int, int], addresses: list[int | None], pointer_bytes: int
) -> Segment:
    """The constants followed by the global offset table."""
    data = bytearray(constants.data)
    start = constants.address if constants.data else min(slots.values())
    for number, slot in slots.items():
        data += bytes(slot - start - len(data)) + (addresses[number] or 0).to_bytes(pointer_bytes, "little")
    return Segment(constants.name, start, bytes(data))


def load_object(
    data: bytes,
    family: Family,
    flash_address: int,
    ram_address: int,
    provided: Mapping[str, int] | None = None,
    redirect: Mapping[int, int] | None = None,
) -> LoadedObject:
    """Relocate an object file: code and constants from `flash_address`, writable data from `ram_address`.

    `provided` gives addresses to undefined symbols (with bit 0 set for Thumb code), `redirect` other targets to calls
    at the given addresses. Raises `CompileError`: `bad-object` when the file is no relocatable object for `family`,
    `undefined-symbol` with all names that nobody provides, `unknown-relocation`, `relocation-overflow`.
    """
    with _parsing():
        return _load(_open(data, family), family, flash_address, ram_address, provided or {}, redirect or {})


def _load(
    file: ELFFile,
    family: Family,
    flash_address: int,
    ram_address: int,
    provided: Mapping[str, int],
    redirect: Mapping[int, int],
) -> LoadedObject:
    """The object of a parsed file; see `load_object`."""
    placed, groups = _place(file, flash_address, ram_address)
    symbols = _symbols(file)
    tables = _relocation_tables(file, placed)
    addresses, missing = _resolve_symbols(symbols, _used_symbols(tables), placed, provided)
    if missing:
        plural = "symbols" if len(missing) > 1 else "symbol"
        raise CompileError.of(
            "undefined-symbol", f"the object needs {len(missing)} undefined {plural}: {', '.join(missing)}"
        )
    contents = {
        index: bytearray(item.section["sh_size"])
        if item.section["sh_type"] == "SHT_NOBITS"
        else bytearray(item.section.data())
        for index, item in placed.items()
    }
    for index, content in contents.items():
        if len(content) != placed[index].section["sh_size"]:
            raise _bad_object(f"{placed[index].section.name} is cut off")
    last = [placed[index] for index in (*groups[0], *groups[1])][-1:]
    end = last[0].address + last[0].section["sh_size"] if last else flash_address
    slots = _global_offset_slots(family, tables, end)
    linker = _Linker(family, placed, symbols, addresses, slots, redirect)
    calls: list[CallSite] = []
    for index, entries in tables:
        calls += linker.relocate(index, entries, contents[index])
    known: dict[str, int] = {}
    for symbol, address in zip(symbols, addresses, strict=True):
        is_global = symbol["st_info"]["bind"] != "STB_LOCAL"
        wanted = is_global or symbol["st_info"]["type"] == "STT_FUNC"
        if wanted and symbol.name and address is not None and symbol["st_shndx"] != "SHN_UNDEF":
            known[symbol.name] = address if is_global else known.get(symbol.name, address)
    names = ("code", "constants", "writable data")
    code, constants, writable = (
        _segment(name, group, placed, contents) for name, group in zip(names, groups, strict=True)
    )
    if slots:
        constants = _append_slots(constants, slots, addresses, family.pointer_bytes)
    functions = _functions(family, placed, symbols)
    calls.sort(key=lambda call: call.address)
    return LoadedObject(family, code, constants, writable, known, functions, tuple(calls))
