"""Copies of pieces of x into the workspace, with the zero point around, as tiles read them."""

from __future__ import annotations

import math

from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr, Operand
from luciole.targets.scalar.machine import Machine

#: Units (words, halves or bytes) of a piece that are written out.
WRITTEN_UNITS = 8

_TYPES = {1: DType.I8, 2: DType.I16, 4: DType.I32}


def fill_byte(zero_point: int, machine: Machine) -> int:
    """The byte, as an unsigned number, that stands for the zero point in the workspace."""
    return (zero_point + machine.bias) & 0xFF


def copied(
    k: LoopBuilder, machine: Machine, place: Expr, source: Expr | None, fill: int, pieces: Operand, size: int, step: int
) -> None:
    """`pieces` pieces of `size` bytes, one behind the other from `source` on (or, with `None`, of the byte `fill`), to
    places that begin `step` bytes apart.

    Places and sources are aligned to what divides both `size` and 4. Bytes become x + 128 where the machine keeps them
    unsigned.
    """
    unit = math.gcd(4, size)
    units = size // unit
    write = k.define("write", place)
    read = None if source is None else k.define("read", source)
    unroll = next(u for u in range(min(WRITTEN_UNITS, units), 0, -1) if units % u == 0)

    def some() -> None:
        for i in range(unroll):
            k.write(
                write,
                i * unit,
                _kept(machine, None if read is None else k.read(read, i * unit, _TYPES[unit]), fill, unit),
            )
        if read is not None:
            read.set(read + unroll * unit)

    def piece() -> None:
        if unroll == units:
            some()
            write.set(write + step)
            return
        end = k.define("write_end", write + size)
        with k.repeat_while(lambda: write.ne(end)):
            some()
            write.set(write + unroll * unit)
        write.set(write + (step - size))

    if isinstance(pieces, int) and pieces == 1:
        piece()
    else:
        with k.loop("piece", pieces):
            piece()


def _kept(machine: Machine, value: Expr | None, fill: int, unit: int) -> Expr:
    """A unit as the workspace holds it."""
    dtype = _TYPES[unit]
    if value is None:
        return Constant(_signed(fill, unit), dtype)
    if not machine.is_unsigned:
        return value
    return (value.cast(DType.I32) ^ _signed(0x80, 4)).cast(dtype)


def _signed(byte: int, unit: int) -> int:
    """A byte repeated over a unit, as a signed number."""
    word = sum(byte << (8 * i) for i in range(unit))
    return word - (1 << (8 * unit)) if word >= 1 << (8 * unit - 1) else word


def filled(k: LoopBuilder, place: Expr, fill: int, count: int, unit: int) -> None:
    """`count` units (of 1, 2 or 4 bytes) of the byte `fill`."""
    value = Constant(_signed(fill, unit), _TYPES[unit])
    unroll = _unrolled(count)

    def some(write: Expr) -> None:
        for i in range(unroll):
            k.write(write, i * unit, value)

    if count == unroll:
        some(place)
        return
    write = k.define("write", place)
    end = k.define("write_end", place + count * unit)
    with k.repeat_while(lambda: write.ne(end)):
        some(write)
        write += unroll * unit


def gathered(k: LoopBuilder, machine: Machine, place: Expr, source: Expr, count: int, unit: int, stride: int) -> None:
    """`count` units, `stride` bytes apart from `source` on, one behind the other into `place`; see `copied`."""
    unroll = _unrolled(count)
    write, read = k.define("write", place), k.define("read", source)

    def some() -> None:
        for i in range(unroll):
            value = k.read(read, i * stride, _TYPES[unit])
            k.write(write, i * unit, _kept(machine, value, 0, unit))

    if count == unroll:
        some()
        return
    end = k.define("write_end", write + count * unit)
    with k.repeat_while(lambda: write.ne(end)):
        some()
        write.set(write + unroll * unit)
        read.set(read + unroll * stride)


def _unrolled(count: int) -> int:
    """The largest part of a count that is written out."""
    return next((u for u in range(min(WRITTEN_UNITS, count), 0, -1) if count % u == 0), 0)
