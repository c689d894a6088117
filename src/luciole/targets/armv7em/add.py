"""Addition and subtraction of int8 on cores with the DSP extension: five to six instructions an element.

The operator's law rounds both scaled operands, then their sum. Here a result is

    saturate((floor(A * a / 2**8) + floor(B * b / 2**8) + C) >> S)

with A and B the real factors times 2**(S + 8), which keeps about 20 bits behind the point. Whether that is the same
is no matter of bounds: all 65536 pairs of operands are computed by the law at compile time, each of them says between
which numbers C must lie, and the recipe applies if one C satisfies all. It does for most scales. Where it does not, as
where scales are powers of two and many sums end in exactly one half, C is split: the sum is centered first, and one is
taken from negative sums, so that halves round away from zero.

SMLAWB multiplies a word by a half and drops 16 bits, so that elements need to stand in the upper bytes of halves only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from luciole.graph.core import Operator, Value, Views
from luciole.ir.arithmetic import Rounding
from luciole.ir.quant import Quant
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, clamp
from luciole.ops import common
from luciole.ops.elementwise import Add, BinaryOperator, Sub
from luciole.targets.armv7em.intrinsics import saturate_byte, smlawb, smlawt
from luciole.targets.armv7em.pairs import GROUP, Pairs, pair_loop, pairs_of
from luciole.targets.base import Cost, KernelRecipe, kernel

#: The upper bytes of both halves.
UPPER_BYTES = 0xFF00FF00 - (1 << 32)
#: Bits behind the point that are tried, and steps by which factors are moved when the nearest ones do not fit.
SHIFTS = range(23, 14, -1)
FACTOR_STEPS = (0, 1, -1, 2, -2, 4, -4)


@dataclass(frozen=True)
class Coefficients:
    """The numbers A, B, C and S of the module's formula; `center` is added before the sign is looked at, if it is."""

    first: int
    second: int
    constant: int
    shift: int
    center: int | None = None


class _Sum(KernelRecipe):
    """What addition and subtraction share."""

    name = "exhaustive"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, BinaryOperator)
        if pairs_of(op) is None:
            return "an operand is repeated along other than leading axes"
        return "" if _coefficients_of(op) is not None else "no coefficients give the same for all pairs of operands"

    def constants(self, op: Operator) -> dict[str, Array]:
        found = self._found(op)
        operands = {name: value.data for name, value in op.named_operands() if value.data is not None}
        numbers = [found.first, found.second, found.constant, found.center or 0, UPPER_BYTES]
        return operands | {"factors": np.array(numbers, np.int32)}

    def _found(self, op: Operator) -> Coefficients:
        """The coefficients of an operator that the recipe applies to."""
        assert isinstance(op, BinaryOperator)
        found = _coefficients_of(op)
        assert found is not None
        return found

    def _pairs(self, op: Operator) -> Pairs:
        """How the operands of an operator that the recipe applies to meet."""
        assert isinstance(op, BinaryOperator)
        pairs = pairs_of(op)
        assert pairs is not None
        return pairs

    def alignments(self, op: Operator) -> dict[str, int]:
        return self._pairs(op).alignments(op)

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        return self._pairs(op).overlap_bytes(op)

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loop below."""
        pairs = self._pairs(op)
        each = 4 * 4 + 2 + 4 + (0 if self._found(op).center is None else 8)
        instructions = pairs.instructions(each + (12 if _range_of(op) != (-128, 127) else 0), 12)
        return Cost(instructions, int(1.3 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        coefficients, pairs = self._found(op), self._pairs(op)
        a, b, out = (k.define(n, view.address()) for n, view in (("a", v.a), ("b", v.b), ("out", v.y)))
        names = ("first", "second", "constant", "center", "mask")
        factors = k.define("factors", v.factors.address())
        # The mask is read, so that compilers keep it in a register, where a shift on the way to it is free.
        first, second, constant, center, mask = (
            k.define(n, k.read(factors, 4 * i, DType.I32)) for i, n in enumerate(names)
        )
        begin = constant if coefficients.center is None else center

        def store(offset: int, total: Expr) -> None:
            if coefficients.center is not None:
                total = k.define("total", total)
                total = total + (total >> 31) + constant
            k.write(out, offset, _saturated(op, total >> coefficients.shift))

        def some(count: int) -> None:
            for word in range(0, GROUP * count, GROUP):
                k.fence()
                left, right = (k.define("word", k.read(p, word, DType.I32, pairs.alignment)) for p in (a, b))
                for odd in (0, 1):
                    halves = [k.define("halves", (w if odd else w << 8) & mask) for w in (left, right)]
                    for i, multiply_add in ((odd, smlawb), (odd + 2, smlawt)):
                        total = multiply_add(first, halves[0], begin)
                        store(word + i, multiply_add(second, halves[1], total))

        def single(offset: int) -> None:
            store(offset, _single(k, a, b, offset, (first, second, begin)))

        pair_loop(k, pairs, {"a": a, "b": b}, out, some, single)


def _single(k: LoopBuilder, a: Expr, b: Expr, offset: int, factors: tuple[Expr, Expr, Expr]) -> Expr:
    """The sum of one element of each operand."""
    left, right = (k.define("half", k.read(p, offset, DType.I8).cast(DType.I32) << 8) for p in (a, b))
    return smlawb(factors[1], right, smlawb(factors[0], left, factors[2]))


def _saturated(op: Operator, value: Expr) -> Expr:
    low, high = _range_of(op)
    limited = saturate_byte(value) if (low, high) == (-128, 127) else clamp(value, low, high)
    return limited.cast(DType.I8)


@kernel("add", DType.I8, needs={"dsp"})
class AddExhaustive(_Sum):
    """Addition of operands of equal shape, or where one is repeated over leading axes."""


@kernel("sub", DType.I8, needs={"dsp"})
class SubExhaustive(_Sum):
    """Subtraction of operands of equal shape, or where one is repeated over leading axes."""


def _range_of(op: Operator) -> tuple[int, int]:
    assert isinstance(op, BinaryOperator)
    return common.output_clamp(op, op.activation)


def _coefficients_of(op: BinaryOperator) -> Coefficients | None:
    return _coefficients(1 if isinstance(op, Add) else -1, *op.quants(), op.activation, op.rounding)


@lru_cache(maxsize=256)
def _coefficients(
    sign: int, first: Quant, second: Quant, result: Quant, activation: str, rounding: Rounding
) -> Coefficients | None:
    """Coefficients that are proven for all pairs of operands, or `None` where none of those tried is."""
    numbers = np.arange(-128, 128, dtype=np.int8)
    a, b = (x.reshape(-1) for x in np.meshgrid(numbers, numbers, indexing="ij"))
    left, right = (Value(n, TensorType(DType.I8, a.shape, q)) for n, q in (("a", first), ("b", second)))
    kind: type[BinaryOperator] = Add if sign > 0 else Sub
    op = kind(a=left, b=right, activation=activation, rounding=rounding, quant=result)
    wanted = op.compute(a, b).astype(np.int64)
    reals = (first.scale / result.scale, sign * second.scale / result.scale)
    for shift in SHIFTS:
        nearest = [round(real * 2 ** (shift + 8)) for real in reals]
        if max(map(abs, nearest)) + max(FACTOR_STEPS) >= 1 << 31:
            continue
        for step in FACTOR_STEPS:
            for other in FACTOR_STEPS:
                found = _fitting(nearest[0] + step, nearest[1] + other, shift, wanted, _range_of(op))
                if found is not None:
                    return found
        zeros = first.zero_point, second.zero_point
        center = -sum(factor * zero for factor, zero in zip(nearest, zeros, strict=True)) >> 8
        found = _fitting(nearest[0], nearest[1], shift, wanted, _range_of(op), center)
        if found is not None:
            return found
    return None


def _fitting(
    first: int, second: int, shift: int, wanted: Array, limits: tuple[int, int], center: int | None = None
) -> Coefficients | None:
    """The middle of the constants with which every sum gives the wanted result, if there are any.

    Results at a limit bound the constant on one side only, since what lies beyond is clamped.
    """
    numbers = np.arange(-128, 128, dtype=np.int64) << 8
    parts = (first * numbers) >> 16, (second * numbers) >> 16
    sums = (parts[0][:, None] + parts[1][None, :]).reshape(-1) + (center or 0)
    intermediate = [abs(int(v)) + abs(center or 0) for part in parts for v in (part[0], part[-1])]
    intermediate += [abs(int(sums.min())), abs(int(sums.max()))]
    if center is not None:
        sums -= sums < 0
    above, below = wanted > limits[0], wanted < limits[1]
    least = int(((wanted << shift) - sums)[above].max(initial=-(1 << 40)))
    most = int((((wanted + 1) << shift) - 1 - sums)[below].min(initial=1 << 40))
    if least > most:
        return None
    constant = min(max((least + most) // 2, -(1 << 31)), (1 << 31) - 1)
    largest = max(abs(int(sums.min()) + constant), abs(int(sums.max()) + constant))
    if center is None:
        intermediate = [value + abs(constant) for value in intermediate[:4]]
    if not least <= constant <= most or max(largest, *intermediate) >= (1 << 31) - 1:
        return None
    return Coefficients(first, second, constant, shift, center)
