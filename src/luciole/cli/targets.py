"""`luciole targets`: what code can be made for."""

from __future__ import annotations

import click

from luciole.cli.output import json_option, show
from luciole.ir.target import load_targets
from luciole.report.table import Column, Table


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """List the cores and machines to compile for."""
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
    table = Table(columns, tuple(rows))
    show([table], table.records(), as_json)
