"""What values each channel of a quantized tensor can take, whatever the input: interval analysis in exact integers.

A channel is a place on the last axis. The interval of a channel holds every int8 that any element of it can be.
Operators that the analysis does not know give the whole range of the type, which is always sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Graph, Operator, Value
from luciole.ir.types import Array, DType
from luciole.ops.activation import UnaryOperator
from luciole.ops.common import Window
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add
from luciole.ops.matmul import FullyConnected
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.quantization import Requantize
from luciole.ops.reshape import Reshape
from luciole.ops.weighted import WeightedSum

#: Accumulators beyond this wrap in int32.
ACCUMULATOR_LIMIT = 1 << 31


@dataclass(frozen=True)
class Intervals:
    """The least and the greatest value of each channel, int64 [channels]."""

    low: Array
    high: Array

    @property
    def constant(self) -> Array:
        """Which channels have one value only."""
        return np.asarray(self.low == self.high)

    @classmethod
    def whole(cls, value: Value) -> Intervals:
        """Any value of the type."""
        low, high = value.type.dtype.limits
        channels = value.type.shape[-1] if value.type.shape else 1
        return cls(np.full(channels, low, np.int64), np.full(channels, high, np.int64))


def channel_intervals(graph: Graph) -> dict[Value, Intervals]:
    """The intervals of every int8 value of a graph."""
    found: dict[Value, Intervals] = {}
    for value in (*graph.inputs, *graph.constants):
        if value.type.dtype is DType.I8 and value.type.shape:
            found[value] = Intervals.whole(value) if value.data is None else _of_constant(value.data)
    for op in graph.operators:
        for result in graph.results(op):
            if result.type.dtype is DType.I8 and result.type.shape:
                found[result] = _transfer(op, found) or Intervals.whole(result)
    return found


def _of_constant(data: Array) -> Intervals:
    flat = data.reshape(-1, data.shape[-1]).astype(np.int64)
    return Intervals(flat.min(axis=0), flat.max(axis=0))


def _transfer(op: Operator, known: dict[Value, Intervals]) -> Intervals | None:
    """The intervals of an operator's result from those of its operands, or `None` when nothing is known."""
    operands = [known.get(value) for value in op.operands if value.type.rank]
    if isinstance(op, Conv2d | FullyConnected | DepthwiseConv2d):
        x = known.get(op.x)
        return _weighted(op, x) if x is not None else None
    if any(interval is None for interval in operands):
        return None
    intervals = [interval for interval in operands if interval is not None]
    match op:
        case UnaryOperator() | Requantize():
            return _through_table(op.table(), intervals[0])
        case AveragePool2d() | MaxPool2d() if op.quant == op.x.type.quant or op.quant is None:
            return _clamped(op, intervals[0])
        case Add() if op.is_quantized:
            return _sum(op, *intervals)
        case Concat() if op.axis == op.operands[0].type.rank - 1:
            return Intervals(np.concatenate([i.low for i in intervals]), np.concatenate([i.high for i in intervals]))
        case Pad():
            return _padded(op, intervals[0])
        case Reshape() if keeps_channels(op):
            return intervals[0]
    return None


def keeps_channels(op: Reshape) -> bool:
    """Whether the last axis of a reshape's result is the last axis of its operand."""
    return bool(op.shape) and op.x.type.rank > 0 and op.shape[-1] == op.x.type.shape[-1]


def _weighted(op: Conv2d | FullyConnected | DepthwiseConv2d, x: Intervals) -> Intervals | None:
    """Products at their extremes, summed; then the requantization, which is monotone as long as nothing wraps."""
    sums = op.sums()
    if not sums.is_int8:
        return None
    low, high = x.low - sums.zero_point, x.high - sums.zero_point
    window = getattr(op, "window", None)
    if isinstance(window, Window) and window.has_padding:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    if isinstance(op, DepthwiseConv2d):
        low, high = (np.repeat(bound, op.multiplier)[:, None] for bound in (low, high))
    else:
        low, high = (np.tile(bound, sums.weights.shape[1] // len(bound)) for bound in (low, high))
    at_low, at_high = sums.weights * low, sums.weights * high
    least = np.minimum(at_low, at_high).sum(axis=1)
    greatest = np.maximum(at_low, at_high).sum(axis=1)
    return _requantized(sums, least, greatest)


def _requantized(sums: WeightedSum, least: Array, greatest: Array) -> Intervals:
    results = Intervals(sums.compute(least).astype(np.int64), sums.compute(greatest).astype(np.int64))
    left = np.array([max(0, multiplier.shift) for multiplier in sums.multipliers], np.int64)
    extreme = np.maximum(np.abs(least + sums.bias), np.abs(greatest + sums.bias)) << left
    is_known = (extreme < ACCUMULATOR_LIMIT) | (least == greatest)
    return Intervals(np.where(is_known, results.low, -128), np.where(is_known, results.high, 127))


def _through_table(table: Array, x: Intervals) -> Intervals:
    """The least and greatest entries of a 256-entry table between two places."""
    entries = table.astype(np.int64)
    reached = [entries[a + 128 : b + 129] for a, b in zip(x.low, x.high, strict=True)]
    return Intervals(np.array([r.min() for r in reached], np.int64), np.array([r.max() for r in reached], np.int64))


def _clamped(op: AveragePool2d | MaxPool2d, x: Intervals) -> Intervals:
    """A mean or maximum lies between the extremes; then the fused activation."""
    return Intervals(op.clamped(x.low).astype(np.int64), op.clamped(x.high).astype(np.int64))


def _sum(op: Add, a: Intervals, b: Intervals) -> Intervals | None:
    """Addition grows with both operands."""
    if len(a.low) != len(b.low):
        return None
    low, high = (op.compute(p.astype(np.int8), q.astype(np.int8)) for p, q in ((a.low, b.low), (a.high, b.high)))
    return Intervals(low.astype(np.int64), high.astype(np.int64))


def _padded(op: Pad, x: Intervals) -> Intervals | None:
    """The border's value joins every channel; a border along the channels makes new ones, of which nothing is kept."""
    if op.before[-1] or op.after[-1]:
        return None
    filler = int(np.asarray(op.fill()))
    if not any((*op.before, *op.after)):
        return x
    return Intervals(np.minimum(x.low, filler), np.maximum(x.high, filler))
