"""Cross-layer equalization: channels of neighboring layers get weights of about the same magnitude.

For f homogeneous (relu, or nothing), w2 * f(w1 * x + b1) = (w2 * s) * f((w1 / s) * x + b1 / s) in each channel between
two layers, for every s > 0 (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
correction"). Here every s is a power of two, so that the float model computes the same bits as before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from luciole.graph.core import Graph, Operator, Value
from luciole.ir.types import Array, DType
from luciole.ops.activation import Relu
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.reshape import Reshape
from luciole.quantize.roles import CHANNEL_AXES, Weighted

#: Chains of layers settle by and by; more rounds than this change little.
_ROUNDS = 20

#: No channel is scaled by more than two to this.
_LARGEST_EXPONENT = 40

Exponents = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Pair:
    """Two layers with a value of channels between them that nobody else reads."""

    first: Weighted
    second: Weighted


def equalize(graph: Graph) -> int:
    """Equalize all neighbors in a float graph; how many pairs changed. What the graph computes stays the same."""
    changed: set[tuple[Value, Value]] = set()
    for _ in range(_ROUNDS):
        scaled = [_equalize_pair(graph, pair) for pair in _pairs(graph)]
        now = {names for names in scaled if names is not None}
        if not now:
            break
        changed |= now
    return len(changed)


def _pairs(graph: Graph) -> Iterator[_Pair]:
    """Neighbors in order; each is looked at when the one before is done, since operators are replaced."""
    for value in [graph.result(op) for op in graph.operators if isinstance(op, Weighted)]:
        first = value.producer
        if not isinstance(first, Weighted) or not _has_constant_weights(first):
            continue
        second = _reader(graph, value) if first.activation in ("none", "relu") else None
        if isinstance(second, Weighted) and _has_constant_weights(second):
            yield _Pair(first, second)


def _has_constant_weights(op: Weighted) -> bool:
    return op.w.type.dtype is DType.F32 and op.w.data is not None and (op.b is None or op.b.data is not None)


def _reader(graph: Graph, value: Value) -> Operator | None:
    """The only reader of a value, behind operators that commute with positive factors of the last axis."""
    while graph.use_count(value) == 1 and value.users:
        (reader,) = value.users
        if reader.operands.count(value) > 1 or (isinstance(reader, Weighted) and reader.x is not value):
            return None
        is_same_axis = isinstance(reader, Reshape) and reader.shape[-1:] == value.type.shape[-1:]
        if not is_same_axis and not isinstance(reader, Relu | MaxPool2d | AveragePool2d):
            return reader
        value = graph.result(reader)
    return None


def _equalize_pair(graph: Graph, pair: _Pair) -> tuple[Value, Value] | None:
    """Move powers of two from the greater weights of each channel to the lesser; the results, when any did move."""
    first, second = pair.first, pair.second
    names = (graph.result(first), graph.result(second))
    w, b = _rows(first.w.data, CHANNEL_AXES[type(first)]), None if first.b is None else first.b.data
    columns = _columns(second)
    if len(columns) != len(w):
        return None
    magnitudes = (np.abs(rows).max(axis=1, initial=0).tolist() for rows in (w, columns))
    exponents = np.array([_exponent(row, column) for row, column in zip(*magnitudes, strict=True)], np.int64)
    exponents[~_is_exact(w, -exponents) | ~_is_exact(columns, exponents)] = 0
    if b is not None:
        exponents[~_is_exact(b.reshape(-1, 1), -exponents)] = 0
    if not exponents.any():
        return None
    w_before = _scaled(graph, first.w, CHANNEL_AXES[type(first)], -exponents)
    b_before = None if first.b is None else _scaled(graph, first.b, 0, -exponents)
    axis = _input_axis(second)
    repeated = np.repeat(exponents, second.w.type.shape[axis] // len(exponents))
    w_behind = _scaled(graph, second.w, axis, repeated)
    graph.replace(first, replace(first, w=w_before, b=b_before))
    graph.replace(second, replace(second, w=w_behind))
    for constant in filter(None, (first.w, first.b, second.w)):
        if graph.use_count(constant) == 0:
            graph.erase_constant(constant)
    return names


def _input_axis(op: Weighted) -> int:
    """The axis of the weights along which the channels of the input lie."""
    return {Conv2d: 3, DepthwiseConv2d: 3, FullyConnected: 1}[type(op)]


def _columns(op: Weighted) -> Array:
    """The weights that meet each channel of the input, a row each."""
    rows = _rows(op.w.data, _input_axis(op))
    channels = op.x.type.shape[-1]
    return rows.reshape(channels, -1) if len(rows) % max(1, channels) == 0 else rows


def _rows(data: Array | None, axis: int) -> Array:
    assert data is not None
    return np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)


def _exponent(first: float, second: float) -> int:
    """k for which first / 2**k and second * 2**k are nearest to each other; 0 where one is zero."""
    if not first or not second:
        return 0
    (one, one_exponent), (other, other_exponent) = math.frexp(first), math.frexp(second)
    ratio_exponent = one_exponent - other_exponent + (one >= other)
    return max(-_LARGEST_EXPONENT, min(_LARGEST_EXPONENT, ratio_exponent // 2))


def _is_exact(rows: Array, exponents: Exponents) -> Array:
    """Whether no number of a row loses bits when it is scaled."""
    there = np.ldexp(rows, exponents[:, None])
    return np.asarray((np.ldexp(there, -exponents[:, None]) == rows).all(axis=1))


def _scaled(graph: Graph, value: Value, axis: int, exponents: Exponents) -> Value:
    """A new constant: each slice along an axis multiplied by two to its exponent."""
    assert value.data is not None
    shape = [1] * value.type.rank
    shape[axis] = -1
    return graph.add_constant(np.ldexp(value.data, exponents.reshape(shape)), None, value.name)
