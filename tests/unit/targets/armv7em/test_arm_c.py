"""The same kernels as C with the intrinsics of the Arm C Language Extensions: compiled by gcc, on an emulated core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from luciole.emit.c import prelude_c, print_kernel_c
from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d
from luciole.targets.armv7em.add import AddExhaustive
from luciole.targets.armv7em.conv import ConvHiLo
from luciole.targets.armv7em.depthwise import DepthwisePlanes
from luciole.targets.armv7em.fc import FullyConnectedHiLo, FullyConnectedPairs
from luciole.targets.armv7em.pointwise import PointwiseHiLo
from luciole.targets.armv7em.pool import AveragePoolHalves
from luciole.targets.base import KernelRecipe
from support.recipe_cases import RecipeCase, measure_emulated

COMPILER = "arm-none-eabi-gcc"
FLAGS = ["-mcpu=cortex-m4", "-mthumb", "-O2", "-ffreestanding", "-Wall", "-Wextra", "-Werror"]


def layers() -> list[tuple[RecipeCase, float]]:
    """A layer for each recipe, with the most that gcc's instructions may exceed LLVM's by."""
    found: list[tuple[RecipeCase, float]] = []

    def add(s: Samples, op: Operator, recipe: KernelRecipe, most: float) -> None:
        found.append((RecipeCase(op, s, recipe), most))

    s = Samples(1)
    narrow = s.i8_weights(16, 3, 3, 16, axis=0)
    assert narrow.data is not None
    narrow = s.constant((narrow.data // 3).astype(np.int8), narrow.type.quant)
    window = Conv2d(s.i8(1, 12, 12, 16), narrow, s.i32_bias(16), pads=(1, 1, 1, 1), quant=s.quant(1.0))
    add(s, window, ConvHiLo(), 1.1)
    s = Samples(2)
    add(s, Conv2d(s.i8(1, 25, 5, 64), s.i8_weights(64, 1, 1, 64), quant=s.quant(1.0)), PointwiseHiLo(), 1.1)
    s = Samples(3)
    depthwise = DepthwiseConv2d(s.i8(1, 25, 5, 64), s.i8_weights(1, 3, 3, 64, axis=3), None, quant=s.quant(0.5))
    add(s, depthwise, DepthwisePlanes(), 1.15)
    s = Samples(4)
    full = FullyConnected(s.i8(1, 128), s.i8_weights(128, 128), s.i32_bias(128), quant=s.quant(1.0))
    add(s, full, FullyConnectedHiLo(), 1.2)
    add(s, full, FullyConnectedPairs(), 1.3)
    s = Samples(5)
    addition = Add(s.i8(1, 8, 8, 32, scale=0.0313), s.i8(1, 8, 8, 32, scale=0.0527), quant=s.quant(0.0641, 3))
    add(s, addition, AddExhaustive(), 1.2)
    s = Samples(6)
    add(s, AveragePool2d(s.i8(1, 25, 5, 64), (25, 5)), AveragePoolHalves(), 1.3)
    return found


@pytest.mark.cross
def test_gcc_compiles_the_kernels_to_nearly_as_few_instructions(tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed")
    for case, most in layers():
        kernel = case.bound.kernel
        source, compiled = tmp_path / "kernel.c", tmp_path / "kernel.o"
        source.write_text(prelude_c([kernel]) + print_kernel_c(kernel, "kernel", ""), encoding="ascii")
        command = [COMPILER, *FLAGS, "-c", str(source), "-o", str(compiled)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[:4000]
        machine = EmulatedMachine(compiled.read_bytes(), find_core("cortex-m4"))
        addresses = {}
        for parameter in kernel.parameters:
            size = int(np.prod(parameter.shape)) * parameter.dtype.size_bytes
            addresses[parameter.name] = machine.allocate(size, max(parameter.alignment, 4), parameter.name)
            if parameter.name in case.buffers:
                data = np.ascontiguousarray(case.buffers[parameter.name]).tobytes()
                machine.write(addresses[parameter.name], data)
        by_gcc = machine.measure("kernel", *addresses.values()).instructions
        got = np.frombuffer(machine.read(addresses["y"], case.expected.nbytes), np.int8)
        case.check(got, "C by gcc")
        (by_llvm,) = measure_emulated([case])
        assert by_gcc <= most * by_llvm, f"{kernel.name}: {by_gcc} instead of {by_llvm}"
