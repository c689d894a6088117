"""Lays a relocatable object out in emulated memory, with every address resolved.

No cross tools: ELF is read with pyelftools and patched by `relocations.py`. Code comes first, then constants, then (in
RAM) writable data, each in the order of the file. Unwind tables are left out, since nothing throws.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luciole.emulate.cores import Family
from luciole.emulate.relocations import Relocation, apply_relocation
from luciole.errors import CompileError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Section, Symbol

#: Flags of a section header (System V ABI, "Section header").
_WRITE, _ALLOCATE, _EXECUTE = 1, 2, 4

#: The RISC-V relocations whose symbol is the label of an AUIPC, and those that such an AUIPC has.
_RISCV_LOW_HALVES, _RISCV_PCREL_HIGH = (24, 25), 23

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
class LoadedObject:
    """An object at its final addresses.

    Attributes:
        family: its instruction set.
        code, constants, writable: what to put where; any may hold no bytes.
        symbols: address of every global symbol and every local function (bit 0 set for a Thumb function).
        functions: by address.
    """

    family: Family
    code: Segment
    constants: Segment
    writable: Segment
    symbols: Mapping[str, int]
    functions: tuple[Function, ...]

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


def _open(data: bytes, family: Family) -> ELFFile:
    """The parsed file, checked to be a relocatable object for `family`."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        file = ELFFile(io.BytesIO(data))
    except ELFError as error:
        raise _bad_object(f"not ELF ({error})") from error
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
    """Names of the symbols that the object needs from elsewhere, sorted; weak ones are left out (they resolve to 0)."""
    names = set()
    for symbol in _symbols(_open(data, family)):
        if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name and symbol["st_info"]["bind"] != "STB_WEAK":
            names.add(symbol.name)
    return tuple(sorted(names))


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
    symbols: list[Symbol], placed: Mapping[int, _Placed], provided: Mapping[str, int]
) -> tuple[list[int | None], list[str]]:
    """The address of every symbol, None for those in a section that is not loaded; and the missing names, sorted."""
    addresses: list[int | None] = []
    missing = set()
    for symbol in symbols:
        index = symbol["st_shndx"]
        if index == "SHN_UNDEF":
            weak_or_null = not symbol.name or symbol["st_info"]["bind"] == "STB_WEAK"
            if symbol.name not in provided and not weak_or_null:
                missing.add(symbol.name)
            addresses.append(provided.get(symbol.name, 0))
        elif index == "SHN_ABS":
            addresses.append(symbol["st_value"])
        elif index == "SHN_COMMON":
            raise _bad_object(f'"{symbol.name}" is a common symbol; compile with -fno-common')
        else:
            addresses.append(placed[index].address + symbol["st_value"] if index in placed else None)
    return addresses, sorted(missing)


def _relocate(
    file: ELFFile,
    family: Family,
    placed: Mapping[int, _Placed],
    symbols: list[Symbol],
    addresses: list[int | None],
    contents: Mapping[int, bytearray],
) -> None:
    """Apply the relocations of every loaded section to `contents`."""
    from elftools.elf.relocation import RelocationSection

    for table in file.iter_sections():
        if not isinstance(table, RelocationSection) or table["sh_info"] not in placed:
            continue
        section = placed[table["sh_info"]]
        entries = []
        for entry in table.iter_relocations():
            number = entry["r_info_sym"]
            target = addresses[number] if number < len(addresses) else None
            if target is None:
                raise _bad_object(f"{section.section.name} refers to a section that is not loaded")
            entries.append((entry, symbols[number].name or "a section", target))
        high_parts = {
            section.address + entry["r_offset"]: target + entry["r_addend"] - section.address - entry["r_offset"]
            for entry, _, target in entries
            if family in (Family.RISCV32, Family.RISCV64) and entry["r_info_type"] == _RISCV_PCREL_HIGH
        }
        for entry, name, target in entries:
            high_part = 0
            if family in (Family.RISCV32, Family.RISCV64) and entry["r_info_type"] in _RISCV_LOW_HALVES:
                if target not in high_parts:
                    raise _bad_object(f'{section.section.name} has no upper half for the pc-relative address "{name}"')
                high_part = high_parts[target]
            relocation = Relocation(
                kind=entry["r_info_type"],
                offset=entry["r_offset"],
                place=section.address + entry["r_offset"],
                target=target,
                addend=entry["r_addend"] if entry.is_RELA() else None,
                symbol=name,
                section=section.section.name,
                high_part=high_part,
            )
            apply_relocation(family, contents[table["sh_info"]], relocation)


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


def load_object(
    data: bytes, family: Family, flash_address: int, ram_address: int, provided: Mapping[str, int] | None = None
) -> LoadedObject:
    """Relocate an object file: code and constants from `flash_address`, writable data from `ram_address`.

    `provided` gives addresses to undefined symbols (with bit 0 set for Thumb code). Raises `CompileError`: `bad-object`
    when the file is no relocatable object for `family`, `undefined-symbol` with all names that nobody provides,
    `unknown-relocation`, `relocation-overflow`.
    """
    file = _open(data, family)
    placed, groups = _place(file, flash_address, ram_address)
    symbols = _symbols(file)
    addresses, missing = _resolve_symbols(symbols, placed, provided or {})
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
    _relocate(file, family, placed, symbols, addresses, contents)
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
    return LoadedObject(family, code, constants, writable, known, _functions(family, placed, symbols))
