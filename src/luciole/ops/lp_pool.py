"""Norms over sliding windows: rules only, since each is an average of powers, times the number of taps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ops.elementwise import Mul
from luciole.ops.functions import Abs, Sqrt
from luciole.ops.onnx_options import Axis, channels_first, channels_last, onnx_axes
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d
from luciole.ops.pool_rules import pooled
from luciole.ops.powers import Power


@onnx("LpPool")
def _import_lp_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """The p-th root of the sum of the p-th powers of each window; padding adds nothing."""
    operand = node.input(0)
    return _norms(node, g, operand, onnx_axes(node, operand, node.integers("kernel_shape")))


@onnx("GlobalLpPool")
def _import_global_lp_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """The norm of all elements of each channel."""
    operand = node.input(0)
    return _norms(node, g, operand, tuple(Axis(size, size) for size in operand.type.shape[2:]))


def _norms(node: ForeignNode, g: GraphBuilder, operand: Value, axes: tuple[Axis, ...]) -> Value:
    p, location = node.positive("p", 2), node.location
    x = channels_last(node, g, operand)
    if p == 2:
        x = g.add(Mul(x, x, location=location))
    else:
        x = g.add(Abs(x, location=location))
        x = x if p == 1 else g.add(Power(x, _number(g, p), location=location))
    if any(axis.before or axis.after or axis.excess for axis in axes):
        outer = (0,) * (x.type.rank - 1 - len(axes))
        before, after = (*outer, *(a.before for a in axes), 0), (*outer, *(a.after + a.excess for a in axes), 0)
        x = g.add(Pad(x, before, after, location=location), f"{node.name}/border")
        axes = tuple(
            replace(axis, size=axis.before + axis.size + axis.after + axis.excess, before=0, after=0, excess=0)
            for axis in axes
        )
    average = pooled(node, g, AveragePool2d, x, axes)
    y = g.add(Mul(average, _number(g, math.prod(axis.kernel for axis in axes)), location=location))
    if p == 2:
        y = g.add(Sqrt(y, location=location))
    elif p > 1:
        y = g.add(Power(y, _number(g, 1 / p), location=location))
    return channels_first(node, g, y, operand.type.rank)


def _number(g: GraphBuilder, number: float) -> Value:
    return g.constant(np.array(number, np.float32))
