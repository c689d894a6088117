"""Small models for the tests of bundles, and programs made of them."""

from __future__ import annotations

from functools import cache

import numpy as np

from luciole.bundle import ModelIdentity
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.ir.quant import Quant
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.lower.lower import lower
from luciole.lower.plan import plan_memory
from luciole.ops.conv import Conv2d
from luciole.program.core import Program

#: Names that try to end a comment, to begin another line, to be a keyword, to hide by a trigraph.
HOSTILE_NAMES = ('int */ #error "out"\n#error "line"', "??/", "/*", "int", "INT", "", "ü\u202e\\", "x" * 500)

IDENTITY = ModelIdentity("toy", HOSTILE_NAMES[0], "toy.tflite", "ab" * 32)


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def convolution(g: GraphBuilder, x: Value, channels: int, size: int, seed: int = 0) -> Value:
    """An int8 convolution with arbitrary weights that keeps the extent."""
    r = _random(seed)
    weights = r.integers(-127, 128, (channels, size, size, x.type.shape[3])).astype(np.int8)
    scales = tuple(float(np.float32(s)) for s in r.uniform(0.001, 0.003, channels))
    bias = r.integers(-500, 500, channels).astype(np.int32)
    before, after = (size - 1) // 2, size // 2
    operator = Conv2d(
        x,
        g.constant(weights, Quant(scales, (0,) * channels, 0)),
        g.constant(bias),
        pads=(before, before, after, after),
        activation="relu",
        quant=Quant.per_tensor(0.05, -128),
    )
    return g.add(operator)


@cache
def chain() -> Graph:
    """Three convolutions, one of them 1x1."""
    g = GraphBuilder("chain")
    x = g.input("image", DType.I8, (1, 8, 8, 3), Quant.per_tensor(0.05, -3))
    y = convolution(g, convolution(g, convolution(g, x, 8, 3), 16, 1), 4, 2)
    g.output("scores", y)
    return g.graph


@cache
def many_ports() -> Graph:
    """As many inputs as there are hostile names, each with an output of the same name."""
    g = GraphBuilder("ports")
    for seed, name in enumerate(HOSTILE_NAMES):
        x = g.input(name, DType.I8, (1, 2, 2, seed + 1), Quant.per_tensor(0.05 + seed, seed))
        g.output(name, convolution(g, x, 2, 1, seed))
    return g.graph


@cache
def large() -> Graph:
    """One layer with more than 100 KB of weights."""
    g = GraphBuilder("large")
    x = g.input("x", DType.I8, (1, 2, 2, 200), Quant.per_tensor(0.05, 0))
    g.output("y", convolution(g, x, 600, 1))
    return g.graph


@cache
def real() -> Graph:
    """A convolution of floats, without quantization."""
    g = GraphBuilder("real")
    r = _random(5)
    x = g.input("x", DType.F32, (1, 6, 6, 2))
    weights = g.constant(r.normal(size=(3, 3, 3, 2)).astype(np.float32))
    bias = g.constant(r.normal(size=3).astype(np.float32))
    g.output("y", g.add(Conv2d(x, weights, bias, activation="relu")))
    return g.graph


@cache
def constant_output() -> Graph:
    """A convolution, and a second output that is known before anything runs."""
    g = GraphBuilder("constant")
    x = g.input("x", DType.I8, (1, 2, 2, 2), Quant.per_tensor(0.05, 0))
    g.output("y", convolution(g, x, 2, 1))
    g.output("table", g.constant(np.arange(-5, 5, dtype=np.int16)))
    return g.graph


def program_of(graph: Graph, target: str = "native") -> Program:
    """The graph lowered and planned for a target."""
    return plan_memory(lower(graph, find_target(target)))
