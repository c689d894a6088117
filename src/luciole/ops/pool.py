"""Average and maximum over sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np

from luciole.graph.core import Operator, RowAccess, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr, Operand, clamp, maximum
from luciole.kernel.intrinsics import (
    average_by_reciprocal,
    average_of_bytes,
    average_rounded,
    has_reciprocal,
    reciprocal,
)
from luciole.ops import common
from luciole.ops.common import Window
from luciole.ops.onnx_rounding import UNSIGNED_SHIFT, FloatAverage, float_average

#: Windows of up to so many taps are written out.
WRITTEN_TAPS = 9


@dataclass(frozen=True, eq=False, repr=False)
class Pool(Operator):
    """Base of windows over each channel of an NHWC tensor, f32 or i8; int8 results keep the quantization of x."""

    x: Value
    size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = "none"
    dilations: tuple[int, int] = (1, 1)

    @property
    def window(self) -> Window:
        """The window's geometry."""
        return Window(self.size, self.strides, self.pads, self.dilations)

    def infer(self) -> TensorType:
        x = self.x.type
        if x.rank != 4 or x.dtype not in (DType.F32, DType.I8):
            raise self.error("x must have four axes, of f32 or i8", "unsupported-types")
        height, width = x.shape[1:3]
        if problem := self.window.problem((height, width)) or self.window.empty_problem((height, width)):
            raise self.error(problem)
        common.check_activation(self, self.activation)
        if x.dtype is DType.I8:
            common.operand_quant(self, self.x)
        rows, columns = self.window.output_size((height, width))
        return TensorType(x.dtype, (x.shape[0], rows, columns, x.shape[3]), common.kept_quant(self, self.x))

    def kernel_shapes(self) -> dict[str, Shape]:
        """A window of the size of x, seen as one row: its taps are then one loop."""
        batch, height, width, channels = self.x.type.shape
        return {"x": (batch, 1, height * width, channels)} if self._is_global else {}

    def overlap_bytes(self) -> dict[str, int]:
        """Pixel by pixel: a window is read until its pixel is complete."""
        distance = self.window.overlap_bytes(self.x.type, self.infer())
        return {} if distance is None else {"x": distance}

    #: The byte of int8 rows outside x that change no result, if there is one.
    row_fill: ClassVar[int | None] = None

    def row_accesses(self) -> dict[str, RowAccess] | None:
        access = self.window.row_access(self.x.type, self.row_fill if common.is_int8(self.x) else None)
        return None if access is None else {"x": access}

    def row_attributes(self) -> dict[str, Any]:
        return {"pads": (0, self.pads[1], 0, self.pads[3])}

    @property
    def _is_global(self) -> bool:
        return self.window.extent == self.size == self.x.type.shape[1:3] and not self.window.has_padding

    def taps(self, values: Array, fill: float) -> Array:
        """All windows as [N, OH, OW, KH * KW, C], outside the input `fill`."""
        patches = self.window.patches(values, fill)
        return patches.reshape(*patches.shape[:3], -1, patches.shape[5])

    def clamped(self, values: Array) -> Array:
        """int8 results under the fused activation."""
        return arithmetic.clamp(values, *self.limits).astype(np.int8)

    def clamped_element(self, value: Expr) -> Expr:
        """The kernel expression of `clamped`, from `i32`; a float under the fused activation."""
        if not common.is_int8(self.x):
            return common.float_activation(self.activation, value)
        low, high = self.limits
        return (value if (low, high) == (-128, 127) else clamp(value, low, high)).cast(DType.I8)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest int8 result under the fused activation."""
        quant = common.operand_quant(self, self.x)
        return arithmetic.activation_range(self.activation, quant.scale, quant.zero_point)

    @contextmanager
    def pixel_loops(self, k: LoopBuilder, v: Views) -> Iterator[Pixel]:
        """Loops over pixels and channels, with the bounds of the taps of each."""
        batch, height, width, channels = v.y.shape
        size = v.x.shape[1:3]
        window = Window((size[0], size[1]), (1, 1), self.pads) if self._is_global else self.window
        with k.nest("n", batch, height, width) as (n, oh, ow):
            bounds: list[tuple[Operand, Operand]] = []
            for axis, position in ((0, oh), (1, ow)):
                first, last = window.tap_bounds(axis, position, size[axis])
                if isinstance(first, Expr):
                    first, last = k.define("first", first), k.define("last", last, DType.INDEX)
                bounds.append((first, last))
            row = k.define("row", oh * self.strides[0] - self.pads[0])
            column = k.define("column", ow * self.strides[1] - self.pads[1])
            count = _count(bounds)
            if isinstance(count, Expr):
                count = k.define("count", count)
            factor = factor_of(k, v, count)
            with k.loop("c", channels) as c:
                yield Pixel(n, oh, ow, c, row, column, bounds[0], bounds[1], count, window.dilations, factor)


@dataclass(frozen=True)
class Pixel:
    """One result of a pool: its indices, where its window begins in x, the taps inside x, and their number."""

    n: Register
    oh: Register
    ow: Register
    c: Register
    row: Expr
    column: Expr
    rows: tuple[Operand, Operand]
    columns: tuple[Operand, Operand]
    count: Operand
    dilations: tuple[int, int]
    #: The reciprocal of the number of taps, if the pool has any.
    factor: Expr | None

    @property
    def first(self) -> tuple[Operand, Operand]:
        """The first row and the first column of the window inside x, counted in taps."""
        return self.rows[0], self.columns[0]

    def each_tap(self, k: LoopBuilder, take: Callable[[tuple[Expr, Expr, Expr, Expr]], None]) -> None:
        """What `take` makes of the indices of each tap inside x.

        Few taps are written out, so that the loop over channels is the innermost one, which compilers vectorize.
        """

        def at(kh: Operand, kw: Operand) -> None:
            take((self.n, self.row + kh * self.dilations[0], self.column + kw * self.dilations[1], self.c))

        few = isinstance(self.count, int) and self.count <= WRITTEN_TAPS
        match (*self.rows, *self.columns):
            case (int(top), int(bottom), int(left), int(right)) if few:
                for kh, kw in product(range(top, bottom), range(left, right)):
                    at(kh, kw)
            case _:
                with k.loop("kh", *self.rows) as row, k.loop("kw", *self.columns) as column:
                    at(row, column)


def factor_of(k: LoopBuilder, v: Views, count: Operand) -> Expr | None:
    """The reciprocal of a number of taps that is not known at compile time, from the table of an average pool."""
    if "reciprocals" not in v or not isinstance(count, Expr):
        return None
    return k.define("factor", v.reciprocals[count.cast(DType.INDEX)])


def _count(bounds: list[tuple[Operand, Operand]]) -> Operand:
    """How many taps lie inside x, as `i32`."""
    (top, bottom), (left, right) = bounds
    count = (bottom - top) * (right - left)
    return count.cast(DType.I32) if isinstance(count, Expr) else int(count)


@operator("average_pool2d")
class AveragePool2d(Pool):
    """y[n, oh, ow, c] = act(average over the taps inside x of x[n, oh*s - top + kh, ow*s - left + kw, c]).

    Taps outside x count neither in the sum nor in the number. int8: the average of the integers, rounded to nearest,
    halves away from zero; with rounding `onnx` in another quantization, see `onnx_rounding.FloatAverage`: where that
    adds floats, cores without floating-point hardware call the routines of their compiler's runtime library.
    """

    rounding: Rounding = "tflite"
    #: Rounding `onnx` only: the model's numbers are uint8, 128 more than ours.
    is_unsigned: bool = False

    @property
    def _is_float_average(self) -> bool:
        return self.rounding == "onnx" and common.is_int8(self.x)

    def infer(self) -> TensorType:
        if not self._is_float_average:
            return super().infer()
        kept = replace(self, quant=None, rounding="tflite").infer()
        self.float_average()
        return replace(kept, quant=common.result_quant(self))

    @property
    def limits(self) -> tuple[int, int]:
        return common.output_clamp(self, self.activation) if self._is_float_average else super().limits

    def float_average(self) -> FloatAverage:
        """How a window is averaged with rounding `onnx`. Raises `CompileError` where the scales do not fit."""
        source, target = common.operand_quant(self, self.x), common.result_quant(self)
        try:
            return float_average(source, target, self.size[0] * self.size[1], is_unsigned=self.is_unsigned)
        except ValueError as problem:
            raise self.error(str(problem), "unsupported-quantization") from None

    def parameters(self) -> dict[str, Array]:
        """The multiplier or reciprocal of each number of taps, where it depends on the window."""
        if common.is_int8(self.x) and self.window.has_padding and not self._is_float_average:
            counts = range(1, self.size[0] * self.size[1] + 1)
            if not all(map(has_reciprocal, counts)):
                return {}
            return {"reciprocals": np.array([0, *map(reciprocal, counts)], np.int32)}
        if not self._is_float_average or not self.window.has_padding or self.float_average().margin is None:
            return {}
        counts = range(1, self.size[0] * self.size[1] + 1)
        return {"multipliers": np.array([0, *map(self.float_average().multiplier, counts)], np.int32)}

    def compute(self, x: Array) -> Array:
        inside = self.taps(np.ones_like(x, np.int64), 0)
        count = inside.sum(axis=3)
        if self._is_float_average:
            numbers = self.float_average().compute(self.taps(x.astype(np.int64), 0), inside, count)
            return self.clamped(numbers.astype(np.int64) - self._shift)
        if common.is_int8(self.x):
            return self.clamped(arithmetic.average(self.taps(x.astype(np.int64), 0).sum(axis=3), count))
        total = self.taps(x, 0.0).sum(axis=3, dtype=np.float32)
        return common.float_activation_array(self.activation, total / count.astype(np.float32)).astype(np.float32)

    @property
    def _shift(self) -> int:
        """What the numbers of `float_average` are above ours."""
        return UNSIGNED_SHIFT if self.is_unsigned else 0

    def loops(self, k: LoopBuilder, v: Views) -> None:
        is_int8 = common.is_int8(self.x)
        with self.pixel_loops(k, v) as pixel:
            if self._is_float_average:
                multipliers = v.multipliers if "multipliers" in v else None
                number = self.float_average().emit(
                    k, pixel.count, multipliers, lambda take: pixel.each_tap(k, lambda tap: take(v.x[tap]))
                )
                v.y[pixel.n, pixel.oh, pixel.ow, pixel.c] = clamp(number - self._shift, *self.limits).cast(DType.I8)
                return
            total = k.define("total", 0 if is_int8 else common.float_zero())

            def add(tap: tuple[Expr, Expr, Expr, Expr]) -> None:
                total.set(total + common.widened(v.x[tap]))

            pixel.each_tap(k, add)
            if is_int8:
                average = average_of(total, pixel.count, pixel.factor)
            elif isinstance(pixel.count, Expr):
                average = total / pixel.count.cast(DType.F32)
            else:
                average = total / float(pixel.count)
            v.y[pixel.n, pixel.oh, pixel.ow, pixel.c] = self.clamped_element(average)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 5, 4, 3), (3, 2), strides=(2, 1), pads=(1, 0, 1, 1), activation="relu")
        yield cls(s.f32(2, 4, 4, 2), (4, 4))
        yield cls(s.i8(2, 5, 5, 3, zero=-128), (3, 3), pads=(1, 1, 1, 1))
        yield cls(s.i8(1, 6, 4, 2, zero=20), (2, 2), strides=(2, 2), activation="relu6")
        yield cls(s.i8(1, 7, 3, 5, zero=127), (7, 3))
        yield cls(s.f32(1, 6, 5, 2), (3, 2), pads=(2, 0, 2, 1), dilations=(2, 3))
        same, other = s.quant(0.05, -128), s.quant(0.031, 9)
        yield cls(s.i8(1, 6, 8, 3, zero=-128), (2, 2), strides=(2, 2), rounding="onnx", is_unsigned=True, quant=same)
        yield cls(s.i8(2, 5, 6, 2, zero=3), (3, 3), pads=(1, 1, 1, 1), rounding="onnx", activation="relu", quant=other)
        yield cls(s.i8(1, 3, 7, 2, scale=2.0), (3, 4), rounding="onnx", quant=s.quant(1e-2))
        yield cls(s.i8(1, 4, 4, 2, scale=1e-30), (2, 2), rounding="onnx", is_unsigned=True, quant=s.quant(1e-30, 5))


def average_of(total: Expr, count: Operand, factor: Expr | None) -> Expr:
    """The average of `count` int8 numbers whose sum is `total`; `factor` is from `factor_of`."""
    if not isinstance(count, Expr):
        return average_of_bytes(total, int(count))
    return average_rounded(total, count) if factor is None else average_by_reciprocal(total, count, factor)


@operator("max_pool2d")
class MaxPool2d(Pool):
    """y[n, oh, ow, c] = act(maximum over the taps inside x of x[n, oh*s - top + kh, ow*s - left + kw, c]).

    For floats the maximum begins at minus infinity, and is a NaN where a tap is one.
    """

    row_fill = 0x80

    def compute(self, x: Array) -> Array:
        if common.is_int8(self.x):
            return self.clamped(self.taps(x, -128).max(axis=3))
        greatest = self.taps(x, -np.inf).max(axis=3)
        return common.float_activation_array(self.activation, greatest).astype(np.float32)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        is_int8 = common.is_int8(self.x)
        least = Constant(-128, DType.I32) if is_int8 else Constant(-np.inf, DType.F32)
        with self.pixel_loops(k, v) as pixel:
            greatest = k.define("greatest", least)

            def take(tap: tuple[Expr, Expr, Expr, Expr]) -> None:
                if is_int8:
                    greatest.set(maximum(v.x[tap].cast(DType.I32), greatest))
                else:
                    greatest.set(common.greater_or_nan(k.define("x", v.x[tap]), greatest))

            pixel.each_tap(k, take)
            v.y[pixel.n, pixel.oh, pixel.ow, pixel.c] = self.clamped_element(greatest)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 5, 4, 3), (2, 3), strides=(2, 2), pads=(0, 1, 1, 1), activation="relu6")
        yield cls(s.array(np.array([1, np.nan, -np.inf, -np.inf, 3, 2], np.float32).reshape(1, 6, 1, 1)), (2, 1))
        yield cls(s.i8(1, 6, 5, 3, zero=5), (3, 3), strides=(1, 2), pads=(1, 1, 1, 1))
        yield cls(s.i8(2, 4, 4, 2, zero=-128), (2, 2), strides=(2, 2), activation="relu_n1_to_1")
        yield cls(s.i8(1, 3, 1, 4), (3, 1))
        yield cls(s.i8(1, 6, 5, 2), (3, 2), pads=(2, 0, 2, 1), strides=(1, 2), dilations=(2, 3))
