"""Static libraries: `ar` archives in the GNU format, with an index of symbols, the same bytes for the same members.

Format: the manual page ar(5) and the description of the GNU variant in binutils' bfd/archive.c: a header of 60
characters, members at even offsets, long names in a member `//`, the index in a member `/` with big-endian offsets.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from elftools.elf.sections import SymbolTableSection

_MAGIC = b"!<arch>\n"
_LONGEST_SHORT_NAME = 15


def write_archive(members: Mapping[str, bytes]) -> bytes:
    """An archive of object files by name. It has neither dates nor owners."""
    names: dict[str, str] = {}
    long_names = b""
    for name in members:
        if len(name) <= _LONGEST_SHORT_NAME:
            names[name] = f"{name}/"
        else:
            names[name] = f"/{len(long_names)}"
            long_names += name.encode("ascii") + b"/\n"
    bodies = {name: _member(names[name], data, "644") for name, data in members.items()}
    extra = _member("//", long_names, "") if long_names else b""
    symbols = {name: global_symbols(data) for name, data in members.items()}
    offset = len(_MAGIC) + len(_index(symbols, dict.fromkeys(members, 0))) + len(extra)
    offsets: dict[str, int] = {}
    for name, body in bodies.items():
        offsets[name] = offset
        offset += len(body)
    return _MAGIC + _index(symbols, offsets) + extra + b"".join(bodies.values())


def global_symbols(data: bytes) -> tuple[str, ...]:
    """The global symbols that an object defines, in their order in the file."""
    from elftools.elf.elffile import ELFFile

    found = []
    for section in ELFFile(io.BytesIO(data)).iter_sections("SHT_SYMTAB"):
        for symbol in cast("SymbolTableSection", section).iter_symbols():
            is_global = symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
            if is_global and symbol["st_shndx"] != "SHN_UNDEF":
                found.append(str(symbol.name))
    return tuple(found)


def _index(symbols: Mapping[str, tuple[str, ...]], offsets: Mapping[str, int]) -> bytes:
    places = [offsets[name] for name, found in symbols.items() for _ in found]
    names = b"".join(symbol.encode("ascii") + b"\0" for found in symbols.values() for symbol in found)
    return _member("/", struct.pack(f">{len(places) + 1}I", len(places), *places) + names, "0")


def _member(name: str, data: bytes, mode: str) -> bytes:
    if name == "//":
        header = f"{name:<48}{len(data):<10}`\n"
    else:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{mode:<8}{len(data):<10}`\n"
    return header.encode("ascii") + data + b"\n" * (len(data) % 2)
