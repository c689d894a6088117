"""Register-tiled kernels: equal bits on every path for random layers, few instructions, honest costs, right choices."""

from __future__ import annotations

from pathlib import Path

import pytest

from luciole.errors import CompileError
from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.arithmetic import Rounding
from luciole.ir.target import find_target, load_targets
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.base import KernelRecipe, candidate_recipes
from luciole.targets.scalar.machine import RISCV32, THUMB1, THUMB2
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

CORES = ("cortex-m3", "cortex-m0plus", "rv32imc")

on_every_core = pytest.mark.parametrize("core", CORES)


def tiled(op: Operator, core: str) -> KernelRecipe:
    """The register-tiled recipe of an operator on a core; there is one."""
    (recipe,) = (r for r in candidate_recipes(op, find_target(core)) if r.name.startswith("tiled"))
    return recipe


def random_cases(core: str, seed: int, count: int, size: int, channels: int) -> list[RecipeCase]:
    """Layers of the three kinds in turn, that the operators accept."""
    cases: list[RecipeCase] = []
    while len(cases) < count:
        seed += 1
        s = Samples(seed)
        try:
            op = (random_conv, random_depthwise, random_fc)[len(cases) % 3](s, size, channels)
            op.result_types()
        except CompileError:
            continue
        cases.append(RecipeCase(op, s, tiled(op, core)))
    return cases


class Numbers:
    """Random choices of a layer's attributes."""

    def __init__(self, s: Samples) -> None:
        self.random = s.random
        scale = 0.0001 if self.below(5) == 0 else 0.05
        self.quant = s.quant(scale, self.between(-128, 127))
        self.activation = ("none", "relu", "relu6")[self.below(3)]
        self.rounding: Rounding = "tflite" if self.below(3) else "tflite-single"
        self.zero = (-128, 127, self.between(-128, 127))[self.below(3)]

    def below(self, count: int) -> int:
        return int(self.random.integers(count))

    def between(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def window(self) -> tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
        """Kernel, pads, strides."""
        kernel = (1, 1) if self.below(3) == 0 else (self.between(1, 7), self.between(1, 7))
        top, left, bottom, right = (self.below(k) if self.below(2) else 0 for k in kernel * 2)
        return kernel, (top, left, bottom, right), (self.between(1, 3), self.between(1, 3))

    def depth(self, most: int) -> int:
        """Channels, every other time by fours."""
        return self.between(1, most) if self.below(2) else 4 * self.between(1, -(-most // 4))


def random_conv(s: Samples, size: int, channels: int) -> Operator:
    n = Numbers(s)
    (kernel, pads, strides), depth, out = n.window(), n.depth(channels), n.between(1, channels)
    x = s.i8(n.between(1, 2), n.between(1, size), n.between(1, size), depth, zero=n.zero)
    w = s.i8_weights(out, *kernel, depth, axis=None if n.below(2) else 0)
    bias = s.i32_bias(out) if n.below(4) else None
    return Conv2d(x, w, bias, strides=strides, pads=pads, activation=n.activation, rounding=n.rounding, quant=n.quant)


def random_depthwise(s: Samples, size: int, channels: int) -> Operator:
    n = Numbers(s)
    (kernel, pads, strides), depth, multiplier = n.window(), n.depth(channels), n.between(1, 2)
    if n.below(4) == 0:
        kernel, pads = (kernel[0], 1), (pads[0], 0, pads[2], 0)
    width = 1 if kernel[1] == 1 and n.below(2) else n.between(1, size)
    x = s.i8(n.between(1, 2), n.between(1, size), width, depth, zero=n.zero)
    w = s.i8_weights(1, *kernel, depth * multiplier, axis=None if n.below(2) else 3, scale=0.05)
    return DepthwiseConv2d(
        x,
        w,
        s.i32_bias(depth * multiplier) if n.below(4) else None,
        strides=strides,
        pads=pads,
        dilations=(n.between(1, 2), n.between(1, 2)),
        activation=n.activation,
        rounding=n.rounding,
        quant=n.quant,
    )


def random_fc(s: Samples, size: int, channels: int) -> Operator:
    n = Numbers(s)
    length, out = n.between(1, 30 * size), n.between(1, 3 * channels)
    x, w = s.i8(n.between(1, 5), length, zero=n.zero), s.i8_weights(out, length, axis=None if n.below(2) else 0)
    return FullyConnected(x, w, s.i32_bias(out), activation=n.activation, rounding=n.rounding, quant=n.quant)


@on_every_core
def test_random_layers_in_the_interpreter(core: str) -> None:
    check_interpreted(random_cases(core, 100, 12, size=5, channels=5))


@on_every_core
def test_random_layers_on_an_emulated_core(core: str) -> None:
    measure_emulated(random_cases(core, 1000, 75, size=13, channels=20), core)


@on_every_core
def test_random_layers_as_c(core: str, tmp_path: Path) -> None:
    check_as_c(random_cases(core, 5000, 30, size=13, channels=20), tmp_path)


def random_float_cases(core: str, seed: int, count: int, size: int) -> list[RecipeCase]:
    """Layers of floats of the three kinds in turn."""
    cases: list[RecipeCase] = []
    while len(cases) < count:
        seed += 1
        s = Samples(seed)
        n = Numbers(s)
        (kernel, pads, strides), depth, out = n.window(), n.depth(9), n.between(1, 9)
        op: Operator = Conv2d(
            s.f32(n.between(1, 2), n.between(1, size), n.between(1, size), depth),
            s.f32_weights(out, *kernel, depth),
            s.f32_weights(out) if n.below(4) else None,
            strides=strides,
            pads=pads,
            activation=n.activation,
        )
        if len(cases) % 3 == 1:
            multiplier = n.between(1, 3)
            op = DepthwiseConv2d(
                s.f32(1, n.between(1, size), n.between(1, size), depth),
                s.f32_weights(1, *kernel, depth * multiplier),
                s.f32_weights(depth * multiplier) if n.below(4) else None,
                strides=strides,
                pads=pads,
                activation=n.activation,
            )
        elif len(cases) % 3 == 2:
            length = n.between(1, 300)
            op = FullyConnected(s.f32(n.between(1, 5), length), s.f32_weights(out, length), activation=n.activation)
        try:
            op.result_types()
        except CompileError:
            continue
        cases.append(RecipeCase(op, s, tiled(op, core)))
    return cases


FPU_CORES = ("cortex-m4", "rv32imafc")


@pytest.mark.parametrize("core", FPU_CORES)
def test_random_layers_of_floats(core: str, tmp_path: Path) -> None:
    check_interpreted(random_float_cases(core, 100, 8, size=4))
    measure_emulated(random_float_cases(core, 1000, 40, size=12), core)
    check_as_c(random_float_cases(core, 5000, 20, size=12), tmp_path)


@pytest.mark.parametrize("core", FPU_CORES)
def test_instructions_of_floats_are_few_and_costs_honest(core: str) -> None:
    s = Samples(3)
    op = Conv2d(s.f32(1, 8, 8, 32), s.f32_weights(32, 3, 3, 32), s.f32_weights(32), pads=(1, 1, 1, 1))
    case = RecipeCase(op, s, tiled(op, core))
    (executed,) = measure_emulated([case], core)
    stated = case.recipe.cost(op, find_target(core))
    assert executed / op.macs() <= 2.75
    assert executed == pytest.approx(stated.instructions, rel=0.1)


def conv(height: int, width: int, depth: int, out: int, kernel: int, stride: int = 1) -> RecipeCase:
    """A square convolution that keeps the size of its input, as networks have them."""
    s = Samples(7)
    pad = kernel // 2
    op = Conv2d(
        s.i8(1, height, width, depth, zero=-128),
        s.i8_weights(out, kernel, kernel, depth, scale=0.001),
        s.i32_bias(out),
        strides=(stride, stride),
        pads=(pad,) * 4,
        activation="relu",
        quant=s.quant(0.05, -128),
    )
    return RecipeCase(op, s, tiled(op, "cortex-m3"))


@on_every_core
@pytest.mark.parametrize(("width", "depth", "stride"), [(40, 64, 1), (23, 150, 2), (3, 1400, 1), (9, 300, 3)])
def test_rows_that_exceed_the_workspace_are_cut_into_strips(width: int, depth: int, stride: int, core: str) -> None:
    """Strips of twelve columns and a rest, of few, and of one whose window alone is above the limit."""
    made = conv(2, width, depth, 3, 3, stride)
    case = RecipeCase(made.op, made.samples, tiled(made.op, core))
    assert case.bound.workspace_bytes <= max(4096, 9 * depth)
    measure_emulated([case], core)


def depthwise(height: int, width: int, depth: int) -> RecipeCase:
    """A 3x3 depthwise convolution that keeps the size of its input."""
    s = Samples(8)
    op = DepthwiseConv2d(
        s.i8(1, height, width, depth, zero=-128),
        s.i8_weights(1, 3, 3, depth, axis=3, scale=0.005),
        s.i32_bias(depth),
        pads=(1, 1, 1, 1),
        activation="relu",
        quant=s.quant(0.05, -128),
    )
    return RecipeCase(op, s, tiled(op, "cortex-m3"))


def fully_connected(inputs: int, outputs: int) -> RecipeCase:
    """One row of a fully connected layer."""
    s = Samples(9)
    x, w = s.i8(1, inputs, zero=-128), s.i8_weights(outputs, inputs, axis=None)
    op = FullyConnected(x, w, s.i32_bias(outputs), quant=s.quant(0.05))
    return RecipeCase(op, s, tiled(op, "cortex-m3"))


LAYERS = {
    "3x3": (conv(8, 8, 16, 16, 3), {"cortex-m3": 2.1, "rv32imc": 3.0, "cortex-m0plus": 4.3}),
    "1x1": (conv(5, 5, 64, 64, 1), {"cortex-m3": 2.2, "rv32imc": 3.0, "cortex-m0plus": 4.6}),
    "depthwise": (depthwise(25, 5, 8), {"cortex-m3": 3.2, "rv32imc": 5.0, "cortex-m0plus": 10.2}),
    "fully connected": (fully_connected(320, 24), {"cortex-m3": 2.4, "rv32imc": 3.3, "cortex-m0plus": 4.0}),
}


@on_every_core
@pytest.mark.parametrize("layer", LAYERS)
def test_instructions_are_few_and_costs_honest(layer: str, core: str) -> None:
    case, most = LAYERS[layer]
    case = RecipeCase(case.op, case.samples, tiled(case.op, core))
    (executed,) = measure_emulated([case], core)
    stated = case.recipe.cost(case.op, find_target(core))
    assert executed / case.op.macs() <= most[core]
    assert executed == pytest.approx(stated.instructions, rel=0.25)
    assert case.bound.workspace_bytes <= 4096


def test_only_cores_of_the_family_take_a_tile() -> None:
    op = conv(8, 8, 16, 16, 3).op
    names = {name: [r.name for r in candidate_recipes(op, target)] for name, target in load_targets().items()}
    assert names["cortex-m3"] == ["tiled_thumb2"]
    assert names["cortex-m0plus"] == ["tiled_thumb1"]
    assert names["rv32imc"] == names["rv32imafc"] == ["tiled_riscv32"]
    assert not any(name.startswith("tiled") for name in names["native"] + names["rv64gc"] + names["cortex-a53"])
    assert {m.suits(find_target("cortex-m33")) for m in (RISCV32, THUMB1)} == {False}
    assert THUMB2.suits(find_target("cortex-m33"))


@pytest.mark.parametrize("case", [conv(8, 8, 16, 16, 3), conv(5, 5, 64, 64, 1)], ids=["3x3", "1x1"])
def test_instructions_for_signal_processing_win_where_there_are_some(case: RecipeCase) -> None:
    assert not candidate_recipes(case.op, find_target("cortex-m4"))[0].name.startswith("tiled")


def test_what_the_recipes_refuse() -> None:
    s = Samples(3)
    dilated = Conv2d(s.i8(1, 9, 9, 2), s.i8_weights(2, 3, 3, 2), dilations=(2, 1), quant=s.quant(0.05))
    assert "dilated" in tiled(conv(8, 8, 16, 16, 3).op, "cortex-m3").applies(dilated)
    wide = DepthwiseConv2d(s.i8(1, 3, 2000, 1), s.i8_weights(1, 3, 3, 1, axis=3), quant=s.quant(0.05))
    assert "workspace" in tiled(depthwise(5, 5, 4).op, "cortex-m3").applies(wide)
    long = FullyConnected(s.i8(1, 5000), s.i8_weights(2, 5000), quant=s.quant(0.05))
    assert "workspace" in tiled(fully_connected(8, 8).op, "cortex-m0plus").applies(long)
    assert tiled(long, "cortex-m3").applies(long) == ""
