"""A budget of flash: the fastest program that fits, found on the curve of time against bytes by measuring objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from luciole.bundle import build_object, inspect_object
from luciole.bundle.assemble import weights_sections
from luciole.compilation import Compilation
from luciole.graph.core import Graph
from luciole.lower.choice import Point, all_alternatives, frontier, pick
from luciole.program.core import Program
from luciole.report.model import FlashReport

#: Programs that are built at most; each tells how far the estimates are off.
_ATTEMPTS = 6

#: Makes the program of a graph with chosen kernels, and shares them as far as the point has instructions to spare.
Lower = Callable[[Point], Program]


def flash_of(program: Program, run: Compilation) -> FlashReport:
    """The flash that a program takes as an object."""
    name = run.identity.name
    facts = inspect_object(build_object(program, name, run.target), *weights_sections(program, name))
    return FlashReport.of(sum(r.size_bytes for r in program.regions_of("const")), facts.code_bytes, facts.rodata_bytes)


def fastest_within(run: Compilation, graph: Graph, limit: int, lower: Lower) -> Program:
    """The fastest program whose flash, measured, is within a limit of bytes; where there is none, the smallest.

    Kernels are shared where nothing fits otherwise.

    Estimates say where on the curve to look, measurements what fits: a fastest program that was not looked at because
    of them may exist, one that exceeds the limit is not returned while another fits.
    """
    points = frontier(all_alternatives(graph, run.target, "speed"))
    best = _search(points, limit, lower, lambda program: flash_of(program, run).total_bytes)
    if best.size_bytes > limit:
        shared = [
            replace(point, spare_instructions=3 * point.instructions) for point in (pick(points, "size"), points[-1])
        ]
        best = min(
            best,
            _search(shared, limit, lower, lambda program: flash_of(program, run).total_bytes),
            key=lambda f: f.size_bytes,
        )
    return best.program


@dataclass(frozen=True)
class _Fit:
    """A program and the flash that it takes."""

    program: Program
    size_bytes: int


def _search(points: Sequence[Point], limit: int, lower: Lower, measure: Callable[[Program], int]) -> _Fit:
    """The program of the first point that fits, or of the smallest that was looked at."""
    low, high, other_bytes = 0, len(points) - 1, 0
    found: list[_Fit] = []
    best: _Fit | None = None
    for _ in range(_ATTEMPTS):
        fitting = [i for i in range(low, high + 1) if points[i].flash_bytes + other_bytes <= limit]
        if low > high or (not fitting and best is not None):
            break
        index = fitting[0] if fitting else high
        program = lower(points[index])
        found.append(_Fit(program, measure(program)))
        if found[-1].size_bytes <= limit:
            best, high = found[-1], index - 1
        else:
            low = index + 1
        # What the entry functions take, and by how much estimates are off there.
        other_bytes = found[-1].size_bytes - points[index].flash_bytes
    return best if best is not None else min(found, key=lambda fit: fit.size_bytes)
