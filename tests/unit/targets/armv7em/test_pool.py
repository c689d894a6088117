"""Averages and maxima of windows and axes, four channels at a time: equal bits on every path, honest costs, bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.pixel_sums import AddPixelSums
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.reduce import Mean
from luciole.targets.armv7em.pool import AddPixelSumsHalves, AveragePoolHalves, MaxPoolBytes, MeanHalves
from luciole.targets.base import KernelRecipe
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

POOL, MEAN, MAXIMUM = AveragePoolHalves(), MeanHalves(), MaxPoolBytes()
M4 = find_target("cortex-m4")


def pool(
    seed: int,
    size: tuple[int, int],
    channels: int,
    window: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    zero: int = 0,
    activation: str = "none",
    batch: int = 1,
    recipe: KernelRecipe = POOL,
) -> RecipeCase:
    """An average or maximum pool of random data."""
    s = Samples(seed)
    x = s.i8(batch, *size, channels, zero=zero)
    kind = AveragePool2d if recipe is POOL else MaxPool2d
    return RecipeCase(kind(x, window, strides=strides, pads=pads, activation=activation), s, recipe)


def mean(
    seed: int, shape: tuple[int, ...], axes: tuple[int, ...], result: tuple[float, int] = (0.04, -3)
) -> RecipeCase:
    """A mean of random data."""
    s = Samples(seed)
    return RecipeCase(Mean(s.i8(*shape, zero=seed % 100), axes, quant=s.quant(*result)), s, MEAN)


def pixel_sums(seed: int, size: tuple[int, int], channels: int, batch: int = 1) -> RecipeCase:
    """Sums that are added to others."""
    s = Samples(seed)
    total, x = s.i32(batch, 1, 1, channels), s.i8(batch, *size, channels, zero=-128)
    return RecipeCase(AddPixelSums(total, x), s, AddPixelSumsHalves())


def random_cases(seed: int, count: int) -> list[RecipeCase]:
    """Windows of 1..7 with any stride and padding, means of any count; four channels and more."""
    random, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        number = int(random.integers(1 << 20))
        if len(cases) % 4 == 0:
            shape = (int(random.integers(1, 3)), int(random.integers(1, 9)), int(random.integers(1, 9)))
            cases.append(mean(number, (*shape, int(random.integers(4, 18))), (1, 2)))
            continue
        size = (int(random.integers(1, 9)), int(random.integers(1, 9)))
        window = (int(random.integers(1, 8)), int(random.integers(1, 8)))
        pads = (window[0] // 2, window[1] // 2, (window[0] - 1) // 2, (window[1] - 1) // 2)
        if random.integers(2) and window[0] <= size[0] and window[1] <= size[1]:
            pads = (0, 0, 0, 0)
        layer = pool(
            number,
            size,
            4 * int(random.integers(1, 5)) if random.integers(2) else int(random.integers(4, 18)),
            window,
            (int(random.integers(1, 3)), int(random.integers(1, 3))),
            pads,
            int(random.choice([-128, 0, 127])),
            str(random.choice(["none", "relu", "relu6"])),
            int(random.integers(1, 3)),
            MAXIMUM if len(cases) % 4 == 1 else POOL,
        )
        window_of = layer.op.window  # type: ignore[attr-defined]  # a pool
        if not window_of.problem(size) and not window_of.empty_problem(size):
            cases.append(layer)
    return cases


def test_random_averages_in_the_interpreter() -> None:
    check_interpreted(random_cases(1, 16))


def test_random_averages_on_an_emulated_core() -> None:
    measure_emulated(random_cases(2, 60))


def test_random_averages_as_c(tmp_path: Path) -> None:
    check_as_c(random_cases(3, 40), tmp_path)


@pytest.mark.parametrize("value", [-128, 127])
def test_the_largest_sums_fit_their_halves(value: int) -> None:
    full = pool(4, (16, 16), 4, (16, 16))
    for data in full.samples.arrays.values():
        data[:] = value
    measure_emulated([full])


def test_instructions_are_few_and_costs_honest() -> None:
    layers = [
        pool(5, (25, 5), 64, (25, 5)),
        pool(6, (8, 8), 64, (8, 8)),
        pool(7, (12, 12), 16, (2, 2), (2, 2)),
        mean(8, (1, 7, 7, 32), (1, 2)),
        pool(14, (12, 12), 32, (2, 2), (2, 2), recipe=MAXIMUM),
        pool(15, (14, 9), 10, (3, 3), (2, 2), (1, 1, 0, 1), recipe=MAXIMUM),
        pool(16, (9, 9), 7, (3, 3)),
    ]
    counts = measure_emulated(layers)
    for layer, executed in zip(layers, counts, strict=True):
        assert executed == pytest.approx(layer.recipe.cost(layer.op, M4).instructions, rel=0.12), str(layer.op)
    assert counts[0] <= 1.0 * 25 * 5 * 64


def test_what_the_recipes_refuse() -> None:
    assert "less than 4" in POOL.applies(pool(9, (4, 4), 3, (2, 2)).op)
    assert "less than 4" in MAXIMUM.applies(pool(9, (4, 4), 3, (2, 2), recipe=MAXIMUM).op)
    assert "exceed" in POOL.applies(pool(10, (17, 17), 4, (17, 17)).op)
    for recipe in (POOL, MAXIMUM):
        op = pool(11, (9, 9), 4, (3, 3), recipe=recipe).op
        assert recipe.applies(op) == ""
        assert "dilated" in recipe.applies(replace(op, dilations=(1, 2)))  # type: ignore[call-arg]  # a pool
    assert "neighbors" in MEAN.applies(mean(11, (2, 3, 4, 8), (3,)).op)
    assert "neighbors" in MEAN.applies(mean(12, (2, 3, 4, 8), (0, 2)).op)
    assert "exceed" in MEAN.applies(mean(13, (1, 20, 20, 8), (1, 2)).op)


def test_sums_of_pixels(tmp_path: Path) -> None:
    cases = [pixel_sums(1, (1, 5), 64), pixel_sums(2, (16, 16), 4), pixel_sums(3, (2, 3), 12, batch=2)]
    check_interpreted(cases)
    check_as_c(cases, tmp_path)
    for case, executed in zip(cases, measure_emulated(cases), strict=True):
        assert executed == pytest.approx(case.recipe.cost(case.op, M4).instructions, rel=0.2)
    assert "multiple of 4" in cases[0].recipe.applies(pixel_sums(4, (2, 2), 6).op)
    assert "272 elements" in cases[0].recipe.applies(pixel_sums(5, (16, 17), 4).op)


@pytest.mark.slow
def test_many_random_averages_on_an_emulated_core() -> None:
    measure_emulated(random_cases(103, 100))
