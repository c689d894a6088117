"""Functions of one element become tables; numbers that are only moved or compared keep their scale."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.graph.core import Operator, Value
from luciole.graph.interpret import run_graph
from luciole.ir.arithmetic import dequantize, quantize
from luciole.ops.activation import Clamp, Logistic
from luciole.ops.comparison import Less, Maximum, Minimum, Select
from luciole.ops.elementwise import Add, Div, Mul
from luciole.ops.gather import Gather
from luciole.ops.powers import Power
from luciole.ops.reduce import ReduceMaximum, ReduceMinimum, ReduceSum
from luciole.ops.resample import Resample
from luciole.ops.tile import Tile
from luciole.ops.transpose import Transpose
from luciole.quantize import QuantizeOptions, layer_errors, quantize_graph
from support.float_nets import Net, images
from support.program_checks import check


def hard_swish(g: Net) -> Operator:
    """x * clip(x + 3, 0, 6) / 6, as exporters write it; its constants have no axes."""
    gate = g.add(Clamp(g.add(Add(g.x, g.constant(np.array(3, np.float32)))), 0.0, 6.0))
    return Div(g.add(Mul(g.x, gate)), g.constant(np.array(6, np.float32)))


def parametric_relu(g: Net) -> Operator:
    is_negative = g.add(Less(g.x, g.constant(np.array(0, np.float32))))
    return Select(is_negative, g.add(Mul(g.x, g.constant(np.float32([0.25])))), g.x)


FUNCTIONS = {
    "hard_swish": hard_swish,
    "parametric_relu": parametric_relu,
    "quotient": lambda g: Div(g.x, g.add(Clamp(g.x, 1.0, 2.0))),
    "sigmoid_of_half": lambda g: Logistic(g.add(Mul(g.x, g.constant(np.float32([0.5]))))),
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


def power(g: Net) -> Operator:
    return Power(g.x, g.add(Transpose(g.x, (0, 2, 1, 3))))


def per_channel(g: Net) -> Operator:
    return Power(g.x, g.weights(3))


@pytest.mark.parametrize("make", [power, per_channel])
def test_functions_of_more_than_one_element_have_no_table(make: object) -> None:
    g = Net(0)
    graph = g.finish(y=g.add(make(g), "y"))  # type: ignore[operator]
    data = [{"image": np.abs(s["image"])} for s in images(2)]
    with pytest.raises(Exception, match="power has no int8 form"):
        quantize_graph(graph, data)


def test_a_result_that_others_read_is_not_hidden_in_a_table() -> None:
    g = Net(0)
    gate = g.add(Logistic(g.x), "gate")
    graph = g.finish(y=g.add(Mul(g.x, gate), "y"), gate=gate)
    quantized = quantize_graph(graph, images(4))
    assert [op.kind for op in quantized.graph.operators] == ["logistic", "mul"]
    check(quantized.graph)


def test_an_operator_that_stays_in_float_is_in_no_table() -> None:
    g = Net(0)
    graph = g.finish(y=g.add(hard_swish(g), "y"))
    quantized = quantize_graph(graph, images(4), QuantizeOptions(float_operators=("clamp",)))
    assert [op.kind for op in quantized.graph.operators] == [
        "add",
        "dequantize",
        "clamp",
        "quantize",
        "mul",
        "lookup",
    ]
    check(quantized.graph)


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


def positive(g: Net) -> Value:
    return g.add(Clamp(g.x, 0.5, 4.0))


#: Operators that quantization writes in another way, or that compare, with the int8 operators that come of it.
OTHERS = {
    "quotient of tensors": (
        lambda g: Div(g.x, g.add(Transpose(positive(g), (0, 2, 1, 3)))),
        "lookup transpose lookup mul",
    ),
    "quotient by channel": (lambda g: Div(g.x, g.constant(np.float32([2, 3, -4]))), "mul"),
    "sum": (lambda g: ReduceSum(g.x, (1, 2)), "annotate mean"),
    "greatest": (lambda g: ReduceMaximum(g.x, (3,), keep_dims=True), "reduce_maximum"),
    "smallest": (lambda g: ReduceMinimum(g.x, (1, 2)), "reduce_minimum"),
    "interpolation": (
        lambda g: Resample(
            g.x,
            g.constant(np.int32([[0, 1], [3, 4], [7, 7]])),
            g.constant(np.float32([[0.3, 0.7], [-0.1, 1.1], [1, 0]])),
            1,
        ),
        "resample",
    ),
    "slopes by channel": (
        lambda g: Select(
            g.add(Less(g.x, g.constant(np.float32([0])))), g.add(Mul(g.x, g.constant(np.float32([0.5, 1, -2])))), g.x
        ),
        "less mul select",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_no_form_of_its_own_is_written_by_others(name: str) -> None:
    make, kinds = OTHERS[name]
    g = Net(0)
    graph = g.finish(y=g.add(make(g), "y"))
    quantized = quantize_graph(graph, images(20))
    found = [op.kind for op in quantized.graph.operators if op.kind != "requantize"]
    assert " ".join(found) == kinds
    check(quantized.graph)
    assert all(e.signal_to_noise_db > 25 for e in layer_errors(graph, quantized, images(4, seed=3)))


def test_a_constant_does_not_give_tensors_one_scale() -> None:
    g = Net(0)
    zero = g.constant(np.zeros((1, 1, 1, 3), np.float32))
    large = g.add(Mul(g.x, g.constant(np.float32([10, 20, 30]))))
    graph = g.finish(a=g.add(Maximum(g.x, zero)), b=g.add(Maximum(large, zero)))
    quantized = quantize_graph(graph, images(10))
    a, b = (value.type.quant for _, value in quantized.graph.outputs)
    assert a is not None and b is not None and a.scale < b.scale / 5
