"""`luciole targets`: what code can be made for."""

from __future__ import annotations

import click

from luciole.cli.output import json_option, show
from luciole.errors import CompileError, printable
from luciole.ir.board import board_texts, find_board
from luciole.ir.target import load_targets
from luciole.report.table import Column, Table, format_size


@click.command()
@click.option("--boards", is_flag=True, help="List the boards whose memories are known, for --memory or --target.")
@click.option("--board", metavar="NAME", help="Print the file of a board's memories, to change what a model may take.")
@json_option
def targets(boards: bool, board: str | None, as_json: bool) -> None:
    """List the cores, machines and boards to compile for."""
    if board is not None:
        texts = board_texts()
        if board not in texts:
            raise CompileError.of(
                "unknown-board", f'there is no board "{printable(board)}"', help=f"boards are {', '.join(texts)}"
            )
        click.echo(texts[board], nl=False)
        return
    table = board_list() if boards else target_list()
    show([table], table.records(), as_json)


def board_list() -> Table:
    """The boards that are known by name."""
    columns = (
        Column("board", "name"),
        Column("description", "description"),
        Column("target", "target"),
        Column("memories", "memories"),
        Column("source", "source"),
    )
    rows = []
    for name in board_texts():
        found = find_board(name)
        memories = ", ".join(f"{memory.name} {format_size(memory.size_bytes)}" for memory in found.memories)
        rows.append((name, found.description, found.target, memories, found.source))
    return Table(columns, tuple(rows))


def target_list() -> Table:
    """The cores and machines."""
    columns = (
        Column("target", "name"),
        Column("description", "description"),
        Column("triple", "triple"),
        Column("features", "features"),
        Column("runs here", "runs_here"),
    )
    rows = []
    for target in load_targets().values():
        where = "yes" if target.is_native else "emulated" if target.emulated_core else "no"
        rows.append((target.name, target.description, target.triple, " ".join(sorted(target.features)), where))
    return Table(columns, tuple(rows))
