"""`luciole targets` and `luciole ops`: what there is."""

from __future__ import annotations

import click

from luciole.cli.common import json_option, show
from luciole.graph.foreign import TFLITE
from luciole.ir.target import load_targets
from luciole.ops.catalog import load_operators
from luciole.report.table import Column, Table
from luciole.targets.base import recipes


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


@click.command()
@json_option
def ops(as_json: bool) -> None:
    """List the operators, what imports as them, and their hand-scheduled kernels."""
    operators = load_operators()
    foreign = TFLITE.kinds_by_module()
    columns = (
        Column("operator", "name"),
        Column("meaning", "meaning"),
        Column("from TFLite", "tflite"),
        Column("kernels beyond generic loops", "kernels"),
    )
    rows = []
    for kind, cls in operators.items():
        meaning = (cls.__doc__ or "").strip().splitlines()[0]
        kernels = " ".join(f"{r.recipe.name} ({', '.join(sorted(r.needs))})" for r in recipes() if r.operator == kind)
        rows.append((kind, meaning, " ".join(foreign.get(cls.__module__, ())), kernels))
    table = Table(columns, tuple(rows))
    show([table], table.records(), as_json)
