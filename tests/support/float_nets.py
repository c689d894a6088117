"""Small float nets with seeded weights, and their data."""

from __future__ import annotations

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.ir.types import Array, DType, Shape
from luciole.ops.activation import LeakyRelu, Logistic, Relu, Relu6, Tanh
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.reduce import Mean
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.softmax import Softmax
from luciole.ops.transpose import Transpose


class Net(GraphBuilder):
    """A graph under construction with random constants."""

    def __init__(self, seed: int, shape: Shape = (1, 8, 8, 3)) -> None:
        super().__init__("net")
        self.random = np.random.default_rng(seed)
        self.x = self.input("image", DType.F32, shape)

    def weights(self, *shape: int, name: str = "w") -> Value:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant((self.random.normal(0, 1, shape) / np.sqrt(fan_in)).astype(np.float32), name=name)

    def finish(self, **outputs: Value) -> Graph:
        for name, value in outputs.items():
            self.output(name, value)
        return self.graph


def residual(seed: int) -> Graph:
    """Convolutions, a residual sum, pools and a classifier: every kind of operator with weights."""
    g = Net(seed)
    stem = g.add(
        Conv2d(g.x, g.weights(8, 3, 3, 3), g.weights(8, name="b"), pads=(1, 1, 1, 1), activation="relu"), "stem"
    )
    deep = g.add(DepthwiseConv2d(stem, g.weights(1, 3, 3, 8), g.weights(8, name="b"), pads=(1, 1, 1, 1)), "deep")
    joined = g.add(Add(stem, deep, activation="relu"), "joined")
    pooled = g.add(MaxPool2d(joined, (2, 2), strides=(2, 2)), "pooled")
    average = g.add(AveragePool2d(pooled, (4, 4), strides=(4, 4)), "average")
    flat = g.add(Reshape(average, (1, 8)), "flat")
    logits = g.add(FullyConnected(flat, g.weights(5, 8), g.weights(5, name="b")), "logits")
    return g.finish(probabilities=g.add(Softmax(logits), "probabilities"))


def mixture(seed: int) -> Graph:
    """Everything else that has an int8 form, with several outputs and a concatenation of different scales."""
    g = Net(seed)
    padded = g.add(Pad(g.x, (0, 1, 1, 0), (0, 1, 0, 0), value=-2.5), "padded")
    wide = g.add(Conv2d(padded, g.weights(6, 3, 2, 3), None), "wide")
    parts = [
        g.add(Relu(wide), "relu"),
        g.add(Relu6(wide), "relu6"),
        g.add(LeakyRelu(wide, alpha=0.2), "leaky"),
        g.add(Logistic(wide), "logistic"),
        g.add(Tanh(wide), "tanh"),
        g.add(Mul(wide, g.weights(6)), "product"),
        g.add(Sub(wide, g.weights(1, 1, 1, 6)), "difference"),
    ]
    joined = g.add(Concat(tuple(parts), 3), "joined")
    moved = g.add(Transpose(joined, (0, 3, 1, 2)), "moved")
    sliced = g.add(Slice(moved, (0, 0, 1, 1), (1, 42, 6, 6), (1, 1, 1, 1)), "sliced")
    matrix = g.add(Reshape(sliced, (42, 36)), "matrix")
    product = g.add(MatMul(matrix, g.add(Transpose(matrix, (1, 0)), "turned")), "gram")
    return g.finish(mean=g.add(Mean(sliced, (2, 3)), "mean"), gram=product)


def images(count: int, seed: int = 0, shape: Shape = (1, 8, 8, 3)) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    return [{"image": random.normal(0, 1, shape).astype(np.float32)} for _ in range(count)]
