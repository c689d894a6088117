"""A regular part of a tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder, nested_loops


@operator("slice")
class Slice(Operator):
    """y[i, j, ...] = x[begin[0] + i * strides[0], begin[1] + j * strides[1], ...]; strides may be negative."""

    x: Value
    begin: tuple[int, ...]
    size: tuple[int, ...]
    strides: tuple[int, ...]

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if not len(self.begin) == len(self.size) == len(self.strides) == len(shape):
            raise self.error(f"begin, size and strides need {len(shape)} numbers each")
        for extent, begin, size, stride in zip(shape, self.begin, self.size, self.strides, strict=True):
            last = begin + (size - 1) * stride
            if size < 1 or stride == 0 or not 0 <= begin < extent or not 0 <= last < extent:
                raise self.error(f"{size} elements from {begin} in steps of {stride} do not lie in an axis of {extent}")
        return self.x.type.with_shape(self.size)

    def compute(self, x: Array) -> Array:
        indices = (np.arange(n) * s + b for b, n, s in zip(self.begin, self.size, self.strides, strict=True))
        return np.ascontiguousarray(x[np.ix_(*indices)]) if self.begin else x

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with nested_loops(k, v.y.shape) as indices:
            source = [i * s + b for i, b, s in zip(indices, self.begin, self.strides, strict=True)]
            v.y[tuple(indices)] = v.x[tuple(source)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(4, 5), (1, 0), (2, 5), (1, 1))
        yield cls(s.i8(1, 6, 4), (0, 5, 1), (1, 3, 2), (1, -2, 2))
        yield cls(s.i8(7), (6,), (7,), (-1,))
