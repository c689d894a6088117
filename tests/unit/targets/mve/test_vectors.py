"""int8 kernels for vector cores: equal bits in the interpreter, as C, and on an emulated Cortex-M55."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.targets.base import KernelRecipe, candidate_recipes
from luciole.targets.mve.conv import WORKSPACE_LIMIT, ConvVectors, FullyConnectedVectors
from luciole.targets.mve.depthwise import DepthwiseVectors
from luciole.targets.mve.elementwise import ElementwiseVectors
from luciole.targets.mve.pool import AveragePoolVectors, MaxPoolVectors
from support.emulated_layers import measure_layers
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted
from support.vector_layers import Draw

CORE = "cortex-m55"

RECIPES: dict[type[Operator], KernelRecipe] = {
    Conv2d: ConvVectors(),
    DepthwiseConv2d: DepthwiseVectors(),
    FullyConnected: FullyConnectedVectors(),
    Add: ElementwiseVectors(),
    Sub: ElementwiseVectors(),
    Mul: ElementwiseVectors(),
    AveragePool2d: AveragePoolVectors(),
    MaxPool2d: MaxPoolVectors(),
}


def case(op: Operator, s: Samples) -> RecipeCase:
    """An operator with the recipe under test."""
    return RecipeCase(op, s, RECIPES[type(op)])


def draw(seed: int, largest: int) -> Draw:
    """Random layers for these recipes."""
    return Draw(seed, largest, RECIPES)


@pytest.mark.parametrize("target", ["x86-64", CORE])
def test_random_layers_in_the_interpreter(target: str) -> None:
    check_interpreted(draw(1, 5).each(3), target)


@pytest.mark.parametrize("target", ["x86-64", CORE])
def test_random_layers_as_c(target: str, tmp_path: Path) -> None:
    check_as_c(draw(2, 9).each(12), tmp_path, target)


@pytest.mark.qemu
@pytest.mark.parametrize("seed", range(5))
def test_random_layers_on_an_emulated_core(seed: int) -> None:
    measure_layers(draw(10 + seed, 10).each(8), CORE)


def depthwise(channels: int, size: tuple[int, int], kernel: tuple[int, int] = (3, 3)) -> RecipeCase:
    """A depthwise convolution that keeps the size."""
    s = Samples(channels)
    pads = (kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, kernel[1] // 2)
    x, weights = s.i8(1, *size, channels, zero=-128), s.i8_weights(1, *kernel, channels, axis=3)
    return case(DepthwiseConv2d(x, weights, s.i32_bias(channels), pads=pads, quant=s.quant(0.5, -128)), s)


def conv(
    channels: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int], pads: tuple[int, int, int, int]
) -> RecipeCase:
    """A convolution."""
    s = Samples(channels)
    x, weights = s.i8(1, *size, channels, zero=-128), s.i8_weights(outputs, *kernel, channels)
    return case(Conv2d(x, weights, s.i32_bias(outputs), pads=pads, quant=s.quant(0.9, -128)), s)


@pytest.mark.qemu
def test_large_images_and_many_channels_go_through_the_workspace_in_parts() -> None:
    cases = [
        depthwise(16, (4, 100)),
        depthwise(64, (5, 40)),
        depthwise(20, (30, 30), (5, 3)),
        depthwise(7, (2, 180)),
        depthwise(128, (28, 1), (5, 1)),
        depthwise(60, (3, 3)),
        depthwise(26, (3, 120)),
        depthwise(106, (6, 6)),
    ]
    assert all(0 < wide.recipe.workspace_bytes(wide.op) <= WORKSPACE_LIMIT for wide in cases)
    measure_layers(cases, CORE)


@pytest.mark.qemu
def test_instructions_are_few_and_costs_honest() -> None:
    layers = [
        (conv(64, 64, (25, 5), (1, 1), (0, 0, 0, 0)), 0.2),
        (conv(16, 16, (32, 32), (3, 3), (1, 1, 1, 1)), 0.22),
        (conv(32, 32, (16, 16), (3, 3), (1, 1, 1, 1)), 0.2),
        (conv(1, 64, (49, 10), (10, 4), (4, 1, 5, 1)), 0.36),
        (depthwise(64, (25, 5)), 1.35),
        (depthwise(32, (24, 24)), 1.3),
        (depthwise(128, (28, 1), (5, 1)), 1.5),
    ]
    s = Samples(1)
    dense = FullyConnected(
        s.i8(1, 640, zero=-128), s.i8_weights(128, 640, axis=None), s.i32_bias(128), quant=s.quant(2.0)
    )
    layers.append((case(dense, s), 0.18))
    cases = [layer for layer, _ in layers]
    for (layer, most), executed in zip(layers, measure_layers(cases, CORE), strict=True):
        assert executed / layer.op.macs() <= most, layer.op
        stated = layer.recipe.cost(layer.op, find_target("cortex-m55"))
        assert executed == pytest.approx(stated.instructions, rel=0.1), layer.op
        assert layer.bound.workspace_bytes <= WORKSPACE_LIMIT


def test_what_the_recipes_refuse() -> None:
    window = depthwise(8, (9, 9)).op
    assert isinstance(window, DepthwiseConv2d)
    recipe = RECIPES[DepthwiseConv2d]
    assert recipe.applies(window) == ""
    assert "rounding" in recipe.applies(replace(window, rounding="tflite-single"))
    assert "dilated" in recipe.applies(replace(window, dilations=(2, 1)))
    assert "shift" in recipe.applies(replace(window, quant=Samples().quant(1e-5)))
    assert "taps" in recipe.applies(depthwise(8, (9, 9), (7, 7)).op)
    assert "workspace" in recipe.applies(depthwise(7, (9, 400)).op)
    assert "summed" in ConvVectors().applies(window)
    large = conv(300, 4, (5, 5), (4, 4), (0, 0, 0, 0))
    assert "workspace" in large.recipe.applies(large.op)
    s = Samples()
    assert "taps" in AveragePoolVectors().applies(AveragePool2d(s.i8(1, 20, 20, 4), (20, 20)))
    assert "different shapes" in RECIPES[Add].applies(Add(s.i8(2, 3), s.i8(3), quant=s.quant(0.1)))


def test_only_vector_cores_take_them() -> None:
    op = depthwise(8, (5, 5)).op
    assert [r.name for r in candidate_recipes(op, find_target("cortex-m55"))] == ["vectors"]
    assert [r.name for r in candidate_recipes(op, find_target("cortex-m85"))] == ["vectors"]
    assert "vectors" not in [r.name for r in candidate_recipes(op, find_target("cortex-m4"))]
