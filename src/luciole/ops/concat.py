"""Tensors one behind the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder, nested_loops


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
