"""`luciole tune`: parameters of hand-scheduled kernels, found on an emulated core."""

from __future__ import annotations

from pathlib import Path

import click

from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.errors import CompileError
from luciole.ir.target import find_target
from luciole.report.table import Column, Table
from luciole.targets.tuning import SAME_AS, load_tuning, tuning_text
from luciole.tuner import Trial, best_of, tune


@click.command()
@click.argument("target")
@click.option("--only", default="", metavar="TEXT", help="Only classes of layers whose name has this text.")
@click.option("--check", is_flag=True, help="Fail unless the table in use is what is found.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the table to a file.")
@json_option
def tune_command(target: str, only: str, check: bool, output: Path | None, as_json: bool) -> None:
    """Try parameters of the kernels for TARGET on its emulated core, such as how far loops are unrolled."""
    core = find_target(SAME_AS.get(target, target))
    with working(f"tuning {core.name}"):
        trials = tune(core, only)
    found = best_of(trials)
    if check:
        in_use = load_tuning(core.name)
        tried = dict.fromkeys((t.recipe, t.shape_class) for t in trials)
        wrong = [
            f"{recipe}, {words}: found {found.get(recipe, {}).get(words)}, in use {in_use.get(recipe, {}).get(words)}"
            for recipe, words in tried
            if found.get(recipe, {}).get(words) != in_use.get(recipe, {}).get(words)
        ]
        if wrong:
            raise CompileError.of(
                "not-tuned",
                f"the table of {core.name} is not what is found",
                notes=tuple(wrong),
                help=f"luciole tune {core.name} -o src/luciole/targets/tuned/{core.name}.toml",
            )
    if output is not None:
        try:
            output.write_text(tuning_text(core.name, found), encoding="utf-8")
        except OSError as error:
            raise CompileError.of("cannot-write", f"{output} cannot be written: {error.strerror}") from None
    table = trials_table(trials, found)
    show([table, tuning_text(core.name, found)], {"trials": table.records(), "table": found}, as_json)


def trials_table(trials: list[Trial], found: dict[str, dict[str, dict[str, int]]]) -> Table:
    """A row a trial; those that the table keeps are marked."""
    columns = (
        Column("recipe", "recipe"),
        Column("layers", "shape_class"),
        Column("", "is_kept"),
        Column("parameters", "parameters"),
        Column("instructions", "instructions", right=True),
        Column("cycles", "cycles", right=True),
    )
    rows = []
    for t in trials:
        kept = found.get(t.recipe, {}).get(t.shape_class)
        is_kept = dict(t.parameters) == kept if kept is not None else t.is_usual
        words = " ".join(f"{name}={value}" for name, value in t.parameters)
        rows.append((t.recipe, t.shape_class, "*" if is_kept else "", words, t.instructions, t.cycles))
    return Table(columns, tuple(rows), "* is kept")
