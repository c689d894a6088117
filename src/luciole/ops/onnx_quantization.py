"""ONNX's QuantizeLinear and DequantizeLinear.

Scales and zero points are operands there; here they belong to the type of an integer tensor. What a model has in uint8
is int8 here, 128 less, between a `as_uint8` and a `as_int8` that disappear where they meet.
"""

from __future__ import annotations

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.ops.activation import Clamp
from luciole.ops.cast import Cast
from luciole.ops.elementwise import Add, Div, Mul, Sub
from luciole.ops.int8 import Annotate, AsInt8, AsUint8
from luciole.ops.onnx_rounding import UNSIGNED_SHIFT
from luciole.ops.quantization import NARROW, Dequantize, Quantize
from luciole.ops.quantization_by_channel import DequantizeChannels, QuantizeChannels
from luciole.ops.tflite_options import axis_of

#: Types of QuantizeLinear's result by ONNX's number, for `output_dtype`. (onnx.proto, message TensorProto.)
_OUTPUT_TYPES = {0: None, 2: DType.U8, 3: DType.I8, 4: DType.U16, 5: DType.I16}


def onnx_quant(node: ForeignNode, scale_index: int, zero_index: int, dtype: DType, axis: int = 0) -> Quant:
    """Scale and zero point that two constant operands give for integers of a type; the zero point may be left out.

    Raises `CompileError` where they do not fit each other or the type.
    """
    scales = node.constant(scale_index)
    if scales.dtype != np.float32:
        raise node.unsupported(f"a scale of {scales.dtype.name}", help="export the model with float32 scales")
    zeros = node.constant(zero_index) if node.optional(zero_index) is not None else np.zeros(scales.shape, dtype.numpy)
    if zeros.dtype != dtype.numpy or zeros.size != scales.size:
        text = f"{scales.size} scales and {zeros.size} zero points of {zeros.dtype.name} for {dtype.numpy.name}"
        raise node.error(f"{node.kind} has {text}")
    if scales.ndim > 1:
        raise node.unsupported(
            f"{node.kind} with a scale for each block", help="quantize with one scale, or one for each channel"
        )
    if not scales.size or not np.all(np.isfinite(scales)) or not np.all(scales > 0):
        raise node.error(f"{node.kind} has a scale that is not positive")
    return Quant(tuple(map(float, scales.reshape(-1))), tuple(map(int, zeros.reshape(-1))), axis)


def shifted(quant: Quant) -> Quant:
    """The quantization of uint8 numbers for the int8 numbers that stand for them."""
    return Quant(quant.scales, tuple(zero - UNSIGNED_SHIFT for zero in quant.zero_points), quant.axis)


def as_int8(node: ForeignNode, g: GraphBuilder, x: Value, quant: Quant) -> Value:
    """An int8 or uint8 tensor as int8, with the quantization that its numbers have."""
    if x.type.dtype is not DType.U8:
        return annotated(node, g, x, quant)
    ours, maker = shifted(quant), x.producer
    if x.data is not None:
        return g.constant(int8_array(x.data), ours, x.name)
    if isinstance(maker, AsUint8) and maker.x.type.quant == ours:
        return maker.x
    return g.add(AsInt8(x, quant=ours, location=node.location), f"{x.name}/int8")


def annotated(node: ForeignNode, g: GraphBuilder, x: Value, quant: Quant) -> Value:
    """Integers with the quantization that they have."""
    if x.type.quant == quant:
        return x
    if x.data is not None:
        return g.constant(x.data, quant, x.name)
    return g.add(Annotate(x, quant=quant, location=node.location), f"{x.name}/annotated")


def int8_array(data: Array) -> Array:
    """int8 or uint8 numbers as int8."""
    return (data.astype(np.int32) - UNSIGNED_SHIFT).astype(np.int8) if data.dtype == np.uint8 else data


def as_stored(node: ForeignNode, g: GraphBuilder, y: Value, dtype: DType) -> Value:
    """An int8 result in the type that the model has: int8 or uint8."""
    return g.add(AsUint8(y, location=node.location), node.name) if dtype is DType.U8 else y


def _refuse_blocks(node: ForeignNode) -> None:
    if node.integer("block_size", 0):
        raise node.unsupported(
            f"{node.kind} with blocks of {node.integer('block_size')}",
            help="quantize with one scale, or one for each channel",
        )


@onnx("QuantizeLinear")
def _import_quantize_linear(node: ForeignNode, g: GraphBuilder) -> Value:
    """To int8, uint8, int16 or uint16, with one scale, or constant ones for each slice along an axis."""
    x = node.input(0)
    _refuse_blocks(node)
    output = node.integer("output_dtype", 0)
    if output not in _OUTPUT_TYPES or node.integer("precision", 0) not in (0, 1):
        raise node.unsupported(f"QuantizeLinear with output_dtype {output}", help="int8, uint8, int16 and uint16 are")
    given = node.optional(2)
    dtype = given.type.dtype if given is not None else _OUTPUT_TYPES[output] or DType.U8
    if dtype not in NARROW or _OUTPUT_TYPES[output] not in (None, dtype):
        raise node.unsupported(f"QuantizeLinear to {dtype.numpy.name}", code="unsupported-type")
    if node.input(1).data is None:
        return _quantized_at_run_time(node, g, x, dtype)
    quant = onnx_quant(node, 1, 2, dtype, _axis(node, x))
    if x.type.dtype is DType.I32:
        x = g.add(Cast(x, DType.F32.value, location=node.location))
    if quant.is_per_channel:
        op = QuantizeChannels(x, to=dtype.value, quant=quant, location=node.location)
        return g.add(op, node.name)
    if dtype is DType.U8:
        op8 = Quantize(x, rounding="onnx", quant=shifted(quant), location=node.location)
        return as_stored(node, g, g.add(op8, f"{node.name}/int8"), dtype)
    return g.add(Quantize(x, rounding="onnx", to=dtype.value, quant=quant, location=node.location), node.name)


@onnx("DequantizeLinear")
def _import_dequantize_linear(node: ForeignNode, g: GraphBuilder) -> Value:
    """From integers of 8, 16 or 32 bits, with one scale, or constant ones for each slice along an axis."""
    x = node.input(0)
    _refuse_blocks(node)
    if x.type.dtype not in (*NARROW, DType.I32):
        raise node.unsupported(f"DequantizeLinear of {x.type.dtype.numpy.name}", code="unsupported-type")
    if node.input(1).data is None:
        return _dequantized_at_run_time(node, g, x)
    quant = onnx_quant(node, 1, 2, x.type.dtype, _axis(node, x))
    if any(quant.zero_points) and x.type.dtype is DType.I32:
        raise node.unsupported("DequantizeLinear of int32 with a zero point")
    is_ours = x.type.dtype is DType.U8 and (x.data is not None or not quant.is_per_channel)
    integers = (as_int8 if is_ours else annotated)(node, g, x, quant)
    kind = DequantizeChannels if quant.is_per_channel else Dequantize
    return g.add(kind(integers, location=node.location), node.name)


def _axis(node: ForeignNode, x: Value) -> int:
    """The axis of slices that have a scale of their own; of no meaning where there is one scale."""
    if node.constant(1).size == 1:
        return 0
    return axis_of(node, node.integer("axis", 1), x.type.rank)


def _scaling_at_run_time(node: ForeignNode, g: GraphBuilder) -> tuple[Value, Value | None]:
    """A scale that is computed at run time, and the zero point, as floats of one element."""
    scale, zero = node.input(1), node.optional(2)
    if scale.type.dtype is not DType.F32 or scale.type.elements != 1 or (zero is not None and zero.type.elements != 1):
        raise node.unsupported(f"{node.kind} with scales that are computed at run time, other than one of float32")
    if zero is None:
        return scale, None
    if zero.data is not None:
        return scale, g.constant(zero.data.astype(np.float32), name=zero.name)
    return scale, g.add(Cast(zero, DType.F32.value, location=node.location))


def _quantized_at_run_time(node: ForeignNode, g: GraphBuilder, x: Value, dtype: DType) -> Value:
    """The quotient rounded to an int16 of scale 1, which holds more than the result does, then moved and limited."""
    if dtype not in (DType.I8, DType.U8):
        raise node.unsupported(f"{node.kind} to {dtype.numpy.name} with a scale that is computed at run time")
    scale, zero = _scaling_at_run_time(node, g)
    quotient = g.add(Div(x, scale, location=node.location))
    whole = g.add(Quantize(quotient, rounding="onnx", to="i16", quant=Quant.per_tensor(1.0), location=node.location))
    moved = g.add(Dequantize(whole, location=node.location))
    if zero is not None:
        moved = g.add(Add(moved, zero, location=node.location))
    low, high = dtype.limits
    limited = g.add(Clamp(moved, float(low), float(high), location=node.location))
    return g.add(Cast(limited, dtype.value, location=node.location), node.name)


def _dequantized_at_run_time(node: ForeignNode, g: GraphBuilder, x: Value) -> Value:
    if x.type.dtype not in (DType.I8, DType.U8):
        raise node.unsupported(f"{node.kind} of {x.type.dtype.numpy.name} with a scale that is computed at run time")
    scale, zero = _scaling_at_run_time(node, g)
    number = g.add(Cast(x, DType.F32.value, location=node.location))
    if zero is not None:
        number = g.add(Sub(number, zero, location=node.location))
    return g.add(Mul(number, scale, location=node.location), node.name)
