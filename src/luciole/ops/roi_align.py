"""Regions of images as images of one size: the step between the two stages of detectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Constant, Expr, binary, maximum, select
from luciole.ops.gather import check_indices, position_of, positions_of
from luciole.ops.onnx_options import channels_first, channels_last

#: Samples of a bin along an axis, and rows and columns of a result, at most.
_MAXIMUM_RATIO, _MAXIMUM_SIZE = 64, 1 << 12


@operator("roi_align")
class RoiAlign(Operator):
    """y[r, i, j, c] = the mean over a bin of region r of x[batch[r], ..., c], of `ratio` * `ratio` interpolated places.

    f32, channels last; regions are [r, 4]: left, top, right and bottom, times `scale`, less a half with `half_pixel`;
    without it they are one row and column at least. Places further than one outside of the image count as 0. With
    `is_maximum`, the greatest of the weighted neighbors of all places. (ONNX operator documentation, RoiAlign.)
    """

    x: Value
    regions: Value
    batch: Value
    size: tuple[int, int]
    ratio: int
    scale: float = 1.0
    half_pixel: bool = True
    is_maximum: bool = False

    def infer(self) -> TensorType:
        x, regions = self.x.type, self.regions.type
        if x.dtype is not DType.F32 or regions.dtype is not DType.F32:
            raise self.error("x and regions must be f32", "unsupported-types")
        check_indices(self, self.batch, "batch")
        if x.rank != 4 or regions.rank != 2 or regions.shape[1] != 4 or self.batch.type.shape != regions.shape[:1]:
            raise self.error("x must have four axes, regions four numbers, and batch one for each region")
        if not 1 <= self.ratio <= _MAXIMUM_RATIO or not all(1 <= size <= _MAXIMUM_SIZE for size in self.size):
            raise self.error(f"ratio must be 1 to {_MAXIMUM_RATIO}, sizes 1 to {_MAXIMUM_SIZE}")
        if min(x.shape[1:3]) < 1 or not np.isfinite(self.scale):
            raise self.error("the image must have rows and columns, and the scale be finite")
        return TensorType(DType.F32, (regions.shape[0], *self.size, x.shape[3]))

    def macs(self) -> int:
        return 4 * self.ratio**2 * self.infer().elements

    def compute(self, x: Array, regions: Array, batch: Array) -> Array:
        one, (_, height, width, channels) = np.float32, x.shape
        y = np.zeros(self.infer().shape, np.float32)
        images = positions_of(batch, x.shape[0])
        with np.errstate(all="ignore"):
            ends = regions * one(self.scale) - one(0.5 if self.half_pixel else 0.0)
            extents = ends[:, 2:] - ends[:, :2]
            if not self.half_pixel:
                extents = np.where(extents > one(1), extents, one(1))
            bins = extents / np.array(self.size[::-1], np.float32)
            for r, i, j in np.ndindex(*y.shape[:3]):
                total = np.full(channels, -np.inf if self.is_maximum else 0, np.float32)
                for a, b in np.ndindex(self.ratio, self.ratio):
                    row = ends[r, 1] + one(i) * bins[r, 1] + one(a + 0.5) * bins[r, 1] / one(self.ratio)
                    column = ends[r, 0] + one(j) * bins[r, 0] + one(b + 0.5) * bins[r, 0] / one(self.ratio)
                    parts = self._parts(x[images[r]], row, column, height, width)
                    total = np.maximum(total, np.max(parts, axis=0)) if self.is_maximum else total + sum(parts)
                y[r, i, j] = total if self.is_maximum else total / one(self.ratio**2)
        return y

    def _parts(self, image: Array, row: Array, column: Array, height: int, width: int) -> list[Array]:
        """The four weighted neighbors of a place."""
        one = np.float32
        inside = -1 <= row <= height and -1 <= column <= width
        row, column = (np.asarray(np.maximum(place, one(0)) if inside else one(0)) for place in (row, column))
        top, left = min(int(row), height - 1), min(int(column), width - 1)
        down = row - one(top) if top < height - 1 else one(0)
        across = column - one(left) if left < width - 1 else one(0)
        bottom, right, level = min(top + 1, height - 1), min(left + 1, width - 1), one(inside)
        return [
            (one(1) - down) * (one(1) - across) * level * image[top, left],
            (one(1) - down) * across * level * image[top, right],
            down * (one(1) - across) * level * image[bottom, left],
            down * across * level * image[bottom, right],
        ]

    def loops(self, k: LoopBuilder, v: Views) -> None:
        count, rows, columns, channels = v.y.shape
        images, height, width, _ = v.x.shape
        with k.loop("r", count) as r:
            image = k.define("image", position_of(self.batch, v.batch[r], images), DType.INDEX)
            left, top, right, bottom = (
                k.define("end", v.regions[r, end] * self.scale - (0.5 if self.half_pixel else 0.0)) for end in range(4)
            )
            bin_height, bin_width = (
                k.define("bin", self._extent(last - first) / float(size))
                for first, last, size in ((top, bottom, rows), (left, right, columns))
            )
            with k.loop("i", rows) as i, k.loop("j", columns) as j:
                start = Constant(-np.inf if self.is_maximum else 0.0, DType.F32)
                with k.loop("c", channels) as c:
                    v.y[r, i, j, c] = start
                with k.loop("a", self.ratio) as a, k.loop("b", self.ratio) as b:
                    places = [
                        k.define("place", end + _real(n) * size + (_real(m) + 0.5) * size / float(self.ratio))
                        for end, n, m, size in ((top, i, a, bin_height), (left, j, b, bin_width))
                    ]
                    self._add_place(k, v, (image, r, i, j), places, (height, width))
                if not self.is_maximum:
                    with k.loop("c", channels) as c:
                        v.y[r, i, j, c] = v.y[r, i, j, c] / float(self.ratio**2)

    def _extent(self, length: Expr) -> Expr:
        return length if self.half_pixel else select(length > 1.0, length, 1.0)

    def _add_place(
        self,
        k: LoopBuilder,
        v: Views,
        at: tuple[Register, Register, Register, Register],
        places: list[Register],
        sizes: tuple[int, int],
    ) -> None:
        """Add what the neighbors of a place give, channel by channel."""
        image, r, i, j = at
        within = [binary("and", place >= -1.0, place <= float(size)) for place, size in zip(places, sizes, strict=True)]
        inside = k.define("inside", binary("and", *within))
        axes = []
        for place, size in zip(places, sizes, strict=True):
            moved = k.define("moved", select(binary("and", inside, place > 0.0), place, 0.0))
            low = k.define("low", moved.cast(DType.I32))
            is_last = k.define("is_last", low >= size - 1)
            first = k.define("first", select(is_last, Constant(size - 1, DType.I32), low))
            second = k.define("second", select(is_last, first, first + 1))
            ratio = k.define("ratio", select(is_last, 0.0, moved - first.cast(DType.F32)))
            axes.append(((first, 1.0 - ratio), (second, ratio)))
        level = k.define("level", select(inside, Constant(1.0, DType.F32), Constant(0.0, DType.F32)))
        taps = [
            (
                k.define("row", row.cast(DType.INDEX), DType.INDEX),
                k.define("column", column.cast(DType.INDEX), DType.INDEX),
                k.define("weight", down * across * level),
            )
            for row, down in axes[0]
            for column, across in axes[1]
        ]
        with k.loop("c", v.y.shape[3]) as c:
            parts = [k.define("part", weight * v.x[image, row, column, c]) for row, column, weight in taps]
            before = k.define("before", v.y[r, i, j, c])
            if self.is_maximum:
                greatest: Expr = before
                for part in parts:
                    greatest = maximum(greatest, part)
                v.y[r, i, j, c] = greatest
            else:
                v.y[r, i, j, c] = before + (parts[0] + parts[1] + parts[2] + parts[3])

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        regions = s.f32(3, 4, low=-2, high=9)
        batch = s.constant(np.array([0, 1, 1], np.int64))
        yield cls(s.f32(2, 6, 5, 3), regions, batch, (2, 3), 2, 0.7)
        yield cls(s.f32(2, 6, 5, 2), regions, batch, (3, 2), 1, half_pixel=False)
        odd = s.array(np.array([[np.nan, 0, np.inf, 3], [-9, -9, 1e30, 2], [1, 1, 4, 4]], np.float32))
        yield cls(s.f32(2, 4, 1, 1), odd, s.i32(3, low=-3, high=3), (2, 2), 3, is_maximum=True)


def _real(number: Register) -> Expr:
    return number.cast(DType.I32).cast(DType.F32)


@onnx("RoiAlign")
def _import_roi_align(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, the regions, and which image each is of; the places of a bin must be a fixed number."""
    x, regions, batch = (node.input(index) for index in range(3))
    if x.type.rank != 4:
        raise node.error(f"RoiAlign of {x.type}")
    ratio = node.integer("sampling_ratio", 0)
    if ratio < 1:
        raise node.unsupported(
            "RoiAlign with a number of places that depends on the region", help="export the model with sampling_ratio 2"
        )
    names = {name: name for name in ("half_pixel", "output_half_pixel")}
    op = RoiAlign(
        channels_last(node, g, x),
        regions,
        batch,
        (node.integer("output_height", 1), node.integer("output_width", 1)),
        ratio,
        scale=node.number("spatial_scale", 1.0),
        half_pixel=node.choice("coordinate_transformation_mode", names, "half_pixel") == "half_pixel",
        is_maximum=node.choice("mode", {name: name for name in ("avg", "max")}, "avg") == "max",
        location=node.location,
    )
    return channels_first(node, g, g.add(op), 4)
