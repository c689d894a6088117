"""Functions of one int8 number through a table: about three and a half instructions an element.

The table is kept in the order of numbers as unsigned bytes, 0..127 and then -128..-1, so that a byte is its own index.
Four elements at a time are read, looked up and written, so that no load waits for the one before.
"""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.targets.base import Cost, register
from luciole.targets.scalar.machine import MACHINES
from luciole.targets.scalar.recipe import TiledRecipe

#: Operators whose int8 kernels are a table of 256 entries, the parameter `table`.
TABULATED = ("leaky_relu", "logistic", "lookup", "relu", "relu6", "requantize", "tanh")

#: Elements that are in registers at a time, and elements of one turn.
GROUP, TURN = 4, 8


class Tabulated(TiledRecipe):
    """Any number of elements."""

    @property
    def is_scheduled(self) -> bool:
        """Not, so that the result may stand in the place of the operand."""
        return False

    def constants(self, op: Operator) -> dict[str, Array]:
        return {"table": np.roll(op.parameters()["table"], 128)}

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        """Each element is read before it is written, and none again."""
        return {name: 0 for name, _ in self.activations(op)}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loop below."""
        (result,) = op.result_types()
        turns, rest = divmod(result.elements, TURN)
        each = 2 + self.machine.indexed_load
        instructions = turns * (each * TURN + self.machine.turn - 1) + each * rest + 12
        return Cost(instructions, int(self.machine.cycles_per_instruction * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        (result,) = op.result_types()
        count, rest = divmod(result.elements, TURN)
        x, out = k.define("x", v.x.address()), k.define("out", v.y.address())

        def some(elements: int) -> None:
            for first in range(0, elements, GROUP):
                offsets = range(first, min(first + GROUP, elements))
                numbers = [k.define("number", k.read(x, i, DType.U8)) for i in offsets]
                entries = [k.define("entry", v.table[number.cast(DType.INDEX)]) for number in numbers]
                for i, entry in zip(offsets, entries, strict=True):
                    k.write(out, i, entry)

        if count:
            end = k.define("end", out + TURN * count)
            with k.repeat_while(lambda: out.ne(end)):
                some(TURN)
                x.set(x + TURN)
                out.set(out + TURN)
        some(rest)


for _machine in MACHINES:
    if _machine.dtype is DType.I8:
        for _operator in TABULATED:
            register(Tabulated(_machine), _operator, DType.I8, _machine.needs)
