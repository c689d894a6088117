"""The same elements under another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

from luciole.graph.core import Operator, Value, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, TensorType


@operator("reshape")
class Reshape(Operator):
    """y holds the elements of x in row-major order, under `shape`."""

    x: Value
    shape: tuple[int, ...]

    def infer(self) -> TensorType:
        if any(size < 0 for size in self.shape) or math.prod(self.shape) != self.x.type.elements:
            raise self.error(f"{list(self.x.type.shape)} cannot become {list(self.shape)}")
        return self.x.type.with_shape(self.shape)

    def compute(self, x: Array) -> Array:
        return x.reshape(self.shape)

    @property
    def is_view(self) -> bool:
        return True

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4), (4, 6))
        yield cls(s.i8(1, 4), (4,))
        yield cls(s.i8(1, 1), ())
