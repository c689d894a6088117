"""What the ONNX import rules of several operators share: channels first and last, windows, groups.

ONNX has channels before the spatial axes, the graph has them behind. A rule puts a transpose on each side of its
operator; the pass `move_layouts` removes those between operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from luciole.errors import Location
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode
from luciole.ops.common import Window
from luciole.ops.pad import Pad
from luciole.ops.quantization import Dequantize
from luciole.ops.quantization_by_channel import DequantizeChannels
from luciole.ops.reshape import Reshape, reshaped
from luciole.ops.slice import Slice
from luciole.ops.transpose import Transpose

#: Sizes of windows are free numbers of the file; this bounds the padding that they cause.
_MAXIMUM_WINDOW = 1 << 12
#: So many groups of a convolution become a convolution each.
_MAXIMUM_GROUPS = 64

_AUTO_PADS = {"NOTSET": "given", "VALID": "valid", "SAME_UPPER": "upper", "SAME_LOWER": "lower"}


def is_weights(value: Value) -> bool:
    """Whether a value is made of a quantized constant alone: dequantized, and moved."""
    op = value.producer
    if isinstance(op, Dequantize | DequantizeChannels):
        return op.x.is_constant
    return isinstance(op, Reshape | Slice | Transpose) and is_weights(op.x)


def permuted(node: ForeignNode, g: GraphBuilder, x: Value, permutation: tuple[int, ...], name: str = "") -> Value:
    """x with its axes in another order; a constant at once."""
    if x.data is not None:
        return g.constant(np.ascontiguousarray(x.data.transpose(permutation)), x.type.quant, x.name)
    return g.add(Transpose(x, permutation, location=node.location), name)


def channels_last(node: ForeignNode, g: GraphBuilder, x: Value) -> Value:
    """[N, C, H, W] as [N, H, W, C], [N, C, W] as [N, 1, W, C], and [N, C, D, H, W] as [N, D, H, W, C].

    Raises `CompileError` for other ranks.
    """
    rank = x.type.rank
    if rank not in (3, 4, 5):
        text = f"{node.kind} of {max(rank - 2, 0)} spatial dimensions is not supported"
        raise node.unsupported(text, help="supported are one, two and three", code="unsupported-operator")
    last = permuted(node, g, x, (0, *range(2, rank), 1))
    if rank > 3:
        return last
    batch, width, channels = last.type.shape
    return reshaped(node, g, last, (batch, 1, width, channels))


def channels_first(node: ForeignNode, g: GraphBuilder, y: Value, rank: int) -> Value:
    """The inverse of `channels_last`, for a result of `rank` axes."""
    if rank == 3:
        batch, _, width, channels = y.type.shape
        y = reshaped(node, g, y, (batch, width, channels))
    return permuted(node, g, y, (0, rank - 1, *range(1, rank - 1)), node.name)


@dataclass(frozen=True)
class Axis:
    """A sliding window along one spatial axis of `size`; `excess` is what `ceil_mode` adds behind the padding."""

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    excess: int = 0

    @property
    def extent(self) -> int:
        """How much of the axis a window covers."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def count(self) -> int:
        """How many windows there are; below one where none fits."""
        padded = self.before + self.size + self.after + self.excess
        return (padded - self.extent) // self.stride + 1


def _for_each_axis(node: ForeignNode, name: str, axes: int) -> tuple[int, ...]:
    """An attribute of a positive number for each spatial axis, by default 1."""
    numbers = node.integers(name, (1,) * axes)
    if len(numbers) != axes or min(numbers) < 1:
        raise node.error(f"{name} of {node.kind} is {list(numbers)}; it needs {axes} positive numbers")
    return numbers


def onnx_axes(node: ForeignNode, operand: Value, kernel: tuple[int, ...]) -> tuple[Axis, ...]:
    """The sliding window of a convolution or pool along each spatial axis of its operand, which has channels first.

    `auto_pad` SAME gives ceil(size / stride) results; what that needs beyond x is divided evenly, the odd one behind
    (UPPER) or before (LOWER). (ONNX operator documentation, Conv and MaxPool.)
    """
    sizes = operand.type.shape[2:]
    count = len(sizes)
    if not sizes or len(kernel) != count or min(kernel) < 1:
        raise node.error(f"{node.kind} of {operand.type} has a window of {list(kernel)}")
    strides, dilations = (_for_each_axis(node, name, count) for name in ("strides", "dilations"))
    pads = node.integers("pads", (0,) * (2 * count))
    if len(pads) != 2 * count:
        raise node.error(f"pads of {node.kind} are {list(pads)}; it needs {2 * count} numbers")
    if min(pads) < 0:
        raise node.unsupported(f"{node.kind} with negative pads {list(pads)} is not supported")
    if max(*kernel, *strides, *dilations, *pads) > _MAXIMUM_WINDOW:
        raise node.unsupported(
            f"{node.kind} with a window of {list(kernel)}, strides {list(strides)}, dilations {list(dilations)} and "
            f"pads {list(pads)}",
            help=f"none of these may exceed {_MAXIMUM_WINDOW}",
        )
    kind = node.choice("auto_pad", _AUTO_PADS, "NOTSET")
    axes = []
    for index, size in enumerate(sizes):
        axis = Axis(size, kernel[index], strides[index], dilations[index])
        if kind == "given":
            axis = replace(axis, before=pads[index], after=pads[index + count])
        elif kind != "valid":
            total = max(0, (-(-size // axis.stride) - 1) * axis.stride + axis.extent - size)
            small = total // 2 if kind == "upper" else total - total // 2
            axis = replace(axis, before=small, after=total - small)
        axes.append(_with_excess(axis) if node.integer("ceil_mode", 0) else axis)
    if min(axis.count for axis in axes) < 1:
        extents, borders = [axis.extent for axis in axes], [(axis.before, axis.after) for axis in axes]
        raise node.error(f"a window of {extents} does not fit into {list(sizes)} with pads {borders}")
    return tuple(axes)


def _with_excess(axis: Axis) -> Axis:
    """With what a last window needs that reaches beyond the padding.

    A window that begins behind the input and the padding before it does not count.
    """
    padded = axis.before + axis.size + axis.after
    missing = -(padded - axis.extent) % axis.stride
    begin = (padded - axis.extent + missing) // axis.stride * axis.stride
    return replace(axis, excess=missing) if missing and begin < axis.size + axis.before else axis


def window_of(rows: Axis, columns: Axis) -> Window:
    """The window over two axes, without the excess."""
    return Window(
        (rows.kernel, columns.kernel),
        (rows.stride, columns.stride),
        (rows.before, columns.before, rows.after, columns.after),
        (rows.dilation, columns.dilation),
    )


class Geometry(TypedDict):
    """The attributes that convolutions share."""

    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    location: Location


@dataclass(frozen=True, eq=False)
class OnnxConvolution:
    """A `Conv` node: x with channels last, w as in the file but with two spatial axes at least, b, and the windows."""

    node: ForeignNode
    x: Value
    w: Value
    b: Value | None
    groups: int
    axes: tuple[Axis, ...]
    rank: int

    @property
    def group_channels(self) -> int:
        """Input channels of each group."""
        return self.w.type.shape[1]

    def weights(self, g: GraphBuilder, order: tuple[int, ...]) -> Value:
        """The weights with the axes [OC, IC, KH, KW] in another order."""
        return permuted(self.node, g, self.w, order)

    def bordered(self, g: GraphBuilder) -> tuple[Value, Geometry]:
        """x and the geometry of a two-dimensional window; as a border of x where padding is more than a window."""
        window = window_of(*self.axes[-2:])
        x, pads = self.x, window.pads
        if pads[0] >= window.extent[0] or pads[1] >= window.extent[1]:
            x = g.add(
                Pad(x, (0, *pads[:2], 0), (0, *pads[2:], 0), location=self.node.location), f"{self.node.name}/border"
            )
            pads = (0, 0, 0, 0)
        location = self.node.location
        return x, Geometry(strides=window.strides, pads=pads, dilations=window.dilations, location=location)

    def finish(self, g: GraphBuilder, y: Value) -> Value:
        """The result with channels first."""
        return channels_first(self.node, g, y, self.rank)


def onnx_convolution(node: ForeignNode, g: GraphBuilder) -> OnnxConvolution:
    """What a `Conv` node says. Raises `CompileError` where it contradicts itself."""
    operand, w, b = node.input(0), node.input(1), node.optional(2)
    rank, groups = operand.type.rank, node.positive("group", 1)
    x = channels_last(node, g, operand)
    channels = x.type.shape[-1]
    if w.type.rank != rank:
        raise node.error(f"Conv of {operand.type} with weights {w.type}")
    if w.type.shape[1] * groups != channels or w.type.shape[0] % groups:
        raise node.error(f"Conv of {channels} channels in {groups} groups with weights {w.type}")
    if node.integers("kernel_shape", w.type.shape[2:]) != w.type.shape[2:]:
        raise node.error(f"kernel_shape {list(node.integers('kernel_shape'))} of Conv with weights {w.type}")
    axes = onnx_axes(node, operand, w.type.shape[2:])
    if rank == 3:
        axes = (Axis(1, 1), *axes)
        w = reshaped(node, g, w, (*w.type.shape[:2], 1, w.type.shape[2]))
    return OnnxConvolution(node, x, w, b, groups, axes, rank)


def grouped(conv: OnnxConvolution, g: GraphBuilder) -> Iterator[OnnxConvolution]:
    """A convolution of each group, of a slice of the channels of x, with constant weights and biases."""
    node = conv.node
    if conv.groups > _MAXIMUM_GROUPS:
        raise node.unsupported(f"Conv of {conv.groups} groups", help=f"up to {_MAXIMUM_GROUPS}, or one channel each")
    if any(value is not None and value.data is None and not is_weights(value) for value in (conv.w, conv.b)):
        raise node.unsupported("Conv of several groups with weights that are computed at run time")
    channels, count = conv.group_channels, conv.w.type.shape[0] // conv.groups
    for group in range(conv.groups):
        x = channel_slice(node, g, conv.x, group * channels, channels)
        w = _rows(node, g, conv.w, group * count, count)
        b = None if conv.b is None else _rows(node, g, conv.b, group * count, count)
        yield replace(conv, x=x, w=w, b=b, groups=1)


def _rows(node: ForeignNode, g: GraphBuilder, x: Value, begin: int, count: int) -> Value:
    """Some slices along the first axis; of a constant at once."""
    if x.data is not None:
        return g.constant(np.ascontiguousarray(x.data[begin : begin + count]), name=x.name)
    inner = x.type.shape[1:]
    return g.add(Slice(x, (begin, *(0 for _ in inner)), (count, *inner), location=node.location))


def channel_slice(node: ForeignNode, g: GraphBuilder, x: Value, begin: int, size: int) -> Value:
    """Some of the channels of x, which are its last axis."""
    *outer, channels = x.type.shape
    if (begin, size) == (0, channels):
        return x
    where = (*(0 for _ in outer), begin)
    return g.add(Slice(x, where, (*outer, size), location=node.location), f"{node.name}/channels{begin}")
