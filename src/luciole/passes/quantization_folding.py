"""Changes of scale that change nothing."""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Graph, Value
from luciole.graph.rewrite import rule
from luciole.ops.quantization import Dequantize, Quantize, Requantize
from luciole.passes.manager import rules_pass


@rule(Requantize)
def drop_requantize(op: Requantize, graph: Graph) -> Value | None:
    """requantize(x) -> x    when both have one quantization and every number stays itself."""
    if op.x.type.quant != op.quant or not np.array_equal(op.table(), np.arange(-128, 128)):
        return None
    return op.x


@rule(Quantize)
def drop_quantize_of_dequantize(op: Quantize, graph: Graph) -> Value | None:
    """quantize(dequantize(x)) -> x    when both have one quantization and every number stays itself."""
    first = op.x.producer
    if not isinstance(first, Dequantize) or first.x.type.quant != op.quant:
        return None
    numbers = np.arange(-128, 128).astype(np.int8)
    return first.x if np.array_equal(op.compute(first.compute(numbers)), numbers) else None


FOLD_QUANTIZATION = rules_pass(
    "fold_quantization",
    "Remove requantizations, and pairs of dequantize and quantize, that give back the same numbers.",
    [drop_requantize, drop_quantize_of_dequantize],
)
