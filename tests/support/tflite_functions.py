"""Models of one TFLite operator on single elements, of a comparison, of a reduction or of a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from luciole.ir.types import Array
from support.tflite_specs import GENERATOR, float_constant, floats, image, integers, unary
from support.tflite_writer import ModelSpec, OperatorSpec, SubgraphSpec, TensorSpec, single_operator


def _function(code: str, **options: Any) -> dict[str, ModelSpec]:
    """A function of floats."""
    return {"float": unary(code, floats(2, 50), floats(2, 50, name="y"), **options)}


def _positive(code: str) -> dict[str, ModelSpec]:
    """A function of what is not negative, which the absolute value of the operand is."""
    x, h, y = floats(2, 50), floats(2, 50, name="h"), floats(2, 50, name="y")
    graph = SubgraphSpec([x, h, y], [OperatorSpec("ABS", ["x"], ["h"]), OperatorSpec(code, ["h"], ["y"])], ["x"], ["y"])
    return {"float": ModelSpec([graph])}


def _tables(code: str, *scales: tuple[float, int, float, int]) -> dict[str, ModelSpec]:
    """All int8 numbers, for some scales and zero points of operand and result."""
    return {
        f"int8-{number}": unary(
            code, image(1, 256, scale=scale, zero=zero), image(1, 256, scale=result, zero=result_zero, name="y")
        )
        for number, (scale, zero, result, result_zero) in enumerate(scales)
    }


def _two(code: str, y: str = "same", **options: Any) -> dict[str, ModelSpec]:
    """Two operands of int8 of one scale, and of floats; the result is like them, or of truth values."""
    result = {"same": image(2, 3, 4, name="y"), "bool": TensorSpec("y", (2, 3, 4), "bool")}[y]
    real = {"same": floats(2, 3, 4, name="y"), "bool": TensorSpec("y", (2, 3, 4), "bool")}[y]
    return {
        "int8": single_operator(code, [image(2, 3, 4), image(2, 3, 4, name="b")], [result], options),
        "float": single_operator(code, [floats(2, 3, 4), floats(2, 3, 4, name="b")], [real], options),
    }


def _floats_of_two(code: str, **options: Any) -> dict[str, ModelSpec]:
    return {"float": _two(code, **options)["float"]}


def _slopes(*shape: int, scale: float = 0.01, zero: int = 5) -> TensorSpec:
    data = GENERATOR.integers(-128, 128, shape).astype(np.int8)
    return TensorSpec("slopes", shape, "i8", (scale,), (zero,), data=data)


def _reduced(code: str, *, has_int8: bool) -> dict[str, ModelSpec]:
    axes = integers(1, -1)
    cases = {"float": unary(code, floats(2, 3, 4), floats(2, name="y"), axes, keep_dims=False)}
    if has_int8:
        cases["int8"] = unary(code, image(2, 3, 4), image(2, 1, 1, name="y"), axes, keep_dims=True)
    return cases


def _product(x: tuple[int, ...], b: tuple[int, ...], y: tuple[int, ...], **options: Any) -> dict[str, ModelSpec]:
    options = {"adj_x": False, "adj_y": False} | options
    name = "-".join(key for key, value in options.items() if value) or "plain"
    operands = [image(*x), image(*b, scale=0.02, zero=7, name="b")]
    return {
        f"int8-{name}": single_operator("BATCH_MATMUL", operands, [image(*y, scale=0.3, zero=-8, name="y")], options),
        f"float-{name}": single_operator(
            "BATCH_MATMUL", [floats(*x), floats(*b, name="b")], [floats(*y, name="y")], options
        ),
    }


def _of_truth(code: str, count: int) -> dict[str, ModelSpec]:
    """An operator on whether the floats of x, and of b, are above zero."""
    names = ("x", "b")[:count]
    zero = TensorSpec("zero", (1,), "f32", data=np.float32([0]))
    tensors = [zero, TensorSpec("y", (2, 30), "bool")]
    operators = []
    for name in names:
        tensors += [floats(2, 30, name=name), TensorSpec(f"{name}_above", (2, 30), "bool")]
        operators.append(OperatorSpec("GREATER", [name, "zero"], [f"{name}_above"]))
    operators.append(OperatorSpec(code, [f"{name}_above" for name in names], ["y"]))
    return {"float": ModelSpec([SubgraphSpec(tensors, operators, list(names), ["y"])])}


def _chosen() -> dict[str, ModelSpec]:
    """The greater of two tensors, element by element."""
    cases = {}
    for name, make in (("int8", image), ("float", floats)):
        tensors = [make(2, 30), make(2, 30, name="b"), TensorSpec("c", (2, 30), "bool"), make(2, 30, name="y")]
        operators = [OperatorSpec("GREATER", ["x", "b"], ["c"]), OperatorSpec("SELECT_V2", ["c", "x", "b"], ["y"])]
        cases[name] = ModelSpec([SubgraphSpec(tensors, operators, ["x", "b"], ["y"])])
    return cases


FUNCTION_CASES: dict[str, dict[str, ModelSpec]] = {
    **{code: _function(code) for code in ("COS", "SIN", "FLOOR", "CEIL", "ROUND", "NEG", "SQUARE")},
    "ABS": _function("ABS") | _tables("ABS", (0.05, -3, 0.05, -100), (0.05, 40, 0.07, -128), (0.02, 0, 0.004, 5)),
    "EXP": _function("EXP"),
    "ELU": _function("ELU") | _tables("ELU", (0.05, -3, 0.04, -100), (0.03, 100, 0.01, 3)),
    "LOG": _positive("LOG"),
    "SQRT": _positive("SQRT"),
    "RSQRT": _positive("RSQRT"),
    "HARD_SWISH": _function("HARD_SWISH")
    | _tables(
        "HARD_SWISH",
        (0.05, -3, 0.03, -110),
        (0.03, 10, 0.015, -60),
        (0.002, 0, 0.001, 0),
        (0.1, -128, 0.1, -128),
        (0.4, 127, 0.4, 100),
        (0.0118, -25, 0.5, 3),
    ),
    "PRELU": {
        "float": unary("PRELU", floats(2, 3, 5), floats(2, 3, 5, name="y"), float_constant(1, 1, 5)),
        "int8": unary("PRELU", image(2, 40, 5), image(2, 40, 5, scale=0.04, zero=9, name="y"), _slopes(1, 1, 5)),
        "int8-steep": unary(
            "PRELU", image(2, 40, 5), image(2, 40, 5, scale=0.2, name="y"), _slopes(1, 1, 5, scale=0.3, zero=-70)
        ),
    },
    "DIV": _floats_of_two("DIV", fused_activation_function="relu6"),
    "SQUARED_DIFFERENCE": _floats_of_two("SQUARED_DIFFERENCE"),
    "ADD_N": _floats_of_two("ADD_N"),
    "MAXIMUM": _two("MAXIMUM"),
    "MINIMUM": _two("MINIMUM"),
    **{code: _two(code, "bool") for code in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")},
    "LOGICAL_AND": _of_truth("LOGICAL_AND", 2),
    "LOGICAL_OR": _of_truth("LOGICAL_OR", 2),
    "LOGICAL_NOT": _of_truth("LOGICAL_NOT", 1),
    "SELECT_V2": _chosen(),
    "CAST": {"float": unary("CAST", floats(2, 50), TensorSpec("y", (2, 50), "i32"))},
    "SUM": _reduced("SUM", has_int8=False),
    "REDUCE_MAX": _reduced("REDUCE_MAX", has_int8=True),
    "REDUCE_MIN": _reduced("REDUCE_MIN", has_int8=True),
    "BATCH_MATMUL": _product((2, 3, 4), (2, 4, 5), (2, 3, 5))
    | _product((2, 4, 3), (2, 5, 4), (2, 3, 5), adj_x=True, adj_y=True),
    "L2_NORMALIZATION": _function("L2_NORMALIZATION", fused_activation_function="none"),
    "LOG_SOFTMAX": _function("LOG_SOFTMAX"),
}


def _blocks(x: Array) -> Array:
    """The positions of each block of 2x3, after a padding."""
    padded = np.pad(x, ((0, 0), (0, 1), (2, 0), (0, 0)), constant_values=-3)
    return np.concatenate([padded[:, row::2, column::3] for row in range(2) for column in range(3)])


#: What TensorFlow Lite Micro has no kernel for, or pads with whatever lies in memory, and its meaning in numpy.
WITHOUT_ORACLE: dict[str, tuple[ModelSpec, Callable[[Array], Array]]] = {
    "POW": (
        unary("POW", floats(2, 50), floats(2, 50, name="y"), TensorSpec("e", (1,), "f32", data=np.float32([2.0]))),
        lambda x: x * x,
    ),
    "REDUCE_PROD": (
        unary("REDUCE_PROD", floats(2, 3), floats(2, name="y"), integers(1), keep_dims=False),
        lambda x: x[:, 0] * x[:, 1] * x[:, 2],
    ),
    "RELU_N1_TO_1": (unary("RELU_N1_TO_1", floats(2, 50), floats(2, 50, name="y")), lambda x: np.clip(x, -1, 1)),
    "RELU_0_TO_1": (unary("RELU_0_TO_1", floats(2, 50), floats(2, 50, name="y")), lambda x: np.clip(x, 0, 1)),
    "SPACE_TO_BATCH_ND padded": (
        unary(
            "SPACE_TO_BATCH_ND",
            image(2, 3, 4, 2),
            image(12, 2, 2, 2, name="y"),
            integers(2, 3, name="block"),
            integers(0, 1, 2, 0, name="pads", shape=(2, 2)),
        ),
        _blocks,
    ),
    "TILE": (unary("TILE", floats(2, 3), floats(4, 9, name="y"), integers(2, 3)), lambda x: np.tile(x, (2, 3))),
}
