"""What options of the quantizer do: operators in float, equalized layers, corrected biases, ranges folded."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.extract import copy_graph
from luciole.graph.interpret import run_graph
from luciole.ir.types import DType
from luciole.ops.activation import Relu
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d
from luciole.ops.powers import Power
from luciole.ops.quantization import Dequantize, Quantize
from luciole.ops.reshape import Reshape
from luciole.quantize import QuantizeOptions, calibrate, convert, equalize, layer_errors, quantize_graph
from luciole.quantize.schemes import SCHEMES
from support.float_nets import Net, images, residual
from support.program_checks import check


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.operators]


def decibels(graph: Graph, options: QuantizeOptions) -> float:
    """How well the last result is kept, on samples that were not calibrated with."""
    quantized = quantize_graph(copy_graph(graph), images(20), options)
    check(quantized.graph)
    plain = copy_graph(graph)
    if options.equalize:
        equalize(plain)
    return layer_errors(plain, quantize_graph(plain, images(20), options), images(8, seed=9))[-1].signal_to_noise_db


# Operators that stay in float


@pytest.mark.parametrize("word", ["softmax", "probabilities"])
def test_an_operator_stays_in_float_by_kind_or_name(word: str) -> None:
    quantized = quantize_graph(residual(1), images(8), QuantizeOptions(float_operators=(word,)))
    assert kinds(quantized.graph)[-2:] == ["dequantize", "softmax"]
    assert quantized.graph.outputs[0][1].type.dtype is DType.F32
    remark = 'over 8 samples; 1 stays in float because --float-operators names them: softmax "probabilities"'
    assert quantized.graph.remarks[-1].endswith(remark)
    check(quantized.graph)


def test_floats_in_the_middle_are_quantized_again_once_for_all_readers() -> None:
    graph = residual(1)
    quantized = quantize_graph(graph, images(8), QuantizeOptions(float_operators=("stem", "max_pool2d")))
    assert kinds(quantized.graph)[:4] == ["conv2d", "quantize", "depthwise_conv2d", "add"]
    assert kinds(quantized.graph)[4:7] == ["dequantize", "max_pool2d", "quantize"]
    assert quantized.graph.inputs[0].type.dtype is DType.F32
    errors = {e.name: e.signal_to_noise_db for e in layer_errors(graph, quantized, images(4, seed=3))}
    assert errors["stem"] == 200 and errors["probabilities"] > 20
    check(quantized.graph)


def test_an_operator_without_int8_may_stay_in_float() -> None:
    g = Net(0, (1, 4))
    graph = g.finish(y=g.add(FullyConnected(g.add(Power(g.x, g.weights(4)), "ratio"), g.weights(3, 4)), "y"))
    samples = [{name: np.abs(array) for name, array in sample.items()} for sample in images(4, shape=(1, 4))]
    with pytest.raises(CompileError, match="power has no int8 form"):
        quantize_graph(graph, samples)
    quantized = quantize_graph(graph, samples, QuantizeOptions(float_operators=("ratio",)))
    assert [type(op) for op in quantized.graph.operators] == [Power, Quantize, FullyConnected]
    check(quantized.graph)


def test_everything_may_stay_in_float() -> None:
    graph = residual(0)
    quantized = quantize_graph(graph, images(2), QuantizeOptions(float_operators=tuple(set(kinds(graph)))))
    assert kinds(quantized.graph) == kinds(graph)
    x = images(1)[0]
    assert np.array_equal(run_graph(graph, x)["probabilities"], run_graph(quantized.graph, x)["probabilities"])


def test_names_of_nothing_are_refused_together() -> None:
    with pytest.raises(CompileError, match="--float-operators: no operator is called stam, sofmax") as problem:
        quantize_graph(residual(0), images(1), QuantizeOptions(float_operators=("stam", "stem", "sofmax")))
    assert "kinds; here these are conv2d, depthwise_conv2d, add" in problem.value.diagnostics[0].help


# Equalization


def unbalanced() -> Graph:
    """Two layers with channels of very different weights that make up for each other, and one scale for all weights."""
    g = Net(3)
    spread = np.float32([1, 300, 0.01, 20, 0.5, 0.003, 100, 2])
    w, b = g.random.normal(0, 0.3, (8, 3, 3, 3)), g.random.normal(0, 0.3, 8)
    w, b = (w * spread[:, None, None, None]).astype(np.float32), (b * spread).astype(np.float32)
    y = g.add(Conv2d(g.x, g.constant(w), g.constant(b), pads=(1, 1, 1, 1), activation="relu"), "first")
    w = g.random.normal(0, 0.3, (1, 3, 3, 8)).astype(np.float32) / spread
    y = g.add(DepthwiseConv2d(y, g.constant(w), g.weights(8), pads=(1, 1, 1, 1), activation="relu"), "second")
    y = g.add(Reshape(g.add(AveragePool2d(y, (8, 8), strides=(8, 8)), "pooled"), (1, 8)), "flat")
    return g.finish(y=g.add(FullyConnected(y, g.weights(5, 8), g.weights(5)), "y"))


def test_equalization_saves_a_net_of_unbalanced_channels() -> None:
    graph = unbalanced()
    plain = decibels(graph, QuantizeOptions(per_channel=False))
    equalized = decibels(graph, QuantizeOptions(per_channel=False, equalize=True))
    assert plain < 10 and equalized > 25


def test_an_equalized_net_computes_the_same_bits() -> None:
    graph = unbalanced()
    equal = copy_graph(graph)
    assert equalize(equal) == 2
    for sample in images(5):
        assert np.array_equal(run_graph(graph, sample)["y"], run_graph(equal, sample)["y"])
    first = np.abs(equal.operators[0].w.data).max(axis=(1, 2, 3))  # type: ignore[attr-defined]
    second = np.abs(equal.operators[1].w.data).max(axis=(0, 1, 2))  # type: ignore[attr-defined]
    assert (np.abs(np.log2(first / second)) < 3).all()
    assert equalize(equal) == 0


def test_what_two_read_or_what_is_no_relu_is_not_equalized() -> None:
    assert equalize(residual(2)) == 0
    g = Net(0)
    first = g.add(Conv2d(g.x, g.constant(np.full((4, 1, 1, 3), 100, np.float32)), None, activation="relu6"))
    graph = g.finish(y=g.add(Conv2d(first, g.weights(2, 1, 1, 4))))
    assert equalize(graph) == 0


# Bias correction


def test_bias_correction_makes_up_for_weights_that_are_all_rounded_one_way() -> None:
    """One large weight, of a channel of small numbers, makes the step of all weights so wide that it loses the rest."""
    g = Net(4, (1, 8, 8, 3))
    w, b = g.random.normal(0, 0.2, (16, 3, 3, 3)), np.full(16, 3.0)
    w[0] *= 0.01
    b[0] *= 0.01
    w, b = (g.constant(array.astype(np.float32)) for array in (w, b))
    lifted = g.add(Conv2d(g.x, w, b, pads=(1, 1, 1, 1), activation="relu"), "lifted")
    w = g.random.uniform(0.02, 0.1, (6, 1, 1, 16))
    w[5, 0, 0, 0] = 30
    graph = g.finish(y=g.add(Conv2d(lifted, g.constant(w.astype(np.float32)), None), "y"))
    plain, corrected = (decibels(graph, QuantizeOptions(per_channel=False, correct_bias=c)) for c in (False, True))
    assert plain < 10 and corrected > 20


def test_the_correction_is_the_same_for_any_split_of_the_data() -> None:
    graph, data = residual(2), images(12)
    parts = calibrate(graph, data[:5]).merged(calibrate(graph, data[5:]))
    options = QuantizeOptions(correct_bias=True)
    one, two = (convert(graph, c, options).graph for c in (calibrate(graph, data), parts))
    for first, second in zip(one.constants, two.constants, strict=True):
        assert first.data is not None and np.array_equal(first.data, second.data)  # type: ignore[arg-type]


# Ranges folded through relu


def test_what_only_a_relu_reads_takes_the_range_of_the_relu() -> None:
    g = Net(5)
    total = g.add(Add(g.x, g.weights(1, 8, 8, 3)), "sum")
    graph = g.finish(y=g.add(Relu(total), "y"))
    quantized = quantize_graph(graph, images(10))
    assert kinds(quantized.graph) == ["add"]
    quant = quantized.graph.outputs[0][1].type.quant
    assert quant is not None and quant.zero_point == -128
    (error,) = layer_errors(graph, quantized, images(4, seed=2))
    assert error.name == "sum" or error.signal_to_noise_db > 35
    symmetric = quantize_graph(graph, images(10), QuantizeOptions("symmetric"))
    assert kinds(symmetric.graph) == ["add", "relu"]
    check(quantized.graph)
    check(symmetric.graph)


def test_what_others_read_too_keeps_its_range() -> None:
    g = Net(5)
    total = g.add(Add(g.x, g.weights(1, 8, 8, 3)), "sum")
    graph = g.finish(y=g.add(Relu(total), "y"), sum=total)
    quantized = quantize_graph(graph, images(10))
    assert kinds(quantized.graph) == ["add", "relu"]
    assert quantized.graph.outputs[1][1].type.quant.zero_point > -100  # type: ignore[union-attr]


# 16 bits


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_know_sixteen_bits(scheme: str) -> None:
    quant = SCHEMES[scheme].activation(-1.0, 3.0, DType.I16)
    assert quant.zero_point == 0 and np.float32(3.0 / 32767) <= quant.scale < 2 * 3.0 / 32767


def test_operators_do_not_compute_sixteen_bits_yet() -> None:
    with pytest.raises(CompileError, match="no operator computes activations of i16"):
        QuantizeOptions(activations=DType.I16)


def test_dequantize_stands_behind_the_value_that_is_read() -> None:
    quantized = quantize_graph(residual(1), images(4), QuantizeOptions(float_operators=("add",)))
    reads = [op.operands[0].name for op in quantized.graph.operators if isinstance(op, Dequantize)]
    assert reads == ["stem", "deep"]
