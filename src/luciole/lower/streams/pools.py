"""Global averages as sums and what becomes of them, so that the sums can run row by row."""

from __future__ import annotations

from luciole.graph.core import Graph, Operator, Value
from luciole.ops.pixel_sums import AverageOfSums, MeanOfSums, PixelSums
from luciole.ops.pool import AveragePool2d
from luciole.ops.reduce import Mean
from luciole.ops.reshape import Reshape


def split_global_averages(graph: Graph) -> int:
    """Replace every average over all pixels of an image; how many there were. The results are the same bits for int8.

    average_pool2d(x) -> average_of_sums(pixel_sums(x));  mean(x) -> mean_of_sums(pixel_sums(x))
    """
    averages = [op for op in graph.operators if _is_global(op)]
    for op in averages:
        _split(graph, op)
    return len(averages)


def _is_global(op: Operator) -> bool:
    if not isinstance(op, AveragePool2d | Mean) or op.x.type.rank != 4 or op.x.type.shape[0] != 1 or op.x.is_constant:
        return False
    if isinstance(op, AveragePool2d) and op.rounding == "onnx":
        return False
    if isinstance(op, Mean):
        return set(op.axes) == {1, 2} and op.x.type.shape[1] > 1
    return op.size == op.x.type.shape[1:3] and not op.window.has_padding and op.size[0] > 1


def _split(graph: Graph, op: Operator) -> None:
    assert isinstance(op, AveragePool2d | Mean)
    count = op.x.type.shape[1] * op.x.type.shape[2]
    old = graph.result(op)

    def add(new: Operator) -> Value:
        (value,) = graph.add(new, (old.name,), before=op)
        return value

    sums = add(PixelSums(op.x, location=op.location))
    if isinstance(op, Mean):
        result = add(MeanOfSums(sums, count, rounding=op.rounding, quant=old.type.quant, location=op.location))
    else:
        result = add(AverageOfSums(sums, count, op.activation, quant=old.type.quant, location=op.location))
    if result.type.shape != old.type.shape:
        result = add(Reshape(result, old.type.shape, location=op.location))
    graph.redirect(old, result)
    graph.erase(op)
