"""What is really in an object: code by function, constants, calls, undefined symbols, and the stack it needs at
worst.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from luciole.bundle.frames import Frame, aarch64_frame, riscv_frame, thumb_frame

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import Section, SymbolTableSection

_WRITE, _ALLOCATE, _EXECUTE = 1, 2, 4

#: Relocations of calls and of jumps to other functions, by machine.
_CALLS: Mapping[str, frozenset[int]] = {
    "EM_ARM": frozenset({10, 30}),  # R_ARM_THM_CALL, R_ARM_THM_JUMP24
    "EM_RISCV": frozenset({17, 18, 19}),  # R_RISCV_JAL, R_RISCV_CALL, R_RISCV_CALL_PLT
    "EM_AARCH64": frozenset({282, 283}),  # R_AARCH64_JUMP26, R_AARCH64_CALL26
    "EM_X86_64": frozenset({2, 4}),  # R_X86_64_PC32, R_X86_64_PLT32
    "EM_386": frozenset({2, 4}),
}


@dataclass(frozen=True)
class FunctionFacts:
    """A function: its size with literals, the stack it takes itself (None: not known), and what it calls by name.

    `has_indirect_call` is whether it calls through a register as well.
    """

    name: str
    code_bytes: int
    frame_bytes: int | None
    calls: tuple[str, ...]
    has_indirect_call: bool = False


@dataclass(frozen=True)
class ObjectFacts:
    """What an object holds, in bytes.

    Attributes:
        functions: by name, in the order of the file.
        code_bytes: all executable sections, literal pools included.
        weights_bytes: the section of the weights.
        rodata_bytes: all other constants.
        writable_bytes: data that the program may write: 0 in every bundle.
        undefined: symbols that the linker must find elsewhere, sorted.
    """

    functions: Mapping[str, FunctionFacts]
    code_bytes: int
    weights_bytes: int
    rodata_bytes: int
    writable_bytes: int
    undefined: tuple[str, ...]

    def cycles(self) -> tuple[tuple[str, ...], ...]:
        """Functions that call themselves, directly or through others, each with the way back to itself."""
        found = []
        for name in self.functions:
            path = self._path(name, name, set())
            if path:
                found.append(path)
        return tuple(found)

    def stack_bound(self, name: str) -> int | None:
        """The most stack that a call of the function takes, callees included; `None` when it cannot be known.

        It cannot where a frame is not known, something outside of the object is called, or there is recursion.
        """
        return self._stack(name, ())

    def _stack(self, name: str, callers: tuple[str, ...]) -> int | None:
        function = self.functions.get(name)
        if function is None or function.frame_bytes is None or function.has_indirect_call or name in callers:
            return None
        deepest = 0
        for callee in function.calls:
            below = self._stack(callee, (*callers, name))
            if below is None:
                return None
            deepest = max(deepest, below)
        return function.frame_bytes + deepest

    def _path(self, name: str, goal: str, seen: set[str]) -> tuple[str, ...]:
        """The calls from `name` to `goal`, both named; empty when there is no way."""
        for callee in self.functions[name].calls:
            if callee == goal:
                return (name, goal)
            if callee in self.functions and callee not in seen:
                seen.add(callee)
                if rest := self._path(callee, goal, seen):
                    return (name, *rest)
        return ()


def inspect_object(data: bytes, *weights_sections: str) -> ObjectFacts:
    """The facts about a relocatable object. Constants in `weights_sections` count as weights."""
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(io.BytesIO(data))
    sizes = {"code": 0, "weights": 0, "rodata": 0, "writable": 0}
    for section in elf.iter_sections():
        flags = section["sh_flags"]
        if not flags & _ALLOCATE:
            continue
        if flags & _EXECUTE:
            kind = "code"
        elif flags & _WRITE:
            kind = "writable"
        else:
            kind = "weights" if section.name in weights_sections else "rodata"
        sizes[kind] += section["sh_size"]
    symbols = _symbols(cast("SymbolTableSection", next(elf.iter_sections("SHT_SYMTAB"))))
    undefined = sorted({s.name for s in symbols if s.section is None and s.name and s.kind != "STT_FILE"})
    return ObjectFacts(
        _functions(elf, symbols), sizes["code"], sizes["weights"], sizes["rodata"], sizes["writable"], tuple(undefined)
    )


@dataclass(frozen=True)
class _Symbol:
    """A line of the symbol table; `section` is None for what is not in the file (or in no section)."""

    name: str
    kind: str
    section: int | None
    value: int
    size: int


def _symbols(table: SymbolTableSection) -> list[_Symbol]:
    """All symbols by their number; parsed once, since that is slow."""
    found = []
    for symbol in table.iter_symbols():
        home = symbol["st_shndx"]
        section = home if isinstance(home, int) else None
        found.append(_Symbol(symbol.name, symbol["st_info"]["type"], section, symbol["st_value"], symbol["st_size"]))
    return found


@dataclass(frozen=True)
class _Function:
    """A function's place: `size` bytes at `start` of the section with this index."""

    name: str
    section: int
    start: int
    size: int


def _functions(elf: ELFFile, symbols: list[_Symbol]) -> dict[str, FunctionFacts]:
    odd = 1 if elf["e_machine"] == "EM_ARM" else 0
    places = [
        _Function(s.name, s.section, s.value & ~odd, s.size)
        for s in symbols
        if s.kind == "STT_FUNC" and s.section is not None
    ]
    calls: dict[int, dict[int, str]] = {}
    for section, site, name in _relocated_calls(elf, symbols, places):
        calls.setdefault(section, {})[site] = name
    marks: dict[int, list[tuple[int, bool]]] = {}
    for symbol in symbols:
        if symbol.name[:2] in ("$t", "$x", "$a", "$d") and symbol.section is not None:
            marks.setdefault(symbol.section, []).append((symbol.value, symbol.name[:2] != "$d"))
    found = {}
    for place in places:
        frame = _frame(elf, place, sorted(marks.get(place.section, [])))
        called = calls.get(place.section, {})
        inside = {site: n for site, n in called.items() if place.start <= site < place.start + place.size}
        for call in frame.calls if frame is not None else ():
            # Armv6-M has no longer branch than `bl`: within a function it is a jump.
            is_jump = place.start < call.target < place.start + place.size
            if call.site not in inside and not is_jump:
                inside[call.site] = _at(places, place.section, call.target) or "?"
        found[place.name] = FunctionFacts(
            place.name,
            place.size,
            frame.bytes if frame is not None else None,
            tuple(dict.fromkeys(inside[site] for site in sorted(inside))),
            frame.has_indirect_call if frame is not None else False,
        )
    return found


def _at(places: list[_Function], section: int, offset: int) -> str:
    """The function that has the instruction at an offset; empty when none has."""
    for place in places:
        if place.section == section and place.start <= offset < place.start + place.size:
            return place.name
    return ""


def _frame(elf: ELFFile, place: _Function, marks: list[tuple[int, bool]]) -> Frame | None:
    """The frame of a function; None where the instruction set is not read."""
    code: bytes = elf.get_section(place.section).data()
    ranges = list(_instruction_ranges(marks, place))
    match elf["e_machine"]:
        case "EM_ARM":
            return thumb_frame(code, ranges)
        case "EM_RISCV":
            return riscv_frame(code, ranges, elf.elfclass)
        case "EM_AARCH64":
            return aarch64_frame(code, ranges)
    return None


def _instruction_ranges(marks: list[tuple[int, bool]], place: _Function) -> Iterator[tuple[int, int]]:
    """The parts of a function that are instructions: mapping symbols ($t, $x, $d) say where data begins and ends."""
    begin, is_code = place.start, True
    end = place.start + place.size
    for at, starts_code in marks:
        if at <= place.start:
            is_code = starts_code
        elif at < end:
            if is_code:
                yield begin, at
            begin, is_code = at, starts_code
    if is_code:
        yield begin, end


def _relocated_calls(elf: ELFFile, symbols: list[_Symbol], places: list[_Function]) -> Iterator[tuple[int, int, str]]:
    """Section, offset and name of what is called there, from the relocations of code."""
    kinds = _CALLS.get(elf["e_machine"], frozenset())
    for section in elf.iter_sections():
        if section["sh_type"] not in ("SHT_REL", "SHT_RELA"):
            continue
        target: Section = elf.get_section(section["sh_info"])
        if not target["sh_flags"] & _EXECUTE:
            continue
        for relocation in cast("RelocationSection", section).iter_relocations():
            if relocation["r_info_type"] not in kinds:
                continue
            symbol = symbols[relocation["r_info_sym"]]
            home = symbol.section
            if home is not None and not elf.get_section(home)["sh_flags"] & _EXECUTE:
                continue  # a constant, which x86 reaches by the same relocation
            site = relocation["r_offset"]
            name = symbol.name
            if home is not None and symbol.kind != "STT_FUNC":
                # A local function by its section, or a label; the addend says how far behind.
                addend = relocation["r_addend"] if "r_addend" in relocation.entry else 0
                offset = symbol.value + max(0, addend)
                name = _at(places, home, offset) or "?"
                starts = [p.start for p in places if p.name == name]
                if home == section["sh_info"] and name == _at(places, home, site) and offset not in starts:
                    continue  # a long jump inside of a function
            yield section["sh_info"], site, name
