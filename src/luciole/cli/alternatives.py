"""What every layer would have cost by other kernels: estimated, or built and run on the emulated core."""

from __future__ import annotations

from dataclasses import replace

from luciole.bundle import assemble_bundle
from luciole.compilation import Compilation
from luciole.driver import lower_with
from luciole.graph.core import Operator
from luciole.ir.types import Array
from luciole.options import Emulator
from luciole.program.core import Instruction, Program
from luciole.report.model import AlternativeReport, Report
from luciole.session import open_session
from luciole.targets.base import Alternative, alternatives

#: Alternatives by the number of the instruction.
Found = dict[int, list[Alternative]]


def find_alternatives(run: Compilation, program: Program) -> Found:
    """The kernels that each instruction could have run; none for those that run by rows."""
    return {
        step: alternatives(instruction.operator, run.target)
        for step, instruction in enumerate(program.instructions)
        if not instruction.rows
    }


def with_alternatives(report: Report, program: Program, found: Found, measured: dict[int, list[int]]) -> Report:
    """The report with what the alternatives of each layer cost; `measured` are executed instructions, where known."""
    layers = list(report.layers)
    for step, several in found.items():
        chosen = _chosen(program.instructions[step], several)
        counts = measured.get(step, [])
        entries = tuple(
            AlternativeReport(
                kernel=alternative.words,
                is_chosen=alternative is chosen,
                estimated_instructions=alternative.cost.instructions,
                estimated_cycles=alternative.cost.cycles,
                code_bytes=alternative.code_bytes,
                weights_bytes=alternative.bound.constant_bytes,
                workspace_bytes=alternative.bound.workspace_bytes,
                instructions=counts[number] if counts else None,
            )
            for number, alternative in enumerate(several)
        )
        layers[step] = replace(layers[step], alternatives=entries)
    return replace(report, layers=tuple(layers))


def measure_alternatives(
    run: Compilation, program: Program, found: Found, inputs: dict[str | int, Array], emulator: Emulator
) -> dict[int, list[int]]:
    """Executed instructions of each alternative: programs are built that take the first of all layers, the second, and
    so on, and run on the emulated core.
    """
    measured: dict[int, list[int]] = {step: [] for step in found}
    operators = [program.instructions[step].operator for step in found]
    for number in range(max(map(len, found.values()), default=0)):
        chosen = {
            op: several[number].recipe
            for op, several in zip(operators, found.values(), strict=True)
            if number < len(several)
        }
        other = lower_with(run, program.graph, chosen)
        bundle = assemble_bundle(other, run.target, run.identity, run.options)
        session = open_session(run, other, emulator=emulator, bundle=bundle)
        session.run(inputs)
        counts: dict[Operator, int] = {
            i.operator: layer.instructions or 0
            for i, layer in zip(other.instructions, session.last_run.layers, strict=True)
        }
        for step, several in found.items():
            if number < len(several):
                measured[step].append(counts[program.instructions[step].operator])
    return measured


def _chosen(instruction: Instruction, several: list[Alternative]) -> Alternative | None:
    """The alternative that an instruction runs; kernels that are merged or work in place have other names."""
    same = [a for a in several if a.recipe.name == instruction.recipe]
    exact = [a for a in same if a.bound.kernel.name in (instruction.kernel, instruction.kernel.removesuffix("_over"))]
    if exact:
        return exact[0]
    return min(same, key=lambda a: a.code_bytes if instruction.scalars else 0, default=None)
