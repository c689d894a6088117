"""Every import rule: a model of one operator, imported and interpreted, against TensorFlow Lite Micro.

int8 results must be equal bit by bit, float ones within 1e-5 of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.foreign import tflite
from luciole.graph.interpret import run_graph
from luciole.importers.tflite.build import load_tflite
from support.oracle import require_oracle, run_tflite_micro
from support.tflite_functions import FUNCTION_CASES, WITHOUT_ORACLE
from support.tflite_moving import MOVING_CASES
from support.tflite_specs import GENERATOR, bias, convolution, float_constant, floats, image, integers, weights
from support.tflite_writer import ModelSpec, OperatorSpec, SubgraphSpec, TensorSpec, single_operator, write_model

CONVOLUTION_CASES: dict[str, ModelSpec] = {
    "same": convolution("CONV_2D", weights(4, 3, 2, 3), (1, 9, 8, 4), 4),
    "same-stride-2-relu": convolution(
        "CONV_2D", weights(4, 3, 4, 3), (1, 5, 4, 4), 4, stride_w=2, stride_h=2, fused_activation_function="relu"
    ),
    "valid-stride-2x3": convolution(
        "CONV_2D", weights(2, 2, 3, 5), (1, 4, 2, 2), 2, stride_h=2, stride_w=3, padding="VALID"
    ),
    "same-dilated-relu6": convolution(
        "CONV_2D",
        weights(2, 3, 3, 3),
        (1, 9, 8, 2),
        2,
        dilation_w_factor=2,
        dilation_h_factor=3,
        fused_activation_function="relu6",
    ),
    "per-tensor": convolution("CONV_2D", weights(3, 1, 1, 6, axis=None), (1, 9, 8, 3), 3),
    "float-same-stride-2": single_operator(
        "CONV_2D",
        [floats(2, 7, 6, 3), float_constant(5, 3, 3, 3), float_constant(5, name="b")],
        [floats(2, 4, 3, 5, name="y")],
        {"stride_w": 2, "stride_h": 2, "padding": "SAME", "fused_activation_function": "relu_n1_to_1"},
    ),
    "float-without-bias": single_operator(
        "CONV_2D",
        [floats(1, 7, 6, 3), float_constant(2, 2, 2, 3)],
        [floats(1, 6, 5, 2, name="y")],
        {"stride_w": 1, "stride_h": 1, "padding": "VALID"},
    ),
}


def float_window(code: str, y: tuple[int, ...], constants: Sequence[TensorSpec] = (), **options: Any) -> ModelSpec:
    """A float convolution or pool over an image of 7x6x3."""
    options = {"stride_w": 2, "stride_h": 1, "padding": "SAME"} | options
    return single_operator(code, [floats(1, 7, 6, 3), *constants], [floats(*y, name="y")], options)


DEPTHWISE_CASES: dict[str, ModelSpec] = {
    "same": convolution("DEPTHWISE_CONV_2D", weights(1, 3, 3, 4, axis=3), (1, 9, 8, 4), 4, depth_multiplier=1),
    "multiplier-of-3": convolution(
        "DEPTHWISE_CONV_2D",
        weights(1, 2, 3, 6, axis=3),
        (1, 5, 3, 6),
        6,
        depth_multiplier=3,
        stride_h=2,
        stride_w=3,
        fused_activation_function="relu6",
    ),
    "valid-dilated": convolution(
        "DEPTHWISE_CONV_2D",
        weights(1, 3, 3, 2, axis=3),
        (1, 5, 6, 2),
        2,
        depth_multiplier=1,
        padding="VALID",
        dilation_h_factor=2,
    ),
    "float": float_window(
        "DEPTHWISE_CONV_2D",
        (1, 7, 3, 6),
        [float_constant(1, 3, 2, 6), float_constant(6, name="b")],
        depth_multiplier=2,
        fused_activation_function="relu",
    ),
}


def dense(w: TensorSpec, x: tuple[int, ...], y: tuple[int, ...], has_bias: bool = True, **options: Any) -> ModelSpec:
    """A quantized dense layer."""
    activation = image(*x, zero=9)
    operands = [activation, w, bias(activation, w, y[-1]) if has_bias else None]
    return single_operator("FULLY_CONNECTED", operands, [image(*y, scale=0.1, zero=-20, name="y")], options)


DENSE_CASES: dict[str, ModelSpec] = {
    "per-tensor": dense(weights(5, 7, axis=None), (2, 7), (2, 5)),
    "per-channel": dense(weights(5, 7), (1, 7), (1, 5), fused_activation_function="relu"),
    "without-bias": dense(weights(5, 7, axis=None), (1, 7), (1, 5), False),
    "flattens": dense(weights(3, 12, axis=None), (2, 3, 4), (2, 3), fused_activation_function="relu6"),
    "keeps-dimensions": dense(weights(3, 4, axis=None), (2, 5, 4), (2, 5, 3), keep_num_dims=True),
    "float": single_operator(
        "FULLY_CONNECTED",
        [floats(3, 4), float_constant(2, 4), float_constant(2, name="b")],
        [floats(3, 2, name="y")],
        {"fused_activation_function": "relu"},
    ),
}


def binary(code: str) -> dict[str, ModelSpec]:
    """Models of an operator on two operands: broadcast, activated, with a constant."""
    b = TensorSpec(
        "b", (1, 3, 1, 2), "i8", (0.021,), (5,), data=GENERATOR.integers(-128, 128, (1, 3, 1, 2)).astype(np.int8)
    )
    other = image(2, 3, 4, 2, scale=0.03, zero=7, name="b")
    x, y = image(2, 3, 4, 2), image(2, 3, 4, 2, scale=0.07, zero=-60, name="y")
    relu = {"fused_activation_function": "relu"}
    return {
        "int8": single_operator(code, [x, other], [y], {"fused_activation_function": "none"}),
        "int8-constant-broadcast-relu": single_operator(code, [x, b], [y], relu),
        "int8-constant-first": single_operator(code, [b, x], [y], {"fused_activation_function": "relu6"}),
        "float": single_operator(code, [floats(2, 3), floats(2, 3, name="b")], [floats(2, 3, name="y")], relu),
        "float-broadcast": single_operator(
            code, [floats(2, 3), float_constant(3)], [floats(2, 3, name="y")], {"fused_activation_function": "none"}
        ),
    }


def pool(code: str) -> dict[str, ModelSpec]:
    """Models of a pool: padded, strided, activated."""
    sizes = {"filter_width": 3, "filter_height": 2}
    x, y = image(1, 9, 8, 3), image(1, 5, 3, 3, name="y")
    options = sizes | {"stride_h": 2, "stride_w": 3, "padding": "SAME", "fused_activation_function": "none"}
    small = image(1, 8, 6, 3, name="y")
    valid = sizes | {"stride_h": 1, "stride_w": 1, "padding": "VALID", "fused_activation_function": "relu"}
    return {
        "same": single_operator(code, [x], [y], options),
        "valid-relu": single_operator(code, [x], [small], valid),
        "float": float_window(code, (1, 7, 3, 3), **sizes, fused_activation_function="relu6"),
    }


def moved(
    code: str, x: tuple[int, ...], y: tuple[int, ...], *constants: TensorSpec, **options: Any
) -> dict[str, ModelSpec]:
    """Models of an operator that moves numbers: int8 and float."""
    return {
        "int8": single_operator(code, [image(*x), *constants], [image(*y, name="y")], options),
        "float": single_operator(code, [floats(*x), *constants], [floats(*y, name="y")], options),
    }


def joined(options: Mapping[str, Any], *shapes: tuple[int, ...]) -> dict[str, ModelSpec]:
    """Models of a concatenation; the last shape is the result's."""
    *parts, y = shapes
    return {
        "int8": single_operator(
            "CONCATENATION", [image(*s, name=f"x{i}") for i, s in enumerate(parts)], [image(*y, name="y")], options
        ),
        "float": single_operator(
            "CONCATENATION", [floats(*s, name=f"x{i}") for i, s in enumerate(parts)], [floats(*y, name="y")], options
        ),
    }


def split() -> dict[str, ModelSpec]:
    """Models of a split in three."""
    axis, options = integers(2, name="axis", shape=()), {"num_splits": 3}
    return {
        "int8": single_operator(
            "SPLIT", [axis, image(2, 2, 6)], [image(2, 2, 2, name=f"y{i}") for i in range(3)], options
        ),
        "float": single_operator(
            "SPLIT", [axis, floats(2, 2, 6)], [floats(2, 2, 2, name=f"y{i}") for i in range(3)], options
        ),
    }


def split_by_sizes() -> dict[str, ModelSpec]:
    """Models of a split in two parts of different sizes, one of them what remains."""
    constants = [integers(4, -1, name="sizes"), integers(-1, name="axis", shape=())]
    options = {"num_splits": 2}
    parts = [(2, 2, 4), (2, 2, 2)]
    return {
        "int8": single_operator(
            "SPLIT_V", [image(2, 2, 6), *constants], [image(*s, name=f"y{i}") for i, s in enumerate(parts)], options
        ),
        "float": single_operator(
            "SPLIT_V", [floats(2, 2, 6), *constants], [floats(*s, name=f"y{i}") for i, s in enumerate(parts)], options
        ),
    }


def mapped(code: str, scale: float, zero: int, **options: Any) -> dict[str, ModelSpec]:
    """Models of an operator on single numbers; `scale` and `zero` are the result's."""
    return {
        "int8": single_operator(code, [image(1, 256)], [image(1, 256, scale=scale, zero=zero, name="y")], options),
        "float": single_operator(code, [floats(2, 50)], [floats(2, 50, name="y")], options),
    }


def mean() -> dict[str, ModelSpec]:
    """Models of a mean over some axes."""
    x, axes = image(1, 4, 5, 3), integers(1, 2)
    return {
        "int8": single_operator("MEAN", [x, axes], [image(1, 3, scale=0.03, zero=5, name="y")], {"keep_dims": False}),
        "int8-same-scale": single_operator("MEAN", [x, axes], [image(1, 1, 1, 3, name="y")], {"keep_dims": True}),
        "int8-last-axis": single_operator(
            "MEAN", [x, integers(-1)], [image(1, 4, 5, scale=0.04, name="y")], {"keep_dims": False}
        ),
        "float": single_operator("MEAN", [floats(1, 4, 5, 3), axes], [floats(1, 3, name="y")], {"keep_dims": False}),
    }


PADS = integers(0, 0, 1, 2, 0, 3, 1, 0, shape=(4, 2))
ZERO_STRIDES = {"begin_mask": 0, "end_mask": 0, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 0}

CASES: dict[str, Mapping[str, ModelSpec]] = {
    "CONV_2D": CONVOLUTION_CASES,
    "DEPTHWISE_CONV_2D": DEPTHWISE_CASES,
    "FULLY_CONNECTED": DENSE_CASES,
    "ADD": binary("ADD"),
    "SUB": binary("SUB"),
    "MUL": binary("MUL"),
    "AVERAGE_POOL_2D": pool("AVERAGE_POOL_2D"),
    "MAX_POOL_2D": pool("MAX_POOL_2D"),
    "MEAN": mean(),
    "PAD": moved("PAD", (1, 3, 4, 2), (1, 6, 7, 3), PADS),
    "PADV2": {
        "int8": single_operator(
            "PADV2",
            [image(1, 3, 4, 2), PADS, TensorSpec("v", (1,), "i8", (0.05,), (-3,), data=np.array([77], np.int8))],
            [image(1, 6, 7, 3, name="y")],
        ),
        "float": single_operator(
            "PADV2",
            [floats(1, 3, 4, 2), PADS, TensorSpec("v", (1,), "f32", data=np.array([-0.75], np.float32))],
            [floats(1, 6, 7, 3, name="y")],
        ),
    },
    "RESHAPE": moved("RESHAPE", (2, 3, 4), (6, 4), integers(-1, 4), new_shape=[-1, 4])
    | {f"{k}-by-option": v for k, v in moved("RESHAPE", (2, 3, 4), (24,), new_shape=[-1]).items()},
    "SQUEEZE": moved("SQUEEZE", (1, 3, 1, 2), (3, 2), squeeze_dims=[])
    | {f"{k}-one": v for k, v in moved("SQUEEZE", (1, 3, 1, 2), (1, 3, 2), squeeze_dims=[-2]).items()},
    "EXPAND_DIMS": moved("EXPAND_DIMS", (3, 2), (3, 2, 1), integers(-1)),
    "CONCATENATION": joined({"axis": -1, "fused_activation_function": "none"}, (2, 3), (2, 1), (2, 4), (2, 8)),
    "SOFTMAX": mapped("SOFTMAX", 1 / 256, -128, beta=1.0)
    | {f"{k}-of-beta-half": v for k, v in mapped("SOFTMAX", 1 / 256, -128, beta=0.5).items()},
    "RELU": mapped("RELU", 0.03, -100),
    "RELU6": mapped("RELU6", 0.05, -3),
    "LOGISTIC": mapped("LOGISTIC", 1 / 256, -128),
    "TANH": mapped("TANH", 1 / 128, 0),
    "LEAKY_RELU": mapped("LEAKY_RELU", 0.04, 10, alpha=0.25),
    "QUANTIZE": {
        "float": single_operator("QUANTIZE", [floats(2, 50)], [image(2, 50, name="y")]),
        "int8": single_operator("QUANTIZE", [image(1, 256)], [image(1, 256, scale=0.08, zero=30, name="y")]),
    },
    "DEQUANTIZE": {"int8": single_operator("DEQUANTIZE", [image(1, 256)], [floats(1, 256, name="y")])},
    "TRANSPOSE": moved("TRANSPOSE", (2, 3, 4, 5), (4, 2, 5, 3), integers(2, 0, 3, 1)),
    "SLICE": moved("SLICE", (2, 3, 4), (1, 3, 2), integers(1, 0, 1), integers(1, -1, 2, name="size")),
    "STRIDED_SLICE": moved(
        "STRIDED_SLICE",
        (3, 5, 4),
        (2, 5, 2),
        integers(1, 1, -1, name="begin"),
        integers(3, 2, -4, name="end"),
        integers(1, 1, -2, name="strides"),
        **ZERO_STRIDES | {"begin_mask": 2, "end_mask": 2},
    )
    | {
        f"{k}-that-drops-an-axis": v
        for k, v in moved(
            "STRIDED_SLICE",
            (3, 5, 4),
            (3, 4),
            integers(0, -1, 0, name="begin"),
            integers(3, 0, 4, name="end"),
            integers(1, 1, 1, name="strides"),
            **ZERO_STRIDES | {"shrink_axis_mask": 2},
        ).items()
    },
    "SPLIT": split(),
    "SPLIT_V": split_by_sizes(),
    **MOVING_CASES,
    **FUNCTION_CASES,
}


def feed(spec: ModelSpec) -> list[np.ndarray[Any, Any]]:
    """Random inputs of a model, the ends of the range among them."""
    arrays: list[np.ndarray[Any, Any]] = []
    generator = np.random.default_rng(5)
    graph = spec.subgraphs[0]
    tensors = {t.name: t for t in graph.tensors}
    for name in graph.inputs:
        tensor = tensors[str(name)]
        assert tensor.shape is not None
        if tensor.dtype == "f32":
            arrays.append(generator.normal(0, 2, tensor.shape).astype(np.float32))
        else:
            data = generator.integers(-128, 128, tensor.shape).astype(np.int8)
            data.reshape(-1)[:2] = (-128, 127)[: data.size]
            arrays.append(data)
    return arrays


def interpret(graph: Graph, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The outputs of a graph in order."""
    results = run_graph(graph, {v.name: a for v, a in zip(graph.inputs, arrays, strict=True)})
    return [results[name] for name, _ in graph.outputs]


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in CASES.items() for case in cases])
def test_imported_operators_compute_what_tflite_micro_computes(kind: str, case: str) -> None:
    require_oracle()
    spec = CASES[kind][case]
    data = write_model(spec)
    arrays = feed(spec)
    for ours, theirs in zip(
        interpret(load_tflite(data, "one.tflite"), arrays), run_tflite_micro(data, arrays), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if ours.dtype == np.float32:
            assert np.abs(ours - theirs).max() <= 1e-5 * max(1e-30, np.abs(theirs).max())
        else:
            assert np.array_equal(ours, theirs), f"{np.count_nonzero(ours != theirs)} of {ours.size} differ"


def test_every_rule_has_cases() -> None:
    assert {*CASES, *(case.partition(" ")[0] for case in WITHOUT_ORACLE)} == set(tflite.kinds)


@pytest.mark.parametrize("case", WITHOUT_ORACLE)
def test_operators_that_tflite_micro_lacks_compute_what_numpy_does(case: str) -> None:
    spec, meaning = WITHOUT_ORACLE[case]
    (x,) = feed(spec)
    assert np.array_equal(interpret(load_tflite(write_model(spec), "one.tflite"), [x])[0], meaning(x))


def test_names_and_quantization_are_those_of_the_file() -> None:
    graph = load_tflite(write_model(CONVOLUTION_CASES["same"]), "one.tflite")
    (op,) = graph.operators
    assert graph.name == "one"
    assert [v.name for v in graph.values()] == ["x", "w", "b", "y"]
    assert graph.result(op).type.quant == op.quant
    assert op.quant is not None
    assert (op.quant.scale, op.quant.zero_point) == (float(np.float32(0.06)), 4)
    assert (op.location.file, op.location.node, op.location.kind) == ("one.tflite", "y", "CONV_2D")


def test_tensors_without_axes() -> None:
    graph = load_tflite(write_model(single_operator("LOGISTIC", [floats()], [floats(name="y")])), "scalar.tflite")
    (y,) = interpret(graph, [np.array(0, np.float32)])
    assert y.shape == ()
    assert y == np.float32(0.5)


def test_half_float_weights_are_widened() -> None:
    """Converters store half floats behind a DEQUANTIZE; TensorFlow Lite Micro has no kernel for them."""
    halves = np.array([[1.5, -2.25]], np.float16)
    tensors = [
        TensorSpec("x", (1, 2), "f32"),
        TensorSpec("w16", (1, 2), "FLOAT16", data=halves),
        TensorSpec("w", (1, 2), "f32"),
        TensorSpec("y", (1, 2), "f32"),
    ]
    nodes = [OperatorSpec("DEQUANTIZE", ["w16"], ["w"]), OperatorSpec("MUL", ["x", "w"], ["y"])]
    graph = load_tflite(write_model(ModelSpec([SubgraphSpec(tensors, nodes, ["x"], ["y"])])), "halves.tflite")
    assert [op.kind for op in graph.operators] == ["mul"]
    assert interpret(graph, [np.ones((1, 2), np.float32)])[0].tolist() == [[1.5, -2.25]]


def test_outputs_may_be_inputs_constants_and_repeated() -> None:
    tensors = [TensorSpec("x", (2,), "f32"), TensorSpec("k", (2,), "f32", data=np.array([3, 4], np.float32))]
    graph = load_tflite(write_model(ModelSpec([SubgraphSpec(tensors, [], ["x"], ["k", "x", "x"])])), "ends.tflite")
    assert [name for name, _ in graph.outputs] == ["k", "x", "x#2"]
    assert [a.tolist() for a in interpret(graph, [np.array([1, 2], np.float32)])] == [[3, 4], [1, 2], [1, 2]]


X = image(1, 4, zero=0)
Y = image(1, 2, name="y")
W = TensorSpec("w", (2, 4), "i8", (0.1,), data=np.ones((2, 4), np.int8))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            single_operator("FULLY_CONNECTED", [X, replace(W, zero_points=(3,)), None], [Y]),
            "weights of FULLY_CONNECTED have a zero point other than 0",
        ),
        (
            single_operator("FULLY_CONNECTED", [X, replace(W, scales=(0.1,) * 4, axis=1), None], [Y]),
            "weights of FULLY_CONNECTED have scales along axis 1; its channels lie along axis 0",
        ),
        (
            single_operator("FULLY_CONNECTED", [X, replace(W, data=None), None], [Y]),
            "FULLY_CONNECTED of int8 with weights or a bias that are computed at run time",
        ),
        (
            single_operator("FULLY_CONNECTED", [X, W, float_constant(2, name="b")], [Y]),
            "FULLY_CONNECTED of i8 with a bias of f32",
        ),
        (
            single_operator("FULLY_CONNECTED", [X, W, None], [Y], {"weights_format": 1}),
            "FULLY_CONNECTED with weights_format SHUFFLED4x16INT8 is not supported",
        ),
        (
            single_operator(
                "ADD", [floats(4), floats(4, name="b")], [floats(4, name="y")], {"fused_activation_function": "tanh"}
            ),
            "ADD with fused_activation_function TANH is not supported",
        ),
        (
            single_operator(
                "CONCATENATION", [image(4), image(4, scale=0.2, name="b")], [image(8, name="y")], {"axis": 0}
            ),
            "operands of CONCATENATION are quantized differently",
        ),
        (
            single_operator("RESHAPE", [image(4)], [image(2, 2, scale=0.2, name="y")], {"new_shape": [2, 2]}),
            'the result "y" is quantized as affine(scale=0.2, zero=-3), but RESHAPE gives it as affine(scale=0.05',
        ),
        (
            single_operator("RELU", [TensorSpec("x", (4,), "i8")], [image(4, name="y")]),
            '1 tensor of int8 without a scale: "x"',
        ),
        (
            single_operator("RELU", [TensorSpec("x", (2,), "i8", (0.1, 0.2), (0, 0))], [image(2, name="y")]),
            '1 tensor computed at run time with a scale for each channel: "x"',
        ),
        (
            single_operator("RELU", [TensorSpec("x", (4,), "u8", (0.1,))], [TensorSpec("y", (4,), "u8", (0.1,))]),
            "relu: x must be f32 or i8",
        ),
        (
            single_operator("TRANSPOSE", [floats(2, 3), TensorSpec("p", (2,), "i32")], [floats(3, 2, name="y")]),
            "operand 1 of TRANSPOSE must be a constant",
        ),
        (
            single_operator(
                "CONV_2D",
                [floats(1, 4, 4, 4), float_constant(2, 1, 1, 2), None],
                [floats(1, 4, 4, 2, name="y")],
                {"stride_w": 1, "stride_h": 1},
            ),
            "grouped convolutions are not supported",
        ),
    ],
)
def test_what_a_rule_does_not_support(spec: ModelSpec, message: str) -> None:
    with pytest.raises(CompileError) as error:
        load_tflite(write_model(spec), "one.tflite")
    assert message in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (single_operator("FULLY_CONNECTED", [X], [Y]), "FULLY_CONNECTED needs 2 operands, operand 1 is missing"),
        (
            single_operator(
                "CONV_2D", [floats(1, 4, 4, 1), float_constant(1, 1, 1, 1)], [floats(1, 4, 4, 1, name="y")]
            ),
            "attribute stride_h of CONV_2D is 0; it must be positive",
        ),
        (
            single_operator("LEAKY_RELU", [floats(4)], [floats(4, name="y")], {"alpha": float("nan")}),
            "attribute alpha of LEAKY_RELU is nan, not a finite number",
        ),
        (
            single_operator("MEAN", [floats(1, 4), integers(2)], [floats(1, name="y")]),
            "MEAN along axis 2 of 2 dimensions",
        ),
        (
            single_operator("RESHAPE", [floats(4), float_constant(2, name="s")], [floats(2, 2, name="y")]),
            "operand 1 of RESHAPE must hold integers, not float32",
        ),
        (
            single_operator("AVERAGE_POOL_2D", [floats(4, 4)], [floats(4, 4, name="y")]),
            "operand 0 of AVERAGE_POOL_2D has 2 dimensions; it must have 4",
        ),
        (
            single_operator(
                "CONCATENATION", [floats(1, 2), floats(1, name="b")], [floats(1, 4, name="y")], {"axis": 1}
            ),
            "operands must have equal shapes but for axis 1",
        ),
        (
            single_operator("PAD", [floats(4), integers(1)], [floats(5, name="y")]),
            "PAD of 1 dimensions has 1 widths",
        ),
        (
            single_operator("SLICE", [floats(4), integers(2), integers(3, name="n")], [floats(3, name="y")]),
            "3 elements from 2",
        ),
        (
            single_operator("SPLIT", [integers(0, shape=()), floats(5)], [floats(2, name="y"), floats(3, name="z")]),
            "SPLIT of f32[5] along axis 0 into 2 parts",
        ),
    ],
)
def test_what_contradicts_itself(spec: ModelSpec, message: str) -> None:
    with pytest.raises(CompileError) as error:
        load_tflite(write_model(spec), "one.tflite")
    assert message in str(error.value)
    assert error.value.exit_code == 1


def test_a_result_of_another_shape_than_declared_is_refused() -> None:
    spec = convolution("CONV_2D", weights(4, 3, 2, 3), (1, 9, 7, 4), 4)
    with pytest.raises(CompileError) as error:
        load_tflite(write_model(spec), "one.tflite")
    assert error.value.diagnostics[0].code == "result-mismatch"
    assert 'give i8[1,9,8,4], but the file says that its result "y" is i8[1,9,7,4]' in str(error.value)
