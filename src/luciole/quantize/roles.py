"""What int8 quantization asks of each operator: which results share numbers with operands, and which are fixed.

An operator that stands in none of these tables has a meaning in int8 only as part of a function of one tensor's
elements, which becomes a table (`functions`).
"""

from __future__ import annotations

from luciole.graph.core import Operator
from luciole.ir.fixed_point import LOGISTIC_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT
from luciole.ir.quant import Quant
from luciole.ops.activation import LeakyRelu, Logistic, Relu, Relu6, Tanh
from luciole.ops.comparison import Equal, Less, LessEqual, Maximum, Minimum, Select
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Div, Mul, Sub
from luciole.ops.gather import Gather
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.pad import Pad
from luciole.ops.parametric_relu import ParametricRelu
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.ranking import ArgMax, ArgMin
from luciole.ops.reduce import Mean, ReduceMaximum, ReduceMinimum, ReduceSum
from luciole.ops.resample import Resample
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.softmax import Softmax
from luciole.ops.tile import Tile
from luciole.ops.transpose import Transpose

Weighted = Conv2d | DepthwiseConv2d | FullyConnected

#: Operators with constant weights `w` and a bias `b`, and the axis of w along which output channels lie.
CHANNEL_AXES: dict[type[Operator], int] = {Conv2d: 0, DepthwiseConv2d: 3, FullyConnected: 0}

#: Operators whose result keeps the numbers of `x`, and so its scale and zero point.
KEEPING: tuple[type[Operator], ...] = (
    AveragePool2d,
    Gather,
    MaxPool2d,
    Pad,
    ReduceMaximum,
    ReduceMinimum,
    Relu6,
    Resample,
    Reshape,
    Slice,
    Tile,
    Transpose,
)

#: Operators whose operands all share their scale and zero point with the result.
JOINING: tuple[type[Operator], ...] = (Concat, Maximum, Minimum, Select)

#: Operators whose operands share their scale and zero point, and whose result tells of their order.
COMPARING: tuple[type[Operator], ...] = (ArgMax, ArgMin, Equal, Less, LessEqual)

#: Operators whose result has a scale and zero point of its own.
SCALING: tuple[type[Operator], ...] = (Add, LeakyRelu, MatMul, Mean, Mul, ParametricRelu, ReduceSum, Relu, Sub)

#: Operators whose result has always the same scale and zero point.
FIXED: dict[type[Operator], Quant] = {Softmax: SOFTMAX_OUTPUT, Logistic: LOGISTIC_OUTPUT, Tanh: TANH_OUTPUT}

#: Operators that become others before their graph is converted, see `rewrites`.
REWRITTEN: tuple[type[Operator], ...] = (Div,)

#: Operators that cut off what the operator before may just as well not give: its range is that of their result.
CUTTING: tuple[type[Operator], ...] = (Relu, Relu6)


def has_own_form(op: Operator) -> bool:
    """Whether a float operator has a meaning in int8 that is not a table of results."""
    return type(op) in (*CHANNEL_AXES, *KEEPING, *JOINING, *COMPARING, *SCALING, *FIXED)
