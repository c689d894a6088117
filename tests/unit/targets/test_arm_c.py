"""Hand-scheduled kernels as C, with the intrinsics of the Arm C Language Extensions where there are some: compiled by
gcc, on emulated cores, beside the same kernels by LLVM.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from luciole.emit.c import prelude_c, print_kernel_c
from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.reduce import Mean
from luciole.targets.base import candidate_recipes
from support.recipe_cases import RecipeCase, measure_emulated

COMPILER = "arm-none-eabi-gcc"
FLAGS = ["-mthumb", "-O2", "-ffreestanding", "-Wall", "-Wextra", "-Werror"]
#: The most that gcc's instructions may exceed LLVM's by.
MOST = 1.1
SAME = (1, 1, 1, 1)


def convolution(
    s: Samples, size: tuple[int, int], channels: tuple[int, int], kernel: int = 3, stride: int = 1
) -> Operator:
    """A convolution whose packed sums fit; 3x3 is padded."""
    w = s.i8_weights(channels[1], kernel, kernel, channels[0], axis=0)
    assert w.data is not None
    w = s.constant((w.data // 3).astype(np.int8), w.type.quant)
    x, pads = s.i8(1, *size, channels[0]), SAME if kernel == 3 else (0, 0, 0, 0)
    return Conv2d(x, w, s.i32_bias(channels[1]), strides=(stride, stride), pads=pads, quant=s.quant(1.0))


def depthwise(s: Samples, size: tuple[int, int], channels: int, kernel: int = 3, stride: int = 1) -> Operator:
    """A padded depthwise convolution."""
    x, w = s.i8(1, *size, channels), s.i8_weights(1, kernel, kernel, channels, axis=3)
    pads = (kernel // 2,) * 4 if stride == 1 else (0, 0, 1, 1)
    return DepthwiseConv2d(x, w, s.i32_bias(channels), strides=(stride, stride), pads=pads, quant=s.quant(0.5))


#: A layer of each kind of kernel.
LAYERS: dict[str, Callable[[Samples], Operator]] = {
    "3x3": lambda s: convolution(s, (12, 12), (16, 16)),
    "3x3 of 3 channels": lambda s: convolution(s, (12, 12), (3, 16)),
    "3x3 with stride 2": lambda s: convolution(s, (12, 12), (16, 16), stride=2),
    "1x1": lambda s: convolution(s, (5, 5), (64, 64), kernel=1),
    "depthwise": lambda s: depthwise(s, (25, 5), 32),
    "depthwise with stride 2": lambda s: depthwise(s, (24, 24), 8, stride=2),
    "depthwise 5x5": lambda s: depthwise(s, (16, 16), 8, kernel=5),
    "fully connected": lambda s: FullyConnected(
        s.i8(1, 128), s.i8_weights(128, 128), s.i32_bias(128), quant=s.quant(1.0)
    ),
    "add": lambda s: Add(s.i8(1, 8, 8, 32, scale=0.0313), s.i8(1, 8, 8, 32, scale=0.0527), quant=s.quant(0.0641, 3)),
    "mul": lambda s: Mul(s.i8(1, 8, 8, 32, scale=0.05), s.i8(1, 8, 8, 32, scale=0.01), quant=s.quant(0.04, 3)),
    "mul by channel": lambda s: Mul(s.i8(1, 8, 8, 32, scale=0.05), s.i8(32, scale=0.01), quant=s.quant(0.04, 3)),
    "depthwise of 7 channels": lambda s: depthwise(s, (13, 13), 7),
    "3x3 of 10 channels": lambda s: convolution(s, (12, 12), (10, 16)),
    "average": lambda s: AveragePool2d(s.i8(1, 25, 5, 64), (25, 5)),
    "average 2x2": lambda s: AveragePool2d(s.i8(1, 24, 24, 16), (2, 2), strides=(2, 2)),
    "maximum": lambda s: MaxPool2d(s.i8(1, 16, 16, 32), (2, 2), strides=(2, 2)),
    "mean": lambda s: Mean(s.i8(1, 7, 7, 32), (1, 2), quant=s.quant(0.04, -3)),
}


def cases(core: str, layer: str) -> list[RecipeCase]:
    """One for each hand-scheduled kernel that a core could take for a layer; scalar ones where there are no others."""
    s = Samples(1)
    op = LAYERS[layer](s)
    recipes = candidate_recipes(op, find_target(core), may_trade_memory=True)
    scheduled = [r for r in recipes if not r.name.startswith("tiled")] or recipes
    return [RecipeCase(op, s, recipe) for recipe in scheduled]


def compiled_by_gcc(case: RecipeCase, core: str, directory: Path) -> int:
    """Compile a kernel's C, compare its result, and return the executed instructions."""
    kernel, source, compiled = case.bound.kernel, directory / "kernel.c", directory / "kernel.o"
    source.write_text(prelude_c([kernel]) + print_kernel_c(kernel, "kernel", ""), encoding="ascii")
    command = [COMPILER, f"-mcpu={core}", *FLAGS, "-c", str(source), "-o", str(compiled)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]
    machine = EmulatedMachine(compiled.read_bytes(), find_core(core))
    addresses = {}
    for parameter in kernel.parameters:
        size = int(np.prod(parameter.shape)) * parameter.dtype.size_bytes
        addresses[parameter.name] = machine.allocate(size, max(parameter.alignment, 4), parameter.name)
        if parameter.name in case.buffers:
            machine.write(addresses[parameter.name], np.ascontiguousarray(case.buffers[parameter.name]).tobytes())
    executed = machine.measure("kernel", *addresses.values()).instructions
    case.check(np.frombuffer(machine.read(addresses["y"], case.expected.nbytes), np.int8), "C by gcc")
    return executed


@pytest.mark.cross
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m3", pytest.param("cortex-m0plus", marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", LAYERS)
def test_gcc_compiles_the_kernels_to_nearly_as_few_instructions(layer: str, core: str, tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed")
    for case in cases(core, layer):
        by_gcc = compiled_by_gcc(case, core, tmp_path)
        (by_llvm,) = measure_emulated([case], core)
        assert by_gcc <= MOST * by_llvm, f"{case.bound.kernel.name}: {by_gcc} instead of {by_llvm}"
