"""A budget of flash: the fastest program that fits, found on the curve of time against bytes by measuring objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luciole.bundle import build_object, inspect_object
from luciole.compilation import Compilation
from luciole.graph.core import Graph
from luciole.lower.choice import Chosen, Point, all_alternatives, frontier
from luciole.program.core import Program
from luciole.report.model import FlashReport

#: Programs that are built at most; each tells how far the estimates are off.
_ATTEMPTS = 6

#: Makes the program of a graph with chosen kernels.
Lower = Callable[[Chosen], Program]


def flash_of(program: Program, run: Compilation) -> FlashReport:
    """The flash that a program takes as an object."""
    name = run.identity.name
    facts = inspect_object(build_object(program, name, run.target), f".rodata.{name}_weights")
    return FlashReport.of(program.weights.size_bytes, facts.code_bytes, facts.rodata_bytes)


def fastest_within(run: Compilation, graph: Graph, limit: int, lower: Lower) -> Program:
    """The fastest program whose flash, measured, is within a limit of bytes; where there is none, the smallest.

    Estimates say where on the curve to look, measurements what fits: a fastest program that was not looked at because
    of them may exist, one that exceeds the limit is not returned while another fits.
    """
    points = frontier(all_alternatives(graph, run.target, "speed"))
    return _search(points, limit, lambda point: lower(dict(point.chosen)), lambda p: flash_of(p, run).total_bytes)


def _search(
    points: Sequence[Point], limit: int, build: Callable[[Point], Program], measure: Callable[[Program], int]
) -> Program:
    low, high, other_bytes = 0, len(points) - 1, 0
    best: Program | None = None
    smallest: tuple[int, Program] | None = None
    for _ in range(_ATTEMPTS):
        fitting = [i for i in range(low, high + 1) if points[i].flash_bytes + other_bytes <= limit]
        if not fitting and best is not None:
            break
        index = fitting[0] if fitting else high
        program = build(points[index])
        size = measure(program)
        if smallest is None or size < smallest[0]:
            smallest = size, program
        if size <= limit:
            best, high = program, index - 1
        else:
            low = index + 1
        # What the entry functions take, and by how much estimates are off there.
        other_bytes = size - points[index].flash_bytes
        if low > high:
            break
    assert smallest is not None
    return best if best is not None else smallest[1]
