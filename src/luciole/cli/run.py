"""`luciole run`: compile for this machine or an emulated core, and run on arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from luciole.cli.files import save_arrays
from luciole.cli.options import compile_options, developer_of, emulator_option, model_argument, options_of
from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.compilation import Compilation
from luciole.driver import build_program
from luciole.importers.arrays import load_arrays
from luciole.ir.types import Array
from luciole.options import RUN_STAGES, Emulator, Stage
from luciole.report.table import Column, Table
from luciole.session import open_session

#: So many values of an output are shown.
_PREVIEW = 8

#: An output with more values is not part of the JSON; `--output` writes it.
_MOST_VALUES = 4096


@click.command()
@model_argument
@click.option(
    "--input",
    "-i",
    "input_path",
    type=click.Path(path_type=Path),
    required=True,
    help="An .npz with arrays by input name or position, or an .npy.",
)
@click.option(
    "--output", "-o", "output_path", type=click.Path(path_type=Path), help="An .npz for arrays by output name."
)
@click.option(
    "--stage", type=click.Choice(RUN_STAGES), default="native", show_default=True, help="Machine code, or a reference."
)
@emulator_option
@compile_options
@json_option
def run(
    model: Path,
    input_path: Path,
    output_path: Path | None,
    stage: Stage,
    emulator: Emulator | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Run MODEL on arrays: on this machine, or on an emulated core (--target cortex-m4)."""
    inputs = load_arrays(input_path)
    options, developer = options_of(given), developer_of(given)
    with working(f"running {model.name}"), Compilation(model, options, developer) as compilation:
        session = open_session(compilation, build_program(compilation), stage, emulator or "")
        outputs = session.run(inputs)
    if output_path is not None:
        save_arrays(output_path, outputs)
    facts: dict[str, object] = {"outputs": {name: _facts(array) for name, array in outputs.items()}}
    items: list[Table | str] = [_output_table(outputs)]
    if session.is_measured:
        last = session.last_run
        items.append(f"{last.instructions:,} instructions, {last.stack_bytes:,} B of stack on {last.emulator}")
        facts["emulated"] = {
            "emulator": last.emulator,
            "instructions": last.instructions,
            "stack_bytes": last.stack_bytes,
        }
    show(items, facts, as_json)


def _output_table(outputs: dict[str, Array]) -> Table:
    """One row for each output."""
    columns = (
        Column("output", "name"),
        Column("type", "dtype"),
        Column("shape", "shape"),
        Column("first values", "values"),
    )
    rows = tuple((name, array.dtype.name, tuple(array.shape), _preview(array)) for name, array in outputs.items())
    return Table(columns, rows)


def _facts(array: Array) -> dict[str, object]:
    """An output for programs, with its values in row-major order unless there are many."""
    values = array.reshape(-1).tolist() if array.size <= _MOST_VALUES else None
    return {"shape": list(array.shape), "dtype": array.dtype.name, "values": values}


def _preview(array: Array) -> str:
    flat = array.reshape(-1)[:_PREVIEW]
    text = " ".join(f"{value:.6g}" if array.dtype.kind == "f" else str(value) for value in flat)
    return text + (" ..." if array.size > _PREVIEW else "")
