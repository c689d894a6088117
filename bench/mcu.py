"""All microcontroller models on all emulated cores, beside the recorded figures of TensorFlow Lite Micro with CMSIS-NN.

    .venv/bin/python bench/mcu.py                         # the table
    .venv/bin/python bench/mcu.py --cores cortex-m4 --models kws_dscnn_int8 --json
    .venv/bin/python bench/mcu.py --optimize speed balanced size --output FOLDER     # mcu.json and mcu.svg, too

Counts are executed instructions of one inference on an emulated core, everything inside `<name>_run`; they do not vary.
Outputs are compared with the recorded ones: a row whose output differs says so. On Cortex-M4, estimated cycles stand
beside those that others published for silicon. The models are read from
../shared/models/tflite.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from plot import Chart, svg

import luciole
from luciole.errors import ToolError
from luciole.options import OPTIMIZES, Optimize, OptionKeywords
from luciole.report.table import Column, Table, write_tables

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT.parent / "shared" / "models" / "tflite"
PEERS = ROOT / "bench" / "data" / "tflm_cmsis_nn.json"
PUBLISHED = ROOT / "bench" / "data" / "published_cycles.json"

NAMES = ("ic_resnet8_int8", "kws_dscnn_int8", "vww_mbv1_int8", "ad_ae_int8", "sww_int8")
CORES = (
    "cortex-m0plus", "cortex-m23", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55",
    "rv32imc", "rv32imc-zve32x", "rv64gcv",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One model on one core; what the peer needs is None where it was not recorded."""

    model: str
    core: str
    optimize: str
    is_equal: bool
    macs: int
    instructions: int
    estimated_cycles: int | None
    flash_bytes: int
    weights_bytes: int
    arena_bytes: int
    workspace_bytes: int
    stack_bytes: int
    peer_instructions: int | None
    peer_flash_bytes: int | None
    peer_ram_bytes: int | None


def measure(
    name: str, core: str, optimize: Optimize, peers: dict[str, dict[str, dict[str, float]]], keep_all_channels: bool
) -> Row:
    """Compile, run one recorded sample, compare. Raises `ToolError` when the emulator of a core is not installed."""
    path = MODELS / f"{name}.tflite"
    with np.load(path.with_name(f"{name}.golden.npz")) as golden:
        sample, expected = golden["input"][0], golden["output0"][0]
    options: OptionKeywords = {"optimize": optimize, "keep_all_channels": keep_all_channels}
    bundle = luciole.compile(path, target=core, **options)
    session = luciole.load(path, target=core, **options)
    (found,) = session.run({0: sample}).values()
    report, last = bundle.report, session.last_run
    peer = peers.get(name, {}).get(core, {})
    flash = peer.get("flash_kib")
    return Row(
        model=name,
        core=core,
        optimize=optimize,
        is_equal=bool(np.array_equal(found, expected)),
        macs=report.macs,
        instructions=last.instructions,
        estimated_cycles=last.estimated_cycles,
        flash_bytes=report.flash.total_bytes,
        weights_bytes=report.flash.weights_bytes,
        arena_bytes=report.memory.arena_bytes,
        workspace_bytes=report.memory.workspace_bytes,
        stack_bytes=last.stack_bytes,
        peer_instructions=int(peer["instructions"]) if peer else None,
        peer_flash_bytes=None if flash is None else round(1024 * flash),
        peer_ram_bytes=int(peer["ram_bytes"]) if peer else None,
    )


def table(rows: list[Row]) -> Table:
    """Ours beside the peer's; ratios are the peer's over ours, so that more is better."""
    columns = (
        Column("model", "model"),
        Column("core", "core"),
        Column("optimize", "optimize"),
        Column("equal", "is_equal"),
        Column("instructions", "instructions", right=True),
        Column("per MAC", "instructions_per_mac", right=True, decimals=2),
        Column("cycles (est.)", "estimated_cycles", right=True),
        Column("TFLM", "peer_instructions", right=True),
        Column("x", "instructions_ratio", right=True, decimals=2),
        Column("flash B", "flash_bytes", right=True),
        Column("x", "flash_ratio", right=True, decimals=2),
        Column("arena B", "arena_bytes", right=True),
        Column("x", "ram_ratio", right=True, decimals=2),
    )

    def ratio(peer: int | None, ours: int) -> float | None:
        return None if peer is None else peer / ours

    cells = tuple(
        (
            row.model,
            row.core,
            row.optimize,
            "yes" if row.is_equal else "NO",
            row.instructions,
            row.instructions / row.macs,
            row.estimated_cycles,
            row.peer_instructions,
            ratio(row.peer_instructions, row.instructions),
            row.flash_bytes,
            ratio(row.peer_flash_bytes, row.flash_bytes),
            row.arena_bytes,
            ratio(row.peer_ram_bytes, row.arena_bytes),
        )
        for row in rows
    )
    return Table(columns, cells, "one inference; ratios are TFLM + CMSIS-NN over ours")


def cycles_table(rows: list[Row], published: dict[str, Any]) -> Table:
    """Cycles per multiply-accumulate of the original models, ours estimated, those of others as published."""
    models = tuple(published["macs"])
    columns = (Column("engine", "engine"), *(Column(m, m, right=True, decimals=2) for m in models))
    cells = tuple(
        (engine, *(values.get(model) for model in models)) for engine, values in cycles_per_mac(rows, published).items()
    )
    return Table(columns, cells, f"cycles per MAC, {published['core']}")


def cycles_per_mac(rows: list[Row], published: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Cycles per multiply-accumulate by engine and model; ours first."""
    macs: dict[str, int] = published["macs"]
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.core == published["core"] and row.estimated_cycles is not None:
            found.setdefault(f"Luciole {row.optimize} (est.)", {})[row.model] = row.estimated_cycles / macs[row.model]
    for engine in reversed(published["engines"]):
        found[engine["name"]] = {model: cycles / macs[model] for model, cycles in engine["cycles"].items()}
    return found


def charts(rows: list[Row], published: dict[str, Any], source: str) -> list[Chart]:
    """Cycles beside the published ones; instructions and flash beside those of the recorded peer, core by core."""
    per_mac = cycles_per_mac(rows, published)
    engines = list(per_mac)
    by_model = {m: {e: v[m] for e, v in per_mac.items() if m in v} for m in published["macs"]}
    drawn = [Chart(f"cycles per MAC, {published['core']}", published["assumptions"][:160], engines, by_model)]
    for core in dict.fromkeys(row.core for row in rows):
        series, instructions, flash = ["TFLM + CMSIS-NN"], dict[str, dict[str, float]](), dict[str, dict[str, float]]()
        for row in (r for r in rows if r.core == core):
            name = f"Luciole {row.optimize}"
            series += [name] if name not in series else []
            instructions.setdefault(row.model, {})[name] = row.instructions / 1e6
            flash.setdefault(row.model, {})[name] = row.flash_bytes / 1024
            if row.peer_instructions is not None and row.peer_flash_bytes is not None:
                instructions[row.model][series[0]] = row.peer_instructions / 1e6
                flash[row.model][series[0]] = row.peer_flash_bytes / 1024
        drawn.append(Chart(f"million instructions of one inference, {core}", source[:160], series, instructions))
        drawn.append(Chart(f"flash in KiB, {core}", source[:160], series, flash))
    return drawn


def main() -> int:
    """Measure what the arguments name; exit 1 when an output differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--cores", nargs="+", default=CORES, choices=CORES)
    parser.add_argument("--optimize", nargs="+", default=("balanced",), choices=OPTIMIZES)
    parser.add_argument("--output", type=Path, help="a folder for mcu.json and mcu.svg")
    parser.add_argument("--keep-all-channels", action="store_true", help="do not shrink the models")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not MODELS.is_dir():
        print(f"no models at {MODELS}", file=sys.stderr)
        return 0
    peers = json.loads(PEERS.read_text(encoding="utf-8"))
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    rows = []
    for core in arguments.cores:
        for name, optimize in product(arguments.models, arguments.optimize):
            try:
                rows.append(measure(name, core, optimize, peers["models"], arguments.keep_all_channels))
            except ToolError as error:
                print(f"{core} skipped: {error}", file=sys.stderr)
                break
    document = json.dumps(
        {
            "peer": peers["source"],
            "rows": [asdict(row) for row in rows],
            "cycles_per_mac": {**published, "engines": cycles_per_mac(rows, published)},
        },
        indent=2,
    )
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "mcu.json").write_text(document + "\n", encoding="utf-8")
        drawing = svg(charts(rows, published, peers["source"]))
        (arguments.output / "mcu.svg").write_text(drawing, encoding="utf-8")
    if arguments.json:
        print(document)
    else:
        shown: list[Table | str] = [table(rows), f"peer: {peers['source']}"]
        if any(row.core == published["core"] for row in rows):
            shown += [cycles_table(rows, published), published["assumptions"], f"published: {published['source']}"]
        write_tables(shown, sys.stdout)
    return 0 if all(row.is_equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
