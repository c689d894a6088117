"""What int8 operators of TFLite files mean, in plain numpy over `luciole.ir.arithmetic`; checked against the oracle.

Written for reading, not for speed, and apart from `luciole.ops`, so that an error in one does not hide in the other.
Tensors are int8 arrays, NHWC where they are images; quantizations are `Quant`; results are int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from luciole.ir import arithmetic
from luciole.ir.quant import Quant

Array = npt.NDArray[Any]

#: Rows and columns added before and after: ((top, bottom), (left, right)).
Padding = tuple[tuple[int, int], tuple[int, int]]


def output_size(padding: str, size: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """Rows or columns of the output of a window operator: ceil(size / stride) for SAME, whole windows for VALID."""
    span = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else (size + stride - span) // stride


def padding_before(padding: str, size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Rows or columns added before and after the input; the odd one of SAME comes after."""
    if padding == "VALID":
        return 0, 0
    span = (kernel - 1) * dilation + 1
    total = max((output_size(padding, size, kernel, stride, dilation) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def windows(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], padding: str, fill: int
) -> Array:
    """int64[n, oh, ow, kh, kw, c]: the taps of every window of an image, `fill` outside of it."""
    n, height, width, channels = x.shape
    pads = [
        padding_before(padding, s, k, t, d)
        for s, k, t, d in zip((height, width), kernel, strides, dilations, strict=True)
    ]
    sizes = [
        output_size(padding, s, k, t, d) for s, k, t, d in zip((height, width), kernel, strides, dilations, strict=True)
    ]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    room = [
        max((o - 1) * t + span - s - p[0], 0)
        for o, t, span, s, p in zip(sizes, strides, spans, (height, width), pads, strict=True)
    ]
    padded = np.pad(
        x.astype(np.int64), ((0, 0), (pads[0][0], room[0]), (pads[1][0], room[1]), (0, 0)), constant_values=fill
    )
    result = np.empty((n, sizes[0], sizes[1], kernel[0], kernel[1], channels), np.int64)
    for kh, kw in product(range(kernel[0]), range(kernel[1])):
        rows = slice(kh * dilations[0], kh * dilations[0] + (sizes[0] - 1) * strides[0] + 1, strides[0])
        columns = slice(kw * dilations[1], kw * dilations[1] + (sizes[1] - 1) * strides[1] + 1, strides[1])
        result[:, :, :, kh, kw] = padded[:, rows, columns]
    return result


def finish(accumulator: Array, multipliers: Array, shifts: Array, output: Quant, activation: str) -> Array:
    """Requantize, add the zero point, clamp to the fused activation: the end of every accumulating operator."""
    scaled = arithmetic.requantize(accumulator, multipliers, shifts).astype(np.int64) + output.zero_point
    return arithmetic.clamp(scaled, *arithmetic.activation_range(activation, output.scale, output.zero_point)).astype(
        np.int8
    )


def channel_multipliers(input: Quant, weights: Quant, output: Quant, channels: int) -> tuple[Array, Array]:
    """Multipliers and shifts of each output channel of a convolution; one weight scale serves all channels."""
    scales = weights.scales if weights.is_per_channel else weights.scales * channels
    return arithmetic.multiplier_arrays(
        arithmetic.convolution_multiplier(input.scale, scale, output.scale) for scale in scales
    )


def conv2d(
    x: Array,
    w: Array,
    bias: Array | None,
    input: Quant,
    weights: Quant,
    output: Quant,
    *,
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    padding: str = "VALID",
    activation: str = "none",
) -> Array:
    """acc = sum (x - zx) * w + bias; w is [oc, kh, kw, ic / groups], without zero point; padding is the zero point."""
    out_channels, kh, kw, depth = w.shape
    taps = windows(x, (kh, kw), strides, dilations, padding, input.zero_point) - input.zero_point
    groups = x.shape[3] // depth
    share = out_channels // groups
    parts = [
        np.einsum(
            "nhwabc,oabc->nhwo", taps[..., g * depth : (g + 1) * depth], w[g * share : (g + 1) * share].astype(np.int64)
        )
        for g in range(groups)
    ]
    accumulator = np.concatenate(parts, axis=-1) + (0 if bias is None else bias.astype(np.int64))
    return finish(accumulator, *channel_multipliers(input, weights, output, out_channels), output, activation)


def depthwise_conv2d(
    x: Array,
    w: Array,
    bias: Array | None,
    input: Quant,
    weights: Quant,
    output: Quant,
    *,
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    padding: str = "VALID",
    activation: str = "none",
) -> Array:
    """Output channel c reads input channel c // multiplier; w is [1, kh, kw, oc]."""
    _, kh, kw, out_channels = w.shape
    taps = windows(x, (kh, kw), strides, dilations, padding, input.zero_point) - input.zero_point
    taps = np.repeat(taps, out_channels // x.shape[3], axis=-1)
    accumulator = np.einsum("nhwabc,abc->nhwc", taps, w[0].astype(np.int64))
    accumulator = accumulator + (0 if bias is None else bias.astype(np.int64))
    return finish(accumulator, *channel_multipliers(input, weights, output, out_channels), output, activation)


def fully_connected(
    x: Array,
    w: Array,
    bias: Array | None,
    input: Quant,
    weights: Quant,
    output: Quant,
    *,
    activation: str = "none",
) -> Array:
    """acc = (x - zx) w^T + bias; w is [out, in]; x is flattened to rows of `in` elements.

    One weight scale serves all units; the multiplier is that of convolutions.
    """
    rows = x.reshape(-1, w.shape[1]).astype(np.int64) - input.zero_point
    accumulator = rows @ w.astype(np.int64).T + (0 if bias is None else bias.astype(np.int64))
    return finish(accumulator, *channel_multipliers(input, weights, output, w.shape[0]), output, activation)


def add(a: Array, b: Array, first: Quant, second: Quant, output: Quant, *, activation: str = "none") -> Array:
    """a + b with numpy broadcasting."""
    return _add(a, b, first, second, output, 1, activation)


def subtract(a: Array, b: Array, first: Quant, second: Quant, output: Quant, *, activation: str = "none") -> Array:
    """a - b with numpy broadcasting."""
    return _add(a, b, first, second, output, -1, activation)


def _add(a: Array, b: Array, first: Quant, second: Quant, output: Quant, sign: int, activation: str) -> Array:
    multipliers = arithmetic.addition_multipliers(first.scale, second.scale, output.scale)
    shift = arithmetic.ADDITION_LEFT_SHIFT
    left = arithmetic.requantize((a.astype(np.int64) - first.zero_point) << shift, *multipliers.first)
    right = arithmetic.requantize((b.astype(np.int64) - second.zero_point) << shift, *multipliers.second)
    total = left.astype(np.int64) + sign * right.astype(np.int64)
    return finish(total, *arithmetic.multiplier_arrays([multipliers.output]), output, activation)


def multiply(a: Array, b: Array, first: Quant, second: Quant, output: Quant, *, activation: str = "none") -> Array:
    """a * b with numpy broadcasting."""
    total = (a.astype(np.int64) - first.zero_point) * (b.astype(np.int64) - second.zero_point)
    multiplier = arithmetic.multiplication_multiplier(first.scale, second.scale, output.scale)
    return finish(total, *arithmetic.multiplier_arrays([multiplier]), output, activation)


def average_pool(
    x: Array,
    output: Quant,
    *,
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: str = "VALID",
    activation: str = "none",
) -> Array:
    """The mean of the raw integers over the taps inside the image; input and output have the same quantization."""
    total = windows(x, kernel, strides, (1, 1), padding, 0).sum(axis=(3, 4))
    count = windows(np.ones_like(x), kernel, strides, (1, 1), padding, 0).sum(axis=(3, 4))
    bounds = arithmetic.activation_range(activation, output.scale, output.zero_point)
    return arithmetic.clamp(arithmetic.average(total, count), *bounds).astype(np.int8)


def max_pool(
    x: Array,
    output: Quant,
    *,
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: str = "VALID",
    activation: str = "none",
) -> Array:
    """The greatest integer over the taps inside the image; input and output have the same quantization."""
    greatest = windows(x, kernel, strides, (1, 1), padding, -128).max(axis=(3, 4))
    bounds = arithmetic.activation_range(activation, output.scale, output.zero_point)
    return arithmetic.clamp(greatest, *bounds).astype(np.int8)


def mean(x: Array, axes: tuple[int, ...], input: Quant, output: Quant, *, keep_dimensions: bool = False) -> Array:
    """requantize(sum - count * zx) with the multiplier divided by the count, whatever the axes."""
    count = int(np.prod([x.shape[axis] for axis in axes]))
    total = x.astype(np.int64).sum(axis=axes, keepdims=keep_dimensions) - count * input.zero_point
    multiplier = arithmetic.mean_multiplier(input.scale, output.scale, count)
    return finish(total, *arithmetic.multiplier_arrays([multiplier]), output, "none").reshape(total.shape)


def requantize(x: Array, input: Quant, output: Quant) -> Array:
    """QUANTIZE from int8 to int8."""
    multiplier = arithmetic.rescaling_multiplier(input.scale, output.scale)
    return finish(x.astype(np.int64) - input.zero_point, *arithmetic.multiplier_arrays([multiplier]), output, "none")


def apply_table(x: Array, table: Array) -> Array:
    """A unary operator as a table of 256 entries, indexed by x + 128."""
    return table[x.astype(np.int64) + 128]
