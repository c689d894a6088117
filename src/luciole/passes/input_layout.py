"""Inputs in the layout that the layers want: a transpose at the beginning becomes the caller's concern."""

from __future__ import annotations

from luciole.errors import CompileError
from luciole.graph.core import Graph, Value
from luciole.ops.transpose import Transpose

#: From channels first to channels last.
_TO_CHANNELS_LAST = (0, 2, 3, 1)


def take_channels_last(graph: Graph) -> int:
    """Let inputs that are only transposed to channels last come so; how many there are.

    y = transpose(input [N, C, H, W], [0, 2, 3, 1]) -> y = input [N, H, W, C]

    Raises `CompileError` where there is none.
    """
    changed = 0
    for old in tuple(graph.inputs):
        transposes = [op for op in old.users if isinstance(op, Transpose) and op.permutation == _TO_CHANNELS_LAST]
        if not transposes or len(transposes) != graph.use_count(old):
            continue
        type = graph.result(transposes[0]).type
        new = Value(old.name, type)
        graph.inputs[graph.inputs.index(old)] = new
        for op in transposes:
            graph.redirect(graph.result(op), new)
            graph.erase(op)
        changed += 1
    if not changed:
        shapes = ", ".join(repr(value) for value in graph.inputs)
        raise CompileError.of(
            "no-transpose",
            f"--input-layout nhwc: no input is only transposed to channels last; the inputs are {shapes}",
            help="leave --input-layout away",
        )
    return changed
