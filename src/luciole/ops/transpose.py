"""Axes in another order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder, nested_loops
from luciole.ops.tflite_options import axis_of


@operator("transpose")
class Transpose(Operator):
    """Axis i of y is axis permutation[i] of x."""

    x: Value
    permutation: tuple[int, ...]

    def infer(self) -> TensorType:
        if sorted(self.permutation) != list(range(self.x.type.rank)):
            raise self.error(f"{list(self.permutation)} is no permutation of the axes of {self.x.type}")
        return self.x.type.with_shape(tuple(self.x.type.shape[axis] for axis in self.permutation))

    def compute(self, x: Array) -> Array:
        return np.ascontiguousarray(np.transpose(x, self.permutation))

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with nested_loops(k, v.y.shape) as indices:
            source = [indices[self.permutation.index(axis)] for axis in range(len(indices))]
            v.y[tuple(indices)] = v.x[tuple(source)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4), (2, 0, 1))
        yield cls(s.i8(1, 3, 4, 5), (0, 2, 3, 1))
        yield cls(s.i8(3, 4), (1, 0))


@tflite("TRANSPOSE")
def _import_transpose(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is the permutation."""
    x = node.input(0)
    permutation = tuple(axis_of(node, axis, x.type.rank) for axis in node.constant_integers(1))
    return g.add(Transpose(x, permutation, location=node.location), node.name)
