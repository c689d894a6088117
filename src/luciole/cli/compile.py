"""`luciole compile`: a model in, a bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from luciole.bundle import Bundle
from luciole.cli.options import STAGE_TYPE, compile_options, developer_of, model_argument, options_of
from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.cli.stages import StageText, compile_between
from luciole.driver import compile_model
from luciole.report.table import Table
from luciole.report.tables import board_table, flash_table, memory_table


@click.command("compile")
@model_argument
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder; with --to, a file.  [default: build]")
@compile_options
@click.option("--to", "to_stage", type=STAGE_TYPE, help="Stop behind a stage and print its text, or write it (-o).")
@click.option("--from", "from_stage", type=STAGE_TYPE, help="MODEL is the text of this stage; go on from it.")
@json_option
def compile_command(
    model: Path, output: Path | None, to_stage: str | None, from_stage: str | None, as_json: bool, **given: Any
) -> None:
    """Compile MODEL into a bundle: code, header, report, test program."""
    options, developer = options_of(given), developer_of(given)
    result: Bundle | StageText
    with working(f"compiling {model.name}"):
        if to_stage or from_stage:
            has_target = given["target"] is not None
            result = compile_between(model, options, developer, from_stage or "", to_stage or "", has_target=has_target)
        else:
            result = compile_model(model, options, developer)
    if isinstance(result, StageText):
        _show_stage(result, output, as_json)
    else:
        _show_bundle(result, output or Path("build"), as_json)


def _show_bundle(bundle: Bundle, folder: Path, as_json: bool) -> None:
    """Write the bundle, and say what was written."""
    bundle.save(folder)
    report = bundle.report
    files = "\n".join(f"  {folder / name}  {len(data):,} B" for name, data in bundle.files.items())
    items: list[Table | str] = [memory_table(report), flash_table(report), f"written:\n{files}"]
    if report.memories:
        items.insert(2, board_table(report))
    if report.link.lines:
        items.append("to build a program with it:\n" + "\n".join(f"  {line}" for line in report.link.lines))
    show(items, report.to_document(), as_json)


def _show_stage(result: StageText, output: Path | None, as_json: bool) -> None:
    """Write the text of a stage and its arrays into files, or print it."""
    if output is not None:
        written = result.save(output)
        show(["written:\n" + "\n".join(f"  {path}" for path in written)], {"files": list(map(str, written))}, as_json)
    elif as_json:
        show([], {"stage": result.stage, "text": result.text}, as_json)
    else:
        click.echo(result.text.encode("utf-8"), nl=False)
        if result.arrays:
            click.echo(f"{len(result.arrays)} arrays were not printed; --output FILE writes them too", err=True)
