"""What the TFLite import rules of several operators share: fused activations, padding, ranks, axes."""

from __future__ import annotations

from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode
from luciole.ir.types import DType
from luciole.ops.common import Window

#: Sizes of windows are free numbers of the file; this bounds the padding that they cause.
_MAXIMUM_WINDOW = 1 << 12

_ACTIVATIONS = {"NONE": "none", "RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu_n1_to_1"}


def fused_activation(node: ForeignNode) -> str:
    """The activation that a node applies to its result. Raises `CompileError` for TANH and SIGN_BIT."""
    return node.choice("fused_activation_function", _ACTIVATIONS, "NONE")


def refuse_activation(node: ForeignNode) -> None:
    """Raise `CompileError` when a node that only moves numbers applies an activation to them."""
    node.choice("fused_activation_function", {"NONE": "none"}, "NONE")


def require_scale(node: ForeignNode) -> None:
    """Raise `CompileError` where int8 numbers of a TFLite node have no scale: those always stand for reals."""
    for value in node.inputs:
        if value is not None and value.type.dtype is DType.I8 and value.type.quant is None:
            raise node.error(f"{node.kind} of int8 without a scale", code="unsupported-types")


def input_of_rank(node: ForeignNode, index: int, rank: int) -> Value:
    """Operand `index`. Raises `CompileError` when it has another number of dimensions."""
    value = node.input(index)
    if value.type.rank != rank:
        raise node.error(f"operand {index} of {node.kind} has {value.type.rank} dimensions; it must have {rank}")
    return value


def window(node: ForeignNode, x: Value, kernel: tuple[int, int], *, has_dilation: bool) -> Window:
    """The sliding window of a convolution or pool over `x`, with TFLite's padding written out.

    SAME: the result has ceil(size / stride) elements; what that needs beyond the input is divided evenly, the odd one
    behind. VALID: no padding. (TensorFlow documentation, tf.nn, "Notes on padding".)
    """
    strides = (node.positive("stride_h"), node.positive("stride_w"))
    dilations = (1, 1)
    if has_dilation:
        dilations = (node.positive("dilation_h_factor", 1), node.positive("dilation_w_factor", 1))
    if max(*kernel, *strides, *dilations) > _MAXIMUM_WINDOW:
        raise node.unsupported(
            f"{node.kind} with a window of {kernel[0]}x{kernel[1]}, strides {strides} and dilations {dilations}",
            help=f"none of these may exceed {_MAXIMUM_WINDOW}",
        )
    unpadded = Window(kernel, strides, (0, 0, 0, 0), dilations)
    if node.choice("padding", {"SAME": "same", "VALID": "valid"}) == "valid":
        return unpadded
    total = [
        max(
            0,
            (-(-x.type.shape[axis + 1] // strides[axis]) - 1) * strides[axis]
            + unpadded.extent[axis]
            - x.type.shape[axis + 1],
        )
        for axis in (0, 1)
    ]
    before = [t // 2 for t in total]
    return Window(kernel, strides, (before[0], before[1], total[0] - before[0], total[1] - before[1]), dilations)


def axis_of(node: ForeignNode, axis: int, rank: int) -> int:
    """An axis counted from the front. Raises `CompileError` when there is no such axis."""
    if not -rank <= axis < rank:
        raise node.error(f"{node.kind} along axis {axis} of {rank} dimensions")
    return axis % rank


def check_weights(node: ForeignNode, axis: int) -> None:
    """Raise `CompileError` when operands 1 and 2 are not weights and bias as a quantized layer needs them.

    int8 weights are constant and symmetric, with one scale or one for each output channel, which lie along `axis`; the
    bias is a constant of int32. Float layers have a float bias.
    """
    x, w, b = node.input(0), node.input(1), node.optional(2)
    is_int8 = x.type.dtype is DType.I8
    if b is not None and b.type.dtype is not (DType.I32 if is_int8 else x.type.dtype):
        raise node.unsupported(f"{node.kind} of {x.type.dtype.value} with a bias of {b.type.dtype.value}")
    if not is_int8 or w.type.quant is None:
        return
    if not w.is_constant or (b is not None and not b.is_constant):
        raise node.unsupported(f"{node.kind} of int8 with weights or a bias that are computed at run time")
    if any(w.type.quant.zero_points):
        raise node.unsupported(
            f"weights of {node.kind} have a zero point other than 0",
            help="quantize the weights symmetrically, as the current TensorFlow Lite converter does",
            code="unsupported-quantization",
        )
    if w.type.quant.is_per_channel and w.type.quant.axis != axis:
        raise node.unsupported(
            f"weights of {node.kind} have scales along axis {w.type.quant.axis}; its channels lie along axis {axis}",
            code="unsupported-quantization",
        )
