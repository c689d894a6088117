"""ONNX's normalizations and norms, as compositions of reductions and elementwise operators."""

from __future__ import annotations

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ops.activation import Clamp
from luciole.ops.comparison import Less, Select
from luciole.ops.elementwise import Add, Div, Mul, Sub
from luciole.ops.functions import Abs, Exp, Log, Sqrt
from luciole.ops.pad import Pad
from luciole.ops.powers import Power
from luciole.ops.reduce import Mean, ReduceMaximum, ReduceSum, onnx_axes, onnx_reduced
from luciole.ops.reshape import reshaped
from luciole.ops.slice import Slice
from luciole.ops.tflite_options import axis_of

#: So many channels are summed one after the other at most.
_MAXIMUM_LRN_SIZE = 64


def _number(g: GraphBuilder, like: Value, value: float) -> Value:
    """A number in the type of another value."""
    return g.constant(np.array(value, like.type.dtype.numpy))


def _floats(node: ForeignNode) -> Value:
    """The first operand, which must be of floats."""
    x = node.input(0)
    if not x.type.dtype.is_float:
        raise node.unsupported(f"{node.kind} of {x.type.dtype.value}", code="unsupported-types")
    return x


def _centered(node: ForeignNode, g: GraphBuilder, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value, Value]:
    """The mean along axes, which stay; x minus it; and the mean of that squared: the variance without cancellation."""
    mean = g.add(Mean(x, axes, keep_dims=True, location=node.location))
    centered = g.add(Sub(x, mean, location=node.location))
    square = g.add(Mul(centered, centered, location=node.location))
    return mean, centered, g.add(Mean(square, axes, keep_dims=True, location=node.location))


def _deviation(node: ForeignNode, g: GraphBuilder, variance: Value, epsilon: float) -> Value:
    shifted = g.add(Add(variance, _number(g, variance, epsilon), location=node.location))
    return g.add(Sqrt(shifted, location=node.location))


@onnx("LayerNormalization")
def _import_layer_normalization(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """(x - mean) / deviation * scale + bias over all axes from `axis` on; also the mean and 1 / deviation."""
    x = _floats(node)
    axes = tuple(range(axis_of(node, node.integer("axis", -1), x.type.rank), x.type.rank))
    mean, centered, variance = _centered(node, g, x, axes)
    deviation = _deviation(node, g, variance, node.number("epsilon", 1e-5))
    y = g.add(Div(centered, deviation, location=node.location))
    y = g.add(Mul(y, node.input(1), location=node.location), node.name)
    bias = node.optional(2)
    if bias is not None:
        y = g.add(Add(y, bias, location=node.location), node.name)
    if not any(node.output_names[1:]):
        return (y,)
    return y, mean, g.add(Div(_number(g, x, 1.0), deviation, location=node.location))


@onnx("InstanceNormalization")
def _import_instance_normalization(node: ForeignNode, g: GraphBuilder) -> Value:
    """As a layer normalization of each channel of each sample, with a scale and a bias for each channel."""
    x = _floats(node)
    if x.type.rank < 3:
        raise node.error(f"InstanceNormalization of {x.type}, which has no spatial dimensions")
    shape = (x.type.shape[1], *(1,) * (x.type.rank - 2))
    for index in (1, 2):
        if node.input(index).type.shape != shape[:1]:
            raise node.error(f"operand {index} of InstanceNormalization needs {shape[0]} numbers")
    _, centered, variance = _centered(node, g, x, tuple(range(2, x.type.rank)))
    deviation = _deviation(node, g, variance, node.number("epsilon", 1e-5))
    y = g.add(Div(centered, deviation, location=node.location))
    y = g.add(Mul(y, reshaped(node, g, node.input(1), shape), location=node.location))
    return g.add(Add(y, reshaped(node, g, node.input(2), shape), location=node.location), node.name)


@onnx("LRN")
def _import_local_response_normalization(node: ForeignNode, g: GraphBuilder) -> Value:
    """x / (bias + alpha / size * s)**beta, with s the sum of the squares of `size` neighboring channels."""
    x, size = _floats(node), node.positive("size")
    if x.type.rank < 2:
        raise node.error(f"LRN of {x.type}, which has no channels")
    if size > _MAXIMUM_LRN_SIZE:
        raise node.unsupported(f"LRN of {size} channels", help=f"up to {_MAXIMUM_LRN_SIZE} are supported")
    square = g.add(Mul(x, x, location=node.location))
    none = (0,) * (x.type.rank - 2)
    before, after = (0, (size - 1) // 2, *none), (0, size // 2, *none)
    border = g.add(Pad(square, before, after, location=node.location))
    total: Value | None = None
    for first in range(size):
        part = g.add(Slice(border, (0, first, *none), x.type.shape, location=node.location))
        total = part if total is None else g.add(Add(total, part, location=node.location))
    assert total is not None
    factor = g.add(Mul(total, _number(g, x, node.number("alpha", 1e-4) / size), location=node.location))
    base = g.add(Add(factor, _number(g, x, node.number("bias", 1.0)), location=node.location))
    divisor = g.add(Power(base, _number(g, x, node.number("beta", 0.75)), location=node.location))
    return g.add(Div(x, divisor, location=node.location), node.name)


@onnx("LpNormalization")
def _import_lp_normalization(node: ForeignNode, g: GraphBuilder) -> Value:
    """x divided by the sum of magnitudes along an axis, or by the root of the sum of squares; 0 where that is 0."""
    x, p = _floats(node), node.integer("p", 2)
    if p not in (1, 2):
        raise node.error(f"LpNormalization with p {p}; it is 1 or 2")
    axes = (axis_of(node, node.integer("axis", -1), x.type.rank),)
    part = g.add(Mul(x, x, location=node.location) if p == 2 else Abs(x, location=node.location))
    norm = g.add(ReduceSum(part, axes, keep_dims=True, location=node.location))
    if p == 2:
        norm = g.add(Sqrt(norm, location=node.location))
    is_positive = g.add(Less(_number(g, x, 0.0), norm, location=node.location))
    divisor = g.add(Select(is_positive, norm, _number(g, x, 1.0), location=node.location))
    return g.add(Div(x, divisor, location=node.location), node.name)


@onnx("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
def _import_norm(node: ForeignNode, g: GraphBuilder) -> Value:
    """The sum of magnitudes or of squares along axes, the root of the latter, or the logarithm of the sum."""
    x = node.input(0)
    if node.kind == "ReduceL1":
        x = g.add(Abs(x, location=node.location))
    elif node.kind != "ReduceLogSum":
        x = g.add(Mul(x, x, location=node.location))
    total = onnx_reduced(node, g, x, "ReduceSum", node.name)
    if node.kind == "ReduceL2":
        return g.add(Sqrt(total, location=node.location), node.name)
    return g.add(Log(total, location=node.location), node.name) if node.kind == "ReduceLogSum" else total


@onnx("ReduceLogSumExp")
def _import_log_sum_exp(node: ForeignNode, g: GraphBuilder) -> Value:
    """log(sum(exp(x - m))) + m with m the greatest element, kept finite, so that nothing overflows."""
    x = _floats(node)
    axes, keep_dims = onnx_axes(node, x.type.rank), bool(node.integer("keepdims", 1))
    if not axes:
        return x
    largest = float(np.finfo(x.type.dtype.numpy.name).max)
    greatest = g.add(ReduceMaximum(x, axes, keep_dims=True, location=node.location))
    bounded = g.add(Clamp(greatest, -largest, largest, location=node.location))
    powers = g.add(Exp(g.add(Sub(x, bounded, location=node.location)), location=node.location))
    total = g.add(ReduceSum(powers, axes, keep_dims=keep_dims, location=node.location))
    logarithm = g.add(Log(total, location=node.location))
    back = bounded if keep_dims else reshaped(node, g, bounded, total.type.shape)
    return g.add(Add(logarithm, back, location=node.location), node.name)
