"""Sums of products of one run of int8 inputs with the weights of all output channels, four channels at a time.

Weights are packed [blocks of 4 channels, 16 inputs, channel, input], so that one pointer walks through them; the last
vector of inputs is filled up with zero weights. A turn of the inner loop has one vector of inputs, four of weights, and
four VMLADAVA. Accumulators of VMLADAVA are even registers: no more than four fit beside the pointers.
"""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Views
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr
from luciole.ops.weighted import WeightedSum
from luciole.targets.mve.requantization import BLOCK_BYTES, LANES, blocks_of, packed_parameters, requantized

#: Inputs of a vector.
VECTOR = 16
#: Runs of at most so many vectors are written out.
UNROLLED_VECTORS = 4
#: Bytes of workspace, at its beginning, in which the sums of a block become a vector.
SCRATCH_BYTES = 4 * LANES


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


def dot_channels(k: LoopBuilder, sums: WeightedSum, v: Views, source: Expr, target: Expr, count: int) -> None:
    """All channels' results at `target` from `count` inputs at `source`; needs `SCRATCH_BYTES` of workspace."""
    weights, parameters = k.define("weights", v.weights.address()), k.define("parameters", v.channels.address())
    out, whole, rest = k.define("out", target), sums.channels // LANES, sums.channels % LANES
    if whole > 1:
        out_end = k.define("out_end", out + whole * LANES)
        with k.repeat_while(lambda: out.ne(out_end)):
            _block(k, sums, v, source, out, weights, parameters, count, LANES)
    elif whole:
        _block(k, sums, v, source, out, weights, parameters, count, LANES)
    if rest:
        _block(k, sums, v, source, out, weights, parameters, count, rest)


def _block(
    k: LoopBuilder,
    sums: WeightedSum,
    v: Views,
    source: Expr,
    out: Register,
    weights: Register,
    parameters: Register,
    count: int,
    channels: int,
) -> None:
    """Up to four channels; moves the pointers behind them."""
    totals = [k.define(f"sum{j}", k.read(parameters, 4 * j, DType.I32)) for j in range(channels)]
    inputs = k.define("inputs", source)

    def add(lanes: int) -> None:
        with k.loop("lane", lanes, is_vector=True) as lane:
            x = k.define("x", k.read(inputs + lane, 0, DType.I8))
            for j, total in enumerate(totals):
                total += x.cast(DType.I32) * k.read(weights + lane, VECTOR * j, DType.I8).cast(DType.I32)
        weights.set(weights + LANES * VECTOR)
        inputs.set(inputs + VECTOR)

    vectors, tail = divmod(count, VECTOR)
    if vectors <= UNROLLED_VECTORS:
        for _ in range(vectors):
            add(VECTOR)
    else:
        with k.loop("vector", vectors):
            add(VECTOR)
    if tail:
        add(tail)
    scratch = v.workspace.address()
    for j, total in enumerate(totals):
        k.write(scratch, 4 * j, total)
    with k.loop("channel", channels, is_vector=True) as lane:
        total_read = k.read(scratch + lane * 4, 0, DType.I32)
        k.write(out + lane, 0, requantized(k, sums, total_read, parameters, lane), DType.I8)
    parameters.set(parameters + BLOCK_BYTES)
    out.set(out + channels)


def dot_instructions(sums: WeightedSum, count: int) -> int:
    """Executed instructions of `dot_channels`, from counting."""
    vectors = -(-count // VECTOR)
    turn = 9 if vectors <= UNROLLED_VECTORS else 10
    return blocks_of(sums.channels) * (turn * vectors + 22) + 8


def dot_bytes(sums: WeightedSum, count: int) -> int:
    """Bytes of constants of `dot_channels`."""
    return blocks_of(sums.channels) * (LANES * padded_count(count) + BLOCK_BYTES)
