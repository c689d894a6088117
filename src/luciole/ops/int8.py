"""int8 that stands for a model's uint8 numbers, or for reals of another scale; functions of int8 as tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr
from luciole.ops import common
from luciole.ops.onnx_rounding import UNSIGNED_SHIFT


@operator("annotate")
class Annotate(Operator):
    """y = x: integers that stand for reals by `quant`, one for the tensor or one for each slice. No code."""

    x: Value

    def infer(self) -> TensorType:
        x = self.x.type
        if not x.dtype.is_integer or self.quant is None:
            raise self.error("integers and what they stand for are needed", "unsupported-types")
        if self.quant.is_per_channel and not (
            0 <= self.quant.axis < x.rank and len(self.quant.scales) == x.shape[self.quant.axis]
        ):
            raise self.error("there must be a scale and zero point for each slice along an axis")
        return TensorType(x.dtype, x.shape, self.quant)

    def compute(self, x: Array) -> Array:
        return x

    @property
    def is_view(self) -> bool:
        return True

    def kernel_shapes(self) -> dict[str, Shape]:
        return {name: (self.x.type.elements,) for name in ("x", "y")}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.loop("i", v.y.shape[0]) as i:
            v.y[i] = v.x[i]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.i8(2, 9), quant=s.quant(0.2, 7))
        yield cls(s.i32(2, 3), quant=Quant((0.5, 0.25), (0, 0), 0))


@operator("as_int8")
class AsInt8(Elementwise):
    """y = x - 128, u8 to i8, so that all quantized arithmetic is one of int8. What y stands for is given by `quant`."""

    x: Value

    def infer(self) -> TensorType:
        if self.x.type.dtype is not DType.U8:
            raise self.error("x must be u8", "unsupported-types")
        return TensorType(DType.I8, self.x.type.shape, common.result_quant(self))

    def compute(self, x: Array) -> Array:
        return (x.astype(np.int32) - UNSIGNED_SHIFT).astype(np.int8)

    def element(self, v: Views, *operands: Expr) -> Expr:
        return (operands[0].cast(DType.I32) - UNSIGNED_SHIFT).cast(DType.I8)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.array(s.random.integers(0, 256, (2, 40)).astype(np.uint8)), quant=s.quant(0.1, -128))


@operator("as_uint8")
class AsUint8(Elementwise):
    """y = x + 128, i8 to u8: plain numbers, as a model has them."""

    x: Value

    def infer(self) -> TensorType:
        if self.x.type.dtype is not DType.I8:
            raise self.error("x must be i8", "unsupported-types")
        return TensorType(DType.U8, self.x.type.shape)

    def compute(self, x: Array) -> Array:
        return (x.astype(np.int32) + UNSIGNED_SHIFT).astype(np.uint8)

    def element(self, v: Views, *operands: Expr) -> Expr:
        return (operands[0].cast(DType.I32) + UNSIGNED_SHIFT).cast(DType.U8)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.i8(3, 50, zero=4))


@operator("lookup")
class Lookup(Elementwise):
    """y = entries[x + 128]: any function of one int8 number, known at compile time."""

    x: Value
    entries: tuple[int, ...]

    def infer(self) -> TensorType:
        if self.x.type.dtype is not DType.I8:
            raise self.error("x must be i8", "unsupported-types")
        low, high = DType.I8.limits
        if len(self.entries) != high - low + 1 or min(self.entries) < low or max(self.entries) > high:
            raise self.error("there must be 256 entries of int8")
        return TensorType(DType.I8, self.x.type.shape, common.result_quant(self))

    def compute(self, x: Array) -> Array:
        return common.looked_up(self.parameters()["table"], x)

    def parameters(self) -> dict[str, Array]:
        return {"table": np.array(self.entries, np.int8)}

    def element(self, v: Views, *operands: Expr) -> Expr:
        return common.table_element(v.table, operands[0])

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        entries = tuple(int(n) for n in s.random.integers(-128, 128, 256))
        yield cls(s.i8(3, 50, zero=4), entries, quant=s.quant(0.1, 3))
