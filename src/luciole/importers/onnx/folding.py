"""Nodes whose results are known at import: shapes, and what is computed of constants, in numpy.

Exporters write sizes as little programs (Shape, Gather, Concat, Reshape); those vanish here. Nothing grows without
bound: sizes are checked before arrays are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from luciole.graph.foreign import ForeignNode
from luciole.importers.onnx.tensors import ELEMENT_TYPES, GRAPH_TYPES
from luciole.ir.types import Array

#: No constant made here has more elements; those of real models are shapes and weights.
MAXIMUM_ELEMENTS = 1 << 26

#: What computes the results of a node over constants.
Folder = Callable[[ForeignNode], Array | tuple[Array, ...]]


def fold(node: ForeignNode) -> tuple[Array, ...] | None:
    """The results of a node, or None where they are not known. Raises `CompileError` when the node makes no sense."""
    if node.kind in _OF_SHAPES:
        return (_OF_SHAPES[node.kind](node),)
    folder = _FOLDERS.get(node.kind)
    if folder is None or any(value is not None and value.data is None for value in node.inputs):
        return None
    try:
        with np.errstate(all="ignore"):
            results = folder(node)
    except (ValueError, IndexError, TypeError, OverflowError, np.exceptions.AxisError) as problem:
        raise node.error(f"{node.kind} of constants: {problem}") from None
    return tuple(map(np.asarray, results)) if isinstance(results, tuple) else (np.asarray(results),)


def can_fold(kind: str) -> bool:
    """Whether nodes of a kind are computed here when their operands are constants."""
    return kind in _FOLDERS or kind in _OF_SHAPES


def _shape(node: ForeignNode) -> Array:
    shape = node.input(0).type.shape
    end = node.integer("end", len(shape))
    return np.array(shape[node.integer("start", 0) : end], np.int64)


def _size(node: ForeignNode) -> Array:
    return np.array(node.input(0).type.elements, np.int64)


def _eye(node: ForeignNode) -> Array:
    """Ones on a diagonal."""
    type = node.input(0).type
    if type.rank != 2:
        raise node.error(f"EyeLike of {type}, which is no matrix")
    dtype: np.dtype[Any] | None = type.dtype.numpy
    if "dtype" in node.attributes:
        _, dtype, _ = ELEMENT_TYPES.get(node.integer("dtype"), ("", None, ""))
    if dtype is None or dtype.name not in GRAPH_TYPES:
        raise node.unsupported(f"EyeLike of element type {node.integer('dtype')} is not supported")
    _check_size(node, type.elements)
    rows, columns = type.shape
    offset = min(max(node.integer("k", 0), -rows), columns)
    return np.asarray(np.eye(rows, columns, offset, dtype=dtype))


#: What depends on nothing but the shape of an operand.
_OF_SHAPES: dict[str, Callable[[ForeignNode], Array]] = {"EyeLike": _eye, "Shape": _shape, "Size": _size}


def _check_size(node: ForeignNode, elements: int) -> None:
    if elements > MAXIMUM_ELEMENTS:
        raise node.unsupported(f"{node.kind} makes a constant of {elements} elements", code="too-large")


def _elementwise(function: Callable[..., Array]) -> Folder:
    """Of operands that broadcast; the result has the type of the function's result."""

    def folder(node: ForeignNode) -> Array:
        arrays = [node.constant(index) for index in range(len(node.inputs))]
        _check_size(node, math.prod(np.broadcast_shapes(*(array.shape for array in arrays))))
        return np.asarray(function(*arrays))

    return folder


def _divide(a: Array, b: Array) -> Array:
    """Integers are divided toward zero."""
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    if not np.all(b):
        raise ValueError("division by zero")
    quotient = a // b
    return np.asarray(quotient + ((a % b != 0) & ((a < 0) != (b < 0)))).astype(a.dtype)


def _remainder(node: ForeignNode) -> Array:
    """Of integers: with the sign of the divisor or, with `fmod`, of the dividend."""
    function = np.fmod if node.integer("fmod", 0) else np.mod
    a, b = node.constant(0), node.constant(1)
    if a.dtype.kind not in "iu" or not np.all(b):
        raise ValueError("remainders of floats or by zero are not known at compile time")
    return _elementwise(function)(node)  # type: ignore[return-value]  # of one result


def _triangle(node: ForeignNode) -> Array:
    data = node.constant(0)
    offset = int(node.constant(1).item()) if node.optional(1) is not None else 0
    offset = min(max(offset, -data.shape[-2]), data.shape[-1])
    return np.triu(data, offset) if node.integer("upper", 1) else np.tril(data, offset)


def _cast(node: ForeignNode) -> Array:
    _, dtype, _ = ELEMENT_TYPES.get(node.integer("to"), ("", None, ""))
    if dtype is None or dtype.name not in GRAPH_TYPES:
        raise node.unsupported(f"Cast to element type {node.integer('to')} is not supported")
    data = node.constant(0)
    if data.dtype.kind == "f" and dtype.kind in "iu" and not np.all(np.isfinite(data)):
        raise ValueError("numbers that are not finite have no integer value")
    return data.astype(dtype)


def _constant_of_shape(node: ForeignNode) -> Array:
    shape = node.constant_integers(0)
    value = node.attributes.get("value", np.zeros(1, np.float32))
    if not isinstance(value, np.ndarray) or value.size != 1 or min(shape, default=0) < 0:
        raise ValueError(f"shape {list(shape)} and value {value!r}")
    _check_size(node, math.prod(shape))
    return np.full(shape, value.reshape(()))


def _expand(node: ForeignNode) -> Array:
    data = node.constant(0)
    shape = np.broadcast_shapes(data.shape, node.constant_integers(1))
    _check_size(node, math.prod(shape))
    return np.broadcast_to(data, shape).copy()


def _range(node: ForeignNode) -> Array:
    start, limit, step = (node.constant(index) for index in range(3))
    if step.size != 1 or not step.item():
        raise ValueError("a step of 0")
    count = max(0, math.ceil((limit.item() - start.item()) / step.item()))
    _check_size(node, count)
    return np.asarray(start + np.arange(count) * step).astype(start.dtype).reshape(count)


def _concat(node: ForeignNode) -> Array:
    arrays = [node.constant(index) for index in range(len(node.inputs))]
    _check_size(node, sum(array.size for array in arrays))
    return np.concatenate(arrays, axis=node.integer("axis"))


def _gather(node: ForeignNode) -> Array:
    data, indices, axis = node.constant(0), node.constant(1), node.integer("axis", 0)
    _check_size(node, indices.size * data.size)
    return np.take(data, indices, axis=axis)


def _squeeze(node: ForeignNode) -> Array:
    axes = node.constant_integers(1) if node.optional(1) is not None else None
    return np.squeeze(node.constant(0), axis=axes)


def _transpose(node: ForeignNode) -> Array:
    data = node.constant(0)
    return np.ascontiguousarray(data.transpose(node.integers("perm", tuple(reversed(range(data.ndim))))))


def _reduce_product(node: ForeignNode) -> Array:
    data = node.constant(0)
    named = node.optional(1) is not None
    axes = node.constant_integers(1) if named else node.integers("axes", tuple(range(data.ndim)))
    return np.asarray(np.prod(data, axis=axes, keepdims=bool(node.integer("keepdims", 1)))).astype(data.dtype)


def _slice(node: ForeignNode) -> Array:
    data = node.constant(0)
    starts, ends = node.constant_integers(1), node.constant_integers(2)
    axes = node.constant_integers(3) if node.optional(3) is not None else tuple(range(len(starts)))
    steps = node.constant_integers(4) if node.optional(4) is not None else (1,) * len(starts)
    where = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not -data.ndim <= axis < data.ndim:
            raise ValueError(f"axis {axis} of {data.ndim}")
        where[axis] = slice(*_bounds(range(data.shape[axis])[start:end:step]))
    return data[tuple(where)].copy()


def _bounds(positions: range) -> tuple[int, int | None, int]:
    """A slice that takes the positions of a range, which may go down to the first."""
    return positions.start, positions.stop if positions.stop >= 0 else None, positions.step


#: By kind. Other operators over constants are imported by their rules and computed then.
_FOLDERS: dict[str, Folder] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "Ceil": _elementwise(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(np.equal),
    "Expand": _expand,
    "Floor": _elementwise(np.floor),
    "Gather": _gather,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Max": _elementwise(lambda *arrays: np.asarray(np.max(np.broadcast_arrays(*arrays), axis=0))),
    "Min": _elementwise(lambda *arrays: np.asarray(np.min(np.broadcast_arrays(*arrays), axis=0))),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Mod": _remainder,
    "NonZero": lambda node: np.stack(np.nonzero(np.atleast_1d(node.constant(0)))).astype(np.int64),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Range": _range,
    "ReduceProd": _reduce_product,
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Where": _elementwise(np.where),
    "Xor": _elementwise(np.logical_xor),
}
