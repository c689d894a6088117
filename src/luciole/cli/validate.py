"""`luciole validate`: is the compiled model right, on labelled data?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from luciole.cli.common import compile_options, json_option, load_arrays, model_argument, options_of, show
from luciole.compilation import Compilation
from luciole.driver import build_program
from luciole.errors import EXIT_MISMATCH, CompileError
from luciole.ir.types import Array
from luciole.report.table import Column, Table
from luciole.session import open_session
from luciole.validate import Scaling, Validation, validate


@click.command("validate")
@model_argument
@click.option("--data", type=click.Path(path_type=Path), required=True, help=".npz with samples `x` and labels `y`")
@click.option("--limit", type=click.IntRange(1), help="use only so many samples")
@click.option("--data-scale", type=float, default=1.0, help="samples are (x - zero) * scale in reals")
@click.option("--data-zero", type=float, default=0.0, help="see --data-scale")
@click.option(
    "--stage", type=click.Choice(["program", "native"]), default="native", help="what to hold against the reference"
)
@click.option("--emulator", type=click.Choice(["", "unicorn", "qemu"]), default="", help="for emulated cores")
@compile_options
@json_option
def validate_command(
    model: Path,
    data: Path,
    limit: int | None,
    data_scale: float,
    data_zero: float,
    stage: str,
    emulator: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Compare MODEL as compiled with its reference, sample by sample, and count right answers. Exit 4 on a mismatch."""
    samples, labels = load_labelled(data, limit)
    with Compilation(model, options_of(given)) as run:
        program = build_program(run)
        session = open_session(run, program, stage, emulator)
        session.measure_next_runs(False)
        with click.progressbar(length=len(samples), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            result = validate(session, samples, labels, Scaling(data_scale, data_zero), lambda _: bar.update(1))
    where = run.target.name + (" (C)" if run.options.emit == "c" else "")
    show([_table(result, where)], _facts(result, model.name, where), as_json)
    if result.mismatches:
        raise SystemExit(EXIT_MISMATCH)


def load_labelled(path: Path, limit: int | None) -> tuple[Array, Array | None]:
    """Samples and labels. Raises `CompileError` when there are none, or not one label a sample."""
    arrays = load_arrays(path)
    if "x" not in arrays:
        raise CompileError.of(
            "bad-data", f'"{path}" has no array `x`', help="labelled data is an .npz with `x` and `y`"
        )
    samples, labels = arrays["x"], arrays.get("y")
    if samples.ndim < 1 or len(samples) == 0:
        raise CompileError.of("bad-data", f'"{path}" holds no samples')
    if labels is not None and (labels.ndim != 1 or len(labels) != len(samples)):
        raise CompileError.of("bad-data", f"{len(samples)} samples but labels of shape {list(labels.shape)}")
    return samples[:limit], None if labels is None else labels[:limit]


def _table(result: Validation, where: str) -> Table:
    rows: list[tuple[str, str]] = [("compared on", where), ("samples", f"{result.samples:,}")]
    verdict = (
        "none: equal to the reference"
        if not result.mismatches
        else f"{result.mismatches} (first: {result.first_mismatch})"
    )
    rows.append(("samples that differ", verdict))
    rows.append(("largest difference", f"{result.largest_error:.6g}"))
    rows.append(("predictions that agree", f"{result.agreeing_predictions:,}"))
    if result.correct is not None and result.reference_correct is not None:
        rows.append(
            (
                "right answers",
                f"{result.correct:,} of {result.samples:,} ({100 * result.correct / result.samples:.2f} %)",
            )
        )
        rows.append(("right answers of the reference", f"{result.reference_correct:,}"))
    return Table((Column("", "fact"), Column("", "value")), tuple(rows), "validation")


def _facts(result: Validation, model: str, where: str) -> dict[str, object]:
    return {
        "model": model,
        "target": where,
        "samples": result.samples,
        "mismatches": result.mismatches,
        "first_mismatch": result.first_mismatch,
        "largest_error": result.largest_error,
        "root_mean_square_error": result.root_mean_square_error,
        "agreeing_predictions": result.agreeing_predictions,
        "correct": result.correct,
        "accuracy": result.accuracy,
        "reference_correct": result.reference_correct,
        "confusion": [list(row) for row in result.confusion],
    }
