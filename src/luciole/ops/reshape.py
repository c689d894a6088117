"""The same numbers under another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common
from luciole.ops.tflite_options import axis_of


@operator("reshape")
class Reshape(Operator):
    """y = the elements of x in row-major order, under `shape`. No code where the buffer can be shared, else a copy."""

    takes_halves = True

    x: Value
    shape: tuple[int, ...]

    def infer(self) -> TensorType:
        if min(self.shape, default=0) < 0 or math.prod(self.shape) != self.x.type.elements:
            raise self.error(f"x has {self.x.type.elements} elements, shape {list(self.shape)} is of another number")
        return TensorType(self.x.type.dtype, self.shape, common.moved_quant(self, self.x))

    def compute(self, x: Array) -> Array:
        return x.reshape(self.shape)

    @property
    def is_view(self) -> bool:
        return True

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    def kernel_shapes(self) -> dict[str, Shape]:
        return {name: (self.x.type.elements,) for name in ("x", "y")}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.loop("i", v.y.shape[0]) as i:
            v.y[i] = v.x[i]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4), (6, 4))
        yield cls(s.i8(1, 1, 1, 5, zero=3), (1, 5))
        yield cls(s.i32(1), ())


def _import_as(node: ForeignNode, g: GraphBuilder, shape: tuple[int, ...]) -> Value:
    return g.add(Reshape(node.input(0), shape, location=node.location), node.name)


def reshaped(node: ForeignNode, g: GraphBuilder, x: Value, shape: Shape) -> Value:
    """x under another shape; a constant at once."""
    if x.data is not None:
        return g.constant(x.data.reshape(shape), x.type.quant, x.name)
    return g.add(Reshape(x, shape, location=node.location))


@tflite("RESHAPE")
def _import_reshape(node: ForeignNode, g: GraphBuilder) -> Value:
    """The shape is the second operand or, in older files, an option; one size may be -1, what remains.

    A shape that is computed can only be meant to give the result's shape, which the file states.
    """
    shape = node.integers("new_shape", ())
    if operand := node.optional(1):
        shape = node.constant_integers(1) if operand.is_constant else node.output_type.shape
    elements, known = node.input(0).type.elements, math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and elements % known == 0:
        shape = tuple(elements // known if size == -1 else size for size in shape)
    return _import_as(node, g, shape)


@tflite("SQUEEZE")
def _import_squeeze(node: ForeignNode, g: GraphBuilder) -> Value:
    """Without some axes of size one, or without all of them."""
    x = node.input(0).type
    axes = {axis_of(node, axis, x.rank) for axis in node.integers("squeeze_dims", ())}
    if any(x.shape[axis] != 1 for axis in axes):
        raise node.error(f"SQUEEZE of {x} drops axes {sorted(axes)}, which are not all of size 1")
    axes = axes or {axis for axis, size in enumerate(x.shape) if size == 1}
    return _import_as(node, g, tuple(size for axis, size in enumerate(x.shape) if axis not in axes))


@tflite("EXPAND_DIMS")
def _import_expand_dims(node: ForeignNode, g: GraphBuilder) -> Value:
    """With one more axis of size one, before the given axis of the result."""
    shape, axes = node.input(0).type.shape, node.constant_integers(1)
    if len(axes) != 1:
        raise node.error(f"EXPAND_DIMS with {len(axes)} axes; it takes one")
    axis = axis_of(node, axes[0], len(shape) + 1)
    return _import_as(node, g, (*shape[:axis], 1, *shape[axis:]))


@onnx("Reshape")
def _import_onnx_reshape(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is the shape: -1 is what remains and, unless `allowzero`, 0 the size that x has there."""
    x = node.input(0).type
    shape = node.constant_integers(1)
    if not node.integer("allowzero", 0):
        if any(size == 0 for size in shape[x.rank :]):
            raise node.error(f"Reshape of {x} to {list(shape)}: 0 stands for a size that x does not have")
        shape = tuple(x.shape[axis] if size == 0 else size for axis, size in enumerate(shape))
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and x.elements % known == 0:
        shape = tuple(x.elements // known if size == -1 else size for size in shape)
    if min(shape, default=1) < 0 or math.prod(shape) != x.elements:
        raise node.error(f"Reshape of {x} to {list(shape)}")
    return _import_as(node, g, shape)


@onnx("Flatten")
def _import_onnx_flatten(node: ForeignNode, g: GraphBuilder) -> Value:
    """To two axes: those before `axis`, and those from there on."""
    shape, axis = node.input(0).type.shape, node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise node.error(f"Flatten at axis {axis} of {len(shape)}")
    axis = axis + len(shape) if axis < 0 else axis
    return _import_as(node, g, (math.prod(shape[:axis]), math.prod(shape[axis:])))


@onnx("Squeeze")
def _import_onnx_squeeze(node: ForeignNode, g: GraphBuilder) -> Value:
    """Without the axes that the second operand names, or without all of size one."""
    x = node.input(0).type
    given = node.constant_integers(1) if node.optional(1) is not None else ()
    axes = {axis_of(node, axis, x.rank) for axis in given} or {i for i, size in enumerate(x.shape) if size == 1}
    if any(x.shape[axis] != 1 for axis in axes):
        raise node.error(f"Squeeze of {x} drops axes {sorted(axes)}, which are not all of size 1")
    return _import_as(node, g, tuple(size for axis, size in enumerate(x.shape) if axis not in axes))


@onnx("Unsqueeze")
def _import_onnx_unsqueeze(node: ForeignNode, g: GraphBuilder) -> Value:
    """With axes of size one where the second operand says, counted in the result."""
    shape, given = node.input(0).type.shape, node.constant_integers(1)
    rank = len(shape) + len(given)
    axes = {axis_of(node, axis, rank) for axis in given}
    if len(axes) != len(given):
        raise node.error(f"Unsqueeze names an axis twice: {list(given)}")
    sizes = iter(shape)
    return _import_as(node, g, tuple(1 if axis in axes else next(sizes) for axis in range(rank)))
