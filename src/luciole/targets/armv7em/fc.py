"""Fully connected layers of int8 on cores with the DSP extension: one row by four outputs in registers.

Weights are packed by pairs of outputs, see `hilo`, or, where a pair of sums may exceed the packing's bits, stay int8,
[four inputs][output], and are widened to halves in registers. Inputs are widened once into the workspace where it is
small and there are many outputs, else by each four outputs anew. They are not centered: the zero point is in the bias.

Measured on Cortex-M4, executed instructions per multiplication: 1.0 packed, 1.25 not packed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr
from luciole.ops.matmul import FullyConnected
from luciole.targets.armv7em import hilo
from luciole.targets.armv7em.intrinsics import packed_halves, smlad, sxtb16, sxtb16_odd
from luciole.targets.armv7em.parameters import ChannelParameters, Scaling
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Outputs side by side.
TILE = 4
#: Inputs of a word.
CHUNK = 4
#: Chunks in one turn of the inner loop, at most.
UNROLL = 8
UNROLLED_OUTPUTS = 32
#: Widened inputs take at most this many bytes, and pay from this many outputs on.
WORKSPACE_LIMIT = 4096
WIDENING_OUTPUTS = 16


@dataclass(frozen=True)
class _Shape:
    """Sizes that the loops are made from."""

    rows: int
    inputs: int
    outputs: int

    @property
    def chunks(self) -> int:
        """Words of inputs, the last one perhaps filled up with zeros."""
        return -(-self.inputs // CHUNK)

    @property
    def is_widened(self) -> bool:
        """Whether inputs are widened into the workspace first."""
        return self.outputs >= WIDENING_OUTPUTS and 2 * CHUNK * self.chunks <= WORKSPACE_LIMIT

    @property
    def unroll(self) -> int:
        """Chunks in one turn of the inner loop: fewer where there are so few outputs that code counts."""
        whole, most = self.inputs // CHUNK, UNROLL if self.outputs >= UNROLLED_OUTPUTS else UNROLL // 2
        return next(u for u in range(most, 0, -1) if whole % u == 0) if whole else 0


class _FullyConnectedTiles(KernelRecipe):
    """What the two layouts of weights share."""

    is_packed: bool

    def applies(self, op: Operator) -> str:
        assert isinstance(op, FullyConnected)
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        shape = _shape(op)
        if shape.rows > 1 and shape.inputs % CHUNK:
            return f"rows of {shape.inputs} inputs are not whole words"
        return hilo.packing_problem(op.sums()) if self.is_packed else hilo.requantization_problem(op.sums())

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, FullyConnected)
        shape = _shape(op)
        return 2 * CHUNK * shape.chunks if shape.is_widened else 0

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": 4}

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, FullyConnected)
        shape, weights = _shape(op), op.sums().weights
        whole = shape.outputs // TILE * TILE
        tiles = [weights[:whole].reshape(-1, TILE, shape.inputs)] if whole else []
        tiles += [weights[whole:][None]] if whole < shape.outputs else []
        columns = ((0, 0), (0, 0), (0, CHUNK * shape.chunks - shape.inputs))
        pack = _packed_tile if self.is_packed else _plain_tile
        words = [pack(tile) for part in tiles for tile in np.pad(part, columns)]
        return {"weights": np.concatenate(words), "channels": _parameters(op).words()}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, FullyConnected)
        shape = _shape(op)
        tiles, rest = divmod(shape.outputs, TILE)
        instructions = 20.0 + (shape.chunks * 7.0 if shape.is_widened else 0.0)
        for count, outputs in ((tiles, TILE), (1, rest)):
            if outputs and count:
                words = -(-outputs // 2) * 2 if self.is_packed else outputs
                each = words * (3.5 if self.is_packed else 4.5) + (1 if shape.is_widened else 2.5)
                turn = 4 / shape.unroll if 0 < shape.unroll < shape.chunks else 0
                instructions += count * (shape.chunks * (each + turn) + 10 * outputs + (14 if turn else 2))
        instructions *= shape.rows
        return Cost(int(instructions), int(1.3 * instructions))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, FullyConnected)
        shape, parameters = _shape(op), _parameters(op)
        source, out = k.define("source", v.x.address()), k.define("out", v.y.address())
        shared = parameters.read_shared(k, v.channels.address())

        def row() -> None:
            if shape.is_widened:
                _widen(k, shape, v, source)
            inputs = k.define("inputs_begin", v.workspace.address()) if shape.is_widened else source
            weights = k.define("weights", v.weights.address())
            channels = k.define("channels", v.channels.address(parameters.header_bytes))
            tiles, rest = divmod(shape.outputs, TILE)
            if tiles:
                out_end = k.define("out_end", out + tiles * TILE)
                with k.repeat_while(lambda: out.ne(out_end)):
                    self._tile(k, shape, parameters, shared, inputs, weights, channels, out, TILE)
                    channels += TILE * parameters.bytes_each
                    out.set(out + TILE)
            if rest:
                self._tile(k, shape, parameters, shared, inputs, weights, channels, out, rest)
                out.set(out + rest)

        if shape.rows == 1:
            row()
            return
        end = k.define("rows_end", v.x.address(shape.rows * shape.inputs))
        with k.repeat_while(lambda: source.ne(end)):
            row()
            source += shape.inputs

    def _tile(
        self,
        k: LoopBuilder,
        shape: _Shape,
        parameters: ChannelParameters,
        shared: Scaling | None,
        inputs: Expr,
        weights: Register,
        channels: Expr,
        out: Expr,
        outputs: int,
    ) -> None:
        """A few outputs of one row; `weights` ends behind them."""
        biases = [k.define(f"bias{i}", parameters.read_bias(k, channels, i)) for i in range(outputs)]
        if self.is_packed:
            if outputs % 2:
                biases.append(k.define("bias", 0))
            sums = []
            for even, odd in zip(biases[0::2], biases[1::2], strict=True):
                sums += [even, k.define("both", even + (odd << 8))]
        else:
            sums = biases
        _accumulate(k, shape, inputs, weights, sums, self.is_packed)
        k.fence()
        for i in range(outputs):
            total: Expr = sums[i]
            if self.is_packed and i % 2:
                total = (sums[i] - sums[i - 1]) >> 8
            doubled = k.define("doubled", total << 1)
            scaling = parameters.read_scaling(k, shared, channels, i)
            k.write(out, i, parameters.finished(doubled, scaling).cast(DType.I8))


@kernel("fully_connected", DType.I8, needs={"dsp"})
class FullyConnectedHiLo(_FullyConnectedTiles):
    """Fully connected layers with two weights a halfword."""

    name = "hilo"
    is_packed = True


@kernel("fully_connected", DType.I8, needs={"dsp"})
class FullyConnectedPairs(_FullyConnectedTiles):
    """Fully connected layers whose sums may be too large for packed weights."""

    name = "pairs"
    is_packed = False


def _shape(op: FullyConnected) -> _Shape:
    outputs, inputs = op.w.type.shape
    return _Shape(op.x.type.elements // inputs, inputs, outputs)


def _parameters(op: FullyConnected) -> ChannelParameters:
    """Biases with the zero point of x in them."""
    sums = op.sums()
    bias = sums.kernel_bias - sums.zero_point * sums.weights.sum(axis=1)
    return ChannelParameters(sums.kernel_requantizer, bias)


def _packed_tile(tile: Array) -> Array:
    """Words of a tile's weights [outputs, inputs]: for four inputs two words for each pair of outputs."""
    order = np.arange(tile.shape[1]).reshape(-1, CHUNK)[:, [0, 2, 1, 3]].reshape(-1, 2)
    words = hilo.packed_words(tile, order).reshape(-(-len(tile) // 2), -1, 2)
    return np.ascontiguousarray(words.transpose(1, 0, 2)).reshape(-1)


def _plain_tile(tile: Array) -> Array:
    """Words of a tile's weights [outputs, inputs]: for four inputs a word of int8 for each output."""
    chunks = tile.astype(np.int8).reshape(len(tile), -1, CHUNK).transpose(1, 0, 2)
    return np.ascontiguousarray(chunks).reshape(-1).view(np.int32)


def _last_chunk(k: LoopBuilder, source: Expr, count: int) -> tuple[Expr, Expr]:
    """Halves of the one to three inputs behind the last whole word: the first and third, the second."""
    values = [k.define(f"last{i}", k.read(source, i, DType.I8).cast(DType.I32)) for i in range(count)]
    first = packed_halves(values[0], values[2]) if count == 3 else k.define("low", values[0] & 0xFFFF)
    return first, k.define("low", values[1] & 0xFFFF) if count > 1 else k.define("none", 0)


def _widen(k: LoopBuilder, shape: _Shape, v: Views, source: Expr) -> None:
    """A row of inputs as pairs of halves into the workspace."""
    read, write = k.define("read", source), k.define("write", v.workspace.address())
    whole, rest = divmod(shape.inputs, CHUNK)
    unroll = next((u for u in (4, 2, 1) if whole % u == 0), 1)

    def some() -> None:
        for i in range(unroll):
            word = k.define("word", k.read(read, CHUNK * i, DType.I32))
            k.write(write, 8 * i, sxtb16(word))
            k.write(write, 8 * i + 4, sxtb16_odd(word))

    if whole:
        read_end = k.define("read_end", source + whole * CHUNK)
        with k.repeat_while(lambda: read.ne(read_end)):
            some()
            read += CHUNK * unroll
            write += 2 * CHUNK * unroll
    if rest:
        for i, pair in enumerate(_last_chunk(k, read, rest)):
            k.write(write, 4 * i, pair)


def _accumulate(
    k: LoopBuilder, shape: _Shape, begin: Expr, weights: Register, sums: list[Register], is_packed: bool
) -> None:
    """The sums of a tile over all inputs; `weights` ends behind the tile's."""
    inputs, whole = k.define("inputs", begin), shape.inputs // CHUNK
    words = 2 * (len(sums) // 2) if is_packed else len(sums)
    step, is_long = (2 if shape.is_widened else 1) * CHUNK, whole > shape.unroll

    def from_workspace(chunk: int) -> tuple[Expr, Expr]:
        first, second = (k.define(f"x{i}", k.read(inputs, step * chunk + 4 * i, DType.I32)) for i in (0, 1))
        return first, second

    def from_x(chunk: int) -> tuple[Expr, Expr]:
        word = k.define("word", k.read(inputs, step * chunk, DType.I32))
        return k.define("x0", sxtb16(word)), k.define("x1", sxtb16_odd(word))

    def turn(count: int, read: Callable[[int], tuple[Expr, Expr]]) -> None:
        for chunk in range(count):
            k.fence()
            x = read(chunk)
            for first in range(0, words, 2):
                k.fence()
                pair = range(first, min(first + 2, words))
                loaded = [k.define("w", k.read(weights, 4 * (words * chunk + i), DType.I32)) for i in pair]
                if is_long:
                    # Loads that stay neighbors are one instruction; a few are better free to move.
                    k.fence(holds_arithmetic=True)
                for i, word in zip(pair, loaded, strict=True):
                    if is_packed:
                        low = k.define("low", sxtb16(word))
                        sums[first].set(smlad(low, x[i - first], sums[first]))
                        sums[first + 1].set(smlad(word, x[i - first], sums[first + 1]))
                    else:
                        low, high = k.define("low", sxtb16(word)), k.define("high", sxtb16_odd(word))
                        sums[i].set(smlad(low, x[0], sums[i]))
                        sums[i].set(smlad(high, x[1], sums[i]))
        weights.set(weights + 4 * words * count)

    read = from_workspace if shape.is_widened else from_x
    if whole:
        turns = whole // shape.unroll
        if turns == 1:
            turn(whole, read)
            inputs.set(inputs + step * whole)
        else:
            inputs_end = k.define("inputs_end", inputs + step * whole)
            with k.repeat_while(lambda: inputs.ne(inputs_end)):
                turn(shape.unroll, read)
                inputs.set(inputs + step * shape.unroll)
    if rest := shape.inputs % CHUNK:
        turn(1, from_workspace if shape.is_widened else lambda chunk: _last_chunk(k, inputs, rest))
