"""Multiplication of int8 on cores with the DSP extension: seven to eight instructions an element.

Four elements of each operand are widened to halves, centered, the first one doubled, so that a product of two halves is
what SMMLAR rounds as the doubling high multiply does; see `hilo.requantized`. The shift stands in the code, where it is
free before a saturation.
"""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr
from luciole.ops.elementwise import Mul
from luciole.targets.armv7em import hilo
from luciole.targets.armv7em.intrinsics import high_half, low_half
from luciole.targets.armv7em.pairs import GROUP, Pairs, pair_loop, pairs_of
from luciole.targets.base import Cost, KernelRecipe, kernel


@kernel("mul", DType.I8, needs={"dsp"})
class MulHalves(KernelRecipe):
    """Multiplication of operands of equal shape, or of one by another that is repeated over leading axes."""

    name = "halves"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Mul)
        if pairs_of(op) is None:
            return "an operand is repeated along other than leading axes"
        if op.rounding != "tflite":
            return f"rounding is {op.rounding}"
        requantizer = op.requantizer()
        (multiplier,) = requantizer.multipliers
        if not hilo.MINIMUM_RIGHT_SHIFT <= -multiplier.shift <= hilo.MAXIMUM_RIGHT_SHIFT:
            return "the shift is outside 1..23 to the right"
        return ""

    def _pairs(self, op: Operator) -> Pairs:
        """How the operands of an operator that the recipe applies to meet."""
        assert isinstance(op, Mul)
        pairs = pairs_of(op)
        assert pairs is not None
        return pairs

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Mul)
        requantizer = op.requantizer()
        ((multiplier, shift),) = requantizer.multipliers
        first, second, _ = op.quants()
        offsets = [hilo.offsets_word(-2 * first.zero_point), hilo.offsets_word(-second.zero_point)]
        rounding = (2 * requantizer.zero_point + 1) << (-shift - 1)
        operands = {name: value.data for name, value in op.named_operands() if value.data is not None}
        return operands | {"factors": np.array([multiplier, rounding, *offsets], np.int32)}

    def alignments(self, op: Operator) -> dict[str, int]:
        return self._pairs(op).alignments(op)

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        return self._pairs(op).overlap_bytes(op)

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loop below."""
        assert isinstance(op, Mul)
        pairs, requantizer = self._pairs(op), op.requantizer()
        clamps = 0 if (requantizer.low, requantizer.high) == (-128, 127) else 4
        instructions = pairs.instructions(2 + 6 + 4 * (5 + clamps), 11 + clamps)
        return Cost(instructions, int(1.3 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Mul)
        pairs, requantizer = self._pairs(op), op.requantizer()
        ((_, shift),) = requantizer.multipliers
        first, second, _ = op.quants()
        a, b, out = (k.define(n, view.address()) for n, view in (("a", v.a), ("b", v.b), ("out", v.y)))
        source = k.define("factors", v.factors.address())
        names = ("multiplier", "rounding", "first_offsets", "second_offsets")
        multiplier, rounding, *offsets = (k.define(n, k.read(source, 4 * i, DType.I32)) for i, n in enumerate(names))

        def store(offset: int, doubled: Expr) -> None:
            total = k.define("doubled", doubled)
            value = hilo.requantized(requantizer, total, multiplier, rounding, Constant(-shift, DType.I32))
            k.write(out, offset, value.cast(DType.I8))

        def words(count: int) -> None:
            for word in range(0, GROUP * count, GROUP):
                k.fence()
                left, right = (k.define("word", k.read(p, word, DType.I32, pairs.alignment)) for p in (a, b))
                for odd in (0, 1):
                    x = k.define("x", hilo.widened_pair(left, offsets[0], 2, odd=bool(odd)))
                    y = k.define("y", hilo.widened_pair(right, offsets[1], 1, odd=bool(odd)))
                    store(word + odd, low_half(x) * low_half(y))
                    store(word + odd + 2, high_half(x) * high_half(y))

        def single(offset: int) -> None:
            x, y = (
                k.define("centered", k.read(p, offset, DType.I8).cast(DType.I32) - quant.zero_point)
                for p, quant in ((a, first), (b, second))
            )
            store(offset, x * y << 1)

        pair_loop(k, pairs, {"a": a, "b": b}, out, words, single)
