"""Addition by proven coefficients: equal bits for all pairs of operands, on every path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.arithmetic import ROUNDINGS
from luciole.ir.target import find_target
from luciole.ops.elementwise import Add, BinaryOperator, Sub
from luciole.targets.armv7em.add import AddExhaustive, SubExhaustive
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

RECIPES = {Add: AddExhaustive(), Sub: SubExhaustive()}


def case(
    kind: type[BinaryOperator],
    shape: tuple[int, ...],
    scales: tuple[float, float, float] = (0.0313, 0.0527, 0.0641),
    zeros: tuple[int, int, int] = (-128, 5, -128),
    activation: str = "none",
    repeated: tuple[int, ...] | None = None,
) -> RecipeCase:
    """A sum of random data; the second operand has the shape `repeated`, if it is given."""
    s = Samples(sum(shape))
    a, b = (s.i8(*size, scale=scales[i], zero=zeros[i]) for i, size in enumerate((shape, repeated or shape)))
    op = kind(a, b, activation=activation, quant=s.quant(scales[2], zeros[2]))
    return RecipeCase(op, s, RECIPES[kind])


def all_pairs(
    kind: type[BinaryOperator], scales: tuple[float, float, float], zeros: tuple[int, int, int]
) -> RecipeCase:
    """A sum of every pair of operands."""
    every = case(kind, (65536,), scales, zeros)
    numbers = np.arange(-128, 128, dtype=np.int8)
    for value, data in zip(every.op.operands, np.meshgrid(numbers, numbers), strict=True):
        every.samples.arrays[value][:] = data.reshape(-1)
    return every


def random_parameters(seed: int, count: int) -> list[tuple[tuple[float, float, float], tuple[int, int, int]]]:
    """Scales far apart and near each other, zero points up to the ends."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        scales = tuple(float(np.float32(0.05 * 2 ** random.uniform(-3, 3))) for _ in range(3))
        zeros = tuple(int(random.choice([-128, 127, 0, int(random.integers(-128, 128))])) for _ in range(3))
        found.append((scales, zeros))
    return found  # type: ignore[return-value]  # three of each


def small_cases() -> list[RecipeCase]:
    """Shapes with and without a rest, clamps, both operators."""
    return [
        case(Add, (1,)),
        case(Add, (7,), activation="relu6"),
        case(Sub, (2, 3, 4), zeros=(1, 127, 0)),
        case(Sub, (5, 5), activation="relu", zeros=(1, -128, 10)),
        case(Add, (4, 16), scales=(0.05, 0.05, 0.05), zeros=(0, 0, 0)),
        case(Add, (2, 3, 8), repeated=(1, 8)),
        case(Sub, (2, 3, 7), repeated=(7,), activation="relu"),
        case(Add, (5, 3), repeated=(3,)),
    ]


def test_small_sums_in_the_interpreter() -> None:
    check_interpreted(small_cases())


def test_small_sums_as_c(tmp_path: Path) -> None:
    check_as_c(small_cases(), tmp_path)


def test_small_sums_on_an_emulated_core() -> None:
    measure_emulated(small_cases())


@pytest.mark.parametrize("kind", [Add, Sub])
def test_all_pairs_of_operands_on_an_emulated_core(kind: type[BinaryOperator]) -> None:
    applied = 0
    for parameters in random_parameters(3, 12):
        every = all_pairs(kind, *parameters)
        if not RECIPES[kind].applies(every.op):
            measure_emulated([every])
            applied += 1
    assert applied >= 9


def test_scales_whose_sums_end_in_halves() -> None:
    """Powers of two, with zero points that put halves on both sides of zero."""
    for kind, scales in ((Add, (0.25, 0.25, 0.5)), (Sub, (0.0625, 0.125, 0.25)), (Add, (0.5, 0.125, 1.0))):
        every = all_pairs(kind, scales, (3, -7, 11))
        assert RECIPES[kind].constants(every.op)["factors"][3] != 0
        measure_emulated([every])


def test_every_rounding_is_proven_on_its_own() -> None:
    for rounding in ROUNDINGS:
        every = all_pairs(Add, (0.03137, 0.09021, 0.07177), (3, -7, 11))
        if rounding != "onnx":
            assert RECIPES[Add].applies(replace(every.op, rounding=rounding)) == ""


def test_instructions_are_few_and_costs_honest() -> None:
    layer = case(Add, (1, 16, 16, 32), activation="relu")
    (executed,) = measure_emulated([layer])
    assert executed / layer.expected.size <= 6.5
    assert executed == pytest.approx(RECIPES[Add].cost(layer.op, find_target("cortex-m4")).instructions, rel=0.1)


def test_what_the_recipe_refuses() -> None:
    s = Samples(1)
    assert "leading axes" in RECIPES[Add].applies(Add(s.i8(2, 3, 4), s.i8(3, 1), quant=s.quant(0.1)))
    tiny = Add(s.i8(4, scale=1000.0), s.i8(4, scale=0.001), quant=s.quant(1e-4))
    assert "no coefficients" in RECIPES[Add].applies(tiny)
