"""How pools of file formats become operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.ir.quant import Quant
from luciole.ir.types import MAXIMUM_ELEMENTS, DType
from luciole.ops.onnx_options import Axis, channels_first, channels_last, onnx_axes, window_of
from luciole.ops.onnx_quantization import as_int8, as_stored
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d, Pool
from luciole.ops.pool_positions import MaxPoolPositions2d, MaxUnpool
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import fused_activation, input_of_rank, window


def _import_pool(node: ForeignNode, g: GraphBuilder, kind: type[Pool]) -> Value:
    x = input_of_rank(node, 0, 4)
    taps = window(node, x, (node.positive("filter_height"), node.positive("filter_width")), has_dilation=False)
    op = kind(
        x,
        taps.kernel,
        strides=taps.strides,
        pads=taps.pads,
        activation=fused_activation(node),
        quant=node.output_type.quant,
        location=node.location,
    )
    return g.add(op, node.name)


@tflite("AVERAGE_POOL_2D")
def _import_average_pool_2d(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_pool(node, g, AveragePool2d)


@tflite("MAX_POOL_2D")
def _import_max_pool_2d(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_pool(node, g, MaxPool2d)


@onnx("MaxPool")
def _import_onnx_max_pool(node: ForeignNode, g: GraphBuilder) -> Value | tuple[Value, ...]:
    """Channels first, one to three spatial dimensions. The second result tells where the greatest elements are."""
    if any(node.output_names[1:]):
        return _import_pool_with_positions(node, g)
    return _import_greatest(node, g)


def _import_greatest(node: ForeignNode, g: GraphBuilder) -> Value:
    x = node.input(0)
    if x.type.dtype not in (DType.I8, DType.U8):
        return _import_onnx_pool(node, g, MaxPool2d)
    # The greatest of int8 numbers is that of the uint8 numbers they stand for, whatever the scale.
    numbers = as_int8(node, g, x, x.type.quant or Quant.per_tensor(1.0))
    return as_stored(node, g, _import_onnx_pool(replace(node, inputs=(numbers,)), g, MaxPool2d), x.type.dtype)


def _import_pool_with_positions(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    x = node.input(0)
    if x.type.rank == 5:
        raise node.unsupported("MaxPool of three spatial dimensions with indices as a second result")
    order = node.integer("storage_order", 0)
    if order not in (0, 1):
        raise node.error(f"MaxPool with storage_order {order}")
    numbers = x
    if x.type.dtype in (DType.I8, DType.U8):
        numbers = as_int8(node, g, x, x.type.quant or Quant.per_tensor(1.0))
    named = replace(node, inputs=(numbers,), output_names=node.output_names[1:])
    positions = _import_onnx_pool(named, g, partial(MaxPoolPositions2d, column_major=bool(order)))
    return _import_greatest(node, g), positions


@onnx("MaxUnpool")
def _import_max_unpool(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x and the positions that MaxPool gave; the image has the size that MaxPool's windows cover."""
    x, positions = node.input(0), node.input(1)
    window = node.integers("kernel_shape")
    axes = x.type.rank - 2
    strides, pads = node.integers("strides", (1,) * axes), node.integers("pads", (0,) * 2 * axes)
    if axes < 1 or (len(window), len(strides), len(pads)) != (axes, axes, 2 * axes):
        raise node.error(f"MaxUnpool of {x.type} by a window of {list(window)}")
    spatial = tuple((x.type.shape[2 + i] - 1) * strides[i] + window[i] - pads[i] - pads[axes + i] for i in range(axes))
    shape = (*x.type.shape[:2], *spatial)
    if min(spatial) < 1 or max(spatial) > MAXIMUM_ELEMENTS or math.prod(shape) > MAXIMUM_ELEMENTS:
        raise node.unsupported(f"MaxUnpool to {list(shape)}", code="too-large")
    if node.optional(2) is not None and node.constant_integers(2) != shape:
        raise node.unsupported(
            f"MaxUnpool of {x.type} to {list(node.constant_integers(2))}, of which tools disagree what positions mean",
            help=f"supported is the size that the windows cover, {list(shape)}",
        )
    return g.add(MaxUnpool(x, positions, shape, location=node.location), node.name)


@onnx("AveragePool")
def _import_onnx_average_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """Channels first, one to three spatial dimensions. Where padding counts, it is added as a border before."""
    return _import_onnx_pool(node, g, AveragePool2d, includes_border=bool(node.integer("count_include_pad", 0)))


def _import_onnx_pool(
    node: ForeignNode, g: GraphBuilder, kind: Callable[..., Pool], *, includes_border: bool = False
) -> Value:
    operand = node.input(0)
    x = channels_last(node, g, operand)
    axes = onnx_axes(node, operand, node.integers("kernel_shape"))
    if includes_border:
        x, axes = _bordered(node, g, x, axes)
    return channels_first(node, g, pooled(node, g, kind, x, axes), operand.type.rank)


def _bordered(node: ForeignNode, g: GraphBuilder, x: Value, axes: tuple[Axis, ...]) -> tuple[Value, tuple[Axis, ...]]:
    """A tensor with channels last with its padding as a part of it."""
    if not any(axis.before or axis.after for axis in axes):
        return x, axes
    ones = (0,) * (x.type.rank - 1 - len(axes))
    before, after = (*ones, *(a.before for a in axes), 0), (*ones, *(a.after for a in axes), 0)
    x = g.add(Pad(x, before, after, location=node.location), f"{node.name}/border")
    return x, tuple(replace(axis, size=axis.before + axis.size + axis.after, before=0, after=0) for axis in axes)


def quantized_average_pool(node: ForeignNode, g: GraphBuilder, x: Value, quant: Quant, *, is_unsigned: bool) -> Value:
    """onnxruntime's QLinearAveragePool of an int8 tensor with channels first, one or two spatial dimensions.

    Where padding counts, so does all that `ceil_mode` adds. A window that is all of x gives the mean, which is rounded
    otherwise.
    """
    last = channels_last(node, g, x)
    axes = onnx_axes(node, x, node.integers("kernel_shape"))
    if node.integer("count_include_pad", 0):
        axes = tuple(replace(axis, after=axis.after + axis.excess, excess=0) for axis in axes)
        last, axes = _bordered(node, g, last, axes)
    make = partial(AveragePool2d, rounding="onnx", is_unsigned=is_unsigned, quant=quant)
    return channels_first(node, g, pooled(node, g, make, last, axes), x.type.rank)


def pooled(node: ForeignNode, g: GraphBuilder, kind: Callable[..., Pool], x: Value, axes: tuple[Axis, ...]) -> Value:
    """A pool of a tensor with channels last along its one to three spatial axes.

    Of three, rows and columns come first, and their results are pooled along the depth: the number of taps inside x is
    the product of those along each axis, so the averages are the same.
    """
    if len(axes) == 3:
        batch, depth, *plane, channels = x.type.shape
        y = pooled(node, g, kind, reshaped(node, g, x, (batch * depth, *plane, channels)), axes[1:])
        _, height, width, _ = y.type.shape
        columns = reshaped(node, g, y, (batch, depth, height * width, channels))
        y = pooled(node, g, kind, columns, (axes[0], Axis(height * width, 1)))
        return reshaped(node, g, y, (batch, axes[0].count, height, width, channels))
    rows, columns_axis = axes if len(axes) == 2 else (Axis(1, 1), axes[0])
    window = window_of(rows, columns_axis)
    pads = (*window.pads[:2], window.pads[2] + rows.excess, window.pads[3] + columns_axis.excess)
    op = kind(
        x,
        window.kernel,
        strides=window.strides,
        pads=pads,
        dilations=window.dilations,
        location=node.location,
    )
    return g.add(op, f"{node.name}/last")


@onnx("GlobalMaxPool")
def _import_global_max_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """The maximum over all spatial dimensions, one to three."""
    operand = node.input(0)
    x = channels_last(node, g, operand)
    axes = tuple(Axis(size, size) for size in operand.type.shape[2:])
    return channels_first(node, g, pooled(node, g, MaxPool2d, x, axes), operand.type.rank)
