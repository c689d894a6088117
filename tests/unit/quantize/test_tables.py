"""Functions of one element become tables; numbers that are only moved or compared keep their scale."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.graph.core import Operator
from luciole.graph.interpret import run_graph
from luciole.ir.arithmetic import dequantize, quantize
from luciole.ops.activation import Clamp
from luciole.ops.comparison import Maximum, Minimum
from luciole.ops.elementwise import Div
from luciole.ops.gather import Gather
from luciole.ops.tile import Tile
from luciole.quantize import layer_errors, quantize_graph
from support.float_nets import Net, images
from support.program_checks import check

FUNCTIONS = {
    "clamp": lambda g: Clamp(g.x, -0.5, 1.25),
    "divided": lambda g: Div(g.x, g.constant(np.float32([2.5]))),
    "inverse": lambda g: Div(g.constant(np.float32([1.0])), g.x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_one_element_is_a_table(name: str) -> None:
    g = Net(0)
    graph = g.finish(y=g.add(FUNCTIONS[name](g), "y"))
    data = [{"image": np.abs(s["image"]) + np.float32(0.5)} for s in images(20)] if name == "inverse" else images(20)
    quantized = quantize_graph(graph, data)
    assert [op.kind for op in quantized.graph.operators] == ["lookup"]
    check(quantized.graph)
    x, y = quantized.graph.inputs[0].type.quant, quantized.graph.outputs[0][1].type.quant
    assert x is not None and y is not None
    numbers = np.arange(-128, 128).astype(np.int8)
    given = np.resize(numbers, (1, 8, 8, 3))
    reals = dequantize(given, x.scale, x.zero_point)
    with np.errstate(divide="ignore"):
        expected = quantize(run_graph(graph, {"image": reals})["y"], y.scale, y.zero_point)
    assert np.array_equal(run_graph(quantized.graph, {"image": given})["y"], expected)
    (error,) = layer_errors(graph, quantized, data[:4])
    assert error.signal_to_noise_db > 30


def quotient(g: Net) -> Operator:
    return Div(g.x, g.add(Clamp(g.x, 1.0, 2.0)))


def per_channel(g: Net) -> Operator:
    return Div(g.x, g.weights(3))


@pytest.mark.parametrize("make", [quotient, per_channel])
def test_functions_of_more_than_one_element_have_no_table(make: object) -> None:
    g = Net(0)
    graph = g.finish(y=g.add(make(g), "y"))  # type: ignore[operator]
    with pytest.raises(Exception, match="div has no int8 form"):
        quantize_graph(graph, images(2))


def test_numbers_that_are_moved_or_compared_keep_their_scale() -> None:
    g = Net(0)
    chosen = g.add(Gather(g.x, g.constant(np.array([2, 0], np.int64)), 3), "chosen")
    tiled = g.add(Tile(chosen, (1, 1, 1, 2)), "tiled")
    low = g.add(Minimum(tiled, g.constant(np.float32([0.75]))), "low")
    graph = g.finish(y=g.add(Maximum(low, g.constant(np.full(4, -0.5, np.float32))), "y"))
    quantized = quantize_graph(graph, images(10))
    assert len({value.type.quant for value in quantized.graph.values() if value.type.quant is not None}) == 1
    check(quantized.graph)
    assert all(e.signal_to_noise_db > 30 for e in layer_errors(graph, quantized, images(4, seed=3)))
