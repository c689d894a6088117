"""What the ONNX import rules of several operators share: channels first and last, windows, groups.

ONNX has channels before the spatial axes, the graph has them behind. A rule puts a transpose on each side of its
operator; the pass `move_layouts` removes those between operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from luciole.errors import Location
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode
from luciole.ir.types import Shape
from luciole.ops.common import Window
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.transpose import Transpose

#: Sizes of windows are free numbers of the file; this bounds the padding that they cause.
_MAXIMUM_WINDOW = 1 << 12
#: So many groups of a convolution become a convolution each.
_MAXIMUM_GROUPS = 64

_AUTO_PADS = {"NOTSET": "given", "VALID": "valid", "SAME_UPPER": "upper", "SAME_LOWER": "lower"}


def permuted(node: ForeignNode, g: GraphBuilder, x: Value, permutation: tuple[int, ...], name: str = "") -> Value:
    """x with its axes in another order; a constant at once."""
    if x.data is not None:
        return g.constant(np.ascontiguousarray(x.data.transpose(permutation)), x.type.quant, x.name)
    return g.add(Transpose(x, permutation, location=node.location), name)


def reshaped(node: ForeignNode, g: GraphBuilder, x: Value, shape: Shape) -> Value:
    """x under another shape; a constant at once."""
    if x.data is not None:
        return g.constant(x.data.reshape(shape), x.type.quant, x.name)
    return g.add(Reshape(x, shape, location=node.location))


def channels_last(node: ForeignNode, g: GraphBuilder, x: Value) -> Value:
    """[N, C, H, W] as [N, H, W, C], and [N, C, W] as [N, 1, W, C]. Raises `CompileError` for other ranks."""
    if x.type.rank == 4:
        return permuted(node, g, x, (0, 2, 3, 1))
    if x.type.rank != 3:
        text = f"{node.kind} of {max(x.type.rank - 2, 0)} spatial dimensions is not supported"
        raise node.unsupported(text, help="supported are one and two", code="unsupported-operator")
    rows = permuted(node, g, x, (0, 2, 1))
    batch, width, channels = rows.type.shape
    return reshaped(node, g, rows, (batch, 1, width, channels))


def channels_first(node: ForeignNode, g: GraphBuilder, y: Value, rank: int) -> Value:
    """The inverse of `channels_last`, for a result of `rank` axes."""
    if rank == 4:
        return permuted(node, g, y, (0, 3, 1, 2), node.name)
    batch, _, width, channels = y.type.shape
    return permuted(node, g, reshaped(node, g, y, (batch, width, channels)), (0, 2, 1), node.name)


def _pair(node: ForeignNode, name: str, rank: int) -> tuple[int, int]:
    """An attribute of a positive number for each spatial dimension, by default 1; one dimension has one row."""
    numbers = node.integers(name, (1,) * (rank - 2))
    if len(numbers) != rank - 2 or min(numbers) < 1:
        raise node.error(f"{name} of {node.kind} is {list(numbers)}; it needs {rank - 2} positive numbers")
    return (1, numbers[0]) if rank == 3 else (numbers[0], numbers[1])


def onnx_window(
    node: ForeignNode, operand: Value, x: Value, kernel_shape: tuple[int, ...]
) -> tuple[Window, tuple[int, int]]:
    """The sliding window of a convolution or pool over `x`, which is `operand` with channels last.

    Also gives how many rows and columns `ceil_mode` adds behind the padding. `auto_pad` SAME gives ceil(size / stride)
    results; what that needs beyond x is divided evenly, the odd one behind (UPPER) or before (LOWER). (ONNX operator
    documentation, Conv and MaxPool.)
    """
    rank = operand.type.rank
    if len(kernel_shape) != rank - 2 or min(kernel_shape) < 1:
        raise node.error(f"{node.kind} of {operand.type} has a window of {list(kernel_shape)}")
    kernel = (1, kernel_shape[0]) if rank == 3 else (kernel_shape[0], kernel_shape[1])
    strides, dilations = _pair(node, "strides", rank), _pair(node, "dilations", rank)
    given = node.integers("pads", (0,) * (2 * (rank - 2)))
    if len(given) != 2 * (rank - 2):
        raise node.error(f"pads of {node.kind} are {list(given)}; it needs {2 * (rank - 2)} numbers")
    if min(given) < 0:
        raise node.unsupported(f"{node.kind} with negative pads {list(given)} is not supported")
    if max(*kernel, *strides, *dilations, *given) > _MAXIMUM_WINDOW:
        raise node.unsupported(
            f"{node.kind} with a window of {list(kernel)}, strides {list(strides)}, dilations {list(dilations)} and "
            f"pads {list(given)}",
            help=f"none of these may exceed {_MAXIMUM_WINDOW}",
        )
    plain = Window(kernel, strides, (0, 0, 0, 0), dilations)
    size = (x.type.shape[1], x.type.shape[2])
    kind = node.choice("auto_pad", _AUTO_PADS, "NOTSET")
    if kind == "given":
        pads = (0, given[0], 0, given[1]) if rank == 3 else (given[0], given[1], given[2], given[3])
    elif kind == "valid":
        pads = (0, 0, 0, 0)
    else:
        total = [max(0, (-(-size[i] // strides[i]) - 1) * strides[i] + plain.extent[i] - size[i]) for i in (0, 1)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if kind == "upper" else (large, small)
        pads = (before[0], before[1], after[0], after[1])
    window = Window(kernel, strides, pads, dilations)
    if min(window.output_size(size)) < 1:
        raise node.error(f"a window of {list(window.extent)} does not fit into {list(size)} with pads {list(pads)}")
    return window, _ceiling(node, window, size)


def _ceiling(node: ForeignNode, window: Window, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns to add behind, so that a last window that reaches beyond the padding counts.

    A window that begins behind the input and the padding before it does not.
    """
    excess = [0, 0]
    if node.integer("ceil_mode", 0):
        for axis in (0, 1):
            padded = size[axis] + window.pads[axis] + window.pads[axis + 2]
            missing = -(padded - window.extent[axis]) % window.strides[axis]
            begin = (padded - window.extent[axis] + missing) // window.strides[axis] * window.strides[axis]
            if missing and begin < size[axis] + window.pads[axis]:
                excess[axis] = missing
    return excess[0], excess[1]


class Geometry(TypedDict):
    """The attributes that convolutions share."""

    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    location: Location


@dataclass(frozen=True, eq=False)
class OnnxConvolution:
    """A `Conv` node: x with channels last, w as in the file but with two spatial axes, b, and the geometry."""

    node: ForeignNode
    x: Value
    w: Value
    b: Value | None
    groups: int
    geometry: Geometry
    rank: int

    @property
    def group_channels(self) -> int:
        """Input channels of each group."""
        return self.w.type.shape[1]

    def weights(self, g: GraphBuilder, order: tuple[int, ...]) -> Value:
        """The weights with the axes [OC, IC, KH, KW] in another order."""
        return permuted(self.node, g, self.w, order)

    def finish(self, g: GraphBuilder, y: Value) -> Value:
        """The result with channels first."""
        return channels_first(self.node, g, y, self.rank)


def onnx_convolution(node: ForeignNode, g: GraphBuilder) -> OnnxConvolution:
    """What a `Conv` node says. Raises `CompileError` where it contradicts itself."""
    from luciole.ops.pad import Pad

    operand, w, b = node.input(0), node.input(1), node.optional(2)
    rank, groups = operand.type.rank, node.positive("group", 1)
    x = channels_last(node, g, operand)
    channels = x.type.shape[3]
    if w.type.rank != rank:
        raise node.error(f"Conv of {operand.type} with weights {w.type}")
    if w.type.shape[1] * groups != channels or w.type.shape[0] % groups:
        raise node.error(f"Conv of {channels} channels in {groups} groups with weights {w.type}")
    if node.integers("kernel_shape", w.type.shape[2:]) != w.type.shape[2:]:
        raise node.error(f"kernel_shape {list(node.integers('kernel_shape'))} of Conv with weights {w.type}")
    window, _ = onnx_window(node, operand, x, w.type.shape[2:])
    pads = window.pads
    if pads[0] >= window.extent[0] or pads[1] >= window.extent[1]:  # more than conv2d takes: windows see no input
        x = g.add(Pad(x, (0, *pads[:2], 0), (0, *pads[2:], 0), location=node.location), f"{node.name}/border")
        pads = (0, 0, 0, 0)
    if rank == 3:
        w = reshaped(node, g, w, (*w.type.shape[:2], 1, w.type.shape[2]))
    geometry = Geometry(strides=window.strides, pads=pads, dilations=window.dilations, location=node.location)
    return OnnxConvolution(node, x, w, b, groups, geometry, rank)


def grouped(conv: OnnxConvolution, g: GraphBuilder) -> Iterator[tuple[Value, Value, Value | None]]:
    """The slices of x, and the constant weights and biases, of each group; weights as `conv2d` takes them."""
    node = conv.node
    if conv.groups > _MAXIMUM_GROUPS:
        raise node.unsupported(f"Conv of {conv.groups} groups", help=f"up to {_MAXIMUM_GROUPS}, or one channel each")
    if conv.w.data is None or (conv.b is not None and conv.b.data is None):
        raise node.unsupported("Conv of several groups with weights that are computed at run time")
    channels, count = conv.group_channels, conv.w.type.shape[0] // conv.groups
    ohwi = conv.w.data.transpose(0, 2, 3, 1)
    for group in range(conv.groups):
        begin, size = (0, 0, 0, group * channels), (*conv.x.type.shape[:3], channels)
        part = slice(group * count, (group + 1) * count)
        x = g.add(Slice(conv.x, begin, size, location=node.location), f"{node.name}/group{group}")
        w = g.constant(np.ascontiguousarray(ohwi[part]), name=conv.w.name)
        b = None if conv.b is None or conv.b.data is None else g.constant(conv.b.data[part].copy(), name=conv.b.name)
        yield x, w, b
