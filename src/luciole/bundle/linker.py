"""A fragment of a GNU linker script that puts the parts of a bundle into the memories of a board."""

from __future__ import annotations

from luciole.emit.entry import weights_name
from luciole.ir.board import Board
from luciole.lower.regions import memory_of
from luciole.program.core import Program


def print_linker_fragment(program: Program, prefix: str, board: Board) -> str:
    """The text of `<prefix>.ld`: where the constants of each region go, and the sections in which the caller puts the
    arenas (`<PREFIX>_IN_...` of the header).

    It is included by the program's own script, which has the memories, in front of what takes all other constants.
    """
    used = [(region, memory_of(region.name, board)) for region in program.regions if region.size_bytes]
    lines = [
        f"/* Where {prefix} lies on its board. In your own linker script, whose memories are such as:",
        "   MEMORY",
        "   {",
    ]
    for region, memory in used:
        rights = "rw" if region.kind == "arena" else "rx"
        lines.append(f"       {memory.region} ({rights}) : ORIGIN = 0x{memory.base:08x}, LENGTH = {memory.size_bytes}")
    lines += ["   }", "   write this line into SECTIONS, in front of .text:", f"       INCLUDE {prefix}.ld */"]
    for region, memory in used:
        if region.kind == "const":
            name = weights_name(prefix, region.name)
            lines.append(f".{name} : {{ KEEP(*(.rodata.{name})) }} > {memory.region}")
        else:
            lines.append(f".{prefix}_{region.name} (NOLOAD) : {{ *({memory.section}) }} > {memory.region}")
    return "\n".join([*lines, ""])
