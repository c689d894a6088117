"""`luciole inspect`: the layers, the memory map over time, and what is at the peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from luciole.cli.options import compile_options, developer_of, model_argument, options_of
from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.driver import compile_model
from luciole.report.tables import (
    board_table,
    flash_table,
    layer_table,
    memory_map,
    memory_table,
    peak_table,
    tensor_table,
)


@click.command()
@model_argument
@compile_options
@json_option
def inspect(model: Path, as_json: bool, **given: Any) -> None:
    """Show MODEL as it would be compiled: tensors, layers, flash, RAM over time, and what holds the peak."""
    with working(f"compiling {model.name}"):
        report = compile_model(model, options_of(given), developer_of(given)).report
    items = [tensor_table(report), layer_table(report), memory_table(report), flash_table(report)]
    if report.memories:
        items.append(board_table(report))
    show([*items, peak_table(report), memory_map(report)], report.to_document(), as_json)
