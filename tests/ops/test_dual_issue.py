"""Cortex-M7 executes as many instructions as Cortex-M4: its schedule for two instructions a cycle neither spills nor
parts loads that pair.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from luciole.emulate.kernel import measure_kernel
from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.armv7em import hilo
from luciole.targets.armv7em.depthwise import DepthwisePairedPlanes
from luciole.targets.armv7em.fc import FullyConnectedHiLo
from luciole.targets.armv7em.pointwise import PointwiseHiLo
from luciole.targets.armv7em.winograd import ConvWinograd
from luciole.targets.base import KernelRecipe, build_kernel

#: Executed instructions on Cortex-M7 over those on Cortex-M4, at most.
MOST = 1.02


def _fully_connected(s: Samples) -> Operator:
    weights = s.i8_weights(64, 128, axis=None)
    assert weights.data is not None
    small = s.constant((weights.data // 4).astype(np.int8), weights.type.quant)
    return FullyConnected(s.i8(1, 128, zero=-128), small, s.i32_bias(64), quant=s.quant(0.15, 12))


def _depthwise(s: Samples) -> Operator:
    return DepthwiseConv2d(
        s.i8(1, 12, 12, 16, zero=-128),
        s.i8_weights(1, 3, 3, 16, axis=3),
        s.i32_bias(16),
        pads=(1, 1, 1, 1),
        quant=s.quant(0.1),
    )


LAYERS: dict[str, tuple[KernelRecipe, Callable[[Samples], Operator]]] = {
    "fully connected": (FullyConnectedHiLo(), _fully_connected),
    "pointwise": (PointwiseHiLo(unroll=32), lambda s: hilo.tuning_layer(s, 6, 64, 16)),
    "winograd": (ConvWinograd(), lambda s: hilo.tuning_layer(s, 8, 32, 8, 3)),
    "depthwise": (DepthwisePairedPlanes(), _depthwise),
}


@pytest.mark.parametrize("name", LAYERS)
def test_cortex_m7_executes_as_many_instructions_as_cortex_m4(name: str) -> None:
    recipe, layer = LAYERS[name]
    s = Samples(1)
    op = layer(s)
    bound = build_kernel(op, recipe)
    arrays = {name: s.arrays[value] for name, value in bound.activations} | dict(bound.constants)
    counts, results = [], []
    for target in ("cortex-m4", "cortex-m7"):
        measured, got = measure_kernel(bound.kernel, find_target(target), arrays)
        counts.append(measured.instructions)
        results.append(got)
    assert results[0] == results[1]
    assert counts[1] <= MOST * counts[0], f"{counts[1]} over {counts[0]}"
