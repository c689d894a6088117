"""Results that take over an operand's memory."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from luciole.graph.core import Operator, Value
from luciole.kernel.core import Expr, Kernel, Load, Parameter, map_body_expressions
from luciole.targets.base import BoundKernel


def find_in_place_operand(op: Operator, bound: BoundKernel) -> tuple[str, Value] | None:
    """The buffer name and value of an operand that the result may replace in memory, as far as the kernel is concerned."""
    if len(bound.results) != 1:
        return None
    result = bound.kernel.parameter(bound.results[0])
    for name, value in bound.activations:
        if name not in op.in_place_operands():
            continue
        parameter = bound.kernel.parameter(name)
        others = [n for n, v in bound.activations if v is value and n != name]
        if parameter.shape == result.shape and parameter.dtype is result.dtype and not others:
            return name, value
    return None


def merge_parameters(kernel: Kernel, source: str, result: str) -> Kernel:
    """The kernel with one `inout` buffer in the place of the input `source` and the output `result`.

    kernel f(in x, out y): y[i] = x[i] + 1    ->    kernel f(inout y): y[i] = y[i] + 1
    """

    def redirect(expr: Expr) -> Expr | None:
        return Load(result, expr.indices, expr.dtype) if isinstance(expr, Load) and expr.buffer == source else None

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
