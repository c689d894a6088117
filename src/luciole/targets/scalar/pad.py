"""Borders around int8 tensors on cores without vectors: runs of bytes are filled and copied by words.

The result is written from its first byte to its last, and x is read in the same order: a fill or a copy goes on where
the one before it ended. Where all runs are multiples of four (or two) bytes, all words (or halves) are aligned; else
words go to any place, on cores that allow it, and the last bytes of a run follow one by one.
"""

from __future__ import annotations

import math

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant
from luciole.ops.pad import Pad
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Bytes of a word.
WORD = 4
#: Units in one turn of a loop, at most.
UNROLL = 4
_TYPES = {1: DType.I8, 2: DType.I16, 4: DType.I32}


@kernel("pad", DType.I8, needs=set())
class PadUnits(KernelRecipe):
    """Runs whose sizes are all even, or multiples of four."""

    name = "units"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Pad)
        if not op.result_types()[0].elements or not op.x.type.elements:
            return "there is nothing to copy"
        return "" if _aligned_unit(op) > 1 else "runs of odd sizes"

    def constants(self, op: Operator) -> dict[str, Array]:
        return {} if (data := op.operands[0].data) is None else {"x": data}

    def alignments(self, op: Operator) -> dict[str, int]:
        assert isinstance(op, Pad)
        unit = _aligned_unit(op)
        return {"y": unit} if op.x.is_constant else {"x": unit, "y": unit}

    def _unit(self, op: Pad) -> int:
        """Bytes that are moved at a time."""
        return _aligned_unit(op)

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, Pad)
        unit, axes = self._unit(op), op.axes()

        def run(count: int, each: int) -> float:
            units, rest = divmod(count, unit)
            unroll = _unroll(units)
            looped = 3 * units / unroll + 3 if unroll < units else 0
            return each * (units + rest) + looped + 4 if count else 0.0

        total, inner = 0.0, 1
        for level, (before, size, after) in reversed(list(enumerate(axes))):
            one = run(before * inner, 1) + run(after * inner, 1)
            total = one + (run(size, 2) if level == len(axes) - 1 else size * (total + 3))
            inner *= before + size + after
        instructions = int(total) + 15
        return Cost(instructions, int(1.3 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Pad)
        axes, unit = op.axes(), self._unit(op)
        aligned = _aligned_unit(op) if unit == WORD else unit
        alignment = aligned if aligned == unit else 1
        byte = int(op.fill()) & 0xFF
        read, write = k.define("read", v.x.address()), k.define("write", v.y.address())
        word = k.define("fill", _repeated(byte, unit))

        def move(count: int, *, is_copy: bool) -> None:
            moving = [read, write] if is_copy else [write]
            units, rest = divmod(count, unit)

            def element(offset: int, size: int, alignment: int) -> None:
                dtype = _TYPES[size]
                value = k.read(read, offset, dtype, alignment) if is_copy else word.cast(dtype)
                k.write(write, offset, value, dtype, alignment)

            def some(count: int) -> None:
                for i in range(count):
                    element(i * unit, unit, alignment)

            unroll = _unroll(units)
            if units > unroll:
                end = k.define("write_end", write + units * unit)
                with k.repeat_while(lambda: write.ne(end)):
                    some(unroll)
                    _advance(moving, unroll * unit)
                units = 0
            some(units)
            for i in range(rest):
                element(units * unit + i, 1, 1)
            if units * unit + rest:
                _advance(moving, units * unit + rest)

        def fill_axis(level: int) -> None:
            before, size, after = axes[level]
            inner = math.prod(sum(sizes) for sizes in axes[level + 1 :])
            move(before * inner, is_copy=False)
            if level + 1 == len(axes):
                move(size, is_copy=True)
            else:
                with k.loop("i", size):
                    fill_axis(level + 1)
            move(after * inner, is_copy=False)

        fill_axis(0)


@kernel("pad", DType.I8, needs={"unaligned"})
class PadWords(PadUnits):
    """Runs of any sizes, on cores that read and write words anywhere."""

    name = "words"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Pad)
        if _aligned_unit(op) == WORD:
            return "words are aligned"
        return "" if op.x.type.elements else "there is nothing to copy"

    def alignments(self, op: Operator) -> dict[str, int]:
        return {}

    def _unit(self, op: Pad) -> int:
        return WORD


def _advance(pointers: list[Register], step: int) -> None:
    for pointer in pointers:
        pointer.set(pointer + step)


def _aligned_unit(op: Pad) -> int:
    """The greatest unit of which all runs are multiples."""
    return math.gcd(WORD, *op.axes()[-1])


def _unroll(units: int) -> int:
    """Units in one turn of a loop over `units`."""
    return next((u for u in range(min(UNROLL, units), 0, -1) if units % u == 0), 1)


def _repeated(byte: int, unit: int) -> Constant:
    """A byte in each place of a unit, as a word."""
    number = sum(byte << (8 * i) for i in range(unit))
    return Constant(number - (1 << 32) if number >= 1 << 31 else number, DType.I32)
