"""Channels to pixels and back: rules only, since each is a transpose between two reshapes."""

from __future__ import annotations

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.ir.types import Shape
from luciole.ops.onnx_options import permuted
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import input_of_rank


def _rearranged(
    node: ForeignNode, g: GraphBuilder, x: Value, split: Shape, permutation: tuple[int, ...], shape: Shape
) -> Value:
    """x under a shape with more axes, their order changed, and under the shape of the result."""
    return reshaped(node, g, permuted(node, g, reshaped(node, g, x, split), permutation), shape)


def _split(node: ForeignNode, x: Value, axes: tuple[int, ...], count: int) -> None:
    """Raise `CompileError` when an axis has no whole number of parts."""
    if any(x.type.shape[axis] % count for axis in axes):
        raise node.error(f"{node.kind} of {x.type} in blocks that do not divide it")


@onnx("DepthToSpace")
def _import_depth_to_space(node: ForeignNode, g: GraphBuilder) -> Value:
    """Channels first; `mode` says whether a block's rows and columns come before (DCR) or behind the channels (CRD)."""
    x, size = input_of_rank(node, 0, 4), node.positive("blocksize")
    _split(node, x, (1,), size * size)
    batch, channels, height, width = x.type.shape
    kept = channels // (size * size)
    shape = (batch, kept, height * size, width * size)
    if node.choice("mode", {"DCR": "depth first", "CRD": "depth last"}, "DCR") == "depth first":
        return _rearranged(node, g, x, (batch, size, size, kept, height, width), (0, 3, 4, 1, 5, 2), shape)
    return _rearranged(node, g, x, (batch, kept, size, size, height, width), (0, 1, 4, 2, 5, 3), shape)


@onnx("SpaceToDepth")
def _import_space_to_depth(node: ForeignNode, g: GraphBuilder) -> Value:
    """Channels first; `mode` as of DepthToSpace, whose inverse this is."""
    x, size = input_of_rank(node, 0, 4), node.positive("blocksize")
    _split(node, x, (2, 3), size)
    batch, channels, height, width = x.type.shape
    split = (batch, channels, height // size, size, width // size, size)
    is_first = node.choice("mode", {"DCR": "depth first", "CRD": "depth last"}, "DCR") == "depth first"
    permutation = (0, 3, 5, 1, 2, 4) if is_first else (0, 1, 3, 5, 2, 4)
    return _rearranged(node, g, x, split, permutation, (batch, channels * size * size, height // size, width // size))


@tflite("DEPTH_TO_SPACE")
def _import_tflite_depth_to_space(node: ForeignNode, g: GraphBuilder) -> Value:
    """Channels last; the rows and columns of a block come before the channels."""
    x, size = input_of_rank(node, 0, 4), node.positive("block_size")
    _split(node, x, (3,), size * size)
    batch, height, width, channels = x.type.shape
    kept = channels // (size * size)
    shape = (batch, height * size, width * size, kept)
    return _rearranged(node, g, x, (batch, height, width, size, size, kept), (0, 1, 3, 2, 4, 5), shape)


@tflite("SPACE_TO_DEPTH")
def _import_tflite_space_to_depth(node: ForeignNode, g: GraphBuilder) -> Value:
    """Channels last; the rows and columns of a block come before the channels."""
    x, size = input_of_rank(node, 0, 4), node.positive("block_size")
    _split(node, x, (1, 2), size)
    batch, height, width, channels = x.type.shape
    split = (batch, height // size, size, width // size, size, channels)
    shape = (batch, height // size, width // size, channels * size * size)
    return _rearranged(node, g, x, split, (0, 1, 3, 2, 4, 5), shape)
