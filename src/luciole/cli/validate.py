"""`luciole validate`: is the compiled model right, on labelled data?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from luciole.cli.options import compile_options, developer_of, emulator_option, model_argument, options_of
from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.compilation import Compilation
from luciole.difference import Difference, find_first_difference, graphs_agree
from luciole.driver import build_program, lower_again
from luciole.errors import EXIT_MISMATCH
from luciole.graph.core import Graph
from luciole.importers import load_model
from luciole.importers.samples import Scaling, feed, load_labelled
from luciole.ir.types import Array
from luciole.options import Emulator, Stage
from luciole.program.core import Program
from luciole.report.table import Cell, Column, Table
from luciole.session import Session, host_session, open_session
from luciole.validate import Validation, validate

#: The confusion matrix of more classes is for --json.
_SHOWN_CLASSES = 16


@click.command("validate")
@model_argument
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="An .npz with samples `x` and perhaps labels `y`."
)
@click.option("--limit", type=click.IntRange(1), help="Use only the first samples.")
@click.option(
    "--stage",
    type=click.Choice(["program", "native"]),
    default="native",
    show_default=True,
    help="What to hold against the reference: planned memory only, or machine code.",
)
@click.option(
    "--original",
    type=click.Path(path_type=Path),
    help="The float model that MODEL was made of, to compare with too; with --quantize that is MODEL itself.",
)
@emulator_option
@compile_options
@json_option
@click.pass_context
def validate_command(
    ctx: click.Context,
    /,
    model: Path,
    data: Path,
    limit: int | None,
    stage: Stage,
    original: Path | None,
    emulator: Emulator | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Compare MODEL as compiled with its reference and with the float original, sample by sample; count right answers.

    Exit 4 on a mismatch, with the first operator that differs. int8 inputs take int8 samples as they are and uint8
    samples minus 128; other samples are quantized, or taken as they are by float inputs. With --quantize the reference
    is the quantized model, and all samples are reals.
    """
    samples, labels = load_labelled(data, limit)
    scaling = Scaling(given["data_scale"], given["data_zero"], are_reals=given["quantize"] is not None)
    with Compilation(model, options_of(given), developer_of(given)) as run:
        with working(f"compiling {model.name}"):
            program = build_program(run)
            reference = run.reference or load_model(model, dict(run.options.dims))
            session = open_session(run, program, stage, emulator or "")
            source = original or (model if run.options.quantize else None)
            floats = None if source is None else host_session(source, load_model(source, dict(run.options.dims)))
        with click.progressbar(length=len(samples), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            result = validate(session, reference, samples, labels, scaling, bar.update, floats)
        cause = None
        if result.first_mismatch is not None:
            value = reference.inputs[0]
            inputs = {value.name: feed(samples[result.first_mismatch], value, scaling)}
            with working("looking for the first operator that differs"):
                difference = _find_difference(run, session, inputs, stage, emulator or "")
                cause = Cause(difference, graphs_agree(reference, session.program.graph, inputs))
    where = run.target.name + (" (C)" if run.options.emit == "c" else "") + (" (program)" if stage != "native" else "")
    items: list[Table | str] = [_table(result, where), _closeness_table(result)]
    if 0 < len(result.confusion) <= _SHOWN_CLASSES:
        items += ["confusion: a row for each label, a column for each answer", _confusion_table(result)]
    if cause is not None:
        items.append(describe(cause))
    facts = asdict(result) | {
        "model": str(model),
        "target": where,
        "accuracy": result.accuracy,
        "first_difference": difference_facts(cause.difference) if cause and cause.difference else None,
        "passes_agree": cause.passes_agree if cause else None,
    }
    show(items, facts, as_json)
    if result.mismatches:
        ctx.exit(EXIT_MISMATCH)


@dataclass(frozen=True)
class Cause:
    """Why a sample differs: the first operator whose code is wrong, if any, and whether the passes kept the meaning."""

    difference: Difference | None
    passes_agree: bool


def _find_difference(
    run: Compilation, session: Session, inputs: Mapping[str, Array], stage: Stage, emulator: Emulator
) -> Difference | None:
    """The first operator that differs on a sample, run by the same engine."""

    def compile_and_run(graph: Graph) -> tuple[Program, Mapping[str, Array]]:
        program = lower_again(run, graph)
        return program, open_session(run, program, stage, emulator).run(inputs, measure=False)

    return find_first_difference(session.program.graph, inputs, compile_and_run)


def describe(cause: Cause) -> str:
    """Why the first sample that differs does, in words."""
    lines = []
    if not cause.passes_agree:
        lines += [
            "the optimized graph differs from the imported one: a pass changes what the model means",
            "  --limit-rules N finds the rewriting that does; --print-changed shows what each pass does",
        ]
    if cause.difference is not None:
        lines += _describe_difference(cause.difference)
    elif cause.passes_agree:
        lines.append("every operator is right when it is compiled apart from those behind it")
    return "\n".join(lines)


def _describe_difference(difference: Difference) -> list[str]:
    """The first operator that differs, in words."""
    operator, index = difference.operator, difference.first_index
    place = f'"{operator.location.node}", ' if operator.location.node else ""
    lines = [
        f"first operator that differs: {operator.kind} ({place}value %{difference.value.name})",
        f"  kernel {difference.kernel} ({difference.recipe})" if difference.kernel else "  no kernel, a view",
        f"  {len(difference.differing):,} of {difference.expected.size:,} elements differ, the first at {list(index)}:"
        f" {difference.found[index]}, expected {difference.expected[index]}",
    ]
    if difference.needs_sharing:
        lines.append("  it is right when no memory is shared: the memory plan or a kernel in place is wrong")
    return lines


def difference_facts(difference: Difference) -> dict[str, object]:
    """The same for programs."""
    index = difference.first_index
    return {
        "operator": difference.operator.kind,
        "node": difference.operator.location.node,
        "value": difference.value.name,
        "kernel": difference.kernel,
        "recipe": difference.recipe,
        "elements": difference.expected.size,
        "differing_elements": len(difference.differing),
        "first_index": list(index),
        "found": difference.found[index].item(),
        "expected": difference.expected[index].item(),
        "needs_sharing": difference.needs_sharing,
    }


def _table(result: Validation, where: str) -> Table:
    verdict = "none: equal to the reference"
    if result.mismatches:
        verdict = f"{result.mismatches:,} (first: {result.first_mismatch})"
    rows: list[tuple[Cell, ...]] = [
        ("compared on", where),
        ("samples", result.samples),
        ("samples that differ", verdict),
        ("largest difference", result.largest_error),
    ]
    if result.correct is not None:
        rows.append(("right answers", _share(result.correct, result.samples)))
    return Table((Column("validation", "fact"), Column("", "value")), tuple(rows))


def _share(count: int, samples: int) -> str:
    return f"{count:,} of {samples:,} ({100 * count / samples:.2f} %)"


def _closeness_table(result: Validation) -> Table:
    """How near the first output is to the reference's and the original's, in reals."""
    columns = (
        Column("against", "model"),
        Column("largest error", "largest_error", right=True, decimals=6),
        Column("RMS error", "root_mean_square_error", right=True, decimals=6),
        Column("SQNR dB", "signal_to_noise_db", right=True, decimals=1),
        Column("cosine", "cosine", right=True, decimals=6),
        Column("same answers", "agreeing_predictions", right=True),
        Column("right answers", "correct"),
    )
    rows: list[tuple[Cell, ...]] = []
    for name, near in (("its reference", result.reference), ("float original", result.original)):
        if near is not None:
            numbers = (near.largest_error, near.root_mean_square_error, near.signal_to_noise_db, near.cosine)
            right = "" if near.correct is None else _share(near.correct, result.samples)
            rows.append((name, *numbers, near.agreeing_predictions, right))
    return Table(columns, tuple(rows))


def _confusion_table(result: Validation) -> Table:
    classes = range(len(result.confusion))
    columns = (Column("label", "label", right=True), *(Column(str(c), f"answer_{c}", right=True) for c in classes))
    rows: list[tuple[Cell, ...]] = [(label, *row) for label, row in enumerate(result.confusion)]
    return Table(columns, tuple(rows))
