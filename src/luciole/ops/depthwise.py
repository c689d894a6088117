"""Two-dimensional convolution of each channel on its own."""

from __future__ import annotations

from collections.abc import Iterator

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand, binary
from luciole.ops import common
from luciole.ops.common import Requantizer, Window
from luciole.ops.tflite_options import check_weights, fused_activation, input_of_rank, window

#: Windows of up to so many taps are written out whole, larger ones row by row.
UNROLLED_TAPS = 16


@operator("depthwise_conv2d")
class DepthwiseConv2d(Operator):
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
        if x.dtype is not w.dtype or x.dtype not in (DType.F32, DType.I8):
            raise self.error("x and w must both be f32 or both i8", "unsupported-types")
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
        is_int8 = common.is_int8(self.x)
        zero = common.operand_quant(self, self.x).zero_point if is_int8 else 0
        patches = self.window.patches(x, zero).astype("int64" if is_int8 else "float32") - zero
        total = (patches.repeat(self.multiplier, axis=-1) * w[0]).sum(axis=(3, 4), dtype=patches.dtype)
        if b is not None:
            total = total + b
        if not is_int8:
            return common.float_activation_array(self.activation, total).astype("float32")
        return self.requantizer().compute(total).astype("int8")

    def requantizer(self) -> Requantizer:
        """How the int32 sums become the result."""
        return common.weighted_requantizer(self, self.x, self.w, self.b, 3, self.activation, self.rounding)

    def parameters(self) -> dict[str, Array]:
        if not common.is_int8(self.x):
            return {}
        zero = 0 if self.window.has_padding else common.operand_quant(self, self.x).zero_point
        return self.requantizer().arrays() | {"bias": common.folded_bias(self, self.w, self.b, zero, 3)}

    def kernel_operands(self) -> tuple[str, ...]:
        return ("x", "w") if common.is_int8(self.x) or self.b is None else ("x", "w", "b")

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """Pixels whose window lies inside x take a body without bounds, the others one that clamps its loops over taps.

        The choice stands outside the loop over channels, which is innermost in the inner pixels' body when the window
        is small, so that neighboring channels can be computed side by side.
        """
        batch, height, width, _ = v.y.shape
        size = self.x.type.shape[1:3]
        rows, columns = self.window.inner_range(0, size[0]), self.window.inner_range(1, size[1])
        has_inner, has_border = rows and columns, rows != range(height) or columns != range(width)
        with k.loop("n", batch) as n, k.loop("oh", height) as oh, k.loop("ow", width) as ow:
            if not has_border:
                self._inner(k, v, (n, oh, ow))
            elif not has_inner:
                self._border(k, v, (n, oh, ow))
            else:
                with k.if_(binary("and", _lies_in(oh, rows, height), _lies_in(ow, columns, width))):
                    self._inner(k, v, (n, oh, ow))
                with k.else_():
                    self._border(k, v, (n, oh, ow))

    def _inner(self, k: LoopBuilder, v: Views, pixel: tuple[Expr, Expr, Expr]) -> None:
        """All channels of a pixel whose window lies inside x."""
        n, oh, ow = pixel
        kernel_height, kernel_width = self.window.kernel
        row = oh * self.strides[0] - self.pads[0]
        column = ow * self.strides[1] - self.pads[1]
        is_whole = kernel_height * kernel_width <= UNROLLED_TAPS

        def taps(kh: Operand) -> None:
            for kw in range(kernel_width):
                position = (n, row + kh * self.dilations[0], column + kw * self.dilations[1], c)
                add(self._input(v, position), (0, kh, kw, oc))

        def add(value: Expr, tap: tuple[Operand, ...]) -> None:
            total.set(total + value * common.widened(v.w[tap]))

        with k.nest("c", self.x.type.shape[3], self.multiplier) as (c, j):
            oc = c * self.multiplier + j
            total = k.define("sum", self._initial(v, oc))
            if is_whole:
                for kh in range(kernel_height):
                    taps(kh)
            else:
                with k.loop("kh", kernel_height) as kh_register:
                    taps(kh_register)
            v.y[n, oh, ow, oc] = self._finish(v, total, oc)

    def _border(self, k: LoopBuilder, v: Views, pixel: tuple[Expr, Expr, Expr]) -> None:
        """All channels of a pixel whose window leaves x."""
        n, oh, ow = pixel
        size = self.x.type.shape[1:3]
        bounds: list[tuple[Register, Register]] = []
        for axis, position in ((0, oh), (1, ow)):
            first, last = self.window.tap_bounds(axis, position, size[axis])
            bounds.append((k.define("first", first, DType.INDEX), k.define("last", last, DType.INDEX)))
        row = k.define("row", oh * self.strides[0] - self.pads[0])
        column = k.define("column", ow * self.strides[1] - self.pads[1])
        with k.nest("c", self.x.type.shape[3], self.multiplier) as (c, j):
            oc = c * self.multiplier + j
            total = k.define("sum", self._initial(v, oc))
            with k.loop("kh", *bounds[0]) as kh, k.loop("kw", *bounds[1]) as kw:
                tap = (n, row + kh * self.dilations[0], column + kw * self.dilations[1], c)
                total += self._input(v, tap) * common.widened(v.w[0, kh, kw, oc])
            v.y[n, oh, ow, oc] = self._finish(v, total, oc)

    def _input(self, v: Views, position: tuple[Expr, ...]) -> Expr:
        """An input element as the sum needs it: minus the zero point where that is not in the bias."""
        value = common.widened(v.x[position])
        if not common.is_int8(self.x) or not self.window.has_padding:
            return value
        return value - common.operand_quant(self, self.x).zero_point

    def _initial(self, v: Views, channel: Expr) -> Operand:
        if common.is_int8(self.x):
            return v.bias[channel]
        return common.float_zero() if self.b is None else v.b[channel]

    def _finish(self, v: Views, total: Expr, channel: Expr) -> Expr:
        if not common.is_int8(self.x):
            return common.float_activation(self.activation, total)
        return self.requantizer().emit(total, v.multiplier[channel], v.shift[channel]).cast(DType.I8)

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
            quant=s.quant(0.05, 127),
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
            quant=s.quant(0.03),
        )
        yield cls(
            s.i8(1, 3, 3, 2), s.i8_weights(1, 2, 2, 2, axis=3, scale=3.0), None, pads=(0, 1, 1, 0), quant=s.quant(0.02)
        )
        yield cls(
            s.i8(1, 4, 4, 2),
            s.i8_weights(1, 3, 3, 2, axis=3),
            s.i32_bias(2),
            rounding="tflite-single",
            quant=s.quant(0.04, 7),
        )


def _lies_in(position: Expr, inner: range, size: int) -> Expr:
    """Whether an output position of 0..size is one of the inner ones."""
    above = position >= inner.start if inner.start > 0 else None
    below = position < inner.stop if inner.stop < size else None
    if above is None:
        return below if below is not None else position >= 0
    return above if below is None else binary("and", above, below)


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
