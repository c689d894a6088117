"""Sums of products of one run of int8 inputs with the weights of all output channels, four channels at a time.

Weights are packed [blocks of 4 channels, 16 inputs, channel, input], so that one pointer walks through them; the last
vector of inputs is filled up with zero weights. Each vector of inputs takes four loads of weights and four VMLADAVA; a
few vectors of inputs stay in registers for all channels. Accumulators of VMLADAVA are even registers: no more than four
fit beside the pointers. The four sums become a vector to which the biases are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.core import Views
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr
from luciole.kernel.vectors import ActiveLanes, Dot, Lanes
from luciole.ops.weighted import WeightedSum
from luciole.targets.mve.requantization import BLOCK_BYTES, LANES, blocks_of, packed_parameters, requantized_vector

#: Inputs of a vector.
VECTOR = 16
#: Runs of at most so many vectors stay in registers for all channels; of longer ones a turn takes some.
HELD_VECTORS, TURN_VECTORS = 4, 2
#: Sums of at most so many vectors are written out; the weights of some are in reach of a pointer.
UNROLLED_VECTORS, REACHED_VECTORS = 9, 6
#: What packed weights are aligned to: loads of words reach four times as far as those of bytes.
WEIGHT_ALIGNMENT = 4


def padded_count(count: int) -> int:
    """A number of inputs rounded up to whole vectors."""
    return -(-count // VECTOR) * VECTOR


def packed_weights(sums: WeightedSum) -> Array:
    """int8 [blocks, vectors, 4, 16]."""
    weights = sums.weights
    full = np.zeros((blocks_of(sums.channels) * LANES, padded_count(weights.shape[1])), np.int8)
    full[: weights.shape[0], : weights.shape[1]] = weights
    return np.ascontiguousarray(full.reshape(-1, LANES, full.shape[1] // VECTOR, VECTOR).transpose(0, 2, 1, 3))


def dot_constants(sums: WeightedSum) -> dict[str, Array]:
    """The constants that `dot_channels` reads."""
    return {"weights": packed_weights(sums), "channels": packed_parameters(sums)}


def dot_channels(
    k: LoopBuilder, sums: WeightedSum, v: Views, sources: Sequence[Expr], target: Expr, count: int
) -> None:
    """All channels' results at `target` from `count` inputs at each source.

    Several sources hold whole vectors, and no more than `is_written_out` allows.
    """
    run = _run(k, tuple(sources), count)
    weights, parameters = k.define("weights", v.weights.address()), k.define("parameters", v.channels.address())
    out, whole, rest = k.define("out", target), sums.channels // LANES, sums.channels % LANES
    if whole > 1:
        out_end = k.define("out_end", out + whole * LANES)
        with k.repeat_while(lambda: out.ne(out_end)):
            _block(k, sums, run, out, weights, parameters, LANES)
    elif whole:
        _block(k, sums, run, out, weights, parameters, LANES)
    if rest:
        _block(k, sums, run, out, weights, parameters, rest)


@dataclass(frozen=True)
class _Run:
    """The inputs of a sum: all vectors of a short run in registers, of a long one pointers to them."""

    sources: tuple[Expr, ...]
    count: int
    held: tuple[Expr, ...]

    @property
    def vectors(self) -> int:
        """Of each source, whole ones and one with what is left."""
        return -(-self.count // VECTOR)

    def mask(self, vector: int) -> Expr | None:
        """The lanes of a vector that are inputs; all where there is no mask."""
        tail = self.count - VECTOR * vector
        return ActiveLanes(Constant(tail, DType.INDEX), VECTOR) if tail < VECTOR else None

    def read(self, k: LoopBuilder, source: Expr, vector: int, mask: Expr | None) -> Register:
        """A vector of a source."""
        return k.define("x", k.read(source, VECTOR * vector, DType.I8, lanes=VECTOR, mask=mask))


def _run(k: LoopBuilder, sources: tuple[Expr, ...], count: int) -> _Run:
    run = _Run(sources, count, ())
    assert len(sources) == 1 or count % VECTOR == 0
    if len(sources) * run.vectors > HELD_VECTORS:
        return run
    held = [run.read(k, source, i, run.mask(i)) for source in sources for i in range(run.vectors)]
    return replace(run, held=tuple(held))


def _block(
    k: LoopBuilder, sums: WeightedSum, run: _Run, out: Register, weights: Register, parameters: Register, channels: int
) -> None:
    """Up to four channels; moves the pointers behind them."""

    def add(total: Expr, x: Expr, vector: int, channel: int) -> Expr:
        place = VECTOR * (LANES * vector + channel)
        return Dot(total.as_data(), x.as_data(), k.read(weights, place, DType.I8, WEIGHT_ALIGNMENT, VECTOR))

    totals: list[Expr] = [Constant(0, DType.I32)] * channels
    if run.held:
        for i, x in enumerate(run.held):
            totals = [k.define("sum", add(total, x, i, j)) for j, total in enumerate(totals)]
        weights.set(weights + LANES * VECTOR * len(run.held))
    else:
        totals = _long_sums(k, run, weights, channels, add)
    filled = [totals[min(j, channels - 1)].as_data() for j in range(LANES)]
    total = Lanes(tuple(filled)) + k.read(parameters, 0, DType.I32, lanes=LANES)
    result = requantized_vector(k, sums, total, parameters)
    mask = None if channels == LANES else ActiveLanes(Constant(channels, DType.INDEX), LANES)
    k.write(out, 0, result, DType.I8, mask=mask)
    parameters.set(parameters + BLOCK_BYTES)
    out.set(out + channels)


def is_written_out(sources: int, count: int) -> bool:
    """Whether the sum of `count` inputs at each of some sources has no loop."""
    return sources * -(-count // VECTOR) <= UNROLLED_VECTORS


def _long_sums(
    k: LoopBuilder, run: _Run, weights: Register, channels: int, add: Callable[[Expr, Expr, int, int], Expr]
) -> list[Expr]:
    """The sums of more vectors than registers hold: written out, or of one source some vectors in a turn."""
    totals = [k.define(f"sum{j}", 0) for j in range(channels)]

    def step(source: Expr, first: int, count: int) -> None:
        for i in range(count):
            x = run.read(k, source, first + i, run.mask(first + i) if first + i == run.vectors - 1 else None)
            for j, total in enumerate(totals):
                total.set(add(total, x, i, j))
        weights.set(weights + LANES * VECTOR * count)

    if is_written_out(len(run.sources), run.count):
        for source in run.sources:
            for first in range(0, run.vectors, REACHED_VECTORS):
                step(source, first, min(REACHED_VECTORS, run.vectors - first))
        return list(totals)
    (source,) = run.sources
    inputs = k.define("inputs", source)
    turns = run.count // VECTOR // TURN_VECTORS
    with k.loop("vector", turns):
        step(inputs, 0, TURN_VECTORS)
        inputs.set(inputs + VECTOR * TURN_VECTORS)
    first = turns * TURN_VECTORS
    if first < run.vectors:
        step(inputs - VECTOR * first, first, run.vectors - first)
    return list(totals)


def dot_instructions(sums: WeightedSum, count: int) -> int:
    """Executed instructions of `dot_channels`, from counting."""
    vectors = -(-count // VECTOR)
    if vectors <= HELD_VECTORS:
        return blocks_of(sums.channels) * (8 * vectors + 17) + vectors + 8
    if vectors <= UNROLLED_VECTORS:
        return blocks_of(sums.channels) * (9 * vectors + 20) + 8
    return blocks_of(sums.channels) * (10 * vectors + 24) + 8
