"""Channels that change nothing are removed, with proof, and the result stays equal in every bit.

Half of the official MLPerf Tiny person-detection model goes this way. A channel need not exist when nobody reads it, or
when it has one value whatever the input and every reader can take that value into its bias.

Before: conv2d with 64 channels, 20 of them constant -> conv2d.   After: conv2d with 44 channels -> conv2d with another
bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.rewrite import RuleCounter
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.ops.activation import UnaryOperator
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.quantization import Requantize
from luciole.ops.reshape import Reshape
from luciole.passes.channel_intervals import Intervals, channel_intervals, keeps_channels
from luciole.passes.manager import graph_pass

#: Kernels work on pairs of channels: an odd one saves little and costs more.
CHANNEL_GRANULE = 2


@dataclass(frozen=True)
class RemovedChannel:
    """The proof of one removal: a channel of a value that has `constant` as its only value, or (`None`) that nobody
    reads.
    """

    value: str
    channel: int
    constant: int | None

    def __str__(self) -> str:
        reason = "is never read" if self.constant is None else f"is always {self.constant}"
        return f"channel {self.channel} of %{self.value} {reason}"


@graph_pass
def shrink_channels(graph: Graph, counter: RuleCounter) -> int:
    """Remove channels that are proven constant or that nobody reads."""
    return len(shrink(graph, counter))


def shrink(graph: Graph, counter: RuleCounter | None = None) -> tuple[RemovedChannel, ...]:
    """Shrink a graph in place; the channels removed, with the reason for each."""
    plan = _Plan(graph, channel_intervals(graph))
    removed = tuple(plan.removed())
    if not removed or (counter is not None and counter.is_exhausted):
        return ()
    _Rewriter(graph, plan).run()
    graph.remarks += [str(channel) for channel in removed]
    if counter is not None:
        counter.count("shrink_channels", graph.name, f"{len(removed)} channels fewer")
    return removed


class _Plan:
    """Which channels each value keeps: the least sets that serve every reader."""

    def __init__(self, graph: Graph, intervals: dict[Value, Intervals]) -> None:
        self.graph = graph
        self.intervals = intervals
        self._leader: dict[Value, Value] = {}
        self.kept: dict[Value, Array] = {}
        self._couple()
        self._grow()

    # Values whose channels correspond one to one are kept alike.

    def leader(self, value: Value) -> Value:
        """The representative of all values that keep the same channels as this one."""
        while (parent := self._leader.get(value, value)) is not value:
            value = parent
        return value

    def _couple(self) -> None:
        for op in self.graph.operators:
            for value in _coupled_operands(op):
                first, second = self.leader(value), self.leader(self.graph.results(op)[0])
                if first is not second:
                    self._leader[second] = first

    def _grow(self) -> None:
        """Begin with what must exist and add what its makers read, until nothing is added."""
        for value in self.graph.values():
            leader = self.leader(value)
            if leader not in self.kept and value.type.rank:
                self.kept[leader] = np.zeros(leader.type.shape[-1], np.bool_)
        for value in self.graph.values():
            if value.type.rank and not self._can_shrink(value):
                self.kept[self.leader(value)][:] = True
        changed = True
        while changed:
            changed = False
            for op in reversed(self.graph.operators):
                if isinstance(op, Conv2d | FullyConnected) and _is_int8(op):
                    kept = self.kept[self.leader(op.x)]
                    wanted = self._read_channels(op) & ~kept
                    if wanted.any():
                        kept |= wanted
                        changed = True

    def _can_shrink(self, value: Value) -> bool:
        """Whether the maker and all readers of a value can do with fewer channels of it."""
        maker = value.producer
        if maker is None or value.type.dtype is not DType.I8 or self.graph.is_output(value):
            return False
        if not (isinstance(maker, Conv2d | FullyConnected) and _is_int8(maker)) and not _coupled_operands(maker):
            return False
        return all(_reads_by_channel(user, value) for user in value.users)

    def _read_channels(self, op: Conv2d | FullyConnected) -> Array:
        """Channels of x with a weight in a kept output channel, those that the bias can take over left out."""
        live = self.kept[self.leader(self.graph.results(op)[0])]
        channels = op.x.type.shape[-1]
        weights = op.sums().weights[live].reshape(-1, channels)
        read = np.any(weights != 0, axis=0) if weights.size else np.zeros(channels, np.bool_)
        return np.asarray(read & ~self.foldable(op))

    def foldable(self, op: Conv2d | FullyConnected) -> Array:
        """Channels of x that are constant, and whose constant does not meet padding that says something else."""
        intervals = self.intervals[op.x]
        foldable = intervals.constant
        if isinstance(op, Conv2d) and op.window.has_padding:
            foldable = foldable & (intervals.low == op.sums().zero_point)
        return np.asarray(foldable)

    def keeps(self, value: Value) -> Array:
        """Indices of the channels that a value keeps: those needed, and one more where their number would be odd."""
        needed = self.kept[self.leader(value)]
        missing = -int(needed.sum()) % CHANNEL_GRANULE if needed.any() else CHANNEL_GRANULE
        spare = np.flatnonzero(~needed)[:missing]
        return np.sort(np.concatenate([np.flatnonzero(needed), spare]))

    def removed(self) -> Iterator[RemovedChannel]:
        """The proofs, for the values that weighted sums make; what is coupled to them follows."""
        for op in self.graph.operators:
            if not (isinstance(op, Conv2d | FullyConnected | DepthwiseConv2d) and _is_int8(op)):
                continue
            value = self.graph.result(op)
            intervals, keeps = self.intervals[value], set(self.keeps(value).tolist())
            for channel in range(value.type.shape[-1]):
                if channel not in keeps:
                    is_constant = bool(intervals.low[channel] == intervals.high[channel])
                    yield RemovedChannel(value.name, channel, int(intervals.low[channel]) if is_constant else None)


def _is_int8(op: Conv2d | FullyConnected | DepthwiseConv2d) -> bool:
    return op.x.type.dtype is DType.I8 and op.w.data is not None and (op.b is None or op.b.data is not None)


def _coupled_operands(op: Operator) -> tuple[Value, ...]:
    """Operands whose channels are the result's channels, one to one."""
    match op:
        case DepthwiseConv2d() if op.multiplier == 1 and _is_int8(op):
            return (op.x,)
        case AveragePool2d() | MaxPool2d() | UnaryOperator() | Requantize():
            return (op.x,)
        case Reshape() if keeps_channels(op):
            return (op.x,)
        case Add() if op.a.type.shape == op.b.type.shape:
            return (op.a, op.b)
    return ()


def _reads_by_channel(op: Operator, value: Value) -> bool:
    """Whether a reader takes channels one by one, so that it can be given fewer."""
    if isinstance(op, Conv2d | FullyConnected):
        return _is_int8(op) and value is op.x and op.w is not value and op.w.type.shape[-1] == value.type.shape[-1]
    return any(operand is value for operand in _coupled_operands(op))


class _Rewriter:
    """Builds the smaller operators in the place of the old ones."""

    def __init__(self, graph: Graph, plan: _Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.new: dict[Value, Value] = {}

    def run(self) -> None:
        """Add a smaller operator before each old one that shrinks or reads less, then remove the old ones."""
        replaced = []
        for op in self.graph.operators:
            changed = self._shrunk(op)
            if changed is not None:
                old = self.graph.result(op)
                (self.new[old],) = self.graph.add(changed, (old.name,), before=op)
                replaced.append(op)
        self.graph.outputs = [(name, self.new.get(value, value)) for name, value in self.graph.outputs]
        for op in reversed(replaced):
            self.graph.erase(op)
        for old, value in self.new.items():
            value.name = old.name

    def _shrunk(self, op: Operator) -> Operator | None:
        """The operator over smaller operands, or `None` where nothing about it changes."""
        if len(self.graph.results(op)) != 1:
            return None
        result = self.graph.result(op)
        shrinks = result.type.rank and len(self.plan.keeps(result)) != result.type.shape[-1]
        if not shrinks and not any(value in self.new for value in op.operands):
            return None
        replaced = op.with_operands(lambda v: self.new.get(v, v))
        if isinstance(op, Conv2d | FullyConnected):
            return self._weighted(op)
        if isinstance(op, DepthwiseConv2d):
            return self._depthwise(op)
        if isinstance(replaced, Reshape) and shrinks:
            return replace(replaced, shape=(*replaced.shape[:-1], replaced.x.type.shape[-1]))
        return replaced

    def _weighted(self, op: Conv2d | FullyConnected) -> Operator:
        """Fewer rows for fewer outputs, fewer columns for fewer inputs, and constants of inputs in the bias."""
        outputs, inputs = self.plan.keeps(self.graph.result(op)), self.plan.keeps(op.x)
        assert op.w.data is not None
        bias = op.sums().bias.copy()
        gone = np.setdiff1d(np.arange(op.x.type.shape[-1]), inputs)
        if len(gone):
            offsets = self.plan.intervals[op.x].low[gone] - op.sums().zero_point
            weights = op.w.data.astype(np.int64).reshape(op.w.type.shape[0], -1, op.x.type.shape[-1])[:, :, gone]
            constant = self.plan.foldable(op)[gone]
            bias += (weights * np.where(constant, offsets, 0)).sum(axis=(1, 2))
        w = self._constant(op.w, np.take(np.take(op.w.data, outputs, axis=0), inputs, axis=-1), outputs, 0)
        b = self.graph.add_constant(bias[outputs].astype(np.int32), op.b.type.quant if op.b else None, "bias")
        return replace(op, x=self.new.get(op.x, op.x), w=w, b=_sliced_quant(b, outputs))

    def _depthwise(self, op: DepthwiseConv2d) -> Operator:
        kept = self.plan.keeps(self.graph.result(op))
        assert op.w.data is not None
        w = self._constant(op.w, np.take(op.w.data, kept, axis=3), kept, 3)
        b = None
        if op.b is not None and op.b.data is not None:
            b = _sliced_quant(self.graph.add_constant(op.b.data[kept], op.b.type.quant, "bias"), kept)
        return replace(op, x=self.new.get(op.x, op.x), w=w, b=b)

    def _constant(self, old: Value, data: Array, kept: Array, axis: int) -> Value:
        value = self.graph.add_constant(np.ascontiguousarray(data), old.type.quant, old.name)
        return _sliced_quant(value, kept) if old.type.quant and old.type.quant.axis == axis else value


def _sliced_quant(value: Value, kept: Array) -> Value:
    """A constant whose per-channel scales are those of the channels that are kept."""
    quant = value.type.quant
    if quant is not None and quant.is_per_channel:
        scales, zeros = (tuple(values[i] for i in kept) for values in (quant.scales, quant.zero_points))
        value.type = replace(value.type, quant=Quant(scales, zeros, quant.axis))
    return value
