"""Two-dimensional convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Operand, maximum, minimum
from luciole.ops import common
from luciole.ops.common import Requantizer, Window
from luciole.ops.concat import Concat
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.onnx_options import OnnxConvolution, grouped, onnx_convolution
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import check_weights, fused_activation, input_of_rank, window
from luciole.ops.volume import depth_taps
from luciole.ops.weighted import WeightedSum, WindowedSum, once


@operator("conv2d")
class Conv2d(WindowedSum):
    """y[n, oh, ow, oc] = act(b[oc] + sum over kh, kw, ic of x[n, oh*s - top + kh*d, ow*s - left + kw*d, ic] * w[oc, kh,
    kw, ic]).

    x is NHWC, w is [OC, KH, KW, IC], b is [OC] or absent; what lies outside x counts as zero. int8: weights symmetric,
    per tensor or per output channel; b is int32 in units of x.scale * w.scale; the sum is requantized to the result's
    scale.
    """

    x: Value
    w: Value
    b: Value | None = None
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    activation: str = "none"
    rounding: Rounding = "tflite"

    @property
    def window(self) -> Window:
        """The window's geometry."""
        return Window((self.w.type.shape[1], self.w.type.shape[2]), self.strides, self.pads, self.dilations)

    def infer(self) -> TensorType:
        x, w = self.x.type, self.w.type
        if x.rank != 4 or w.rank != 4:
            raise self.error("x and w must have four axes")
        if x.shape[3] != w.shape[3]:
            raise self.error(f"x has {x.shape[3]} channels, w takes {w.shape[3]}")
        if x.dtype is not w.dtype or x.dtype not in (*common.FLOATS, DType.I8):
            raise self.error("x and w must both be f32, both f64, or both i8", "unsupported-types")
        if problem := self.window.problem((x.shape[1], x.shape[2])):
            raise self.error(problem)
        common.check_bias(self, self.b, w.shape[0])
        common.check_activation(self, self.activation)
        height, width = self.window.output_size((x.shape[1], x.shape[2]))
        return TensorType(x.dtype, (x.shape[0], height, width, w.shape[0]), self.quant)

    def macs(self) -> int:
        return self.infer().elements * int(np.prod(self.w.type.shape[1:], dtype=np.int64))

    def compute(self, x: Array, w: Array, b: Array | None) -> Array:
        channels = w.shape[0]
        if common.is_int8(self.x):
            zero = self.sums().zero_point
            patches = self.window.patches(x, zero).astype(np.int64) - zero
            flat = patches.reshape(*patches.shape[:3], -1)
            return self.sums().compute(common.exact_matmul(flat, w.reshape(channels, -1).T))
        patches = self.window.patches(x, 0.0)
        total = patches.reshape(*patches.shape[:3], -1) @ w.reshape(channels, -1).T
        return common.float_activation_array(self.activation, total if b is None else total + b).astype(x.dtype)

    @once
    def sums(self) -> WeightedSum:
        """The sums over taps and channels, whose zero point can be in the bias where there is no padding."""
        folds = not self.window.has_padding
        return WeightedSum(self, self.x, self.w, self.b, 0, self.activation, self.rounding, folds)

    def requantizer(self) -> Requantizer:
        """How the int32 sums become the result, with the multipliers of the model; kernels may prefer `sums()`."""
        return self.sums().requantizer

    def kernel_shapes(self) -> dict[str, Shape]:
        return {"x": common.merged_columns(self.x.type.shape), "w": common.merged_columns(self.w.type.shape)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """A run of taps and channels is contiguous in x and in w; a few output channels share each input element."""
        batch, height, width, channels = v.y.shape
        in_height = self.x.type.shape[1]
        tile, sums = common.channel_tile(channels), self.sums()
        with k.loop("n", batch) as n, k.loop("oh", height) as oh, k.loop("ow", width) as ow:
            first, last = self.window.tap_bounds(0, oh, in_height)
            first_row, last_row = k.define("first_row", first, DType.INDEX), k.define("last_row", last, DType.INDEX)
            run = self._column_run(k, ow)
            with k.loop("oc", 0, channels, tile) as oc:
                totals = [k.define(f"sum{j}", sums.initial(v, oc + j)) for j in range(tile)]
                with k.loop("kh", first_row, last_row) as kh:
                    row = k.define("row", oh * self.strides[0] - self.pads[0] + kh * self.dilations[0])
                    for x_begin, w_begin, count in run(k):
                        with k.loop("t", count) as t:
                            value = sums.term(v.x[n, row, x_begin + t])
                            for j, total in enumerate(totals):
                                total += value * common.widened(v.w[oc + j, kh, w_begin + t])
                for j, total in enumerate(totals):
                    v.y[n, oh, ow, oc + j] = sums.finish(v, total, oc + j)

    def _column_run(self, k: LoopBuilder, ow: Expr) -> ColumnRun:
        """Where the taps of one row lie in x and in w, as runs of (begin in x, begin in w, length)."""
        _, kernel_width, channels = self.w.type.shape[1:]
        in_width = self.x.type.shape[2]
        start = ow * self.strides[1] - self.pads[1]
        if self.dilations[1] > 1:
            first, last = self.window.tap_bounds(1, ow, in_width)
            begin, end = k.define("first_column", first, DType.INDEX), k.define("last_column", last, DType.INDEX)

            def dilated(k: LoopBuilder) -> Iterator[tuple[Operand, Operand, Operand]]:
                with k.loop("kw", begin, end) as kw:
                    yield (start + kw * self.dilations[1]) * channels, kw * channels, channels

            return dilated
        if not self.window.has_padding:
            x_begin = k.define("x_begin", start * channels)
            return lambda _: iter([(x_begin, 0, kernel_width * channels)])
        begin = k.define("x_begin", maximum(start, 0) * channels)
        count = k.define("count", minimum(start + kernel_width, in_width) * channels - begin)
        w_begin = k.define("w_begin", begin - start * channels)
        return lambda _: iter([(begin, w_begin, count)])

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 5, 4, 3), s.f32_weights(4, 3, 3, 3), s.f32_weights(4), pads=(1, 1, 1, 1), activation="relu")
        yield cls(s.f32(2, 5, 6, 2), s.f32_weights(3, 2, 3, 2), strides=(2, 1), dilations=(1, 2))
        yield cls(s.f64(1, 5, 4, 3), s.f64(4, 3, 3, 3), s.f64(4), pads=(1, 1, 1, 1), activation="relu")
        yield cls(s.i8(1, 4, 3, 5, zero=-128), s.i8_weights(8, 1, 1, 5), s.i32_bias(8), quant=s.quant(0.2, -7))
        yield cls(
            s.i8(1, 6, 5, 3, zero=11),
            s.i8_weights(6, 3, 3, 3),
            s.i32_bias(6),
            strides=(2, 2),
            pads=(0, 0, 1, 1),
            activation="relu",
            quant=s.quant(0.2, -128),
        )
        yield cls(
            s.i8(1, 7, 7, 2, zero=3),
            s.i8_weights(2, 3, 2, 2, axis=None),
            pads=(2, 1, 2, 1),
            dilations=(2, 2),
            activation="relu6",
            quant=s.quant(0.02, -100),
        )
        yield cls(s.i8(1, 2, 2, 4), s.i8_weights(4, 1, 1, 4, scale=3.0), s.i32_bias(4), quant=s.quant(0.02))
        yield cls(
            s.i8(1, 4, 3, 1, scale=0.5),
            s.constant(np.array([[[[1]]], [[[-1]]]], np.int8), s.quant(0.5)),
            quant=s.quant(0.2),
        )
        yield cls(
            s.i8(1, 3, 3, 4), s.i8_weights(5, 2, 2, 4), s.i32_bias(5), rounding="tflite-single", quant=s.quant(0.12)
        )
        yield cls(
            s.i8(1, 5, 3, 4, zero=9), s.i8_weights(5, 2, 2, 4), s.i32_bias(5), rounding="onnx", quant=s.quant(0.1, 4)
        )
        large = s.i32_bias(4, -(1 << 30), 1 << 30)
        yield cls(s.i8(1, 3, 3, 2), s.i8_weights(4, 1, 1, 2), large, rounding="onnx", quant=s.quant(4000.0, 4))


ColumnRun = Callable[[LoopBuilder], Iterator[tuple[Operand, Operand, Operand]]]


@tflite("CONV_2D")
def _import_conv_2d(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, w and perhaps b, laid out as ours."""
    x, w = input_of_rank(node, 0, 4), input_of_rank(node, 1, 4)
    check_weights(node, 0)
    if x.type.shape[3] != w.type.shape[3] and w.type.shape[3] and x.type.shape[3] % w.type.shape[3] == 0:
        raise node.unsupported("grouped convolutions are not supported", code="unsupported-operator")
    taps = window(node, x, (w.type.shape[1], w.type.shape[2]), has_dilation=True)
    op = Conv2d(
        x,
        w,
        node.optional(2),
        strides=taps.strides,
        pads=taps.pads,
        dilations=taps.dilations,
        activation=fused_activation(node),
        quant=node.output_type.quant,
        location=node.location,
    )
    return g.add(op, node.name)


@onnx("Conv")
def _import_onnx_conv(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, w [OC, IC / groups, K...] and perhaps b, channels first; one to three spatial dimensions.

    One channel a group is `depthwise_conv2d`; other groups are a convolution each, of a slice of the channels. Of three
    dimensions, the taps along the first one become channels.
    """
    conv = onnx_convolution(node, g)
    if conv.groups == 1:
        return conv.finish(g, _onnx_conv(conv, g, f"{node.name}/last"))
    if conv.group_channels == 1 and len(conv.axes) == 2:
        x, geometry = conv.bordered(g)
        depthwise = DepthwiseConv2d(x, conv.weights(g, (1, 2, 3, 0)), conv.b, **geometry)
        return conv.finish(g, g.add(depthwise, f"{node.name}/last"))
    parts = tuple(_onnx_conv(part, g) for part in grouped(conv, g))
    joined = Concat(parts, parts[0].type.rank - 1, location=node.location)
    return conv.finish(g, g.add(joined, f"{node.name}/last"))


def _onnx_conv(conv: OnnxConvolution, g: GraphBuilder, name: str = "") -> Value:
    """A convolution of all channels, with channels last."""
    if len(conv.axes) == 2:
        x, geometry = conv.bordered(g)
        return g.add(Conv2d(x, conv.weights(g, (0, 2, 3, 1)), conv.b, **geometry), name)
    depth, rows, columns = conv.axes
    x = depth_taps(conv.node, g, conv.x, depth)
    flat = reshaped(conv.node, g, x, (math.prod(x.type.shape[:2]), *x.type.shape[2:]))
    w = conv.weights(g, (0, 3, 4, 2, 1))
    plane = replace(
        conv, x=flat, w=reshaped(conv.node, g, w, (*w.type.shape[:3], flat.type.shape[3])), axes=(rows, columns)
    )
    x, geometry = plane.bordered(g)
    y = g.add(Conv2d(x, plane.w, conv.b, **geometry))
    return reshaped(conv.node, g, y, (conv.x.type.shape[0], depth.count, *y.type.shape[1:]))
