"""Removing channels: exact, with proof, and only where it is sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.interpret import run_graph
from luciole.graph.verify import verify_graph
from luciole.importers import load_model
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from luciole.ops.activation import Relu
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d
from luciole.ops.reshape import Reshape
from luciole.passes.channel_intervals import channel_intervals
from luciole.passes.channel_shrinking import shrink
from luciole.passes.dead_code import remove_dead_code
from luciole.passes.manager import PassContext

CHANNELS = 6


class Net:
    """A builder of small int8 networks with some silent channels."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.g = GraphBuilder("net")
        self.x = self.g.input("x", DType.I8, (1, 5, 4, 3), Quant.per_tensor(0.05, -3))

    def weights(self, shape: tuple[int, ...], axis: int, silent: float) -> Value:
        data = self.random.integers(-127, 128, shape).astype(np.int8)
        dead = self.random.random(shape[axis]) < silent
        data[(slice(None),) * axis + (dead,)] = 0
        data[..., self.random.random(shape[-1]) < silent] = 0
        scales = tuple(float(np.float32(s)) for s in self.random.uniform(0.001, 0.01, shape[axis]))
        return self.g.constant(data, Quant(scales, (0,) * len(scales), axis))

    def bias(self, channels: int) -> Value:
        return self.g.constant(self.random.integers(-9000, 9000, channels).astype(np.int32))

    def quant(self) -> Quant:
        return Quant.per_tensor(float(self.random.uniform(0.02, 0.1)), int(self.random.choice([-128, -128, 5])))

    def conv(self, x: Value, size: int, pads: tuple[int, int, int, int], silent: float) -> Value:
        w = self.weights((CHANNELS, size, size, x.type.shape[3]), 0, silent)
        return self.g.add(Conv2d(x, w, self.bias(CHANNELS), pads=pads, activation="relu", quant=self.quant()))

    def depthwise(self, x: Value, silent: float) -> Value:
        w = self.weights((1, 3, 3, CHANNELS), 3, silent)
        return self.g.add(DepthwiseConv2d(x, w, self.bias(CHANNELS), pads=(1, 1, 1, 1), quant=self.quant()))

    def finish(self, x: Value, silent: float) -> Graph:
        pooled = self.g.add(AveragePool2d(x, (x.type.shape[1], x.type.shape[2])))
        flat = self.g.add(Reshape(pooled, (1, x.type.shape[3])))
        w = self.weights((4, x.type.shape[3]), 0, silent / 3)
        self.g.output("y", self.g.add(FullyConnected(flat, w, self.bias(4), quant=self.quant())))
        return self.g.graph

    def run(self) -> dict[str, np.ndarray]:
        return {"x": self.random.integers(-128, 128, (1, 5, 4, 3)).astype(np.int8)}


@given(st.integers(0, 10**6), st.floats(0, 0.7), st.booleans(), st.booleans())
def test_shrinking_keeps_every_bit(seed: int, silent: float, with_add: bool, with_relu: bool) -> None:
    net = Net(seed)
    a = net.conv(net.x, 3, (1, 1, 1, 1), silent)
    b = net.depthwise(a, silent)
    if with_relu:
        b = net.g.add(Relu(b, quant=b.type.quant))
    c = net.conv(b, 1, (0, 0, 0, 0), silent)
    if with_add:
        c = net.g.add(Add(c, net.conv(b, 3, (1, 1, 1, 1), silent), quant=net.quant()))
    graph = net.finish(net.conv(c, 1, (0, 0, 0, 0), silent), silent)
    samples = [net.run() for _ in range(3)]
    before = [run_graph(graph, sample)["y"] for sample in samples]
    seen: list[bool] = []
    intervals = channel_intervals(graph)
    run_graph(
        graph,
        samples[0],
        lambda value, array: seen.append(
            bool(np.all(array >= intervals[value].low) and np.all(array <= intervals[value].high))
        ),
    )
    assert all(seen)
    shrink(graph)
    PassContext().run_pass(graph, remove_dead_code)
    verify_graph(graph)
    for sample, expected in zip(samples, before, strict=True):
        np.testing.assert_array_equal(run_graph(graph, sample)["y"], expected)


def test_a_constant_channel_goes_into_the_next_bias_with_its_proof() -> None:
    net = Net(1)
    w = np.ones((4, 1, 1, 3), np.int8)
    w[2:] = 0
    quant = Quant.per_tensor(0.01)
    bias = net.g.constant(np.array([0, 0, 1000, -200], np.int32))
    x = net.g.add(Conv2d(net.x, net.g.constant(w, quant), bias, quant=Quant.per_tensor(0.01, 4)), "wide")
    w2 = net.g.constant(np.full((1, 1, 1, 4), 3, np.int8), quant)
    net.g.output("y", net.g.add(Conv2d(x, w2, quant=Quant.per_tensor(0.01, 0))))
    sample = net.run()
    before = run_graph(net.g.graph, sample)["y"]
    proofs = [str(proof) for proof in shrink(net.g.graph)]
    assert proofs == ["channel 2 of %wide is always 54", "channel 3 of %wide is always -6"]
    assert net.g.graph.operators[0].w.type.shape == (2, 1, 1, 3)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(run_graph(net.g.graph, sample)["y"], before)


def test_outputs_and_inputs_keep_their_channels() -> None:
    net = Net(2)
    w = net.g.constant(np.zeros((2, 1, 1, 3), np.int8), Quant.per_tensor(0.01))
    net.g.output("y", net.g.add(Conv2d(net.x, w, quant=Quant.per_tensor(0.01))))
    assert shrink(net.g.graph) == ()


def test_a_flattened_image_stays_flat_when_earlier_channels_go() -> None:
    net = Net(3)
    x = net.conv(net.conv(net.x, 3, (1, 1, 1, 1), 0.6), 1, (0, 0, 0, 0), 0.0)
    flat = net.g.add(Reshape(x, (1, x.type.elements)))
    net.g.output("y", net.g.add(FullyConnected(flat, net.weights((4, x.type.elements), 0, 0.0), quant=net.quant())))
    sample = net.run()
    before = run_graph(net.g.graph, sample)["y"]
    assert shrink(net.g.graph)
    np.testing.assert_array_equal(run_graph(net.g.graph, sample)["y"], before)


@pytest.mark.parametrize(
    ("name", "macs", "weights"),
    [
        ("vww_mbv1_int8", 3_750_000, 30_000),
        ("kws_dscnn_int8", 2_656_768, 22_016),
        ("ic_resnet8_int8", 12_501_632, 77_360),
    ],
)
def test_models_shrink_as_far_as_can_be_proven(
    shared_model: Callable[[str], Path], name: str, macs: int, weights: int
) -> None:
    path = shared_model(name)
    graph = load_model(path)
    removed = shrink(graph)
    PassContext().run_pass(graph, remove_dead_code)
    assert bool(removed) == (name == "vww_mbv1_int8")
    assert sum(op.macs() for op in graph.operators) <= macs
    assert sum(op.w.type.size_bytes for op in graph.operators if hasattr(op, "w")) <= weights
    with np.load(path.with_name(f"{name}.golden.npz")) as arrays:
        found = run_graph(graph, {graph.inputs[0].name: arrays["input"][0]})
        np.testing.assert_array_equal(next(iter(found.values())), arrays["output0"][0])
