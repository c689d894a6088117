"""Random layers through every kernel of every instruction set: equal bits, and the median of executed instructions.

    .venv/bin/python bench/sweep.py                                # 500 layers a core, one table
    .venv/bin/python bench/sweep.py --cores cortex-m4 --layers 1000 --json

Windows of 1..7, strides and dilations of 1..3, any number of channels, images down to one pixel, any padding, clamps,
shifts to the left, one scale or one a channel. Seeds are fixed, so that figures do not vary. Nobody tuned for these
layers; most are small, so that a multiplication costs more than in networks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from luciole.errors import ToolError
from luciole.report.table import Column, Table, write_tables
from support.layer_sweep import SWEPT_CORES, Swept, random_layers, sweep

#: Changes all layers.
SEED = 1


def table(found: dict[str, list[Swept]]) -> Table:
    """For each class of layers and each core the number of layers, the recipes taken, and the median."""
    columns = (
        Column("core", "core"),
        Column("class", "class"),
        Column("layers", "layers", right=True),
        Column("median", "median", right=True, decimals=2),
        Column("kernels", "kernels"),
    )
    rows: list[tuple[str | int | float, ...]] = []
    for core, layers in found.items():
        for kind in dict.fromkeys(layer.kind for layer in layers):
            same = [layer for layer in layers if layer.kind == kind]
            recipes = Counter(layer.recipe for layer in same).most_common()
            taken = ", ".join(f"{count} {recipe}" for recipe, count in recipes)
            rows.append((core, kind, len(same), median(layer.instructions_each for layer in same), taken))
    return Table(columns, tuple(rows), "executed instructions a multiplication (a result, where there are none)")


def main() -> int:
    """Sweep what the arguments name; an `AssertionError` says which layer differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cores", nargs="+", default=SWEPT_CORES, choices=SWEPT_CORES)
    parser.add_argument("--layers", type=int, default=500, help="layers for each core")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, list[Swept]] = {}
    for core in arguments.cores:
        try:
            found[core] = sweep(core, random_layers(core, SEED, arguments.layers))
        except ToolError as error:
            print(f"{core} skipped: {error}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({core: [asdict(layer) for layer in layers] for core, layers in found.items()}, indent=2))
    else:
        write_tables([table(found), "every result has the bits of the operator's numpy meaning"], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
