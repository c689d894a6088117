"""Triangles, one-hot vectors, greatest elements, slopes of negative numbers: rules that choose between two tensors."""

from __future__ import annotations

import math

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ops.bits import Or
from luciole.ops.cast import Cast
from luciole.ops.comparison import Equal, Less, Select
from luciole.ops.elementwise import Mul
from luciole.ops.gather import check_positions, taken
from luciole.ops.parametric_relu import ParametricRelu
from luciole.ops.ranking import ArgMax
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import axis_of

#: Bound on the length of a one-hot vector, a free number of the file.
_MAXIMUM_DEPTH = 1 << 16


@onnx("Trilu")
def _import_trilu(node: ForeignNode, g: GraphBuilder) -> Value:
    """The upper or lower triangle of the last two axes; zeros elsewhere, whatever stood there."""
    x = node.input(0)
    if x.type.rank < 2:
        raise node.error(f"Trilu of {x.type}, which is no matrix")
    offset = node.constant_integers(1) if node.optional(1) is not None else (0,)
    if len(offset) != 1:
        raise node.error(f"Trilu with {len(offset)} offsets")
    rows, columns = x.type.shape[-2:]
    check_positions(node, rows * columns)
    diagonal = min(max(offset[0], -rows - 1), columns + 1)
    every = np.ones((rows, columns), np.bool_)
    kept = np.triu(every, diagonal) if node.integer("upper", 1) else np.tril(every, diagonal)
    mask, zero = g.constant(kept, name=f"{node.name}/kept"), g.constant(np.zeros((), x.type.dtype.numpy))
    return g.add(Select(mask, x, zero, location=node.location), node.name)


@onnx("PRelu")
def _import_parametric_relu(node: ForeignNode, g: GraphBuilder) -> Value:
    """x where it is not negative, elsewhere x times a slope, which broadcasts to x."""
    x, slope = node.input(0), node.input(1)
    if node.integer("by_channel", 0) and slope.type.elements > 1:
        slope = reshaped(node, g, slope, (slope.type.elements, *(1,) * max(0, x.type.rank - 2)))
    if x.type.dtype.is_float:
        return g.add(ParametricRelu(x, slope, location=node.location), node.name)
    zero = g.constant(np.zeros((), x.type.dtype.numpy))
    is_negative = g.add(Less(x, zero, location=node.location), f"{node.name}/negative")
    scaled = g.add(Mul(x, slope, location=node.location), f"{node.name}/scaled")
    if scaled.type.shape != x.type.shape:
        raise node.error(f"PRelu of {x.type} with slopes {slope.type}")
    return g.add(Select(is_negative, scaled, x, location=node.location), node.name)


@onnx("Hardmax")
def _import_hardmax(node: ForeignNode, g: GraphBuilder) -> Value:
    """1 at the first of the greatest elements along `axis`, else 0; with `is_flattened`, the meaning before opset 13,
    along all axes from there on together.
    """
    x = node.input(0)
    shape = x.type.shape
    axis = axis_of(node, node.integer("axis", -1), len(shape))
    if node.integer("is_flattened", 0):
        x, axis = reshaped(node, g, x, (math.prod(shape[:axis]), math.prod(shape[axis:]))), 1
    greatest = g.add(ArgMax(x, axis, location=node.location), f"{node.name}/greatest")
    places = np.arange(x.type.shape[axis]).reshape(-1, *(1,) * (x.type.rank - 1 - axis))
    is_there = g.add(Equal(greatest, g.constant(places, name=f"{node.name}/places"), location=node.location))
    return reshaped(node, g, g.add(Cast(is_there, x.type.dtype.value, location=node.location)), shape)


@onnx("OneHot")
def _import_one_hot(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are indices, a constant length, and the two values; indices outside of -length..length choose none."""
    indices, values = node.input(0), node.input(2)
    depth = node.constant(1)
    if depth.size != 1 or not 1 <= depth.item() <= _MAXIMUM_DEPTH or depth.item() != int(depth.item()):
        raise node.unsupported(f"OneHot of length {depth.tolist()}", help=f"from 1 to {_MAXIMUM_DEPTH}")
    if values.type.shape != (2,):
        raise node.error(f"OneHot of values {values.type}; it takes two")
    length, rank = int(depth.item()), indices.type.rank + 1
    axis = axis_of(node, node.integer("axis", -1), rank)
    shape = (*indices.type.shape[:axis], 1, *indices.type.shape[axis:])
    column = reshaped(node, g, indices, shape)
    places = np.arange(length).reshape(-1, *(1,) * (rank - 1 - axis))
    dtype = indices.type.dtype
    hits = []
    for candidates in (places, places - length):
        if dtype.is_float or candidates.min() >= dtype.limits[0]:
            constant = g.constant(candidates.astype(dtype.numpy), name=f"{node.name}/places")
            hits.append(g.add(Equal(column, constant, location=node.location)))
    hit = hits[0] if len(hits) == 1 else g.add(Or(hits[0], hits[1], location=node.location))
    off, on = (reshaped(node, g, taken(node, g, values, 0, [index]), ()) for index in (0, 1))
    return g.add(Select(hit, on, off, location=node.location), node.name)
