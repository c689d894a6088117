"""Float operators between a dequantization and a quantization become operators of integers.

Models quantized by other tools say in floats what is meant in integers: each operator's operands are dequantized, and
its result is quantized. Here the three become one:

    %a = dequantize(%x)
    %b = conv2d(%a, %w)            ->        %y = conv2d(%x, %v) : i8
    %y = quantize(%b) : i8

Sums of products are rounded once, as onnxruntime does (rounding `onnx`). Functions of one tensor, however many
operators they are, become a table, whose entries are what the floats would have given. Results differ from those of
the floats by one in the last place at most.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from luciole.errors import CompileError
from luciole.graph.core import Elementwise, Graph, Operator, Value
from luciole.graph.rewrite import rule
from luciole.ir.arithmetic import Rounding
from luciole.ir.fixed_point import SOFTMAX_OUTPUT
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.int8 import Annotate, AsInt8, AsUint8, Lookup
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.quantization import Dequantize, Quantize
from luciole.ops.quantization_by_channel import DequantizeChannels
from luciole.ops.reduce import Mean
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.softmax import Softmax
from luciole.ops.transpose import Transpose
from luciole.passes.manager import rules_pass

ROUNDING: Rounding = "onnx"

#: No bias is greater in magnitude: int32 has room left for the sum.
_GREATEST_BIAS = float(1 << 29)

#: A function of one tensor has so many operators at most.
_LONGEST_FUNCTION = 16

#: The axis along which output channels lie in weights.
_CHANNEL_AXES: dict[type[Operator], int] = {Conv2d: 0, DepthwiseConv2d: 3, FullyConnected: 0}

Weighted = Conv2d | DepthwiseConv2d | FullyConnected
Mover = Reshape | Slice | Transpose
_NUMBERS = np.arange(-128, 128).astype(np.int8)


# --- moving dequantization down ---------------------------------------------------------------------------------------


@rule(Reshape, Slice, Transpose)
def lift_moves(op: Mover, graph: Graph) -> Operator | None:
    """transpose(dequantize(x)) -> dequantize(transpose(x))

    for all operators that only move elements. Where x is a constant with a scale for each slice, its axis moves along.
    """
    made = op.x.producer
    if not isinstance(made, Dequantize | DequantizeChannels):
        return None
    source = made.x
    if source.data is not None:
        quant = _moved_quant(op, source.type.quant)
        if quant is None:
            return None
        moved = graph.add_constant(np.ascontiguousarray(op.compute(source.data)), quant, source.name)
        kind = DequantizeChannels if quant.is_per_channel else Dequantize
        return kind(moved, location=made.location)
    if not isinstance(made, Dequantize):
        return None
    (inner,) = graph.add(replace(op, x=source), (f"{graph.result(op).name}/integers",), before=op)
    return Dequantize(inner, location=made.location)


def _moved_quant(op: Mover, quant: Quant | None) -> Quant | None:
    """The quantization of a constant after a move, where slices along its axis stay slices."""
    if quant is None or not quant.is_per_channel:
        return quant
    old, axis = op.x.type.shape, quant.axis
    if isinstance(op, Transpose):
        return replace(quant, axis=op.permutation.index(axis))
    if isinstance(op, Slice):
        begin, size, step = op.begin[axis], op.size[axis], op.strides[axis]
        where = [begin + i * step for i in range(size)]
        return Quant(tuple(quant.scales[i] for i in where), tuple(quant.zero_points[i] for i in where), axis)
    for new_axis in range(len(op.shape)):
        kept = op.shape[new_axis] == old[axis] and math.prod(op.shape[:new_axis]) == math.prod(old[:axis])
        if kept and math.prod(op.shape[new_axis:]) == math.prod(old[axis:]):
            return replace(quant, axis=new_axis)
    return None


@rule(Reshape, Slice, Transpose)
def lift_moves_of_unsigned(op: Mover, graph: Graph) -> Operator | None:
    """transpose(as_uint8(x)) -> as_uint8(transpose(x))    for all operators that only move elements."""
    made = op.x.producer
    if not isinstance(made, AsUint8):
        return None
    (inner,) = graph.add(replace(op, x=made.x), (f"{graph.result(op).name}/int8",), before=op)
    return AsUint8(inner, location=made.location)


@rule(AsInt8)
def drop_unsigned(op: AsInt8, graph: Graph) -> Operator | Value | None:
    """as_int8(as_uint8(x)) -> x    annotated, where it stands for other reals."""
    made = op.x.producer
    if not isinstance(made, AsUint8):
        return None
    return made.x if made.x.type.quant == op.quant else Annotate(made.x, quant=op.quant, location=op.location)


@rule(Quantize)
def sink_moves(op: Quantize, graph: Graph) -> Operator | None:
    """quantize(transpose(x)) -> transpose(quantize(x))

    for all operators that only move elements, when nobody else reads their result.
    """
    made = _only_read(op, graph)
    if not isinstance(made, Reshape | Slice | Transpose) or made.x.data is not None:
        return None
    (inner,) = graph.add(replace(op, x=made.x), (f"{graph.result(op).name}/integers",), before=op)
    return replace(made, x=inner)


@rule(MaxPool2d)
def lift_max_pool(op: MaxPool2d, graph: Graph) -> Operator | None:
    """max_pool2d(dequantize(x)) -> dequantize(max_pool2d(x))    without an activation."""
    source = _integers(op.x)
    if source is None or op.activation != "none":
        return None
    (inner,) = graph.add(replace(op, x=source), (f"{graph.result(op).name}/integers",), before=op)
    return Dequantize(inner, location=op.location)


@rule(Pad)
def lift_pad(op: Pad, graph: Graph) -> Operator | None:
    """pad(dequantize(x), value) -> dequantize(pad(x, value))    when x has a number for the value."""
    source = _integers(op.x)
    if source is None or source.type.quant is None:
        return None
    quant = source.type.quant
    number = op.value / quant.scale + quant.zero_point
    if abs(number - round(number)) > 1e-5 or not -128 <= round(number) <= 127:
        return None
    (inner,) = graph.add(replace(op, x=source), (f"{graph.result(op).name}/integers",), before=op)
    return Dequantize(inner, location=op.location)


# --- operators between dequantize and quantize ------------------------------------------------------------------------


@rule(Quantize)
def fuse_weighted(op: Quantize, graph: Graph) -> Operator | None:
    """quantize(conv2d(dequantize(x), dequantize(w), dequantize(b))) -> conv2d(x, w, b)

    when nobody else reads the sum, w is constant and symmetric int8, and b is constant; for depthwise_conv2d and
    fully_connected too.
    """
    made = _only_read(op, graph)
    if not isinstance(made, Conv2d | DepthwiseConv2d | FullyConnected):
        return None
    x, weights = _integers(made.x), _weights(made)
    if x is None or x.type.quant is None or weights is None:
        return None
    data, quant, name = weights
    b = None
    if made.b is not None:
        bias = _bias(made.b, x.type.quant, quant, data.shape[quant.axis])
        if bias is None:
            return None
        b = graph.add_constant(bias, name=made.b.name)
    w = graph.add_constant(data, quant, name)
    return replace(made, x=x, w=w, b=b, rounding=ROUNDING, quant=op.quant)


def _weights(op: Weighted) -> tuple[Array, Quant, str] | None:
    """The symmetric int8 weights of an operator, with one scale or one for each output channel, and their name."""
    source, axis = _constant_integers(op.w), _CHANNEL_AXES[type(op)]
    if source is None or source.type.dtype is not DType.I8 or source.type.quant is None or source.data is None:
        return None
    quant = source.type.quant
    if quant.is_per_channel and quant.axis != axis:
        return None
    shape = [1] * source.type.rank
    shape[quant.axis if quant.is_per_channel else 0] = len(quant.zero_points)
    centered = source.data.astype(np.int32) - np.array(quant.zero_points, np.int32).reshape(shape)
    if centered.min(initial=0) < -128 or centered.max(initial=0) > 127:
        return None
    return centered.astype(np.int8), Quant(quant.scales, (0,) * len(quant.scales), axis), source.name


def _bias(b: Value, x: Quant, w: Quant, channels: int) -> Array | None:
    """A constant bias as int32 in units of the product of both scales."""
    units = np.float32(x.scale) * np.broadcast_to(np.array(w.scales, np.float32), (channels,))
    source = _constant_integers(b)
    if source is not None and source.type.dtype is DType.I32 and source.data is not None and source.type.quant:
        given = np.broadcast_to(np.array(source.type.quant.scales, np.float32), (channels,))
        if np.allclose(given, units, rtol=1e-5, atol=0.0):
            return source.data
    reals = _constant_reals(b)
    if reals is None:
        return None
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        numbers = np.rint(reals.astype(np.float64) / units)
    return numbers.astype(np.int32) if np.all(np.abs(numbers) <= _GREATEST_BIAS) else None


@rule(Quantize)
def fuse_binary(op: Quantize, graph: Graph) -> Operator | None:
    """quantize(add(dequantize(a), dequantize(b))) -> add(a, b)

    when nobody else reads the sum; for sub, mul and matmul too. A constant of one number needs no scale of its own.
    """
    made = _only_read(op, graph)
    if not isinstance(made, Add | Sub | Mul | MatMul) or op.quant is None:
        return None
    a, b = (_integers_or_number(value, graph) for value in (made.a, made.b))
    if a is None or b is None:
        return None
    found = replace(made, a=a, b=b, rounding=ROUNDING, quant=op.quant)
    if not isinstance(found, MatMul):
        found = replace(found, is_unsigned=_is_unsigned(op, graph, a, b))
    try:
        found.parameters()
    except CompileError:  # scales too far apart
        return None
    return found


def _integers_or_number(value: Value, graph: Graph) -> Value | None:
    if value.data is None or value.type.elements != 1 or value.type.dtype is not DType.F32:
        return _integers(value)
    number = float(value.data.reshape(-1)[0])
    if not math.isfinite(number):
        return None
    data = np.full(value.type.shape, np.sign(number)).astype(np.int8)
    return graph.add_constant(data, Quant.per_tensor(abs(number) or 1.0), value.name)


@rule(Quantize)
def fuse_mean(op: Quantize, graph: Graph) -> Operator | None:
    """quantize(mean(dequantize(x))) -> mean(x)    when nobody else reads the mean."""
    made = _only_read(op, graph)
    if not isinstance(made, Mean):
        return None
    x = _integers(made.x)
    return None if x is None else replace(made, x=x, rounding=ROUNDING, quant=op.quant)


@rule(Quantize)
def fuse_average_pool(op: Quantize, graph: Graph) -> Operator | None:
    """quantize(average_pool2d(dequantize(x))) -> average_pool2d(x)    when nobody else reads the average.

    A window that is all of x gives a mean, as in onnxruntime.
    """
    made = _only_read(op, graph)
    if not isinstance(made, AveragePool2d) or op.quant is None:
        return None
    x = _integers(made.x)
    if x is None:
        return None
    if made.size == x.type.shape[1:3] and not made.window.has_padding and made.activation == "none":
        return Mean(x, (1, 2), keep_dims=True, rounding=ROUNDING, quant=op.quant, location=made.location)
    is_unsigned = _is_unsigned(op, graph, x)
    found = replace(made, x=x, rounding=ROUNDING, is_unsigned=is_unsigned, quant=op.quant)
    try:
        found.infer()
    except CompileError:  # scales too far apart
        return None
    return found


@rule(Quantize)
def fuse_concat(op: Quantize, graph: Graph) -> Operator | None:
    """quantize(concat([dequantize(x), y, ...])) -> concat([rescaled x, quantize(y), ...])

    when nobody else reads it.
    """
    made = _only_read(op, graph)
    if not isinstance(made, Concat) or op.quant is None:
        return None
    parts = []
    for value in made.xs:
        source = _integers(value)
        if source is None:
            (part,) = graph.add(replace(op, x=value), (f"{value.name}/integers",), before=op)
        else:
            part = _rescaled(source, op.quant, op, graph)
        parts.append(part)
    return replace(made, xs=tuple(parts))


def _rescaled(x: Value, quant: Quant, op: Quantize, graph: Graph) -> Value:
    """Integers in another quantization, rounded as `op` does it."""
    if x.type.quant == quant:
        return x
    entries = op.compute(Dequantize(x).compute(_NUMBERS))
    if x.data is not None:
        return graph.add_constant(entries[x.data.astype(np.int32) + 128], quant, x.name)
    lookup = Lookup(x, tuple(map(int, entries)), quant=quant, location=op.location)
    (scaled,) = graph.add(lookup, (f"{x.name}/rescaled",), before=op)
    return scaled


@rule(Quantize)
def fuse_softmax(op: Quantize, graph: Graph) -> Operator | None:
    """quantize(softmax(dequantize(x))) -> lookup(softmax(x))    when nobody else reads it."""
    made = _only_read(op, graph)
    if not isinstance(made, Softmax) or op.quant is None:
        return None
    x = _integers(made.x)
    if x is None:
        return None
    found = replace(made, x=x, quant=SOFTMAX_OUTPUT)
    try:
        found.infer()
    except CompileError:  # rows too long
        return None
    if op.quant == SOFTMAX_OUTPUT:
        return found
    (y,) = graph.add(found, (f"{graph.result(op).name}/probabilities",), before=op)
    entries = op.compute(Dequantize(y).compute(_NUMBERS))
    return Lookup(y, tuple(map(int, entries)), quant=op.quant, location=op.location)


@rule(Quantize)
def tabulate(op: Quantize, graph: Graph) -> Operator | Value | None:
    """quantize(f(dequantize(x))) -> lookup(x)    for elementwise f of one int8 tensor and constants of one number."""
    if op.rounding != ROUNDING or op.to != "i8" or op.quant is None:
        return None
    operators = _function_of_one(op)
    if operators is None:
        return None
    ((source, body),) = operators.items()
    arrays: dict[Value, Array] = {source: _NUMBERS}
    with np.errstate(all="ignore"):
        for inner in body:
            fields = [getattr(inner, name) for name in inner.operand_fields]
            given = [
                None if v is None else arrays[v] if v in arrays else np.asarray(v.data).reshape(-1) for v in fields
            ]
            arrays[graph.result(inner)] = inner.compute(*given)
    entries = op.compute(arrays[op.x])
    if source.type.quant == op.quant and np.array_equal(entries, _NUMBERS):
        return source
    return Lookup(source, tuple(map(int, entries)), quant=op.quant, location=body[-1].location)


def _function_of_one(op: Quantize) -> dict[Value, list[Operator]] | None:
    """The int8 tensor that an operand depends on alone, and the operators in between in order."""
    shape, body, sources = op.x.type.shape, dict[Operator, None](), dict[Value, None]()

    def visit(value: Value) -> bool:
        made = value.producer
        if value.data is not None:
            return value.type.elements == 1
        if made is None or value.type.shape != shape or len(body) > _LONGEST_FUNCTION:
            return False
        if made in body:
            return True
        if isinstance(made, Dequantize) and made.x.type.dtype is DType.I8 and made.x.data is None:
            sources[made.x] = None
        elif not _is_plain(made) or not all(map(visit, made.operands)):
            return False
        body[made] = None
        return True

    if not visit(op.x) or len(sources) != 1:
        return None
    (source,) = sources
    return {source: list(body)}


def _is_plain(op: Operator) -> bool:
    """Whether an operator is elementwise, of operands that are fields of their own."""
    fields = [getattr(op, name) for name in op.operand_fields]
    return isinstance(op, Elementwise) and bool(op.operands) and not any(isinstance(field, tuple) for field in fields)


# --- looking at operands ----------------------------------------------------------------------------------------------


def _only_read(op: Quantize, graph: Graph) -> Operator | None:
    """What makes the operand of a quantization to int8 that nobody else reads."""
    if op.rounding != ROUNDING or op.to != "i8" or graph.use_count(op.x) > 1:
        return None
    return op.x.producer


def _is_unsigned(op: Quantize, graph: Graph, *operands: Value) -> bool:
    """Whether onnxruntime computes an operator between int8 operands and a quantization with uint8 numbers.

    On x86 it makes uint8 of the int8 tensors that a model quantizes and dequantizes itself, but not of those that it
    takes from its caller or gives to it.
    """
    return not _is_returned(graph.result(op), graph) and not any(map(_is_given, operands))


def _is_given(value: Value) -> bool:
    """Whether an int8 tensor is an input of the model, or a part of one."""
    while isinstance(value.producer, Reshape | Slice | Transpose | Annotate):
        value = value.producer.x
    return value.producer is None and not value.is_constant


def _is_returned(value: Value, graph: Graph) -> bool:
    """Whether an int8 tensor, or a part of it, is an output of the model."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if graph.is_output(current):
            return True
        waiting += [graph.result(user) for user in current.users if isinstance(user, Reshape | Slice | Transpose)]
    return False


def _integers(value: Value) -> Value | None:
    """The int8 tensor with one scale that a float tensor is made of."""
    made = value.producer
    if not isinstance(made, Dequantize) or made.x.type.dtype is not DType.I8:
        return None
    return made.x


def _constant_integers(value: Value) -> Value | None:
    made = value.producer
    return made.x if isinstance(made, Dequantize | DequantizeChannels) and made.x.is_constant else None


def _constant_reals(value: Value) -> Array | None:
    """The numbers of a float constant, also of a quantized one."""
    if value.data is not None:
        return value.data
    source, made = _constant_integers(value), value.producer
    return None if source is None or source.data is None or made is None else made.compute(source.data)


FUSE_INTEGERS = rules_pass(
    "fuse_integers",
    "Make float operators between a dequantization and a quantization operators of integers.",
    [
        lift_moves,
        lift_moves_of_unsigned,
        drop_unsigned,
        sink_moves,
        lift_max_pool,
        lift_pad,
        fuse_weighted,
        fuse_binary,
        fuse_mean,
        fuse_average_pool,
        fuse_concat,
        fuse_softmax,
        tabulate,
    ],
)
