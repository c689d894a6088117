"""Operators for tests of the Graph IR only. `registered_toys` makes them known to the parser while it is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from luciole.graph.core import OPERATORS, Elementwise, Operator, Value, Views, operator
from luciole.ir.types import Array, DType, TensorType, broadcast_shapes
from luciole.kernel.core import Expr, maximum

KINDS = ("toy_add", "toy_relu", "toy_split", "toy_scale", "toy_attributes")


@operator("toy_add")
class ToyAdd(Elementwise):
    """y = a + b, wrapping; the result has the quantization given."""

    a: Value
    b: Value

    def infer(self) -> TensorType:
        try:
            shape = broadcast_shapes(self.a.type.shape, self.b.type.shape)
        except ValueError as error:
            raise self.error(str(error)) from None
        if self.a.type.dtype is not self.b.type.dtype:
            raise self.error("a and b differ in element type")
        return TensorType(self.a.type.dtype, shape, self.quant)

    def compute(self, a: Array, b: Array) -> Array:
        return a + b

    def element(self, v: Views, a: Expr, b: Expr) -> Expr:
        return a + b


@operator("toy_relu")
class ToyRelu(Elementwise):
    """y = max(x, 0), with the quantization of x."""

    x: Value

    def infer(self) -> TensorType:
        return self.x.type

    def compute(self, x: Array) -> Array:
        return np.maximum(x, x.dtype.type(0))

    def element(self, v: Views, x: Expr) -> Expr:
        return maximum(x, 0)


@operator("toy_scale")
class ToyScale(Elementwise):
    """y = x * table[i], with a table that is a parameter: the numbers 1, 2, 3, 4 in order of x modulo four."""

    x: Value

    def infer(self) -> TensorType:
        return self.x.type

    def compute(self, x: Array) -> Array:
        return x * self.parameters()["table"][x & 3]

    def parameters(self) -> dict[str, Array]:
        return {"table": np.array([1, 2, 3, 4], np.int8)}

    def element(self, v: Views, x: Expr) -> Expr:
        return x * v.table[(x & 3).cast(DType.INDEX)]


@operator("toy_split")
class ToySplit(Operator):
    """The halves of x along its first axis."""

    x: Value

    def infer(self) -> tuple[TensorType, ...]:
        if self.x.type.rank == 0 or self.x.type.shape[0] % 2:
            raise self.error("the first axis of x has no halves")
        half = self.x.type.with_shape((self.x.type.shape[0] // 2, *self.x.type.shape[1:]))
        return half, half

    def compute(self, x: Array) -> tuple[Array, ...]:
        first, second = np.split(x, 2)
        return first, second


@operator("toy_attributes")
class ToyAttributes(Operator):
    """Attributes of every kind; the result is x."""

    x: Value
    y: Value | None = None
    more: tuple[Value, ...] = ()
    number: int = 0
    real: float = 0.0
    flag: bool = False
    name: str = ""
    pair: tuple[int, int] = (0, 0)
    rows: tuple[tuple[float, ...], ...] = ()
    maybe: int | None = 7
    element: DType = DType.F32

    def infer(self) -> TensorType:
        return self.x.type

    def compute(self, x: Array, y: Array | None, more: tuple[Array, ...]) -> Array:
        return x


_TOYS = {kind: OPERATORS.pop(kind) for kind in KINDS}


@contextmanager
def registered_toys() -> Iterator[None]:
    """Let the parser and the verifier know the toys."""
    OPERATORS.update(_TOYS)
    try:
        yield
    finally:
        for kind in KINDS:
            del OPERATORS[kind]
