"""Random layers of every class, by the kernels that cores take: see `make sweep` for many more."""

from __future__ import annotations

import shutil

import pytest

from luciole.emulate.cores import find_core
from luciole.ir.target import find_target
from support.layer_sweep import SWEPT_CORES, random_layers, sweep


def _sweep(core: str, seed: int, count: int) -> None:
    if not find_core(core).unicorn_model and shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    recipes = {layer.recipe for layer in sweep(core, random_layers(core, seed, count))}
    assert recipes - {"generic"}, f"no hand-scheduled kernel for {find_target(core).name}"


@pytest.mark.parametrize("core", SWEPT_CORES)
def test_random_layers_by_the_kernels_of_a_core(core: str) -> None:
    _sweep(core, 1, 15)


@pytest.mark.slow
@pytest.mark.parametrize("core", SWEPT_CORES)
def test_more_random_layers_by_the_kernels_of_a_core(core: str) -> None:
    _sweep(core, 5000, 50)
