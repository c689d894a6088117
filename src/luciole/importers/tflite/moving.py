"""TFLite operators that move elements, tell where they are, or make tensors of constants."""

from __future__ import annotations

from math import prod

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, tflite
from luciole.ir.types import DType
from luciole.ops.cast import Cast
from luciole.ops.concat import Concat
from luciole.ops.onnx_options import permuted
from luciole.ops.pad import Pad
from luciole.ops.ranking import ArgMax, ArgMin, RunningSum
from luciole.ops.reshape import reshaped
from luciole.ops.slice import Slice
from luciole.ops.tflite_options import axis_of


@tflite("PACK")
def _import_pack(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands of one shape, one after the other along a new axis."""
    xs = [node.input(index) for index in range(len(node.inputs))]
    shape = xs[0].type.shape
    axis = axis_of(node, node.integer("axis", 0), len(shape) + 1)
    if any(x.type.shape != shape for x in xs):
        raise node.error("PACK of different shapes")
    parts = tuple(reshaped(node, g, x, (*shape[:axis], 1, *shape[axis:])) for x in xs)
    return g.add(Concat(parts, axis, location=node.location), node.name)


@tflite("UNPACK")
def _import_unpack(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """x cut along an axis, which disappears, into slices of one element."""
    x = node.input(0)
    axis, shape = axis_of(node, node.integer("axis", 0), x.type.rank), x.type.shape
    if len(node.output_types) != shape[axis]:
        raise node.error(f"UNPACK of {x.type} along axis {axis} into {len(node.output_types)} parts")
    rest = (*shape[:axis], *shape[axis + 1 :])
    size = (*shape[:axis], 1, *shape[axis + 1 :])
    results = []
    for index in range(shape[axis]):
        begin = tuple(index if i == axis else 0 for i in range(x.type.rank))
        results.append(reshaped(node, g, g.add(Slice(x, begin, size, location=node.location)), rest))
    return tuple(results)


@tflite("ARG_MAX", "ARG_MIN")
def _import_arg_extremum(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is the axis, which disappears; of equal elements the first one counts."""
    x, axes = node.input(0), node.constant_integers(1)
    if len(axes) != 1:
        raise node.error(f"{node.kind} along {len(axes)} axes")
    axis, kind = axis_of(node, axes[0], x.type.rank), ArgMax if node.kind == "ARG_MAX" else ArgMin
    found = g.add(kind(x, axis, location=node.location))
    if node.output_type.dtype is not DType.I64:
        found = g.add(Cast(found, node.output_type.dtype.value, location=node.location))
    return reshaped(node, g, found, (*x.type.shape[:axis], *x.type.shape[axis + 1 :]))


@tflite("CUMSUM")
def _import_cumsum(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is the axis; of floats or plain integers."""
    x, axes = node.input(0), node.constant_integers(1)
    if len(axes) != 1:
        raise node.error(f"CUMSUM along {len(axes)} axes")
    axis = axis_of(node, axes[0], x.type.rank)
    exclusive, backward = node.boolean("exclusive", False), node.boolean("reverse", False)
    op = RunningSum(x, axis, exclusive=exclusive, backward=backward, location=node.location)
    return g.add(op, node.name)


@tflite("REVERSE_V2")
def _import_reverse(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand holds the axes along which the last element comes first."""
    x, shape = node.input(0), node.input(0).type.shape
    axes = {axis_of(node, axis, x.type.rank) for axis in node.constant_integers(1)}
    begin = tuple(size - 1 if axis in axes else 0 for axis, size in enumerate(shape))
    strides = tuple(-1 if axis in axes else 1 for axis in range(x.type.rank))
    return g.add(Slice(x, begin, shape, strides, location=node.location), node.name)


@tflite("SPACE_TO_BATCH_ND")
def _import_space_to_batch(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, the sizes of a block, and paddings of x in pairs; positions within a block become images."""
    x, block = node.input(0), node.constant_integers(1)
    pairs = _pairs(node, x, block)
    before, after = ((0, *side, *(0,) * (x.type.rank - 1 - len(block))) for side in zip(*pairs, strict=True))
    padded = x if not any(map(sum, pairs)) else g.add(Pad(x, before, after, location=node.location))
    batch, *sizes = padded.type.shape
    spatial, rest = sizes[: len(block)], sizes[len(block) :]
    if any(size % n for size, n in zip(spatial, block, strict=True)):
        raise node.error(f"SPACE_TO_BATCH_ND of {padded.type} in blocks of {list(block)}")
    split = [part for size, n in zip(spatial, block, strict=True) for part in (size // n, n)]
    axes = range(1, 1 + 2 * len(block))
    order = (*axes[1::2], 0, *axes[::2], *range(1 + 2 * len(block), 1 + 2 * len(block) + len(rest)))
    moved = permuted(node, g, reshaped(node, g, padded, (batch, *split, *rest)), order)
    return reshaped(node, g, moved, (batch * prod(block), *split[::2], *rest))


@tflite("BATCH_TO_SPACE_ND")
def _import_batch_to_space(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, the sizes of a block, and what is cut off in pairs; images become positions within a block."""
    x, block = node.input(0), node.constant_integers(1)
    pairs = _pairs(node, x, block)
    batch, *sizes = x.type.shape
    if batch % prod(block):
        raise node.error(f"BATCH_TO_SPACE_ND of {x.type} in blocks of {list(block)}")
    count, spatial, rest = len(block), sizes[: len(block)], sizes[len(block) :]
    order = [count, *(axis for i in range(count) for axis in (count + 1 + i, i))]
    order += range(2 * count + 1, 2 * count + 1 + len(rest))
    images = reshaped(node, g, x, (*block, batch // prod(block), *spatial, *rest))
    joined = tuple(size * n for size, n in zip(spatial, block, strict=True))
    whole = reshaped(node, g, permuted(node, g, images, tuple(order)), (batch // prod(block), *joined, *rest))
    if not any(map(sum, pairs)):
        return whole
    kept = tuple(size - sum(pair) for size, pair in zip(joined, pairs, strict=True))
    if min(kept) < 1:
        raise node.error(f"BATCH_TO_SPACE_ND cuts off all of {whole.type}")
    begin = (0, *(pair[0] for pair in pairs), *(0,) * len(rest))
    return g.add(Slice(whole, begin, (batch // prod(block), *kept, *rest), location=node.location), node.name)


def _pairs(node: ForeignNode, x: Value, block: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Operand 2 as pairs, one for each spatial axis. Raises `CompileError` when operands do not fit each other."""
    numbers = node.constant_integers(2)
    if not block or min(block) < 1 or x.type.rank < 1 + len(block) or len(numbers) != 2 * len(block):
        raise node.error(f"{node.kind} of {x.type} in blocks of {list(block)} with {len(numbers) // 2} pairs")
    if min(numbers) < 0 or max(*numbers, *block) > _MAXIMUM_WIDTH:
        raise node.error(f"{node.kind} with widths {list(numbers)} and blocks of {list(block)}")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


#: Widths of paddings are free numbers of the file; this bounds what they make.
_MAXIMUM_WIDTH = 1 << 12


@tflite("SHAPE")
def _import_shape(node: ForeignNode, g: GraphBuilder) -> Value:
    """Known at compile time."""
    return g.constant(np.array(node.input(0).type.shape, node.output_type.dtype.numpy), None, node.name)


@tflite("ZEROS_LIKE")
def _import_zeros_like(node: ForeignNode, g: GraphBuilder) -> Value:
    """Known at compile time."""
    x = node.input(0).type
    return g.constant(np.zeros(x.shape, x.dtype.numpy), x.quant, node.name)
