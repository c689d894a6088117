"""A part of a tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common


@operator("slice")
class Slice(Operator):
    """y[i0, i1, ...] = x[begin[0] + i0 * strides[0], ...], `size` elements along each axis; strides may be negative."""

    x: Value
    begin: tuple[int, ...]
    size: tuple[int, ...]
    strides: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """The strides, 1 along every axis unless given."""
        return self.strides or (1,) * self.x.type.rank

    def infer(self) -> TensorType:
        x = self.x.type
        if {len(self.begin), len(self.size), len(self.steps)} != {x.rank}:
            raise self.error(f"begin, size and strides must have {x.rank} elements")
        for axis, (begin, size, step) in enumerate(zip(self.begin, self.size, self.steps, strict=True)):
            last = begin + (size - 1) * step
            if size < 1 or step == 0 or not (0 <= begin < x.shape[axis] and 0 <= last < x.shape[axis]):
                raise self.error(f"{size} elements from {begin} by {step} do not lie in axis {axis} of {x.shape[axis]}")
        return TensorType(x.dtype, self.size, common.moved_quant(self, self.x))

    def compute(self, x: Array) -> Array:
        positions = [
            np.arange(size) * step + begin for begin, size, step in zip(self.begin, self.size, self.steps, strict=True)
        ]
        return np.ascontiguousarray(x[np.ix_(*positions)]) if positions else x

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as indices:
            source = (i * step + begin for i, begin, step in zip(indices, self.begin, self.steps, strict=True))
            v.y[tuple(indices)] = v.x[tuple(source)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 5, 6), (1, 0, 2), (2, 5, 3))
        yield cls(s.i8(7, 4, zero=2), (0, 3), (4, 2), (2, -2))
        yield cls(s.i8(5), (4,), (5,), (-1,))
        yield cls(s.i32(2, 3), (1, 0), (1, 1))
