"""Convolution with packed weights: equal bits on every path, honest costs, the bound of the packing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.conv import Conv2d
from luciole.targets.armv7em.conv import ConvHiLo
from luciole.targets.armv7em.pointwise import PointwiseHiLo
from luciole.targets.base import KernelRecipe
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

WINDOW, POINTWISE = ConvHiLo(), PointwiseHiLo()
M4 = find_target("cortex-m4")


def case(
    seed: int,
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: tuple[int, int] = (1, 1),
    recipe: KernelRecipe = WINDOW,
    zero: int = -128,
    result: tuple[float, int] = (0.9, -128),
    batch: int = 1,
    axis: int | None = 0,
    **options: Any,
) -> RecipeCase:
    """A convolution of random data, weights below a third of their range so that packed sums fit."""
    s = Samples(seed)
    x = s.i8(batch, *size, channels[0], zero=zero)
    w = s.i8_weights(channels[1], *kernel, channels[0], axis=axis, scale=0.01)
    assert w.data is not None
    w = s.constant((w.data // 3).astype(np.int8), w.type.quant)
    return RecipeCase(Conv2d(x, w, s.i32_bias(channels[1]), quant=s.quant(*result), **options), s, recipe)


def random_cases(seed: int, count: int, largest: int) -> list[RecipeCase]:
    """Windows of 1..7, strides and dilations of 1..3, any padding, odd channels, images down to one pixel, clamps."""
    random, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        number, zero = int(random.integers(1 << 30)), int(random.choice([-128, 127, 0, 31]))
        size = (int(random.integers(1, largest)), int(random.integers(1, largest)))
        activation = str(random.choice(["none", "relu", "relu6"]))
        result = (float(random.choice([0.3, 1.1])), int(random.choice([-128, 127, -3])))
        if len(cases) % 4 == 0:
            channels = (4 * int(random.integers(1, 9)), 2 * int(random.integers(1, 9)))
            layer = case(number, size, channels, (1, 1), POINTWISE, zero, result, activation=activation)
            cases.append(layer)
            continue
        kernel = (int(random.integers(1, 8)), int(random.integers(1, 8)))
        dilations = (int(random.choice([1, 1, 2, 3])), int(random.choice([1, 1, 2, 3])))
        reach = tuple((extent - 1) * step + 1 for extent, step in zip(kernel, dilations, strict=True))
        pads = tuple(int(random.integers(0, extent)) for extent in reach + reach)
        if size[0] + pads[0] + pads[2] < reach[0] or size[1] + pads[1] + pads[3] < reach[1]:
            continue
        channels = (int(random.choice([1, 2, 3, 4, 7, 8])), int(random.integers(1, 8)))
        strides = (int(random.integers(1, 4)), int(random.integers(1, 4)))
        options: dict[str, Any] = {"pads": pads, "strides": strides, "dilations": dilations, "activation": activation}
        layer = case(number, size, channels, kernel, WINDOW, zero, result, **options)
        if not WINDOW.applies(layer.op):
            cases.append(layer)
    return cases


def test_random_convolutions_in_the_interpreter() -> None:
    check_interpreted(random_cases(1, 12, 5))


def test_random_convolutions_on_an_emulated_core() -> None:
    measure_emulated(random_cases(2, 60, 12))


def variants(cases: list[RecipeCase]) -> list[RecipeCase]:
    """The cases by the variants of their recipes."""
    return [RecipeCase(c.op, c.samples, recipe) for c in cases for recipe in c.recipe.variants()]


def test_variants_in_the_interpreter() -> None:
    check_interpreted(variants(random_cases(3, 4, 5)))


def test_variants_on_an_emulated_core() -> None:
    measure_emulated(variants(random_cases(4, 10, 11)))


def test_random_convolutions_as_c(tmp_path: Path) -> None:
    check_as_c(random_cases(3, 32, 10), tmp_path)


def unusual_cases() -> list[RecipeCase]:
    """Images of one column, and channels that are no fours, few and many."""
    column: dict[str, Any] = {"pads": (3, 0, 4, 0), "dilations": (2, 1)}
    return [
        case(30, (11, 1), (6, 3), (4, 1), **column),
        case(31, (12, 1), (4, 2), (3, 1), strides=(2, 1), batch=2),
        case(32, (1, 5), (7, 2), (1, 3), pads=(0, 1, 0, 1)),
        case(33, (4, 4), (19, 2), (3, 2), pads=(1, 1, 1, 0), zero=31),
        case(34, (3, 4), (22, 3), (2, 2), strides=(1, 2), zero=127),
    ]


def test_columns_and_channels_that_are_no_fours(tmp_path: Path) -> None:
    check_interpreted(unusual_cases())
    check_as_c(unusual_cases(), tmp_path)
    measure_emulated(unusual_cases())


@pytest.mark.parametrize(
    ("layer", "most"),
    [
        (case(40, (49, 1), (40, 40), (3, 1), pads=(4, 0, 4, 0), dilations=(4, 1)), 1.15),
        (case(41, (49, 1), (15, 15), (5, 1), pads=(4, 0, 4, 0), dilations=(2, 1)), 1.3),
        (case(42, (12, 12), (9, 9), (3, 3), pads=(1, 1, 1, 1), strides=(2, 2)), 1.5),
        (case(43, (12, 12), (10, 16), (3, 3), pads=(1, 1, 1, 1)), 1.1),
    ],
    ids=["dilated over time", "odd over time", "9 channels", "10 channels"],
)
def test_columns_and_odd_channels_are_fast(layer: RecipeCase, most: float) -> None:
    (executed,) = measure_emulated([layer])
    assert executed / layer.op.macs() <= most
    assert executed == pytest.approx(WINDOW.cost(layer.op, find_target("cortex-m4")).instructions, rel=0.15)


def test_rows_longer_than_the_workspace_are_cut() -> None:
    large = case(4, (5, 90), (16, 3), (3, 3), pads=(1, 1, 1, 1), batch=2)
    assert WINDOW.workspace_bytes(large.op) <= 4096
    measure_emulated([large])


def test_sums_too_large_when_doubled_stay_single() -> None:
    s = Samples(5)
    x, bias = s.i8(1, 1, 3, 20, zero=-128), s.i32_bias(4, 4_200_000, 4_500_000)
    op = Conv2d(x, s.i8_weights(4, 1, 1, 20, scale=0.01), bias, quant=s.quant(40.0))
    assert 2 * op.requantizer().accumulator_bound >= 1 << 23
    for recipe in (WINDOW, POINTWISE):
        measure_emulated([RecipeCase(op, s, recipe)])


@pytest.mark.parametrize(
    ("size", "channels", "kernel", "stride", "recipe", "most"),
    [
        ((25, 5), (64, 64), (1, 1), 1, POINTWISE, 1.15),
        ((12, 12), (32, 32), (3, 3), 1, WINDOW, 0.98),
        ((16, 16), (16, 32), (3, 3), 2, WINDOW, 1.1),
        ((32, 32), (3, 16), (3, 3), 1, WINDOW, 1.45),
        ((49, 10), (1, 64), (10, 4), 2, WINDOW, 1.3),
        ((32, 32), (16, 32), (1, 1), 2, WINDOW, 1.8),
    ],
)
def test_instructions_are_few_and_costs_honest(
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    recipe: KernelRecipe,
    most: float,
) -> None:
    pads = tuple(extent // 2 for extent in kernel) + tuple((extent - 1) // 2 for extent in kernel)
    layer = case(6, size, channels, kernel, recipe, pads=pads, strides=(stride, stride), activation="relu")
    (executed,) = measure_emulated([layer])
    assert executed / layer.op.macs() <= most
    assert executed == pytest.approx(recipe.cost(layer.op, M4).instructions, rel=0.1)


def test_what_the_recipes_refuse() -> None:
    op = case(7, (5, 5), (4, 4), (3, 3)).op
    assert isinstance(op, Conv2d)
    assert WINDOW.applies(op) == ""
    assert "not 1x1" in POINTWISE.applies(op)
    wide = case(7, (5, 40), (64, 4), (3, 3), pads=(1, 1, 1, 1), dilations=(1, 16))
    assert "dilated" in WINDOW.applies(wide.op)
    assert "rounding" in WINDOW.applies(replace(op, rounding="tflite-single"))
    assert "multiple of 4" in POINTWISE.applies(case(8, (5, 5), (6, 4)).op)
    assert "shift" in WINDOW.applies(case(9, (5, 5), (4, 4), result=(1e-6, 0)).op)
    s = Samples(10)
    full = s.constant(np.full((2, 3, 3, 64), 127, np.int8), s.i8_weights(2, 1, axis=None).type.quant)
    too_large = Conv2d(s.i8(1, 3, 3, 64, zero=-128), full, quant=s.quant(30.0))
    assert "23 bits" in WINDOW.applies(too_large)
    unfit = s.constant(np.array([-1, -128], np.int8).reshape(2, 1, 1, 1), full.type.quant)
    assert "halfword" in WINDOW.applies(Conv2d(s.i8(1, 3, 3, 1), unfit, quant=s.quant(1.0)))


def test_layers_of_few_pixels_spend_half_the_bytes_on_parameters() -> None:
    few = case(11, (8, 8), (16, 32), (3, 3), pads=(1, 1, 1, 1))
    many = case(12, (9, 8), (16, 32), (3, 3), pads=(1, 1, 1, 1))
    assert WINDOW.constants(few.op)["channels"].nbytes == 8 * 32
    assert WINDOW.constants(many.op)["channels"].nbytes == 16 * 32
    uniform = case(13, (4, 4), (16, 33), (3, 3), axis=None)
    assert WINDOW.constants(uniform.op)["channels"].nbytes == 4 * 34 + 12
    measure_emulated([few, many, uniform])


@pytest.mark.slow
def test_many_random_convolutions_on_an_emulated_core() -> None:
    measure_emulated(random_cases(100, 150, 16))
