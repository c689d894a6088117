"""What the benchmark models take on Cortex-M4: instructions by what counts most, and flash; and Cortex-M7 beside it.

Emulated cores count instructions, which do not vary; `bench/mcu.py` prints them beside other engines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.options import Optimize


@dataclass(frozen=True)
class Bounds:
    """The most instructions with `speed`, those of the fastest kernels that buy no speed with much flash, and the most
    bytes of flash by default.
    """

    speed: float
    direct: float
    flash: int


BOUNDS = {
    "ic_resnet8_int8": Bounds(10.0e6, 12.6e6, 105 << 10),
    "kws_dscnn_int8": Bounds(3.4e6, 3.4e6, 45 << 10),
    "vww_mbv1_int8": Bounds(6.5e6, 6.5e6, 245 << 10),
    "ad_ae_int8": Bounds(0.33e6, 0.33e6, 283 << 10),
    "sww_int8": Bounds(1.05e6, 1.05e6, 66 << 10),
}
#: The most that others may take, as shares of the fastest: by default, in the least memory, and on Cortex-M7.
BALANCED, SMALLEST, DUAL_ISSUE = 1.1, 1.15, 1.02


def executed(path: Path, target: str, optimize: Optimize) -> int:
    """The instructions of one inference; they do not depend on the input."""
    session = luciole.load(path, target=target, optimize=optimize)
    session.run({0: np.zeros(session.inputs[0].shape, np.int8)})
    assert session.last_run is not None
    return session.last_run.instructions


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_instructions_and_flash_stay_within_bounds(shared_model: Callable[[str], Path], name: str) -> None:
    path, bounds = shared_model(name), BOUNDS[name]
    fastest = executed(path, "cortex-m4", "speed")
    assert fastest <= bounds.speed
    assert executed(path, "cortex-m7", "speed") <= DUAL_ISSUE * fastest
    direct = fastest if bounds.speed == bounds.direct else bounds.direct
    assert executed(path, "cortex-m4", "balanced") <= BALANCED * direct
    assert executed(path, "cortex-m4", "ram") <= SMALLEST * direct
    assert luciole.compile(path, target="cortex-m4").report.flash.total_bytes <= bounds.flash
