"""Products of matrices: with constant weights (`fully_connected`), and of two activations (`matmul`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, Shape, TensorType, broadcast_shapes
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common
from luciole.ops.common import Requantizer
from luciole.ops.elementwise import Add, Mul
from luciole.ops.onnx_options import is_weights, permuted
from luciole.ops.reshape import Reshape, reshaped
from luciole.ops.tflite_options import check_weights, fused_activation, input_of_rank
from luciole.ops.weighted import WeightedSum, once


@operator("fully_connected")
class FullyConnected(Operator):
    """y[..., n] = act(b[n] + sum over k of x[..., k] * w[n, k]).

    w is [N, K], b is [N] or absent. int8: weights symmetric, per tensor or per row; b is int32 in units of x.scale *
    w.scale; the sum is requantized to the result's scale.
    """

    x: Value
    w: Value
    b: Value | None = None
    activation: str = "none"
    rounding: Rounding = "tflite"

    def infer(self) -> TensorType:
        x, w = self.x.type, self.w.type
        if x.rank < 1 or w.rank != 2:
            raise self.error("x must have an axis, and w two")
        if x.shape[-1] != w.shape[1]:
            raise self.error(f"x has rows of {x.shape[-1]} elements, w takes {w.shape[1]}")
        if x.dtype is not w.dtype or x.dtype not in (*common.FLOATS, DType.I8):
            raise self.error("x and w must both be f32, both f64, or both i8", "unsupported-types")
        common.check_bias(self, self.b, w.shape[0])
        common.check_activation(self, self.activation)
        return TensorType(x.dtype, (*x.shape[:-1], w.shape[0]), self.quant)

    def macs(self) -> int:
        return self.infer().elements * self.w.type.shape[1]

    def compute(self, x: Array, w: Array, b: Array | None) -> Array:
        if common.is_int8(self.x):
            return self.sums().compute(common.exact_matmul(x.astype(np.int64) - self.sums().zero_point, w.T))
        product = x @ w.T
        return common.float_activation_array(self.activation, product if b is None else product + b).astype(x.dtype)

    @once
    def sums(self) -> WeightedSum:
        """The sums of products; the zero point of x is in the bias."""
        return WeightedSum(self, self.x, self.w, self.b, 0, self.activation, self.rounding, True)

    def parameters(self) -> dict[str, Array]:
        return self.sums().parameters()

    def kernel_operands(self) -> tuple[str, ...]:
        return self.sums().operands()

    def kernel_shapes(self) -> dict[str, Shape]:
        rows = math.prod(self.x.type.shape[:-1])
        return {"x": (rows, self.w.type.shape[1]), "y": (rows, self.w.type.shape[0])}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """A few outputs are summed side by side, so that each input element is loaded once for them."""
        rows, count = v.y.shape
        tile, sums = common.channel_tile(count), self.sums()
        with k.loop("row", rows) as row, k.loop("n", 0, count, tile) as n:
            totals = [k.define(f"sum{j}", sums.initial(v, n + j)) for j in range(tile)]
            with k.loop("k", v.x.shape[1]) as i:
                value = sums.term(v.x[row, i])
                for j, total in enumerate(totals):
                    total += value * common.widened(v.w[n + j, i])
            for j, total in enumerate(totals):
                v.y[row, n + j] = sums.finish(v, total, n + j)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 7), s.f32_weights(5, 7), s.f32_weights(5), activation="relu")
        yield cls(s.f32(3), s.f32_weights(1, 3))
        yield cls(s.f64(2, 7), s.f64(5, 7), s.f64(5), activation="relu")
        yield cls(s.i8(1, 9, zero=-128), s.i8_weights(6, 9, axis=None), s.i32_bias(6), quant=s.quant(0.15, 12))
        yield cls(
            s.i8(2, 3, 8, zero=127), s.i8_weights(8, 8), s.i32_bias(8), activation="relu6", quant=s.quant(0.03, -128)
        )
        yield cls(s.i8(5, 1), s.constant(np.array([[1], [-2], [0]], np.int8), s.quant(0.8)), quant=s.quant(0.05, -1))
        yield cls(s.i8(1, 20, zero=4), s.i8_weights(7, 20), s.i32_bias(7), rounding="tflite-single", quant=s.quant(0.2))
        yield cls(s.i8(2, 20, zero=4), s.i8_weights(6, 20), s.i32_bias(6), rounding="onnx", quant=s.quant(0.1))


@operator("matmul")
class MatMul(Operator):
    """y[..., i, j] = sum over p of a[..., i, p] * b[..., p, j]; leading axes broadcast.

    int8: zero points of both operands are subtracted, the sum is requantized to the result's scale.
    """

    a: Value
    b: Value
    rounding: Rounding = "tflite"

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if a.rank < 2 or b.rank < 2:
            raise self.error("a and b must have two axes at least")
        if a.shape[-1] != b.shape[-2]:
            raise self.error(f"a has rows of {a.shape[-1]} elements, b has columns of {b.shape[-2]}")
        if a.dtype is not b.dtype or a.dtype not in (*common.FLOATS, DType.I8):
            raise self.error("a and b must both be f32, both f64, or both i8", "unsupported-types")
        try:
            batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError as problem:
            raise self.error(str(problem)) from None
        return TensorType(a.dtype, (*batch, a.shape[-2], b.shape[-1]), self.quant)

    def macs(self) -> int:
        return self.infer().elements * self.a.type.shape[-1]

    def compute(self, a: Array, b: Array) -> Array:
        if not common.is_int8(self.a):
            return np.asarray(a @ b, a.dtype)
        left, right = (common.operand_quant(self, v).zero_point for v in (self.a, self.b))
        accumulator = common.exact_matmul(a.astype(np.int64) - left, b.astype(np.int64) - right)
        return self.requantizer().compute(accumulator).astype(np.int8)

    def requantizer(self) -> Requantizer:
        """How the int32 sums become the result."""
        a, b = common.operand_quant(self, self.a), common.operand_quant(self, self.b)
        quant = common.result_quant(self)
        multiplier = arithmetic.convolution_multiplier(a.scale, b.scale, quant.scale, self.rounding)
        bound = self.a.type.shape[-1] * common.reach(a) * common.reach(b)
        return Requantizer((multiplier,), quant.zero_point, -128, 127, self.rounding, bound)

    def kernel_shapes(self) -> dict[str, Shape]:
        """All operands with the rank of the result."""
        rank = self.infer().rank
        return {n: (1,) * (rank - v.type.rank) + v.type.shape for n, v in self.named_operands()}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """A few columns are summed side by side, so that each element of a is loaded once for them."""
        *batch, rows, columns = v.y.shape
        tile = common.channel_tile(columns)
        with k.nest("n", *batch) as outer:
            a, b = (
                tuple(0 if size == 1 else i for size, i in zip(view.shape, outer, strict=False)) for view in (v.a, v.b)
            )
            with k.loop("i", rows) as i, k.loop("j", 0, columns, tile) as j:
                zero = 0 if common.is_int8(self.a) else common.float_zero(self.a.type.dtype)
                sums = [k.define(f"sum{t}", zero) for t in range(tile)]
                with k.loop("p", v.a.shape[-1]) as p:
                    value = common.centered(self, self.a, v.a[(*a, i, p)])
                    for t, total in enumerate(sums):
                        total += value * common.centered(self, self.b, v.b[(*b, p, j + t)])
                for t, total in enumerate(sums):
                    is_int8 = common.is_int8(self.a)
                    result = self.requantizer().emit_constant(total).cast(DType.I8) if is_int8 else total
                    v.y[(*outer, i, j + t)] = result

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 5), s.f32(5, 4))
        yield cls(s.f32(2, 1, 2, 3), s.f32(3, 3, 1))
        yield cls(s.f64(3, 5), s.f64(2, 5, 4))
        yield cls(s.i8(2, 3, 6, zero=-7), s.i8(2, 6, 4, zero=100), quant=s.quant(1.0, 3))
        yield cls(s.i8(2, 2, scale=0.9), s.i8(2, 3, scale=0.9, zero=-128), quant=s.quant(300.0, -9))


@tflite("FULLY_CONNECTED")
def _import_fully_connected(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, w and perhaps b. Unless `keep_num_dims`, TFLite takes x as rows as long as those of w."""
    x, w = node.input(0), input_of_rank(node, 1, 2)
    check_weights(node, 0)
    node.choice("weights_format", {"DEFAULT": "default"}, "DEFAULT")
    row = w.type.shape[1]
    if not (node.boolean("keep_num_dims", False) or x.type.rank == 2):
        if row < 1 or x.type.elements % row:
            raise node.error(f"x has {x.type.elements} elements, which are no rows of {row}")
        x = g.add(Reshape(x, (x.type.elements // row, row), location=node.location), f"{node.name}/rows")
    op = FullyConnected(
        x,
        w,
        node.optional(2),
        activation=fused_activation(node),
        quant=node.output_type.quant,
        location=node.location,
    )
    return g.add(op, node.name)


@onnx("Gemm")
def _import_gemm(node: ForeignNode, g: GraphBuilder) -> Value:
    """alpha * a @ b + beta * c, with a and b transposed where `transA` and `transB` say so.

    A constant b is the weights of `fully_connected`, and takes alpha; a constant c of a row is its bias.
    """
    a, b, c = input_of_rank(node, 0, 2), input_of_rank(node, 1, 2), node.optional(2)
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if node.integer("transA", 0):
        a = permuted(node, g, a, (1, 0))
    if is_weights(b) and alpha == 1.0:
        w = b if node.integer("transB", 0) else permuted(node, g, b, (1, 0))
        is_bias = c is not None and beta == 1.0 and c.type.shape == w.type.shape[:1]
        y = g.add(FullyConnected(a, w, c if is_bias else None, location=node.location), node.name)
        return y if is_bias else _plus(node, g, y, c, beta)
    if b.data is None:
        if node.integer("transB", 0):
            b = permuted(node, g, b, (1, 0))
        product = g.add(MatMul(a, b, location=node.location), f"{node.name}/product")
        return _plus(node, g, _scaled(node, g, product, alpha), c, beta)
    weights = b.data if node.integer("transB", 0) else b.data.T
    w = g.constant(np.ascontiguousarray(weights * np.float32(alpha)).astype(weights.dtype), name=b.name)
    is_row = c is not None and c.type.elements in (1, w.type.shape[0]) and all(n == 1 for n in c.type.shape[:-1])
    if c is None or c.data is None or not is_row:
        product = g.add(FullyConnected(a, w, location=node.location), f"{node.name}/product")
        return _plus(node, g, product, c, beta)
    bias = np.broadcast_to((c.data * np.float32(beta)).astype(c.data.dtype).reshape(-1), weights.shape[:1])
    return g.add(FullyConnected(a, w, g.constant(bias.copy(), name=c.name), location=node.location), node.name)


def _scaled(node: ForeignNode, g: GraphBuilder, x: Value, factor: float) -> Value:
    """x * factor"""
    if factor == 1.0:
        return x
    if x.data is not None:
        return g.constant((x.data * np.float32(factor)).astype(x.data.dtype), name=x.name)
    return g.add(Mul(x, g.constant(np.array(factor, np.float32)), location=node.location), f"{node.name}/scaled")


def _plus(node: ForeignNode, g: GraphBuilder, x: Value, c: Value | None, beta: float) -> Value:
    """x + beta * c"""
    if c is None or beta == 0.0:
        return x
    return g.add(Add(x, _scaled(node, g, c, beta), location=node.location), node.name)


@onnx("MatMul")
def _import_onnx_matmul(node: ForeignNode, g: GraphBuilder) -> Value:
    """As numpy's matmul. A constant matrix on the right is the weights of `fully_connected`."""
    a, b = node.input(0), node.input(1)
    if not a.type.rank or not b.type.rank:
        raise node.error("MatMul of a scalar")
    if is_weights(b) and b.type.rank == 2:
        return g.add(FullyConnected(a, permuted(node, g, b, (1, 0)), location=node.location), node.name)
    if b.data is not None and b.type.rank == 2:
        w = g.constant(np.ascontiguousarray(b.data.T), name=b.name)
        return g.add(FullyConnected(a, w, location=node.location), node.name)
    left = a if a.type.rank > 1 else reshaped(node, g, a, (1, *a.type.shape))
    right = b if b.type.rank > 1 else reshaped(node, g, b, (*b.type.shape, 1))
    y = g.add(MatMul(left, right, location=node.location), node.name)
    shape = y.type.shape[:-2] + y.type.shape[-2:-1] * (a.type.rank > 1) + y.type.shape[-1:] * (b.type.rank > 1)
    return y if shape == y.type.shape else reshaped(node, g, y, shape)
