"""Rows of an image copied into the workspace, with the zero point where they reach outside."""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Operand, binary, maximum, minimum
from luciole.targets.mve.copies import fill

#: Bytes of a vector.
VECTOR = 128


def copy(k: LoopBuilder, target: Expr, source: Expr, count: Operand) -> None:
    """`count` bytes from one place to another."""
    if not isinstance(count, Expr) and count <= 0:
        return
    read, place = k.define("read", source), k.define("place", target)
    with k.loop("i", count, is_vector=True) as i:
        k.write(place + i, 0, k.read(read + i, 0, DType.I8), DType.I8)


def copy_row(
    k: LoopBuilder,
    image: Expr,
    size: tuple[int, int, int],
    at: tuple[Expr, Operand],
    place: Expr,
    columns: int,
    zero_point: int,
) -> None:
    """Some columns of a row of an image of `size` (height, width, bytes of a pixel), from a row and column on that may
    lie outside.
    """
    (height, width, channels), (row, start) = size, at
    with k.if_(binary("and", row >= 0, row < height)):
        begin: Operand
        end: Operand
        if isinstance(start, Expr):
            begin = k.define("begin", minimum(maximum(0 - start, 0), columns))
            end = k.define("end", maximum(minimum(width - start, columns), begin))
        else:
            begin = min(max(-start, 0), columns)
            end = max(min(width - start, columns), begin)
        inside = end - begin if isinstance(end, Expr) or not isinstance(begin, Expr) else binary("sub", end, begin)
        fill(k, place, zero_point, begin * channels)
        copy(k, place + begin * channels, image + (row * width + (start + begin)) * channels, inside * channels)
        fill(k, place + end * channels, zero_point, (columns - end) * channels)
    with k.else_():
        fill(k, place, zero_point, columns * channels)


def row_instructions(count: int, is_known: bool) -> int:
    """Executed instructions of a row of so many bytes, of which is known beforehand which lie inside or not."""
    return (9 if is_known else 90) + 3 * -(-count // VECTOR)
