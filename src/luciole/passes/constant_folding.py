"""Computing at compile time what is known then."""

from __future__ import annotations

from luciole.graph.core import Graph, Operator
from luciole.graph.interpret import compute_operator
from luciole.graph.rewrite import RuleCounter, remove_unused
from luciole.ops.quantization import Dequantize
from luciole.ops.quantization_by_channel import DequantizeChannels
from luciole.passes.manager import graph_pass

#: A result of more bytes than its operands is folded up to this size only: it would take flash to save a little time.
MAXIMUM_GROWN_BYTES = 1024


@graph_pass
def fold_constants(graph: Graph, counter: RuleCounter) -> int:
    """Replace operators over constants by their results, unless the result is large and larger than the operands.

        const %a = [1, 2, 3, 4]
        %0 = reshape(%a, shape=[2, 2])        ->        const %0 = [1, 2, 3, 4]

    Outputs are left to be computed: an output is memory that the model writes.
    """
    changes = 0
    # Users of a folded value are replaced by new operators, but results keep their identity.
    for results in [graph.results(op) for op in graph.operators if graph.results(op)]:
        op = results[0].producer
        if counter.is_exhausted or op is None or op not in graph or not _can_fold(graph, op):
            continue
        arrays = {value: value.data for value in op.operands if value.data is not None}
        for value, data in zip(results, compute_operator(op, arrays), strict=True):
            folded = graph.add_constant(data.copy(), value.type.quant, value.name)
            graph.redirect(value, folded)
        counter.count("fold_constant", f"{op} {op.location}".rstrip(), f"{', '.join(map(str, results))}")
        graph.erase(op)
        remove_unused(graph, op.operands)
        changes += 1
    return changes


@graph_pass
def fold_dequantized(graph: Graph, counter: RuleCounter) -> int:
    """Replace dequantized constants by floats: what is not computed in integers needs them in flash, not in RAM.

    const %a = [1, 2]
    %0 = dequantize(%a)        ->        const %0 = [0.5, 1.0]
    """
    changes = 0
    for results in [graph.results(op) for op in graph.operators]:
        op = results[0].producer
        if counter.is_exhausted or not isinstance(op, Dequantize | DequantizeChannels) or op.x.data is None:
            continue
        if graph.is_output(results[0]):
            continue
        graph.redirect(results[0], graph.add_constant(op.compute(op.x.data), name=results[0].name))
        counter.count("fold_dequantized", f"{op} {op.location}".rstrip(), f"{results[0]}")
        graph.erase(op)
        remove_unused(graph, op.operands)
        changes += 1
    return changes


def _can_fold(graph: Graph, op: Operator) -> bool:
    results = graph.results(op)
    if not all(value.is_constant for value in op.operands) or any(map(graph.is_output, results)):
        return False
    if isinstance(op, Dequantize | DequantizeChannels):
        return False  # what `fuse_integers` looks for; the rest is `fold_dequantized`'s
    size = sum(value.type.size_bytes for value in results)
    return size <= max(MAXIMUM_GROWN_BYTES, sum(value.type.size_bytes for value in op.operands))
