"""Exact Winograd convolution: equal bits on every path, few instructions, honest costs, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.conv import Conv2d
from luciole.targets.armv7em.winograd import WORKSPACE_LIMIT, ConvWinograd
from luciole.targets.base import candidate_recipes
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

WINOGRAD = ConvWinograd()
SAME = (1, 1, 1, 1)


def case(
    seed: int, size: tuple[int, int], channels: tuple[int, int], zero: int = -128, batch: int = 1, **options: Any
) -> RecipeCase:
    """A 3x3 convolution of random data over the whole range of int8."""
    s = Samples(seed)
    x = s.i8(batch, *size, channels[0], zero=zero)
    w = s.i8_weights(channels[1], 3, 3, channels[0], axis=0 if seed % 2 else None, scale=0.001)
    options.setdefault("quant", s.quant(0.05, -128))
    return RecipeCase(Conv2d(x, w, s.i32_bias(channels[1]), **options), s, WINOGRAD)


def random_cases(seed: int, count: int, largest: int) -> list[RecipeCase]:
    """Images from one pixel on, any padding, odd heights and widths, clamps, two images."""
    random, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        pads = tuple(int(random.integers(0, 3)) for _ in range(4))
        size = (int(random.integers(1, largest)), int(random.integers(1, largest)))
        if size[0] + pads[0] + pads[2] < 3 or size[1] + pads[1] + pads[3] < 3:
            continue
        number, zero = int(random.integers(1 << 30)), int(random.choice([-128, 127, 0, 31]))
        channels = (4 * int(random.integers(1, 7)), 2 * int(random.integers(1, 5)))
        activation, batch = str(random.choice(["none", "relu", "relu6"])), int(random.integers(1, 3))
        cases.append(case(number, size, channels, zero, batch, pads=pads, activation=activation))
    return cases


def test_random_convolutions_in_the_interpreter() -> None:
    check_interpreted(random_cases(1, 5, 7))


def test_random_convolutions_on_an_emulated_core() -> None:
    measure_emulated(random_cases(2, 20, 14))


def test_random_convolutions_as_c(tmp_path: Path) -> None:
    check_as_c(random_cases(3, 8, 12), tmp_path)


def test_extreme_weights_and_inputs_are_exact() -> None:
    for value in (-128, 127):
        s = Samples(4)
        w = s.constant(np.full((2, 3, 3, 64), value, np.int8), s.i8_weights(2, 1, axis=None).type.quant)
        x = s.i8(1, 4, 4, 64, zero=127)
        s.arrays[x] = np.full((1, 4, 4, 64), -128, np.int8)
        measure_emulated([RecipeCase(Conv2d(x, w, pads=SAME, quant=s.quant(200.0)), s, WINOGRAD)])


@pytest.mark.parametrize(
    ("size", "channels", "most"),
    [((16, 16), (16, 16), 0.66), ((8, 8), (32, 32), 0.6), ((8, 8), (64, 16), 0.56), ((4, 4), (128, 32), 0.58)],
)
def test_instructions_are_few_and_costs_honest(size: tuple[int, int], channels: tuple[int, int], most: float) -> None:
    layer = case(5, size, channels, pads=SAME, activation="relu")
    (executed,) = measure_emulated([layer])
    assert executed / layer.op.macs() <= most
    cost = WINOGRAD.cost(layer.op, find_target("cortex-m4"))
    assert executed == pytest.approx(cost.instructions, rel=0.1)
    assert layer.bound.workspace_bytes <= WORKSPACE_LIMIT


def test_memory_is_traded_only_where_that_is_allowed() -> None:
    op, target = case(6, (8, 8), (16, 16), pads=SAME).op, find_target("cortex-m4")
    assert WINOGRAD.name not in [recipe.name for recipe in candidate_recipes(op, target)]
    assert candidate_recipes(op, target, may_trade_memory=True)[0].name == WINOGRAD.name


def test_what_the_recipe_refuses() -> None:
    op = case(7, (5, 5), (4, 4), pads=SAME).op
    assert isinstance(op, Conv2d)
    assert WINOGRAD.applies(op) == ""
    assert "stride 1" in WINOGRAD.applies(replace(op, strides=(2, 1)))
    assert "stride 1" in WINOGRAD.applies(replace(op, dilations=(1, 2)))
    assert "rounding" in WINOGRAD.applies(replace(op, rounding="onnx"))
    assert "multiple of 4" in WINOGRAD.applies(case(8, (5, 5), (6, 4)).op)
    assert "not even" in WINOGRAD.applies(case(8, (5, 5), (4, 3)).op)
    assert "workspace" in WINOGRAD.applies(case(8, (3, 3), (512, 2)).op)
    s = Samples(9)
    w, bias = s.i8_weights(2, 3, 3, 64, axis=None), s.i32_bias(2, 1 << 29, (1 << 29) + (1 << 25))
    large = Conv2d(s.i8(1, 3, 3, 64), w, bias, quant=s.quant(1163.0, -128))
    assert "four times" in WINOGRAD.applies(large)
