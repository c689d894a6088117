"""Transposed convolutions: rules only, since each is a convolution whose result is put together from phases.

With a stride of s, every s-th result is a sum over the same taps: those of its phase. One convolution with s * s times
the channels computes all phases, with windows that are s times smaller, and a transpose interleaves them. Nothing is
multiplied by the zeros that a stride would put between the elements of x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.ir.quant import Quant
from luciole.ir.types import MAXIMUM_ELEMENTS, Array
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.onnx_options import channel_slice, channels_first, channels_last
from luciole.ops.pad import Pad
from luciole.ops.reshape import reshaped
from luciole.ops.slice import Slice
from luciole.ops.tflite_options import check_weights, fused_activation, input_of_rank
from luciole.ops.transpose import Transpose

#: Sizes of windows are free numbers of the file; this bounds what they cause.
_MAXIMUM_WINDOW = 1 << 12

#: Weights of a transposed convolution, with what strides and dilations add to them.
MAXIMUM_WEIGHTS = 1 << 26

_AUTO_PADS = {"NOTSET": "given", "VALID": "valid", "SAME_UPPER": "upper", "SAME_LOWER": "lower"}


@dataclass(frozen=True)
class _Axis:
    """One axis: `count` results from `before` on, of those that all elements of x have as its windows' sum."""

    size: int
    kernel: int
    stride: int
    before: int
    count: int

    @property
    def taps(self) -> int:
        """Taps of each phase."""
        return -(-self.kernel // self.stride)

    @property
    def groups(self) -> range:
        """Groups of `stride` neighboring results that hold the wanted ones."""
        return range(self.before // self.stride, -(-(self.before + self.count) // self.stride))

    @property
    def window(self) -> range:
        """The elements of x that the groups are made of, perhaps beyond both ends."""
        return range(self.groups.start - self.taps + 1, self.groups.stop)


def transposed_convolution(
    node: ForeignNode,
    g: GraphBuilder,
    x: Value,
    weights: tuple[Array, Quant | None],
    b: Value | None,
    axes: tuple[_Axis, _Axis],
    activation: str = "none",
    quant: Quant | None = None,
) -> Value:
    """y[oh, ow, oc] = b[oc] + sum of x[ih, iw, ic] * w[oc, kh, kw, ic] where oh + before = ih * stride + kh.

    x is NHWC and w constant, [OC, KH, KW, IC], with its quantization. What x does not reach is b.
    """
    phases = [axis.stride for axis in axes]
    count = phases[0] * phases[1]
    data, source = weights
    _check_weights(node, data.shape[0] * data.shape[3] * math.prod(axis.taps * axis.stride for axis in axes))
    w = g.constant(_phases(data, axes), _repeated(source, count), f"{node.name}/phases")
    if b is not None and b.data is not None:
        b = b if count == 1 else g.constant(np.tile(b.data, count), _repeated(b.type.quant, count), b.name)
    op = Conv2d(_surroundings(node, g, x, axes), w, b, activation=activation, quant=quant, location=node.location)
    y = g.add(op, f"{node.name}/phases")
    batch, height, width, _ = y.type.shape
    channels = data.shape[0]
    if count > 1:
        split = reshaped(node, g, y, (batch, height, width, *phases, channels))
        y = g.add(Transpose(split, (0, 1, 3, 2, 4, 5), location=node.location))
        y = reshaped(node, g, y, (batch, height * phases[0], width * phases[1], channels))
    begin = tuple(axis.before - axis.groups.start * axis.stride for axis in axes)
    size = tuple(axis.count for axis in axes)
    if y.type.shape[1:3] == size:
        return y
    return g.add(Slice(y, (0, *begin, 0), (batch, *size, channels), location=node.location), f"{node.name}/last")


def _check_weights(node: ForeignNode, elements: int) -> None:
    """Raise `CompileError` where strides or dilations stand for more zeros among the weights than memory holds."""
    if elements > MAXIMUM_WEIGHTS:
        message = f"{node.kind} needs {elements} weights with its strides and dilations; the limit is {MAXIMUM_WEIGHTS}"
        raise node.unsupported(message, code="too-large")


def _phases(data: Array, axes: tuple[_Axis, _Axis]) -> Array:
    """Weights [OC, KH, KW, IC] as [phases * OC, taps, taps, IC]: tap t of phase p is w[p + s * (taps - 1 - t)]."""
    rows, columns = axes
    spare = [(0, axis.taps * axis.stride - axis.kernel) for axis in axes]
    whole = np.pad(data, ((0, 0), *spare, (0, 0)))
    split = whole.reshape(len(data), rows.taps, rows.stride, columns.taps, columns.stride, data.shape[3])
    moved = split[:, ::-1, :, ::-1].transpose(2, 4, 0, 1, 3, 5)
    return np.ascontiguousarray(moved).reshape(-1, rows.taps, columns.taps, data.shape[3])


def _repeated(quant: Quant | None, count: int) -> Quant | None:
    """The quantization of channels along the first axis that are there several times."""
    if quant is None or not quant.is_per_channel:
        return quant
    return Quant(quant.scales * count, quant.zero_points * count, quant.axis)


def _surroundings(node: ForeignNode, g: GraphBuilder, x: Value, axes: tuple[_Axis, _Axis]) -> Value:
    """The part of x that windows see, with zeros around it where they reach beyond."""
    batch, *sizes, channels = x.type.shape
    ranges = [range(max(0, a.window.start), min(a.size, a.window.stop)) for a in axes]
    if any(not r for r in ranges):
        raise node.unsupported(f"{node.kind} with results that see nothing of its operand")
    if [len(r) for r in ranges] != sizes:
        begin, size = (0, *(r.start for r in ranges), 0), (batch, *(len(r) for r in ranges), channels)
        x = g.add(Slice(x, begin, size, location=node.location))
    before = (0, *(max(0, -a.window.start) for a in axes), 0)
    after = (0, *(max(0, a.window.stop - a.size) for a in axes), 0)
    return g.add(Pad(x, before, after, location=node.location)) if any((*before, *after)) else x


@onnx("ConvTranspose")
def _import_conv_transpose(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, constant w [C, OC / groups, K...] and perhaps b, channels first.

    There are one or two spatial dimensions.
    """
    operand, w, b = node.input(0), node.constant(1), node.optional(2)
    rank, groups = operand.type.rank, node.positive("group", 1)
    if rank not in (3, 4):
        raise node.unsupported(f"ConvTranspose of {max(rank - 2, 0)} spatial dimensions is not supported")
    if w.ndim != rank or w.shape[0] != operand.type.shape[1] or w.shape[0] % groups:
        raise node.error(f"ConvTranspose of {operand.type} with weights {list(w.shape)} in {groups} groups")
    if b is not None and b.data is None:
        raise node.unsupported("ConvTranspose with a bias that is computed at run time is not supported")
    x, axes, w = channels_last(node, g, operand), _onnx_axes(node, operand.type.shape[2:], w), _dilated(node, w)
    if rank == 3:
        w, axes = w[:, :, None], [_Axis(1, 1, 1, 0, 1), *axes]
    channels, results = w.shape[0] // groups, w.shape[1]
    ohwi = w.transpose(1, 2, 3, 0)
    parts = []
    for group in range(groups):
        begin = group * channels
        data = np.ascontiguousarray(ohwi[..., begin : begin + channels])
        bias = b
        if b is not None and b.data is not None and groups > 1:
            bias = g.constant(b.data[group * results : (group + 1) * results].copy(), name=b.name)
        part = channel_slice(node, g, x, begin, channels)
        parts.append(transposed_convolution(node, g, part, (data, None), bias, (axes[0], axes[1])))
    y = parts[0] if groups == 1 else g.add(Concat(tuple(parts), 3, location=node.location))
    return channels_first(node, g, y, rank)


def _dilated(node: ForeignNode, w: Array) -> Array:
    """Weights with the zeros that a dilation stands for between them."""
    dilations = node.integers("dilations", (1,) * (w.ndim - 2))
    sizes = [(n - 1) * d + 1 for n, d in zip(w.shape[2:], dilations, strict=True)]
    _check_weights(node, math.prod((*w.shape[:2], *sizes)))
    wide = np.zeros((*w.shape[:2], *sizes), w.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, d) for d in dilations))] = w
    return wide


def _onnx_axes(node: ForeignNode, sizes: Sequence[int], w: Array) -> list[_Axis]:
    """The spatial axes. (ONNX operator documentation, ConvTranspose.)

    Without padding there are stride * (size - 1) + extent + output_padding results; `pads` takes some away at both
    ends. `output_shape`, or `auto_pad` SAME, says how many are left instead, the odd one taken from the end (UPPER) or
    the beginning.
    """
    count = len(sizes)

    def numbers(name: str, length: int, default: int, least: int) -> tuple[int, ...]:
        given = node.integers(name, (default,) * length)
        if len(given) != length or min(given) < least or max(given) > _MAXIMUM_WINDOW:
            raise node.error(f"{name} of ConvTranspose is {list(given)}; it needs {length} from {least} on")
        return given

    if node.integers("kernel_shape", w.shape[2:]) != w.shape[2:]:
        raise node.error(f"kernel_shape {list(node.integers('kernel_shape'))} with weights {list(w.shape)}")
    strides, dilations = numbers("strides", count, 1, 1), numbers("dilations", count, 1, 1)
    pads, extra = numbers("pads", 2 * count, 0, 0), numbers("output_padding", count, 0, 0)
    auto = node.choice("auto_pad", _AUTO_PADS, "NOTSET")
    wanted: tuple[int, ...] | None = None
    if "output_shape" in node.attributes:
        wanted = node.integers("output_shape")[-count:]
        if len(wanted) != count or min(wanted) < 1:
            raise node.error(f"output_shape of ConvTranspose is {list(node.integers('output_shape'))}")
    elif auto in ("upper", "lower"):
        wanted = tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    axes = []
    for index, size in enumerate(sizes):
        extent = (w.shape[2 + index] - 1) * dilations[index] + 1
        whole = strides[index] * (size - 1) + extent + extra[index]
        before, left = (0, whole) if auto == "valid" else (pads[index], whole - pads[index] - pads[index + count])
        if wanted is not None:
            total, left = max(0, whole - wanted[index]), wanted[index]  # what is wanted beyond sees no element
            before = total // 2 if auto == "upper" else total - total // 2
        if not 1 <= left <= MAXIMUM_ELEMENTS:
            raise node.error(f"ConvTranspose has {left} results along axis {index + 2}")
        axes.append(_Axis(size, extent, strides[index], before, left))
    return axes


@tflite("TRANSPOSE_CONV")
def _import_transpose_conv(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are the result's shape, constant w [OC, KH, KW, IC], x, and perhaps b. SAME padding is even, the odd one
    behind.
    """
    shape, w, x, b = node.constant_integers(0), input_of_rank(node, 1, 4), input_of_rank(node, 2, 4), node.optional(3)
    check_weights(_as_convolution(node), 0)
    if w.data is None or (b is not None and b.data is None):
        raise node.unsupported("TRANSPOSE_CONV with weights or a bias that are computed at run time")
    strides = (node.positive("stride_h"), node.positive("stride_w"))
    if len(shape) != 4 or min(shape) < 1 or max(*w.type.shape[1:3], *strides) > _MAXIMUM_WINDOW:
        raise node.error(f"TRANSPOSE_CONV to {list(shape)} with weights {w.type} and strides {list(strides)}")
    if w.type.shape[3] != x.type.shape[3]:
        raise node.error(f"TRANSPOSE_CONV of {x.type} with weights {w.type}")
    is_same = node.choice("padding", {"SAME": "same", "VALID": "valid"}) == "same"
    axes = []
    for index, stride in enumerate(strides):
        size, kernel, count = x.type.shape[1 + index], w.type.shape[1 + index], shape[1 + index]
        surplus = max(0, (size - 1) * stride + kernel - count) if is_same else 0
        axes.append(_Axis(size, kernel, stride, surplus // 2, count))
    weights = (w.data, w.type.quant)
    activation, quant = fused_activation(node), node.output_type.quant
    return transposed_convolution(node, g, x, weights, b, (axes[0], axes[1]), activation, quant)


def _as_convolution(node: ForeignNode) -> ForeignNode:
    """The node with its operands in the order of a convolution, for the checks of those."""
    return replace(node, inputs=(node.inputs[2], node.inputs[1], *node.inputs[3:]))
