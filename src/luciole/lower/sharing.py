"""Layers whose kernels differ in numbers only run one kernel, where the bytes it saves are worth the instructions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from luciole.ir.target import Target
from luciole.kernel.core import For, Kernel
from luciole.kernel.estimate import estimated_code_bytes, estimated_instructions
from luciole.kernel.sharing import SharedKernel, Template, share, template
from luciole.kernel.walk import walk
from luciole.program.core import Program

#: Bytes of code for handing over a scalar in a call, about.
_SCALAR_BYTES = 6
#: Kernels that save fewer bytes than this stay apart.
_LEAST_SAVING = 64


@dataclass(frozen=True)
class _Merger:
    """Kernels that could be one: what that saves, and the instructions that it adds to a run of the program."""

    templates: tuple[Template, ...]
    shared: SharedKernel
    saved_bytes: int
    added_instructions: int


def share_kernels(program: Program, target: Target, allowed_instructions: int) -> Program:
    """The program with kernels that differ in numbers made one, as far as that adds so many estimated instructions to a
    run; those that save most bytes for an instruction come first. Kernels of streams, those with scalars already,
    and hand-scheduled ones with loops that become vectors by their numbers, stay.
    """
    runs: dict[str, int] = {}
    for instruction in program.instructions:
        kernel = program.kernels[instruction.kernel]
        if not (instruction.rows or kernel.scalars or (target.has_vectors and _has_marked_loops(kernel))):
            runs[instruction.kernel] = runs.get(instruction.kernel, 0) + 1
    groups: dict[Kernel, list[Template]] = {}
    for name in runs:
        found = template(program.kernels[name])
        groups.setdefault(found.blank, []).append(found)
    mergers = [m for group in groups.values() for m in _mergers(group, runs, target)]
    taken: set[str] = set()
    chosen: list[_Merger] = []
    for merger in sorted(mergers, key=lambda m: -m.saved_bytes / max(1, m.added_instructions)):
        names = {t.kernel.name for t in merger.templates}
        if not names & taken and merger.added_instructions <= allowed_instructions:
            chosen.append(merger)
            taken |= names
            allowed_instructions -= merger.added_instructions
    return _applied(program, chosen)


def _has_marked_loops(kernel: Kernel) -> bool:
    """Whether loops of a hand-scheduled kernel become vectors by their numbers."""
    return kernel.is_scheduled and any(isinstance(s, For) and s.is_vector for s in walk(kernel.body))


def _mergers(group: Sequence[Template], runs: dict[str, int], target: Target) -> Iterable[_Merger]:
    """Ways to make kernels of one template fewer: all one, those alike in the offsets of their accesses, pairs."""
    if len(group) < 2:
        return
    parts = [tuple(group)]
    alike: dict[tuple[int, ...], list[Template]] = {}
    for member in group:
        offsets = tuple(v for v, is_offset in zip(member.values, member.is_offset, strict=True) if is_offset)
        alike.setdefault(offsets, []).append(member)
    parts += [tuple(members) for members in alike.values() if 1 < len(members) < len(group)]
    for members in parts:
        merger = _merger(members, runs, target)
        if merger.saved_bytes >= _LEAST_SAVING:
            yield merger


def _merger(members: tuple[Template, ...], runs: dict[str, int], target: Target) -> _Merger:
    shared = share(members, "shared")
    private_bytes = sum(estimated_code_bytes(m.kernel, target) for m in members)
    calls = sum(runs[m.kernel.name] for m in members)
    shared_bytes = estimated_code_bytes(shared.kernel, target) + calls * _SCALAR_BYTES * len(shared.kernel.scalars)
    added = 0
    names = [s.name for s in shared.kernel.scalars]
    for member, values in zip(members, shared.scalars, strict=True):
        alone = estimated_instructions(member.kernel, target)
        together = estimated_instructions(shared.kernel, target, dict(zip(names, values, strict=True)))
        added += runs[member.kernel.name] * max(0, together + 2 * len(names) - alone)
    return _Merger(members, shared, private_bytes - shared_bytes, added)


def _applied(program: Program, mergers: Sequence[_Merger]) -> Program:
    """The program with kernels merged, in the order in which they are first run."""
    replacements: dict[str, tuple[Kernel, tuple[int, ...]]] = {}
    for merger in mergers:
        kernel = replace(merger.shared.kernel, name=_name(merger))
        for member, values in zip(merger.templates, merger.shared.scalars, strict=True):
            replacements[member.kernel.name] = kernel, values
    instructions = tuple(
        replace(i, kernel=replacements[i.kernel][0].name, scalars=replacements[i.kernel][1])
        if i.kernel in replacements
        else i
        for i in program.instructions
    )
    kernels: dict[str, Kernel] = {}
    for name, kernel in program.kernels.items():
        kernel = replacements[name][0] if name in replacements else kernel
        kernels.setdefault(kernel.name, kernel)
    return replace(program, instructions=instructions, kernels=kernels)


def _name(merger: _Merger) -> str:
    """What the kernels' names begin with, `shared`, and a hash of the content."""
    digest = hashlib.sha256(repr(replace(merger.shared.kernel, name="")).encode()).hexdigest()[:6]
    stem = merger.templates[0].kernel.name
    suffix = "_over" if stem.endswith("_over") else ""
    return f"{stem.removesuffix('_over').rpartition('_')[0]}_shared_{digest}{suffix}"
