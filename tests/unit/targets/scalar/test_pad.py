"""Borders by words: equal bits on every path, whatever sizes the runs have."""

from __future__ import annotations

from pathlib import Path

import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.pad import Pad
from luciole.targets.base import candidate_recipes
from luciole.targets.scalar.pad import PadUnits, PadWords
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

#: Shape, elements before and after along each axis.
BORDERS = (
    ((1, 5, 4, 8), (0, 1, 1, 0), (0, 2, 1, 0)),
    ((1, 5, 4, 6), (0, 0, 1, 0), (0, 1, 2, 0)),
    ((1, 3, 4, 5), (0, 1, 1, 0), (0, 1, 1, 0)),
    ((2, 3, 3), (1, 0, 2), (0, 1, 5)),
    ((2, 1, 4, 4), (0, 0, 0, 0), (0, 0, 0, 12)),
    ((37,), (3,), (70,)),
    ((148,), (0,), (4,)),
    ((1, 1), (0, 0), (0, 0)),
)


def cases(recipe: PadUnits) -> list[RecipeCase]:
    """The borders that a recipe takes."""
    found = []
    for seed, (shape, before, after) in enumerate(BORDERS):
        s = Samples(seed)
        op = Pad(s.i8(*shape, zero=(-128, 5, 127)[seed % 3]), before, after)
        if not recipe.applies(op):
            found.append(RecipeCase(op, s, recipe))
    return found


@pytest.mark.parametrize("recipe", [PadUnits(), PadWords()], ids=["units", "words"])
def test_borders_on_every_path(recipe: PadUnits, tmp_path: Path) -> None:
    taken = cases(recipe)
    assert len(taken) >= 4
    check_interpreted(taken)
    check_as_c(taken, tmp_path)
    measure_emulated(taken)


@pytest.mark.parametrize(
    ("recipe", "channels", "most"), [(PadUnits(), 16, 0.7), (PadUnits(), 6, 1.6), (PadWords(), 3, 1.4)]
)
def test_instructions_are_few_and_costs_honest(recipe: PadUnits, channels: int, most: float) -> None:
    s = Samples(1)
    layer = RecipeCase(Pad(s.i8(1, 12, 12, channels), (0, 1, 1, 0), (0, 1, 1, 0)), s, recipe)
    (executed,) = measure_emulated([layer])
    assert executed <= most * layer.expected.size
    assert executed == pytest.approx(recipe.cost(layer.op, find_target("cortex-m4")).instructions, rel=0.25)


def test_who_takes_which() -> None:
    s = Samples(1)
    odd = Pad(s.i8(1, 4, 4, 3), (0, 1, 1, 0), (0, 1, 1, 0))
    even = Pad(s.i8(1, 4, 4, 4), (0, 1, 1, 0), (0, 1, 1, 0))
    names = {
        core: [[recipe.name for recipe in candidate_recipes(op, find_target(core))] for op in (odd, even)]
        for core in ("cortex-m0plus", "cortex-m4", "x86-64")
    }
    assert names == {"cortex-m0plus": [[], ["units"]], "cortex-m4": [["words"], ["units"]], "x86-64": [[], []]}
