"""Finds parameters of recipes by running their kernels on emulated cores: `luciole tune`.

Every recipe names the classes of layers that are tuned alike, layers that stand for them, and the values that its
parameters may have. Of each class, the values that take the fewest cycles over its layers are kept, if they gain more
than the noise of the estimate; the result is the same on every machine.

LLVM's loop strength reduction is no parameter: it is on or off for a whole object. Off, the five benchmark models take
from 1.4 % fewer instructions (ad_ae, Cortex-M4; ic_resnet8, Cortex-M3) to 5 % more (sww, Cortex-M4) with `speed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from luciole.emulate.kernel import measure_kernel
from luciole.errors import EXIT_UNSUPPORTED, CompileError, InternalError
from luciole.graph.core import Operator
from luciole.graph.interpret import compute_operator
from luciole.graph.samples import Samples
from luciole.ir.target import Target
from luciole.targets.base import KernelRecipe, Registration, build_kernel, recipes

#: Other parameters must need fewer cycles than the usual ones by this share.
LEAST_GAIN = 0.005


@dataclass(frozen=True)
class Trial:
    """Parameters tried on the layers of a class, and what they took; cycles are instructions where no model of the
    core's cycles exists.
    """

    recipe: str
    shape_class: str
    parameters: tuple[tuple[str, int], ...]
    instructions: int
    cycles: int
    is_usual: bool


def tune(target: Target, only: str = "", tell: Callable[[str], None] = lambda text: None) -> list[Trial]:
    """All trials for a target; with `only`, of classes whose name has that text. Raises `CompileError` for a target
    without an emulated core.
    """
    if not target.emulated_core:
        raise CompileError.of(
            "not-runnable",
            f"kernels are tuned on emulated cores; {target.name} is none",
            help="name one such as cortex-m4; see `luciole targets`",
            exit_code=EXIT_UNSUPPORTED,
        )
    trials: list[Trial] = []
    tuned: set[str] = set()
    for registration in recipes():
        recipe = registration.recipe
        # Recipes of one name, which differ in what they spare, share a table.
        if recipe.parameter_space and registration.fits(target) and recipe.suits(target) and recipe.name not in tuned:
            tuned.add(recipe.name)
            for words, layers in _classes(registration).items():
                if only in words:
                    tell(f"{recipe.name}: {words}")
                    trials += [_trial(recipe, words, layers, values, target) for values in _settings(recipe)]
    return trials


def best_of(trials: list[Trial]) -> dict[str, dict[str, dict[str, int]]]:
    """The table of what was tried: of each class the parameters of the fewest cycles, where the usual ones are not."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for recipe, words in dict.fromkeys((t.recipe, t.shape_class) for t in trials):
        some = [t for t in trials if (t.recipe, t.shape_class) == (recipe, words)]
        (usual,) = [t for t in some if t.is_usual]
        best = min(some, key=lambda t: (t.cycles, t.parameters))
        if best.cycles < (1 - LEAST_GAIN) * usual.cycles:
            found.setdefault(recipe, {})[words] = dict(best.parameters)
    return found


def _classes(registration: Registration) -> dict[str, list[tuple[Operator, Samples]]]:
    """The layers that a recipe is tuned on, by class."""
    s, classes = Samples(1), dict[str, list[tuple[Operator, Samples]]]()
    for op in registration.recipe.tuning_layers(s):
        if registration.recipe.applies(op):
            raise InternalError(f"{registration.recipe.name} is tuned on {op}, which it cannot compute")
        classes.setdefault(registration.recipe.shape_class(op), []).append((op, s))
    return classes


def _settings(recipe: KernelRecipe) -> list[dict[str, int]]:
    names = list(recipe.parameter_space)
    return [dict(zip(names, values, strict=True)) for values in product(*recipe.parameter_space.values())]


def _trial(
    recipe: KernelRecipe, words: str, layers: list[tuple[Operator, Samples]], values: dict[str, int], target: Target
) -> Trial:
    instructions = cycles = 0
    tried: KernelRecipe = replace(recipe, **values)  # type: ignore[type-var]  # recipes with parameters are dataclasses
    for op, samples in layers:
        bound = build_kernel(op, tried)
        arrays = {name: samples.arrays[value] for name, value in bound.activations} | dict(bound.constants)
        measured, got = measure_kernel(bound.kernel, target, arrays)
        (expected,) = compute_operator(op, samples.arrays | {v: v.data for v in op.operands if v.data is not None})
        if got != np.ascontiguousarray(expected).tobytes():
            raise InternalError(f"{recipe.name} with {values} computes {op} wrongly")
        instructions += measured.instructions
        cycles += measured.estimated_cycles or measured.instructions
    is_usual = all(value == recipe.parameter_space[name][0] for name, value in values.items())
    return Trial(recipe.name, words, tuple(values.items()), instructions, cycles, is_usual)
