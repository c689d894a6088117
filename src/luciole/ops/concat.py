"""Tensors one after the other along an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Part, RowAccess, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, Shape, TensorType
from luciole.kernel.builder import LoopBuilder, View
from luciole.ops import common
from luciole.ops.tflite_options import axis_of, refuse_activation


@operator("concat")
class Concat(Operator):
    """y = the operands one after the other along `axis`. Their quantizations are equal, and the result's."""

    takes_halves = True

    xs: tuple[Value, ...]
    axis: int

    def infer(self) -> TensorType:
        if not self.xs:
            raise self.error("there are no operands")
        first = self.xs[0].type
        if not 0 <= self.axis < first.rank:
            raise self.error(f"axis {self.axis} is none of the {first.rank} axes")
        for x in self.xs:
            if x.type.dtype is not first.dtype or x.type.quant != first.quant:
                raise self.error("operands must have one element type and quantization", "unsupported-types")
            if x.type.rank != first.rank or _without(x.type.shape, self.axis) != _without(first.shape, self.axis):
                raise self.error(f"operands must have equal shapes but for axis {self.axis}")
        shape = list(first.shape)
        shape[self.axis] = sum(x.type.shape[self.axis] for x in self.xs)
        return TensorType(first.dtype, tuple(shape), common.moved_quant(self, self.xs[0]))

    def compute(self, xs: tuple[Array, ...]) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def row_accesses(self) -> dict[str, RowAccess] | None:
        is_image = self.axis > 1 and self.xs[0].type.rank == 4 and self.xs[0].type.shape[0] == 1
        if not is_image or any(x.is_constant for x in self.xs):
            return None
        return {name: RowAccess() for name, _ in self.named_operands()}

    def kernel_shapes(self) -> dict[str, Shape]:
        """Every buffer as rows, one for each combination of indices before the axis."""
        named = [*self.named_operands(), ("y", Value("", self.infer()))]
        rows = math.prod(self.xs[0].type.shape[: self.axis])
        return {name: (rows, math.prod(value.type.shape[self.axis :])) for name, value in named}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.loop("row", v.y.shape[0]) as row:
            begin = 0
            for name, _ in self.named_operands():
                view: View = getattr(v, name)
                with k.loop("i", view.shape[1]) as i:
                    v.y[row, i + begin] = view[row, i]
                begin += view.shape[1]

    def parts(self) -> tuple[Part, ...]:
        """The operands one after the other, where the axis is the first that counts."""
        if math.prod(self.xs[0].type.shape[: self.axis]) != 1:
            return ()
        offset, found = 0, []
        for name, x in self.named_operands():
            found.append(Part("y", name, offset))
            offset += x.type.size_bytes
        return tuple(found)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls((s.f32(2, 3, 4), s.f32(2, 1, 4), s.f32(2, 2, 4)), 1)
        yield cls((s.i8(5, 2, zero=4), s.i8(5, 3, zero=4)), 1)
        yield cls((s.i8(1, 2), s.i8(3, 2)), 0)
        yield cls((s.i32(3),), 0)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


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


@onnx("Concat")
def _import_onnx_concat(node: ForeignNode, g: GraphBuilder) -> Value:
    """All operands are joined, but for constants without elements."""
    xs = tuple(x for x in (node.input(i) for i in range(len(node.inputs))) if x.type.elements)
    axis = axis_of(node, node.integer("axis"), node.input(0).type.rank)
    return g.add(Concat(xs, axis, location=node.location), node.name)
