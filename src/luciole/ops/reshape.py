"""The same numbers under another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common


@operator("reshape")
class Reshape(Operator):
    """y = the elements of x in row-major order, under `shape`. No code where the buffer can be shared, else a copy."""

    x: Value
    shape: tuple[int, ...]

    def infer(self) -> TensorType:
        if min(self.shape, default=0) < 0 or math.prod(self.shape) != self.x.type.elements:
            raise self.error(f"x has {self.x.type.elements} elements, shape {list(self.shape)} is of another number")
        return TensorType(self.x.type.dtype, self.shape, common.moved_quant(self, self.x))

    def compute(self, x: Array) -> Array:
        return x.reshape(self.shape)

    @property
    def is_view(self) -> bool:
        return True

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    def kernel_shapes(self) -> dict[str, Shape]:
        return {name: (self.x.type.elements,) for name in ("x", "y")}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.loop("i", v.y.shape[0]) as i:
            v.y[i] = v.x[i]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4), (6, 4))
        yield cls(s.i8(1, 1, 1, 5, zero=3), (1, 5))
        yield cls(s.i32(1), ())
