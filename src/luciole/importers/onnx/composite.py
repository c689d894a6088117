"""ONNX operators that are their operand at inference."""

from __future__ import annotations

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.importers.onnx.tensors import ELEMENT_TYPES, GRAPH_TYPES, element_name
from luciole.ir.types import DType
from luciole.ops.cast import Bitcast, cast_to


@onnx("Identity")
def _import_identity(node: ForeignNode, g: GraphBuilder) -> Value:
    return node.input(0)


@onnx("Dropout")
def _import_dropout(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """At inference, or with nothing dropped; the mask as a second result keeps everything."""
    ratio = node.constant(1) if node.optional(1) is not None else np.array(0.5)
    if node.optional(2) is not None and node.constant(2).any() and ratio.any():
        raise node.unsupported("Dropout that trains", help="export the model for inference")
    x = node.input(0)
    if not any(node.output_names[1:]):
        return (x,)
    return x, g.constant(np.ones(x.type.shape, np.bool_), name=node.output_names[1])


@onnx("Cast")
def _import_cast(node: ForeignNode, g: GraphBuilder) -> Value:
    """Between truth values, integers and floats."""
    target = node.integer("to")
    _, dtype, _ = ELEMENT_TYPES.get(target, ("", None, ""))
    x = node.input(0)
    if dtype is None or dtype.name not in GRAPH_TYPES:
        raise node.unsupported(f"Cast of {x.type.dtype.numpy.name} to {element_name(target)} is not supported")
    return cast_to(g, x, DType.of(np.empty(0, dtype)), node)


@onnx("BitCast")
def _import_bitcast(node: ForeignNode, g: GraphBuilder) -> Value:
    """The bits as another element type of the same width."""
    target = node.integer("to")
    _, dtype, _ = ELEMENT_TYPES.get(target, ("", None, ""))
    x = node.input(0)
    if dtype is None or dtype.name not in GRAPH_TYPES:
        raise node.unsupported(f"BitCast of {x.type.dtype.numpy.name} to {element_name(target)} is not supported")
    return g.add(Bitcast(x, DType.of(np.empty(0, dtype)).value, location=node.location), node.name)


@onnx("CastLike")
def _import_cast_like(node: ForeignNode, g: GraphBuilder) -> Value:
    """To the element type of the second operand."""
    return cast_to(g, node.input(0), node.input(1).type.dtype, node)
