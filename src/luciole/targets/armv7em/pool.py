"""Averages of int8 on cores with the DSP extension: sums of four channels in two registers.

SXTAB16 adds two bytes of a word to the halves of another, so a word of four channels takes two instructions. The sums
of up to 256 int8 fit the halves.
"""

from __future__ import annotations

from dataclasses import dataclass

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand
from luciole.kernel.intrinsics import average_rounded
from luciole.ops import common
from luciole.ops.pool import AveragePool2d
from luciole.ops.reduce import Mean
from luciole.targets.armv7em.intrinsics import high_half, low_half, rotated_by_8, sxtab16
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Channels of a word.
GROUP = 4
#: So many bytes have a sum that fits a signed half.
MAXIMUM_TAPS = 256
#: Taps in one turn of the innermost loop, at most.
UNROLL = 5


@dataclass(frozen=True)
class _Lane:
    """The sums of one word of channels: those of its bytes 0 and 2, and of its bytes 1 and 3."""

    even: Register
    odd: Register

    def sums(self) -> list[Expr]:
        """The sums of the four channels in order."""
        return [low_half(self.even), low_half(self.odd), high_half(self.even), high_half(self.odd)]


class _Average(KernelRecipe):
    """What pools and means share."""

    name = "halves"

    def constants(self, op: Operator) -> dict[str, Array]:
        return {}

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": 4}


@kernel("average_pool2d", DType.I8, needs={"dsp"})
class AveragePoolHalves(_Average):
    """Average pools of up to 256 taps, channels a multiple of four."""

    def applies(self, op: Operator) -> str:
        assert isinstance(op, AveragePool2d)
        return _problem(op.x.type.shape[3], op.size[0] * op.size[1])

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, AveragePool2d)
        channels, words = op.x.type.shape[3], _words(op.x.type.shape[3])
        pixels = op.result_types()[0].elements // channels
        rows, columns = (1, op.size[0] * op.size[1]) if _is_run(op) else op.size
        unroll = _unrolled(None if op.window.has_padding else columns)
        tap = words * 2 + 1 + (0 if unroll == columns else 4 / unroll)
        finish = 15 if op.window.has_padding else 8 if (rows * columns).bit_count() == 1 else 12
        group = rows * (columns * tap + (0 if rows == 1 else 6)) + GROUP * words * finish + 8
        instructions = int(pixels * (channels // (GROUP * words) * group + (40 if op.window.has_padding else 12)))
        return Cost(instructions, int(1.3 * instructions), 250 + 60 * GROUP * words, 0, 0)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, AveragePool2d)
        batch, height, width, channels = op.result_types()[0].shape
        with k.nest("n", batch, height, width) as (n, oh, ow):
            row, column = oh * op.strides[0] - op.pads[0], ow * op.strides[1] - op.pads[1]
            rows, columns = (
                k.define_all(("first", "last"), op.window.tap_bounds(axis, position, op.x.type.shape[1 + axis]))
                for axis, position in ((0, oh), (1, ow))
            )
            count = (rows[1] - rows[0]) * (columns[1] - columns[0])
            taps: Operand = k.define("count", count.cast(DType.I32)) if isinstance(count, Expr) else count
            first = ((n * op.x.type.shape[1] + row + rows[0]) * op.x.type.shape[2] + column + columns[0]) * channels
            source = k.define("source", v.x.address(first))
            out = k.define("out", v.y.address(((n * height + oh) * width + ow) * channels))
            out_end = k.define("out_end", out + channels)
            with k.repeat_while(lambda: out.ne(out_end)):
                lanes = _zeros(k, _words(channels))
                _add_window(k, op, lanes, source, rows[1] - rows[0], columns[1] - columns[0])
                for i, total in enumerate(s for lane in lanes for s in lane.sums()):
                    average = average_rounded(k.define("total", total), taps)
                    k.write(out, i, op.clamped_element(average))
                source += GROUP * len(lanes)
                out += GROUP * len(lanes)


@kernel("mean", DType.I8, needs={"dsp"})
class MeanHalves(_Average):
    """Means over neighboring axes before the last one, of up to 256 elements, the last axis a multiple of four."""

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Mean)
        found = _means(op)
        return "the axes are not neighbors before the last axis" if found is None else _problem(found[2], found[1])

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, Mean)
        outer, count, channels = _known_means(op)
        words = _words(channels)
        group = count * (words * 2 + 1 + 4 / _unrolled(count)) + GROUP * words * 12 + 8
        instructions = int(outer * channels // (GROUP * words) * group) + 20
        return Cost(instructions, int(1.3 * instructions), 250 + 60 * GROUP * words, 0, 0)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Mean)
        outer, count, channels = _known_means(op)
        zero, requantizer = common.operand_quant(op, op.x).zero_point, op.requantizer()
        with k.loop("i", outer) as i:
            source = k.define("source", v.x.address(i * (count * channels)))
            out = k.define("out", v.y.address(i * channels))
            out_end = k.define("out_end", out + channels)
            with k.repeat_while(lambda: out.ne(out_end)):
                lanes = _zeros(k, _words(channels))
                _add_run(k, lanes, source, count, channels)
                for j, total in enumerate(s for lane in lanes for s in lane.sums()):
                    centered = k.define("total", total - count * zero)
                    k.write(out, j, requantizer.emit_constant(centered).cast(DType.I8))
                source += GROUP * len(lanes)
                out += GROUP * len(lanes)


def _problem(channels: int, taps: int) -> str:
    if channels % GROUP:
        return f"{channels} channels are not a multiple of {GROUP}"
    return f"sums of {taps} elements may exceed a half" if taps > MAXIMUM_TAPS else ""


def _words(channels: int) -> int:
    """Words of channels that are summed together."""
    return 2 if channels % (2 * GROUP) == 0 else 1


def _unrolled(count: int | None) -> int:
    """Taps in one turn, for a known number of them."""
    return 1 if count is None else next(u for u in range(UNROLL, 0, -1) if count % u == 0)


def _is_run(op: AveragePool2d) -> bool:
    """Whether the taps of a window are one run in memory: it covers whole rows."""
    return not op.window.has_padding and (op.size[1] == op.x.type.shape[2] or op.size[0] == 1)


def _means(op: Mean) -> tuple[int, int, int] | None:
    """Outer kept elements, averaged ones, and kept ones behind them; `None` for any other arrangement."""
    shape, axes = op.x.type.shape, sorted(op.axes)
    if not axes or axes != list(range(axes[0], axes[-1] + 1)) or axes[-1] == len(shape) - 1:
        return None
    outer, inner = 1, 1
    for axis, size in enumerate(shape):
        if axis < axes[0]:
            outer *= size
        elif axis > axes[-1]:
            inner *= size
    return outer, op.count, inner


def _known_means(op: Mean) -> tuple[int, int, int]:
    found = _means(op)
    assert found is not None
    return found


def _zeros(k: LoopBuilder, words: int) -> list[_Lane]:
    return [_Lane(k.define("even", 0), k.define("odd", 0)) for _ in range(words)]


def _add_window(
    k: LoopBuilder, op: AveragePool2d, lanes: list[_Lane], source: Expr, rows: Operand, columns: Operand
) -> None:
    """All taps of a window, `rows` by `columns` of them, beginning at `source`."""
    width, channels = op.x.type.shape[2:]
    if _is_run(op):
        _add_run(k, lanes, source, op.size[0] * op.size[1], channels)
        return
    line = k.define("line", source)
    with k.loop("row", rows):
        _add_run(k, lanes, line, columns, channels)
        line += width * channels


def _add_run(k: LoopBuilder, lanes: list[_Lane], source: Expr, count: Operand, step: int) -> None:
    """`count` words (or pairs of words), each `step` bytes behind the other; at least one."""
    tap = k.define("tap", source)
    unroll = _unrolled(count if isinstance(count, int) else None)

    def some() -> None:
        for i in range(unroll):
            k.fence()
            words = [k.define("word", k.read(tap, i * step + GROUP * w, DType.I32)) for w in range(len(lanes))]
            for lane, word in zip(lanes, words, strict=True):
                lane.even.set(sxtab16(lane.even, word))
                lane.odd.set(sxtab16(lane.odd, rotated_by_8(word)))

    if count == unroll:
        some()
        return
    end = k.define("tap_end", source + count * step)
    with k.repeat_while(lambda: tap.ne(end)):
        some()
        tap += unroll * step
