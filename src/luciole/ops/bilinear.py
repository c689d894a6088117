"""Images of int8 of another size, interpolated along both axes at once as TensorFlow Lite does it, in integers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, cast, select
from luciole.ops import common

#: Bits behind the point of a place along an axis.
_FRACTION_BITS = 10
_ONE = 1 << _FRACTION_BITS
#: An axis has so many elements at most: places fit into 31 bits.
_LARGEST_SIZE = 1 << 16


@operator("resize_bilinear")
class ResizeBilinear(Operator):
    """y[n, i, j, c] = round(sum over both rows a and columns b around of wa * wb * x[n, a, b, c] / 2**20), int8.

    Halves are rounded away from zero, and y keeps the quantization of x. Places are numbers of 2**-10:
    with s = (1024 * size + count // 2) // count, result i lies at i * s, with `half_pixel` at i * s + s // 2 - 512;
    with `align_corners`, size and count are one less in s. (TensorFlow Lite, reference/resize_bilinear.h.)
    """

    x: Value
    size: tuple[int, int]
    align_corners: bool = False
    half_pixel: bool = False

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype is not DType.I8 or x.rank != 4:
            raise self.error("x must have four axes, of i8", "unsupported-types")
        if not all(1 <= size <= _LARGEST_SIZE for size in (*self.size, *x.shape[1:3])):
            raise self.error(f"images have 1 to {_LARGEST_SIZE} rows and columns, not {list(self.size)}")
        if self.align_corners and self.half_pixel:
            raise self.error("align_corners and half_pixel contradict each other")
        common.operand_quant(self, self.x)
        return TensorType(DType.I8, (x.shape[0], *self.size, x.shape[3]), common.kept_quant(self, self.x))

    def macs(self) -> int:
        return 4 * self.infer().elements

    def _taps(self, axis: int) -> tuple[Array, Array]:
        """For each result along an axis (0 rows, 1 columns): the two positions and their weights, [count, 2]."""
        size, count = self.x.type.shape[1 + axis], self.size[axis]
        is_aligned = self.align_corners and count > 1
        span, steps = (size - 1, count - 1) if is_aligned else (size, count)
        scale = (_ONE * span + steps // 2) // steps
        places = np.arange(count, dtype=np.int64) * scale
        if self.half_pixel:
            places += scale // 2 - _ONE // 2
        first = np.clip(places >> _FRACTION_BITS, 0, size - 1)
        second = np.clip((places + _ONE - 1) >> _FRACTION_BITS, 0, size - 1)
        ratio = places - first * _ONE
        return np.stack([first, second], axis=1), np.stack([_ONE - ratio, ratio], axis=1)

    def parameters(self) -> dict[str, Array]:
        """Positions and weights of the taps, [rows, 2] and [columns, 2]."""
        (rows, row_weights), (columns, column_weights) = self._taps(0), self._taps(1)
        found = {"rows": rows, "row_weights": row_weights, "columns": columns, "column_weights": column_weights}
        return {name: array.astype(np.int32) for name, array in found.items()}

    def compute(self, x: Array) -> Array:
        (rows, row_weights), (columns, column_weights) = self._taps(0), self._taps(1)
        total = np.zeros(self.infer().shape, np.int64)
        for a in range(2):
            for b in range(2):
                factor = row_weights[:, a, None, None] * column_weights[:, b, None]
                total += factor * x[:, rows[:, a]][:, :, columns[:, b]].astype(np.int64)
        half = np.where(total > 0, 1 << (2 * _FRACTION_BITS - 1), (1 << (2 * _FRACTION_BITS - 1)) - 1)
        return ((total + half) >> (2 * _FRACTION_BITS)).astype(np.int8)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        batch, rows, columns, channels = v.y.shape
        half = 1 << (2 * _FRACTION_BITS - 1)
        with k.nest("n", batch, rows) as (n, i):
            top, bottom = (k.define("row", v.rows[i, a].cast(DType.INDEX), DType.INDEX) for a in range(2))
            above, below = (k.define("row_weight", v.row_weights[i, a]) for a in range(2))
            with k.loop("j", columns) as j:
                left, right = (k.define("column", v.columns[j, b].cast(DType.INDEX), DType.INDEX) for b in range(2))
                before, behind = (k.define("column_weight", v.column_weights[j, b]) for b in range(2))
                taps: list[tuple[Expr, Expr, Expr]] = [
                    (row, column, k.define("weight", row_weight * column_weight))
                    for row, row_weight in ((top, above), (bottom, below))
                    for column, column_weight in ((left, before), (right, behind))
                ]
                with k.loop("c", channels) as c:
                    total = k.define("total", 0)
                    for row, column, weight in taps:
                        total.set(total + v.x[n, row, column, c].cast(DType.I32) * weight)
                    rounded = total + select(total > 0, cast(half, DType.I32), cast(half - 1, DType.I32))
                    v.y[n, i, j, c] = (rounded >> (2 * _FRACTION_BITS)).cast(DType.I8)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.i8(1, 4, 3, 5, zero=-128), (7, 6))
        yield cls(s.i8(2, 3, 4, 2), (8, 3), half_pixel=True)
        yield cls(s.i8(1, 5, 4, 3, zero=9), (3, 9), align_corners=True)
        yield cls(s.i8(1, 6, 1, 1), (1, 1), align_corners=True)
