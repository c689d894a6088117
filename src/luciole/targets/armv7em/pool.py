"""Averages and maxima of int8 on cores with the DSP extension, four channels at a time.

SXTAB16 adds two bytes of a word to the halves of another, so a word of four channels takes two instructions. The sums
of up to 256 int8 fit the halves. Maxima of four bytes take two instructions too.

Where channels are no multiple of four, the last word of a pixel begins so early that it ends with the pixel: some
channels are computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr, Operand, minimum
from luciole.ops import common
from luciole.ops.pixel_sums import AddPixelSums
from luciole.ops.pool import AveragePool2d, MaxPool2d, Pool, average_of, factor_of
from luciole.ops.reduce import Mean
from luciole.targets.armv7em.intrinsics import high_half, low_half, max_bytes, sxtab16, sxtab16_odd
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Channels of a word.
GROUP = 4
#: So many bytes have a sum that fits a signed half.
MAXIMUM_TAPS = 256
#: Taps in one turn of the innermost loop, at most.
UNROLL = 5
#: Windows of up to so many taps are written out.
WRITTEN_TAPS = 9


class _Lane(Protocol):
    """What is gathered of one word of channels."""

    def take(self, word: Expr) -> None:
        """Take in the word of one tap."""


@dataclass(frozen=True)
class _Sums:
    """The sums of one word of channels: those of its bytes 0 and 2, and of its bytes 1 and 3."""

    even: Register
    odd: Register

    def take(self, word: Expr) -> None:
        self.even.set(sxtab16(self.even, word))
        self.odd.set(sxtab16_odd(self.odd, word))

    def sums(self) -> list[Expr]:
        """The sums of the four channels in order."""
        return [low_half(self.even), low_half(self.odd), high_half(self.even), high_half(self.odd)]


@dataclass(frozen=True)
class _Greatest:
    """The greatest bytes of one word of channels."""

    word: Register

    def take(self, word: Expr) -> None:
        self.word.set(max_bytes(self.word, word))


class _Pool(KernelRecipe):
    """What pools and means share."""

    def constants(self, op: Operator) -> dict[str, Array]:
        return {}

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": _alignment(op)}


@kernel("average_pool2d", DType.I8, needs={"dsp"})
class AveragePoolHalves(_Pool):
    """Average pools of up to 256 taps, of four channels at least."""

    name = "halves"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, AveragePool2d)
        if op.rounding == "onnx":
            return "rounding onnx may need sums of floats"
        return _window_problem(op) or _problem(op.x.type.shape[3], op.size[0] * op.size[1])

    def constants(self, op: Operator) -> dict[str, Array]:
        return op.parameters()

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, AveragePool2d)
        has_padding, taps = op.window.has_padding, op.size[0] * op.size[1]
        finish = GROUP * (10 if has_padding else 4.5 if taps.bit_count() == 1 else 7)
        return _pool_cost(op, finish, 8, 40 if has_padding else 12)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, AveragePool2d)

        def start(words: int) -> list[_Sums]:
            return _zeros(k, words)

        def finish(lanes: Sequence[_Sums], out: Expr, taps: Operand) -> None:
            factor = factor_of(k, v, taps)
            for i, total in enumerate(s for lane in lanes for s in lane.sums()):
                whole = k.define("total", total)
                k.write(out, i, op.clamped_element(average_of(whole, taps, factor)))

        _pool_loops(k, op, v, start, finish)


@kernel("max_pool2d", DType.I8, needs={"dsp"})
class MaxPoolBytes(_Pool):
    """Maximum pools of four channels at least."""

    name = "bytes"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, MaxPool2d)
        return _window_problem(op) or _problem(op.x.type.shape[3], 1)

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": _alignment(op), "y": _alignment(op)}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, MaxPool2d)
        return _pool_cost(op, 1, 4, 60 if op.window.has_padding else 8)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, MaxPool2d)
        low, high = op.limits

        def start(words: int) -> list[_Greatest]:
            return [_Greatest(k.define("greatest", _four_bytes(low))) for _ in range(words)]

        def finish(lanes: Sequence[_Greatest], out: Expr, taps: Operand) -> None:
            for i, lane in enumerate(lanes):
                greatest: Expr = lane.word
                if high != 127:
                    # The smaller of two is the complement of the greater complement.
                    greatest = ~max_bytes(~greatest, k.define("limit", ~_four_bytes(high)))
                k.write(out, GROUP * i, greatest, alignment=_alignment(op))

        _pool_loops(k, op, v, start, finish)


@kernel("mean", DType.I8, needs={"dsp"})
class MeanHalves(_Pool):
    """Means over neighboring axes before the last one, of up to 256 elements, the last axis of four at least."""

    name = "halves"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Mean)
        found = _means(op)
        return "the axes are not neighbors before the last axis" if found is None else _problem(found[2], found[1])

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def alignments(self, op: Operator) -> dict[str, int]:
        assert isinstance(op, Mean)
        return {"x": GROUP if _known_means(op)[2] % GROUP == 0 else 1}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, Mean)
        outer, count, channels = _known_means(op)
        words = _words(channels)
        group = count * (words * 2 + 1 + 4 / _unrolled(count)) + GROUP * words * 12 + 8
        instructions = int(outer * -(-channels // (GROUP * words)) * group) + 20
        return Cost(instructions, int(1.3 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Mean)
        outer, count, channels = _known_means(op)
        zero, requantizer = common.operand_quant(op, op.x).zero_point, op.requantizer()
        with k.loop("i", outer) as i:
            source = k.define("source", v.x.address(i * (count * channels)))
            out = k.define("out", v.y.address(i * channels))
            with _channel_groups(k, channels, source, out):
                lanes = _zeros(k, _words(channels))
                _add_run(k, lanes, source, count, channels, GROUP if channels % GROUP == 0 else 1)
                for j, total in enumerate(s for lane in lanes for s in lane.sums()):
                    centered = k.define("total", total - count * zero)
                    k.write(out, j, requantizer.emit_constant(centered).cast(DType.I8))


@kernel("add_pixel_sums", DType.I32, needs={"dsp"})
class AddPixelSumsHalves(_Pool):
    """Sums over up to 256 pixels at a time, channels a multiple of four, added to those of the pixels before."""

    name = "halves"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, AddPixelSums)
        _, height, width, channels = op.x.type.shape
        return "channels are not a multiple of 4" if channels % GROUP else _problem(channels, height * width)

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": GROUP}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, AddPixelSums)
        batch, height, width, channels = op.x.type.shape
        words = _words(channels)
        pixels, unroll = height * width, _unrolled(height * width)
        group = pixels * (2 * words + 1 + (0 if unroll == pixels else 4 / unroll)) + 9 * words + 5
        instructions = int(batch * channels // (GROUP * words) * group) + 16
        return Cost(instructions, int(1.5 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, AddPixelSums)
        batch, height, width, channels = op.x.type.shape
        step = GROUP * _words(channels)
        source, total, out = (
            k.define(n, view.address()) for n, view in (("source", v.x), ("total", v.total), ("out", v.y))
        )
        with k.loop("n", batch):
            source_end = k.define("source_end", source + channels)
            with k.repeat_while(lambda: source.ne(source_end)):
                lanes = _zeros(k, _words(channels))
                _add_run(k, lanes, source, height * width, channels, GROUP)
                for i, added in enumerate(s for lane in lanes for s in lane.sums()):
                    k.write(out, 4 * i, k.read(total, 4 * i, DType.I32) + added)
                source += step
                total += 4 * step
                out += 4 * step
            source += (height * width - 1) * channels


@contextmanager
def _channel_groups(k: LoopBuilder, channels: int, source: Register, out: Register) -> Iterator[None]:
    """A loop over the words of a pixel, with pointers to the inputs and the results of each."""
    step = GROUP * _words(channels)
    if channels % step == 0:
        out_end = k.define("out_end", out + channels)
        with k.repeat_while(lambda: out.ne(out_end)):
            yield
            source += step
            out += step
        return
    left = k.define("left", channels - step, DType.INDEX)
    move = k.define("move", 0, DType.INDEX)
    with k.repeat_while(lambda: move.ne(0)):
        yield
        move.set(minimum(left, step))
        left -= move
        source += move
        out += move


L = TypeVar("L", bound=_Lane)


def _pool_loops(
    k: LoopBuilder,
    op: Pool,
    v: Views,
    start: Callable[[int], list[L]],
    finish: Callable[[Sequence[L], Expr, Operand], None],
) -> None:
    """All pixels: the taps of each word of channels, between `start` and `finish`, which knows the number of taps."""
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
        with _channel_groups(k, channels, source, out):
            lanes = start(_words(channels))
            _add_window(k, op, lanes, source, rows[1] - rows[0], columns[1] - columns[0])
            finish(lanes, out, taps)


def _pool_cost(op: Pool, finish: float, turn: int, pixel: int) -> Cost:
    """`finish` instructions for a word of results, `turn` for each turn of the loop over words, `pixel` for a pixel."""
    channels, words = op.x.type.shape[3], _words(op.x.type.shape[3])
    pixels = op.result_types()[0].elements // channels
    if _is_written_out(op):
        window: float = op.size[0] * op.size[1] * words * 3
    else:
        rows, columns = (1, op.size[0] * op.size[1]) if _is_run(op) else op.size
        unroll = _unrolled(None if op.window.has_padding else columns)
        each = words * 2 + 1 + (0 if unroll == columns else 4 / unroll)
        window = rows * (columns * each + (0 if rows == 1 else 6))
    group = window + words * finish + turn
    instructions = int(pixels * (-(-channels // (GROUP * words)) * group + pixel))
    return Cost(instructions, int(1.3 * instructions))


def _alignment(op: Operator) -> int:
    """What words of the inputs and results are aligned to."""
    return GROUP if op.result_types()[0].shape[-1] % GROUP == 0 else 1


def _four_bytes(value: int) -> Expr:
    """A number in all four bytes of a word."""
    word = (value & 0xFF) * 0x01010101
    return Constant(word - (1 << 32) if word >> 31 else word, DType.I32)


def _window_problem(op: Pool) -> str:
    return "the window is dilated" if op.dilations != (1, 1) else ""


def _problem(channels: int, taps: int) -> str:
    if channels < GROUP:
        return f"{channels} channels are less than {GROUP}"
    return f"sums of {taps} elements may exceed a half" if taps > MAXIMUM_TAPS else ""


def _words(channels: int) -> int:
    """Words of channels that are summed together."""
    return 2 if channels % (2 * GROUP) == 0 else 1


def _unrolled(count: int | None) -> int:
    """Taps in one turn, for a known number of them."""
    return 1 if count is None else next(u for u in range(UNROLL, 0, -1) if count % u == 0)


def _is_run(op: Pool) -> bool:
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


def _is_written_out(op: Pool) -> bool:
    """Whether all taps of a window are written out, without a loop: one over few rows would cost most."""
    return not op.window.has_padding and not _is_run(op) and op.size[0] * op.size[1] <= WRITTEN_TAPS


def _zeros(k: LoopBuilder, words: int) -> list[_Sums]:
    return [_Sums(k.define("even", 0), k.define("odd", 0)) for _ in range(words)]


def _add_window(
    k: LoopBuilder, op: Pool, lanes: Sequence[_Lane], source: Expr, rows: Operand, columns: Operand
) -> None:
    """All taps of a window, `rows` by `columns` of them, beginning at `source`."""
    width, channels = op.x.type.shape[2:]
    if _is_written_out(op):
        for row in range(op.size[0]):
            for column in range(op.size[1]):
                k.fence()
                _take(k, lanes, source, (row * width + column) * channels, _alignment(op))
    elif _is_run(op):
        _add_run(k, lanes, source, op.size[0] * op.size[1], channels, _alignment(op))
    else:
        line = k.define("line", source)
        with k.loop("row", rows):
            _add_run(k, lanes, line, columns, channels, _alignment(op))
            line += width * channels


def _add_run(k: LoopBuilder, lanes: Sequence[_Lane], source: Expr, count: Operand, step: int, alignment: int) -> None:
    """`count` words (or pairs of words), each `step` bytes behind the other; at least one."""
    tap = k.define("tap", source)
    unroll = _unrolled(count if isinstance(count, int) else None)

    def some() -> None:
        for i in range(unroll):
            k.fence()
            _take(k, lanes, tap, i * step, alignment)

    if count == unroll:
        some()
        return
    end = k.define("tap_end", source + count * step)
    with k.repeat_while(lambda: tap.ne(end)):
        some()
        tap += unroll * step


def _take(k: LoopBuilder, lanes: Sequence[_Lane], source: Expr, offset: int, alignment: int) -> None:
    """One tap into all lanes."""
    words = [k.define("word", k.read(source, offset + GROUP * w, DType.I32, alignment)) for w in range(len(lanes))]
    for lane, word in zip(lanes, words, strict=True):
        lane.take(word)
