"""Additions and multiplications by constants disappear in the weights and biases before them (float only).

A batch normalization, x * scale + offset a channel at inference, disappears in the convolution before it. The result
differs by rounding: (s + b) + c is s + (b + c) in reals only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.rewrite import rule
from luciole.ir.types import Array, DType
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, BinaryOperator, Mul, Sub
from luciole.ops.matmul import FullyConnected
from luciole.passes.manager import rules_pass

Weighted = Conv2d | DepthwiseConv2d | FullyConnected


@rule(Add, Sub)
def fold_offset(op: BinaryOperator, graph: Graph) -> Operator | None:
    """add(conv2d(x, w, b), c) -> conv2d(x, w, b + c)

    when c is one constant a channel and nobody else reads conv2d.
    """
    found = _weighted_and_constant(op, graph)
    if found is None or (isinstance(op, Sub) and found[1] is op.a):
        return None
    weighted, _, constant = found
    offset = -constant if isinstance(op, Sub) else constant
    bias = offset if weighted.b is None or weighted.b.data is None else weighted.b.data + offset
    return _replaced(weighted, op, graph, weighted.w, bias)


@rule(Mul)
def fold_factor(op: Mul, graph: Graph) -> Operator | None:
    """mul(conv2d(x, w, b), c) -> conv2d(x, w * c, b * c)

    when c is one constant a channel and nobody else reads conv2d or w.
    """
    found = _weighted_and_constant(op, graph)
    if found is None:
        return None
    weighted, _, factor = found
    weights = weighted.w.data
    # Weights with another reader would be in flash twice.
    if weights is None or graph.use_count(weighted.w) > 1:
        return None
    by_channel = factor if isinstance(weighted, DepthwiseConv2d) else factor.reshape(-1, *(1,) * (weights.ndim - 1))
    scaled = graph.add_constant(weights * by_channel, name=weighted.w.name)
    bias = None if weighted.b is None or weighted.b.data is None else weighted.b.data * factor
    return _replaced(weighted, op, graph, scaled, bias)


def _weighted_and_constant(op: BinaryOperator, graph: Graph) -> tuple[Weighted, Value, Array] | None:
    """The float operator with weights that `op` reads alone, the constant operand, and its number for each channel."""
    for value, other in ((op.a, op.b), (op.b, op.a)):
        weighted = value.producer
        if not isinstance(weighted, Conv2d | DepthwiseConv2d | FullyConnected) or other.data is None:
            continue
        type = value.type
        if type.dtype is not DType.F32 or weighted.activation != "none" or graph.use_count(value) > 1:
            continue
        if weighted.b is not None and not weighted.b.is_constant:
            continue
        if graph.result(op).type.shape != type.shape or any(size != 1 for size in other.type.shape[:-1]):
            continue
        return weighted, other, np.broadcast_to(other.data.reshape(-1), type.shape[-1:])
    return None


def _replaced(weighted: Weighted, op: BinaryOperator, graph: Graph, w: Value, bias: Array | None) -> Operator:
    b = None
    if bias is not None:
        name = weighted.b.name if weighted.b is not None else f"{graph.result(op).name}.bias"
        b = graph.add_constant(bias.astype(np.float32), name=name)
    return replace(weighted, w=w, b=b, activation=op.activation)


FOLD_AFFINE = rules_pass(
    "fold_affine",
    "Fold additions and multiplications by constants, such as batch normalization, into float weights and biases.",
    [fold_offset, fold_factor],
)
