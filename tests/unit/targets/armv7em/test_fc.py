"""Fully connected layers with packed and with plain weights: equal bits on every path, honest costs, the bound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.matmul import FullyConnected
from luciole.targets.armv7em.fc import WORKSPACE_LIMIT, FullyConnectedHiLo, FullyConnectedPairs
from luciole.targets.base import KernelRecipe, candidate_recipes
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

HILO, PAIRS = FullyConnectedHiLo(), FullyConnectedPairs()
M4 = find_target("cortex-m4")


def case(
    seed: int,
    recipe: KernelRecipe,
    inputs: int,
    outputs: int,
    rows: int = 1,
    zero: int = -128,
    axis: int | None = None,
    result: tuple[float, int] = (0.9, 5),
    activation: str = "none",
) -> RecipeCase:
    """A layer of random data."""
    s = Samples(seed)
    x, w = s.i8(rows, inputs, zero=zero), s.i8_weights(outputs, inputs, axis=axis, scale=0.02)
    return RecipeCase(
        FullyConnected(x, w, s.i32_bias(outputs), activation=activation, quant=s.quant(*result)), s, recipe
    )


def random_cases(seed: int, count: int) -> list[RecipeCase]:
    """Odd numbers of inputs and outputs, several rows, extreme zero points, clamps, one multiplier or many."""
    random, cases = np.random.default_rng(seed), []
    for i in range(count):
        rows = int(random.choice([1, 1, 3]))
        inputs = int(random.integers(1, 90)) * (4 if rows > 1 else 1)
        cases.append(
            case(
                int(random.integers(1 << 30)),
                (HILO, PAIRS)[i % 2],
                inputs,
                int(random.integers(1, 40)),
                rows,
                zero=int(random.choice([-128, 127, 0, 17])),
                axis=None if random.integers(2) else 0,
                result=(float(random.choice([0.2, 0.9])), int(random.choice([-128, 127, 3]))),
                activation=str(random.choice(["none", "relu", "relu6"])),
            )
        )
    return cases


def test_random_layers_in_the_interpreter() -> None:
    check_interpreted(random_cases(1, 12))


def test_random_layers_on_an_emulated_core() -> None:
    measure_emulated(random_cases(2, 60))


def test_random_layers_as_c(tmp_path: Path) -> None:
    check_as_c(random_cases(3, 40), tmp_path)


def test_inputs_beyond_the_workspace_are_widened_in_registers() -> None:
    large = case(4, PAIRS, WORKSPACE_LIMIT, 17)
    assert PAIRS.workspace_bytes(large.op) == 0
    assert PAIRS.workspace_bytes(case(4, PAIRS, 600, 17).op) == 1200
    measure_emulated([large])


def test_extreme_sums_stay_exact() -> None:
    """Inputs and weights at their ends, so that odd sums come close to the packing's limit on both sides."""
    for inputs, sign in ((256, 1), (256, -1)):
        s = Samples(5)
        x = s.i8(1, inputs, zero=-128)
        s.arrays[x][:] = 127
        w = s.constant(np.full((6, inputs), 127 * sign, np.int8), s.i8_weights(6, 1, axis=None).type.quant)
        op = FullyConnected(x, w, s.i32_bias(6), quant=s.quant(900.0))
        assert HILO.applies(op) == ""
        measure_emulated([RecipeCase(op, s, HILO)])


def test_layers_that_fail_the_bound_take_plain_weights() -> None:
    layer = case(6, PAIRS, 640, 128)
    assert "23 bits" in HILO.applies(layer.op)
    assert candidate_recipes(layer.op, M4)[0].name == "pairs"
    (executed,) = measure_emulated([layer])
    assert executed / layer.op.macs() <= 1.3


@pytest.mark.parametrize(
    ("inputs", "outputs", "most"), [(128, 128, 1.1), (8, 128, 2.6), (128, 640, 1.1), (64, 12, 1.4)]
)
def test_instructions_are_few_and_costs_honest(inputs: int, outputs: int, most: float) -> None:
    for recipe in (HILO, PAIRS):
        layer = case(7, recipe, inputs, outputs)
        (executed,) = measure_emulated([layer])
        stated = recipe.cost(layer.op, M4)
        assert executed == pytest.approx(stated.instructions, rel=0.1)
        assert executed / layer.op.macs() <= most + (0.3 if recipe is PAIRS else 0)
        assert layer.bound.constant_bytes == (inputs + 4) * outputs + 12


def test_what_the_recipes_refuse() -> None:
    op = case(8, HILO, 9, 6).op
    assert HILO.applies(op) == PAIRS.applies(op) == ""
    assert "rounding" in PAIRS.applies(replace(op, rounding="tflite-single"))
    assert "whole words" in PAIRS.applies(case(9, PAIRS, 9, 6, rows=2).op)
    assert "shift" in PAIRS.applies(case(10, PAIRS, 9, 6, result=(1e-6, 0)).op)


@pytest.mark.slow
def test_many_random_layers_on_an_emulated_core() -> None:
    measure_emulated(random_cases(102, 150))
