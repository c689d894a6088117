"""Averages and maxima of int8 windows with vectors of channels; the loops are those of `mve.pool`."""

from __future__ import annotations

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.targets.base import Cost, KernelRecipe, kernel
from luciole.targets.mve.pool import (
    average_constants,
    average_problem,
    emit_average_pool,
    emit_max_pool,
    pool_instructions,
)

#: Windows without padding over fewer channels than this are left to LLVM, which finds vectors across pixels, too.
FEWEST_CHANNELS = 16
#: Lanes of sums in eight registers, and of bytes in four.
SUM_LANES, BYTE_LANES = 32, 64


@kernel("average_pool2d", DType.I8, needs={"rvv"})
class AveragePoolVectors(KernelRecipe):
    """Average pools of as many taps as the division allows."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, AveragePool2d)
        if not op.window.has_padding and op.x.type.shape[3] < FEWEST_CHANNELS:
            return "channels are few and windows lie inside"
        return average_problem(op)

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, AveragePool2d)
        return average_constants(op)

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, AveragePool2d)
        instructions = pool_instructions(op, SUM_LANES, tap=4, finish=20)
        return Cost(instructions, 4 * instructions)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, AveragePool2d)
        emit_average_pool(k, op, v, SUM_LANES, SUM_LANES)


@kernel("max_pool2d", DType.I8, needs={"rvv"})
class MaxPoolVectors(KernelRecipe):
    """Maximum pools whose windows reach outside; LLVM makes vectors of the loops of the others."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, MaxPool2d)
        return "" if op.window.has_padding else "windows lie inside"

    def constants(self, op: Operator) -> dict[str, Array]:
        return {}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops."""
        assert isinstance(op, MaxPool2d)
        instructions = pool_instructions(op, BYTE_LANES, tap=3, finish=4)
        return Cost(instructions, 3 * instructions)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, MaxPool2d)
        emit_max_pool(k, op, v, BYTE_LANES)
