"""Parameters of recipes by target and class of layers, as `luciole tune` found them on emulated cores.

The tables are files of data, `tuned/<target>.toml`: a table for each recipe, in it the parameters of each class. What
is not in them has its usual value.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

#: Parameters by recipe and class.
Tuning = Mapping[str, Mapping[str, Mapping[str, int]]]

#: Cores for which the table of another one stands: they have the same instructions.
SAME_AS = {"cortex-m7": "cortex-m4", "cortex-m33": "cortex-m4"}


@cache
def load_tuning(target: str) -> Tuning:
    """The table of a target; empty where nothing was tuned."""
    file = resources.files("luciole.targets") / "tuned" / f"{SAME_AS.get(target, target)}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def tuning_text(target: str, tuning: Tuning) -> str:
    """The file of a table."""
    lines = [f"# Found by `luciole tune {target}`: parameters that take fewer estimated cycles than the usual ones."]
    for name, classes in tuning.items():
        for words, parameters in classes.items():
            lines += ["", f'[{name}."{words}"]', *(f"{key} = {value}" for key, value in parameters.items())]
    return "\n".join(lines) + "\n"
