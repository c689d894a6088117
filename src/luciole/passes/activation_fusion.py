"""Activations become an attribute of the operator before them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from luciole.graph.core import Graph, Operator
from luciole.graph.rewrite import rule
from luciole.ir.arithmetic import activation_range
from luciole.ir.types import DType
from luciole.ops.activation import Relu, Relu6
from luciole.passes.manager import rules_pass

#: The activation that does what two do, one after the other.
_COMBINED = {
    ("none", "relu"): "relu",
    ("none", "relu6"): "relu6",
    ("relu", "relu"): "relu",
    ("relu", "relu6"): "relu6",
    ("relu6", "relu"): "relu6",
    ("relu6", "relu6"): "relu6",
}


@rule(Relu, Relu6)
def fuse_activation(op: Relu | Relu6, graph: Graph) -> Operator | None:
    """relu(conv2d(x)) -> conv2d(x, activation="relu")

    for every operator that has an attribute `activation`, when nobody else reads its result. In int8 only where both
    have one quantization and the activation is a clamp of the same numbers, so that no bit changes.
    """
    producer = op.x.producer
    if producer is None or graph.use_count(op.x) > 1:
        return None
    first = getattr(producer, "activation", None)
    combined = _COMBINED.get((first, op.kind)) if isinstance(first, str) else None
    if first is None or combined is None or not _is_clamp(op, first, combined):
        return None
    changes: dict[str, Any] = {"activation": combined}
    return replace(producer, **changes)


def _is_clamp(op: Relu | Relu6, first: str, combined: str) -> bool:
    """Whether `op` after the activation `first` is the activation `combined`, for each number that x can hold."""
    if op.x.type.dtype is not DType.I8:
        return True
    quant = op.x.type.quant
    if quant is None or quant != op.quant:
        return False
    numbers = np.arange(-128, 128)
    before = np.clip(numbers, *activation_range(first, quant.scale, quant.zero_point))
    return np.array_equal(
        op.table()[before + 128], np.clip(numbers, *activation_range(combined, quant.scale, quant.zero_point))
    )


FUSE_ACTIVATIONS = rules_pass(
    "fuse_activations",
    "Make relu and relu6 an attribute of the operator before them.",
    [fuse_activation],
)
