"""Random int8 models of one operator: TensorFlow Lite Micro against `support.int8_reference`, no element may differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from luciole.ir import arithmetic, fixed_point
from luciole.ir.quant import Quant
from support import int8_reference as reference
from support.oracle import Oracle, require_oracle
from support.tflite_writer import TensorSpec, single_operator, write_model

require_oracle()

Array = npt.NDArray[Any]
CASES = range(16)
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


def int8(rng: np.random.Generator, *shape: int) -> Array:
    """Random int8 numbers, now and then only extremes."""
    if rng.random() < 0.2:
        return rng.choice(np.array([-128, -127, -1, 0, 1, 127], np.int8), shape)
    return rng.integers(-128, 128, shape, dtype=np.int8)


def weights(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-127, 128, shape, dtype=np.int8)


def quant(rng: np.random.Generator, low: float = 0.002, high: float = 0.2) -> Quant:
    """A random quantization, its scale between the bounds on a logarithmic scale."""
    return Quant.per_tensor(float(np.exp(rng.uniform(np.log(low), np.log(high)))), int(rng.integers(-128, 128)))


def weight_quant(rng: np.random.Generator, channels: int, axis: int) -> Quant:
    count = channels if rng.random() < 0.75 else 1
    scales = np.exp(rng.uniform(np.log(0.0005), np.log(0.02), count)).astype(np.float32)
    return Quant(tuple(float(s) for s in scales), (0,) * count, axis)


def output_quant(rng: np.random.Generator, accumulator_scale: float, terms: int) -> Quant:
    """A quantization that the results of a sum of `terms` products fill, now and then far too fine or too coarse."""
    scale = (
        accumulator_scale
        * 80
        * np.sqrt(terms)
        * rng.choice([0.002, 0.5, 1.0, 2.0, 50.0], p=[0.05, 0.2, 0.5, 0.2, 0.05])
    )
    return Quant.per_tensor(float(scale), int(rng.integers(-128, 128)))


def tensor(name: str, shape: tuple[int, ...], q: Quant | None = None, data: Array | None = None) -> TensorSpec:
    dtype = "i8" if data is None else {"int8": "i8", "int32": "i32"}[data.dtype.name]
    return TensorSpec(name, shape, dtype, q.scales if q else (), q.zero_points if q else (), q.axis if q else 0, data)


def run(code: str, inputs: list[TensorSpec | None], output: TensorSpec, feeds: list[Array], **options: Any) -> Array:
    return Oracle(write_model(single_operator(code, inputs, [output], options))).run(feeds)[0]


def assert_same(golden: Array, result: Array) -> None:
    assert golden.shape == result.shape
    assert golden.dtype == result.dtype
    different = int((golden != result).sum())
    assert different == 0, f"{different} of {golden.size} differ, first at {np.argwhere(golden != result)[0]}"


def bias_for(rng: np.random.Generator, channels: int, terms: int) -> Array | None:
    if rng.random() < 0.25:
        return None
    return (rng.normal(0, 4000 * np.sqrt(terms), channels)).astype(np.int32)


@pytest.mark.parametrize("seed", CASES)
def test_conv2d(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, kh, kw = int(rng.integers(1, 3)), int(rng.integers(1, 5)), int(rng.integers(1, 5))
    dilations = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    height, width = kh * 2 + int(rng.integers(0, 6)), kw * 2 + int(rng.integers(0, 6))
    groups = int(rng.choice([1, 1, 2]))
    ic, oc = groups * int(rng.integers(1, 9)), groups * int(rng.integers(1, 7))
    padding, activation = str(rng.choice(["SAME", "VALID"])), str(rng.choice(ACTIVATIONS))
    x, w = int8(rng, n, height, width, ic), weights(rng, oc, kh, kw, ic // groups)
    terms = kh * kw * ic // groups
    bias = bias_for(rng, oc, terms)
    zx, zw = quant(rng), weight_quant(rng, oc, 0)
    zy = output_quant(rng, zx.scale * float(np.mean(zw.scales)), terms)
    expected = reference.conv2d(
        x, w, bias, zx, zw, zy, strides=strides, dilations=dilations, padding=padding, activation=activation
    )
    golden = run(
        "CONV_2D",
        [
            tensor("x", x.shape, zx),
            tensor("w", w.shape, zw, w),
            None if bias is None else tensor("b", (oc,), None, bias),
        ],
        tensor("y", expected.shape, zy),
        [x],
        padding=padding,
        stride_h=strides[0],
        stride_w=strides[1],
        dilation_h_factor=dilations[0],
        dilation_w_factor=dilations[1],
        fused_activation_function=activation,
    )
    assert_same(golden, expected)


@pytest.mark.parametrize("seed", CASES)
def test_depthwise_conv2d(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    n, kh, kw = int(rng.integers(1, 3)), int(rng.integers(1, 5)), int(rng.integers(1, 5))
    dilations = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    height, width = kh * 2 + int(rng.integers(0, 6)), kw * 2 + int(rng.integers(0, 6))
    multiplier = int(rng.choice([1, 1, 2, 3]))
    ic = int(rng.integers(1, 9))
    oc = ic * multiplier
    padding, activation = str(rng.choice(["SAME", "VALID"])), str(rng.choice(ACTIVATIONS))
    x, w = int8(rng, n, height, width, ic), weights(rng, 1, kh, kw, oc)
    bias = bias_for(rng, oc, kh * kw)
    zx, zw = quant(rng), weight_quant(rng, oc, 3)
    zy = output_quant(rng, zx.scale * float(np.mean(zw.scales)), kh * kw)
    expected = reference.depthwise_conv2d(
        x, w, bias, zx, zw, zy, strides=strides, dilations=dilations, padding=padding, activation=activation
    )
    operands: list[TensorSpec | None] = [tensor("x", x.shape, zx), tensor("w", w.shape, zw, w)]
    if bias is not None:  # This kernel crashes on an absent third operand (-1), but not without one.
        operands.append(tensor("b", (oc,), None, bias))
    golden = run(
        "DEPTHWISE_CONV_2D",
        operands,
        tensor("y", expected.shape, zy),
        [x],
        padding=padding,
        stride_h=strides[0],
        stride_w=strides[1],
        depth_multiplier=multiplier,
        dilation_h_factor=dilations[0],
        dilation_w_factor=dilations[1],
        fused_activation_function=activation,
    )
    assert_same(golden, expected)


@pytest.mark.parametrize("seed", CASES)
def test_fully_connected(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    rows, depth, units = int(rng.integers(1, 4)), int(rng.integers(1, 200)), int(rng.integers(1, 40))
    activation = str(rng.choice(ACTIVATIONS))
    x, w = int8(rng, rows, depth), weights(rng, units, depth)
    zx, zw = quant(rng), weight_quant(rng, units, 0)
    zy = output_quant(rng, zx.scale * float(np.mean(zw.scales)), depth)
    bias = bias_for(rng, units, depth)
    # The reference refuses a bias whose scale is not about the product of the others, when weights have one scale.
    bias_quant = None if zw.is_per_channel else Quant.per_tensor(zx.scale * zw.scale)
    expected = reference.fully_connected(x, w, bias, zx, zw, zy, activation=activation)
    golden = run(
        "FULLY_CONNECTED",
        [
            tensor("x", x.shape, zx),
            tensor("w", w.shape, zw, w),
            None if bias is None else tensor("b", (units,), bias_quant, bias),
        ],
        tensor("y", expected.shape, zy),
        [x],
        fused_activation_function=activation,
    )
    assert_same(golden, expected)


def near_halves(multiplier: arithmetic.Multiplier) -> Array:
    """Accumulators whose results are about halfway between two integers: they tell a multiplier from its neighbors."""
    centers = [round((k + 0.5) / multiplier.real) for k in (-120, -100, -70, -1, 0, 70, 100, 110)]
    return np.unique(np.concatenate([np.arange(c - 40, c + 41) for c in centers])).astype(np.int32)


@pytest.mark.parametrize("code", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_multipliers_of_accumulators_are_computed_in_double(code: str, per_channel: bool) -> None:
    """Weights are zero and biases lie around the halves: a product of scales rounded to float32 would be seen."""
    float32_product_differs = 0
    for seed in range(12):
        rng = np.random.default_rng(1000 + seed)
        zx, zw = quant(rng), quant(rng)
        zy = Quant.per_tensor(zx.scale * zw.scale * rng.uniform(2**22, 2**23), 0)
        multiplier = arithmetic.convolution_multiplier(zx.scale, zw.scale, zy.scale)
        bias = near_halves(multiplier)
        n = bias.size
        zw = Quant(zw.scales * n if per_channel else zw.scales, (0,) * (n if per_channel else 1), 3 * (code[0] == "D"))
        shape = {"C": (n, 1, 1, 1), "D": (1, 1, 1, n), "F": (n, 1)}[code[0]]
        options = {"C": {}, "D": {"depth_multiplier": n}, "F": {}}[code[0]]
        if code[0] != "F":
            options |= {"stride_h": 1, "stride_w": 1}
        x = np.full((1, 1) if code[0] == "F" else (1, 1, 1, 1), zx.zero_point, np.int8)
        bias_quant = Quant.per_tensor(zx.scale * zw.scales[0])
        golden = run(
            code,
            [
                tensor("x", x.shape, zx),
                tensor("w", shape, zw, np.zeros(shape, np.int8)),
                tensor("b", (n,), bias_quant, bias),
            ],
            tensor("y", (*x.shape[:-1], n), zy),
            [x],
            **options,
        )
        assert_same(golden.reshape(-1), reference.finish(bias, *multiplier, zy, "none"))
        other = arithmetic.quantize_multiplier(float(np.float32(zx.scale) * np.float32(zw.scales[0])) / zy.scale)
        float32_product_differs += int((reference.finish(bias, *other, zy, "none") != golden.reshape(-1)).sum())
    assert float32_product_differs > 0


@pytest.mark.parametrize("exponent", [-36, -34, -33, -32, -31, -30, -24, -2, 0, 1, 3, 8, 15])
@pytest.mark.parametrize("fraction", [1.0, 1.3, 1.99])
def test_multipliers_of_any_size(exponent: int, fraction: float) -> None:
    """Below 2**-32 every result is the zero point; above one the accumulator moves left and wraps in 32 bits."""
    zx, zw = Quant.per_tensor(2.0**-20, 3), Quant.per_tensor(fraction * 2.0**-20)
    zy = Quant.per_tensor(2.0 ** (-40 - exponent), 7)
    edges = np.array([0, 1, -1, 5, 255, 1 << 16, (1 << 29) + 12345, 1 << 30, (1 << 31) - 1, -(1 << 31), -(1 << 30) - 1])
    bias = np.concatenate([edges, np.random.default_rng(0).integers(-(1 << 31), 1 << 31, 200)]).astype(np.int32)
    shape = (bias.size, 1, 1, 1)
    x = np.full((1, 1, 1, 1), 3, np.int8)
    golden = run(
        "CONV_2D",
        [
            tensor("x", x.shape, zx),
            tensor("w", shape, zw, np.zeros(shape, np.int8)),
            tensor("b", bias.shape, None, bias),
        ],
        tensor("y", (1, 1, 1, bias.size), zy),
        [x],
        stride_h=1,
        stride_w=1,
    )
    multiplier = arithmetic.convolution_multiplier(zx.scale, zw.scale, zy.scale)
    assert multiplier.shift == (exponent + 1 if exponent >= -32 else 0)
    assert_same(golden.reshape(-1), reference.finish(bias, *multiplier, zy, "none"))


#: Ratios of scales that put many results on or near a half.
RATIOS = (0.1, 0.2, 0.25, 1 / 3, 0.5, 0.7, 0.75, 1.0, 1.5, 2.0, 3.0)
LEFT_GRID = np.repeat(np.arange(-128, 128, dtype=np.int8), 256).reshape(1, -1)
RIGHT_GRID = np.tile(np.arange(-128, 128, dtype=np.int8), 256).reshape(1, -1)


@pytest.mark.parametrize("code", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("seed", CASES)
def test_elementwise_on_every_pair(code: str, seed: int) -> None:
    rng = np.random.default_rng(1600 + seed)
    za, zb = quant(rng), quant(rng)
    if code == "MUL":
        zy = Quant.per_tensor(za.scale * zb.scale * rng.choice([50, 64, 100, 128, 200]), int(rng.integers(-50, 50)))
    else:
        zb = Quant.per_tensor(za.scale * rng.choice(RATIOS), zb.zero_point)
        zy = Quant.per_tensor(za.scale * rng.choice(RATIOS), int(rng.integers(-128, 128)))
    function = {"ADD": reference.add, "SUB": reference.subtract, "MUL": reference.multiply}[code]
    operands: list[TensorSpec | None] = [tensor("a", LEFT_GRID.shape, za), tensor("b", RIGHT_GRID.shape, zb)]
    golden = run(code, operands, tensor("y", LEFT_GRID.shape, zy), [LEFT_GRID, RIGHT_GRID])
    assert_same(golden, function(LEFT_GRID, RIGHT_GRID, za, zb, zy))


@pytest.mark.parametrize("code", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("seed", CASES)
def test_elementwise(code: str, seed: int) -> None:
    rng = np.random.default_rng(300 + seed)
    shapes = [((1, 64, 64), (1, 64, 64)), ((1, 8, 8, 16), (16,)), ((4, 1, 3), (1, 5, 3)), ((1, 7, 5, 1), (1, 1, 5, 4))]
    left, right = shapes[int(rng.integers(0, len(shapes)))]
    a, b = int8(rng, *left), int8(rng, *right)
    za, zb = quant(rng), quant(rng)
    product_scale = za.scale * zb.scale * 80
    zy = Quant.per_tensor(
        (product_scale if code == "MUL" else max(za.scale, zb.scale)) * rng.uniform(0.5, 2),
        int(rng.integers(-128, 128)),
    )
    activation = str(rng.choice(ACTIVATIONS))
    function = {"ADD": reference.add, "SUB": reference.subtract, "MUL": reference.multiply}[code]
    expected = function(a, b, za, zb, zy, activation=activation)
    golden = run(
        code,
        [tensor("a", a.shape, za), tensor("b", b.shape, zb)],
        tensor("y", expected.shape, zy),
        [a, b],
        fused_activation_function=activation,
    )
    assert_same(golden, expected)


@pytest.mark.parametrize("code", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("seed", CASES)
def test_pool(code: str, seed: int) -> None:
    rng = np.random.default_rng(400 + seed)
    kernel = (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    x = int8(rng, 1, kernel[0] + int(rng.integers(0, 9)), kernel[1] + int(rng.integers(0, 9)), int(rng.integers(1, 9)))
    q, padding, activation = quant(rng), str(rng.choice(["SAME", "VALID"])), str(rng.choice(ACTIVATIONS))
    function = reference.average_pool if code == "AVERAGE_POOL_2D" else reference.max_pool
    expected = function(x, q, kernel=kernel, strides=strides, padding=padding, activation=activation)
    golden = run(
        code,
        [tensor("x", x.shape, q)],
        tensor("y", expected.shape, q),
        [x],
        padding=padding,
        stride_h=strides[0],
        stride_w=strides[1],
        filter_height=kernel[0],
        filter_width=kernel[1],
        fused_activation_function=activation,
    )
    assert_same(golden, expected)


@pytest.mark.parametrize("axes", [(1, 2), (2, 1), (1,), (2,), (3,), (0, 1, 2), (1, 2, 3), (-1,), (0, 1, 2, 3)])
@pytest.mark.parametrize("seed", range(6))
def test_mean(axes: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(500 + seed)
    x = int8(rng, int(rng.integers(1, 3)), int(rng.integers(1, 12)), int(rng.integers(1, 12)), int(rng.integers(1, 9)))
    zx = quant(rng)
    same = rng.random() < 0.3
    zy = zx if same else Quant.per_tensor(zx.scale * rng.choice([0.01, *RATIOS, 9.0]), int(rng.integers(-128, 128)))
    keep = bool(rng.random() < 0.5)
    expected = reference.mean(x, axes, zx, zy, keep_dimensions=keep)
    golden = run(
        "MEAN",
        [tensor("x", x.shape, zx), tensor("axes", (len(axes),), None, np.array(axes, np.int32))],
        tensor("y", expected.shape, zy),
        [x],
        keep_dims=keep,
    )
    assert_same(golden, expected)


EVERY_INT8 = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)


def unary(code: str, zx: Quant, zy: Quant, **options: Any) -> Array:
    return run(code, [tensor("x", (1, 256), zx)], tensor("y", (1, 256), zy), [EVERY_INT8], **options)


@pytest.mark.parametrize("scale", [1e-7, 0.0005, 0.0078125, 0.03, 0.1, 0.125, 0.5, 1.0, 7.3, 16.0, 40.0])
@pytest.mark.parametrize("zero_point", [-128, -3, 0, 77, 127])
def test_logistic_and_tanh(scale: float, zero_point: int) -> None:
    zx = Quant.per_tensor(scale, zero_point)
    for code, table, zy in (
        ("LOGISTIC", fixed_point.logistic_table, fixed_point.LOGISTIC_OUTPUT),
        ("TANH", fixed_point.tanh_table, fixed_point.TANH_OUTPUT),
    ):
        assert_same(unary(code, zx, zy), reference.apply_table(EVERY_INT8, table(zx, zy)))


def ratio_quants(seed: int) -> tuple[Quant, Quant]:
    """An input and an output quantization; for most seeds their ratio puts results on halves."""
    rng = np.random.default_rng(seed)
    zx = quant(rng)
    ratio = rng.uniform(0.1, 3) if seed % 4 == 0 else rng.choice(RATIOS)
    return zx, Quant.per_tensor(zx.scale * ratio, int(rng.integers(-128, 128)))


@pytest.mark.parametrize("seed", range(40))
def test_relu(seed: int) -> None:
    zx, zy = ratio_quants(600 + seed)
    assert_same(unary("RELU", zx, zy), reference.apply_table(EVERY_INT8, fixed_point.relu_table(zx, zy)))


@pytest.mark.parametrize("seed", CASES)
def test_relu6_clamps_in_the_quantization_of_its_input(seed: int) -> None:
    rng = np.random.default_rng(700 + seed)
    zx, zy = quant(rng, 0.03, 0.3), quant(rng)
    assert_same(unary("RELU6", zx, zx), reference.apply_table(EVERY_INT8, fixed_point.relu6_table(zx)))
    assert_same(unary("RELU6", zx, zy), reference.apply_table(EVERY_INT8, fixed_point.relu6_table(zx)))


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.2, 0.25, 0.3, 1.0, 1.7, -0.3, 0.0])
@pytest.mark.parametrize("seed", range(12))
def test_leaky_relu(alpha: float, seed: int) -> None:
    zx, zy = ratio_quants(800 + seed)
    table = fixed_point.leaky_relu_table(zx, zy, alpha)
    assert_same(unary("LEAKY_RELU", zx, zy, alpha=alpha), reference.apply_table(EVERY_INT8, table))


@pytest.mark.parametrize("length", [1, 2, 3, 10, 12, 100, 511])
@pytest.mark.parametrize("scale", [1e-5, 0.001, 0.03125, 0.1, 0.7, 3.0, 15.9, 16.0, 31.0, 32.0, 33.0])
def test_softmax(length: int, scale: float) -> None:
    rng = np.random.default_rng(length)
    q = Quant.per_tensor(scale, 3)
    x = np.concatenate([int8(rng, 5, length), np.full((1, length), 127, np.int8), np.full((1, length), -128, np.int8)])
    for beta in (1.0, 0.3, 2.5):
        expected = fixed_point.softmax_int8(x, float(np.float32(beta)), q.scale)
        golden = run(
            "SOFTMAX", [tensor("x", x.shape, q)], tensor("y", x.shape, fixed_point.SOFTMAX_OUTPUT), [x], beta=beta
        )
        assert_same(golden, expected)


@pytest.mark.parametrize("seed", range(60))
def test_requantize(seed: int) -> None:
    zx, zy = ratio_quants(900 + seed)
    if seed < 20:
        zy = Quant.per_tensor(zx.scale * float(np.exp((seed - 10) * 1.7)), zy.zero_point)
    assert_same(unary("QUANTIZE", zx, zy), reference.requantize(EVERY_INT8, zx, zy))


@pytest.mark.parametrize("scale", [0.5, 0.1, 0.007, 1.0])
def test_quantize_rounds_halves_away_from_zero(scale: float) -> None:
    q = Quant.per_tensor(scale, -5)
    ties = (np.arange(-300, 300) / 2 * q.scale).astype(np.float32)
    near = np.nextafter(ties, np.float32(np.inf), dtype=np.float32)
    x = np.concatenate([ties, near, np.array([1e6, -1e6, 0.0, -0.0], np.float32)]).reshape(1, -1)
    model = single_operator("QUANTIZE", [TensorSpec("x", x.shape, "f32")], [tensor("y", x.shape, q)])
    golden = Oracle(write_model(model)).run([x])[0]
    assert_same(golden, arithmetic.quantize(x, q.scale, q.zero_point).astype(np.int8))


@pytest.mark.parametrize("seed", range(4))
def test_dequantize(seed: int) -> None:
    q = quant(np.random.default_rng(seed))
    model = single_operator("DEQUANTIZE", [tensor("x", (1, 256), q)], [TensorSpec("y", (1, 256), "f32")])
    golden = Oracle(write_model(model)).run([EVERY_INT8])[0]
    assert_same(golden, arithmetic.dequantize(EVERY_INT8, q.scale, q.zero_point))


@pytest.mark.parametrize("seed", range(6))
def test_pad_fills_with_the_zero_point(seed: int) -> None:
    rng = np.random.default_rng(1100 + seed)
    x, q = int8(rng, 1, 4, 5, 3), quant(rng)
    pads = rng.integers(0, 3, (4, 2)).astype(np.int32)
    expected = np.pad(x, pads, constant_values=q.zero_point)
    operands: list[TensorSpec | None] = [tensor("x", x.shape, q), tensor("pads", (4, 2), None, pads)]
    assert_same(run("PAD", operands, tensor("y", expected.shape, q), [x]), expected)
    fill = np.array([-77], np.int8)
    expected = np.pad(x, pads, constant_values=-77)
    golden = run("PADV2", [*operands, tensor("fill", (1,), q, fill)], tensor("y", expected.shape, q), [x])
    assert_same(golden, expected)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_concatenation(axis: int) -> None:
    rng = np.random.default_rng(1200 + axis)
    parts = []
    for _ in range(3):
        shape = [2, 3, 4, 5]
        shape[axis] = int(rng.integers(1, 6))
        parts.append(int8(rng, *shape))
    expected = np.concatenate(parts, axis)
    q = quant(rng)
    operands: list[TensorSpec | None] = [tensor(f"x{i}", part.shape, q) for i, part in enumerate(parts)]
    assert_same(run("CONCATENATION", operands, tensor("y", expected.shape, q), parts, axis=axis), expected)


@pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0), (2, 0, 1)])
def test_transpose(order: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1300)
    x, q = int8(rng, *(2, 3, 4, 5)[: len(order)]), quant(rng)
    expected = np.ascontiguousarray(x.transpose(order))
    operands: list[TensorSpec | None] = [
        tensor("x", x.shape, q),
        tensor("order", (len(order),), None, np.array(order, np.int32)),
    ]
    assert_same(run("TRANSPOSE", operands, tensor("y", expected.shape, q), [x]), expected)


@pytest.mark.parametrize(
    ("begin", "end", "strides", "masks", "index"),
    [
        ((0, 1, 1, 0), (1, 5, 6, 3), (1, 2, 1, 1), {}, np.s_[0:1, 1:5:2, 1:6, 0:3]),
        ((0, 9, 9, 9), (1, 4, -1, 9), (1, 1, 2, 1), {"begin_mask": 14, "end_mask": 8}, np.s_[0:1, :4, :-1:2, :]),
        ((0, -1, 0, 0), (1, 0, 6, 3), (1, -2, 1, 1), {}, np.s_[0:1, -1:0:-2, 0:6, 0:3]),
        ((0, 2, 0, 0), (1, 3, 7, 3), (1, 1, 3, 1), {"shrink_axis_mask": 2}, np.s_[0:1, 2, 0:7:3, 0:3]),
        ((0, 0, 0, 0), (0, 0, 0, 0), (1, -1, -1, 1), {"begin_mask": 15, "end_mask": 15}, np.s_[:, ::-1, ::-1, :]),
    ],
)
def test_strided_slice(begin: Any, end: Any, strides: Any, masks: Any, index: Any) -> None:
    rng = np.random.default_rng(1400)
    x, q = int8(rng, 1, 6, 7, 3), quant(rng)
    expected = np.ascontiguousarray(x[index])
    bounds = [
        tensor(n, (4,), None, np.array(v, np.int32)) for n, v in (("begin", begin), ("end", end), ("strides", strides))
    ]
    assert_same(
        run("STRIDED_SLICE", [tensor("x", x.shape, q), *bounds], tensor("y", expected.shape, q), [x], **masks), expected
    )
