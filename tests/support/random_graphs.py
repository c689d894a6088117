"""Random small graphs of all operators, for hypothesis: any draw gives a valid graph, and shrinks to a small one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from luciole.errors import CompileError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.ops.activation import LeakyRelu, Logistic, Relu, Relu6, Tanh
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.quantization import Dequantize, Quantize, Requantize
from luciole.ops.reduce import Mean
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.softmax import Softmax
from luciole.ops.transpose import Transpose
from support.two_results import Halves

#: No tensor has more elements than this, so that the kernel interpreter keeps up.
MAXIMUM_ELEMENTS = 64
MAXIMUM_OPERATORS = 8

SHAPES: tuple[Shape, ...] = ((1, 4, 3, 2), (4,), (2, 3), (1, 3, 3, 2), (1, 2, 2, 4), (2, 2, 4), (1, 8), ())
SCALES = (0.05, 0.5, 0.007)
ZERO_POINTS = (0, -128, 127, -3)
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")

T = TypeVar("T")
DrawNumber = Callable[[st.SearchStrategy[int]], int]


@st.composite
def graphs(draw: DrawNumber) -> Graph:
    """A graph of up to `MAXIMUM_OPERATORS` operators."""
    return _Maker(draw).graph()


class _Maker:
    def __init__(self, draw: DrawNumber) -> None:
        self.draw = draw
        self.builder = GraphBuilder("random")
        self.values: list[Value] = []
        self.random = np.random.default_rng(0)

    def graph(self) -> Graph:
        """Inputs, then operators over what there is, then outputs, which may be anything and repeat."""
        for _ in range(1 + self.below(3)):
            dtype = self.choose((DType.F32, DType.I8))
            quant = self.quant() if dtype is DType.I8 else None
            self.values.append(self.builder.input(f"x{len(self.values)}", dtype, self.choose(SHAPES), quant))
        for _ in range(self.below(MAXIMUM_OPERATORS + 1)):
            self.operator()
        graph = self.builder.graph
        if self.below(8) == 0 and graph.constants:
            self.builder.output("constant", graph.constants[0])
        self.builder.output("last", self.values[-1])
        for number in range(self.below(3)):
            self.builder.output(f"y{number}", self.value())
        return graph

    # Choices

    def below(self, count: int) -> int:
        """A number from 0 to `count - 1`."""
        return self.draw(st.integers(0, count - 1))

    def choose(self, items: tuple[T, ...]) -> T:
        """One of some items."""
        return items[self.below(len(items))]

    def value(self) -> Value:
        """One of the values so far, the latest first."""
        return self.values[len(self.values) - 1 - self.below(len(self.values))]

    def quant(self) -> Quant:
        """A quantization."""
        return Quant.per_tensor(self.choose(SCALES), self.choose(ZERO_POINTS))

    def like(self, x: Value) -> Value:
        """A value of the type of x, or a constant that broadcasts against it."""
        same = [v for v in self.values if (v.type.dtype, v.type.shape) == (x.type.dtype, x.type.shape)]
        number = self.below(len(same) + 1)
        return same[number] if number < len(same) else self.constant(x, x.type.shape[-1:])

    def constant(self, x: Value, shape: Shape, *, is_weight: bool = False) -> Value:
        """A constant of the element type of x."""
        if x.type.dtype is DType.F32:
            return self.builder.constant(self.random.uniform(-1, 1, shape).astype(np.float32))
        data: Array = self.random.integers(-127, 128, shape).astype(np.int8)
        return self.builder.constant(data, Quant.per_tensor(0.01) if is_weight else self.quant())

    # Operators

    def operator(self) -> None:
        """Add one operator, if what was drawn fits together."""
        x = self.value()
        made = self.choose(_KINDS)(self, x)
        if made is None:
            return
        for quant in (self.quant(), x.type.quant, None):
            op = made if quant is None else replace(made, quant=quant)
            try:
                types = op.result_types()
            except (CompileError, ValueError):
                continue
            if all(_is_sound(type) for type in types) and (op.quant is None or op.quant == types[0].quant):
                self.values.extend(self.builder.add_all(op))
                return

    def unary(self, x: Value) -> Operator:
        return self.choose((Relu, Relu6, LeakyRelu, Logistic, Tanh, Softmax, Requantize))(x)

    def binary(self, x: Value) -> Operator:
        other = self.like(x)
        a, b = (x, other) if self.below(2) else (other, x)
        return self.choose((Add, Sub, Mul))(a, b, activation=self.choose(ACTIVATIONS))

    def bridge(self, x: Value) -> Operator | None:
        """To float and back; back from inputs only, since a sum's last bit would decide about whole steps."""
        if x.type.dtype is DType.I8:
            return Dequantize(x)
        return Quantize(x, quant=self.quant()) if x.producer is None else None

    def convolution(self, x: Value) -> Operator | None:
        if x.type.rank != 4:
            return None
        size, stride = 1 + self.below(3), 1 + self.below(2)
        pads = tuple(self.below(size) for _ in range(4))
        channels = x.type.shape[3]
        bias = self.bias(x, 4) if self.below(2) else None
        common = {"strides": (stride, 1), "pads": pads, "activation": self.choose(ACTIVATIONS)}
        if self.below(3) == 0 and channels in (2, 4):
            w = self.constant(x, (1, size, size, 4), is_weight=True)
            return DepthwiseConv2d(x, w, bias, **common)  # type: ignore[arg-type]  # see `common`
        return Conv2d(x, self.constant(x, (4, size, size, channels), is_weight=True), bias, **common)  # type: ignore[arg-type]  # see `common`

    def bias(self, x: Value, channels: int) -> Value:
        if x.type.dtype is DType.F32:
            return self.constant(x, (channels,))
        return self.builder.constant(self.random.integers(-500, 500, channels).astype(np.int32))

    def dense(self, x: Value) -> Operator | None:
        if x.type.rank < 1:
            return None
        if x.type.rank == 2 and self.below(3) == 0:
            return MatMul(x, self.constant(x, (x.type.shape[1], 3)))
        bias = self.bias(x, 5) if self.below(2) else None
        return FullyConnected(x, self.constant(x, (5, x.type.shape[-1]), is_weight=True), bias)

    def pool(self, x: Value) -> Operator:
        size = (1 + self.below(2), 1 + self.below(2))
        return self.choose((MaxPool2d, AveragePool2d))(x, size, (1, 1 + self.below(2)))

    def mean(self, x: Value) -> Operator | None:
        if x.type.rank < 1:
            return None
        first = self.below(x.type.rank)
        axes = tuple(range(first, x.type.rank)) if self.below(2) else (first,)
        return Mean(x, axes, keep_dims=self.below(2) == 1)

    def reshape(self, x: Value) -> Operator:
        count = x.type.elements
        shapes = ((count,), (1, count), (1, 1, 1, count), (count // 2, 2), (1, count // 4, 1, 4))
        return Reshape(x, self.choose(shapes))

    def join(self, x: Value) -> Operator | None:
        if x.type.rank < 1:
            return None
        return Concat(tuple(self.like(x) for _ in range(self.below(2))) + (x, x), self.below(x.type.rank))

    def pad(self, x: Value) -> Operator:
        return Pad(x, tuple(self.below(2) for _ in x.type.shape), tuple(self.below(2) for _ in x.type.shape))

    def part(self, x: Value) -> Operator:
        begin = tuple(self.below(size) for size in x.type.shape)
        size = tuple(1 + self.below(total - first) for first, total in zip(begin, x.type.shape, strict=True))
        return Slice(x, begin, size, tuple(1 for _ in size))

    def transpose(self, x: Value) -> Operator:
        axes = list(range(x.type.rank))
        order: list[int] = []
        while axes:
            order.append(axes.pop(self.below(len(axes))))
        return Transpose(x, tuple(order))

    def halves(self, x: Value) -> Operator | None:
        if x.type.rank < 1 or x.type.shape[0] % 2:
            return None
        return Halves(x)


_KINDS: tuple[Callable[[_Maker, Value], Operator | None], ...] = (
    _Maker.unary, _Maker.binary, _Maker.binary, _Maker.reshape, _Maker.bridge, _Maker.convolution, _Maker.convolution,
    _Maker.dense, _Maker.pool, _Maker.mean, _Maker.join, _Maker.pad, _Maker.part, _Maker.transpose, _Maker.halves,
)  # fmt: skip


def _is_sound(type: TensorType) -> bool:
    """Whether a tensor is small, and has a scale if it is int8, and only then."""
    return type.elements <= MAXIMUM_ELEMENTS and (type.quant is not None) == (type.dtype is DType.I8)
