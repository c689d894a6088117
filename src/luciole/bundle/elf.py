"""Relocatable ELF files made smaller: sections that a bundle does not need are taken out.

Format: System V Application Binary Interface, chapter 4; little endian, 32 and 64 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from luciole.errors import InternalError

_SYMTAB, _RELA, _REL = 2, 4, 9
_NOBITS = 8
_INFO_LINK = 0x40
_FIRST_RESERVED_INDEX = 0xFF00

#: Offsets in the file's header of the sections' offset, their size, count and the index of the table of names.
_HEADERS = {1: ("<I", 32, 46, 52), 2: ("<Q", 40, 58, 64)}
_SECTIONS = {1: "<10I", 2: "<IIQQQQIIQQ"}
_SYMBOLS = {1: "<IIIBBH", 2: "<IBBHQQ"}


@dataclass(frozen=True)
class _Section:
    """A section header, with the section's bytes."""

    name: str
    fields: tuple[int, ...]
    data: bytes

    @property
    def type(self) -> int:
        return self.fields[1]

    @property
    def link(self) -> int:
        return self.fields[6]

    @property
    def info(self) -> int:
        return self.fields[7]

    def with_fields(self, **changed: int) -> _Section:
        places = {"offset": 4, "size": 5, "link": 6, "info": 7}
        fields = list(self.fields)
        for name, value in changed.items():
            fields[places[name]] = value
        return replace(self, fields=tuple(fields))


def without_unwind_tables(data: bytes) -> bytes:
    """An Arm object without `.ARM.exidx`: its functions throw nothing, and the table takes 8 bytes of flash for each.

    Objects that have no such sections come back as they are.
    """
    return without_sections(data, lambda name: name.startswith((".ARM.exidx", ".ARM.extab")))


def without_sections(data: bytes, is_dropped: Callable[[str], bool]) -> bytes:
    """A relocatable file without some sections, their relocations and the symbols in them.

    Raises `InternalError` when something that stays refers to what goes.
    """
    sections = _read(data)
    dropped = {i for i, s in enumerate(sections) if is_dropped(s.name)}
    if not dropped:
        return data
    dropped |= {i for i, s in enumerate(sections) if s.type in (_REL, _RELA) and s.info in dropped}
    kind = data[4]
    new_index = {old: new for new, old in enumerate(i for i in range(len(sections)) if i not in dropped)}
    symbols = _renumber_symbols(sections, new_index, kind)
    kept = []
    for index, section in enumerate(sections):
        if index in dropped:
            continue
        if section.type == _SYMTAB:
            section = symbols.table
        elif section.type in (_REL, _RELA):
            section = replace(section, data=_relocations(section, symbols.new_index, kind))
        link = new_index.get(section.link, 0)
        has_section_info = section.type in (_REL, _RELA) or section.fields[2] & _INFO_LINK
        info = new_index[section.info] if has_section_info else section.info
        kept.append(section.with_fields(link=link, info=info))
    return _write(data, kept, new_index)


def _read(data: bytes) -> list[_Section]:
    kind = data[4]
    address, at_offset, at_size, _ = _HEADERS[kind]
    table = struct.unpack_from(address, data, at_offset)[0]
    size, count, names_index = struct.unpack_from("<HHH", data, at_size)
    headers = [struct.unpack_from(_SECTIONS[kind], data, table + i * size) for i in range(count)]
    names = headers[names_index]
    text = data[names[4] : names[4] + names[5]]
    sections = []
    for fields in headers:
        name = text[fields[0] : text.index(b"\0", fields[0])].decode("ascii")
        sections.append(
            _Section(name, fields, b"" if fields[1] == _NOBITS else data[fields[4] : fields[4] + fields[5]])
        )
    return sections


@dataclass(frozen=True)
class _Symbols:
    table: _Section
    new_index: dict[int, int]


def _renumber_symbols(sections: list[_Section], new_index: dict[int, int], kind: int) -> _Symbols:
    """The table of symbols without those in dropped sections, and where each of the others went."""
    table = next(s for s in sections if s.type == _SYMTAB)
    layout = _SYMBOLS[kind]
    section_field = 5 if kind == 1 else 3
    kept: list[bytes] = []
    moved: dict[int, int] = {}
    locals_kept = 0
    for number, symbol in enumerate(struct.iter_unpack(layout, table.data)):
        fields = list(symbol)
        index = fields[section_field]
        if index < _FIRST_RESERVED_INDEX:
            if index not in new_index:
                continue
            fields[section_field] = new_index[index]
        moved[number] = len(kept)
        locals_kept += number < table.info
        kept.append(struct.pack(layout, *fields))
    return _Symbols(replace(table, data=b"".join(kept)).with_fields(info=locals_kept), moved)


def _relocations(section: _Section, symbols: dict[int, int], kind: int) -> bytes:
    """Relocations with the new numbers of their symbols."""
    address = "I" if kind == 1 else "Q"
    layout = f"<2{address}" + (address.lower() if section.type == _RELA else "")
    shift = 8 if kind == 1 else 32
    result = []
    for offset, info, *addend in struct.iter_unpack(layout, section.data):
        if info >> shift not in symbols:
            raise InternalError(f"{section.name} refers to a section that is to be dropped")
        renumbered = symbols[info >> shift] << shift | info & (1 << shift) - 1
        result.append(struct.pack(layout, offset, renumbered, *addend))
    return b"".join(result)


def _write(original: bytes, sections: list[_Section], new_index: dict[int, int]) -> bytes:
    """The file with these sections, one after the other as they are numbered, and their headers at the end."""
    kind = original[4]
    address, at_offset, at_size, header_size = _HEADERS[kind]
    file = bytearray(original[:header_size])
    headers = []
    for section in sections:
        if section.type != 0:
            alignment = max(1, section.fields[8])
            file += bytes(-len(file) % alignment)
            size = section.fields[5] if section.type == _NOBITS else len(section.data)
            section = section.with_fields(offset=len(file), size=size)
            file += section.data
        headers.append(struct.pack(_SECTIONS[kind], *section.fields))
    file += bytes(-len(file) % 8)
    struct.pack_into(address, file, at_offset, len(file))
    names_index = struct.unpack_from("<H", original, at_size + 4)[0]
    struct.pack_into("<HH", file, at_size + 2, len(sections), new_index[names_index])
    return bytes(file) + b"".join(headers)
