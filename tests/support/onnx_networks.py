"""Whole networks in ONNX with their layers as published, of less width and for smaller images than the originals.

They are built by `onnx.helper` from fixed seeds. (MobileNetV2: arXiv 1801.04381, table 2. ResNet-18: arXiv 1512.03385,
table 1. SqueezeNet 1.1: arXiv 1602.07360 and the authors' repository. DS-CNN: arXiv 1711.07128. Transformer: arXiv
1706.03762, with the normalization before each part.)
"""

from __future__ import annotations

import numpy as np
import onnx

from support.onnx_models import Net


def _dense(net: Net, x: str, features: int, classes: int) -> str:
    """The last layer; without a softmax, whose results would all be near 0 or 1."""
    return net.add("Gemm", x, net.weights(classes, features), net.weights(classes), transB=1)


def resnet18() -> onnx.ModelProto:
    """Four stages of two residual blocks, after a convolution of seven rows and a pool."""
    net = Net(18)
    x = net.add("Relu", net.normalized(net.conv("image", (3, 8), 7, strides=[2, 2], bias=False), 8))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 8
    for width, stride in ((8, 1), (8, 1), (16, 2), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        y = net.conv(x, (channels, width), 3, strides=[stride, stride], bias=False)
        y = net.normalized(net.conv(net.add("Relu", net.normalized(y, width)), (width, width), 3, bias=False), width)
        if stride == 2:
            x = net.normalized(net.conv(x, (channels, width), 1, strides=[2, 2], bias=False), width)
        x, channels = net.add("Relu", net.add("Add", y, x)), width
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.model({"image": [1, 3, 64, 64]}, {_dense(net, x, channels, 10): [1, 10]})


#: Expansion, channels, repetitions and first stride of each group of MobileNetV2's blocks, a quarter as wide.
_INVERTED = ((1, 4, 1, 1), (6, 6, 2, 2), (6, 8, 3, 2), (6, 16, 4, 2), (6, 24, 3, 1), (6, 40, 3, 2), (6, 80, 1, 1))


def mobilenet_v2() -> onnx.ModelProto:
    """Seventeen inverted residuals with relu6."""
    net = Net(19)
    x = net.relu6(net.normalized(net.conv("image", (3, 8), 3, strides=[2, 2], bias=False), 8))
    channels = 8
    for expansion, width, repetitions, first in _INVERTED:
        for stride in (first, *(1,) * (repetitions - 1)):
            y, inner = x, channels * expansion
            if expansion > 1:
                y = net.relu6(net.normalized(net.conv(y, (channels, inner), 1, bias=False), inner))
            y = net.conv(y, (inner, inner), 3, group=inner, strides=[stride, stride], bias=False)
            y = net.conv(net.relu6(net.normalized(y, inner)), (inner, width), 1, bias=False)
            y = net.normalized(y, width)
            x, channels = net.add("Add", x, y) if stride == 1 and width == channels else y, width
    x = net.relu6(net.normalized(net.conv(x, (channels, 160), 1, bias=False), 160))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.model({"image": [1, 3, 48, 48]}, {_dense(net, x, 160, 10): [1, 10]})


def squeezenet() -> onnx.ModelProto:
    """Eight fire modules; pools with ceil_mode; a dropout and the classifier as a convolution."""
    net = Net(20)
    x = net.add("Relu", net.conv("image", (3, 16), 3, strides=[2, 2], pads=[0, 0, 0, 0]))
    channels = 16
    for position, (squeezed, expanded) in enumerate(
        ((4, 16), (4, 16), (8, 32), (8, 32), (12, 48), (12, 48), (16, 64), (16, 64))
    ):
        if position in (0, 2, 4):
            x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        s = net.add("Relu", net.conv(x, (channels, squeezed), 1))
        branches = [net.add("Relu", net.conv(s, (squeezed, expanded), kernel)) for kernel in (1, 3)]
        x, channels = net.add("Concat", *branches, axis=1), 2 * expanded
    x = net.add("Relu", net.conv(net.add("Dropout", x), (channels, 10), 1))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.model({"image": [1, 3, 64, 64]}, {x: [1, 10]})


def ds_cnn() -> onnx.ModelProto:
    """Four depthwise separable blocks over 49 frames of 10 coefficients."""
    net = Net(21)
    x = net.add("Conv", "audio", net.weights(32, 1, 10, 4), strides=[2, 2], auto_pad="SAME_UPPER")
    x = net.add("Relu", net.normalized(x, 32))
    for _ in range(4):
        x = net.add("Relu", net.normalized(net.conv(x, (32, 32), 3, group=32, bias=False), 32))
        x = net.add("Relu", net.normalized(net.conv(x, (32, 32), 1, bias=False), 32))
    x = net.add("AveragePool", x, kernel_shape=[25, 5])
    x = net.add("Reshape", x, net.integers(-1, 32))
    return net.model({"audio": [1, 1, 49, 10]}, {_dense(net, x, 32, 12): [1, 12]})


def _recurrent(kind: str, gates: int, seed: int, **attributes: int) -> onnx.ModelProto:
    """Two layers, the first one in both directions, and a classifier over the last state."""
    net = Net(seed, opset=14)
    inputs, units = 10, 12
    first = [net.weights(2, gates * units, inputs), net.weights(2, gates * units, units)]
    y, last = "forward", "last"
    net.add(
        kind,
        net.add("Transpose", "frames", perm=[1, 0, 2]),
        *first,
        net.weights(2, 2 * gates * units),
        outputs=[y],
        hidden_size=units,
        direction="bidirectional",
        **attributes,
    )
    joined = net.add("Reshape", net.add("Transpose", y, perm=[0, 2, 1, 3]), net.integers(0, 0, -1))
    second = [net.weights(1, gates * units, 2 * units), net.weights(1, gates * units, units)]
    net.add(
        kind,
        joined,
        *second,
        net.weights(1, 2 * gates * units),
        outputs=["", last],
        hidden_size=units,
        **attributes,
    )
    x = net.add("Squeeze", last, net.integers(0))
    return net.model({"frames": [2, 20, inputs]}, {_dense(net, x, units, 4): [2, 4]})


def lstm() -> onnx.ModelProto:
    """LSTM in both directions and one above it, as PyTorch writes them."""
    return _recurrent("LSTM", 4, 22)


def gru() -> onnx.ModelProto:
    """GRU in both directions and one above it, with the reset after the product as PyTorch has it."""
    return _recurrent("GRU", 3, 23, linear_before_reset=1)


def transformer() -> onnx.ModelProto:
    """Two layers of an encoder: attention of four heads and a dense part with Gelu, both with normalization."""
    net = Net(24)
    steps, width, heads = 12, 32, 4
    x = net.add("Add", "tokens", net.weights(1, steps, width))
    for _ in range(2):
        x = net.add("Add", x, _attention(net, _normalized_rows(net, x, width), steps, width, heads))
        y = net.add("Add", net.add("MatMul", _normalized_rows(net, x, width), net.weights(width, 64)), net.weights(64))
        y = net.add("Mul", y, net.add("Add", _erf(net, y), net.constant(np.array(1, np.float32))))
        y = net.add("MatMul", net.add("Mul", y, net.constant(np.array(0.5, np.float32))), net.weights(64, width))
        x = net.add("Add", x, net.add("Add", y, net.weights(width)))
    x = net.add("ReduceMean", _normalized_rows(net, x, width), axes=[1], keepdims=0)
    return net.model({"tokens": [1, steps, width]}, {_dense(net, x, width, 5): [1, 5]})


def _erf(net: Net, x: str) -> str:
    return net.add("Erf", net.add("Div", x, net.constant(np.array(np.sqrt(2), np.float32))))


def _normalized_rows(net: Net, x: str, width: int) -> str:
    scale = net.constant(net.random.uniform(0.5, 1.5, width).astype(np.float32))
    return net.add("LayerNormalization", x, scale, net.weights(width), axis=-1)


def _attention(net: Net, x: str, steps: int, width: int, heads: int) -> str:
    """Several heads of attention, whose shapes are computed from that of x."""
    batch = net.add("Gather", net.add("Shape", x), net.integers(0), axis=0)
    shape = net.add("Concat", batch, net.integers(steps, heads, width // heads), axis=0)
    split = []
    for permutation in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        dense = net.add("Add", net.add("MatMul", x, net.weights(width, width)), net.weights(width))
        split.append(net.add("Transpose", net.add("Reshape", dense, shape), perm=permutation))
    q, k, v = split
    scale = net.constant(np.array(np.sqrt(width // heads), np.float32))
    weights = net.add("Softmax", net.add("Div", net.add("MatMul", q, k), scale), axis=-1)
    y = net.add("Transpose", net.add("MatMul", weights, v), perm=[0, 2, 1, 3])
    return net.add("MatMul", net.add("Reshape", y, net.integers(0, 0, -1)), net.weights(width, width))


NETWORKS = {
    function.__name__: function for function in (resnet18, mobilenet_v2, squeezenet, ds_cnn, lstm, gru, transformer)
}
