"""Windows over three spatial axes, [N, D, H, W, C], as windows over two."""

from __future__ import annotations

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode
from luciole.ops.concat import Concat
from luciole.ops.onnx_options import Axis
from luciole.ops.pad import Pad
from luciole.ops.slice import Slice


def depth_taps(node: ForeignNode, g: GraphBuilder, x: Value, depth: Axis) -> Value:
    """[N, D, H, W, C] -> [N, windows along D, H, W, taps * C]: the elements of each window along D as channels."""
    if depth.before or depth.after:
        x = g.add(Pad(x, (0, depth.before, 0, 0, 0), (0, depth.after, 0, 0, 0), location=node.location))
    batch, _, *rest = x.type.shape
    size, strides = (batch, depth.count, *rest), (1, depth.stride, 1, 1, 1)
    taps = [
        g.add(Slice(x, (0, tap * depth.dilation, 0, 0, 0), size, strides, location=node.location))
        for tap in range(depth.kernel)
    ]
    return taps[0] if len(taps) == 1 else g.add(Concat(tuple(taps), 4, location=node.location))
