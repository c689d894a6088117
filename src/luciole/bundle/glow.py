"""Glow's bundle interface: one function, and three memories that the caller supplies.

    int kws(uint8_t *constantWeight, uint8_t *mutableWeight, uint8_t *activations);

Inputs and outputs lie in `mutableWeight` and share no memory with the activations, as programs written for Glow expect.
"""

from __future__ import annotations

import re
from dataclasses import replace

from luciole.bundle.interface import MUTABLE, Interface
from luciole.errors import CompileError
from luciole.lower.plan import plan_memory
from luciole.program.core import ARENA, Program, Region

#: What Glow's own bundles align their memories to.
GLOW_ALIGNMENT = 64


def separate_interface(program: Program) -> Program:
    """The program planned again with inputs and outputs in a region of their own, `mutable`.

    Raises `CompileError` (`unsupported-output`) for an output that is a constant, since it has no place there.
    """
    moved: dict[str, int] = {}
    end = 0
    for name, _, buffer in (*program.inputs(), *program.outputs()):
        if buffer.region != ARENA and buffer.region != MUTABLE:
            raise CompileError.of(
                "unsupported-output",
                f'output "{name}" is a constant, which a bundle with Glow\'s interface cannot have',
                help="compile with --bundle-api luciole, or remove the output",
            )
        if buffer.name not in moved:
            end = -(-end // GLOW_ALIGNMENT) * GLOW_ALIGNMENT
            moved[buffer.name] = end
            end += buffer.size_bytes
    buffers = {n: replace(b, region=MUTABLE) if n in moved else b for n, b in program.buffers.items()}
    region = Region(MUTABLE, "arena", GLOW_ALIGNMENT, end, end, True, "packed")
    regions = (*(replace(r, alignment=GLOW_ALIGNMENT) for r in program.regions if r.name != MUTABLE), region)
    separate = replace(program, buffers=buffers, regions=regions)
    return plan_memory(separate.placed(moved, regions))


def placeholder_macros(interface: Interface) -> tuple[tuple[str, int], ...]:
    """The macros of inputs, then of outputs, `<NAME>_<placeholder>`, with their offsets; all names are different."""
    taken = {f"{interface.prefix.upper()}_{word}_MEM_SIZE" for word in ("CONSTANT", "MUTABLE", "ACTIVATIONS")}
    taken.add(f"{interface.prefix.upper()}_MEM_ALIGN")
    found: dict[str, int] = {}
    for tensor in (*interface.inputs, *interface.outputs):
        base = f"{interface.prefix.upper()}_{re.sub(r'[^A-Za-z0-9_]', '_', tensor.name)[:63]}"
        name, number = base, 1
        while name in found or name in taken:
            name, number = f"{base}__{number}", number + 1
        found[name] = tensor.offset
    return tuple(found.items())


def weights_text(weights: bytes) -> str:
    """The constants as text to include between the braces of an array of C."""
    rows = (weights[i : i + 16] for i in range(0, len(weights), 16))
    return "".join(" ".join(f"0X{byte:02X}," for byte in row) + "\n" for row in rows)
