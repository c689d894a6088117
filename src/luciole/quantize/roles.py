"""What int8 quantization asks of each operator: which results share numbers with operands, and which are fixed.

An operator that stands in none of these tables has a meaning in int8 only if it is a function of each element of one
operand, which then becomes a table (`tabulated_operand`).
"""

from __future__ import annotations

from luciole.graph.core import Elementwise, Operator, Value
from luciole.ir.fixed_point import LOGISTIC_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from luciole.ops.activation import LeakyRelu, Logistic, Relu, Relu6, Tanh
from luciole.ops.comparison import Maximum, Minimum
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.gather import Gather
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.reduce import Mean
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.softmax import Softmax
from luciole.ops.tile import Tile
from luciole.ops.transpose import Transpose

Weighted = Conv2d | DepthwiseConv2d | FullyConnected

#: Operators with constant weights `w` and a bias `b`, and the axis of w along which output channels lie.
CHANNEL_AXES: dict[type[Operator], int] = {Conv2d: 0, DepthwiseConv2d: 3, FullyConnected: 0}

#: Operators whose result keeps the numbers of `x`, and so its scale and zero point.
KEEPING: tuple[type[Operator], ...] = (AveragePool2d, Gather, MaxPool2d, Pad, Relu6, Reshape, Slice, Tile, Transpose)

#: Operators whose operands all share their scale and zero point with the result.
JOINING: tuple[type[Operator], ...] = (Concat, Maximum, Minimum)

#: Operators whose result has a scale and zero point of its own.
SCALING: tuple[type[Operator], ...] = (Add, LeakyRelu, MatMul, Mean, Mul, Relu, Sub)

#: Operators whose result has always the same scale and zero point.
FIXED: dict[type[Operator], Quant] = {Softmax: SOFTMAX_OUTPUT, Logistic: LOGISTIC_OUTPUT, Tanh: TANH_OUTPUT}


#: Operators that cut off what the operator before may just as well not give: its range is that of their result.
CUTTING: tuple[type[Operator], ...] = (Relu, Relu6)


def has_int8(op: Operator) -> bool:
    """Whether a float operator can be computed in int8."""
    return type(op) in (*CHANNEL_AXES, *KEEPING, *JOINING, *SCALING, *FIXED) or tabulated_operand(op) is not None


def tabulated_operand(op: Operator) -> Value | None:
    """The float operand of which an operator in none of the tables computes a function of each element, with nothing
    but single constants beside it; None where it does something else.
    """
    if not isinstance(op, Elementwise) or type(op) in (*KEEPING, *JOINING, *SCALING, *FIXED):
        return None
    variable = [value for value in op.operands if value.data is None]
    if len(variable) != 1 or any(v.type.elements != 1 for v in op.operands if v is not variable[0]):
        return None
    (result,), (x,) = op.result_types(), variable
    is_float = x.type.dtype is DType.F32 and result.dtype is DType.F32
    return x if is_float and result.shape == x.type.shape and op.operands.count(x) == 1 else None
