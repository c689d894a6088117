"""Costs that kernels state, held against machine code and emulated cores."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.bundle.check import inspect_object
from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.target import Target, find_target
from luciole.kernel.transform import expand_long_multiply
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add
from luciole.ops.matmul import FullyConnected
from luciole.targets.base import Alternative, alternatives
from support.recipe_cases import RecipeCase, measure_emulated

#: How far estimated instructions may be from executed ones, either way: of recipes, and of generic kernels.
RECIPE_FACTOR, GENERIC_FACTOR = 1.25, 1.8
#: How far estimated bytes of code may be off.
CODE_FACTOR = 2.0


def layers() -> list[tuple[Operator, Samples]]:
    """Layers as models for microcontrollers have them."""
    s = Samples(5)

    def weights(*shape: int) -> Conv2d | object:
        w = s.i8_weights(*shape, axis=0 if len(shape) == 4 else None, scale=0.01)
        assert w.data is not None
        return s.constant((w.data // 3).astype(np.int8), w.type.quant)

    x, pads = s.i8(1, 9, 8, 16, zero=-128), (1, 1, 1, 1)
    quant = s.quant(0.9, -128)
    depthwise = s.i8_weights(1, 3, 3, 16, axis=3, scale=0.02)
    vector = s.i8(1, 64, zero=3)
    return [
        (Conv2d(x, weights(16, 3, 3, 16), s.i32_bias(16), pads=pads, quant=quant), s),  # type: ignore[arg-type]  # a value
        (Conv2d(x, weights(24, 1, 1, 16), s.i32_bias(24), quant=quant), s),  # type: ignore[arg-type]  # a value
        (DepthwiseConv2d(x, depthwise, s.i32_bias(16), pads=pads, quant=quant), s),
        (FullyConnected(vector, weights(24, 64), s.i32_bias(24), quant=quant), s),  # type: ignore[arg-type]  # a value
        (Add(x, s.i8(1, 9, 8, 16, zero=5), quant=s.quant(0.1, 2)), s),
    ]


def code_bytes(alternative: Alternative, target: Target) -> int:
    """Bytes of a kernel's machine code."""
    kernel = alternative.bound.kernel
    if not target.has("long_multiply"):
        kernel = expand_long_multiply(kernel)
    module = LlvmModule(print_kernel_llvm(kernel, "kernel", target), not kernel.is_scheduled)
    return inspect_object(compile_object([module], target)).code_bytes


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "rv32imc"])
def test_estimates_are_close_to_emulated_cores(core: str) -> None:
    target, wrong = find_target(core), []
    for op, s in layers():
        for alternative in alternatives(op, target):
            cost, recipe = alternative.cost, alternative.recipe
            (executed,) = measure_emulated([RecipeCase(op, s, recipe)], core)
            factor = GENERIC_FACTOR if recipe.name == "generic" else RECIPE_FACTOR
            ratios = cost.instructions / executed, alternative.code_bytes / code_bytes(alternative, target)
            if not (1 / factor <= ratios[0] <= factor and 1 / CODE_FACTOR <= ratios[1] <= CODE_FACTOR):
                wrong.append(f"{op.kind} by {alternative.words}: {ratios[0]:.2f} {ratios[1]:.2f}")
            assert cost.cycles >= cost.instructions
    assert not wrong, "\n".join(wrong)


def test_alternatives_come_fastest_first_and_trade_bytes_for_cycles() -> None:
    (convolution, _), *_ = layers()
    found = alternatives(convolution, find_target("cortex-m4"))
    assert [a.cost.cycles for a in found] == sorted(a.cost.cycles for a in found)
    assert found[0].recipe.trades_memory and found[-1].recipe.name == "generic"
    assert not any(
        a.recipe.trades_memory for a in alternatives(convolution, find_target("cortex-m4"), may_trade_memory=False)
    )
    assert len({a.bound.kernel for a in found}) == len(found)
    quick = alternatives(convolution, find_target("cortex-m4"), may_trade_memory=False, is_quick=True)
    assert {a.recipe.name for a in quick} == {"hilo"} and any("is_lean" in a.words for a in quick)
