"""`luciole inspect`: the layers, the memory map over time, and what is at the peak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from luciole.cli.files import write_files
from luciole.cli.options import compile_options, developer_of, model_argument, options_of
from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.compilation import Compilation
from luciole.driver import compile_model, ram_trade_offs
from luciole.lower.fit import TradeOff
from luciole.report.html import render_html
from luciole.report.table import Column, Table
from luciole.report.tables import (
    board_table,
    flash_table,
    layer_table,
    memory_map,
    memory_table,
    peak_table,
    tensor_table,
)
from luciole.report.trade_offs import render_trade_offs

#: Characters of the longest bar.
_BAR_LENGTH = 40


def trade_off_table(points: Sequence[TradeOff]) -> Table:
    """RAM against estimated instructions, the fastest program first; bars show the RAM."""
    columns = (
        Column("arena", "arena_bytes", right=True),
        Column("instructions", "instructions", right=True),
        Column("slower", "slowdown", right=True, decimals=2),
        Column("layers by row", "streamed_layers", right=True),
        Column("how", "way"),
        Column("RAM", "bar"),
    )
    most = max((point.arena_bytes for point in points), default=1)
    least = min((point.instructions for point in points), default=1)
    rows = tuple(
        (
            point.arena_bytes,
            point.instructions,
            point.instructions / max(1, least),
            point.streamed_layers,
            point.way,
            "#" * max(1, _BAR_LENGTH * point.arena_bytes // max(1, most)),
        )
        for point in points
    )
    return Table(columns, rows, "RAM against time (instructions are estimates)")


@click.command()
@model_argument
@compile_options
@click.option("--pareto", is_flag=True, help="Show what less RAM would cost instead: all programs worth having.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write what is shown as a page, too.")
@json_option
def inspect(model: Path, as_json: bool, pareto: bool, page: Path | None, **given: Any) -> None:
    """Show MODEL as it would be compiled: tensors, layers, flash, RAM over time, and what holds the peak."""
    if pareto:
        with (
            working(f"compiling {model.name}"),
            Compilation(model, options_of(given), developer_of(given)) as run,
        ):
            points = ram_trade_offs(run)
        if page is not None:
            text = render_trade_offs(points, run.options.name or model.stem, run.target.name)
            write_files({page: text.encode()})
        table = trade_off_table(points)
        show([table], {"trade_offs": table.records()}, as_json)
        return
    with working(f"compiling {model.name}"):
        report = compile_model(model, options_of(given), developer_of(given)).report
    if page is not None:
        write_files({page: render_html(report).encode()})
    items = [tensor_table(report), layer_table(report), memory_table(report), flash_table(report)]
    if report.memories:
        items.append(board_table(report))
    show([*items, peak_table(report), memory_map(report)], report.to_document(), as_json)
