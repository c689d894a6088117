"""Sums of products of plain 8-bit integers as int32: ONNX's MatMulInteger and ConvInteger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.samples import Samples
from luciole.ir.arithmetic import wrap_int32
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder, View
from luciole.kernel.core import Expr, Operand
from luciole.ops import common
from luciole.ops.common import Window
from luciole.ops.concat import Concat
from luciole.ops.onnx_options import grouped, onnx_convolution

_BYTES = (DType.I8, DType.U8)


@dataclass(frozen=True, eq=False, repr=False)
class IntegerSum(Operator):
    """Base of sums of products of two tensors of i8 or u8, each less a number of its own type, or 0."""

    a: Value
    b: Value
    a_zero: Value | None = None
    b_zero: Value | None = None

    def check_bytes(self) -> None:
        """Raise `CompileError` when operands are not of bytes, or their zeros not of their type."""
        for value, zero in ((self.a, self.a_zero), (self.b, self.b_zero)):
            if value.type.dtype not in _BYTES or value.type.quant is not None:
                raise self.error("a and b must be plain i8 or u8", "unsupported-types")
            if zero is not None and zero.type.dtype is not value.type.dtype:
                raise self.error("zeros must have the types of a and b")

    def centered(self, array: Array, zero: Array | None) -> Array:
        """An operand less its zero."""
        return array.astype(np.int64) - (0 if zero is None else zero.astype(np.int64))

    def zeros(self, k: LoopBuilder, v: Views) -> tuple[Operand, Operand]:
        """Registers with the zeros of a and b, which are single numbers."""
        found: list[Operand] = []
        for name, value in (("a_zero", self.a_zero), ("b_zero", self.b_zero)):
            if value is None:
                found.append(0)
            else:
                view: View = getattr(v, name)
                found.append(k.define(name, view[tuple(0 for _ in view.shape)].cast(DType.I32)))
        return found[0], found[1]


@operator("matmul_integer")
class MatMulInteger(IntegerSum):
    """y[..., i, j] = sum over p of (a[..., i, p] - a_zero) * (b[..., p, j] - b_zero), i32; leading axes broadcast.

    b_zero is one number, or one for each column j; a_zero is one number.
    """

    def infer(self) -> TensorType:
        self.check_bytes()
        a, b = self.a.type.shape, self.b.type.shape
        if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
            raise self.error("a and b must be matrices that fit each other")
        if self.a_zero is not None and self.a_zero.type.elements != 1:
            raise self.error("a_zero must be one number", "unsupported-types")
        if self.b_zero is not None and self.b_zero.type.shape not in ((), (1,), b[-1:]):
            raise self.error("b_zero must be one number, or one for each column", "unsupported-types")
        return TensorType(DType.I32, (*common.broadcast(self, a[:-2], b[:-2]), a[-2], b[-1]))

    def macs(self) -> int:
        return self.infer().elements * self.a.type.shape[-1]

    def compute(self, a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
        return wrap_int32(common.exact_matmul(self.centered(a, a_zero), self.centered(b, b_zero)))

    def kernel_shapes(self) -> dict[str, Shape]:
        """a and b with the rank of the result, zeros with one axis."""
        rank = self.infer().rank
        shapes = {n: (1,) * (rank - v.type.rank) + v.type.shape for n, v in (("a", self.a), ("b", self.b))}
        zeros = {n: (v.type.elements,) for n, v in self.named_operands() if n.endswith("zero")}
        return shapes | zeros

    def loops(self, k: LoopBuilder, v: Views) -> None:
        *batch, rows, columns = v.y.shape
        with k.nest("n", *batch) as outer, k.loop("i", rows) as i, k.loop("j", columns) as j:
            a, b = (
                tuple(0 if size == 1 else n for size, n in zip(view.shape, outer, strict=False)) for view in (v.a, v.b)
            )
            a_zero, b_zero = self.zeros(k, v)
            if self.b_zero is not None and self.b_zero.type.elements > 1:
                b_zero = k.define("column_zero", v.b_zero[j].cast(DType.I32))
            total = k.define("total", 0)
            with k.loop("p", v.a.shape[-1]) as p:
                total += (v.a[(*a, i, p)].cast(DType.I32) - a_zero) * (v.b[(*b, p, j)].cast(DType.I32) - b_zero)
            v.y[(*outer, i, j)] = total

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        a, b = s.numbers(DType.U8, 2, 3, 5), s.numbers(DType.I8, 5, 4)
        yield cls(a, b)
        yield cls(a, b, s.numbers(DType.U8, 1), s.numbers(DType.I8, 4))
        yield cls(s.numbers(DType.I8, 1, 3), s.numbers(DType.U8, 3, 1), s.numbers(DType.I8), s.numbers(DType.U8, 1))


@operator("conv2d_integer")
class Conv2dInteger(IntegerSum):
    """y[n, oh, ow, oc] = sum over taps and channels of (a[n, row, column, ic] - a_zero) * (b[oc, kh, kw, ic] - b_zero).

    i32; a is NHWC, and what lies outside counts as a_zero. b_zero is one number, or one for each oc; a_zero is one.
    """

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    @property
    def window(self) -> Window:
        """The window's geometry."""
        return Window((self.b.type.shape[1], self.b.type.shape[2]), self.strides, self.pads, self.dilations)

    def infer(self) -> TensorType:
        self.check_bytes()
        a, b = self.a.type.shape, self.b.type.shape
        if len(a) != 4 or len(b) != 4 or a[3] != b[3]:
            raise self.error("a and b must have four axes, and as many channels")
        if problem := self.window.problem((a[1], a[2])):
            raise self.error(problem)
        if self.a_zero is not None and self.a_zero.type.elements != 1:
            raise self.error("a_zero must be one number", "unsupported-types")
        if self.b_zero is not None and self.b_zero.type.shape not in ((), (1,), b[:1]):
            raise self.error("b_zero must be one number, or one for each channel", "unsupported-types")
        return TensorType(DType.I32, (a[0], *self.window.output_size((a[1], a[2])), b[0]))

    def macs(self) -> int:
        return self.infer().elements * int(np.prod(self.b.type.shape[1:], dtype=np.int64))

    def compute(self, a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
        patches = self.window.patches(self.centered(a, a_zero), 0)
        flat = patches.reshape(*patches.shape[:3], -1)
        zero = b_zero if b_zero is None or not b_zero.ndim else b_zero.reshape(-1, 1, 1, 1)
        return wrap_int32(common.exact_matmul(flat, self.centered(b, zero).reshape(b.shape[0], -1).T))

    def kernel_shapes(self) -> dict[str, Shape]:
        return {name: (v.type.elements,) for name, v in self.named_operands() if name.endswith("zero")}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        _, height, width, channels = v.a.shape
        a_zero, b_zero = self.zeros(k, v)
        with k.nest("n", *v.y.shape) as (n, oh, ow, oc):
            if self.b_zero is not None and self.b_zero.type.elements > 1:
                b_zero = k.define("channel_zero", v.b_zero[oc].cast(DType.I32))
            bounds: list[tuple[Operand, Operand]] = []
            for axis, position, size in ((0, oh, height), (1, ow, width)):
                first, last = self.window.tap_bounds(axis, position, size)
                bounds.append((_index(k, "first", first), _index(k, "last", last)))
            total = k.define("total", 0)
            with k.loop("kh", *bounds[0]) as kh, k.loop("kw", *bounds[1]) as kw, k.loop("ic", channels) as ic:
                row = oh * self.strides[0] - self.pads[0] + kh * self.dilations[0]
                column = ow * self.strides[1] - self.pads[1] + kw * self.dilations[1]
                element = v.a[n, row, column, ic].cast(DType.I32) - a_zero
                total += element * (v.b[oc, kh, kw, ic].cast(DType.I32) - b_zero)
            v.y[n, oh, ow, oc] = total

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        a, b = s.numbers(DType.U8, 1, 5, 4, 3), s.numbers(DType.I8, 2, 3, 2, 3)
        yield cls(a, b, s.numbers(DType.U8), s.numbers(DType.I8), pads=(1, 0, 1, 1), strides=(2, 1))
        zeros = s.numbers(DType.U8, 3)
        yield cls(s.numbers(DType.I8, 2, 4, 4, 1), s.numbers(DType.U8, 3, 2, 2, 1), None, zeros, dilations=(2, 1))


def _index(k: LoopBuilder, name: str, bound: Operand) -> Operand:
    return k.define(name, bound, DType.INDEX) if isinstance(bound, Expr) else bound


@onnx("MatMulInteger")
def _import_matmul_integer(node: ForeignNode, g: GraphBuilder) -> Value:
    """The zero point of a is one number, that of b may be one for each column."""
    op = MatMulInteger(node.input(0), node.input(1), node.optional(2), node.optional(3), location=node.location)
    return g.add(op, node.name)


@onnx("ConvInteger")
def _import_conv_integer(node: ForeignNode, g: GraphBuilder) -> Value:
    """As Conv, without a bias; the zero point of w may be one for each channel."""
    conv = onnx_convolution(replace(node, inputs=node.inputs[:2]), g)
    zeros = node.optional(2), node.optional(3)
    if len(conv.axes) != 2:
        raise node.unsupported(f"ConvInteger of {len(conv.axes)} spatial dimensions", help="supported are one and two")
    if conv.groups > 1 and zeros[1] is not None and zeros[1].type.elements > 1:
        raise node.unsupported("ConvInteger in groups with a zero point for each channel")
    parts = []
    for part in [conv] if conv.groups == 1 else grouped(conv, g):
        x, geometry = part.bordered(g)
        if x is not part.x and zeros[0] is not None:
            raise node.unsupported("ConvInteger with a padding larger than its window")
        parts.append(g.add(Conv2dInteger(x, part.weights(g, (0, 2, 3, 1)), *zeros, **geometry)))
    joined = parts[0] if len(parts) == 1 else g.add(Concat(tuple(parts), 3, location=node.location))
    return conv.finish(g, joined)
