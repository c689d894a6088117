"""`luciole compile`: a model in, a bundle out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from luciole.bundle import Bundle
from luciole.cli.common import compile_options, developer_of, json_option, model_argument, options_of, show
from luciole.cli.stages import compile_between
from luciole.compilation import STAGES
from luciole.driver import compile_model
from luciole.report.tables import flash_table, memory_table


@click.command("compile")
@model_argument
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("build"), show_default=True, help="folder"
)
@compile_options
@click.option("--to", "to_stage", type=click.Choice(STAGES[:-1]), help="stop behind a stage and print its text")
@click.option(
    "--from", "from_stage", type=click.Choice(STAGES[:-1]), help="MODEL is the text of this stage; go on from it"
)
@json_option
def compile_command(
    model: Path, output: Path, to_stage: str | None, from_stage: str | None, as_json: bool, **given: Any
) -> None:
    """Compile MODEL into a bundle: code, header, report, test program."""
    options, developer = options_of(given), developer_of(given)
    if to_stage or from_stage:
        result = compile_between(model, options, developer, from_stage or "", to_stage or "")
        if not isinstance(result, Bundle):
            sys.stdout.write(result)
            return
        bundle = result
    else:
        bundle = compile_model(model, options, developer)
    bundle.save(output)
    report = bundle.report
    files = "\n".join(f"  {output / name}  {len(data):,} B" for name, data in bundle.files.items())
    link = "\n".join(f"  {line}" for line in report.link.lines)
    items = [memory_table(report), flash_table(report), f"written:\n{files}"]
    if link:
        items.append(f"to build a program with it:\n{link}")
    show(items, report.to_document(), as_json)
