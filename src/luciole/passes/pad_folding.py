"""Borders of constants become the padding of what reads them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.rewrite import rule
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.pad import Pad
from luciole.ops.pool import MaxPool2d
from luciole.passes.manager import rules_pass

Windowed = TypeVar("Windowed", bound=Conv2d | DepthwiseConv2d | MaxPool2d)


@rule(Pad)
def drop_pad(op: Pad, graph: Graph) -> Value | None:
    """pad(x, before=[0, ...], after=[0, ...]) -> x"""
    return op.x if not any((*op.before, *op.after)) else None


@rule(Pad)
def merge_pads(op: Pad, graph: Graph) -> Operator | None:
    """pad(pad(x, b, a, v), d, c, v) -> pad(x, b + d, a + c, v)    when nobody else reads the inner one."""
    first = op.x.producer
    if not isinstance(first, Pad) or first.fill() != op.fill() or graph.use_count(op.x) > 1:
        return None
    before = tuple(map(sum, zip(first.before, op.before, strict=True)))
    return replace(op, x=first.x, before=before, after=tuple(map(sum, zip(first.after, op.after, strict=True))))


@rule(Conv2d, DepthwiseConv2d)
def pad_convolution(op: Conv2d | DepthwiseConv2d, graph: Graph) -> Operator | None:
    """conv2d(pad(x, z), pads=p) -> conv2d(x, pads=p + the border)    when z is zero: for i8, the zero point of x.

    Average pooling takes no such border: it divides by the number of elements that are inside.
    """
    pad = op.x.producer
    if not isinstance(pad, Pad) or pad.fill() != _zero(pad.x):
        return None
    return _with_border(op, pad)


@rule(MaxPool2d)
def pad_maximum(op: MaxPool2d, graph: Graph) -> Operator | None:
    """max_pool2d(pad(x, z), pads=p) -> max_pool2d(x, pads=p + the border)

    when no maximum can be z alone: z is the least number, or it is zero and x has been through a relu; and every window
    sees some of x. What max_pool2d finds outside x does not count.
    """
    pad = op.x.producer
    if not isinstance(pad, Pad) or not _is_least(pad):
        return None
    padded = _with_border(op, pad)
    _, height, width, _ = pad.x.type.shape
    return None if padded is None or padded.window.empty_problem((height, width)) else padded


def _is_least(pad: Pad) -> bool:
    """Whether the border is no greater than any number that x can hold."""
    least = -math.inf if pad.x.type.dtype.is_float else pad.x.type.dtype.limits[0]
    activation = getattr(pad.x.producer, "activation", "none")
    return pad.fill() == least or (activation in ("relu", "relu6") and pad.fill() == _zero(pad.x))


def _with_border(op: Windowed, pad: Pad) -> Windowed | None:
    """The operator over what `pad` borders, with the border as padding; none for other axes or where it cannot be."""
    if pad.before[0] or pad.before[3] or pad.after[0] or pad.after[3]:
        return None
    top, left, bottom, right = op.pads
    pads = (top + pad.before[1], left + pad.before[2], bottom + pad.after[1], right + pad.after[2])
    padded = replace(op, x=pad.x, pads=pads)
    _, height, width, _ = pad.x.type.shape
    return None if padded.window.problem((height, width)) else padded


def _zero(value: Value) -> float | int | None:
    """The element that stands for zero in a tensor, if one does."""
    if value.type.dtype.is_float:
        return 0.0
    quant = value.type.quant
    return None if quant is None or quant.is_per_channel else quant.zero_point


FOLD_PADS = rules_pass(
    "fold_pads",
    "Merge borders, and turn them into the padding of convolutions and maxima.",
    [drop_pad, merge_pads, pad_convolution, pad_maximum],
)
