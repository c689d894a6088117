"""Placing a program's buffers: constants one after the other, activations by the placement solver."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luciole.errors import InternalError
from luciole.lower.placement import NORMAL, Item, PlacementProblem, check, solve
from luciole.program.core import ARENA, Buffer, Overlap, Program, Region


@dataclass(frozen=True)
class ActivationSizes:
    """How the arena divides: the peak of tensors alone, and what workspaces add to it."""

    activation_bytes: int
    workspace_bytes: int


def plan_memory(program: Program) -> Program:
    """The program with an offset for every buffer and the size of every region; says whether the arena is proven
    minimal.
    """
    offsets: dict[str, int] = {}
    regions = []
    for region in program.regions:
        buffers = program.roots(region.name)
        if region.kind == "const":
            places, end = pack(buffers)
            offsets |= places
            region = replace(region, size_bytes=end, lower_bound_bytes=end, is_optimal=True, method="packed")
        elif region.name == ARENA or any(b.offset is None for b in buffers):
            # Inputs and outputs that Glow's interface keeps in a region of their own have their places already.
            region, places = _placed(region, buffers, program.overlaps())
            offsets |= places
        regions.append(region)
    return program.placed(offsets, tuple(regions))


def _placed(
    region: Region, buffers: tuple[Buffer, ...], overlaps: tuple[tuple[str, Overlap], ...]
) -> tuple[Region, dict[str, int]]:
    """A region with its size, and the offsets of its buffers."""
    problem = placement_problem(buffers, overlaps)
    placement = solve(problem, NORMAL)
    if problems := check(problem, placement.offsets):
        raise InternalError("the placement is wrong: " + "; ".join(problems))
    planned = replace(
        region,
        size_bytes=placement.size_bytes,
        lower_bound_bytes=placement.lower_bound_bytes,
        is_optimal=placement.is_optimal,
        method=placement.method,
    )
    return planned, {b.name: o for b, o in zip(buffers, placement.offsets, strict=True)}


def placement_problem(buffers: tuple[Buffer, ...], overlaps: tuple[tuple[str, Overlap], ...] = ()) -> PlacementProblem:
    """The buffers of the arena as the solver sees them; the caller's steps come as the first and the last. Results that
    may overlap an input need not be clear of it, but begin far enough below it, or in its place.
    """
    position = {b.name: i for i, b in enumerate(buffers)}
    overrides: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    for name, overlap in overlaps:
        # Glow's interface keeps inputs and outputs in another region, where nothing is shared.
        if {overlap.source, name} <= set(position):
            source, result = position[overlap.source], position[name]
            forbidden = (-overlap.distance_bytes, buffers[source].size_bytes)
            split = overlap.in_place and overlap.distance_bytes > 0
            overrides[source, result] = ((forbidden[0], 0), (0, forbidden[1])) if split else (forbidden,)
    items = tuple(Item(b.name, b.size_bytes, b.alignment, b.first + 1, b.last + 1) for b in buffers)
    return PlacementProblem(items, overrides)


def activation_sizes(program: Program) -> ActivationSizes:
    """The arena split as reports state it: the peak that tensors alone would need, and the rest, which is workspace."""
    tensors = tuple(b for b in program.roots(ARENA) if b.kind != "workspace")
    if len(tensors) == len(program.roots(ARENA)):
        return ActivationSizes(program.arena.size_bytes, 0)
    alone = solve(placement_problem(tensors, program.overlaps()), NORMAL).size_bytes
    return ActivationSizes(alone, program.arena.size_bytes - alone)


def pack(buffers: tuple[Buffer, ...]) -> tuple[dict[str, int], int]:
    """Offsets one after the other, and where the last one ends."""
    offsets: dict[str, int] = {}
    end = 0
    for buffer in buffers:
        end = -(-end // buffer.alignment) * buffer.alignment
        offsets[buffer.name] = end
        end += buffer.size_bytes
    return offsets, end
