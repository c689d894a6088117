"""Results that take over an operand's memory."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from luciole.graph.core import Operator, Value
from luciole.kernel.core import Address, Expr, Kernel, Load, Parameter
from luciole.kernel.walk import map_body_expressions
from luciole.targets.base import BoundKernel


def in_place_operands(op: Operator, bound: BoundKernel) -> list[tuple[str, Value]]:
    """Buffer names and values of the operands that the result may replace in memory, as far as the kernel is concerned.

    What an operator says about its operands holds of its own loops, and of no hand-scheduled kernel.
    """
    if len(bound.results) != 1 or bound.kernel.is_scheduled:
        return []
    result = bound.kernel.parameter(bound.results[0])
    names = op.in_place_operands()
    found = []
    for name, value in bound.activations:
        parameter = bound.kernel.parameter(name)
        if name in names and (parameter.shape, parameter.dtype) == (result.shape, result.dtype):
            found.append((name, value))
    return found


def merge_parameters(kernel: Kernel, source: str, result: str) -> Kernel:
    """The kernel with one `inout` buffer in the place of the input `source` and the output `result`.

    kernel f(in x, out y): y[i] = x[i] + 1    ->    kernel f(inout y): y[i] = y[i] + 1
    """

    def redirect(expr: Expr) -> Expr | None:
        match expr:
            case Load() if expr.buffer == source:
                return Load(result, expr.indices, expr.dtype)
            case Address() if expr.buffer == source:
                return Address(result, expr.offset)
            case _:
                return None

    parameters = tuple(
        Parameter("inout", p.name, p.dtype, p.shape, max(p.alignment, kernel.parameter(source).alignment))
        if p.name == result
        else p
        for p in kernel.parameters
        if p.name != source
    )
    merged = replace(kernel, parameters=parameters, body=map_body_expressions(kernel.body, redirect))
    digest = hashlib.sha256(repr(replace(merged, name="")).encode()).hexdigest()[:6]
    return replace(merged, name=kernel.name.rsplit("_", 1)[0] + "_" + digest)
