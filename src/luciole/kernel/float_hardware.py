"""Integers rounded as float32 arithmetic rounds them: by that arithmetic, where the target has it in hardware.

The intrinsics here have the bits of those of integers that they replace; `tests/unit/kernel` holds them against each
other. Four instructions take the place of about thirty.
"""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Bitcast, Call, Constant, Expr, Intrinsic, Kernel, clamp, select
from luciole.kernel.intrinsics import requantize_onnx, requantize_onnx_small
from luciole.kernel.rewrite import map_expressions
from luciole.kernel.walk import map_expr

F32, I32 = DType.F32, DType.I32

#: Adding this to a float of magnitude below 2**22 rounds it to an integer, ties to even, in the low bits of the sum.
ROUNDING = 12582912.0
ROUNDING_BITS = 0x4B400000
#: Results are moved between these before they are rounded.
_LARGEST = float(1 << 21)


def _scaled(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """float32(accumulator) * multiplier * 2**(shift - 31); the factor is put together from its bits."""
    bits = k.let("bits", ((shift + 126) << 23) | ((multiplier >> 7) & 0x7FFFFF))
    factor = Bitcast(select(multiplier.eq(0), Constant(0, I32), bits), F32)
    return k.let("scaled", accumulator.cast(F32) * factor)


def _rounded(k: IntrinsicBuilder, real: Expr) -> Expr:
    return Bitcast(k.let("sum", real + ROUNDING), I32) - ROUNDING_BITS


@define_intrinsic("requantize_onnx_float", I32, accumulator=I32, multiplier=I32, shift=I32)
def requantize_onnx_float(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """`requantize_onnx` in float32."""
    return _rounded(k, clamp(_scaled(k, accumulator, multiplier, shift), -_LARGEST, _LARGEST))


@define_intrinsic("requantize_onnx_small_float", I32, accumulator=I32, multiplier=I32, shift=I32)
def requantize_onnx_small_float(k: IntrinsicBuilder, accumulator: Expr, multiplier: Expr, shift: Expr) -> Expr:
    """`requantize_onnx_small` in float32."""
    return _rounded(k, _scaled(k, accumulator, multiplier, shift))


_IN_FLOATS: dict[str, Intrinsic] = {
    requantize_onnx.name: requantize_onnx_float,
    requantize_onnx_small.name: requantize_onnx_small_float,
}


def use_floats(kernel: Kernel) -> Kernel:
    """Replace intrinsics of integers that have a form in float32 by it.

    y[i] = requantize_onnx(a, m, s)   ->   y[i] = requantize_onnx_float(a, m, s)
    """
    return map_expressions(kernel, lambda expr: map_expr(expr, _in_floats))


def _in_floats(expr: Expr) -> Expr | None:
    if isinstance(expr, Call) and expr.intrinsic.name in _IN_FLOATS:
        return Call(_IN_FLOATS[expr.intrinsic.name], expr.arguments)
    return None
