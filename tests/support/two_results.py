"""An operator with two results and loops, for tests of programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from luciole.graph.core import OPERATORS, Operator, Value, Views, operator
from luciole.ir.types import Array, TensorType
from luciole.kernel.builder import LoopBuilder


@operator("toy_halves")
class Halves(Operator):
    """The halves of x along its first axis."""

    x: Value

    def infer(self) -> tuple[TensorType, ...]:
        half = self.x.type.with_shape((self.x.type.shape[0] // 2, *self.x.type.shape[1:]))
        return half, half

    def compute(self, x: Array) -> tuple[Array, ...]:
        first, second = np.split(x, 2)
        return first, second

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y0.shape) as indices:
            v.y0[indices] = v.x[indices]
            v.y1[indices] = v.x[(indices[0] + v.y0.shape[0], *indices[1:])]


_HALVES = OPERATORS.pop("toy_halves")


@contextmanager
def registered_halves() -> Iterator[None]:
    """Let the parser and the verifier know the operator."""
    OPERATORS["toy_halves"] = _HALVES
    try:
        yield
    finally:
        del OPERATORS["toy_halves"]
