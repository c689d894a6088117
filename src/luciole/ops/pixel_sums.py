"""Global averages in two steps, so that the first can run row by row: sums over all pixels, then what becomes of them.

average_pool2d(x)  =  average_of_sums(pixel_sums(x))      mean(x)  =  mean_of_sums(pixel_sums(x))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.core import Elementwise, Operator, RowAccess, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Rounding
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, clamp
from luciole.kernel.intrinsics import average_rounded
from luciole.ops import common
from luciole.ops.common import Requantizer


@operator("pixel_sums")
class PixelSums(Operator):
    """y[n, 0, 0, c] = sum over h, w of x[n, h, w, c], for x NHWC, f32 or i8.

    int8: the sums are int32 of the scale of x, and their zero point is that of x times the number of pixels.
    """

    x: Value

    adds_rows = True

    def infer(self) -> TensorType:
        x = self.x.type
        if x.rank != 4 or x.dtype not in (DType.F32, DType.I8):
            raise self.error("x must have four axes, of f32 or i8", "unsupported-types")
        return _sums_type(self, self.x, x.shape[1] * x.shape[2])

    def compute(self, x: Array) -> Array:
        return np.asarray(x.sum(axis=(1, 2), keepdims=True, dtype=self.infer().dtype.numpy))

    def kernel_shapes(self) -> dict[str, Shape]:
        return {"x": _pixels(self.x)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        batch, pixels, channels = v.x.shape
        with k.nest("n", batch, channels) as (n, c):
            total = k.define("total", 0 if common.is_int8(self.x) else common.float_zero())
            with k.loop("pixel", pixels) as pixel:
                total += common.widened(v.x[n, pixel, c])
            v.y[n, 0, 0, c] = total

    def row_accesses(self) -> dict[str, RowAccess] | None:
        return {"x": RowAccess()} if self.x.type.shape[0] == 1 and not self.x.is_constant else None

    def restricted_to_rows(self, rows: int) -> Operator:
        """Adds the sums of some rows to the result."""
        batch, _, *rest = self.x.type.shape
        window = Value(self.x.name, self.x.type.with_shape((batch, rows, *rest)))
        return AddPixelSums(Value("total", self.infer()), window, quant=self.infer().quant, location=self.location)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 2, 3))
        yield cls(s.i8(1, 4, 3, 5, zero=-128))


@operator("add_pixel_sums")
class AddPixelSums(Operator):
    """y[n, 0, 0, c] = total[n, 0, 0, c] + sum over h, w of x[n, h, w, c]; y may stand in the place of total."""

    total: Value
    x: Value

    def infer(self) -> TensorType:
        total, x = self.total.type, self.x.type
        if x.rank != 4 or x.dtype not in (DType.F32, DType.I8):
            raise self.error("x must have four axes, of f32 or i8", "unsupported-types")
        wanted = _sums_type(self, self.x, 1)
        if (total.dtype, total.shape) != (wanted.dtype, wanted.shape):
            raise self.error(f"total must be {wanted.dtype.value}{list(wanted.shape)}")
        return TensorType(total.dtype, total.shape, self.quant)

    def compute(self, total: Array, x: Array) -> Array:
        return np.asarray(total + x.sum(axis=(1, 2), keepdims=True, dtype=total.dtype))

    def kernel_shapes(self) -> dict[str, Shape]:
        return {"x": _pixels(self.x)}

    def in_place_operands(self) -> tuple[str, ...]:
        return ("total",)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        batch, pixels, channels = v.x.shape
        with k.nest("n", batch, channels) as (n, c):
            total = k.define("sum", v.total[n, 0, 0, c])
            with k.loop("pixel", pixels) as pixel:
                total += common.widened(v.x[n, pixel, c])
            v.y[n, 0, 0, c] = total

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 1, 1, 3), s.f32(1, 1, 4, 3))
        yield cls(s.i32(2, 1, 1, 5), s.i8(2, 2, 3, 5, zero=4))


@dataclass(frozen=True, eq=False, repr=False)
class OfSums(Elementwise):
    """Base of what becomes of sums of `count` numbers: f32 sums are divided by it."""

    x: Value
    count: int
    activation: str = "none"

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in (DType.F32, DType.I32) or self.count < 1:
            raise self.error("x must be sums, f32 or i32, of one number or more", "unsupported-types")
        common.check_activation(self, self.activation)
        if x.dtype is DType.F32:
            return TensorType(DType.F32, x.shape)
        if x.quant is None or x.quant.is_per_channel:
            raise self.error("the sums need one scale and zero point")
        return TensorType(DType.I8, x.shape, common.result_quant(self))

    def compute(self, x: Array) -> Array:
        if self.x.type.dtype is DType.F32:
            average = x / np.float32(self.count)
            return np.asarray(common.float_activation_array(self.activation, average), np.float32)
        return self.int8_array(x.astype(np.int64)).astype(np.int8)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        if x.dtype is DType.F32:
            return common.float_activation(self.activation, x / float(self.count))
        return self.int8_element(x).cast(DType.I8)

    def int8_array(self, x: Array) -> Array:
        """The numpy meaning for int32 sums, clamped."""
        raise NotImplementedError

    def int8_element(self, x: Expr) -> Expr:
        """The kernel expression for int32 sums, clamped."""
        raise NotImplementedError


@operator("average_of_sums")
class AverageOfSums(OfSums):
    """y = act(x / count). int8: rounded to nearest, halves away from zero, quantized as the numbers of the sums."""

    def int8_array(self, x: Array) -> Array:
        return arithmetic.clamp(arithmetic.average(x, self.count), *common.output_clamp(self, self.activation))

    def int8_element(self, x: Expr) -> Expr:
        return clamp(average_rounded(x, self.count), *common.output_clamp(self, self.activation))

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 1, 1, 5), 6, "relu")
        for activation in ("none", "relu6"):
            yield cls(_sums(s, 5, 9), 9, activation, quant=s.quant(0.05, 5))


@operator("mean_of_sums")
class MeanOfSums(OfSums):
    """y = x / count. int8: the sums minus their zero point are requantized as by `mean`."""

    rounding: Rounding = "tflite"

    def int8_array(self, x: Array) -> Array:
        zero_point = self._sums_quant().zero_point
        return np.asarray(self._requantizer().compute(x - zero_point))

    def int8_element(self, x: Expr) -> Expr:
        return self._requantizer().emit_constant(x - self._sums_quant().zero_point)

    def _sums_quant(self) -> Quant:
        assert self.x.type.quant is not None
        return self.x.type.quant

    def _requantizer(self) -> Requantizer:
        source, target = self._sums_quant(), common.result_quant(self)
        multiplier = arithmetic.mean_multiplier(source.scale, target.scale, self.count)
        low, high = common.output_clamp(self, self.activation)
        bound = 128 * self.count + abs(source.zero_point)
        return Requantizer((multiplier,), target.zero_point, low, high, self.rounding, bound)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 1, 2, 3), 4)
        yield cls(_sums(s, 4, 12), 12, quant=s.quant(0.03, -128))
        yield cls(_sums(s, -128, 49), 49, quant=s.quant(0.2, 7), rounding="tflite-single")


def _sums(s: Samples, zero: int, count: int) -> Value:
    """Sums of so many int8 numbers."""
    sums = s.i32(1, 1, 3, 4, low=-128 * count, high=127 * count)
    type = replace(sums.type, quant=s.quant(0.05, zero * count))
    typed = Value(sums.name, type)
    s.arrays[typed] = s.arrays.pop(sums)
    return typed


def _sums_type(op: Operator, x: Value, count: int) -> TensorType:
    """The type of the sums over so many pixels."""
    shape = (x.type.shape[0], 1, 1, x.type.shape[3])
    if x.type.dtype is DType.F32:
        return TensorType(DType.F32, shape)
    quant = common.operand_quant(op, x)
    return TensorType(DType.I32, shape, Quant.per_tensor(quant.scale, quant.zero_point * count))


def _pixels(x: Value) -> Shape:
    """An NHWC tensor with its pixels in a row."""
    batch, height, width, channels = x.type.shape
    return batch, height * width, channels
