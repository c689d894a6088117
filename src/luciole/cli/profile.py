"""`luciole profile`: what each layer costs on an emulated core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from luciole.cli.alternatives import find_alternatives, measure_alternatives, with_alternatives
from luciole.cli.options import compile_options, developer_of, emulator_option, model_argument, options_of
from luciole.cli.output import json_option, show
from luciole.cli.progress import working
from luciole.compilation import Compilation
from luciole.driver import build_bundle, build_program
from luciole.errors import EXIT_UNSUPPORTED, CompileError
from luciole.importers.arrays import load_arrays
from luciole.ir.types import Array
from luciole.options import Emulator
from luciole.program.core import Program
from luciole.report.model import EmulatedReport, Report
from luciole.report.table import Column, Table
from luciole.report.tables import alternatives_table, flash_table, layer_table, memory_table
from luciole.session import LastRun, open_session

#: Inputs of a profile without data: pseudo-random over the whole range, always the same.
_SEED = 0


@click.command()
@model_argument
@click.option(
    "--input", "-i", "input_path", type=click.Path(path_type=Path), help="Arrays to run on.  [default: random]"
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Also save the bundle, with the measurements in its report."
)
@click.option("--alternatives", is_flag=True, help="What each layer would cost by other kernels, estimated.")
@click.option("--measure", is_flag=True, help="Build and run the alternatives, too.")
@emulator_option
@compile_options
@json_option
def profile(
    model: Path,
    input_path: Path | None,
    output: Path | None,
    alternatives: bool,
    measure: bool,
    emulator: Emulator | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Instructions, estimated cycles and bytes by layer: MODEL on an emulated core (--target cortex-m4)."""
    arrays = load_arrays(input_path) if input_path is not None else None
    options, developer = options_of(given), developer_of(given)
    with working(f"measuring {model.name}"), Compilation(model, options, developer) as run:
        if not run.target.emulated_core:
            raise CompileError.of(
                "not-runnable",
                f"instructions are counted on emulated cores; {run.target.name} is none",
                help="name one with --target, such as cortex-m4; see `luciole targets`",
                exit_code=EXIT_UNSUPPORTED,
            )
        program = build_program(run)
        bundle = build_bundle(run, program)
        session = open_session(run, program, emulator=emulator or "", bundle=bundle)
        inputs = random_inputs(program) if arrays is None else arrays
        session.run(inputs)
        last = session.last_run
        bundle = bundle.with_report(measured_report(bundle.report, last, run.target.emulated_core))
        if alternatives or measure:
            found = find_alternatives(run, program)
            counts = measure_alternatives(run, program, found, inputs, emulator or "") if measure else {}
            bundle = bundle.with_report(with_alternatives(bundle.report, program, found, counts))
    if output is not None:
        bundle.save(output)
    report = bundle.report
    items: list[Table | str] = [
        layer_table(report),
        operator_table(report),
        memory_table(report),
        flash_table(report),
        *([alternatives_table(report)] if alternatives or measure else []),
        _summary(last),
    ]
    show(items, report.to_document(), as_json)


def random_inputs(program: Program) -> dict[str | int, Array]:
    """Reproducible inputs: integers over their whole range, floats in -1..1."""
    random = np.random.default_rng(_SEED)
    arrays: dict[str | int, Array] = {}
    for position, value in enumerate(program.graph.inputs):
        dtype = value.type.dtype
        if dtype.is_real:
            arrays[position] = random.uniform(-1, 1, value.type.shape).astype(dtype.numpy)
        else:
            low, high = dtype.limits
            arrays[position] = random.integers(low, high, value.type.shape, np.int64, endpoint=True).astype(dtype.numpy)
    return arrays


def measured_report(report: Report, last: LastRun, core: str) -> Report:
    """The report with what the emulated core counted."""
    emulated = EmulatedReport(core, last.instructions, last.estimated_cycles, last.stack_bytes)
    instructions = [layer.instructions for layer in last.layers]
    return report.with_measurement(emulated, instructions, [layer.estimated_cycles for layer in last.layers])


def operator_table(report: Report) -> Table:
    """What the layers of each operator cost together, the most expensive first."""
    sums: dict[str, list[int]] = {}
    for layer in report.layers:
        entry = sums.setdefault(layer.operator, [0, 0, 0])
        entry[0] += 1
        entry[1] += layer.macs
        entry[2] += layer.instructions or 0
    rows = tuple(
        (kind, count, macs, instructions, round(instructions / macs, 2) if macs else None)
        for kind, (count, macs, instructions) in sorted(sums.items(), key=lambda item: -item[1][2])
    )
    columns = (
        Column("operator", "operator"),
        Column("layers", "layers", right=True),
        Column("MACs", "macs", right=True),
        Column("instructions", "instructions", right=True),
        Column("per MAC", "instructions_per_mac", right=True, decimals=2),
    )
    return Table(columns, rows, "by operator")


def _summary(last: LastRun) -> str:
    lines = [f"on {last.emulator}: {last.instructions:,} instructions, {last.stack_bytes:,} B of stack used"]
    if last.estimated_cycles is not None:
        lines.append(
            f"about {last.estimated_cycles:,} cycles: an estimate by the rules of the core's manual, no wait states"
        )
    if last.helpers:
        lines.append("support functions that the program's compiler has to provide: " + ", ".join(last.helpers))
    return "\n".join(lines)
