"""Small float models in ONNX, built with `onnx.helper` from fixed seeds, and what onnxruntime computes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from luciole.ir.types import Array


class Net:
    """A model under construction: methods add nodes and give the name of their result."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}

    def constant(self, array: Array) -> str:
        """A constant."""
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def weights(self, *shape: int) -> str:
        """Constant weights that keep the magnitude of activations."""
        deviation = 1.4 / np.sqrt(np.prod(shape[1:]) or 1)
        return self.constant(self.random.normal(0, deviation, shape).astype(np.float32))

    def integers(self, *numbers: int) -> str:
        """A constant of integers."""
        return self.constant(np.array(numbers, np.int64))

    def add(self, kind: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """A node; the name of its (first) result."""
        name = f"{kind.lower()}{len(self.nodes)}"
        names = list(outputs) or [f"{name}:0"]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, **attributes))
        return names[0]

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int, *, group: int = 1, bias: bool = True, **attributes: Any
    ) -> str:
        """A convolution from some channels to others, padded so that stride 1 keeps the size."""
        w = self.weights(channels[1], channels[0] // group, kernel, kernel)
        b = (self.weights(channels[1]),) if bias else ()
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.add("Conv", x, w, *b, group=group, kernel_shape=[kernel, kernel], **attributes)

    def normalized(self, x: str, channels: int) -> str:
        """A batch normalization with positive variances."""
        scale, variance = (self.random.uniform(0.5, 1.5, channels).astype(np.float32) for _ in range(2))
        offset, mean = (self.random.normal(0, 0.3, channels).astype(np.float32) for _ in range(2))
        return self.add("BatchNormalization", x, *map(self.constant, (scale, offset, mean, variance)))

    def relu6(self, x: str) -> str:
        """A clip to 0..6."""
        return self.add("Clip", x, self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32)))

    def classified(self, x: str, features: int, classes: int) -> str:
        """A dense layer and a softmax."""
        y = self.add("Gemm", x, self.weights(classes, features), self.weights(classes), transB=1)
        return self.add("Softmax", y, axis=1)

    def model(
        self, inputs: dict[str, Sequence[int | str]], outputs: dict[str, Sequence[int | str] | None]
    ) -> onnx.ModelProto:
        """The finished model, of floats."""
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def resnet() -> onnx.ModelProto:
    """Two residual blocks, the second with a projection, as in ResNet-8."""
    net = Net(1)
    x = net.add("Relu", net.normalized(net.conv("image", (3, 8), 3, bias=False), 8))
    for channels, stride in ((8, 1), (16, 2)):
        y = net.add("Relu", net.normalized(net.conv(x, (8, channels), 3, strides=[stride] * 2, bias=False), channels))
        y = net.normalized(net.conv(y, (channels, channels), 3, bias=False), channels)
        if stride == 2:
            x = net.conv(x, (8, channels), 1, strides=[2, 2])
        x = net.add("Relu", net.add("Add", y, x))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.model({"image": [1, 3, 16, 16]}, {net.classified(x, 16, 10): [1, 10]})


def mobilenet_v2() -> onnx.ModelProto:
    """Inverted residuals with relu6, as in MobileNetV2; the head by ReduceMean."""
    net = Net(2, opset=13)
    x = net.relu6(net.normalized(net.conv("image", (3, 8), 3, strides=[2, 2], bias=False), 8))
    for stride in (1, 2):
        y = net.relu6(net.normalized(net.conv(x, (8, 24), 1, bias=False), 24))
        y = net.relu6(net.normalized(net.conv(y, (24, 24), 3, group=24, strides=[stride] * 2, bias=False), 24))
        y = net.normalized(net.conv(y, (24, 8), 1, bias=False), 8)
        x = net.add("Add", x, y) if stride == 1 else y
    x = net.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    return net.model({"image": [1, 3, 20, 20]}, {net.classified(x, 8, 5): [1, 5]})


def ds_cnn() -> onnx.ModelProto:
    """Depthwise separable convolutions over one channel, as for keywords; a shape that is computed."""
    net = Net(3)
    x = net.add("Relu", net.conv("audio", (1, 12), 5, strides=[2, 2], auto_pad="SAME_UPPER", pads=None))
    for _ in range(2):
        x = net.add("Relu", net.normalized(net.conv(x, (12, 12), 3, group=12), 12))
        x = net.add("Relu", net.normalized(net.conv(x, (12, 12), 1), 12))
    x = net.add("AveragePool", x, kernel_shape=[13, 5])
    batch = net.add("Gather", net.add("Shape", x), net.constant(np.array(0, np.int64)), axis=0)
    shape = net.add("Concat", net.add("Unsqueeze", batch, net.integers(0)), net.integers(-1), axis=0)
    x = net.add("Dropout", net.add("Reshape", x, shape))
    return net.model({"audio": [1, 1, 25, 10]}, {net.classified(x, 12, 4): [1, 4]})


def squeezenet() -> onnx.ModelProto:
    """Fire modules, whose branches are joined; the classifier is a convolution, as in SqueezeNet."""
    net = Net(4, opset=11)
    x = net.add("Relu", net.conv("image", (3, 8), 3, strides=[2, 2], pads=[0, 0, 0, 0]))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    for channels in (8, 16):
        squeezed = net.add("Relu", net.conv(x, (channels, 4), 1))
        branches = [net.add("Relu", net.conv(squeezed, (4, 8), kernel)) for kernel in (1, 3)]
        x = net.add("Concat", *branches, axis=1)
    x = net.add("GlobalAveragePool", net.add("Relu", net.conv(x, (16, 6), 1)))
    return net.model({"image": [1, 3, 22, 22]}, {net.add("Softmax", net.add("Flatten", x), axis=1): [1, 6]})


def mlp() -> onnx.ModelProto:
    """Dense layers as PyTorch and Keras write them, in batches, with preprocessing."""
    net = Net(5)
    x = net.add("Div", net.add("Sub", "features", net.weights(12)), net.constant(np.array([3.0], np.float32)))
    x = net.add("Tanh", net.add("Gemm", x, net.weights(20, 12), net.weights(20), transB=1, alpha=0.5, beta=2.0))
    x = net.add("LeakyRelu", net.add("Add", net.add("MatMul", x, net.weights(20, 16)), net.weights(16)), alpha=0.2)
    weights = net.add("Transpose", net.weights(7, 16), perm=[1, 0])
    return net.model({"features": [3, 12]}, {net.add("Sigmoid", net.add("MatMul", x, weights)): [3, 7]})


def flattened_cnn() -> onnx.ModelProto:
    """A dense layer over flattened channels and pixels, as in LeNet; squeeze and excite; two outputs."""
    net = Net(6)
    x = net.add("Relu", net.conv("image", (2, 6), 3, group=2))
    gate = net.add("GlobalAveragePool", x)
    gate = net.add("Relu", net.conv(gate, (6, 2), 1))
    gate = net.add("Sigmoid", net.conv(gate, (2, 6), 1))
    x = net.add("Pad", net.add("Mul", x, gate), net.integers(0, 0, 1, 0, 0, 0, 0, 1))
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    left, right = "left", "right"
    net.add("Split", x, net.integers(2, 4), outputs=[left, right], axis=1)
    right = net.add("Slice", right, net.integers(0), net.integers(2), net.integers(1))
    x = net.add("Flatten", net.add("Sub", left, right))
    y = net.add("Gemm", x, net.weights(2 * 4 * 3, 5), net.weights(1, 5))
    return net.model({"image": [1, 2, 7, 6]}, {y: [1, 5], gate: [1, 6, 1, 1]})


def one_dimensional() -> onnx.ModelProto:
    """Dilated convolutions over time with residuals and normalization."""
    net = Net(7)
    x = "signal"
    for dilation in (1, 2):
        y = net.add("Conv", x, net.weights(6, 6, 3), dilations=[dilation], pads=[dilation, dilation])
        x = net.add("Add", x, net.add("Relu", net.normalized(y, 6)))
    x = net.add("AveragePool", x, kernel_shape=[4], strides=[4], pads=[1, 1], count_include_pad=1)
    x = net.add("ReduceMean", x, axes=[-1], keepdims=0)
    return net.model({"signal": [1, 6, 30]}, {net.classified(x, 6, 3): [1, 3]})


def attention() -> onnx.ModelProto:
    """One head of attention over a sequence: batched products of activations and a softmax."""
    net = Net(8)
    q, k, v = (net.add("MatMul", "tokens", net.weights(8, 8)) for _ in range(3))
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 1]))
    scores = net.add("Softmax", net.add("Mul", scores, net.constant(np.array(0.35, np.float32))), axis=-1)
    return net.model({"tokens": [2, 5, 8]}, {net.add("Add", "tokens", net.add("MatMul", scores, v)): [2, 5, 8]})


def gated() -> onnx.ModelProto:
    """What MobileNetV3 and U-Nets have beside convolutions: hard swish, a gate and slopes for each channel,
    interpolation; and a normalization by instances, a choice by comparison and a greatest element.
    """
    net = Net(9)
    x = net.add("HardSwish", net.conv("image", (3, 8), 3, strides=[2, 2]))
    gate = net.add("Relu", net.conv(net.add("GlobalAveragePool", x), (8, 4), 1))
    x = net.add("Mul", x, net.add("HardSigmoid", net.conv(gate, (4, 8), 1), alpha=1 / 6))
    x = net.add("PRelu", net.conv(x, (8, 6), 1), net.constant(np.float32([0.5, 0.1, 2, -0.3, 1, 0]).reshape(6, 1, 1)))
    scales = net.constant(np.float32([1, 1, 2, 2]))
    x = net.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    x = net.add("InstanceNormalization", x, net.weights(6), net.weights(6))
    other = net.conv(x, (6, 6), 3)
    x = net.add("Where", net.add("Less", x, other), net.add("Neg", x), other)
    x = net.add("ReduceMax", x, axes=[2, 3], keepdims=0)
    return net.model({"image": [1, 3, 12, 12]}, {net.classified(x, 6, 3): [1, 3]})


MODELS = {
    function.__name__: function
    for function in (resnet, mobilenet_v2, ds_cnn, squeezenet, mlp, flattened_cnn, one_dimensional, attention, gated)
}


def random_inputs(model: onnx.ModelProto, seed: int = 0, sizes: dict[str, int] | None = None) -> dict[str, Array]:
    """Normal inputs; named sizes by `sizes`."""
    random = np.random.default_rng(seed)
    shapes = {
        value.name: [size.dim_value or (sizes or {})[size.dim_param] for size in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    return {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def reference(model: onnx.ModelProto, inputs: dict[str, Array]) -> dict[str, Array]:
    """What onnxruntime computes, with its own optimizations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
