"""`luciole run`: compile for this machine or an emulated core, and run on arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from luciole.cli.common import compile_options, json_option, load_arrays, model_argument, options_of, show
from luciole.errors import CompileError
from luciole.ir.types import Array
from luciole.report.table import Column, Table
from luciole.session import RUN_STAGES, load_with


@click.command()
@model_argument
@click.option(
    "--input",
    "-i",
    "input_path",
    type=click.Path(path_type=Path),
    required=True,
    help=".npz by input name or position, or .npy",
)
@click.option("--output", "-o", "output_path", type=click.Path(path_type=Path), help=".npz by output name")
@click.option(
    "--stage", type=click.Choice(RUN_STAGES), default="native", show_default=True, help="machine code, or a reference"
)
@click.option("--emulator", type=click.Choice(["", "unicorn", "qemu"]), default="", help="for emulated cores")
@compile_options
@json_option
def run(
    model: Path, input_path: Path, output_path: Path | None, stage: str, emulator: str, as_json: bool, **given: Any
) -> None:
    """Run MODEL on arrays: on this machine, or on an emulated core (--target cortex-m4)."""
    session = load_with(model, options_of(given), stage=stage, emulator=emulator)
    outputs = session.run(load_arrays(input_path))
    if output_path is not None:
        save_arrays(output_path, outputs)
    columns = (
        Column("output", "name"),
        Column("type", "dtype"),
        Column("shape", "shape"),
        Column("first values", "values"),
    )
    rows = tuple((name, array.dtype.name, tuple(array.shape), _preview(array)) for name, array in outputs.items())
    items: list[Table | str] = [Table(columns, rows)]
    facts: dict[str, object] = {
        "outputs": {name: {"shape": list(a.shape), "dtype": a.dtype.name} for name, a in outputs.items()}
    }
    if session.is_measured:
        last = session.last_run
        items.append(f"{last.instructions:,} instructions, {last.stack_bytes:,} B of stack on {last.emulator}")
        facts["emulated"] = {
            "emulator": last.emulator,
            "instructions": last.instructions,
            "stack_bytes": last.stack_bytes,
        }
    show(items, facts, as_json)


def save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays by name into an `.npz`. Raises `CompileError` when it cannot be written."""
    try:
        with open(path, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # names are the caller's
    except OSError as error:
        raise CompileError.of("cannot-write", f'cannot write "{path}": {error.strerror}') from None


def _preview(array: Array) -> str:
    flat = array.reshape(-1)[:8]
    text = " ".join(f"{value:.6g}" if array.dtype.kind == "f" else str(value) for value in flat)
    return text + (" ..." if array.size > 8 else "")
