"""k x k convolution of int8 on cores with the DSP extension: three pixels by two output channels in registers.

Weights are packed by pairs of channels, see `hilo`. For a row of output (a strip of it, where the whole would not fit
the workspace) the input rows under the window are widened to pairs of 16 bits, 2 * (x - zero point) with zeros for
padding, laid out column by column: [column][ky, channel]. So a window is a few contiguous runs, every pixel reads at a
fixed offset, and with stride 1 the columns are shared: pixels + kw - 1 loads for kw taps of all pixels.

Measured on Cortex-M4, executed instructions per multiplication: 0.93 to 1.0 for 3x3 with 16 to 64 channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from luciole.graph.core import Operator, Value, Views
from luciole.graph.samples import Samples
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand, maximum, minimum
from luciole.ops.conv import Conv2d
from luciole.targets.armv7em import hilo
from luciole.targets.armv7em.intrinsics import smlad, sxtb16
from luciole.targets.base import Cost, KernelRecipe, kernel, register

#: Channels of a word.
GROUP = 4
#: Pixels in one register tile.
TILE_PIXELS = 3
#: Windows of up to so many taps are written out without a loop.
WRITTEN_TAPS = 20
#: The workspace of a strip of output columns stays below this many bytes, if a tile's columns do.
WORKSPACE_LIMIT = 4096
#: The same where memory counts more than the columns that two strips share.
NARROW_WORKSPACE_LIMIT = 512


@dataclass(frozen=True)
class _Shape:
    """Sizes that the loops are made from."""

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    #: Halves of one widened column: kernel_height * channels, rounded up to pairs.
    column_halves: int
    strip: int
    strip_columns: int
    #: Columns that a window reaches over.
    reach: int
    recipe: ConvHiLo

    @property
    def column_bytes(self) -> int:
        return 2 * self.column_halves

    @property
    def pairs(self) -> int:
        """Pairs of products in one column of a window."""
        return self.column_halves // 2

    @property
    def unroll(self) -> int:
        """Pairs in one turn of the inner loop: all of them in small windows that cannot be cut otherwise."""
        most = max(1, self.recipe.unrolled_taps // self.kernel_width)
        unroll = next(u for u in range(most, 0, -1) if self.pairs % u == 0)
        is_written = unroll == 1 and self.pairs * self.kernel_width <= min(WRITTEN_TAPS, 2 * self.recipe.unrolled_taps)
        return self.pairs if is_written else unroll

    @property
    def widening(self) -> float:
        """Instructions for each half that is widened, about."""
        rest = self.channels % GROUP
        return (2 * (self.channels - rest) + 5 * rest) / self.channels + 4 / self.channels * (rest > 0)

    @property
    def by_words(self) -> bool:
        """Whether all channels are widened four at a time, from aligned words."""
        return self.channels % GROUP == 0


@kernel("conv2d", DType.I8, needs={"dsp"})
@dataclass(frozen=True)
class ConvHiLo(KernelRecipe):
    """Convolution with any window, stride, dilation and padding; the workspace of a strip stays below a limit if that
    of a tile does.
    """

    name = "hilo"
    parameter_space: ClassVar = {"unrolled_taps": (12, 18, 24, 6, 3)}

    #: Taps (pairs of products for one pixel) in one turn of the inner loop, at most.
    unrolled_taps: int = 12
    #: Whether parameters of channels take few bytes however many pixels there are.
    is_lean: bool = False
    #: Whether the last tile of a line computes pixels a second time, instead of having code of its own for fewer.
    repeats_pixels: bool = False
    #: What the workspace of a strip stays below, if that of a tile does.
    workspace_limit: int = WORKSPACE_LIMIT

    def shape_class(self, op: Operator) -> str:
        op = _lying(op)
        kernel, channels = op.window.kernel, op.x.type.shape[3]
        some = "some" if channels < 16 else "16" if channels < 32 else "32" if channels < 64 else "64"
        return f"{kernel[0]}x{kernel[1]} stride {op.strides[1]}, {some} channels"

    def tuning_layers(self, s: Samples) -> Iterator[Operator]:
        for extent, stride in ((3, 1), (3, 2), (1, 1), (1, 2)):
            for channels in (8, 12, 16, 24, 32, 48, 64):
                yield hilo.tuning_layer(s, 7, channels, 6, extent, stride)

    def variants(self) -> tuple[KernelRecipe, ...]:
        lean = replace(self, is_lean=True)
        single = replace(lean, repeats_pixels=True)
        return lean, single, replace(single, unrolled_taps=12), replace(single, unrolled_taps=3)

    def applies(self, op: Operator) -> str:
        op = _lying(op)
        wide = replace(self, workspace_limit=WORKSPACE_LIMIT)
        if self.workspace_limit < WORKSPACE_LIMIT and _shape(op, wide).strip == _shape(op, self).strip:
            return "a wider strip takes no more workspace"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if op.dilations != (1, 1) and self.workspace_bytes(op) > self.workspace_limit:
            return f"columns under the dilated window exceed {self.workspace_limit} bytes"
        return hilo.packing_problem(op.sums())

    def constants(self, op: Operator) -> dict[str, Array]:
        op = _lying(op)
        return {
            "weights": _packed_weights(op, _shape(op, self)),
            "channels": _parameters(op, _shape(op, self)).words(),
        }

    def workspace_bytes(self, op: Operator) -> int:
        op = _lying(op)
        shape = _shape(op, self)
        return shape.strip_columns * shape.column_bytes

    def alignments(self, op: Operator) -> dict[str, int]:
        op = _lying(op)
        return {"x": GROUP} if _shape(op, self).by_words else {}

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        """A strip of a row is widened before it is written, and only then."""
        op = _lying(op)
        y = op.result_types()[0]
        distance = op.window.overlap_bytes(op.x.type, y, _shape(op, self).strip, reads_first=True)
        return {} if distance is None else {"x": distance}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        op = _lying(op)
        shape, taps = _shape(op, self), op.window.kernel[1]

        def per_pair_of_channels(pixels: int) -> int:
            columns = {p * op.strides[1] + kx * op.dilations[1] for p in range(pixels) for kx in range(taps)}
            turns = shape.pairs // shape.unroll
            sums = shape.pairs * (len(columns) + taps * (2 + 2 * pixels)) + (4 * turns if turns > 1 else 0)
            return sums + 14 * pixels + 14 + _parameters(op, shape).extra_instructions if pixels else 0

        strips = [shape.strip] * (shape.out_width // shape.strip) + [shape.out_width % shape.strip]
        tiles = [_tiles(strip, self.repeats_pixels) for strip in strips]
        per_row = sum(whole * per_pair_of_channels(TILE_PIXELS) + per_pair_of_channels(rest) for whole, rest in tiles)
        widened = shape.strip_columns * shape.column_halves * -(-shape.out_width // shape.strip)
        pairs_of_channels = -(-shape.out_channels // 2)
        rows = op.result_types()[0].shape[0] * shape.out_height
        instructions = int(rows * (pairs_of_channels * per_row + widened * shape.widening))
        return Cost(instructions, int(1.2 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        op = _lying(op)
        shape = _shape(op, self)
        with k.loop("n", op.x.type.shape[0]) as n, k.loop("oh", shape.out_height) as oh:
            image = k.define("image", n * (shape.height * shape.width * shape.channels))
            line = k.define("line", (n * shape.out_height + oh) * (shape.out_width * shape.out_channels))
            whole, rest = divmod(shape.out_width, shape.strip)
            if whole == 1 and not rest:
                _strip(k, op, shape, v, image, line, oh, 0, shape.strip)
                return
            with k.loop("strip", whole) as strip:
                _strip(k, op, shape, v, image, line, oh, strip * shape.strip, shape.strip)
            if rest:
                _strip(k, op, shape, v, image, line, oh, whole * shape.strip, rest)


register(ConvHiLo(workspace_limit=NARROW_WORKSPACE_LIMIT), "conv2d", DType.I8, needs={"dsp"})


def _lying(op: Operator) -> Conv2d:
    """The same convolution with rows and columns exchanged where its images have a single column, so that pixels of one
    column are neighbors in a row.
    """
    assert isinstance(op, Conv2d)
    known: Conv2d | None = op.__dict__.get("_lying")
    if known is None:
        known = op.__dict__["_lying"] = _exchanged(op) if _is_column(op) else op
    return known


def _is_column(op: Conv2d) -> bool:
    """Whether x, the window and the result have one column, and the window and the result have several rows.

    Windows of one pixel are left to the recipe for them, which needs no strip of pixels in workspace.
    """
    kernel, result = op.window.kernel, op.result_types()[0].shape
    has_one_column = op.x.type.shape[2] == kernel[1] == result[2] == 1 and op.pads[1] == op.pads[3] == 0
    return has_one_column and min(kernel[0], result[1]) > 1


def _exchanged(op: Conv2d) -> Conv2d:
    """Rows for columns; with one of either, no element changes its place."""

    def turned(value: Value) -> Value:
        outer, rows, columns, channels = value.type.shape
        shape = (outer, columns, rows, channels)
        data = None if value.data is None else value.data.reshape(shape)
        return Value(value.name, value.type.with_shape(shape), data)

    top, left, bottom, right = op.pads
    return replace(
        op,
        x=turned(op.x),
        w=turned(op.w),
        strides=op.strides[::-1],
        pads=(left, top, right, bottom),
        dilations=op.dilations[::-1],
    )


def _shape(op: Conv2d, recipe: ConvHiLo) -> _Shape:
    _, height, width, channels = op.x.type.shape
    _, out_height, out_width, out_channels = op.result_types()[0].shape
    kernel_height, kernel_width = op.window.kernel
    column_halves = -(-kernel_height * channels // 2) * 2
    reach = (kernel_width - 1) * op.dilations[1] + 1
    fitting = (recipe.workspace_limit // (2 * column_halves) - reach) // op.strides[1] + 1
    strip = out_width if fitting >= out_width else max(TILE_PIXELS, fitting // TILE_PIXELS * TILE_PIXELS)
    strip = min(strip, out_width)
    return _Shape(
        height,
        width,
        channels,
        out_height,
        out_width,
        out_channels,
        kernel_height,
        kernel_width,
        column_halves,
        strip,
        (strip - 1) * op.strides[1] + reach,
        reach,
        recipe,
    )


def _tiles(count: int, repeats_pixels: bool) -> tuple[int, int]:
    """How many whole tiles a line takes, and how many pixels are left for a smaller one."""
    tiles, rest = divmod(count, TILE_PIXELS)
    return (tiles + 1, 0) if repeats_pixels and tiles and rest else (tiles, rest)


def _parameters(op: Conv2d, shape: _Shape) -> hilo.PairParameters:
    return hilo.PairParameters.of(op.sums(), shape.out_height * shape.out_width, is_lean=shape.recipe.is_lean)


def _packed_weights(op: Conv2d, shape: _Shape) -> Array:
    """Words [pairs of channels][pairs within a column][kx], in the order in which columns are widened."""
    weights = op.sums().weights.reshape(op.w.type.shape)
    columns = weights.transpose(0, 2, 1, 3).reshape(shape.out_channels, shape.kernel_width, -1)
    padding = shape.column_halves - columns.shape[2]
    columns = np.pad(columns, ((0, 0), (0, 0), (0, padding)))
    whole = shape.channels // GROUP * GROUP
    slot = [*np.arange(whole).reshape(-1, GROUP)[:, [0, 2, 1, 3]].reshape(-1), *range(whole, shape.channels)]
    slots = [ky * shape.channels + channel for ky in range(shape.kernel_height) for channel in slot]
    order = np.array([*slots, *range(len(slots), shape.column_halves)]).reshape(-1, 2)
    words = np.stack([hilo.packed_words(columns[:, kx], order) for kx in range(shape.kernel_width)], axis=2)
    return np.ascontiguousarray(words)


def _strip(
    k: LoopBuilder, op: Conv2d, shape: _Shape, v: Views, image: Expr, line: Expr, oh: Expr, first: Operand, count: int
) -> None:
    """`count` output columns from `first` of one output row: widen the input under them, then all tiles."""
    _widen(k, op, shape, v, image, oh, first, (count - 1) * op.strides[1] + shape.reach)
    columns = k.define("columns", v.workspace.address())
    target = k.define("target", v.y.address(line + first * shape.out_channels))
    step = TILE_PIXELS * op.strides[1] * shape.column_bytes
    tiles, rest = _tiles(count, shape.recipe.repeats_pixels)
    if tiles * TILE_PIXELS > count:
        with k.loop("tile", tiles) as tile:
            pixel = k.define("pixel", minimum(tile * TILE_PIXELS, count - TILE_PIXELS))
            source = k.define("source", columns + pixel * (op.strides[1] * shape.column_bytes))
            place = k.define("place", target + pixel * shape.out_channels)
            _tile(k, op, shape, v, source, place, TILE_PIXELS)
        return
    if tiles:
        end = k.define("columns_end", v.workspace.address(tiles * step))
        with k.repeat_while(lambda: columns.ne(end)):
            _tile(k, op, shape, v, columns, target, TILE_PIXELS)
            columns += step
            target += TILE_PIXELS * shape.out_channels
    if rest:
        _tile(k, op, shape, v, columns, target, rest)


def _widen(
    k: LoopBuilder, op: Conv2d, shape: _Shape, v: Views, image: Expr, oh: Expr, first: Operand, columns: int
) -> None:
    """The input under some columns as doubled, centered halves; zeros outside of the input and behind an odd column."""
    start = k.define("start", first * op.strides[1] - op.pads[1], DType.INDEX)
    begin = k.define("begin", minimum(maximum(-start, 0), columns))
    end = k.define("end", maximum(minimum(shape.width - start, columns), begin))
    if shape.column_halves != shape.kernel_height * shape.channels:
        with k.loop("c", columns) as c:
            last = v.workspace.address(c * shape.column_bytes + shape.column_bytes - 2)
            k.write(last, 0, 0, DType.I16)
    with k.loop("ky", shape.kernel_height) as ky:
        row = k.define("row", oh * op.strides[0] - op.pads[0] + ky * op.dilations[0])
        slot = k.define("slot", ky * (2 * shape.channels))
        inside = (row >= 0) if op.pads[0] else None
        if op.pads[0] or op.pads[2]:
            valid = k.define("valid", 1)
            if inside is not None:
                with k.if_(row < 0):
                    valid.set(0)
            if op.pads[2]:
                with k.if_(row >= shape.height):
                    valid.set(0)
            with k.if_(valid.ne(0)):
                _widen_row(k, op, shape, v, image, row, slot, (start, begin, end, columns))
            with k.else_():
                _clear(k, shape, v, slot, 0, columns)
        else:
            _widen_row(k, op, shape, v, image, row, slot, (start, begin, end, columns))


def _widen_row(
    k: LoopBuilder,
    op: Conv2d,
    shape: _Shape,
    v: Views,
    image: Expr,
    row: Expr,
    slot: Expr,
    bounds: tuple[Expr, Expr, Expr, int],
) -> None:
    """One input row into its place in each column."""
    start, begin, end, columns = bounds
    if op.pads[1]:
        _clear(k, shape, v, slot, 0, begin)
    if op.pads[3] or op.pads[1]:
        _clear(k, shape, v, slot, end, columns)
    sums, scale = op.sums(), hilo.scale_of(op.sums())
    offsets = k.define("offsets", hilo.widening_offsets(sums))
    with k.loop("c", begin, end) as c:
        source = k.define("source", v.x.address(image + (row * shape.width + start + c) * shape.channels))
        target = k.define("place", v.workspace.address(c * shape.column_bytes + slot))
        if shape.channels >= GROUP:
            _widen_words(k, shape, offsets, scale, source, target)
        for channel in range(shape.channels % GROUP):
            at = shape.channels // GROUP * GROUP + channel
            value = k.read(source, at, DType.I8)
            k.write(target, 2 * at, hilo.widened_half(value, sums.zero_point, scale))


def _widen_words(k: LoopBuilder, shape: _Shape, offsets: Expr, scale: int, source: Expr, target: Expr) -> None:
    """The channels that are fours, four at a time. Words need not be aligned."""
    words = shape.channels // GROUP
    alignments = (GROUP, GROUP) if shape.by_words else (1, 2)
    unroll = next(u for u in (4, 2, 1) if words % u == 0)

    def some(read: Expr, write: Expr) -> None:
        for i in range(unroll):
            word = k.define("word", k.read(read, 4 * i, DType.I32, alignments[0]))
            k.write(write, 8 * i, hilo.widened_pair(word, offsets, scale), alignment=alignments[1])
            k.write(write, 8 * i + 4, hilo.widened_pair(word, offsets, scale, odd=True), alignment=alignments[1])

    if unroll == words:
        some(source, target)
        return
    read, write = k.define("read", source), k.define("write", target)
    stop = k.define("read_end", source + GROUP * words)
    with k.repeat_while(lambda: read.ne(stop)):
        some(read, write)
        read += 4 * unroll
        write += 8 * unroll


def _clear(k: LoopBuilder, shape: _Shape, v: Views, slot: Expr, begin: Operand, end: Operand) -> None:
    """Zeros in one row's place of some columns."""
    with k.loop("c", begin, end) as c:
        place = k.define("place", v.workspace.address(c * shape.column_bytes + slot))
        size, done = 2 * shape.channels, 0
        alignment = GROUP if shape.by_words else 2
        if shape.channels > 16:
            done = size // 8 * 8
            with k.loop("i", 0, done, 8) as i:
                k.write(place + i, 0, 0, alignment=alignment)
                k.write(place + i, 4, 0, alignment=alignment)
        for at in range(done, size // 4 * 4, 4):
            k.write(place, at, 0, alignment=alignment)
        if size % 4:
            k.write(place, size - 2, 0, DType.I16)


def _tile(k: LoopBuilder, op: Conv2d, shape: _Shape, v: Views, columns: Expr, target: Expr, pixels: int) -> None:
    """All output channels of a few pixels of one row."""
    weights, layout = k.define("weights", v.weights.address()), _parameters(op, shape)
    shared = layout.read_shared(k, v.channels.address())
    parameters = k.define("parameters", v.channels.address(layout.header_bytes))
    out = k.define("out", target)
    pairs, odd = divmod(shape.out_channels, 2)
    if pairs:
        out_end = k.define("out_end", target + 2 * pairs)
        with k.repeat_while(lambda: out.ne(out_end)):
            sums = layout.start(k, parameters, pixels)
            _accumulate(k, op, shape, weights, columns, sums)
            layout.finish(k, parameters, shared, out, shape.out_channels, sums)
            parameters += layout.bytes_each
            out += 2
    if odd:
        sums = layout.start(k, parameters, pixels)
        _accumulate(k, op, shape, weights, columns, sums)
        layout.finish(k, parameters, shared, out, shape.out_channels, sums, channels=1)


def _accumulate(
    k: LoopBuilder,
    op: Conv2d,
    shape: _Shape,
    weights: Register,
    columns: Expr,
    sums: tuple[list[Register], list[Register]],
) -> None:
    """The sums of one pair of channels; `weights` ends behind the pair's row."""
    even, both = sums
    pixels, taps, stride, dilation = len(even), shape.kernel_width, op.strides[1], op.dilations[1]
    # Taps that share columns follow one another, so that few columns are in registers at a time.
    order = sorted(range(taps), key=lambda kx: (kx * dilation % stride, kx))
    unroll = shape.unroll
    inputs = k.define("inputs", columns)
    end = k.define("weights_end", weights + 4 * shape.pairs * taps)

    def turn() -> None:
        for u in range(unroll):
            loaded: dict[int, Register] = {}
            for kx in order:
                k.fence()
                for p in range(pixels):
                    column = p * stride + kx * dilation
                    if column not in loaded:
                        offset = column * shape.column_bytes + 4 * u
                        # Alignment 2 keeps the compiler from pairing loads into LDRD, which does not pipeline.
                        loaded[column] = k.define(f"x{column}", k.read(inputs, offset, DType.I32, 2))
                word = k.define("word", k.read(weights, 4 * (u * taps + kx), DType.I32, 2))
                low = k.define("low", sxtb16(word))
                x = [loaded[p * stride + kx * dilation] for p in range(pixels)]
                for p in range(pixels):
                    even[p].set(smlad(low, x[p], even[p]))
                for p in range(pixels):
                    both[p].set(smlad(word, x[p], both[p]))
        inputs.set(inputs + 4 * unroll)
        weights.set(weights + 4 * unroll * taps)

    if unroll == shape.pairs:
        turn()
    else:
        with k.repeat_while(lambda: weights.ne(end)):
            turn()
