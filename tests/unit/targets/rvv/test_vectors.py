"""int8 kernels for RISC-V vectors: equal bits in the interpreter, as C, and on emulated cores."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d, MaxPool2d, Pool
from luciole.targets.base import KernelRecipe, candidate_recipes
from luciole.targets.rvv.conv import ConvVectors, FullyConnectedVectors
from luciole.targets.rvv.depthwise import DepthwiseVectors
from luciole.targets.rvv.elementwise import ElementwiseVectors
from luciole.targets.rvv.pool import AveragePoolVectors, MaxPoolVectors
from luciole.targets.rvv.rows import WORKSPACE_LIMIT
from support.emulated_layers import measure_layers
from support.recipe_cases import RecipeCase, check_interpreted
from support.vector_layers import Draw

CORES = ("rv64gcv", "rv32imc-zve32x")

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


def random_layers(seed: int, largest: int, count: int) -> list[RecipeCase]:
    """So many of every kind, some with single rounding and some with shifts of any direction."""
    draw = Draw(seed, largest, RECIPES)
    kinds = (draw.conv, draw.pointwise, draw.depthwise, draw.single_channel, draw.fully_connected, draw.elementwise)
    kinds += (draw.pool,)
    found = [kind() for kind in kinds for _ in range(count)]
    for i, case in enumerate(found):
        op = case.op
        if i % 4 == 1 and isinstance(op, Conv2d | DepthwiseConv2d | FullyConnected):
            op = replace(op, rounding="tflite-single")
        elif i % 4 == 2 and isinstance(op, Conv2d | DepthwiseConv2d | FullyConnected):
            op = replace(op, quant=case.samples.quant(1e-5, 3))
        found[i] = replace(case, op=op)
    return [case for case in found if not (isinstance(case.op, Pool) and case.recipe.applies(case.op))]


def conv(
    channels: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int], pads: tuple[int, int, int, int]
) -> RecipeCase:
    """A convolution."""
    s = Samples(channels)
    x, weights = s.i8(1, *size, channels, zero=-128), s.i8_weights(outputs, *kernel, channels)
    op = Conv2d(x, weights, s.i32_bias(outputs), pads=pads, quant=s.quant(0.9, -128))
    return RecipeCase(op, s, RECIPES[Conv2d])


def depthwise(channels: int, size: tuple[int, int], kernel: tuple[int, int] = (3, 3), stride: int = 1) -> RecipeCase:
    """A depthwise convolution with padding all around."""
    s = Samples(channels)
    pads = (kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, kernel[1] // 2)
    x, weights = s.i8(1, *size, channels, zero=-128), s.i8_weights(1, *kernel, channels, axis=3)
    quant = s.quant(0.5, -128)
    op = DepthwiseConv2d(x, weights, s.i32_bias(channels), pads=pads, strides=(stride, stride), quant=quant)
    return RecipeCase(op, s, RECIPES[DepthwiseConv2d])


def floats() -> list[RecipeCase]:
    """Layers of floats, with and without padding, of several blocks of channels and of few."""
    s, found = Samples(3), []
    for channels, outputs, kernel, pads in (
        (5, 70, (1, 1), (0,) * 4),
        (3, 12, (3, 3), (1,) * 4),
        (9, 33, (3, 2), (0,) * 4),
    ):
        x, w, b = s.f32(1, 7, 9, channels), s.f32_weights(outputs, *kernel, channels), s.f32_weights(outputs)
        op = Conv2d(x, w, b, pads=pads, activation="relu6")
        found.append(RecipeCase(op, s, RECIPES[Conv2d]))
    for channels, pads in ((70, (1,) * 4), (9, (0,) * 4)):
        deep = DepthwiseConv2d(s.f32(1, 6, 8, channels), s.f32_weights(1, 3, 3, channels), pads=pads)
        found.append(RecipeCase(deep, s, RECIPES[DepthwiseConv2d]))
    single = DepthwiseConv2d(s.f32(1, 9, 6, 1), s.f32_weights(1, 4, 3, 20), pads=(1, 1, 2, 1))
    found.append(RecipeCase(single, s, RECIPES[Conv2d]))
    dense = FullyConnected(s.f32(2, 150), s.f32_weights(45, 150), s.f32_weights(45))
    return [*found, RecipeCase(dense, s, RECIPES[FullyConnected])]


def fully_connected(length: int, outputs: int) -> RecipeCase:
    """A fully connected layer with one scale for all weights."""
    s = Samples(1)
    x, weights = s.i8(1, length, zero=-128), s.i8_weights(outputs, length, axis=None)
    op = FullyConnected(x, weights, s.i32_bias(outputs), quant=s.quant(2.0))
    return RecipeCase(op, s, RECIPES[FullyConnected])


def test_random_layers_in_the_interpreter() -> None:
    check_interpreted(random_layers(1, 5, 4), "rv64gcv")


@pytest.mark.qemu
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("seed", range(2))
def test_random_layers_on_an_emulated_core(core: str, seed: int) -> None:
    measure_layers(random_layers(10 + seed, 10, 4), core)


@pytest.mark.qemu
@pytest.mark.parametrize("core", CORES)
def test_channels_of_several_blocks_and_rows_of_several_strips(core: str) -> None:
    cases = [
        conv(7, 75, (6, 5), (3, 3), (1, 1, 1, 1)),
        conv(40, 33, (3, 60), (3, 3), (1, 1, 1, 1)),
        conv(700, 70, (2, 3), (1, 1), (0, 0, 0, 0)),
        depthwise(75, (6, 5)),
        depthwise(64, (5, 40), (5, 3)),
        depthwise(40, (7, 50), stride=2),
        fully_connected(257, 130),
    ]
    assert cases[1].recipe.workspace_bytes(cases[1].op) <= WORKSPACE_LIMIT
    measure_layers(cases, core)


def test_floats_in_the_interpreter() -> None:
    check_interpreted(floats(), "rv64gcv")


@pytest.mark.qemu
def test_floats_on_an_emulated_core() -> None:
    cases = floats()
    executed = measure_layers(cases, "rv64gcv")
    assert executed[0] / cases[0].op.macs() < 0.4


@pytest.mark.qemu
def test_wider_registers_give_the_same_bits() -> None:
    cases = random_layers(5, 10, 2)
    assert measure_layers(cases, "rv64gcv", "rv64,v=true,vlen=512,elen=64") == measure_layers(cases, "rv64gcv")


@pytest.mark.qemu
@pytest.mark.parametrize("core", CORES)
def test_instructions_are_few_and_costs_honest(core: str) -> None:
    layers = [
        (conv(64, 64, (25, 5), (1, 1), (0, 0, 0, 0)), 0.11),
        (conv(16, 16, (32, 32), (3, 3), (1, 1, 1, 1)), 0.2),
        (conv(32, 32, (16, 16), (3, 3), (1, 1, 1, 1)), 0.12),
        (conv(1, 64, (49, 10), (10, 4), (4, 1, 5, 1)), 0.15),
        (depthwise(64, (25, 5)), 0.4),
        (depthwise(32, (24, 24)), 0.3),
        (depthwise(16, (48, 48), stride=2), 0.6),
        (depthwise(128, (28, 1), (5, 1)), 0.5),
        (fully_connected(640, 128), 0.18),
    ]
    executed = measure_layers([layer for layer, _ in layers], core)
    for (layer, most), count in zip(layers, executed, strict=True):
        assert count / layer.op.macs() <= most, layer.op
        stated = layer.recipe.cost(layer.op, find_target(core))
        assert count == pytest.approx(stated.instructions, rel=0.1), layer.op


def test_only_cores_with_the_vector_extension_take_them() -> None:
    op = conv(8, 8, (5, 5), (1, 1), (0, 0, 0, 0)).op
    for core in CORES:
        assert [r.name for r in candidate_recipes(op, find_target(core))] == ["vectors"]
    assert not candidate_recipes(op, find_target("rv64gc"))


def test_c_is_left_to_the_vectors_of_its_compiler() -> None:
    op = conv(8, 8, (5, 5), (1, 1), (0, 0, 0, 0)).op
    names = [[r.name for r in candidate_recipes(op, find_target(core).for_c)] for core in CORES]
    assert names == [[], ["tiled_riscv32"]]
