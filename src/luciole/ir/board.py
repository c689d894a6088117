"""Boards as plain data: the memories of a chip, read from a TOML file, the user's or one of `targets/boards/`.

[board]                    # may be left out
description = "..."
target = "cortex-m7"       # its core
source = "..."             # where the numbers are from

[memory.dtcm]
kind = "ram"               # or "flash", which holds constants
base = 0x20000000
size = "128K"
cycles = 1                 # of an access, to compare the memories of a kind
    section = ".dtcm"          # the section that the linker script puts there; "." and the name by default
    region = "DTCM"            # what the linker script calls the memory; the name in capitals by default
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from luciole.errors import CompileError, Location, printable
from luciole.options import parse_size

MemoryKind = Literal["ram", "flash"]

#: A board file is a few lines; what is larger is none.
_LARGEST_FILE = 1 << 20

#: Names that stand for something else in the functions and macros of a bundle.
_TAKEN = frozenset({"arena", "weights", "input", "output", "model", "memories", "mutable", "size", "status"})

_KEYS = ("kind", "base", "size", "cycles", "section", "region")
_BOARD_KEYS = ("description", "target", "source")


@dataclass(frozen=True)
class Memory:
    """A memory of a board: `size_bytes` from the address `base`, `cycles` an access; the section that lies there, and
    the memory's name in a linker script.
    """

    name: str
    kind: MemoryKind
    base: int
    size_bytes: int
    cycles: float
    section: str
    region: str


@dataclass(frozen=True)
class Board:
    """The memories of a board. There is one of each kind at least. `target` is its core, `source` where the numbers are
    from; empty where the file says nothing.
    """

    name: str
    memories: tuple[Memory, ...]
    description: str = ""
    target: str = ""
    source: str = ""

    def fastest_first(self, kind: MemoryKind) -> tuple[Memory, ...]:
        """The memories of a kind by cycles; of equals the one that the file names first."""
        return tuple(sorted((m for m in self.memories if m.kind == kind), key=lambda m: m.cycles))


@cache
def board_texts() -> dict[str, str]:
    """The files of the boards that are known by name, in order of name."""
    folder = resources.files("luciole.targets") / "boards"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}


def find_board(text: str) -> Board:
    """The board of a name that is known, or of a file. Raises `CompileError` as `read_board` does."""
    known = board_texts()
    if text in known:
        return _board(text, known[text], Location(text))
    return read_board(Path(text))


def read_board(path: Path) -> Board:
    """The board of a TOML file. Raises `CompileError` for a file that cannot be read or is not as it should be."""
    location = Location(str(path))
    try:
        data = path.read_bytes()
        if len(data) > _LARGEST_FILE:
            raise ValueError("it is too large")
        text = data.decode("utf-8")
    except OSError as error:
        raise CompileError.of(
            "cannot-read",
            f"cannot read the board: {error.strerror}",
            location,
            help=f"name a file, or one of the boards {', '.join(board_texts())}",
        ) from None
    except ValueError as error:
        raise _no_board(str(error), location) from None
    return _board(path.stem, text, location)


def _no_board(reason: str, location: Location) -> CompileError:
    return CompileError.of("board-file", f"this is no board: {printable(reason)[:200]}", location)


def _board(name: str, text: str, location: Location) -> Board:
    try:
        entries = tomllib.loads(text)
        memories = tuple(_memory(name, entry) for name, entry in entries["memory"].items())
        facts = _facts(entries.get("board", {}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = "it has no tables [memory.NAME]" if isinstance(error, KeyError | AttributeError) else str(error)
        raise _no_board(reason, location) from None
    for kind in ("ram", "flash"):
        if not any(memory.kind == kind for memory in memories):
            raise _no_board(f'no memory is of the kind "{kind}"', location)
    spans = sorted((memory.base, memory.base + memory.size_bytes, memory.name) for memory in memories)
    for (_, end, first), (base, _, second) in pairwise(spans):
        if base < end:
            raise CompileError.of("board-file", f"the memories {first} and {second} overlap", location)
    return Board(name, memories, **facts)


def _facts(entry: Mapping[str, Any]) -> dict[str, str]:
    """What the table `board` says."""
    if not isinstance(entry, dict) or any(
        key not in _BOARD_KEYS or not isinstance(text, str) for key, text in entry.items()
    ):
        raise ValueError(f"board is a table with texts for the keys {', '.join(_BOARD_KEYS)}")
    return {key: printable(text) for key, text in entry.items()}


def _memory(name: str, entry: Mapping[str, Any]) -> Memory:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,15}", name, re.ASCII) or name in _TAKEN:
        raise ValueError(f'"{name}" cannot be the name of a memory: up to 16 of a-z, 0-9 and _, and no word of bundles')
    if not isinstance(entry, dict):
        raise ValueError(f"memory.{name} is a table with the keys {', '.join(_KEYS)}")
    if unknown := [key for key in entry if key not in _KEYS]:
        raise ValueError(f"memory.{name} has the keys {', '.join(_KEYS)}, not {', '.join(unknown)}")
    kind, base, size, cycles = entry.get("kind"), entry.get("base"), entry.get("size"), entry.get("cycles", 1)
    section, region = entry.get("section", f".{name}"), entry.get("region", name.upper())
    if kind not in ("ram", "flash"):
        raise ValueError(f'memory.{name}.kind is "ram" or "flash"')
    try:
        size_bytes = parse_size(size) if isinstance(size, str) else size
    except CompileError:
        raise ValueError(f"memory.{name}.size is bytes, or text such as 64K") from None
    for key, number in (("base", base), ("size", size_bytes)):
        if type(number) is not int or not 0 <= number < 1 << 48:
            raise ValueError(f"memory.{name}.{key} is a number of bytes")
    if type(cycles) not in (int, float) or not 0 < cycles < 1e6:
        raise ValueError(f"memory.{name}.cycles is a positive number")
    if not isinstance(section, str) or not re.fullmatch(r"\.[A-Za-z0-9_.]{1,63}", section, re.ASCII):
        raise ValueError(f'memory.{name}.section is a name such as ".dtcm"')
    if not isinstance(region, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", region, re.ASCII):
        raise ValueError(f'memory.{name}.region is a name such as "DTCM"')
    return Memory(name, kind, int(base or 0), int(size_bytes or 0), float(cycles), section, region)
