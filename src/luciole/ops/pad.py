"""A constant border."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder, nested_loops
from luciole.kernel.core import as_expr


@operator("pad")
class Pad(Operator):
    """x with `before[i]` and `after[i]` elements of `value` around axis i; `value` is in x's own element type.

    For a quantized tensor that pads with the real number zero, `value` is the zero point.
    """

    x: Value
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float | int = 0

    def infer(self) -> TensorType:
        x = self.x.type
        if not len(self.before) == len(self.after) == x.rank:
            raise self.error(f"before and after need {x.rank} numbers each")
        if min((*self.before, *self.after), default=0) < 0:
            raise self.error(f"before {list(self.before)} and after {list(self.after)} are negative somewhere")
        if x.dtype.is_integer and not x.dtype.limits[0] <= self.value <= x.dtype.limits[1]:
            raise self.error(f"value {self.value} is no {x.dtype.value}")
        sizes = zip(x.shape, self.before, self.after, strict=True)
        return x.with_shape(tuple(size + before + after for size, before, after in sizes))

    def compute(self, x: Array) -> Array:
        widths = tuple(zip(self.before, self.after, strict=True))
        return np.pad(x, widths, constant_values=x.dtype.type(self.value)) if widths else x

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """The border first, one slab before and one behind along each axis, then the inside."""
        shape, dtype = v.y.shape, v.y.dtype
        filler = as_expr(float(self.value) if dtype.is_float else int(self.value), dtype)
        inside = [(before, before + size) for size, before in zip(self.x.type.shape, self.before, strict=True)]
        for axis, (begin, end) in enumerate(inside):
            for slab in ((0, begin), (end, shape[axis])):
                if slab[0] < slab[1]:
                    whole = [(0, size) for size in shape[axis + 1 :]]
                    with nested_loops(k, [*inside[:axis], slab, *whole]) as indices:
                        v.y[tuple(indices)] = filler
        with nested_loops(k, self.x.type.shape) as indices:
            v.y[tuple(i + b for i, b in zip(indices, self.before, strict=True))] = v.x[tuple(indices)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3), (1, 0), (0, 2), 1.5)
        yield cls(s.i8(1, 3, 2, 2, zero=-5), (0, 1, 0, 0), (0, 1, 2, 0), -5)
        yield cls(s.i8(4), (0,), (0,), 0)


def _import_pad(node: ForeignNode, g: GraphBuilder, value: float | int) -> Value:
    """Operands are x and a constant of a pair of numbers for each axis."""
    x = node.input(0)
    widths = node.constant_integers(1)
    if len(widths) != 2 * x.type.rank:
        raise node.error(f"{node.kind} of {x.type.rank} dimensions has {len(widths)} widths")
    return g.add(Pad(x, widths[0::2], widths[1::2], value, location=node.location), node.name)


@tflite("PAD")
def _import_zero_pad(node: ForeignNode, g: GraphBuilder) -> Value:
    """Pads with the real number zero, for quantized tensors the zero point."""
    quant = node.input(0).type.quant
    return _import_pad(node, g, 0 if quant is None or quant.is_per_channel else quant.zero_point)


@tflite("PADV2")
def _import_constant_pad(node: ForeignNode, g: GraphBuilder) -> Value:
    """Pads with the third operand, a number of the element type and quantization of x."""
    values, x = node.constant(2), node.input(0)
    if values.size != 1 or node.input(2).type.dtype is not x.type.dtype:
        raise node.error(f"PADV2 of {x.type} by {node.input(2).type}")
    if node.input(2).type.quant != x.type.quant:
        raise node.unsupported("PADV2 by a number of another quantization", code="unsupported-quantization")
    return _import_pad(node, g, values.item())
