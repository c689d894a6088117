"""The int8 graph is close to the float one, has TFLite's scales where they are fixed, and refuses the rest by name."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.graph.core import Graph, Value
from luciole.graph.text import render_graph
from luciole.ir.fixed_point import LOGISTIC_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT
from luciole.ir.types import Array, DType
from luciole.ops.activation import Relu
from luciole.ops.matmul import FullyConnected
from luciole.ops.powers import Power
from luciole.ops.quantization import Requantize
from luciole.quantize import (
    OBSERVERS,
    SCHEMES,
    Quantized,
    QuantizeOptions,
    calibrate,
    convert,
    layer_errors,
    quantize_graph,
)
from luciole.quantize.convert import GREATEST_BIAS
from support.float_nets import Net, images, mixture, residual
from support.program_checks import check


def named(graph: Graph, name: str) -> Value:
    return next(value for value in graph.values() if value.name == name)


def errors(graph: Graph, quantized: Quantized) -> dict[str, float]:
    """Decibels by value, on samples that were not calibrated with."""
    return {e.name: e.signal_to_noise_db for e in layer_errors(graph, quantized, images(8, seed=9))}


@pytest.mark.parametrize("make", [residual, mixture], ids=["residual", "mixture"])
@pytest.mark.parametrize("seed", range(4))
def test_int8_is_close_to_float(make: object, seed: int) -> None:
    graph = make(seed)  # type: ignore[operator]
    quantized = quantize_graph(graph, images(20, seed))
    assert all(value.type.dtype is not DType.F32 for value in quantized.graph.values())
    assert [n for n, _ in quantized.graph.outputs] == [n for n, _ in graph.outputs]
    # 8 bits of a uniform signal would be 48 dB; normal ones, and errors that add up, cost some of these.
    assert min(errors(graph, quantized).values()) > 20


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("observer", OBSERVERS)
def test_all_schemes_and_observers(scheme: str, observer: str) -> None:
    graph = residual(1)
    quantized = quantize_graph(graph, images(20), QuantizeOptions(scheme, observer))
    assert errors(graph, quantized)["probabilities"] > 15
    remark = f"scheme {scheme}, weights per channel, ranges by {observer} over 20 samples"
    assert remark in quantized.graph.remarks[-1]


def test_one_scale_for_each_channel_is_better_than_one_for_all() -> None:
    g = Net(0, (1, 16))
    rows = g.random.normal(0, 1, (6, 16)) * np.array([[0.001], [0.01], [0.1], [1], [1], [1]])
    graph = g.finish(y=g.add(FullyConnected(g.x, g.constant(rows.astype(np.float32)))))
    data = images(10, shape=(1, 16))
    by_channel, whole = (quantize_graph(graph, data, QuantizeOptions(per_channel=p)) for p in (True, False))
    assert by_channel.graph.constants[0].type.quant is not None and whole.graph.constants[0].type.quant is not None
    assert len(by_channel.graph.constants[0].type.quant.scales) == 6
    assert len(whole.graph.constants[0].type.quant.scales) == 1
    assert len(np.unique(by_channel.graph.constants[0].data[0])) > 10  # type: ignore[index]  # constants have data
    assert not whole.graph.constants[0].data[0].any()  # type: ignore[index]


def test_weights_leave_out_minus_128_and_biases_are_in_units_of_both_scales() -> None:
    graph = residual(3)
    quantized = quantize_graph(graph, images(10))
    for op, original in zip(quantized.graph.operators, graph.operators, strict=True):
        if not hasattr(op, "w"):
            continue
        x, w, b = op.x.type.quant, op.w.type.quant, op.b
        assert op.w.data.min() >= -127 and np.abs(op.w.data).max() == 127
        assert b.type.dtype is DType.I32
        units = np.array(w.scales) * x.scale
        assert np.abs(b.data * units - original.b.data).max() <= units.max() / 2 * (1 + 1e-6)  # type: ignore[attr-defined]


def test_scales_that_are_fixed_and_scales_that_are_shared() -> None:
    q = quantize_graph(mixture(0), images(10)).graph
    assert named(q, "logistic").type.quant == LOGISTIC_OUTPUT
    assert named(q, "tanh").type.quant == TANH_OUTPUT
    shared = {named(q, name).type.quant for name in ("relu", "leaky", "product", "difference", "joined", "sliced")}
    assert len(shared) == 1
    assert sum(isinstance(op, Requantize) for op in q.operators) == 2
    assert named(q, "image").type.quant == named(q, "padded").type.quant
    padding = named(q, "image").type.quant
    assert padding is not None and padding.scale * (-128 - padding.zero_point) <= -2.5 + padding.scale
    q = quantize_graph(residual(0), images(10)).graph
    assert named(q, "probabilities").type.quant == SOFTMAX_OUTPUT
    assert named(q, "joined").type.quant == named(q, "flat").type.quant
    relu = named(q, "joined").type.quant
    assert relu is not None and relu.zero_point == -128


@pytest.mark.parametrize("make", [residual, mixture], ids=["residual", "mixture"])
def test_what_is_compiled_computes_the_same_bits(make: object) -> None:
    check(quantize_graph(make(0), images(10)).graph)  # type: ignore[operator]


def test_any_split_of_the_data_gives_the_same_graph() -> None:
    graph, data = residual(2), images(12)
    whole = calibrate(graph, data)
    parts = calibrate(graph, data[:5]).merged(calibrate(graph, data[5:6])).merged(calibrate(graph, data[6:]))
    for observer in OBSERVERS:
        options = QuantizeOptions(observer=observer)
        texts = [render_graph(convert(graph, c, options).graph) for c in (whole, parts, calibrate(graph, data))]
        assert texts[0].text == texts[1].text == texts[2].text
        assert all(np.array_equal(array, texts[1].arrays[name]) for name, array in texts[0].arrays.items())


@pytest.mark.parametrize("number", [0.0, 1.0, -3e-41, 1e30])
def test_constant_data_has_a_defined_result(number: float) -> None:
    graph = residual(1)
    data = [{"image": np.full((1, 8, 8, 3), number, np.float32)}] * 3
    quantized = quantize_graph(graph, data)
    check(quantized.graph)
    again = quantize_graph(graph, data)
    assert render_graph(again.graph).text == render_graph(quantized.graph).text


def test_weights_of_zeros_and_biases_beyond_int32() -> None:
    g = Net(0, (1, 4))
    w = np.float32([[0, 0, 0, 0], [1e-20, 0, 0, 0], [1, -1, 0.5, 0.25]])
    b = np.float32([0.5, 1e6, 2])
    graph = g.finish(y=g.add(FullyConnected(g.x, g.constant(w), g.constant(b))))
    quantized = quantize_graph(graph, images(10, shape=(1, 4)))
    bias = next(value.data for value in quantized.graph.constants if value.type.dtype is DType.I32)
    assert bias is not None and int(bias[1]) == pytest.approx(GREATEST_BIAS, rel=1e-6)
    (error,) = layer_errors(graph, quantized, images(4, shape=(1, 4)))
    assert error.largest_error < 1e6 / 255 + 1
    check(quantized.graph)


def test_operators_without_int8_are_listed_together() -> None:
    g = Net(0, (1, 4))
    ratio = g.add(Power(g.x, g.weights(4)), "ratio")
    weights = g.add(Relu(g.weights(4, 4)), "computed")
    y = g.add(FullyConnected(ratio, weights), "y")
    with pytest.raises(CompileError) as problem:
        quantize_graph(g.finish(y=y), images(1, shape=(1, 4)))
    assert [d.message for d in problem.value.diagnostics] == [
        "power has no int8 form",
        "fully_connected has weights or a bias that are not constant",
    ]
    assert problem.value.exit_code == 2
    help = "nothing stays in float unasked: --float-operators ratio keeps this one, or replace it in the model"
    assert problem.value.diagnostics[0].help == help


def test_weights_that_are_no_numbers() -> None:
    g = Net(0, (1, 2))
    graph = g.finish(y=g.add(FullyConnected(g.x, g.constant(np.float32([[1, np.nan]]), name="kernel"))))
    with pytest.raises(CompileError, match="the constant %kernel has infinite numbers or NaN"):
        quantize_graph(graph, images(1, shape=(1, 2)))


def test_an_int8_graph_is_not_quantized_again() -> None:
    graph = quantize_graph(residual(0), images(2)).graph
    with pytest.raises(CompileError, match='"net" has no float inputs or outputs'):
        quantize_graph(graph, images(2))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"scheme": "ternary"}, '--scheme cannot be "ternary"'), ({"observer": "eyes"}, '--observer cannot be "eyes"')],
)
def test_unknown_words(given: dict[str, str], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        QuantizeOptions(**given)  # type: ignore[arg-type]


def samples_with(change: object) -> list[dict[str, Array]]:
    data = images(3)
    change(data[1])  # type: ignore[operator]
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "there are no samples to calibrate with"),
        ([{"other": np.zeros(3)}], 'sample 0 has nothing for the input "image"'),
        (
            [{"image": np.zeros((1, 8, 8), np.float32)}],
            r'sample 0 is float32\[1, 8, 8\], the input "image" is f32\[1,8,8,3\]',
        ),
        (
            samples_with(lambda s: s["image"].__setitem__((0, 1, 1, 1), np.nan)),
            'sample 1 for the input "image" has infinite numbers or NaN',
        ),
        ([{"image": np.full((1, 8, 8, 3), 3e38, np.float32)}], "sample 0 makes %stem infinite or not a number"),
    ],
)
def test_bad_samples(data: list[dict[str, Array]], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        quantize_graph(residual(0), data)


def test_progress_is_told() -> None:
    told: list[int] = []
    quantize_graph(residual(0), images(3), progress=told.append)
    assert told == [1, 1, 1]
