"""Images read at places that another tensor gives: warps and deformations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr, Unary, binary, select
from luciole.ops import common
from luciole.ops.onnx_options import channels_first, channels_last

MODES = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")

#: Places further outside than this are moved here, so that they fit integers; an image has fewer rows and columns.
_FURTHEST = float(1 << 20)
_LARGEST_SIZE = 1 << 16
#: The free parameter of cubic convolution. (R. Keys, IEEE Trans. ASSP 29(6), 1981; ONNX operator documentation.)
_CUBIC = -0.75


@dataclass(frozen=True)
class _Numpy:
    """The few operations of places and weights in numpy; `_Kernel` has the same as kernel expressions."""

    def floor(self, x: Array) -> Array:
        """The greatest integer that is no greater."""
        return np.floor(x)

    def round(self, x: Array) -> Array:
        """The nearest integer, halves to even."""
        return np.rint(x)

    def choose(self, condition: Array, a: Any, b: Any) -> Array:
        """`a` where the condition holds, else `b`."""
        return np.asarray(np.where(condition, a, b))

    def equal(self, a: Array, b: Array) -> Array:
        """Whether both are equal."""
        return np.asarray(a == b)

    def both(self, a: Array, b: Array) -> Array:
        """Whether both hold."""
        return a & b

    def integer(self, x: Array) -> Array:
        """A float that is an integer, as i32."""
        return x.astype(np.int32)

    def real(self, x: Array) -> Array:
        """An i32 as a float."""
        return x.astype(np.float32)

    def remainder(self, a: Array, b: int) -> Array:
        """The remainder of a number that is not negative."""
        return a % np.int32(b)

    def constant(self, value: float) -> Any:
        """A float."""
        return np.float32(value)

    def whole(self, value: int) -> Any:
        """An i32."""
        return np.int32(value)


@dataclass(frozen=True)
class _Kernel:
    """The operations of `_Numpy` as kernel expressions; what is used again gets a register."""

    k: LoopBuilder

    def floor(self, x: Expr) -> Expr:
        """See `_Numpy`."""
        return self.k.define("floor", Unary("floor", x.as_data()))

    def round(self, x: Expr) -> Expr:
        """See `_Numpy`."""
        return self.k.define("rounded", Unary("round_even", x.as_data()))

    def choose(self, condition: Expr, a: Any, b: Any) -> Expr:
        """See `_Numpy`."""
        return self.k.define("chosen", select(condition, a, b))

    def equal(self, a: Expr, b: Expr) -> Expr:
        """See `_Numpy`."""
        return a.eq(b)

    def both(self, a: Expr, b: Expr) -> Expr:
        """See `_Numpy`."""
        return binary("and", a, b)

    def integer(self, x: Expr) -> Expr:
        """See `_Numpy`."""
        return self.k.define("integer", x.cast(DType.I32))

    def real(self, x: Expr) -> Expr:
        """See `_Numpy`."""
        return x.cast(DType.F32)

    def remainder(self, a: Expr, b: int) -> Expr:
        """See `_Numpy`."""
        return self.k.define("remainder", a % b)

    def constant(self, value: float) -> Any:
        """See `_Numpy`."""
        return Constant(float(np.float32(value)), DType.F32)

    def whole(self, value: int) -> Any:
        """See `_Numpy`."""
        return Constant(value, DType.I32)


@dataclass(frozen=True)
class _Tap:
    """An element along one axis: its position, moved inside, its weight, and whether it is inside at all."""

    position: Any
    weight: Any
    inside: Any


@operator("grid_sample")
class GridSample(Operator):
    """y[n, i, j, c] = x[n, grid[n, i, j, 1], grid[n, i, j, 0], c], interpolated; f32, channels last.

    -1 and 1 stand for the centers of the first and last elements with `align_corners`, else for their outer edges.
    Outside there are zeros, the nearest element, or (`reflection`) the image again, mirrored. A NaN in the grid counts
    as 0. (ONNX operator documentation, GridSample.)
    """

    x: Value
    grid: Value
    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    def infer(self) -> TensorType:
        x, grid = self.x.type, self.grid.type
        if x.dtype is not DType.F32 or grid.dtype is not DType.F32:
            raise self.error("x and grid must be f32", "unsupported-types")
        if x.rank != 4 or grid.rank != 4 or grid.shape[3] != 2 or x.shape[0] != grid.shape[0]:
            raise self.error("x must be [n, rows, columns, channels], and grid [n, rows, columns, 2]")
        if not all(1 <= size <= _LARGEST_SIZE for size in x.shape[1:3]):
            raise self.error(f"images have 1 to {_LARGEST_SIZE} rows and columns")
        if self.mode not in MODES or self.padding not in PADDINGS:
            raise self.error(f"mode {self.mode!r} and padding {self.padding!r} must be of {MODES} and {PADDINGS}")
        return TensorType(DType.F32, (*grid.shape[:3], x.shape[3]))

    def macs(self) -> int:
        return self.infer().elements * {"nearest": 1, "linear": 4, "cubic": 16}[self.mode]

    def _place(self, m: Any, coordinate: Any, size: int) -> Any:
        """Where a coordinate is along an axis, outside moved inside as `padding` says."""
        one, two = m.constant(1.0), m.constant(2.0)
        number = m.choose(
            m.equal(coordinate, coordinate),
            coordinate,
            m.constant(0.0),
        )
        if self.align_corners:
            real = (number + one) / two * m.constant(size - 1)
        else:
            real = ((number + one) * m.constant(size) - one) / two
        real = m.choose(real > m.constant(_FURTHEST), m.constant(_FURTHEST), real)
        real = m.choose(real < m.constant(-_FURTHEST), m.constant(-_FURTHEST), real)
        if self.mode == "nearest":
            return m.round(real)
        if self.padding == "zeros":
            return real
        low, high = (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)
        inside = m.both(real >= m.constant(low), real <= m.constant(high))
        if self.padding == "border":
            limited = m.choose(real < m.constant(0.0), m.constant(0.0), m.constant(size - 1.0))
            return m.choose(inside, real, limited)
        if high == low:
            return m.choose(inside, real, m.constant(0.0))
        beyond = real - m.constant(low)
        turns = m.floor(beyond / m.constant(high - low))
        rest = beyond - turns * m.constant(high - low)
        is_odd = m.equal(m.integer(turns) & m.whole(1), m.whole(1))
        return m.choose(inside, real, m.choose(is_odd, m.constant(high) - rest, m.constant(low) + rest))

    def _tap(self, m: Any, position: Any, weight: Any, size: int) -> _Tap:
        """An element at an integer position, outside moved inside as `padding` says."""
        zero, last = m.whole(0), m.whole(size - 1)
        inside = m.both(position >= zero, position <= last)
        if self.padding == "reflection" and size > 1:
            period = 2 * (size - 1) if self.align_corners else 2 * size
            turned = m.remainder(m.remainder(position, period) + m.whole(period), period)
            mirrored = m.whole(period if self.align_corners else period - 1) - turned
            position = m.choose(turned <= last, turned, mirrored)
        low = m.choose(position < zero, zero, position)
        return _Tap(m.choose(low > last, last, low), weight, inside)

    def _taps(self, m: Any, coordinate: Any, size: int) -> list[_Tap]:
        """The elements along an axis of `size` that a result is made of."""
        place = self._place(m, coordinate, size)
        if self.mode == "nearest":
            return [self._tap(m, m.integer(place), m.constant(1.0), size)]
        below = m.floor(place)
        first, ratio, one = m.integer(below), place - below, m.constant(1.0)
        if self.mode == "linear":
            offsets, weights = [0, 1], [one - ratio, ratio]
        else:
            offsets = [-1, 0, 1, 2]
            weights = [
                _far(m, ratio + one), _near(m, ratio), _near(m, one - ratio), _far(m, m.constant(2.0) - ratio),
            ]  # fmt: skip
        return [self._tap(m, first + m.whole(o), w, size) for o, w in zip(offsets, weights, strict=True)]

    def compute(self, x: Array, grid: Array) -> Array:
        m, (batch, height, width, _) = _Numpy(), x.shape
        with np.errstate(all="ignore"):
            rows, columns = (self._taps(m, grid[..., 1 - a], size) for a, size in ((0, height), (1, width)))
            images = np.arange(batch)[:, None, None]
            total = np.zeros(self.infer().shape, np.float32)
            for row in rows:
                along = np.zeros_like(total)
                for column in columns:
                    element = x[images, row.position, column.position]
                    if self.padding == "zeros":
                        element = np.where((row.inside & column.inside)[..., None], element, np.float32(0))
                    along = along + np.asarray(column.weight, np.float32)[..., None] * element
                total = total + np.asarray(row.weight, np.float32)[..., None] * along
        return total

    def loops(self, k: LoopBuilder, v: Views) -> None:
        m, (batch, rows, columns, channels) = _Kernel(k), v.y.shape
        _, height, width, _ = v.x.shape
        with k.nest("n", batch, rows, columns) as (n, i, j):
            down = self._registers(k, self._taps(m, k.define("row", v.grid[n, i, j, 1]), height))
            across = self._registers(k, self._taps(m, k.define("column", v.grid[n, i, j, 0]), width))
            with k.loop("c", channels) as c:
                total = k.define("total", common.float_zero())
                for row in down:
                    along = k.define("along", common.float_zero())
                    for column in across:
                        element: Expr = v.x[n, row.position, column.position, c]
                        if self.padding == "zeros":
                            element = select(binary("and", row.inside, column.inside), element, 0.0)
                        along.set(along + column.weight * element)
                    total.set(total + row.weight * along)
                v.y[n, i, j, c] = total

    def _registers(self, k: LoopBuilder, taps: list[_Tap]) -> list[_Tap]:
        return [
            _Tap(
                k.define("position", tap.position.cast(DType.INDEX), DType.INDEX),
                k.define("weight", tap.weight),
                k.define("inside", tap.inside),
            )
            for tap in taps
        ]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        for padding in PADDINGS:
            for mode in MODES:
                grid = s.f32(1, 3, 4, 2, low=-1.7, high=1.7)
                yield cls(s.f32(1, 5, 4, 2), grid, mode, padding, align_corners=mode == "linear")
        far = np.array([[np.nan, 0], [np.inf, -np.inf], [-9, 7], [1e30, -1]], np.float32).reshape(1, 2, 2, 2)
        for align_corners in (False, True):
            yield cls(s.f32(1, 1, 3, 1), s.array(far), "cubic", "reflection", align_corners)
        yield cls(s.f32(2, 3, 1, 3), s.f32(2, 2, 2, 2, low=-3, high=3), "linear", "reflection")


def _near(m: Any, distance: Any) -> Any:
    """The weight of cubic convolution of an element nearer than one."""
    slope, level, one = m.constant(_CUBIC + 2), m.constant(_CUBIC + 3), m.constant(1.0)
    return (slope * distance - level) * distance * distance + one


def _far(m: Any, distance: Any) -> Any:
    """The weight of cubic convolution of an element one to two away."""
    five, eight, four = (m.constant(times * _CUBIC) for times in (5, 8, 4))
    return ((m.constant(_CUBIC) * distance - five) * distance + eight) * distance - four


_NAMES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic", "bicubic": "cubic"}


@onnx("GridSample")
def _import_grid_sample(node: ForeignNode, g: GraphBuilder) -> Value:
    """Images of two spatial dimensions."""
    x, grid = node.input(0), node.input(1)
    if x.type.rank != 4:
        raise node.unsupported(f"GridSample of {x.type.rank - 2} spatial dimensions", help="two are supported")
    mode = node.choice("mode", _NAMES, "linear")
    padding = node.choice("padding_mode", {name: name for name in PADDINGS}, "zeros")
    last = channels_last(node, g, x)
    aligned = bool(node.integer("align_corners", 0))
    return channels_first(node, g, g.add(GridSample(last, grid, mode, padding, aligned, location=node.location)), 4)
