"""Tensors one behind the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder, nested_loops
from luciole.ops.tflite_options import axis_of, refuse_activation


@operator("concat")
class Concat(Operator):
    """The operands joined along `axis`. Element types and quantizations are equal: rescaling is another operator."""

    xs: tuple[Value, ...]
    axis: int

    def infer(self) -> TensorType:
        if not self.xs:
            raise self.error("has no operands")
        first = self.xs[0].type
        if not 0 <= self.axis < first.rank:
            raise self.error(f"axis {self.axis} is outside 0..{first.rank - 1}")
        for value in self.xs[1:]:
            if _others(value.type, self.axis) != _others(first, self.axis):
                raise self.error(f"%{value.name}: {value.type} does not continue {first} along axis {self.axis}")
        shape = list(first.shape)
        shape[self.axis] = sum(v.type.shape[self.axis] for v in self.xs)
        return first.with_shape(tuple(shape))

    def compute(self, xs: tuple[Array, ...]) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        begin = 0
        for index, value in enumerate(self.xs):
            source = getattr(v, f"xs{index}")
            with nested_loops(k, value.type.shape) as indices:
                target = [i + begin if axis == self.axis else i for axis, i in enumerate(indices)]
                v.y[tuple(target)] = source[tuple(indices)]
            begin += value.type.shape[self.axis]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls((s.f32(2, 3), s.f32(2, 1)), 1)
        yield cls((s.i8(1, 2, 3), s.i8(2, 2, 3), s.i8(1, 2, 3)), 0)
        yield cls((s.i8(4),), 0)


def _others(type: TensorType, axis: int) -> object:
    """All of a type that operands must share."""
    return type.dtype, type.quant, type.shape[:axis], type.shape[axis + 1 :], type.rank


@tflite("CONCATENATION")
def _import_concatenation(node: ForeignNode, g: GraphBuilder) -> Value:
    """All operands are joined; TFLite's kernels copy int8 numbers, so their quantizations must agree."""
    refuse_activation(node)
    xs = tuple(node.input(i) for i in range(len(node.inputs)))
    if any(x.type.quant != xs[0].type.quant for x in xs):
        raise node.unsupported(
            "operands of CONCATENATION are quantized differently",
            help="quantize again, so that all of them get the scale and zero point of the result",
            code="unsupported-quantization",
        )
    axis = axis_of(node, node.integer("axis"), node.input(0).type.rank)
    return g.add(Concat(xs, axis, location=node.location), node.name)
