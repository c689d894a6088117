"""Sums, differences and products of int8 tensors with vectors: the operator's own arithmetic, over one axis."""

from __future__ import annotations

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.builder import LoopBuilder
from luciole.ops.elementwise import BinaryOperator
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Elements of a vector, and executed instructions for them.
LANES, INSTRUCTIONS = 32, 36


@kernel("add", DType.I8, needs={"rvv"})
@kernel("sub", DType.I8, needs={"rvv"})
@kernel("mul", DType.I8, needs={"rvv"})
class ElementwiseVectors(KernelRecipe):
    """Two tensors of one shape."""

    name = "vectors"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, BinaryOperator)
        if op.a.type.shape != op.b.type.shape:
            return "the operands have different shapes"
        return "" if op.rounding == "tflite" else f"rounding is {op.rounding}"

    def constants(self, op: Operator) -> dict[str, Array]:
        return {name: v.data.reshape(-1) for name, v in op.named_operands() if v.data is not None}

    def shapes(self, op: Operator) -> dict[str, Shape]:
        count = op.result_types()[0].elements
        return {name: (count,) for name in ("a", "b", "y")}

    def in_place(self, op: Operator) -> tuple[str, ...]:
        return tuple(name for name, _ in self.activations(op))

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loop."""
        vectors = -(-op.result_types()[0].elements // LANES)
        # Most instructions work on eight registers, a cycle each.
        return Cost(INSTRUCTIONS * vectors + 20, 6 * INSTRUCTIONS * vectors)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, BinaryOperator)
        with k.loop("i", op.result_types()[0].elements, is_vector=True) as i:
            v.y[i] = op.element(v, v.a[i], v.b[i])
