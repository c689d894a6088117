"""Random networks over images whose operators can run row by row, with branches, skip edges and averages at the end."""

from __future__ import annotations

import numpy as np

from luciole.errors import CompileError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Operator, Value
from luciole.graph.samples import Samples
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from luciole.lower.streams.lowering import StreamChoice
from luciole.lower.streams.segment import describe_segment
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.quantization import Requantize
from luciole.ops.reduce import Mean


def row_graph(seed: int, operators: int = 6) -> Graph:
    """A network of about so many operators; the same seed gives the same one."""
    return _Maker(seed).graph(operators)


def greedy_streams(graph: Graph, rows: int) -> list[StreamChoice]:
    """The operators of a graph in streams, each as long as can be from where the one before ended."""
    code = [op for op in graph.operators if not op.is_view]
    choices, first = [], 0
    while first < len(code):
        last = first
        while last < len(code) and describe_segment(graph, code[first : last + 1], (1,) * (last + 1 - first)):
            last += 1
        # A longer one may work where a shorter one does not: what is read with padding must not be read outside.
        for end in range(len(code), last, -1):
            if describe_segment(graph, code[first:end], (1,) * (end - first)):
                last = end
                break
        if last - first > 1:
            choices.append(StreamChoice(tuple(code[first:last]), (rows,) * (last - first)))
        first = max(last, first + 1)
    return choices


class _Maker:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = GraphBuilder("rows")

    def below(self, count: int) -> int:
        return int(self.random.integers(count))

    def quant(self) -> Quant:
        return Quant.per_tensor((0.05, 0.1, 0.03)[self.below(3)], (-128, 0, 5, 127)[self.below(4)])

    def graph(self, operators: int) -> Graph:
        shape = (1, 5 + self.below(7), 3 + self.below(6), (1, 3, 4, 8)[self.below(4)])
        values = [self.builder.input("image", DType.I8, shape, self.quant())]
        for _ in range(operators):
            op = self.operator(values)
            try:
                values.append(self.builder.add(op))
            except CompileError:
                continue
        last = values[-1]
        if self.below(2) and last.type.shape[1] > 1:
            pool = AveragePool2d(last, last.type.shape[1:3])  # type: ignore[arg-type]  # height and width
            last = self.builder.add(pool if self.below(2) else Mean(last, (1, 2), quant=self.quant()))
        self.builder.output("y", last)
        if self.below(4) == 0 and len(values) > 2:
            self.builder.output("z", values[-2])
        return self.builder.graph

    def operator(self, values: list[Value]) -> Operator:
        x = values[-1 - self.below(min(2, len(values)))]
        same = [v for v in values if v.type.shape == x.type.shape]
        kind = self.below(10)
        if kind <= 2:
            return self.convolution(x)
        if kind <= 4:
            return self.depthwise(x)
        if kind == 5:
            pads = (self.below(2), 0, self.below(2), 0)
            return MaxPool2d(x, (2, 2), (1 + self.below(2), 1), pads)
        if kind == 6:
            return Pad(x, (0, self.below(3), self.below(2), 0), (0, self.below(2), 0, 0))
        if kind == 7:
            return AveragePool2d(x, (2, 1), (1, 1))
        if kind == 8 and len(same) > 1:
            alike = [v for v in same if v.type.quant == x.type.quant]
            return Concat((x, alike[self.below(len(alike))]), 3)
        if len(same) > 1:
            return (Add, Mul)[self.below(2)](x, same[self.below(len(same))], quant=self.quant())
        return Requantize(x, quant=self.quant())

    def convolution(self, x: Value) -> Operator:
        height, width = 1 + self.below(3), 1 + self.below(3)
        channels = (1, 4, 6)[self.below(3)]
        weights = self.weights(channels, height, width, x.type.shape[3], axis=0)
        return Conv2d(x, weights, self.bias(channels), quant=self.quant(), **self.window(height, width))

    def depthwise(self, x: Value) -> Operator:
        height, width = 1 + self.below(4), 1 + self.below(3)
        channels = x.type.shape[3]
        weights = self.weights(1, height, width, channels, axis=3)
        return DepthwiseConv2d(x, weights, self.bias(channels), quant=self.quant(), **self.window(height, width))

    def window(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Strides, pads and dilations. Pads are smaller than the window."""
        dilation = (1, 1, 1, 2)[self.below(4)]
        pads = tuple(self.below(size) for size in (height, width, height, width))
        strides = (1 + self.below(2), 1 + self.below(2))
        return {"strides": strides, "pads": pads, "dilations": (dilation, dilation)}

    def weights(self, *shape: int, axis: int) -> Value:
        scales = tuple(float(np.float32(s)) for s in self.random.uniform(0.001, 0.01, shape[axis]))
        data = self.random.integers(-127, 128, shape).astype(np.int8)
        return self.builder.constant(data, Quant(scales, (0,) * len(scales), axis))

    def bias(self, channels: int) -> Value:
        return self.builder.constant(self.random.integers(-2000, 2000, channels).astype(np.int32))


def tall_graph() -> Graph:
    """Three convolutions over a tall image, much larger inside than at its ends."""
    s = Samples(3)
    builder = GraphBuilder("tall")
    values = [builder.input("image", DType.I8, (1, 24, 10, 4), Quant.per_tensor(0.05, -128))]
    for channels in (24, 24, 4):
        weights = s.i8_weights(channels, 3, 3, values[-1].type.shape[3])
        assert weights.data is not None
        w = builder.constant(weights.data, weights.type.quant)
        values.append(builder.add(Conv2d(values[-1], w, pads=(1, 1, 1, 1), quant=Quant.per_tensor(0.3, -3))))
    builder.output("y", values[-1])
    return builder.graph
