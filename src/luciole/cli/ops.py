"""`luciole ops`: what models may consist of."""

from __future__ import annotations

import click

from luciole.cli.output import json_option, show
from luciole.graph.foreign import tflite
from luciole.ops.catalog import load_operators
from luciole.report.table import Column, Table
from luciole.targets.base import recipes


@click.command()
@json_option
def ops(as_json: bool) -> None:
    """List the operators with their hand-scheduled kernels, and what is imported from model files."""
    operators, imported = operator_table(), import_table()
    facts = {"operators": operators.records(), "tflite": imported.records()}
    show([operators, imported], facts, as_json)


def operator_table() -> Table:
    """One row for each operator that a graph may hold."""
    columns = (
        Column("operator", "operator"),
        Column("family", "family"),
        Column("meaning", "meaning"),
        Column("kernels beyond generic loops", "kernels"),
    )
    rows = []
    for kind, operator in load_operators().items():
        family = operator.__module__.rpartition(".")[2]
        meaning = " ".join((operator.__doc__ or "").partition("\n\n")[0].split())
        kernels = ", ".join(
            f"{entry.recipe.name} ({entry.dtype.value}, {' '.join(sorted(entry.needs))})"
            for entry in recipes()
            if entry.operator == kind
        )
        rows.append((kind, family, meaning, kernels))
    return Table(columns, tuple(sorted(rows)), "operators")


def import_table() -> Table:
    """One row for each operator of TensorFlow Lite that is imported."""
    load_operators()
    columns = (Column("TFLite operator", "kind"), Column("family", "family"), Column("note", "note"))
    rows = tuple((rule.kind, rule.module, rule.note) for rule in tflite.describe())
    return Table(columns, rows, "imported from TFLite")
