"""A tensor repeated along its axes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import MAXIMUM_ELEMENTS, Array, Shape, TensorType, broadcast_shapes
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common
from luciole.ops.reshape import reshaped


@operator("tile")
class Tile(Operator):
    """y[i0, i1, ...] = x[i0 mod n0, i1 mod n1, ...] for the sizes n of x, `repeats` times as long along each axis."""

    takes_halves = True

    x: Value
    repeats: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.type
        if len(self.repeats) != x.rank or min(self.repeats, default=1) < 1:
            raise self.error(f"repeats {list(self.repeats)} must be {x.rank} positive numbers")
        shape = tuple(count * size for count, size in zip(self.repeats, x.shape, strict=True))
        return TensorType(x.dtype, shape, common.moved_quant(self, self.x))

    def compute(self, x: Array) -> Array:
        return np.tile(x, self.repeats)

    def _axes(self) -> list[tuple[int, int]]:
        """(repeats, size) of each axis; an axis that is not repeated is merged into the one before it."""
        axes: list[tuple[int, int]] = []
        for count, size in zip(self.repeats, self.x.type.shape, strict=True):
            if axes and count == 1:
                axes[-1] = (axes[-1][0], axes[-1][1] * size)
            else:
                axes.append((count, size))
        return axes or [(1, 1)]

    def kernel_shapes(self) -> dict[str, Shape]:
        axes = self._axes()
        return {"x": tuple(size for _, size in axes), "y": tuple(number for axis in axes for number in axis)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as indices:
            v.y[tuple(indices)] = v.x[tuple(indices[1::2])]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4), (2, 1, 3))
        yield cls(s.i8(1, 3, 2, zero=3), (4, 1, 1))
        yield cls(s.i32(3), (2,))


def _check_size(node: ForeignNode, elements: int) -> None:
    if elements > MAXIMUM_ELEMENTS:
        raise node.unsupported(f"{node.kind} gives {elements} elements", code="too-large")


def broadcast_to(node: ForeignNode, g: GraphBuilder, x: Value, shape: Shape) -> Value:
    """x repeated until it has a shape that it broadcasts to. Raises `CompileError` when it does not."""
    _check_size(node, math.prod(shape))
    full = (1,) * (len(shape) - x.type.rank) + x.type.shape
    if full != x.type.shape:
        x = reshaped(node, g, x, full)
    repeats = tuple(1 if have == size else size for have, size in zip(full, shape, strict=True))
    if shape == full:
        return x
    return g.add(Tile(x, repeats, location=node.location), node.name)


@tflite("TILE")
def _import_tile(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is how often each axis is repeated."""
    return _tiled(node, g)


@tflite("BROADCAST_TO")
def _import_broadcast_to(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is the shape, which x broadcasts to."""
    return _expanded(node, g)


@onnx("Tile")
def _import_onnx_tile(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is how often each axis is repeated."""
    return _tiled(node, g)


@onnx("Expand")
def _import_expand(node: ForeignNode, g: GraphBuilder) -> Value:
    """To a shape that x and the second operand broadcast to."""
    return _expanded(node, g)


def _tiled(node: ForeignNode, g: GraphBuilder) -> Value:
    x, repeats = node.input(0), node.constant_integers(1)
    if len(repeats) != x.type.rank or min(repeats, default=0) < 0:
        raise node.error(f"{node.kind} of {x.type} by {list(repeats)}")
    if 0 in repeats:
        raise node.unsupported(f"{node.kind} by {list(repeats)} gives no elements", code="unsupported-empty")
    _check_size(node, x.type.elements * math.prod(repeats))
    return g.add(Tile(x, repeats, location=node.location), node.name) if x.type.rank else x


def _expanded(node: ForeignNode, g: GraphBuilder) -> Value:
    x, wanted = node.input(0), node.constant_integers(1)
    if 0 in wanted:
        raise node.unsupported(f"{node.kind} to {list(wanted)} gives no elements", code="unsupported-empty")
    try:
        shape = broadcast_shapes(x.type.shape, wanted)
    except ValueError as problem:
        raise node.error(f"{node.kind} of {x.type}: {problem}") from None
    if min(shape, default=1) < 1:
        raise node.error(f"{node.kind} of {x.type} to {list(wanted)}")
    return broadcast_to(node, g, x, shape)
