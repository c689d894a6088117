"""Tables of tuned parameters: what is in them was declared, acts, and is what the tuner finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luciole.errors import CompileError
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.conv import Conv2d
from luciole.targets.armv7em.pointwise import PointwiseHiLo
from luciole.targets.base import candidate_recipes, recipes, tuned
from luciole.targets.scalar.conv import TiledConv
from luciole.targets.scalar.machine import THUMB2
from luciole.targets.tuning import load_tuning, tuning_text
from luciole.tuner import Trial, best_of, tune

M4 = find_target("cortex-m4")


def trial(words: str, value: int, cycles: int, is_usual: bool = False) -> Trial:
    return Trial("some", words, (("unroll", value),), cycles, cycles, is_usual)


def test_the_fewest_cycles_are_kept_where_they_gain_something() -> None:
    trials = [trial("a", 8, 1000, True), trial("a", 16, 900), trial("a", 4, 900), trial("b", 8, 1000, True)]
    trials += [trial("b", 16, 998)]
    assert best_of(trials) == {"some": {"a": {"unroll": 4}}}
    assert tuning_text("cortex-m4", best_of(trials)).endswith('\n[some."a"]\nunroll = 4\n')


@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m33"])
def test_cores_with_the_same_instructions_have_one_table(target: str) -> None:
    assert load_tuning(target) == load_tuning("cortex-m4")


def test_tables_name_what_recipes_declare() -> None:
    table, known = load_tuning("cortex-m4"), {r.recipe.name: r.recipe for r in recipes() if r.recipe.parameter_space}
    assert table
    for name, classes in table.items():
        layers = known[name].tuning_layers(Samples())
        assert set(classes) <= {known[name].shape_class(op) for op in layers}
        for parameters in classes.values():
            assert all(value in known[name].parameter_space[key] for key, value in parameters.items())


def test_recipes_take_their_parameters_from_the_table() -> None:
    usual = PointwiseHiLo()
    by_class = {usual.shape_class(op): op for op in usual.tuning_layers(Samples())}
    for words, op in by_class.items():
        given = load_tuning("cortex-m4")["pointwise_hilo"].get(words, {})
        assert tuned(usual, op, M4) == replace(usual, **given)
        assert tuned(usual, op, M4) in candidate_recipes(op, M4)
        assert tuned(usual, op, find_target("cortex-m3")) == usual
    assert any(tuned(usual, op, M4) != usual for op in by_class.values())


def test_a_tile_that_is_asked_for_is_taken_where_it_is_possible() -> None:
    usual = next(r.recipe for r in recipes() if isinstance(r.recipe, TiledConv) and r.recipe.machine is THUMB2)
    assert isinstance(usual, TiledConv)
    (op, *_) = usual.tuning_layers(Samples())
    assert isinstance(op, Conv2d)
    tiles = {tile: replace(usual, tile=tile)._plan(op).rows for tile in (0, 32, 88)}
    assert (tiles[32].pixels, tiles[32].channels) == (3, 2)
    assert (tiles[0].pixels, tiles[0].channels) == (tiles[88].pixels, tiles[88].channels) != (3, 2)


def test_what_cannot_be_emulated_cannot_be_tuned() -> None:
    with pytest.raises(CompileError, match="kernels are tuned on emulated cores; native is none"):
        tune(find_target("native"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "only"),
    [
        ("cortex-m3", "3x3 stride 2"),
        ("cortex-m4", "few channels"),
        ("cortex-m4", "3x3 stride 2, some"),
        ("cortex-m4", "1x1 stride 2, 32"),
    ],
)
def test_the_table_is_what_the_tuner_finds(target: str, only: str) -> None:
    trials = tune(find_target(target), only)
    found, in_use = best_of(trials), load_tuning(target)
    for recipe, words in {(t.recipe, t.shape_class) for t in trials}:
        assert found.get(recipe, {}).get(words) == in_use.get(recipe, {}).get(words), words
