"""`luciole check`: everything that would not compile, at once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from luciole.cli.common import compile_options, developer_of, json_option, model_argument, options_of, show
from luciole.compilation import Compilation
from luciole.driver import build_program
from luciole.report.table import Column, Table


@click.command()
@model_argument
@compile_options
@json_option
def check(model: Any, as_json: bool, **given: Any) -> None:
    """List all that would not compile, with node and remedy; exit 0 when nothing stands in the way."""
    with Compilation(model, options_of(given), developer_of(given)) as run:
        program = build_program(run)
        run.check_ram(program)
    counts = Counter(i.operator.kind for i in program.instructions)
    kernels = Counter((i.operator.kind, i.recipe) for i in program.instructions)
    rows = tuple((kind, recipe, count) for (kind, recipe), count in sorted(kernels.items()))
    columns = (Column("operator", "operator"), Column("kernel", "kernel"), Column("layers", "layers", right=True))
    table = Table(columns, rows, f"{model.name} compiles for {run.target.name}")
    facts = {
        "model": model.name,
        "target": run.target.name,
        "compiles": True,
        "layers": len(program.instructions),
        "operators": dict(sorted(counts.items())),
        "arena_bytes": program.arena.size_bytes,
        "weights_bytes": program.weights.size_bytes,
    }
    summary = f"{len(program.instructions)} layers, arena {program.arena.size_bytes:,} B, weights {program.weights.size_bytes:,} B"
    show([table, summary], facts, as_json)
