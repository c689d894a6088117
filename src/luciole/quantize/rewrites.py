"""Float operators without a form in int8 become others that have one."""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Graph, Operator, Value
from luciole.ir.types import DType
from luciole.ops.elementwise import Div, Mul
from luciole.quantize.functions import find_functions, tabulated_operators


def replace_divisions(graph: Graph, kept: frozenset[Operator]) -> int:
    """Quotients of two tensors become products with an inverse; how many did. Operators of `kept` stay, and parts of
    functions of one tensor.

        %q = div(%a, %b)            ->             %i = div(1, %b)
                                                   %q = mul(%a, %i)

    In int8 the inverse is a table of what %b is of, or a constant. Results differ by a rounding of float32.
    """
    tabulated = tabulated_operators(find_functions(graph, kept))
    quotients = [
        op
        for op in graph.operators
        if isinstance(op, Div) and op not in kept and op not in tabulated and op.a.type.dtype is DType.F32
    ]
    for op in quotients:
        graph.replace(op, Mul(op.a, _inverse(graph, op), op.activation, location=op.location))
    return len(quotients)


def _inverse(graph: Graph, op: Div) -> Value:
    """1 / b for the divisor of a quotient."""
    one = np.ones((1,) * op.b.type.rank, np.float32)
    if op.b.data is not None:
        with np.errstate(divide="ignore", over="ignore"):
            return graph.add_constant(one / op.b.data, None, f"{op.b.name}/inverse")
    inverse = Div(graph.add_constant(one, None, "one"), op.b, location=op.location)
    return graph.add(inverse, [f"{op.b.name}/inverse"], before=op)[0]
