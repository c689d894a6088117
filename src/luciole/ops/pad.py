"""A tensor with a border around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, RowAccess, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.types import MAXIMUM_ELEMENTS, Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr, Operand
from luciole.ops import common
from luciole.ops.gather import check_positions, taken
from luciole.ops.tflite_options import axis_of

#: A border that repeats elements has a table of positions, which this bounds.
_MAXIMUM_BORDER = 1 << 12


@operator("pad")
class Pad(Operator):
    """y = x with `before` and `after` elements of `value` added along each axis.

    `value` is a real number: int8 tensors take what it is in the quantization of x, which for zero is the zero point.
    """

    x: Value
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0

    def infer(self) -> TensorType:
        x = self.x.type
        if len(self.before) != x.rank or len(self.after) != x.rank:
            raise self.error(f"before and after must have {x.rank} elements")
        if min((*self.before, *self.after), default=0) < 0:
            raise self.error(f"before {list(self.before)} and after {list(self.after)} must not be negative")
        self.fill()
        shape = (b + size + a for b, size, a in zip(self.before, x.shape, self.after, strict=True))
        return TensorType(x.dtype, tuple(shape), common.moved_quant(self, self.x))

    def fill(self) -> int | float:
        """The element that stands for `value`. Raises `CompileError` when there is none."""
        dtype = self.x.type.dtype
        if dtype is DType.I8:
            quant = common.operand_quant(self, self.x)
            return int(arithmetic.quantize(self.value, quant.scale, quant.zero_point))
        if dtype.is_float:
            return float(dtype.numpy.type(self.value))
        if not (
            dtype.is_integer and self.value == int(self.value) and dtype.limits[0] <= self.value <= dtype.limits[1]
        ):
            raise self.error(f"{self.value} is no {dtype.value}", "unsupported-types")
        return int(self.value)

    def compute(self, x: Array) -> Array:
        pads = tuple(zip(self.before, self.after, strict=True))
        return np.pad(x, pads, constant_values=self.fill()) if pads else x

    def row_accesses(self) -> dict[str, RowAccess] | None:
        if self.x.type.rank != 4 or self.infer().shape[0] != 1:
            return None
        if not (self.before[1] or self.after[1]):
            return {"x": RowAccess()}
        if self.x.type.dtype is not DType.I8 and self.fill() != 0:
            return None
        return {"x": RowAccess(before=self.before[1], fill=int(self.fill()) & 0xFF)}

    def row_attributes(self) -> dict[str, Any]:
        return {name: (pads[0], 0, *pads[2:]) for name, pads in (("before", self.before), ("after", self.after))}

    def kernel_shapes(self) -> dict[str, Shape]:
        """x with axes merged that no pad separates, y as one run."""
        return {"x": tuple(size for _, size, _ in self.axes()), "y": (self.infer().elements,)}

    def axes(self) -> list[tuple[int, int, int]]:
        """(before, size, after) of each axis; an axis without pads is merged into the one before it."""
        axes: list[tuple[int, int, int]] = []
        for before, size, after in zip(self.before, self.x.type.shape, self.after, strict=True):
            if axes and before == after == 0:
                axes[-1] = (axes[-1][0] * size, axes[-1][1] * size, axes[-1][2] * size)
            else:
                axes.append((before, size, after))
        return axes or [(0, 1, 0)]

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """Each axis fills a run before, goes through its elements, and fills a run after."""
        axes = self.axes()
        fill = Constant(self.fill(), v.y.dtype)

        def fill_run(begin: Operand, count: int) -> None:
            if count:
                with k.loop("i", count) as i:
                    v.y[i + begin] = fill

        def fill_axis(axis: int, begin: Operand, source: tuple[Expr, ...]) -> None:
            before, size, after = axes[axis]
            inner = math.prod(sum(sizes) for sizes in axes[axis + 1 :])
            fill_run(begin, before * inner)
            with k.loop("i", size) as i:
                position = i * inner + before * inner + begin
                if axis + 1 < len(axes):
                    fill_axis(axis + 1, position, (*source, i))
                else:
                    v.y[position] = v.x[(*source, i)]
            fill_run(begin + (before + size) * inner, after * inner)

        fill_axis(0, 0, ())

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(1, 3, 4, 2), (0, 1, 2, 0), (0, 0, 1, 0), value=-1.5)
        yield cls(s.i8(1, 3, 2, 3, zero=-128), (0, 1, 1, 0), (0, 1, 1, 0))
        yield cls(s.i8(2, 3, scale=0.1, zero=5), (1, 0), (0, 2), value=1.0)
        yield cls(s.i32(3), (2,), (1,), value=-7.0)
        yield cls(s.f32(2, 2), (0, 0), (0, 0))


def _import_pad(node: ForeignNode, g: GraphBuilder, value: float) -> Value:
    """Operands are x and a constant of a pair of numbers for each axis."""
    x = node.input(0)
    widths = node.constant_integers(1)
    if len(widths) != 2 * x.type.rank:
        raise node.error(f"{node.kind} of {x.type.rank} dimensions has {len(widths)} widths")
    return g.add(Pad(x, widths[0::2], widths[1::2], value, location=node.location), node.name)


@tflite("PAD")
def _import_zero_pad(node: ForeignNode, g: GraphBuilder) -> Value:
    return _import_pad(node, g, 0.0)


@tflite("PADV2")
def _import_constant_pad(node: ForeignNode, g: GraphBuilder) -> Value:
    """Pads with the third operand, a number of the element type and quantization of x."""
    values, x = node.constant(2), node.input(0).type
    if values.size != 1 or node.input(2).type.dtype is not x.dtype:
        raise node.error(f"PADV2 of {x} by {node.input(2).type}")
    if node.input(2).type.quant != x.quant:
        raise node.unsupported("PADV2 by a number of another quantization", code="unsupported-quantization")
    value = float(values.item())
    if x.quant is not None and not x.quant.is_per_channel:
        value = (value - x.quant.zero_point) * x.quant.scale
    if not np.isfinite(np.float32(value)):
        raise node.unsupported(f"PADV2 by {value} is not supported")
    return _import_pad(node, g, value)


def _mirrored(position: int, size: int, *, twice: bool) -> int:
    """Where a position outside of 0..size is mirrored to; the first and last element are seen `twice` or once."""
    period = 2 * size if twice else max(1, 2 * (size - 1))
    folded = position % period
    return folded if folded < size else period - folded - (1 if twice else 0)


#: Where an element beside an axis comes from, by the way of padding; ONNX's names and TFLite's.
_SOURCES: dict[str, Callable[[int, int], int]] = {
    "edge": lambda position, size: min(max(position, 0), size - 1),
    "reflect": lambda position, size: _mirrored(position, size, twice=False),
    "symmetric": lambda position, size: _mirrored(position, size, twice=True),
    "wrap": lambda position, size: position % size,
}


def _repeated(node: ForeignNode, g: GraphBuilder, mode: str, before: Sequence[int], after: Sequence[int]) -> Value:
    """The operand with borders of its own elements, one axis after the other."""
    x = node.input(0)
    for axis, size in enumerate(x.type.shape):
        if before[axis] or after[axis]:
            check_positions(node, before[axis] + size + after[axis])
            positions = [_SOURCES[mode](place, size) for place in range(-before[axis], size + after[axis])]
            x = taken(node, g, x, axis, positions)
    return x


@tflite("MIRROR_PAD")
def _import_mirror_pad(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x and a constant of a pair of widths for each axis; the border is mirrored."""
    x, widths = node.input(0), node.constant_integers(1)
    mode = node.choice("mode", {"REFLECT": "reflect", "SYMMETRIC": "symmetric"}, "REFLECT")
    before, after = widths[::2], widths[1::2]
    limits = [size - (mode == "reflect") for size in x.type.shape]
    if len(widths) != 2 * x.type.rank or min(widths, default=0) < 0:
        raise node.error(f"MIRROR_PAD of {x.type} by {list(widths)}")
    if any(max(pair) > limit for *pair, limit in zip(before, after, limits, strict=True)):
        raise node.error(f"MIRROR_PAD of {x.type} by {list(widths)}, more than there is to mirror")
    return _repeated(node, g, mode, before, after)


@onnx("Pad")
def _import_onnx_pad(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, all widths before and then all after, and perhaps the number and the axes that widths are of.

    Negative widths take elements away.
    """
    mode = node.choice("mode", {name: name for name in ("constant", "reflect", "edge", "wrap")}, "constant")
    x, widths = node.input(0), node.constant_integers(1)
    rank = x.type.rank
    given = node.constant_integers(3) if node.optional(3) is not None else tuple(range(rank))
    axes = tuple(axis_of(node, axis, rank) for axis in given)
    if len(set(axes)) != len(axes) or len(widths) != 2 * len(axes):
        raise node.error(f"Pad of axes {list(axes)} of {x.type} by {len(widths)} widths")
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis], after[axis] = widths[position], widths[len(axes) + position]
    sizes = [b + n + a for b, n, a in zip(before, x.type.shape, after, strict=True)]
    if min(sizes, default=1) < 1:
        raise node.unsupported(f"Pad of {x.type} by {list(widths)} gives no elements", code="unsupported-empty")
    if math.prod(sizes) > MAXIMUM_ELEMENTS or max(sizes, default=1) > MAXIMUM_ELEMENTS:
        raise node.unsupported(f"Pad of {x.type} gives too many elements", code="too-large")
    if mode != "constant":
        if max(widths, default=0) > _MAXIMUM_BORDER:
            raise node.unsupported(f"Pad of {x.type} by {list(widths)}", help=f"up to {_MAXIMUM_BORDER}")
        return _repeated(node, g, mode, before, after)
    fill = node.constant(2) if node.optional(2) is not None else np.zeros((), np.float32)
    if fill.size != 1 or np.isnan(fill.item()):
        raise node.unsupported("Pad by anything but one number is not supported")
    for axis, size in enumerate(x.type.shape):
        first, last = max(0, -before[axis]), size - max(0, -after[axis])
        if first >= last:
            raise node.unsupported(f"Pad of {x.type} by {list(widths)} takes all of axis {axis}")
        x = taken(node, g, x, axis, range(first, last))
    first_border, last_border = (tuple(max(0, width) for width in side) for side in (before, after))
    return g.add(Pad(x, first_border, last_border, float(fill.item()), location=node.location), node.name)
