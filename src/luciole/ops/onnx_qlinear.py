"""ONNX's operators of quantized tensors, and onnxruntime's: QLinearConv, QLinearMatMul, QLinearAdd and others.

Most are what their names say: the float operator between dequantized operands and a quantized result, which the pass
`fuse_integers` makes one of integers, with the bits of onnxruntime. Sums and products are written as integers at once,
because their float32 arithmetic depends on whether a model has int8 or uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ir.quant import Quant
from luciole.ir.types import DType, Shape
from luciole.ops.activation import LeakyRelu, Logistic
from luciole.ops.concat import Concat
from luciole.ops.elementwise import Add, Mul
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.onnx_options import permuted
from luciole.ops.onnx_quantization import as_int8, as_stored, onnx_quant, shifted
from luciole.ops.pool_rules import quantized_average_pool
from luciole.ops.quantization import Dequantize, Quantize
from luciole.ops.quantization_by_channel import DequantizeChannels
from luciole.ops.reduce import Mean
from luciole.ops.tflite_options import axis_of

_DOMAIN = "com.microsoft"


def _integers(node: ForeignNode, g: GraphBuilder, index: int, axis: int = 0) -> Value:
    """Operand `index`, int8 or uint8, with the scale and zero point that the two operands behind it give, as int8."""
    x = node.input(index)
    if x.type.dtype not in (DType.I8, DType.U8):
        raise node.unsupported(f"{node.kind} of {x.type.dtype.numpy.name}", code="unsupported-type")
    quant = onnx_quant(node, index + 1, index + 2, x.type.dtype, axis)
    if quant.is_per_channel and x.data is None:
        raise node.unsupported(f"{node.kind} of an activation with several scales")
    return as_int8(node, g, x, quant)


def _reals(node: ForeignNode, g: GraphBuilder, index: int, axis: int = 0) -> Value:
    """`_integers` as floats."""
    x = _integers(node, g, index, axis)
    kind = DequantizeChannels if x.type.quant is not None and x.type.quant.is_per_channel else Dequantize
    return g.add(kind(x, location=node.location), f"{x.name}/reals")


def _result(node: ForeignNode, index: int, like: Value) -> tuple[Quant, DType]:
    """Scale, zero point and type of the result: the operands from `index` on; without a zero point the type is that
    of an operand.
    """
    given = node.optional(index + 1)
    dtype = given.type.dtype if given is not None else like.type.dtype
    if dtype not in (DType.I8, DType.U8):
        raise node.unsupported(f"{node.kind} to {dtype.numpy.name}", code="unsupported-type")
    return onnx_quant(node, index, index + 1, dtype), dtype


def _finish(node: ForeignNode, g: GraphBuilder, y: Value, index: int, like: Value) -> Value:
    """A float result quantized by the operands from `index` on."""
    quant, dtype = _result(node, index, like)
    ours = shifted(quant) if dtype is DType.U8 else quant
    op = Quantize(y, rounding="onnx", quant=ours, location=node.location)
    return as_stored(node, g, g.add(op, f"{node.name}/int8" if dtype is DType.U8 else node.name), dtype)


def _as_float(node: ForeignNode, kind: str, *inputs: Value | None) -> ForeignNode:
    """The node of the float operator, whose result gets another name."""
    attributes = {name: value for name, value in node.attributes.items() if name not in ("channels_last", "opset")}
    names = (f"{node.name}/reals", *node.output_names[1:])
    return replace(node, kind=kind, inputs=inputs, output_names=names, attributes=attributes)


def _applied(node: ForeignNode, g: GraphBuilder) -> Value:
    (y,) = onnx.apply(node, g)
    return y


def _bias(node: ForeignNode, g: GraphBuilder, index: int) -> Value | None:
    """The int32 bias that operand `index` is, in units of the product of the scales of operands 0 and 3, as floats."""
    b = node.optional(index)
    if b is None:
        return None
    if b.data is None or b.type.dtype is not DType.I32:
        raise node.unsupported(f"{node.kind} with a bias that is no constant of int32")
    scales = np.float32(node.constant(1).item()) * node.constant(4).reshape(-1)
    quant = Quant(tuple(map(float, scales)), (0,) * len(scales), 0)
    kind = DequantizeChannels if quant.is_per_channel else Dequantize
    return g.add(kind(g.constant(b.data, quant, b.name), location=node.location), f"{b.name}/reals")


@onnx("QLinearConv")
def _import_qlinear_conv(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, w and y's scale and zero point, each operand with its own, and perhaps an int32 bias."""
    x, w = _reals(node, g, 0), _reals(node, g, 3, axis=0)
    bias = _bias(node, g, 8)
    return _finish(node, g, _applied(_as_float(node, "Conv", x, w, bias), g), 6, node.input(0))


@onnx("QLinearMatMul")
def _import_qlinear_matmul(node: ForeignNode, g: GraphBuilder) -> Value:
    """As MatMul; a constant on the right may have a scale for each column."""
    right = node.input(3)
    a, b = _reals(node, g, 0), _reals(node, g, 3, axis=right.type.rank - 1)
    if right.data is not None and right.type.rank == 2:
        product = FullyConnected(a, permuted(node, g, b, (1, 0)), location=node.location)
        return _finish(node, g, g.add(product, f"{node.name}/reals"), 6, node.input(0))
    if min(a.type.rank, b.type.rank) < 2:
        raise node.unsupported("QLinearMatMul of vectors")
    y = g.add(MatMul(a, b, location=node.location), f"{node.name}/reals")
    return _finish(node, g, y, 6, node.input(0))


@onnx(f"{_DOMAIN}:QGemm")
def _import_qgemm(node: ForeignNode, g: GraphBuilder) -> Value:
    """As Gemm with alpha 1; b may have a scale for each column. Without a scale the result is of floats."""
    if node.number("alpha", 1.0) != 1.0:
        raise node.unsupported(f"QGemm with alpha {node.number('alpha')}", help="alpha must be 1")
    axis = 0 if node.integer("transB", 0) else 1
    gemm = _as_float(node, "Gemm", _reals(node, g, 0), _reals(node, g, 3, axis=axis), _bias(node, g, 6))
    if node.optional(7) is None:
        return _applied(replace(gemm, output_names=node.output_names), g)
    return _finish(node, g, _applied(gemm, g), 7, node.input(0))


def _import_binary(node: ForeignNode, g: GraphBuilder, kind: type[Add | Mul]) -> Value:
    """An operand that is one number for each row of the other counts as the second one, as in onnxruntime."""
    first, second = _integers(node, g, 0), _integers(node, g, 3)
    if _is_column(first.type.shape, second.type.shape):
        first, second = second, first
    quant, dtype = _result(node, 6, node.input(0))
    is_unsigned = dtype is DType.U8
    ours = shifted(quant) if is_unsigned else quant
    op = kind(first, second, rounding="onnx", is_unsigned=is_unsigned, quant=ours, location=node.location)
    return as_stored(node, g, g.add(op, f"{node.name}/int8" if is_unsigned else node.name), dtype)


def _is_column(first: Shape, second: Shape) -> bool:
    return (not first or first[-1] == 1) and bool(second) and second[-1] != 1


@onnx(f"{_DOMAIN}:QLinearAdd")
def _import_qlinear_add(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_binary(node, g, Add)


@onnx(f"{_DOMAIN}:QLinearMul")
def _import_qlinear_mul(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_binary(node, g, Mul)


def _last_to_first(node: ForeignNode, g: GraphBuilder, x: Value, function: Callable[[Value], Value]) -> Value:
    """A function of channels first, of x with channels last where `channels_last` says so."""
    if not node.integer("channels_last", 0):
        return function(x)
    rank = x.type.rank
    y = function(permuted(node, g, x, (0, rank - 1, *range(1, rank - 1))))
    return permuted(node, g, y, (0, *range(2, rank), 1))


@onnx(f"{_DOMAIN}:QLinearAveragePool")
def _import_qlinear_average_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """As AveragePool; a window that is all of the tensor gives what QLinearGlobalAveragePool gives."""
    x = node.input(0)
    sizes = x.type.shape[1:-1] if node.integer("channels_last", 0) else x.type.shape[2:]
    if node.integers("kernel_shape") == sizes and not any(node.integers("pads", ())):
        return _global_average(node, g)
    if len(sizes) > 2:
        y = _last_to_first(node, g, _reals(node, g, 0), lambda v: _applied(_as_float(node, "AveragePool", v), g))
        return _finish(node, g, y, 3, x)
    quant, dtype = _result(node, 3, x)
    is_unsigned = dtype is DType.U8
    ours = shifted(quant) if is_unsigned else quant
    numbers = _integers(node, g, 0)
    y = _last_to_first(node, g, numbers, lambda v: quantized_average_pool(node, g, v, ours, is_unsigned=is_unsigned))
    return as_stored(node, g, y, dtype)


@onnx(f"{_DOMAIN}:QLinearGlobalAveragePool")
def _import_qlinear_global_average_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """The mean over all spatial dimensions."""
    return _global_average(node, g)


def _global_average(node: ForeignNode, g: GraphBuilder) -> Value:
    x = _reals(node, g, 0)
    first = 1 if node.integer("channels_last", 0) else 2
    if x.type.rank < 3:
        raise node.error(f"{node.kind} of {x.type}, which has no spatial dimensions")
    axes = tuple(range(first, first + x.type.rank - 2))
    y = g.add(Mean(x, axes, keep_dims=True, location=node.location), f"{node.name}/reals")
    return _finish(node, g, y, 3, node.input(0))


@onnx(f"{_DOMAIN}:QLinearSigmoid")
def _import_qlinear_sigmoid(node: ForeignNode, g: GraphBuilder) -> Value:
    y = g.add(Logistic(_reals(node, g, 0), location=node.location), f"{node.name}/reals")
    return _finish(node, g, y, 3, node.input(0))


@onnx(f"{_DOMAIN}:QLinearLeakyRelu")
def _import_qlinear_leaky_relu(node: ForeignNode, g: GraphBuilder) -> Value:
    op = LeakyRelu(_reals(node, g, 0), alpha=node.number("alpha", 0.01), location=node.location)
    return _finish(node, g, g.add(op, f"{node.name}/reals"), 3, node.input(0))


@onnx(f"{_DOMAIN}:QLinearSoftmax")
def _import_qlinear_softmax(node: ForeignNode, g: GraphBuilder) -> Value:
    """As Softmax of opset 13."""
    if node.integer("opset", 13) < 13:
        raise node.unsupported("QLinearSoftmax with the meaning before opset 13")
    y = _applied(_as_float(node, "Softmax", _reals(node, g, 0)), g)
    return _finish(node, g, y, 3, node.input(0))


@onnx(f"{_DOMAIN}:QLinearConcat")
def _import_qlinear_concat(node: ForeignNode, g: GraphBuilder) -> Value:
    """The result's scale and zero point come first, then each tensor with its own."""
    if len(node.inputs) < 5 or len(node.inputs) % 3 != 2:
        raise node.error(f"QLinearConcat has {len(node.inputs)} operands; it takes 2, and 3 for each tensor")
    parts = tuple(_reals(node, g, index) for index in range(2, len(node.inputs), 3))
    axis = axis_of(node, node.integer("axis"), parts[0].type.rank)
    y = g.add(Concat(parts, axis, location=node.location), f"{node.name}/reals")
    return _finish(node, g, y, 0, node.input(2))
