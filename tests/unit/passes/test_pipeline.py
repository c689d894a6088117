"""The whole pipeline on random graphs: the same outputs, bit by bit where numbers are int8, and nothing left to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Operator, Value
from luciole.graph.interpret import run_graph
from luciole.graph.text import parse_graph, print_graph, render_graph
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.ops.activation import Relu, Relu6
from luciole.ops.catalog import load_operators
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.quantization import Dequantize, Quantize, Requantize
from luciole.ops.reshape import Reshape
from luciole.ops.transpose import Transpose
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.passes.pipeline import OPTIMIZE, PASSES

QUANTS = (Quant.per_tensor(0.05, -128), Quant.per_tensor(0.05, 3), Quant.per_tensor(0.11, 3))


class RandomGraph:
    """Builds a graph over NHWC tensors by random choices, which `choose` makes: a number below its argument."""

    def __init__(self, choose: Callable[[int], int], is_quantized: bool) -> None:
        self.choose = choose
        self.is_quantized = is_quantized
        self.g = GraphBuilder("random")
        dtype, quant = (DType.I8, QUANTS[1]) if is_quantized else (DType.F32, None)
        self.values = [self.g.input("x", dtype, (1, 3, 4, 2), quant)]

    def pick(self) -> Value:
        return self.values[self.choose(len(self.values))]

    def quant(self) -> Quant | None:
        return QUANTS[self.choose(len(QUANTS))] if self.is_quantized else None

    def constant(self, *shape: int) -> Value:
        random = np.random.default_rng(self.choose(4))
        if self.is_quantized:
            return self.g.constant(random.integers(-127, 128, shape).astype(np.int8), Quant.per_tensor(0.02))
        return self.g.constant(random.integers(-4, 5, shape).astype(np.float32))

    def step(self) -> None:
        x = self.pick()
        makers: list[Callable[[Value], Operator]] = [
            lambda x: Add(x, self.pick_like(x), quant=self.quant()),
            lambda x: Sub(self.constant(x.type.shape[-1]), x, quant=self.quant()),
            lambda x: Mul(x, self.constant(x.type.shape[-1]), quant=self.quant()),
            lambda x: Add(x, self.constant(1), activation="relu", quant=self.quant()),
            lambda x: Relu(x, quant=x.type.quant),
            lambda x: Relu6(x, quant=x.type.quant),
            lambda x: Requantize(x, quant=self.quant()) if self.is_quantized else Relu(x),
            lambda x: (
                Quantize(self.g.add(Dequantize(x)), quant=self.quant())
                if self.is_quantized
                else Reshape(x, x.type.shape)
            ),
            lambda x: Transpose(x, ((0, 2, 1, 3), (0, 1, 2, 3), (1, 0, 2, 3))[self.choose(3)]),
            lambda x: Reshape(self.g.add(Reshape(x, (x.type.elements,))), x.type.shape),
            lambda x: Pad(
                x, (0, self.choose(2), self.choose(2), 0), (0, 1, self.choose(2), 0), (-99.0, 0.0, 0.0)[self.choose(3)]
            ),
            lambda x: Conv2d(x, self.constant(2, 2, 2, x.type.shape[-1]), pads=(0, 1, 1, 0), quant=self.quant()),
            lambda x: DepthwiseConv2d(x, self.constant(1, 2, 1, x.type.shape[-1]), quant=self.quant()),
            lambda x: MaxPool2d(x, (2, 2), pads=(1, 0, 0, 1)),
            lambda x: AveragePool2d(x, (1, 2)),
            lambda x: Concat((x,), self.choose(4)),
        ]
        if x.type.shape[0] == 1 and min(x.type.shape[1:3]) >= 2 and max(x.type.shape) <= 6:
            self.values.append(self.g.add(makers[self.choose(len(makers))](x)))

    def pick_like(self, x: Value) -> Value:
        like = [value for value in self.values if value.type.shape == x.type.shape]
        return like[self.choose(len(like))]

    def finish(self) -> Graph:
        for number, value in enumerate(dict.fromkeys([self.values[-1], self.pick()])):
            self.g.output(f"y{number}", value)
        return self.g.graph


def random_graph(choose: Callable[[int], int], is_quantized: bool) -> Graph:
    builder = RandomGraph(choose, is_quantized)
    for _ in range(1 + choose(12)):
        builder.step()
    return builder.finish()


def inputs_of(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(0)
    (x,) = graph.inputs
    if x.type.dtype.is_float:
        return {x.name: random.integers(-3, 4, x.type.shape).astype(np.float32)}
    return {x.name: random.integers(-128, 128, x.type.shape).astype(np.int8)}


@settings(max_examples=150)
@given(data=st.data(), is_quantized=st.booleans())
def test_random_graphs_keep_their_meaning(data: st.DataObject, is_quantized: bool) -> None:
    load_operators()
    graph = random_graph(lambda below: data.draw(st.integers(0, below - 1)), is_quantized)
    rendered = render_graph(graph)
    before = parse_graph(rendered.text, rendered.arrays)
    context = PassContext(DeveloperOptions(verify="each"))
    context.run_pipeline(graph, OPTIMIZE)
    expected, found = run_graph(before, inputs_of(before)), run_graph(graph, inputs_of(graph))
    assert list(expected) == list(found)
    for name, array in expected.items():
        # The numbers are whole and small, so that floats are exact in any order, but for those that overflow.
        np.testing.assert_allclose(found[name], array, rtol=0 if is_quantized else 1e-5, err_msg=name)
    again = print_graph(graph)
    assert context.run_pipeline(graph, OPTIMIZE) == 0, again


def test_passes_have_names_of_their_own_and_say_what_they_do() -> None:
    assert all(PASSES[step.name] is step for step in OPTIMIZE)
    for step in PASSES.values():
        assert step.description.endswith(".") and len(step.description) > 20


@pytest.mark.parametrize("model", ["kws_dscnn_int8", "ic_resnet8_int8", "vww_mbv1_int8", "ad_ae_int8", "sww_int8"])
def test_optimized_models_give_the_same_bits(model: str, shared_model: Callable[[str], object]) -> None:
    from pathlib import Path

    from luciole.importers import load_model

    path = shared_model(model)
    assert isinstance(path, Path)
    before, graph = load_model(path), load_model(path)
    PassContext(DeveloperOptions(verify="each")).run_pipeline(graph, OPTIMIZE)
    random = np.random.default_rng(1)
    inputs = {v.name: random.integers(-128, 128, v.type.shape).astype(np.int8) for v in graph.inputs}
    expected, found = run_graph(before, inputs), run_graph(graph, inputs)
    assert {name: array.tobytes() for name, array in expected.items()} == {n: a.tobytes() for n, a in found.items()}
