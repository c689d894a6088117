"""`luciole check`: everything that would not compile, at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from luciole.cli.options import compile_options, developer_of, model_argument, options_of
from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.compilation import Compilation
from luciole.driver import build_bundle, build_program
from luciole.errors import CompileError
from luciole.program.core import Program
from luciole.report.table import Column, Table


@click.command()
@model_argument
@compile_options
@json_option
@click.pass_context
def check(ctx: click.Context, /, model: Path, as_json: bool, **given: Any) -> None:
    """List all that would not compile, with node and remedy; exit 0 when nothing stands in the way."""
    try:
        with working(f"compiling {model.name}"), Compilation(model, options_of(given), developer_of(given)) as run:
            program = build_program(run)
            if run.options.max_flash is not None:
                build_bundle(run, program)
    except CompileError as error:
        if not as_json:
            raise
        errors = [{**asdict(d), "location": asdict(d.location)} for d in error.diagnostics]
        show([], {"model": str(model), "compiles": False, "errors": errors}, as_json)
        ctx.exit(error.exit_code)
    facts = {
        "model": str(model),
        "target": run.target.name,
        "compiles": True,
        "layers": len(program.instructions),
        "operators": dict(sorted(Counter(i.operator.kind for i in program.instructions).items())),
        "arena_bytes": program.arena.size_bytes,
        "weights_bytes": program.weights.size_bytes,
        "regions": {region.name: region.size_bytes for region in program.regions},
    }
    first = [program.arena, program.weights]
    sizes = ", ".join(f"{r.name} {r.size_bytes:,} B" for r in (*first, *(r for r in program.regions if r not in first)))
    summary = f"{len(program.instructions)} layers, {sizes}"
    show([_kernel_table(program, f"{model.name} compiles for {run.target.name}"), summary], facts, as_json)


def _kernel_table(program: Program, title: str) -> Table:
    """How many layers run each kind of kernel."""
    counts = Counter((i.operator.kind, i.recipe) for i in program.instructions)
    rows = tuple((kind, recipe, count) for (kind, recipe), count in sorted(counts.items()))
    columns = (Column("operator", "operator"), Column("kernel", "kernel"), Column("layers", "layers", right=True))
    return Table(columns, rows, title)
