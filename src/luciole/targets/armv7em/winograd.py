"""3x3 convolution of int8 with stride 1 on cores with the DSP extension, by Winograd's F(2x2, 3x3), exact.

A tile of 2x2 results is A' [ (G w G') * (B' x B) ] A, 16 products a channel instead of 36 (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", 2015). With 2G in the place of G all matrices hold integers and a result
is 4 times its sum. Weights are transformed at compile time and stand in flash as 16 bits, 32 bytes for 9 weights. All
is computed modulo 2**32, so that only 4 times the final sum needs to fit 32 bits.

For a row of tiles, a few tiles at a time: the input under them is widened and combined down its columns, then along
its rows, into [position][pair of channels][tile]; each of the 16 positions is a matrix product of its own, for two
output channels at a time; their 16 sums become 4 results for each tile and channel.

Measured on Cortex-M4, executed instructions per multiplication of the plain convolution: 0.49 to 0.65.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand, maximum, minimum, select
from luciole.ops.conv import Conv2d
from luciole.targets.armv7em import hilo
from luciole.targets.armv7em.intrinsics import kept, sadd16, smlad, ssub16, sxtab16, sxtab16_odd
from luciole.targets.armv7em.parameters import ChannelParameters, Scaling
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Positions of a transformed tile.
POSITIONS = 16
#: Tiles side by side in registers, the most first; two output channels of each make their sums.
TILES = (4, 2, 1)
OUT_CHANNELS = 2
#: Pairs of input channels in one turn of the inner loop, at most.
UNROLLED_PAIRS = 16
#: Bytes of workspace that a few tiles may take.
WORKSPACE_LIMIT = 16384
#: Twice the matrix G of F(2, 3).
TWICE_G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.int64)


@dataclass(frozen=True)
class _Shape:
    """Sizes that the loops are made from; `tiles` lie side by side in registers."""

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    out_channels: int
    tiles: int

    @property
    def pairs(self) -> int:
        """Pairs of input channels."""
        return self.channels // 2

    @property
    def columns(self) -> int:
        """Columns of the input under as many tiles."""
        return 2 * self.tiles + 2

    @property
    def column_bytes(self) -> int:
        """Bytes of one widened column of one row."""
        return 2 * self.channels

    @property
    def line_bytes(self) -> int:
        """Bytes of one row of combined columns."""
        return self.columns * self.column_bytes

    @property
    def padding_offset(self) -> int:
        """Where a row of padding begins: behind four lines of combined columns."""
        return 4 * self.line_bytes

    @property
    def inputs_offset(self) -> int:
        """Where transformed inputs begin."""
        return self.padding_offset + self.columns * self.channels

    def position_bytes(self, tiles: int) -> int:
        """Bytes of a position: its inputs, and behind them its sums."""
        return 4 * tiles * (self.pairs + OUT_CHANNELS)

    @property
    def workspace_bytes(self) -> int:
        return self.inputs_offset + POSITIONS * self.position_bytes(self.tiles)

    @property
    def unroll(self) -> int:
        """Pairs of channels in one turn of the inner loop."""
        return next(u for u in range(min(UNROLLED_PAIRS, self.pairs), 0, -1) if self.pairs % u == 0)


@kernel("conv2d", DType.I8, needs={"dsp"})
class ConvWinograd(KernelRecipe):
    """Convolution with a window of 3x3, stride 1, any padding; input channels by fours, output channels even."""

    name = "winograd"
    trades_memory = True

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Conv2d)
        if op.window.kernel != (3, 3) or op.strides != (1, 1) or op.dilations != (1, 1):
            return "the window is not 3x3 with stride 1"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        out_channels, channels = op.w.type.shape[0], op.w.type.shape[3]
        if channels % 4 or out_channels % OUT_CHANNELS:
            return f"{channels} input channels are no multiple of 4, or {out_channels} output channels not even"
        if _shape(op, TILES[-1]).workspace_bytes > WORKSPACE_LIMIT:
            return f"a tile of {channels} channels exceeds {WORKSPACE_LIMIT} bytes of workspace"
        sums = op.sums()
        if op.rounding != "tflite":
            return f"rounding is {op.rounding}"
        if problem := hilo.requantization_problem(sums):
            return problem
        if 4 * sums.kernel_requantizer.accumulator_bound >= 1 << 31:
            return "four times a sum may exceed 32 bits"
        return ""

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Conv2d)
        return {"weights": _transformed_weights(op), "channels": _parameters(op).words()}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, Conv2d)
        return _shape_of(op).workspace_bytes

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": 4}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, Conv2d)
        shape = _shape_of(op)

        def group(tiles: int) -> int:
            if not tiles:
                return 0
            turns = shape.pairs // shape.unroll
            step = OUT_CHANNELS * tiles + tiles + OUT_CHANNELS
            first = 0 if turns == 1 else 22 + OUT_CHANNELS * tiles + 4 * turns
            products = POSITIONS * (shape.pairs * step + first + OUT_CHANNELS * tiles + 6)
            results = OUT_CHANNELS * (76 * tiles + 12)
            vertical = (2 * tiles + 2) * shape.pairs * 18
            horizontal = 4 * shape.pairs * (10 * tiles + 6)
            return shape.out_channels // OUT_CHANNELS * (products + results) + vertical + horizontal + 80

        whole, rest = divmod(-(-shape.out_width // 2), shape.tiles)
        rows = op.result_types()[0].shape[0] * -(-shape.out_height // 2)
        instructions = rows * (whole * group(shape.tiles) + group(rest))
        return Cost(instructions, int(1.2 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Conv2d)
        shape = _shape_of(op)
        _fill_padding(k, op, shape, v)
        whole, rest = divmod(-(-shape.out_width // 2), shape.tiles)
        if shape.out_width % 2 and not rest:
            # The last tile of a row is half a tile: it needs a place of its own.
            whole, rest = whole - 1, shape.tiles
        step = 2 * shape.tiles
        with k.loop("n", op.x.type.shape[0]) as n, k.loop("row", 0, shape.out_height, 2) as row:
            image = k.define("image", n * (shape.height * shape.width * shape.channels))
            line = k.define("line", (n * shape.out_height + row) * (shape.out_width * shape.out_channels))
            if whole == 1 and not rest:
                _group(k, op, shape, v, (image, line, row), 0, shape.tiles)
                return
            if whole:
                with k.loop("first", 0, whole * step, step) as first:
                    _group(k, op, shape, v, (image, line, row), first, shape.tiles)
            if rest:
                _group(k, op, shape, v, (image, line, row), whole * step, rest)


def _shape(op: Conv2d, tiles: int) -> _Shape:
    _, height, width, channels = op.x.type.shape
    _, out_height, out_width, out_channels = op.result_types()[0].shape
    return _Shape(height, width, channels, out_height, out_width, out_channels, tiles)


def _shape_of(op: Conv2d) -> _Shape:
    """As many tiles as a row has and the workspace holds."""
    needed = -(-op.result_types()[0].shape[2] // 2)
    shapes = [_shape(op, min(tiles, needed)) for tiles in TILES]
    return next(shape for shape in shapes if shape.workspace_bytes <= WORKSPACE_LIMIT)


def _parameters(op: Conv2d) -> ChannelParameters:
    """Biases are scaled as sums are."""
    return ChannelParameters(op.sums().kernel_requantizer, 4 * op.sums().kernel_bias)


def _transformed_weights(op: Conv2d) -> Array:
    """Words [pairs of output channels][position][pair of input channels][output channel of the pair]."""
    out_channels, channels = op.w.type.shape[0], op.w.type.shape[3]
    weights = op.sums().weights.reshape(out_channels, 3, 3, channels)
    transformed = np.einsum("ai,oijc,bj->oabc", TWICE_G, weights, TWICE_G).reshape(out_channels, POSITIONS, channels)
    order = np.arange(channels).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1, 2)
    low, high = transformed[..., order[:, 0]], transformed[..., order[:, 1]]
    words = (low & 0xFFFF) | ((high & 0xFFFF) << 16)
    by_pairs = words.reshape(-1, OUT_CHANNELS, POSITIONS, channels // 2).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(by_pairs.astype(np.uint32).view(np.int32))


def _fill_padding(k: LoopBuilder, op: Conv2d, shape: _Shape, v: Views) -> None:
    """A row of zero points, which stands for rows above and below the input."""
    zero = op.sums().zero_point & 0xFF
    word = zero * 0x01010101
    place = k.define("place", v.workspace.address(shape.padding_offset))
    end = k.define("place_end", v.workspace.address(shape.inputs_offset))
    with k.repeat_while(lambda: place.ne(end)):
        k.write(place, 0, word - (1 << 32) if word >> 31 else word)
        place += 4


def _group(
    k: LoopBuilder, op: Conv2d, shape: _Shape, v: Views, at: tuple[Expr, Expr, Expr], first: Operand, tiles: int
) -> None:
    """`tiles` tiles of one row of them, from the output column `first`: all output channels."""
    image, line, row = at
    _combine_down(k, op, shape, v, image, row, first, 2 * tiles + 2)
    _combine_along(k, shape, v, tiles)
    weights, layout = k.define("weights", v.weights.address()), _parameters(op)
    shared = layout.read_shared(k, v.channels.address())
    parameters = k.define("parameters", v.channels.address(layout.header_bytes))
    out = k.define("out", v.y.address(line + first * shape.out_channels))
    out_end = k.define("out_end", out + shape.out_channels)
    is_half = isinstance(first, int) and first + 2 * tiles > shape.out_width
    with k.repeat_while(lambda: out.ne(out_end)):
        _multiply(k, shape, v, weights, tiles)
        sums = k.define("sums", v.workspace.address(shape.inputs_offset + 4 * shape.pairs * tiles))
        for channel in range(OUT_CHANNELS):
            target = k.define("target", out + channel)
            scaling = (layout, shared, parameters, channel)
            if full := tiles - is_half:
                target_end = k.define("target_end", target + full * 2 * shape.out_channels)
                with k.repeat_while(lambda t=target, e=target_end: t.ne(e)):  # type: ignore[misc]
                    _results(k, shape, scaling, sums, target, row, tiles, 2)
                    sums += 4
                    target += 2 * shape.out_channels
            if is_half:
                _results(k, shape, scaling, sums, target, row, tiles, 1)
                sums += 4
        parameters += OUT_CHANNELS * layout.bytes_each
        out += OUT_CHANNELS


def _combine_down(
    k: LoopBuilder, op: Conv2d, shape: _Shape, v: Views, image: Expr, row: Expr, first: Operand, columns: int
) -> None:
    """B' x down each column under the tiles: four lines of centered halves, zeros outside of the input."""
    start = k.define("start", first - op.pads[1], DType.INDEX)
    begin = k.define("begin", minimum(maximum(-start, 0), columns), DType.INDEX)
    end = k.define("end", maximum(minimum(shape.width - start, columns), begin), DType.INDEX)
    _clear(k, shape, v, 0, begin)
    _clear(k, shape, v, end, columns)
    top = k.define("top", row - op.pads[0], DType.INDEX)
    rows = []
    for i in range(4):
        inside = maximum(minimum(top + i, shape.height - 1), 0)
        source = v.x.address(image + (inside * shape.width + start + begin) * shape.channels)
        is_valid = (top + i).eq(inside)
        rows.append(k.define(f"row{i}", select(is_valid, source, v.workspace.address(shape.padding_offset))))
    write = k.define("write", v.workspace.address(begin * shape.column_bytes))
    write_end = k.define("write_end", v.workspace.address(end * shape.column_bytes))
    offsets = k.define("offsets", hilo.offsets_word(-op.sums().zero_point))
    with k.if_(begin < end), k.repeat_while(lambda: write.ne(write_end)):
        words = [k.define("word", k.read(pointer, 0, DType.I32)) for pointer in rows]
        for half in (0, 1):
            k.fence()
            x = [k.define("x", (sxtab16_odd if half else sxtab16)(offsets, word)) for word in words]
            for i, combined in enumerate(_combined(x)):
                k.write(write, 4 * half + i * shape.line_bytes, combined, alignment=4)
        for pointer in rows:
            pointer += 4
        write += 8


def _combined(x: list[Register]) -> tuple[Expr, Expr, Expr, Expr]:
    """B' x for four pairs of halves."""
    return ssub16(x[0], x[2]), sadd16(x[1], x[2]), ssub16(x[2], x[1]), ssub16(x[1], x[3])


def _clear(k: LoopBuilder, shape: _Shape, v: Views, begin: Operand, end: Operand) -> None:
    """Zeros in some columns of all four lines."""
    with k.loop("c", begin * shape.column_bytes, end * shape.column_bytes, 4) as c:
        place = k.define("place", v.workspace.address(c))
        for i in range(4):
            k.write(place, i * shape.line_bytes, 0)


def _combine_along(k: LoopBuilder, shape: _Shape, v: Views, tiles: int) -> None:
    """(B' x) B along the lines, for all tiles of a pair of channels at a time."""
    position_bytes = shape.position_bytes(tiles)
    with k.loop("i", 4) as i:
        read = k.define("read", v.workspace.address(i * shape.line_bytes))
        read_end = k.define("read_end", read + shape.column_bytes)
        write = k.define("write", v.workspace.address(i * (4 * position_bytes) + shape.inputs_offset))
        with k.repeat_while(lambda: read.ne(read_end)):
            columns: list[Register] = []
            for tile in range(tiles):
                if tile == 2:
                    k.fence()
                while len(columns) < 2 * tile + 4:
                    columns.append(k.define("x", k.read(read, len(columns) * shape.column_bytes, DType.I32, 2)))
                for j, combined in enumerate(_combined(columns[2 * tile : 2 * tile + 4])):
                    k.write(write, j * position_bytes + 4 * tile, combined, alignment=4)
            read += 4
            write += 4 * tiles


def _multiply(k: LoopBuilder, shape: _Shape, v: Views, weights: Register, tiles: int) -> None:
    """The sums of all positions for two output channels, [channel][tile] each; `weights` moves behind them.

    They stand behind the inputs of their positions, so that no register is needed to point there.
    """
    inputs = k.define("inputs", v.workspace.address(shape.inputs_offset))
    inputs_end = k.define("inputs_end", inputs + POSITIONS * shape.position_bytes(tiles))
    is_whole = shape.unroll == shape.pairs

    def turn(totals: list[Register]) -> None:
        for u in range(shape.unroll):
            # Else products would wait for those behind them, and all registers are taken.
            k.fence(holds_arithmetic=u % 2 == 1)
            words = [
                k.define("word", k.read(weights, 4 * (OUT_CHANNELS * u + o), DType.I32, 2)) for o in range(OUT_CHANNELS)
            ]
            for tile in range(tiles):
                # One input at a time: all registers are taken.
                if tile == 2:
                    k.fence()
                # Alignment 2 keeps the compiler from pairing loads into LDRD, which does not pipeline.
                x = k.define("x", k.read(inputs, 4 * (tiles * u + tile), DType.I32, 2))
                for o, word in enumerate(words):
                    total = totals[o * tiles + tile]
                    total.set(smlad(word, x, total))
        moved = inputs + 4 * tiles * shape.unroll, weights + 4 * OUT_CHANNELS * shape.unroll
        inputs.set(moved[0] if is_whole else kept(moved[0]))
        weights.set(moved[1] if is_whole else kept(moved[1]))

    with k.repeat_while(lambda: inputs.ne(inputs_end)):
        totals = [k.define("total", 0) for _ in range(OUT_CHANNELS * tiles)]
        if is_whole:
            turn(totals)
        else:
            end = k.define("position_end", inputs + 4 * tiles * shape.pairs)
            with k.repeat_while(lambda: inputs.ne(end)):
                turn(totals)
        k.fence(holds_arithmetic=True)
        for i, total in enumerate(totals):
            k.write(inputs, 4 * i, total)
        inputs += 4 * OUT_CHANNELS * tiles


def _results(
    k: LoopBuilder,
    shape: _Shape,
    scaling: tuple[ChannelParameters, Scaling | None, Register, int],
    sums: Register,
    target: Register,
    row: Expr,
    tiles: int,
    columns: int,
) -> None:
    """A' m A of one tile and channel: four results, or those that are inside of the image."""
    layout, shared, parameters, channel = scaling
    position, above, below = shape.position_bytes(tiles), [], []
    for j in range(4):
        m = [k.define("m", k.read(sums, (4 * i + j) * position, DType.I32, 2)) for i in range(4)]
        if j == 1:
            # Position (1, 1) is in all four results.
            m[1] = k.define("m", m[1] + layout.read_bias(k, parameters, channel))
        above.append(k.define("above", m[0] + m[1] + m[2]))
        below.append(k.define("below", m[1] - m[2] - m[3]))
        k.fence()
    totals = [
        [k.define("total", s[0] + s[1] + s[2]), *([k.define("total", s[1] - s[2] - s[3])] if columns == 2 else [])]
        for s in (above, below)
    ]
    k.fence()
    scale = layout.read_scaling(k, shared, parameters, channel)

    def store(dy: int) -> None:
        for dx, total in enumerate(totals[dy]):
            doubled = k.define("doubled", total >> 1)
            offset = (dy * shape.out_width + dx) * shape.out_channels
            k.write(target, offset, layout.finished(doubled, scale).cast(DType.I8))

    store(0)
    if shape.out_height % 2 == 0:
        store(1)
    else:
        with k.if_(row < shape.out_height - 1):
            store(1)
