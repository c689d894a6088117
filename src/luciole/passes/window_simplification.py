"""Windows lose taps that only ever see padding; depthwise convolutions of one int8 channel are plain ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.rewrite import rule
from luciole.ir.types import Array
from luciole.ops.common import Window
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.passes.manager import rules_pass


@rule(Conv2d, DepthwiseConv2d)
def crop_window(op: Conv2d | DepthwiseConv2d, graph: Graph) -> Operator | None:
    """conv2d(x, w, pads=p) -> conv2d(x, w[rows, columns], pads=p - cut)

    when the taps outside of these rows and columns lie in the padding at every position: an image of one pixel under a
    padded 3x3 window needs one tap of nine.
    """
    if op.w.data is None or graph.use_count(op.w) > 1:
        return None
    height, width = op.x.type.shape[1:3]
    rows, columns = (_seen_taps(op.window, axis, size) for axis, size in ((0, height), (1, width)))
    if (len(rows), len(columns)) == op.window.kernel:
        return None
    cut = [
        (taps.start * step, (extent - taps.stop) * step)
        for taps, extent, step in zip((rows, columns), op.window.kernel, op.dilations, strict=True)
    ]
    pads = tuple(pad - cut[i % 2][i // 2] for i, pad in enumerate(op.pads))
    if min(pads) < 0:
        # The first tap that is seen lies behind the first row of x: with dilation, others skip what is before it.
        return None
    data = op.w.data[:, rows.start : rows.stop, columns.start : columns.stop]
    return replace(op, w=_constant(graph, op.w, data), pads=(pads[0], pads[1], pads[2], pads[3]))


@rule(DepthwiseConv2d)
def join_one_channel(op: DepthwiseConv2d, graph: Graph) -> Operator | None:
    """depthwise_conv2d(x, w) -> conv2d(x, transpose(w))

    when x has one channel and w is constant. Not for floats, whose sums would be rounded in another order.
    """
    is_float = op.x.type.dtype.is_float
    if op.x.type.shape[3] != 1 or is_float or op.w.data is None or graph.use_count(op.w) > 1:
        return None
    w = _constant(graph, op.w, op.w.data.transpose(3, 1, 2, 0))
    quant = w.type.quant
    if quant is not None and quant.is_per_channel:
        w.type = replace(w.type, quant=replace(quant, axis=0))
    return Conv2d(
        op.x,
        w,
        op.b,
        strides=op.strides,
        pads=op.pads,
        dilations=op.dilations,
        activation=op.activation,
        rounding=op.rounding,
        quant=op.quant,
    )


def _seen_taps(window: Window, axis: int, size: int) -> range:
    """The taps along an axis that see the input somewhere, and all between them."""
    count = window.output_size((size, size))[axis]
    starts = np.arange(count)[:, None] * window.strides[axis] - window.pads[axis]
    positions = starts + np.arange(window.kernel[axis]) * window.dilations[axis]
    seen = np.flatnonzero(np.any((positions >= 0) & (positions < size), axis=0))
    return range(int(seen[0]), int(seen[-1]) + 1)


def _constant(graph: Graph, old: Value, data: Array) -> Value:
    """A constant in the place of another, with the same quantization."""
    return graph.add_constant(np.ascontiguousarray(data), old.type.quant, old.name)


SIMPLIFY_WINDOWS = rules_pass(
    "simplify_windows",
    "Take taps that only see padding out of windows, and turn depthwise convolutions of one channel into plain ones.",
    [crop_window, join_one_channel],
)
