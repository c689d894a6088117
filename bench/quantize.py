"""Float models quantized by Luciole beside the same as their makers quantized them: right answers on labelled samples.

    .venv/bin/python bench/quantize.py                        # the table, on this machine and an emulated Cortex-M4
    .venv/bin/python bench/quantize.py --models kws --observers minmax mse --core-samples 20 --json

The first 100 samples calibrate, all others are counted on this machine, and the first of these on the emulated core.
The models are read from ../shared/models/tflite, the samples from ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import luciole
from luciole.importers.samples import Scaling, fed_samples
from luciole.options import OBSERVER_NAMES, ObserverName
from luciole.report.table import Column, Table, write_tables
from luciole.session import Session
from luciole.validate import count_right

SHARED = Path(__file__).resolve().parents[2] / "shared"
CORE = "cortex-m4"
CALIBRATION_SAMPLES = 100


@dataclass(frozen=True)
class Case:
    """A model, its labelled data, and which reals the stored samples stand for."""

    model: str
    data: str
    scale: float
    zero: float


CASES = {
    "kws": Case("kws_dscnn", "kws_mfcc_500", 0.58470290899276733, 83),
    "ic": Case("ic_resnet8", "cifar10_250", 1.0, 0),
    "vww": Case("vww_mbv1", "vww_300", 1 / 255, 0),
}


@dataclass(frozen=True)
class Row:
    """Right answers of one model; on the core for as many samples as `core_samples`."""

    model: str
    how: str
    samples: int
    host_right: int
    core_samples: int
    core_right: int


def count(session: Session, case: Case, scaling: Scaling, samples: int | None) -> int:
    """Right answers on the first samples behind those that calibrate, all by default."""
    with np.load(SHARED / "data" / f"{case.data}.npz") as arrays:
        stored, labels = (arrays[key][CALIBRATION_SAMPLES:][:samples] for key in ("x", "y"))
    fed = list(fed_samples(stored, session.program.graph.inputs, scaling))
    return count_right(session, fed, labels, lambda _: None)


def row(name: str, how: str, path: Path, scaling: Scaling, core_samples: int) -> Row:
    """One model file on this machine and on the core."""
    case = CASES[name]
    with np.load(SHARED / "data" / f"{case.data}.npz") as arrays:
        others = len(arrays["y"]) - CALIBRATION_SAMPLES
    host = count(luciole.load(path), case, scaling, None)
    on_core = count(luciole.load(path, target=CORE), case, scaling, core_samples)
    return Row(name, how, others, host, min(core_samples, others), on_core)


def measure(name: str, observers: list[ObserverName], folder: Path, core_samples: int) -> list[Row]:
    """The float model, the official one, and ours with each observer."""
    case = CASES[name]
    models, data = SHARED / "models" / "tflite", SHARED / "data" / f"{case.data}.npz"
    reals = Scaling(case.scale, case.zero, are_reals=True)
    rows = [
        row(name, "float", models / f"{case.model}_f32.tflite", reals, core_samples),
        row(name, "official int8", models / f"{case.model}_int8.tflite", Scaling(), core_samples),
    ]
    with np.load(data) as arrays:
        calibration = arrays["x"][:CALIBRATION_SAMPLES]
    for observer in observers:
        quantized = luciole.quantize_model(
            models / f"{case.model}_f32.tflite",
            calibration,
            observer=observer,
            data_scale=case.scale,
            data_zero=case.zero,
        )
        path = folder / f"{name}_{observer.replace('-', '_')}.graph"
        quantized.save(path)
        rows.append(row(name, f"ours, {observer}", path, reals, core_samples))
        print(f"{name} {observer}", file=sys.stderr)
    return rows


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--observers", nargs="+", choices=OBSERVER_NAMES, default=list(OBSERVER_NAMES))
    parser.add_argument("--core-samples", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("build/quantize"), help="for the integer models")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = [
        one
        for name in arguments.models
        for one in measure(name, arguments.observers, arguments.folder, arguments.core_samples)
    ]
    if arguments.json:
        print(json.dumps([asdict(one) for one in rows], indent=1))
        return
    columns = (
        Column("model", "model"),
        Column("quantized", "how"),
        Column("samples", "samples", right=True),
        Column("right, this machine", "host_right", right=True),
        Column(f"samples on {CORE}", "core_samples", right=True),
        Column(f"right, {CORE}", "core_right", right=True),
    )
    write_tables([Table(columns, tuple(tuple(asdict(one).values()) for one in rows))], sys.stdout)


if __name__ == "__main__":
    main()
