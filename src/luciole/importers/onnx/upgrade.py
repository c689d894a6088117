"""Nodes of older opsets in the form that the newest one has, so that rules know one meaning of each operator.

What moved from attributes to operands moves here too: axes, sizes, limits. Where a meaning changed, the node gets an
attribute of ours that says so. (ONNX, Changelog.md.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode
from luciole.ir.types import Array, DType, TensorType


def upgrade(node: ForeignNode, opset: int) -> ForeignNode:
    """The node in its newest form. Raises `CompileError` for attributes of another type than ONNX says."""
    for kind, newest, change in _CHANGES:
        if node.kind == kind and opset < newest:
            node = change(node)
    return node


def _operand(data: Array) -> Value:
    """A constant for rules to look at; no operator can have it as an operand."""
    return Value("attribute", TensorType(DType.of(data), tuple(data.shape)), data)


def _integers(node: ForeignNode, name: str) -> Value | None:
    """An attribute of integers as an operand; None where it is left out."""
    return _operand(np.array(node.integers(name), np.int64)) if name in node.attributes else None


def _moved(node: ForeignNode, *operands: Value | None) -> ForeignNode:
    """The node with further operands behind its first one."""
    return replace(node, inputs=(*node.inputs[:1], *operands))


def _axes(node: ForeignNode) -> ForeignNode:
    return _moved(node, _integers(node, "axes"))


def _split(node: ForeignNode) -> ForeignNode:
    return _moved(node, _integers(node, "split"))


def _pad(node: ForeignNode) -> ForeignNode:
    value = _operand(np.array(node.number("value", 0.0), np.float32))
    return _moved(node, _operand(np.array(node.integers("pads"), np.int64)), value)


def _slice(node: ForeignNode) -> ForeignNode:
    return _moved(node, _integers(node, "starts"), _integers(node, "ends"), _integers(node, "axes"))


def _clip(node: ForeignNode) -> ForeignNode:
    limits = (_operand(np.array(node.number(n), np.float32)) if n in node.attributes else None for n in ("min", "max"))
    return _moved(node, *limits)


def _dropout(node: ForeignNode) -> ForeignNode:
    """Before opset 12, a dropout never trains: it has the operand and nothing else."""
    return replace(node, inputs=node.inputs[:1])


def _softmax(node: ForeignNode) -> ForeignNode:
    """Before opset 13, all axes from `axis` on (by default 1) count as one."""
    return replace(node, attributes={"axis": 1, **node.attributes, "is_flattened": 1})


def _log_softmax(node: ForeignNode) -> ForeignNode:
    """Before opset 13, all axes from `axis` on count as one: the same for the last one."""
    rank = node.input(0).type.rank
    if node.integer("axis", 1) not in (rank - 1, -1):
        raise node.unsupported(f"LogSoftmax of several axes of {node.input(0).type} is not supported")
    return replace(node, attributes={**node.attributes, "axis": -1})


def _channel_slopes(node: ForeignNode) -> ForeignNode:
    """Before opset 7, slopes are of the channels, which are the second axis."""
    return replace(node, attributes={**node.attributes, "by_channel": 1})


def _inference(node: ForeignNode) -> ForeignNode:
    """Before opset 7, an attribute tells inference from training."""
    if not node.integer("is_test", 0):
        raise node.unsupported(f"{node.kind} that trains", help="export the model for inference")
    return node


def _resize(node: ForeignNode) -> ForeignNode:
    """Before opset 11, there are only factors, and the element before is taken, from the first one on."""
    older = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return replace(_moved(node, None, node.optional(1)), attributes={**node.attributes, **older})


def _regions(node: ForeignNode) -> ForeignNode:
    """Before opset 16, regions are not moved by half an element."""
    return replace(node, attributes={**node.attributes, "coordinate_transformation_mode": "output_half_pixel"})


def _upsample(node: ForeignNode) -> ForeignNode:
    """Before opset 9, factors are an attribute."""
    scales = node.attributes.get("scales")
    if not isinstance(scales, tuple) or not all(isinstance(scale, int | float) for scale in scales):
        raise node.error(f"attribute scales of {node.kind} is {scales!r}")
    return _moved(node, _operand(np.array(scales, np.float32)))


def _broadcast(node: ForeignNode) -> ForeignNode:
    """Before opset 7, the second operand was only broadcast when asked to, from `axis` on; now as in numpy."""
    a, b = node.input(0).type, node.input(1).type
    if node.integer("broadcast", 0):
        if b.elements != 1 and node.integer("axis", a.rank - b.rank) != a.rank - b.rank:
            raise node.unsupported(f"{node.kind} that broadcasts from axis {node.integer('axis')} is not supported")
    elif a.shape != b.shape:
        raise node.error(f"{node.kind} of {a} and {b} without broadcasting")
    return node


#: Reductions that took their axes as an operand later than `ReduceSum` did.
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

#: Kind, the opset that brought the newest form, and what makes that of an older one.
_CHANGES: tuple[tuple[str, int, Callable[[ForeignNode], ForeignNode]], ...] = (
    *((kind, 7, _broadcast) for kind in ("Add", "Div", "Mul", "Sub")),
    ("BatchNormalization", 7, _inference),
    ("Clip", 11, _clip),
    ("Dropout", 7, _inference),
    ("Dropout", 12, _dropout),
    ("Hardmax", 13, _softmax),
    ("LogSoftmax", 13, _log_softmax),
    ("PRelu", 7, _channel_slopes),
    ("Pad", 11, _pad),
    ("Resize", 11, _resize),
    ("ReduceSum", 13, _axes),
    *((f"Reduce{kind}", 18, _axes) for kind in _REDUCTIONS),
    ("RoiAlign", 16, _regions),
    ("Slice", 10, _slice),
    ("Softmax", 13, _softmax),
    ("Split", 13, _split),
    ("Squeeze", 13, _axes),
    ("Unsqueeze", 13, _axes),
    ("Upsample", 9, _upsample),
)
