"""What operators refuse, in whose words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.graph.core import Operator, Value
from luciole.graph.samples import Samples
from luciole.ir.quant import Quant
from luciole.ir.types import DType, TensorType
from luciole.ops.activation import Logistic, Relu, Relu6, Tanh
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.ops.quantization import Dequantize, Quantize, Requantize
from luciole.ops.reduce import Mean
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.softmax import Softmax
from luciole.ops.transpose import Transpose

S = Samples()
Q = Quant.per_tensor(0.1, 3)
PER_CHANNEL = S.i8_weights(4, 2)
WIDE_ZERO = Value("wide", TensorType(DType.I8, (4,), Quant.per_tensor(0.1, 200)))

CASES: dict[str, tuple[Callable[[], Operator], str]] = {
    "conv-rank": (lambda: Conv2d(S.f32(3, 3, 2), S.f32_weights(1, 1, 1, 2)), "x and w must have four axes"),
    "conv-channels": (lambda: Conv2d(S.f32(1, 3, 3, 2), S.f32_weights(1, 1, 1, 3)), "x has 2 channels, w takes 3"),
    "conv-types": (
        lambda: Conv2d(S.f32(1, 3, 3, 2), S.i8_weights(1, 1, 1, 2)),
        "x and w must both be f32, both f64, or both i8",
    ),
    "conv-window": (
        lambda: Conv2d(S.f32(1, 3, 3, 2), S.f32_weights(1, 5, 1, 2)),
        "a window of 5x1 does not fit into 3x3 with pads (0, 0, 0, 0)",
    ),
    "conv-bias": (
        lambda: Conv2d(S.f32(1, 3, 3, 2), S.f32_weights(4, 1, 1, 2), S.f32_weights(3)),
        "b has shape [3], needs [4]",
    ),
    "conv-activation": (
        lambda: Conv2d(S.f32(1, 3, 3, 2), S.f32_weights(4, 1, 1, 2), activation="swish"),
        "activation 'swish' is none of none, relu, relu6, relu_n1_to_1",
    ),
    "depthwise-multiple": (
        lambda: DepthwiseConv2d(S.f32(1, 3, 3, 2), S.f32_weights(1, 1, 1, 3)),
        "w has 3 channels, no multiple of the 2 of x",
    ),
    "depthwise-shape": (
        lambda: DepthwiseConv2d(S.f32(1, 3, 3, 2), S.f32_weights(2, 1, 1, 2)),
        "x must have four axes, and w four, the first of size 1",
    ),
    "fully-connected-rows": (
        lambda: FullyConnected(S.f32(2, 5), S.f32_weights(3, 4)),
        "x has rows of 5 elements, w takes 4",
    ),
    "matmul-inner": (lambda: MatMul(S.f32(2, 5), S.f32(4, 3)), "a has rows of 5 elements, b has columns of 4"),
    "matmul-batch": (lambda: MatMul(S.f32(2, 2, 5), S.f32(3, 5, 3)), "shapes [2] and [3] do not broadcast"),
    "add-broadcast": (lambda: Add(S.f32(2, 3), S.f32(2, 2)), "shapes [2, 3] and [2, 2] do not broadcast"),
    "mul-types": (lambda: Mul(S.f32(2), S.i8(2)), "a and b must both be f32 or both i8"),
    "pool-empty": (
        lambda: MaxPool2d(S.f32(1, 2, 2, 1), (2, 2), strides=(3, 3), pads=(0, 0, 3, 3)),
        "pads (0, 0, 3, 3) leave windows that see no input",
    ),
    "pool-scale": (
        lambda: AveragePool2d(S.i8(1, 2, 2, 1, zero=4), (2, 2), quant=Q),
        "the result keeps the numbers of",
    ),
    "mean-axes": (lambda: Mean(S.f32(2, 3), (1, 1)), "axes [1, 1] must be different ones of 0..1"),
    "relu-type": (lambda: Relu(S.i32(2)), "x must be f32 or i8"),
    "relu6-scale": (lambda: Relu6(S.i8(2), quant=Q), "relu6 keeps the quantization of its operand"),
    "logistic-scale": (lambda: Logistic(S.i8(2), quant=Q), "logistic of int8 has the output affine"),
    "tanh-quant": (lambda: Tanh(S.i8(2)), "an int8 result needs one scale and zero point"),
    "softmax-scale": (lambda: Softmax(S.i8(2, 2), quant=Q), "softmax of i8 has the quantization affine"),
    "softmax-beta": (lambda: Softmax(S.f32(2), beta=-1.0), "beta is -1.0, it must be positive"),
    "softmax-row": (
        lambda: Softmax(Value("x", TensorType(DType.I8, (1, 9000), Q)), quant=Quant.per_tensor(1 / 256, -128)),
        "rows have 9000 elements, above 8191",
    ),
    "reshape-elements": (lambda: Reshape(S.f32(2, 3), (7,)), "x has 6 elements, shape [7] is of another number"),
    "transpose-permutation": (
        lambda: Transpose(S.f32(2, 3), (0, 0)),
        "permutation [0, 0] does not order the 2 axes of x",
    ),
    "slice-range": (lambda: Slice(S.f32(4), (2,), (3,)), "3 elements from 2 by 1 do not lie in axis 0 of 4"),
    "slice-rank": (lambda: Slice(S.f32(4), (0, 0), (1,)), "begin, size and strides must have 1 elements"),
    "concat-quant": (
        lambda: Concat((S.i8(2), S.i8(2, zero=1)), 0),
        "operands must have one element type and quantization",
    ),
    "concat-shape": (lambda: Concat((S.f32(2, 3), S.f32(2, 4)), 0), "operands must have equal shapes but for axis 0"),
    "concat-none": (lambda: Concat((), 0), "there are no operands"),
    "pad-negative": (lambda: Pad(S.f32(2), (-1,), (0,)), "before [-1] and after [0] must not be negative"),
    "pad-value": (lambda: Pad(S.i32(2), (1,), (0,), value=0.5), "0.5 is no i32"),
    "quantize-type": (lambda: Quantize(S.i8(2), quant=Q), "x must be f32"),
    "dequantize-channels": (lambda: Dequantize(PER_CHANNEL), "needs one scale and zero point"),
    "requantize-zero": (
        lambda: Requantize(WIDE_ZERO, quant=Q),
        "operand %wide has the zero point 200, outside of int8",
    ),
    "moved-channels": (lambda: Reshape(PER_CHANNEL, (8,)), "has a scale for each channel"),
}


@pytest.mark.parametrize("case", CASES)
def test_operands_that_do_not_fit_are_refused(case: str) -> None:
    make, message = CASES[case]
    op = make()
    with pytest.raises(CompileError) as refused:
        op.result_types()
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.message.startswith(f"{op.kind}: ")
    assert message in diagnostic.message
    if op.operands:
        assert any(str(op.operands[0].type) in note for note in diagnostic.notes)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (S.constant(np.ones((2, 4), np.int8), Quant.per_tensor(0.1, 5)), "int8 weights must be symmetric"),
        (S.constant(np.ones((2, 4), np.int8), None), "int8 weights must be symmetric"),
        (S.i8_weights(2, 4, axis=1), "weights must be symmetric"),
        (S.i8(2, 4), "w must be constant in a quantized fully_connected"),
    ],
    ids=["zero-point", "no-scale", "other-axis", "not-constant"],
)
def test_int8_weights_that_do_not_fit_are_refused(weights: Value, message: str) -> None:
    op = FullyConnected(S.i8(1, 4), weights, None, quant=Q)
    with pytest.raises(CompileError, match=message):
        op.parameters()
