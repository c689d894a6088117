"""TFLite operators on single elements, comparisons, reductions and products, made of core operators.

int8 forms of functions of one number are tables, filled as TensorFlow Lite Micro computes each entry.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value
from luciole.graph.foreign import ForeignNode, tflite
from luciole.ir import fixed_point
from luciole.ir.arithmetic import dequantize
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.ops.activation import Clamp
from luciole.ops.bits import And, Not, Or
from luciole.ops.cast import Cast
from luciole.ops.comparison import Equal, Less, LessEqual, Maximum, Minimum, Select
from luciole.ops.elementwise import Add, Div, Mul, Sub
from luciole.ops.functions import Abs, Cos, Exp, Expm1, Floor, Log, Neg, Round, Sin, Sqrt
from luciole.ops.int8 import Lookup
from luciole.ops.matmul import MatMul
from luciole.ops.onnx_options import permuted
from luciole.ops.powers import Power
from luciole.ops.reduce import ReduceMaximum, ReduceMinimum, ReduceProduct, ReduceSum
from luciole.ops.tflite_options import axis_of, fused_activation

#: Functions of floats that are core operators.
_FUNCTIONS: dict[str, Callable[..., Operator]] = {
    "ABS": Abs,
    "COS": Cos,
    "EXP": Exp,
    "FLOOR": Floor,
    "LOG": Log,
    "NEG": Neg,
    "ROUND": Round,
    "SIN": Sin,
    "SQRT": Sqrt,
}


def _table(node: ForeignNode, g: GraphBuilder, entries: Array) -> Value:
    """int8 numbers by their entries, those of -128 first."""
    x, quant = node.input(0), node.output_type.quant
    return g.add(Lookup(x, tuple(map(int, entries)), quant=quant, location=node.location), node.name)


def _scaling(node: ForeignNode) -> tuple[Quant, Quant]:
    """The quantization of the only operand and of the result. Raises `CompileError` where one has none."""
    source, target = node.input(0).type.quant, node.output_type.quant
    if source is None or target is None or source.is_per_channel or target.is_per_channel:
        raise node.error(f"{node.kind} of int8 needs one scale", code="unsupported-types")
    return source, target


def _entries(node: ForeignNode, function: Callable[[Array], Array]) -> Array:
    """The entries of a function as TensorFlow Lite's LUTPopulate has them: reals of float32, rounded halves away."""
    source, target = _scaling(node)
    reals = dequantize(np.arange(-128, 128), source.scale, source.zero_point)
    with np.errstate(all="ignore"):
        results = function(reals.astype(np.float64)).astype(np.float32)
        scaled = results * (np.float32(1) / np.float32(target.scale))
        rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.float64)
    entries: Array = np.clip(np.nan_to_num(rounded) + target.zero_point, -128, 127).astype(np.int64)
    return entries


def _is_int8(node: ForeignNode) -> bool:
    return node.input(0).type.dtype is DType.I8


def _constant(g: GraphBuilder, number: float, like: Value) -> Value:
    """A number of the element type of another value."""
    return g.constant(np.array(number, like.type.dtype.numpy))


@tflite(*_FUNCTIONS)
def _import_function(node: ForeignNode, g: GraphBuilder) -> Value:
    """Of floats; int8 `ABS` is a table."""
    if _is_int8(node) and node.kind == "ABS":
        return _table(node, g, fixed_point.absolute_table(*_scaling(node)))
    return g.add(_FUNCTIONS[node.kind](node.input(0), location=node.location), node.name)


@tflite("ELU")
def _import_elu(node: ForeignNode, g: GraphBuilder) -> Value:
    """x, or e**x - 1 where x is negative; int8 is a table."""
    if _is_int8(node):
        return _table(node, g, _entries(node, lambda reals: np.where(reals < 0, np.expm1(reals), reals)))
    x, location = node.input(0), node.location
    below = g.add(Expm1(x, location=location))
    return g.add(Select(g.add(Less(x, _constant(g, 0, x), location=location)), below, x, location=location), node.name)


@tflite("RSQRT")
def _import_reciprocal_root(node: ForeignNode, g: GraphBuilder) -> Value:
    """1 / sqrt(x), of floats."""
    x = node.input(0)
    root = g.add(Sqrt(x, location=node.location))
    return g.add(Div(_constant(g, 1, x), root, location=node.location), node.name)


@tflite("SQUARE")
def _import_square(node: ForeignNode, g: GraphBuilder) -> Value:
    """x * x, of floats."""
    return g.add(Mul(node.input(0), node.input(0), location=node.location), node.name)


@tflite("HARD_SWISH")
def _import_hard_swish(node: ForeignNode, g: GraphBuilder) -> Value:
    """x * min(max(x + 3, 0), 6) / 6; int8 is a table."""
    x, location = node.input(0), node.location
    if _is_int8(node):
        return _table(node, g, fixed_point.hard_swish_table(*_scaling(node)))
    gate = g.add(Clamp(g.add(Add(x, _constant(g, 3, x), location=location)), 0.0, 6.0, location=location))
    product = g.add(Mul(x, gate, location=location))
    return g.add(Div(product, _constant(g, 6, x), location=location), node.name)


@tflite("RELU_N1_TO_1", "RELU_0_TO_1")
def _import_clamp(node: ForeignNode, g: GraphBuilder) -> Value:
    """Of floats."""
    low = -1.0 if node.kind == "RELU_N1_TO_1" else 0.0
    return g.add(Clamp(node.input(0), low, 1.0, location=node.location), node.name)


@tflite("DIV")
def _import_div(node: ForeignNode, g: GraphBuilder) -> Value:
    """Of floats, or of plain integers."""
    return g.add(Div(node.input(0), node.input(1), fused_activation(node), location=node.location), node.name)


@tflite("POW")
def _import_pow(node: ForeignNode, g: GraphBuilder) -> Value:
    """Of floats; a constant exponent of 2 is a product."""
    x, exponent = node.input(0), node.input(1)
    if exponent.data is not None and exponent.data.size == 1 and exponent.data.item() == 2:
        return g.add(Mul(x, x, location=node.location), node.name)
    return g.add(Power(node.input(0), node.input(1), location=node.location), node.name)


@tflite("SQUARED_DIFFERENCE")
def _import_squared_difference(node: ForeignNode, g: GraphBuilder) -> Value:
    """Of floats."""
    difference = g.add(Sub(node.input(0), node.input(1), location=node.location))
    return g.add(Mul(difference, difference, location=node.location), node.name)


@tflite("ADD_N")
def _import_add_n(node: ForeignNode, g: GraphBuilder) -> Value:
    """One operand after the other is added; of floats or plain integers."""
    total = node.input(0)
    for index in range(1, len(node.inputs)):
        total = g.add(Add(total, node.input(index), location=node.location), node.name)
    return total


@tflite("MAXIMUM", "MINIMUM")
def _import_extremum(node: ForeignNode, g: GraphBuilder) -> Value:
    """int8 operands and result have one quantization."""
    kind = Maximum if node.kind == "MAXIMUM" else Minimum
    return g.add(kind(node.input(0), node.input(1), quant=node.output_type.quant, location=node.location), node.name)


@tflite("EQUAL", "NOT_EQUAL")
def _import_equal(node: ForeignNode, g: GraphBuilder) -> Value:
    """int8 operands have one quantization."""
    op = Equal(node.input(0), node.input(1), location=node.location)
    if node.kind == "EQUAL":
        return g.add(op, node.name)
    return g.add(Not(g.add(op), location=node.location), node.name)


@tflite("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
def _import_order(node: ForeignNode, g: GraphBuilder) -> Value:
    """`GREATER` is `less` of the operands the other way round; int8 operands have one quantization."""
    a, b = node.input(0), node.input(1)
    if node.kind.startswith("GREATER"):
        a, b = b, a
    kind = LessEqual if node.kind.endswith("_EQUAL") else Less
    return g.add(kind(a, b, location=node.location), node.name)


@tflite("LOGICAL_AND", "LOGICAL_OR")
def _import_logical(node: ForeignNode, g: GraphBuilder) -> Value:
    kind = And if node.kind == "LOGICAL_AND" else Or
    return g.add(kind(node.input(0), node.input(1), location=node.location), node.name)


@tflite("SELECT_V2")
def _import_select(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands broadcast; those of int8 have one quantization, which is the result's."""
    condition, a, b = (node.input(index) for index in range(3))
    return g.add(Select(condition, a, b, quant=node.output_type.quant, location=node.location), node.name)


@tflite("CAST")
def _import_cast(node: ForeignNode, g: GraphBuilder) -> Value:
    """Numbers as they are stored, whatever they stand for."""
    return g.add(Cast(node.input(0), node.output_type.dtype.value, location=node.location), node.name)


@tflite("SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN")
def _import_reduction(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand holds the axes; a repeated one counts once. Sums and products are of floats."""
    x = node.input(0)
    axes = tuple(sorted({axis_of(node, axis, x.type.rank) for axis in node.constant_integers(1)}))
    kinds = {"SUM": ReduceSum, "REDUCE_PROD": ReduceProduct, "REDUCE_MAX": ReduceMaximum, "REDUCE_MIN": ReduceMinimum}
    op = kinds[node.kind](
        x, axes, node.boolean("keep_dims", False), quant=node.output_type.quant, location=node.location
    )
    return g.add(op, node.name)


@tflite("BATCH_MATMUL")
def _import_batch_matmul(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are transposed in their last two axes where `adj_x` and `adj_y` say so."""
    operands = []
    for index, name in enumerate(("adj_x", "adj_y")):
        value = node.input(index)
        if value.type.rank < 2:
            raise node.error(f"BATCH_MATMUL of {value.type}")
        if node.boolean(name, False):
            rank = value.type.rank
            value = permuted(node, g, value, (*range(rank - 2), rank - 1, rank - 2))
        operands.append(value)
    a, b = operands
    return g.add(MatMul(a, b, quant=node.output_type.quant, location=node.location), node.name)


@tflite("L2_NORMALIZATION")
def _import_l2_normalization(node: ForeignNode, g: GraphBuilder) -> Value:
    """x / sqrt(max(sum of x * x along the last axis, 1e-6)), of floats."""
    x, location = node.input(0), node.location
    squares = g.add(Mul(x, x, location=location))
    total = g.add(ReduceSum(squares, (x.type.rank - 1,), True, location=location))
    norm = g.add(Sqrt(g.add(Maximum(total, _constant(g, 1e-6, x), location=location)), location=location))
    return g.add(Div(x, norm, fused_activation(node), location=location), node.name)


@tflite("LOG_SOFTMAX")
def _import_log_softmax(node: ForeignNode, g: GraphBuilder) -> Value:
    """x - max - log(sum of e**(x - max)) along the last axis, of floats."""
    x, location = node.input(0), node.location
    axes = (x.type.rank - 1,)
    shifted = g.add(Sub(x, g.add(ReduceMaximum(x, axes, True, location=location)), location=location))
    total = g.add(ReduceSum(g.add(Exp(shifted, location=location)), axes, True, location=location))
    return g.add(Sub(shifted, g.add(Log(total, location=location)), location=location), node.name)
