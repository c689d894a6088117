"""All microcontroller models on all emulated cores, beside the recorded figures of TensorFlow Lite Micro with CMSIS-NN.

    .venv/bin/python bench/mcu.py                         # the table
    .venv/bin/python bench/mcu.py --cores cortex-m4 --models kws_dscnn_int8 --json

Counts are executed instructions of one inference on an emulated core, everything inside `<name>_run`; they do not vary.
Outputs are compared with the recorded ones: a row whose output differs says so. The models are read from
../shared/models/tflite.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import luciole
from luciole.errors import ToolError
from luciole.report.table import Column, Table, write_tables

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT.parent / "shared" / "models" / "tflite"
PEERS = ROOT / "bench" / "data" / "tflm_cmsis_nn.json"

NAMES = ("ic_resnet8_int8", "kws_dscnn_int8", "vww_mbv1_int8", "ad_ae_int8", "sww_int8")
CORES = ("cortex-m0plus", "cortex-m23", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc")


@dataclass(frozen=True)
class Row:
    """One model on one core; what the peer needs is None where it was not recorded."""

    model: str
    core: str
    is_equal: bool
    macs: int
    instructions: int
    estimated_cycles: int | None
    flash_bytes: int
    arena_bytes: int
    stack_bytes: int
    peer_instructions: int | None
    peer_flash_bytes: int | None
    peer_ram_bytes: int | None


def measure(name: str, core: str, peers: dict[str, dict[str, dict[str, float]]], keep_all_channels: bool) -> Row:
    """Compile, run one recorded sample, compare. Raises `ToolError` when the emulator of a core is not installed."""
    path = MODELS / f"{name}.tflite"
    with np.load(path.with_name(f"{name}.golden.npz")) as golden:
        sample, expected = golden["input"][0], golden["output0"][0]
    bundle = luciole.compile(path, target=core, keep_all_channels=keep_all_channels)
    session = luciole.load(path, target=core, keep_all_channels=keep_all_channels)
    (found,) = session.run({0: sample}).values()
    report, last = bundle.report, session.last_run
    peer = peers.get(name, {}).get(core, {})
    flash = peer.get("flash_kib")
    return Row(
        model=name,
        core=core,
        is_equal=bool(np.array_equal(found, expected)),
        macs=report.macs,
        instructions=last.instructions,
        estimated_cycles=last.estimated_cycles,
        flash_bytes=report.flash.total_bytes,
        arena_bytes=report.memory.arena_bytes,
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


def main() -> int:
    """Measure what the arguments name; exit 1 when an output differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--cores", nargs="+", default=CORES, choices=CORES)
    parser.add_argument("--keep-all-channels", action="store_true", help="do not shrink the models")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not MODELS.is_dir():
        print(f"no models at {MODELS}", file=sys.stderr)
        return 0
    peers = json.loads(PEERS.read_text(encoding="utf-8"))
    rows = []
    for core in arguments.cores:
        for name in arguments.models:
            try:
                rows.append(measure(name, core, peers["models"], arguments.keep_all_channels))
            except ToolError as error:
                print(f"{core} skipped: {error}", file=sys.stderr)
                break
    if arguments.json:
        print(json.dumps({"peer": peers["source"], "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        write_tables([table(rows), f"peer: {peers['source']}"], sys.stdout)
    return 0 if all(row.is_equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
