"""How a depthwise convolution on cores with the DSP extension fills its planes: a group of channels of some lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from luciole.graph.core import Views
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, minimum, select
from luciole.targets.armv7em.depthwise_plan import GROUP, Plan, widened_columns
from luciole.targets.armv7em.intrinsics import kept, packed_halves, packed_high_halves, sxtab16, sxtab16_odd


class Widening(Protocol):
    """How columns become halves of the planes. `read` and `write` are pointers, `source` and `target` offsets."""

    def pair(self, k: LoopBuilder, read: Expr, write: Expr, source: int, target: int) -> None:
        """Two neighboring columns: a word in each plane."""

    def column(self, k: LoopBuilder, read: Expr, write: Expr, source: int, target: int) -> None:
        """One column: a half in each plane."""


@dataclass(frozen=True)
class Words:
    """Four channels by the word; `offsets` holds what is added to each, twice."""

    plan: Plan
    offsets: Expr

    @property
    def _alignment(self) -> int:
        return 1 if self.plan.rest else GROUP

    def pair(self, k: LoopBuilder, read: Expr, write: Expr, source: int, target: int) -> None:
        """Two neighboring columns."""
        plane, step = self.plan.plane_bytes, self.plan.inner.x_bytes
        left = k.define("left", k.read(read, source, DType.I32, self._alignment))
        right = k.define("right", k.read(read, source + step, DType.I32, self._alignment))
        for odd in (0, 1):
            add = sxtab16_odd if odd else sxtab16
            first, second = k.define("first", add(self.offsets, left)), k.define("second", add(self.offsets, right))
            k.write(write, target + odd * plane, packed_halves(first, second))
            k.write(write, target + (odd + 2) * plane, packed_high_halves(first, second))

    def column(self, k: LoopBuilder, read: Expr, write: Expr, source: int, target: int) -> None:
        """One column."""
        plane = self.plan.plane_bytes
        word = k.define("word", k.read(read, source, DType.I32, self._alignment))
        for odd in (0, 1):
            pair = k.define("pair", (sxtab16_odd if odd else sxtab16)(self.offsets, word))
            k.write(write, target + odd * plane, pair.cast(DType.I16))
            k.write(write, target + (odd + 2) * plane, (pair >> 16).cast(DType.I16))


@dataclass(frozen=True)
class Bytes:
    """The channels behind the last four, one after the other."""

    plan: Plan
    zero_point: int

    def _half(self, k: LoopBuilder, read: Expr, offset: int) -> Expr:
        return k.define("half", k.read(read, offset, DType.I8).cast(DType.I32) - self.zero_point)

    def pair(self, k: LoopBuilder, read: Expr, write: Expr, source: int, target: int) -> None:
        """Two neighboring columns."""
        for channel in range(self.plan.rest):
            left, right = (self._half(k, read, source + o + channel) for o in (0, self.plan.inner.x_bytes))
            k.write(write, target + channel * self.plan.plane_bytes, packed_halves(left, right))

    def column(self, k: LoopBuilder, read: Expr, write: Expr, source: int, target: int) -> None:
        """One column."""
        for channel in range(self.plan.rest):
            half = self._half(k, read, source + channel)
            k.write(write, target + channel * self.plan.plane_bytes, half.cast(DType.I16))


def widen_lines(k: LoopBuilder, plan: Plan, v: Views, widening: Widening, source: Expr, begin: Expr, end: Expr) -> None:
    """The input's lines from `begin` to `end` into the planes; `source` is at the first one's first column."""
    start = k.define("line_source", source)
    place = k.define("line_place", v.workspace.address(plan.planes_offset + begin * plan.line_bytes))
    with k.loop("line", begin, end):
        if plan.inner.dilation > 1:
            with k.loop("phase", plan.phases) as phase:
                _widen_phase(k, plan, widening, start, place, phase)
        else:
            _widen_line(k, plan, widening, start, place)
        start.set(kept(start + plan.outer.x_bytes))
        place.set(kept(place + plan.line_bytes))


def _widen_line(k: LoopBuilder, plan: Plan, widening: Widening, source: Expr, target: Expr) -> None:
    """A line under windows that are not dilated."""
    single, pairs, rest = widened_columns(plan)
    step, base = plan.inner.x_bytes, 2 * plan.inner.pad
    read, write = k.define("read", source), k.define("write", target)
    if single:
        widening.column(k, read, write, 0, base)
    first, unroll = single * step, 2 if pairs % 2 == 0 else 1
    base_pairs = base + 2 * single
    if pairs <= unroll:
        for pair in range(pairs):
            widening.pair(k, read, write, first + 2 * pair * step, base_pairs + 4 * pair)
    else:
        read_end = k.define("read_end", read + 2 * pairs * step)
        with k.repeat_while(lambda: read.ne(read_end)):
            for pair in range(unroll):
                widening.pair(k, read, write, first + 2 * pair * step, base_pairs + 4 * pair)
            read.set(kept(read + 2 * unroll * step))
            write.set(kept(write + 4 * unroll))
    if rest:
        done = 0 if pairs > unroll else pairs
        widening.column(k, read, write, first + 2 * done * step, base_pairs + 4 * done)


def _widen_phase(k: LoopBuilder, plan: Plan, widening: Widening, source: Expr, target: Expr, phase: Expr) -> None:
    """One phase of a line: its columns lie a dilation apart.

    Column j of the input is column j + pad of the padded line, which is number (j + pad) / dilation of the phase
    (j + pad) % dilation. So the first number whose column is not padding is pad / dilation, rounded down, and one more
    in the phases before pad % dilation; likewise for the column behind the last.
    """
    inner = plan.inner

    def first_from(column: int) -> Expr:
        whole, part = divmod(column, inner.dilation)
        return select(phase < part, whole + 1, whole) if part else k.define("number", whole, DType.INDEX)

    begin = k.define("first_number", first_from(inner.pad), DType.INDEX)
    end = k.define("last_number", minimum(first_from(inner.inputs + inner.pad), plan.phase_columns), DType.INDEX)
    read = k.define("read", source + (begin * inner.dilation + phase - inner.pad) * inner.x_bytes)
    write = k.define("write", target + phase * plan.phase_bytes + begin * 2)
    with k.loop("number", begin, end):
        widening.column(k, read, write, 0, 0)
        read.set(kept(read + inner.dilation * inner.x_bytes))
        write.set(kept(write + 2))
