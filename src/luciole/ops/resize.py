"""Images of another size: rules only. Nearest elements are gathered, others interpolated, one axis after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.ir.types import MAXIMUM_ELEMENTS, Array, DType
from luciole.ops.bilinear import ResizeBilinear
from luciole.ops.gather import taken
from luciole.ops.pad import Pad
from luciole.ops.resample import Resample
from luciole.ops.tflite_options import axis_of, input_of_rank

#: A size that an axis may get; tables of positions grow with it.
_MAXIMUM_SIZE = 1 << 16

_NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}

_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
)  # fmt: skip


@dataclass(frozen=True)
class _Axis:
    """An axis that gets another size. `scale` is of the length, `begin` and `end` are the part of it that is taken."""

    axis: int
    size: int
    count: int
    scale: float
    begin: float = 0.0
    end: float = 1.0

    def coordinates(self, mode: str) -> Array:
        """Where each result lies between the elements of the operand. (ONNX operator documentation, Resize.)

        In float32, as onnxruntime has it: that decides which element is the nearest.
        """
        one = np.float32
        x = np.arange(self.count, dtype=np.float32)
        last, scale = one(self.size - 1), one(self.scale)
        if mode == "align_corners":
            return x * last / one(max(1, self.count - 1))
        if mode == "asymmetric":
            return x / scale
        if mode == "tf_crop_and_resize":
            begin, end = one(self.begin), one(self.end)
            if self.count == 1:
                return np.full(1, one(0.5) * (begin + end) * last)
            return begin * last + x * (end - begin) * last / one(self.count - 1)
        if mode == "pytorch_half_pixel" and self.count == 1:
            return np.zeros(1, np.float32)
        centered = (x + one(0.5)) / scale - one(0.5)
        if mode == "half_pixel_symmetric":
            centered += one(self.size / 2 * (1 - self.count / (self.scale * self.size)))
        return np.asarray(centered, np.float32)


def _linear(x: Array) -> tuple[Array, Array]:
    """Positions and weights of two taps."""
    first = np.floor(x)
    ratio = x.astype(np.float64) - first
    return first[:, None] + np.arange(2), np.stack([1 - ratio, ratio], axis=1)


def _cubic(x: Array, a: float) -> tuple[Array, Array]:
    """Positions and weights of four taps, cubic convolution. (R. Keys, IEEE Trans. ASSP 29(6), 1981.)"""
    first = np.floor(x)
    distance = np.abs(x.astype(np.float64)[:, None] - (first[:, None] + np.arange(-1, 3)))
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return first[:, None] + np.arange(-1, 3), np.where(distance <= 1, near, far)


def _interpolated(
    node: ForeignNode, g: GraphBuilder, x: Value, axis: int, positions: Array, weights: Array, *, excludes: bool = False
) -> Value:
    """x along an axis by taps; those outside take the element at the border, or do not count."""
    size = x.type.shape[axis]
    if excludes:
        weights = np.where((positions >= 0) & (positions < size), weights, 0)
        weights = weights / weights.sum(axis=1, keepdims=True)
    inside = g.constant(np.clip(positions, 0, size - 1).astype(np.int32), name=f"{node.name}/positions")
    factors = g.constant(weights.astype(np.float32), name=f"{node.name}/weights")
    return g.add(Resample(x, inside, factors, axis, location=node.location))


@onnx("Resize")
def _import_resize(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x and constants: the part that is taken, and factors or sizes of all axes or those named."""
    x = node.input(0)
    rank = x.type.rank
    given = node.integers("axes", tuple(range(rank)))
    axes = _axes(node, x, tuple(axis_of(node, axis, rank) for axis in given))
    mode = node.choice("mode", {name: name for name in ("nearest", "linear", "cubic")}, "nearest")
    coordinates = node.choice("coordinate_transformation_mode", {n: n for n in _COORDINATES}, "half_pixel")
    if node.integer("antialias", 0) and mode != "nearest" and any(axis.scale < 1 for axis in axes):
        raise node.unsupported("Resize to a smaller size with antialias is not supported")
    if coordinates in ("align_corners", "tf_crop_and_resize"):
        for axis in axes:
            if axis.count != axis.scale * axis.size:
                raise node.unsupported(f"Resize of an axis of {axis.size} by {axis.scale} with {coordinates}")
    fill = node.number("extrapolation_value", 0.0)
    for axis in axes:
        where = axis.coordinates(coordinates)
        outside = ((where < 0) | (where > axis.size - 1)) & (coordinates == "tf_crop_and_resize")
        x = _resized(node, g, x, axis, where[~outside], mode)
        if outside.any():
            before, after = [0] * rank, [0] * rank
            first = int(np.argmin(outside))
            before[axis.axis], after[axis.axis] = first, int(outside.sum()) - first
            x = g.add(Pad(x, tuple(before), tuple(after), fill, location=node.location))
    return x


def _resized(node: ForeignNode, g: GraphBuilder, x: Value, axis: _Axis, where: Array, mode: str) -> Value:
    """The elements of x at places along an axis, which are sorted."""
    if not where.size:
        raise node.unsupported("Resize that takes nothing of an axis is not supported")
    if mode == "nearest":
        rounded = _NEAREST[node.choice("nearest_mode", {n: n for n in _NEAREST}, "round_prefer_floor")](where)
        return taken(node, g, x, axis.axis, np.clip(rounded, 0, axis.size - 1).astype(int).tolist())
    if np.array_equal(where, np.arange(axis.size)):
        return x
    if mode == "linear":
        return _interpolated(node, g, x, axis.axis, *_linear(where))
    excludes = bool(node.integer("exclude_outside", 0))
    taps = _cubic(where, node.number("cubic_coeff_a", -0.75))
    return _interpolated(node, g, x, axis.axis, *taps, excludes=excludes)


def _axes(node: ForeignNode, x: Value, axes: tuple[int, ...]) -> list[_Axis]:
    """The axes that change. Raises `CompileError` for sizes and factors that contradict each other."""
    shape = [x.type.shape[axis] for axis in axes]
    by_factor = node.optional(2) is not None and node.input(2).type.elements > 0
    if by_factor:
        scales = [float(scale) for scale in np.atleast_1d(node.constant(2)).astype(np.float64)]
        if len(scales) != len(axes) or not all(math.isfinite(s) and 0 < s <= _MAXIMUM_SIZE for s in scales):
            raise node.error(f"{node.kind} of {x.type} along {len(axes)} axes by {scales}")
        sizes = [math.floor(np.float32(size) * np.float32(scale)) for size, scale in zip(shape, scales, strict=True)]
    else:
        sizes = list(node.constant_integers(3))
        if len(sizes) != len(axes) or min(sizes, default=1) < 1:
            raise node.error(f"{node.kind} of {x.type} along {len(axes)} axes to {sizes}")
        scales = [count / size for count, size in zip(sizes, shape, strict=True)]
        policies = {name: name for name in ("stretch", "not_larger", "not_smaller")}
        policy = node.choice("keep_aspect_ratio_policy", policies, "stretch")
        if policy != "stretch":
            scale = min(scales) if policy == "not_larger" else max(scales)
            scales = [scale] * len(axes)
            sizes = [math.floor(scale * size + 0.5) for size in shape]
    _check_sizes(node, x, sizes)
    parts = [(0.0, 1.0)] * len(axes)
    if node.text("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        roi = np.atleast_1d(node.constant(1)).astype(np.float64)
        if roi.size != 2 * len(axes) or not np.all(np.isfinite(roi)) or np.any(roi[: len(axes)] > roi[len(axes) :]):
            raise node.unsupported(f"{node.kind} of the part {roi.tolist()}")
        parts = list(zip(roi[: len(axes)].tolist(), roi[len(axes) :].tolist(), strict=True))
    found = zip(axes, shape, sizes, scales, parts, strict=True)
    changed = [_Axis(axis, size, count, scale, *part) for axis, size, count, scale, part in found]
    return [a for a in changed if (a.count, a.scale, a.begin, a.end) != (a.size, 1.0, 0.0, 1.0)]


def _check_sizes(node: ForeignNode, x: Value, sizes: Sequence[int]) -> None:
    if min(sizes, default=1) < 1 or max(sizes, default=1) > _MAXIMUM_SIZE:
        raise node.unsupported(f"{node.kind} of {x.type} to {list(sizes)}", help=f"sizes are 1 to {_MAXIMUM_SIZE}")
    if x.type.elements * math.prod(sizes) > MAXIMUM_ELEMENTS:
        raise node.unsupported(f"{node.kind} of {x.type} gives too many elements", code="too-large")


@onnx("Upsample")
def _import_upsample(node: ForeignNode, g: GraphBuilder) -> Value:
    """By factors, as a Resize that begins at the first element and takes the one before."""
    x = node.input(0)
    axes = _axes(_with_factors(node), x, tuple(range(x.type.rank)))
    mode = node.choice("mode", {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}, "nearest")
    for axis in axes:
        where = axis.coordinates("asymmetric")
        if mode == "nearest":
            x = taken(node, g, x, axis.axis, np.clip(np.floor(where), 0, axis.size - 1).astype(int).tolist())
        else:
            x = _interpolated(node, g, x, axis.axis, *_linear(where))
    return x


def _with_factors(node: ForeignNode) -> ForeignNode:
    """The node with its factors where Resize has them."""
    return replace(node, inputs=(node.inputs[0], None, node.optional(1)))


def _tflite_axes(node: ForeignNode, g: GraphBuilder) -> tuple[Value, list[tuple[int, Array]]]:
    """x, and for both spatial axes where each result lies in the operand, in float as TFLite computes it."""
    x, sizes = input_of_rank(node, 0, 4), node.constant_integers(1)
    if len(sizes) != 2:
        raise node.error(f"{node.kind} to {len(sizes)} sizes")
    _check_sizes(node, x, sizes)
    is_aligned, is_centered = node.boolean("align_corners", False), node.boolean("half_pixel_centers", False)
    where = []
    for axis, count in zip((1, 2), sizes, strict=True):
        size = x.type.shape[axis]
        aligned = is_aligned and count > 1
        scale = np.float32(size - 1) / np.float32(count - 1) if aligned else np.float32(size) / np.float32(count)
        offset = np.float32(0.5 if is_centered else 0.0)
        where.append((axis, (np.arange(count, dtype=np.float32) + offset) * scale))
    return x, where


@tflite("RESIZE_NEAREST_NEIGHBOR")
def _import_resize_nearest(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x and the sizes of both spatial axes."""
    x, axes = _tflite_axes(node, g)
    for axis, where in axes:
        # Halves away from zero, as C's round.
        rounded = np.floor(where + np.float32(0.5)) if node.boolean("align_corners", False) else np.floor(where)
        x = taken(node, g, x, axis, np.clip(rounded, 0, x.type.shape[axis] - 1).astype(int).tolist())
    return x


@tflite("RESIZE_BILINEAR")
def _import_resize_bilinear(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are x, of floats or int8, and the sizes of both spatial axes."""
    x, axes = _tflite_axes(node, g)
    if x.type.dtype is DType.I8:
        op = ResizeBilinear(
            x,
            (len(axes[0][1]), len(axes[1][1])),
            align_corners=node.boolean("align_corners", False),
            half_pixel=node.boolean("half_pixel_centers", False),
            quant=node.output_type.quant,
            location=node.location,
        )
        return g.add(op, node.name)
    if x.type.dtype is not DType.F32:
        raise node.unsupported(f"RESIZE_BILINEAR of {x.type.dtype.value} is not supported", code="unsupported-types")
    for axis, where in axes:
        offset = np.float32(0.5 if node.boolean("half_pixel_centers", False) else 0.0)
        x = _interpolated(node, g, x, axis, *_linear(where - offset))
    return x
