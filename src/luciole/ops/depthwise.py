"""Two-dimensional convolution of each channel on its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Operand
from luciole.ops import common
from luciole.ops.common import Window
from luciole.ops.tflite_options import check_weights, fused_activation, input_of_rank, window
from luciole.ops.weighted import WeightedSum, WindowedSum, once

#: Windows of up to so many taps are written out whole where they lie inside the input.
UNROLLED_TAPS = 16
#: So many taps of one row of the window may be written out, over all bodies.
WRITTEN_TAPS = 40
#: Windows of up to so many taps take two channels at a time.
TINY_TAPS = 4


@operator("depthwise_conv2d")
class DepthwiseConv2d(WindowedSum):
    """y[n, oh, ow, c*m + j] = act(b[c*m + j] + sum over kh, kw of x'[kh, kw] * w[0, kh, kw, c*m + j]).

    x'[kh, kw] = x[n, oh*s - top + kh*d, ow*s - left + kw*d, c]; what lies outside x counts as zero. x is NHWC with C
    channels, w is [1, KH, KW, C*m] for a whole multiplier m, b is [C*m] or absent. int8: weights symmetric, per tensor
    or per output channel (axis 3); b is int32 in units of x.scale * w.scale; the sum is requantized to the result's
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

    @property
    def multiplier(self) -> int:
        """Output channels made from each input channel."""
        return self.w.type.shape[3] // self.x.type.shape[3]

    def infer(self) -> TensorType:
        x, w = self.x.type, self.w.type
        if x.rank != 4 or w.rank != 4 or w.shape[0] != 1:
            raise self.error("x must have four axes, and w four, the first of size 1")
        if min(x.shape[3], w.shape[3]) < 1 or w.shape[3] % x.shape[3]:
            raise self.error(f"w has {w.shape[3]} channels, no multiple of the {x.shape[3]} of x")
        if x.dtype is not w.dtype or x.dtype not in (*common.FLOATS, DType.I8):
            raise self.error("x and w must both be f32, both f64, or both i8", "unsupported-types")
        if problem := self.window.problem((x.shape[1], x.shape[2])):
            raise self.error(problem)
        common.check_bias(self, self.b, w.shape[3])
        common.check_activation(self, self.activation)
        height, width = self.window.output_size((x.shape[1], x.shape[2]))
        return TensorType(x.dtype, (x.shape[0], height, width, w.shape[3]), self.quant)

    def macs(self) -> int:
        kernel_height, kernel_width = self.window.kernel
        return self.infer().elements * kernel_height * kernel_width

    def compute(self, x: Array, w: Array, b: Array | None) -> Array:
        if common.is_int8(self.x):
            zero = self.sums().zero_point
            patches = self.window.patches(x, zero).astype(np.int64) - zero
            return self.sums().compute((patches.repeat(self.multiplier, axis=-1) * w[0]).sum(axis=(3, 4)))
        patches = self.window.patches(x, 0.0).repeat(self.multiplier, axis=-1)
        total = (patches * w[0]).sum(axis=(3, 4), dtype=x.dtype)
        return common.float_activation_array(self.activation, total if b is None else total + b).astype(x.dtype)

    @once
    def sums(self) -> WeightedSum:
        """The sums over taps, whose zero point can be in the bias where there is no padding."""
        folds = not self.window.has_padding
        return WeightedSum(self, self.x, self.w, self.b, 3, self.activation, self.rounding, folds)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """Columns whose windows reach over the same taps share a body in which those taps are written out.

        The bodies go through the taps' rows in a loop that leaves out those outside x. Small windows that lie inside x
        have one more body without any loop but that over channels, so that neighboring channels can be computed side by
        side.
        """
        batch, height, width, _ = v.y.shape
        size = self.x.type.shape[1:3]
        kernel_height, kernel_width = self.window.kernel
        inner_rows = self.window.inner_range(0, size[0])
        is_small = kernel_height * kernel_width <= UNROLLED_TAPS and bool(inner_rows)
        with k.nest("n", batch, height) as (n, oh):
            rows = k.define_all(("first_row", "last_row"), self.window.tap_bounds(0, oh, size[0]))
            for columns, taps in self._column_ranges(width, size[1]):
                with k.loop("ow", columns.start, columns.stop) as ow:
                    pixel = (n, oh, ow)
                    if not (is_small and taps == range(kernel_width)):
                        self._pixel(k, v, pixel, rows, taps)
                    elif inner_rows == range(height):
                        self._pixel(k, v, pixel, range(kernel_height), taps)
                    else:
                        with k.if_(common.lies_in(oh, inner_rows, height)):
                            self._pixel(k, v, pixel, range(kernel_height), taps)
                        with k.else_():
                            self._pixel(k, v, pixel, rows, taps)

    def _column_ranges(self, width: int, in_width: int) -> list[tuple[range, range | None]]:
        """Ranges of output columns that share a range of taps; no range of taps where the columns' bounds differ."""
        ranges: list[tuple[range, range]] = []
        for ow in range(width):
            first, last = self.window.tap_bounds(1, ow, in_width)
            assert isinstance(first, int) and isinstance(last, int)
            taps = range(first, max(first, last))
            if ranges and ranges[-1][1] == taps:
                ranges[-1] = (range(ranges[-1][0].start, ow + 1), taps)
            else:
                ranges.append((range(ow, ow + 1), taps))
        if sum(len(taps) for _, taps in ranges) <= WRITTEN_TAPS:
            return [(columns, taps) for columns, taps in ranges]
        inner = self.window.inner_range(1, in_width)
        all_taps = range(self.window.kernel[1]) if self.window.kernel[1] <= WRITTEN_TAPS else None
        parts = [(range(inner.start), None), (inner, all_taps), (range(inner.stop, width), None)]
        return [(columns, taps) for columns, taps in parts if columns]

    def _pixel(
        self, k: LoopBuilder, v: Views, pixel: tuple[Expr, Expr, Expr], rows: Bounds, columns: range | None
    ) -> None:
        """All channels of a pixel over taps in some rows (written out for a `range`) and columns (a loop for None)."""
        n, oh, ow = pixel
        row = k.define("row", oh * self.strides[0] - self.pads[0])
        column = ow * self.strides[1] - self.pads[1]
        if columns is None:
            column = k.define("column", column)
            bounds = k.define_all(("first", "last"), self.window.tap_bounds(1, ow, self.x.type.shape[2]))
        tile, sums = self._tile(), self.sums()
        with k.nest("c", self.x.type.shape[3] // tile, self.multiplier) as (group, j):
            channels = [group * tile + i for i in range(tile)]
            outputs = [c * self.multiplier + j for c in channels]
            totals = [k.define("sum", sums.initial(v, oc)) for oc in outputs]

            def add(kh: Operand, kw: Operand) -> None:
                for c, oc, total in zip(channels, outputs, totals, strict=True):
                    tap = (n, row + kh * self.dilations[0], column + kw * self.dilations[1], c)
                    total += sums.term(v.x[tap]) * common.widened(v.w[0, kh, kw, oc])

            def add_row(kh: Operand) -> None:
                if columns is None:
                    with k.loop("kw", *bounds) as kw_register:
                        add(kh, kw_register)
                else:
                    for kw in columns:
                        add(kh, kw)

            if isinstance(rows, range):
                for kh in rows:
                    add_row(kh)
            else:
                with k.loop("kh", *rows) as kh_register:
                    add_row(kh_register)
            for oc, total in zip(outputs, totals, strict=True):
                v.y[n, oh, ow, oc] = sums.finish(v, total, oc)

    def _tile(self) -> int:
        """Channels side by side: two where the window is so small that the loop over channels would count."""
        kernel_height, kernel_width = self.window.kernel
        is_tiny = kernel_height * kernel_width <= TINY_TAPS
        return 2 if is_tiny and self.multiplier == 1 and self.x.type.shape[3] % 2 == 0 else 1

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 5, 4, 3), s.f32_weights(1, 3, 3, 3), s.f32_weights(3), pads=(1, 1, 1, 1), activation="relu6")
        yield cls(s.f32(2, 6, 5, 2), s.f32_weights(1, 2, 3, 4), strides=(2, 1), dilations=(2, 1))
        yield cls(
            s.i8(1, 5, 6, 5, zero=-128),
            s.i8_weights(1, 3, 3, 5, axis=3),
            s.i32_bias(5),
            pads=(1, 1, 1, 1),
            activation="relu",
            quant=s.quant(0.15, -128),
        )
        yield cls(
            s.i8(2, 6, 5, 2, zero=127),
            s.i8_weights(1, 3, 3, 6, axis=3),
            s.i32_bias(6),
            strides=(2, 2),
            pads=(0, 0, 1, 1),
            quant=s.quant(0.15, 60),
        )
        yield cls(
            s.i8(1, 9, 9, 1, zero=5),
            s.i8_weights(1, 5, 4, 3, axis=None),
            None,
            pads=(2, 1, 2, 2),
            strides=(1, 2),
            activation="relu_n1_to_1",
            quant=s.quant(0.02, 3),
        )
        yield cls(s.i8(1, 7, 1, 4, zero=-3), s.i8_weights(1, 5, 1, 4, axis=3), s.i32_bias(4), quant=s.quant(0.1, -1))
        yield cls(
            s.i8(1, 2, 2, 3, zero=9),
            s.i8_weights(1, 3, 3, 3, axis=3),
            s.i32_bias(3),
            pads=(2, 2, 2, 2),
            dilations=(2, 2),
            quant=s.quant(0.06),
        )
        yield cls(
            s.i8(1, 3, 3, 2), s.i8_weights(1, 2, 2, 2, axis=3, scale=3.0), None, pads=(0, 1, 1, 0), quant=s.quant(0.02)
        )
        yield cls(
            s.i8(1, 4, 4, 2),
            s.i8_weights(1, 3, 3, 2, axis=3),
            s.i32_bias(2),
            rounding="tflite-single",
            quant=s.quant(0.12, 7),
        )
        yield cls(
            s.i8(1, 5, 4, 4, zero=-30),
            s.i8_weights(1, 3, 3, 4, axis=3),
            s.i32_bias(4),
            pads=(1, 1, 1, 1),
            rounding="onnx",
            quant=s.quant(0.05, 7),
        )


Bounds = range | tuple[Operand, Operand]


@tflite("DEPTHWISE_CONV_2D")
def _import_depthwise_conv_2d(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, w and perhaps b, laid out as ours; w's shape tells `depth_multiplier`."""
    x, w = input_of_rank(node, 0, 4), input_of_rank(node, 1, 4)
    check_weights(node, 3)
    taps = window(node, x, (w.type.shape[1], w.type.shape[2]), has_dilation=True)
    op = DepthwiseConv2d(
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
