"""C source by gcc on an emulated Cortex-M55: the recorded outputs, in about as many instructions as LLVM's object."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import luciole


@pytest.mark.slow
@pytest.mark.cross
@pytest.mark.qemu
@pytest.mark.parametrize(("name", "most"), [("kws_dscnn_int8", 1.1), ("ic_resnet8_int8", 1.15)])
def test_gcc_comes_near_llvm(shared_model: Callable[[str], Path], name: str, most: float) -> None:
    for program in ("qemu-system-arm", "arm-none-eabi-gcc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    path = shared_model(name)
    with np.load(path.with_name(f"{name}.golden.npz")) as golden:
        sample, expected = golden["input"][0], golden["output0"][0]
    executed = []
    for emit in ("object", "c"):
        session = luciole.load(path, target="cortex-m55", emit=emit)
        (found,) = session.run({0: sample}).values()
        assert np.array_equal(found.reshape(expected.shape), expected)
        assert session.last_run is not None and session.last_run.instructions is not None
        executed.append(session.last_run.instructions)
    assert executed[1] <= most * executed[0]
