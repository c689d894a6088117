"""Hand-scheduled layers with the rounding of onnxruntime: in the interpreter, as C here, on an emulated core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.armv7em.hilo import requantization_problem
from luciole.targets.base import candidate_recipes
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated


def operators(s: Samples) -> list[Operator]:
    """Layers of many pixels and of few, with many multipliers and with one, even and odd channels, clamps."""
    quant = s.quant(0.3, -7)
    return [
        Conv2d(s.i8(1, 9, 9, 4, zero=5), s.i8_weights(6, 3, 3, 4), s.i32_bias(6), pads=(1, 1, 1, 1), quant=quant),
        Conv2d(s.i8(1, 3, 3, 4), s.i8_weights(5, 3, 3, 4, axis=None), s.i32_bias(5), activation="relu", quant=quant),
        Conv2d(s.i8(1, 9, 9, 8, zero=-128), s.i8_weights(6, 1, 1, 8), None, activation="relu6", quant=quant),
        Conv2d(s.i8(1, 2, 2, 8), s.i8_weights(6, 1, 1, 8), s.i32_bias(6), quant=s.quant(0.25, 127)),
        DepthwiseConv2d(
            s.i8(1, 7, 6, 8, zero=3), s.i8_weights(1, 3, 3, 8, axis=3), s.i32_bias(8), pads=(1, 1, 1, 1), quant=quant
        ),
        FullyConnected(s.i8(1, 32, zero=-128), s.i8_weights(7, 32), s.i32_bias(7), quant=quant),
    ]


def cases() -> list[RecipeCase]:
    """The layers by the recipes that apply to them."""
    s, target, found = Samples(3), find_target("cortex-m4"), []
    for op in operators(s):
        rounded = replace(op, rounding="onnx")  # type: ignore[call-arg]  # all of them have it
        recipes = candidate_recipes(rounded, target)
        assert recipes, f"no recipe applies to {op}"
        found += [RecipeCase(rounded, s, recipe) for recipe in recipes]
    return found


def test_in_the_interpreter() -> None:
    check_interpreted(cases()[:3])


def test_as_c(tmp_path: Path) -> None:
    check_as_c(cases(), tmp_path)


def test_on_an_emulated_core() -> None:
    measure_emulated(cases())


def test_sums_that_no_float_holds_are_left_to_other_kernels() -> None:
    s = Samples(1)
    x, w = s.i8(1, 4, 4, 4), s.i8_weights(4, 1, 1, 4)
    bias = s.constant(np.full(4, 1 << 28, np.int32))
    op = Conv2d(x, w, bias, rounding="onnx", quant=s.quant(4000.0))
    assert requantization_problem(op.sums()) == "sums may exceed what float32 holds"
    measure_emulated([RecipeCase(op, s, recipe) for recipe in candidate_recipes(op, find_target("cortex-m4"))])
