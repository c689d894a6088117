"""`--to` and `--from`: stop behind a stage and show its text, or go on from such a text."""

from __future__ import annotations

from pathlib import Path

from luciole.bundle import Bundle, assemble_bundle
from luciole.compilation import STAGES, Compilation, Resume, StageReached
from luciole.driver import build_program
from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.text import load_graph, render_graph
from luciole.ops.catalog import load_operators
from luciole.options import Options
from luciole.passes.manager import DeveloperOptions
from luciole.program.core import Program
from luciole.program.text import load_program, render_program


def compile_between(
    source: Path, options: Options, developer: DeveloperOptions, from_stage: str, to_stage: str
) -> Bundle | str:
    """The bundle, or the text of the stage to stop behind. Raises `CompileError` when `to` comes before `from`."""
    if from_stage and to_stage and STAGES.index(to_stage) < STAGES.index(from_stage):
        raise CompileError.of("bad-option", f"--to {to_stage} comes before --from {from_stage}")
    resume = Resume(from_stage, _load(source, from_stage)) if from_stage else None
    with Compilation(source, options, developer, stop_after=to_stage, resume=resume) as run:
        try:
            program = build_program(run)
            run.check_ram(program)
            bundle = run("bundle", assemble_bundle, program, run.target, run.identity, options)
        except StageReached as reached:
            return stage_text(reached.value)
        run.check_flash(bundle)
        return bundle


def stage_text(value: object) -> str:
    """What a stage made, as text."""
    if isinstance(value, Graph):
        return render_graph(value).text
    if isinstance(value, Program):
        return render_program(value).text
    raise CompileError.of("bad-option", "this stage has no text form")


def _load(source: Path, stage: str) -> Graph | Program:
    """The text that a stage made; constants come from the `.npz` beside it."""
    load_operators()
    return load_graph(source) if stage in ("import", "optimize") else load_program(source)
