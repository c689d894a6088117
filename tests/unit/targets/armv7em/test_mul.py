"""Multiplication by halves: equal bits for all pairs of operands, on every path, and for operands that are repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.elementwise import Mul
from luciole.targets.armv7em.mul import MulHalves
from luciole.targets.base import candidate_recipes
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

RECIPE = MulHalves()


def case(
    a: tuple[int, ...],
    b: tuple[int, ...],
    result: tuple[float, int] = (0.013, -7),
    zeros: tuple[int, int] = (-128, 127),
    activation: str = "none",
) -> RecipeCase:
    """A product of random data."""
    s = Samples(sum(a + b))
    first, second = s.i8(*a, scale=0.05, zero=zeros[0]), s.i8(*b, scale=1 / 256, zero=zeros[1])
    return RecipeCase(Mul(first, second, activation=activation, quant=s.quant(*result)), s, RECIPE)


def small_cases() -> list[RecipeCase]:
    """Shapes with and without a rest, repeated operands on either side, clamps, zero points at the ends."""
    return [
        case((1,), (1,)),
        case((7,), (7,), activation="relu6"),
        case((2, 3, 8), (2, 3, 8), zeros=(3, -4)),
        case((1, 3, 2, 8), (1, 1, 1, 8), activation="relu"),
        case((1, 3, 2, 5), (5,), zeros=(127, -128)),
        case((2, 3), (4, 2, 3), result=(0.1, 127)),
        case((3, 1, 7), (1, 7), result=(0.002, -128)),
        case((16,), (3, 16)),
    ]


def test_small_products_in_the_interpreter() -> None:
    check_interpreted(small_cases())


def test_small_products_as_c(tmp_path: Path) -> None:
    check_as_c(small_cases(), tmp_path)


def test_small_products_on_an_emulated_core() -> None:
    measure_emulated(small_cases())


def test_all_pairs_of_operands_on_an_emulated_core() -> None:
    cases = []
    for result, zeros in [((0.013, -7), (-128, 127)), ((0.05, 0), (0, 0)), ((0.0004, 90), (127, -128))]:
        every = case((65536,), (65536,), result, zeros)
        numbers = np.arange(-128, 128, dtype=np.int8)
        for value, data in zip(every.op.operands, np.meshgrid(numbers, numbers), strict=True):
            every.samples.arrays[value][:] = data.reshape(-1)
        cases.append(every)
    measure_emulated(cases)


@pytest.mark.parametrize(
    ("a", "b", "most"),
    [((1, 12, 12, 16), (1, 12, 12, 16), 7.7), ((1, 12, 12, 16), (1, 1, 1, 16), 8.5), ((1, 7, 7, 15), (15,), 11.6)],
)
def test_instructions_are_few_and_costs_honest(a: tuple[int, ...], b: tuple[int, ...], most: float) -> None:
    layer = case(a, b)
    (executed,) = measure_emulated([layer])
    assert executed / layer.op.result_types()[0].elements <= most
    assert executed == pytest.approx(RECIPE.cost(layer.op, find_target("cortex-m4")).instructions, rel=0.1)
    assert candidate_recipes(layer.op, find_target("cortex-m33"))[0].name == "halves"


def test_what_the_recipe_refuses() -> None:
    s = Samples(1)
    x, column = s.i8(2, 3, 4), s.i8(2, 3, 1)
    assert "leading axes" in RECIPE.applies(Mul(x, column, quant=s.quant(0.1)))
    assert "leading axes" in RECIPE.applies(Mul(s.i8(2, 1), s.i8(1, 3), quant=s.quant(0.1)))
    assert "rounding" in RECIPE.applies(Mul(x, x, rounding="tflite-single", quant=s.quant(0.1)))
    assert "shift" in RECIPE.applies(Mul(x, x, quant=s.quant(1e-5)))
    assert RECIPE.applies(Mul(x, s.i8(4), quant=s.quant(0.1))) == ""
