"""Models of a few operators as `.graph` files: quick to compile, with branches, weights and every kind of memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.text import save_graph
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from luciole.ops.conv import Conv2d
from luciole.ops.elementwise import Add
from luciole.ops.matmul import FullyConnected
from luciole.ops.reshape import Reshape
from luciole.ops.softmax import Softmax

#: Classes of both models, and the shape of their image.
CLASSES, IMAGE = 5, (1, 6, 6, 3)

#: The layer whose first two channels are provably constant, so that they can be removed.
SILENT = "stem"


def small_int8() -> Graph:
    """Two convolutions, a residual addition around another one, a fully connected layer, softmax."""
    random = np.random.default_rng(7)
    g = GraphBuilder("small")
    image = g.input("image", DType.I8, IMAGE, Quant.per_tensor(1 / 255, -128))

    def weights(name: str, *shape: int) -> tuple[Value, Value]:
        scales = tuple(float(np.float32(s)) for s in random.uniform(0.002, 0.01, shape[0]))
        quant = Quant(scales, (0,) * shape[0], 0)
        data = random.integers(-127, 128, shape).astype(np.int8)
        if name == SILENT:
            data[:2] = 0
        bias = random.integers(-2000, 2000, shape[0]).astype(np.int32)
        return g.constant(data, quant, f"{name}.weights"), g.constant(bias, name=f"{name}.bias")

    stem = g.add(
        Conv2d(image, *weights(SILENT, 4, 3, 3, 3), pads=(1, 1, 1, 1), activation="relu", quant=_quant(0.02, -128)),
        "stem",
    )
    middle = g.add(Conv2d(stem, *weights("middle", 4, 1, 1, 4), quant=_quant(0.02, -3)), "middle")
    body = g.add(Conv2d(middle, *weights("body", 4, 1, 1, 4), quant=_quant(0.03, 5)), "body")
    joined = g.add(Add(middle, body, activation="relu", quant=_quant(0.04, -128)), "joined")
    flat = g.add(Reshape(joined, (1, 144), quant=joined.type.quant), "flat")
    scores = g.add(FullyConnected(flat, *weights("scores", CLASSES, 144), quant=_quant(0.3, 10)), "scores")
    g.output("classes", g.add(Softmax(scores, quant=_quant(1 / 256, -128)), "classes"))
    return g.graph


def small_float() -> Graph:
    """The same shapes in f32, without the softmax."""
    random = np.random.default_rng(8)
    g = GraphBuilder("small_float")
    image = g.input("image", DType.F32, IMAGE)

    def constant(*shape: int) -> Value:
        return g.constant(random.normal(0, 0.2, shape).astype(np.float32))

    stem = g.add(Conv2d(image, constant(4, 3, 3, 3), constant(4), pads=(1, 1, 1, 1), activation="relu"), "stem")
    body = g.add(Conv2d(stem, constant(4, 1, 1, 4), constant(4)), "body")
    flat = g.add(Reshape(g.add(Add(stem, body), "joined"), (1, 144)), "flat")
    g.output("scores", g.add(FullyConnected(flat, constant(CLASSES, 144), constant(CLASSES)), "scores"))
    return g.graph


def save_small(folder: Path, graph: Graph | None = None) -> Path:
    """The int8 model, or another graph, as a file in `folder`."""
    graph = graph or small_int8()
    path = folder / f"{graph.name}.graph"
    save_graph(graph, path)
    return path


def _quant(scale: float, zero_point: int) -> Quant:
    return Quant.per_tensor(scale, zero_point)
