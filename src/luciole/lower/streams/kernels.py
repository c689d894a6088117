"""The kernels that copy rows and fill them, in words where rows are whole words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Kernel, Variable

#: Elements that one turn of the loop moves.
UNROLL = 8


def copy_kernel(size_bytes: int, *, by_words: bool) -> Kernel:
    """Copies `count` elements from the first one up, so that rows may move down within a buffer; buffers have up to so
    many bytes.
    """
    dtype = DType.I32 if by_words else DType.I8
    k = LoopBuilder("copy_words" if by_words else "copy_bytes", is_scheduled=True)
    shape = (size_bytes // dtype.size_bytes,)
    x, y = k.buffer("in", "x", dtype, shape), k.buffer("out", "y", dtype, shape)
    count = k.scalar("count")
    source, place = k.define("source", x.address()), k.define("place", y.address())

    def move(elements: int) -> None:
        offsets = [i * dtype.size_bytes for i in range(elements)]
        values = [k.define("value", k.read(source, offset, dtype)) for offset in offsets]
        for offset, value in zip(offsets, values, strict=True):
            k.write(place, offset, value, dtype)
        source.set(source + elements * dtype.size_bytes)
        place.set(place + elements * dtype.size_bytes)

    _in_blocks(k, count, move)
    return _named(replace(k.build(), may_overlap=True))


def fill_kernel(size_bytes: int, *, by_words: bool) -> Kernel:
    """Writes `count` elements `value`; buffers have up to so many bytes."""
    dtype = DType.I32 if by_words else DType.I8
    k = LoopBuilder("fill_words" if by_words else "fill_bytes", is_scheduled=True)
    y = k.buffer("out", "y", dtype, (size_bytes // dtype.size_bytes,))
    count = k.scalar("count")
    value = k.scalar("value").cast(dtype)
    place = k.define("place", y.address())

    def write(elements: int) -> None:
        for i in range(elements):
            k.write(place, i * dtype.size_bytes, value, dtype)
        place.set(place + elements * dtype.size_bytes)

    _in_blocks(k, count, write)
    return _named(k.build())


def _in_blocks(k: LoopBuilder, count: Variable, move: Callable[[int], None]) -> None:
    """`move` of a block of elements as often as it fits into `count`, then of single ones."""
    elements = count.cast(DType.INDEX)
    with k.loop("block", elements // UNROLL):
        move(UNROLL)
    with k.loop("rest", elements - elements // UNROLL * UNROLL):
        move(1)


def _named(kernel: Kernel) -> Kernel:
    digest = hashlib.sha256(repr(replace(kernel, name="")).encode()).hexdigest()[:6]
    return replace(kernel, name=f"{kernel.name}_{digest}")
