"""Random layers of every class, by the kernels that cores take: see `make sweep` for many more."""

from __future__ import annotations

import shutil

import pytest

from luciole.emulate.cores import find_core
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.pool import MaxPool2d
from support.layer_sweep import SWEPT_CORES, Layer, random_layers, sweep


def _sweep(core: str, seed: int, count: int) -> None:
    machine = find_core(core).qemu
    if not find_core(core).unicorn_model and machine is not None and shutil.which(machine.program) is None:
        pytest.skip(f"{machine.program} is not installed")
    recipes = {layer.recipe for layer in sweep(core, random_layers(core, seed, count))}
    assert recipes - {"generic"}, f"no hand-scheduled kernel for {find_target(core).name}"


@pytest.mark.parametrize("core", SWEPT_CORES)
def test_random_layers_by_the_kernels_of_a_core(core: str) -> None:
    _sweep(core, 1, 19)


def test_loops_over_windows_in_memory_end() -> None:
    """LLVM's gathers of MVE once took the end of such a loop away."""
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    s = Samples(1)
    pool = MaxPool2d(s.i8(1, 11, 12, 4), (3, 4), strides=(3, 3))
    (swept,) = sweep("cortex-m55", [Layer("max pool", pool, s)])
    assert swept.instructions_each < 200


@pytest.mark.slow
@pytest.mark.parametrize("core", SWEPT_CORES)
def test_more_random_layers_by_the_kernels_of_a_core(core: str) -> None:
    _sweep(core, 5000, 50)
