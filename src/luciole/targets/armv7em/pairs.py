"""Which elements of two operands meet, for kernels that read four of each at a time: operands of equal shape, or one
that is repeated over leading axes, such as a factor for each channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from luciole.graph.core import Operator, Value
from luciole.ir.types import Shape
from luciole.kernel.builder import LoopBuilder, Register
from luciole.ops.elementwise import BinaryOperator

#: Elements of a word.
GROUP = 4
#: Words of each operand in one turn of the loop, at most.
UNROLL = 2


@dataclass(frozen=True)
class Pairs:
    """The result is `rows` runs of `run` elements; the operand `repeated`, if there is one, has a single run."""

    rows: int
    run: int
    repeated: str | None

    @property
    def alignment(self) -> int:
        """What every word of an operand is aligned to."""
        return GROUP if self.rows == 1 or self.run % GROUP == 0 else 1

    @property
    def unroll(self) -> int:
        """Words of each operand in one turn."""
        words = self.run // GROUP
        return UNROLL if words % UNROLL == 0 and words > UNROLL else 1

    def alignments(self, op: Operator) -> dict[str, int]:
        """The alignment of each operand that is not constant."""
        return {name: self.alignment for name, value in op.named_operands() if not value.is_constant}

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        """Word by word, each read before it is written, but for what is read again."""
        return {n: 0 for n, value in op.named_operands() if not value.is_constant and n != self.repeated}

    def instructions(self, word: float, single: int) -> int:
        """Executed instructions where four elements take `word` and one alone takes `single`.

        Registers do not suffice for words and several elements behind them.
        """
        words, rest = divmod(self.run, GROUP)
        row = words * (word + 5 / self.unroll) + rest * single + (6 if self.rows > 1 else 0)
        return int(self.rows * (row + (22 if words and rest > 1 else 0))) + 20


def pairs_of(op: BinaryOperator) -> Pairs | None:
    """How the elements of both operands meet, or `None` where one is repeated in another way."""
    shape = op.result_types()[0].shape
    elements = math.prod(shape)
    own = [_without_leading_ones(value) for value in (op.a, op.b)]
    sizes = [math.prod(part) for part in own]
    if sizes == [elements, elements]:
        return Pairs(1, elements, None)
    for repeated, whole, name in ((1, 0, "b"), (0, 1, "a")):
        part = own[repeated]
        if sizes[whole] == elements and part and part == shape[len(shape) - len(part) :]:
            return Pairs(elements // sizes[repeated], sizes[repeated], name)
    return None


def _without_leading_ones(value: Value) -> Shape:
    shape = value.type.shape
    return shape[next((i for i, size in enumerate(shape) if size != 1), len(shape)) :]


def pair_loop(
    k: LoopBuilder,
    pairs: Pairs,
    operands: dict[str, Register],
    out: Register,
    words: Callable[[int], None],
    single: Callable[[int], None],
) -> None:
    """All elements: `words(count)` computes so many words at the pointers, `single(offset)` one element behind them."""
    moving = [*operands.values(), out]

    def run() -> None:
        count, rest = divmod(pairs.run, GROUP)
        if count:
            end = k.define("run_end", out + GROUP * count)
            with k.repeat_while(lambda: out.ne(end)):
                words(pairs.unroll)
                for pointer in moving:
                    pointer.set(pointer + GROUP * pairs.unroll)
        for i in range(rest):
            single(i)

    if pairs.repeated is None:
        run()
        return
    repeated = operands[pairs.repeated]
    start = k.define("start", repeated)
    out_end = k.define("out_end", out + pairs.rows * pairs.run)
    with k.repeat_while(lambda: out.ne(out_end)):
        run()
        if pairs.run % GROUP:
            for pointer in moving:
                pointer.set(pointer + pairs.run % GROUP)
        repeated.set(start)
