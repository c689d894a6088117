"""`luciole profile`: what each layer costs on an emulated core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from luciole.bundle import Bundle, assemble_bundle
from luciole.cli.common import (
    compile_options,
    developer_of,
    json_option,
    load_arrays,
    model_argument,
    options_of,
    show,
)
from luciole.compilation import Compilation
from luciole.driver import build_program
from luciole.errors import EXIT_UNSUPPORTED, CompileError
from luciole.ir.types import Array
from luciole.program.core import Program
from luciole.report.model import EmulatedReport, Report
from luciole.report.table import Column, Table
from luciole.report.tables import flash_table, layer_table, memory_table
from luciole.session import LastRun, open_session

#: Inputs of a profile without data: pseudo-random over the whole range, always the same.
_SEED = 0


@click.command()
@model_argument
@click.option("--input", "-i", "input_path", type=click.Path(path_type=Path), help="arrays to run on [default: random]")
@click.option(
    "--emulator", type=click.Choice(["", "unicorn", "qemu"]), default="", help="by default whichever has the core"
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="also save the bundle, its report with the measurements"
)
@compile_options
@json_option
def profile(
    model: Path, input_path: Path | None, emulator: str, output: Path | None, as_json: bool, **given: Any
) -> None:
    """Instructions, estimated cycles and bytes by layer: MODEL on an emulated core (--target cortex-m4)."""
    options = options_of(given)
    with Compilation(model, options, developer_of(given)) as run:
        if not run.target.emulated_core:
            raise CompileError.of(
                "not-runnable",
                f"instructions are counted on emulated cores; {run.target.name} is none",
                help="name one with --target, such as cortex-m4; see `luciole targets`",
                exit_code=EXIT_UNSUPPORTED,
            )
        program = build_program(run)
        bundle = run("bundle", assemble_bundle, program, run.target, run.identity, options)
        session = open_session(run, program, emulator=emulator)
        session.run(load_arrays(input_path) if input_path else random_inputs(program))
    report = measured_report(bundle.report, session.last_run, run.target.emulated_core)
    if output is not None:
        with_report(bundle, report).save(output)
    last = session.last_run
    lines = [f"on {last.emulator}: {last.instructions:,} instructions, {last.stack_bytes:,} B of stack used"]
    if last.estimated_cycles is not None:
        lines.append(f"about {last.estimated_cycles:,} cycles: an estimate by Cortex-M4 timing rules, no wait states")
    if last.helpers:
        lines.append("support functions that the program's compiler has to provide: " + ", ".join(last.helpers))
    items = [layer_table(report), _by_operator(report), memory_table(report), flash_table(report), "\n".join(lines)]
    show(items, report.to_document(), as_json)


def random_inputs(program: Program) -> dict[str | int, Array]:
    """Reproducible inputs: integers over their whole range, floats in -1..1."""
    random = np.random.default_rng(_SEED)
    arrays: dict[str | int, Array] = {}
    for position, value in enumerate(program.graph.inputs):
        dtype = value.type.dtype
        if dtype.is_integer:
            low, high = dtype.limits
            arrays[position] = random.integers(low, high, value.type.shape, endpoint=True).astype(dtype.numpy)
        else:
            arrays[position] = random.uniform(-1, 1, value.type.shape).astype(dtype.numpy)
    return arrays


def measured_report(report: Report, last: LastRun, core: str) -> Report:
    """The report with what the emulated core counted."""
    emulated = EmulatedReport(core, last.instructions, last.estimated_cycles, last.stack_bytes)
    cycles = [layer.estimated_cycles for layer in last.layers]
    known = None if None in cycles else [c or 0 for c in cycles]
    return report.with_measurement(emulated, [layer.instructions for layer in last.layers], known)


def with_report(bundle: Bundle, report: Report) -> Bundle:
    """The bundle with another report in its files."""
    return bundle.with_report(report)


def _by_operator(report: Report) -> Table:
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
