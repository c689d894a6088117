"""C source by gcc on emulated cores: the recorded outputs, in about as many instructions as LLVM's object."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import luciole

MODELS = ("ic_resnet8_int8", "kws_dscnn_int8", "vww_mbv1_int8", "ad_ae_int8", "sww_int8")
#: The most that gcc's instructions may exceed LLVM's by; `bench/c_path.py` has the layers.
MOST = 1.1


@pytest.mark.slow
@pytest.mark.cross
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("core", ["cortex-m4", pytest.param("cortex-m55", marks=pytest.mark.qemu)])
def test_gcc_comes_near_llvm(shared_model: Callable[[str], Path], name: str, core: str) -> None:
    for program in ("arm-none-eabi-gcc", *(["qemu-system-arm"] if core == "cortex-m55" else [])):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    path = shared_model(name)
    with np.load(path.with_name(f"{name}.golden.npz")) as golden:
        sample, expected = golden["input"][0], golden["output0"][0]
    executed = []
    for emit in ("object", "c"):
        session = luciole.load(path, target=core, emit=emit)
        (found,) = session.run({0: sample}).values()
        assert np.array_equal(found.reshape(expected.shape), expected)
        executed.append(session.last_run.instructions)
    assert executed[1] <= MOST * executed[0]
