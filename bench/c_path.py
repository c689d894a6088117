"""The C source by arm-none-eabi-gcc -O2 beside LLVM's object: executed instructions of whole models and of each layer.

    .venv/bin/python bench/c_path.py                      # Cortex-M4, M7, M33 and M55, every way to optimize
    .venv/bin/python bench/c_path.py --cores cortex-m55 --models kws_dscnn_int8 --layers
    .venv/bin/python bench/c_path.py --models path/to/model.tflite     # any model of one input and one output

Counts are executed instructions of one inference on an emulated core; they do not vary. Both outputs are compared with
the recorded one where there is one, else with each other: a row whose output differs says so. The models are read from
../shared/models/tflite.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from mcu import MODELS, NAMES

import luciole
from luciole.errors import ToolError
from luciole.options import OPTIMIZES, Optimize
from luciole.report.table import Column, Table, write_tables
from luciole.session import LastRun

CORES = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


@dataclass(frozen=True)
class Layer:
    """One layer: its name, the kernel that computes it, and the instructions of the object and of the C source."""

    name: str
    kernel: str
    instructions: int
    instructions_of_c: int


@dataclass(frozen=True)
class Row:
    """One model on one core by both ways."""

    model: str
    core: str
    optimize: str
    is_equal: bool
    instructions: int
    instructions_of_c: int
    layers: tuple[Layer, ...]


def measure(path: Path, core: str, optimize: Optimize) -> Row:
    """Run one sample by both ways. Raises `ToolError` when the emulator or the compiler of a core is missing."""
    golden_path = path.with_name(f"{path.stem}.golden.npz")
    sample = expected = None
    if golden_path.exists():
        with np.load(golden_path) as golden:
            sample, expected = golden["input"][0], golden["output0"][0]
    runs: list[LastRun] = []
    is_equal = True
    for emit in ("object", "c"):
        session = luciole.load(path, target=core, emit=emit, optimize=optimize)
        tensor = session.inputs[0]
        if sample is None:
            sample = np.random.default_rng(0).integers(-128, 128, tensor.shape).astype(tensor.dtype)
        (found,) = session.run({0: sample.reshape(tensor.shape)}).values()
        expected = found if expected is None else expected
        is_equal = is_equal and bool(np.array_equal(found.ravel(), expected.ravel()))
        runs.append(session.last_run)
    return Row(path.stem, core, optimize, is_equal, runs[0].instructions, runs[1].instructions, _layers(*runs))


def _layers(by_llvm: LastRun, by_gcc: LastRun) -> tuple[Layer, ...]:
    return tuple(
        Layer(ours.name, ours.kernel, ours.instructions, theirs.instructions)
        for ours, theirs in zip(by_llvm.layers, by_gcc.layers, strict=True)
        if ours.instructions is not None and theirs.instructions is not None
    )


def ratio(row: Row | Layer) -> float:
    """What the C source executes for one instruction of the object; less is better."""
    return row.instructions_of_c / row.instructions


def models_table(rows: list[Row]) -> Table:
    """Whole models, and the layer of each that is worst among those that matter: 2 % of the model or more."""
    columns = (
        Column("model", "model"),
        Column("core", "core"),
        Column("optimize", "optimize"),
        Column("equal", "is_equal"),
        Column("object", "instructions", right=True),
        Column("C by gcc", "instructions_of_c", right=True),
        Column("ratio", "ratio", right=True, decimals=3),
        Column("worst layer", "worst_ratio", right=True, decimals=3),
        Column("its kernel", "worst_kernel"),
    )
    cells = []
    for row in rows:
        heavy = [layer for layer in row.layers if 50 * layer.instructions >= row.instructions]
        worst = max(heavy, key=ratio, default=None)
        equal = "yes" if row.is_equal else "NO"
        numbers = (row.instructions, row.instructions_of_c, ratio(row))
        found = (None, None) if worst is None else (ratio(worst), worst.kernel)
        cells.append((row.model, row.core, row.optimize, equal, *numbers, *found))
    return Table(columns, tuple(cells), "instructions of one inference")


def layers_table(row: Row) -> Table:
    """The layers of one row."""
    columns = (
        Column("layer", "name"),
        Column("kernel", "kernel"),
        Column("object", "instructions", right=True),
        Column("C by gcc", "instructions_of_c", right=True),
        Column("ratio", "ratio", right=True, decimals=3),
    )
    cells = tuple((v.name, v.kernel, v.instructions, v.instructions_of_c, ratio(v)) for v in row.layers)
    return Table(columns, cells, f"{row.model}, {row.core}, {row.optimize}")


def main() -> int:
    """Measure what the arguments name; exit 1 when an output differs or a whole model exceeds the bound."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=NAMES, help="names of recorded models, or files")
    parser.add_argument("--cores", nargs="+", default=CORES)
    parser.add_argument("--optimize", nargs="+", default=OPTIMIZES, choices=OPTIMIZES)
    parser.add_argument("--layers", action="store_true", help="a table of the layers of each model, too")
    parser.add_argument("--most", type=float, default=1.1, help="the bound on C by gcc over the object")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not MODELS.is_dir():
        print(f"no models at {MODELS}", file=sys.stderr)
        return 0
    rows = []
    for core in arguments.cores:
        for name, optimize in product(arguments.models, arguments.optimize):
            path = Path(name) if "." in name else MODELS / f"{name}.tflite"
            try:
                rows.append(measure(path, core, optimize))
            except ToolError as error:
                print(f"{core} skipped: {error}", file=sys.stderr)
                break
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    elif rows:
        write_tables([models_table(rows), *(layers_table(row) for row in rows if arguments.layers)], sys.stdout)
    return 0 if all(row.is_equal and ratio(row) <= arguments.most for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
