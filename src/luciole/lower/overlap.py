"""Lowering where memory counts: results overlap inputs, and slower kernels run only where that makes the peak lower."""

from __future__ import annotations

from luciole.graph.core import Graph
from luciole.ir.target import Target
from luciole.lower.lower import BuiltKernels, LoweringOptions, lower
from luciole.program.core import ARENA, Instruction, Program


def lower_small(graph: Graph, target: Target, options: LoweringOptions) -> Program:
    """A program without places whose tensors need the fewest bytes; `options` allow overlap.

    Every operator with its smallest kernel gives the least peak of tensors (workspaces apart). Those that stay within
    it with their fastest kernel take that one.
    """
    operators = frozenset(graph.operators)
    built: BuiltKernels = {}
    smallest = lower(graph, target, options, operators, built=built)
    fastest = lower(graph, target, options, built=built)
    peak = max(needed_bytes(smallest), default=0)
    needed = zip(fastest.instructions, needed_bytes(fastest), strict=True)
    mixed = lower(graph, target, options, frozenset(i.operator for i, size in needed if size > peak), built=built)
    return mixed if max(needed_bytes(mixed), default=0) <= peak else smallest


def needed_bytes(program: Program) -> list[int]:
    """The bytes that the tensors alive in each instruction need at least, overlaps considered."""
    tensors = [b for b in program.roots(ARENA) if b.kind != "workspace"]
    return [
        sum(b.size_bytes for b in tensors if b.first <= step <= b.last) - _shared_bytes(program, instruction)
        for step, instruction in enumerate(program.instructions)
    ]


def _shared_bytes(program: Program, instruction: Instruction) -> int:
    """The most bytes that an instruction's result and an input can share."""
    if instruction.overlap is None:
        return 0
    source = program.buffers[instruction.overlap.source].size_bytes
    result = program.buffers[instruction.buffers("out")[0]].size_bytes
    return instruction.overlap.shared_bytes(source, result)
