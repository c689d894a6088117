"""Where the greatest elements under sliding windows are, and elements put back there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, RowAccess, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr
from luciole.ops import common
from luciole.ops.gather import check_indices, position_of, positions_of
from luciole.ops.pool import Pool


@operator("max_pool_positions2d")
class MaxPoolPositions2d(Pool):
    """y[n, oh, ow, c] = where the greatest tap inside x is, in x with channels first, as i64.

    That is ((n * channels + c) * height + row) * width + column; with `column_major` column * height + row stands for
    row * width + column. Of equal taps the first row counts, then the first column; a NaN is never the greatest.
    """

    column_major: bool = False

    def infer(self) -> TensorType:
        if self.activation != "none":
            raise self.error("positions have no activation")
        return TensorType(DType.I64, super().infer().shape)

    def kernel_shapes(self) -> dict[str, Shape]:
        return {}

    def overlap_bytes(self) -> dict[str, int]:
        return {}

    def row_accesses(self) -> dict[str, RowAccess] | None:
        return None

    def compute(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        spatial = np.arange(height * width)
        places = spatial.reshape(width, height).T if self.column_major else spatial.reshape(height, width)
        planes = np.arange(batch * channels).reshape(batch, 1, 1, channels) * (height * width)
        positions = self.taps(planes + places[None, :, :, None], -1)
        reals = np.where(np.isnan(x), -np.inf, x).astype(np.float64)
        values = np.where(positions >= 0, self.taps(reals, -np.inf), -np.inf)
        is_greatest = (positions >= 0) & (values == values.max(axis=3, keepdims=True))
        first = is_greatest.argmax(axis=3)[:, :, :, None]
        return np.take_along_axis(positions, first, axis=3)[:, :, :, 0].astype(np.int64)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        _, height, width, channels = v.x.shape
        dtype = DType.I32 if common.is_int8(self.x) else DType.F32
        least = Constant(-129, dtype) if common.is_int8(self.x) else Constant(-np.inf, dtype)

        def place(row: Expr, column: Expr) -> Expr:
            return column * height + row if self.column_major else row * width + column

        with self.pixel_loops(k, v) as pixel:
            top, left = (first if isinstance(first, Expr) else Constant(first, DType.INDEX) for first in pixel.first)
            row = pixel.row + top * self.dilations[0]
            column = pixel.column + left * self.dilations[1]
            best = k.define("best", place(row, column), DType.INDEX)
            greatest = k.define("greatest", least)

            def take(tap: tuple[Expr, Expr, Expr, Expr]) -> None:
                x = k.define("x", common.widened(v.x[tap]))
                with k.if_(x > greatest):
                    greatest.set(x)
                    best.set(place(tap[1], tap[2]))

            pixel.each_tap(k, take)
            plane = (pixel.n * channels + pixel.c) * (height * width)
            v.y[pixel.n, pixel.oh, pixel.ow, pixel.c] = (plane + best).cast(DType.I64)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 5, 4, 3), (2, 3), strides=(2, 2), pads=(0, 1, 1, 1))
        yield cls(s.f32(1, 6, 5, 2), (3, 2), pads=(2, 0, 2, 1), dilations=(2, 3), column_major=True)
        yield cls(s.array(np.array([1, np.nan, -np.inf, -np.inf, 3, 3], np.float32).reshape(1, 6, 1, 1)), (2, 1))
        yield cls(s.array(np.full((1, 3, 3, 1), -128, np.int8), s.quant()), (2, 2), pads=(1, 1, 1, 1))
        yield cls(s.i8(2, 4, 4, 2, zero=-128), (4, 4), column_major=True)


@operator("max_unpool")
class MaxUnpool(Operator):
    """y = zeros of `shape`, but y[positions[i...]] = x[i...], where y is seen as one axis; the last update counts.

    Positions are i32 or i64, of the shape of x. A negative one counts from the end, one that is outside takes the
    nearest element.
    """

    x: Value
    positions: Value
    shape: Shape

    def infer(self) -> TensorType:
        x = self.x.type
        check_indices(self, self.positions, "positions")
        if x.dtype is not DType.F32:
            raise self.error("x must be f32", "unsupported-types")
        if self.positions.type.shape != x.shape:
            raise self.error("x and positions must have one shape")
        if min(self.shape, default=1) < 1:
            raise self.error(f"the shape {list(self.shape)} must be positive")
        return TensorType(x.dtype, self.shape)

    def compute(self, x: Array, positions: Array) -> Array:
        y = np.zeros(self.shape, x.dtype)
        flat = y.reshape(-1)
        for place, number in zip(positions_of(positions, y.size).reshape(-1), x.reshape(-1), strict=True):
            flat[place] = number
        return y

    def kernel_shapes(self) -> dict[str, Shape]:
        count = (self.x.type.elements,)
        return {"x": count, "positions": count, "y": (self.infer().elements,)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        (size,), (count,) = v.y.shape, v.x.shape
        with k.loop("j", size) as j:
            v.y[j] = common.float_zero()
        with k.loop("i", count) as i:
            place = k.define("place", position_of(self.positions, v.positions[i], size), DType.INDEX)
            v.y[place] = v.x[i]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 2, 2, 2), s.i32(1, 2, 2, 2, low=0, high=32), (1, 2, 4, 4))
        yield cls(s.f32(4), s.array(np.array([3, -1, 99, 3], np.int64)), (2, 3))
