"""`luciole ops`: what models may consist of."""

from __future__ import annotations

import click

from luciole.cli.output import json_option, show
from luciole.graph.foreign import ImportRules, onnx, tflite
from luciole.importers.onnx import composite as _onnx_composite  # noqa: F401  # its rules register themselves
from luciole.importers.tflite import build as _tflite  # noqa: F401  # likewise
from luciole.ops.catalog import load_operators
from luciole.report.table import Column, Table
from luciole.targets.base import recipes


@click.command()
@json_option
def ops(as_json: bool) -> None:
    """List the operators with their hand-scheduled kernels, and what is imported from model files."""
    operators, from_tflite, from_onnx = operator_table(), import_table(tflite), import_table(onnx)
    facts = {"operators": operators.records(), "tflite": from_tflite.records(), "onnx": from_onnx.records()}
    show([operators, from_tflite, from_onnx], facts, as_json)


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


def import_table(rules: ImportRules) -> Table:
    """One row for each operator of a file format that is imported."""
    load_operators()
    columns = (Column(f"{rules.format} operator", "kind"), Column("family", "family"), Column("note", "note"))
    rows = tuple((rule.kind, rule.module, rule.note) for rule in rules.describe())
    return Table(columns, rows, f"imported from {rules.format}")
