"""Makes the model of `make demo`, in float ONNX: a small convolutional network for digits, trained in numpy.

For development only; it needs scikit-learn, for the data (1797 digits of 8 x 8 pixels in 17 shades). From anywhere:

    python examples/digits/train.py

The last fifth of the digits, by other writers, is never seen in training and becomes `digits_samples.npz`; the first
of the others become `digits_calibration.npz`. With the same numpy and BLAS the same files come out of every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from luciole.graph.text import write_npz

HERE = Path(__file__).resolve().parent

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

SEED = 2026
EPOCHS = 80
BATCH = 32
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 2e-3
TRAINING_SAMPLES = 1437
CALIBRATION_SAMPLES = 100
BRIGHTEST_PIXEL = 16.0


@dataclass(frozen=True)
class Layer:
    """One layer over images of shape [n, height, width, channels]; the padding is `same`, as TensorFlow means it."""

    name: str
    kind: str
    channels: int
    kernel: int = 1
    stride: int = 1


#: Every layer with weights but the last is followed by a relu; the last is followed by a softmax.
NETWORK = (
    Layer("stem", "conv2d", 8, kernel=3),
    Layer("spatial", "depthwise_conv2d", 8, kernel=3, stride=2),
    Layer("mix", "conv2d", 16),
    Layer("shapes", "conv2d", 32, kernel=3),
    Layer("shrink", "average_pool2d", 32, kernel=2, stride=2),
    Layer("digit", "fully_connected", 10),
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis, so that the output has ceil(size / stride) elements."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def windows(layer: Layer, x: Floats) -> Floats:
    """The input of each output pixel: [n, out_height, out_width, channels, kernel, kernel]."""
    padding = [(0, 0), *(same_padding(size, layer.kernel, layer.stride) for size in x.shape[1:3]), (0, 0)]
    view = np.lib.stride_tricks.sliding_window_view(np.pad(x, padding), (layer.kernel, layer.kernel), axis=(1, 2))
    return view[:, :: layer.stride, :: layer.stride]


def scatter(layer: Layer, gradient: Floats, shape: tuple[int, ...]) -> Floats:
    """The transpose of `windows`: each window's gradient added to the pixels that it was read from."""
    _, height, width, _ = shape
    (top, bottom), (left, right) = (same_padding(size, layer.kernel, layer.stride) for size in (height, width))
    padded = np.zeros((shape[0], top + height + bottom, left + width + right, shape[3]), np.float32)
    rows, columns = gradient.shape[1:3]
    for kh in range(layer.kernel):
        for kw in range(layer.kernel):
            into = padded[:, kh :: layer.stride, kw :: layer.stride][:, :rows, :columns]
            into += gradient[..., kh, kw]
    return padded[:, top : top + height, left : left + width]


def initial_parameters(generator: np.random.Generator) -> dict[str, Floats]:
    """Weights by He's rule and zero biases, named `layer.weights` and `layer.bias`."""
    parameters: dict[str, Floats] = {}
    height, channels = 8, 1
    for layer in NETWORK:
        shape: tuple[int, ...] = ()
        if layer.kind == "conv2d":
            shape = (layer.channels, layer.kernel, layer.kernel, channels)
        elif layer.kind == "depthwise_conv2d":
            shape = (1, layer.kernel, layer.kernel, layer.channels)
        elif layer.kind == "fully_connected":
            shape = (layer.channels, height * height * channels)
        if shape:
            fan_in = layer.kernel**2 if layer.kind == "depthwise_conv2d" else np.prod(shape[1:])
            weights = generator.normal(0, np.sqrt(2 / fan_in), shape)
            parameters[f"{layer.name}.weights"] = weights.astype(np.float32)
            parameters[f"{layer.name}.bias"] = np.zeros(layer.channels, np.float32)
        height, channels = -(-height // layer.stride), layer.channels
    return parameters


def layer_forward(layer: Layer, parameters: dict[str, Floats], x: Floats) -> Floats:
    """A layer's output before its activation."""
    if layer.kind == "average_pool2d":
        return windows(layer, x).mean(axis=(-2, -1), dtype=np.float32)
    weights, bias = parameters[f"{layer.name}.weights"], parameters[f"{layer.name}.bias"]
    if layer.kind == "fully_connected":
        return x.reshape(len(x), -1) @ weights.T + bias
    taken = windows(layer, x)
    if layer.kind == "depthwise_conv2d":
        return np.einsum("nhwckl,klc->nhwc", taken, weights[0], optimize=True) + bias
    columns = taken.reshape(-1, np.prod(taken.shape[3:]))
    matrix = weights.transpose(3, 1, 2, 0).reshape(-1, layer.channels)
    return (columns @ matrix).reshape(*taken.shape[:3], layer.channels) + bias


def layer_backward(
    layer: Layer, parameters: dict[str, Floats], x: Floats, gradient: Floats
) -> tuple[Floats, dict[str, Floats]]:
    """The gradient of a layer's input, and those of its parameters, from that of its output before the activation."""
    if layer.kind == "average_pool2d":
        area = layer.kernel**2
        spread = np.broadcast_to(gradient[..., None, None] / area, (*gradient.shape, layer.kernel, layer.kernel))
        return scatter(layer, spread.astype(np.float32), x.shape), {}
    weights = parameters[f"{layer.name}.weights"]
    found = {f"{layer.name}.bias": gradient.reshape(-1, layer.channels).sum(axis=0)}
    if layer.kind == "fully_connected":
        found[f"{layer.name}.weights"] = gradient.T @ x.reshape(len(x), -1)
        return (gradient @ weights).reshape(x.shape), found
    taken = windows(layer, x)
    if layer.kind == "depthwise_conv2d":
        found[f"{layer.name}.weights"] = np.einsum("nhwckl,nhwc->klc", taken, gradient, optimize=True)[None]
        spread = np.einsum("nhwc,klc->nhwckl", gradient, weights[0], optimize=True)
        return scatter(layer, spread, x.shape), found
    columns = taken.reshape(-1, np.prod(taken.shape[3:]))
    flat = gradient.reshape(-1, layer.channels)
    kernel_shape = (x.shape[3], layer.kernel, layer.kernel, layer.channels)
    found[f"{layer.name}.weights"] = (columns.T @ flat).reshape(kernel_shape).transpose(3, 1, 2, 0)
    matrix = weights.transpose(3, 1, 2, 0).reshape(-1, layer.channels)
    return scatter(layer, (flat @ matrix.T).reshape(taken.shape), x.shape), found


def has_relu(layer: Layer) -> bool:
    """Whether a relu follows."""
    return layer.kind != "average_pool2d" and layer is not NETWORK[-1]


def activations(parameters: dict[str, Floats], x: Floats) -> list[Floats]:
    """The network's input and each layer's output, relu included; the last one holds the logits."""
    values = [x]
    for layer in NETWORK:
        y = layer_forward(layer, parameters, values[-1])
        values.append(np.maximum(y, 0) if has_relu(layer) else y)
    return values


def gradients(parameters: dict[str, Floats], x: Floats, labels: Labels) -> dict[str, Floats]:
    """Gradients of the mean cross entropy."""
    values = activations(parameters, x)
    logits = values[-1]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    gradient = exponentials / exponentials.sum(axis=1, keepdims=True)
    gradient[np.arange(len(labels)), labels] -= 1
    gradient /= np.float32(len(labels))
    found: dict[str, Floats] = {}
    for layer, before, after in reversed(list(zip(NETWORK, values, values[1:], strict=False))):
        if has_relu(layer):
            gradient = gradient * (after > 0)
        gradient, of_layer = layer_backward(layer, parameters, before, gradient)
        found |= of_layer
    return found


def accuracy(parameters: dict[str, Floats], x: Floats, labels: Labels) -> float:
    """The share of samples whose greatest logit is at the label."""
    return float(np.mean(activations(parameters, x)[-1].argmax(axis=1) == labels))


def shifted(x: Floats, generator: np.random.Generator) -> Floats:
    """Each image moved by up to one pixel along both axes, which stands for more writers than the data has."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moves = generator.integers(0, 3, (len(x), 2))
    return np.stack([image[dy : dy + 8, dx : dx + 8] for image, (dy, dx) in zip(padded, moves, strict=True)])


def train(x: Floats, labels: Labels) -> dict[str, Floats]:
    """Adam with decoupled weight decay, and a rate that falls along a cosine to zero.

    Kingma and Ba 2015, "Adam: a method for stochastic optimization"; Loshchilov and Hutter 2019, "Decoupled weight
    decay regularization".
    """
    generator = np.random.default_rng(SEED)
    parameters = initial_parameters(generator)
    first = {name: np.zeros_like(value) for name, value in parameters.items()}
    second = {name: np.zeros_like(value) for name, value in parameters.items()}
    steps = EPOCHS * (len(x) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = generator.permutation(len(x))
        for begin in range(0, len(x) - BATCH + 1, BATCH):
            chosen = order[begin : begin + BATCH]
            found = gradients(parameters, shifted(x[chosen], generator), labels[chosen])
            step += 1
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name, gradient in found.items():
                first[name] += 0.1 * (gradient - first[name])
                second[name] += 0.001 * (gradient**2 - second[name])
                direction = first[name] / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
                decay = WEIGHT_DECAY if name.endswith("weights") else 0.0
                parameters[name] -= (rate * (direction + decay * parameters[name])).astype(np.float32)
    return parameters


def digits() -> tuple[Floats, Labels]:
    """All images, with shades from 0 to 16, and their labels."""
    data = load_digits()
    return data.images[..., None].astype(np.float32), data.target.astype(np.int64)


def exported(parameters: dict[str, Floats]) -> onnx.ModelProto:
    """The float network in ONNX, with channels first as PyTorch writes it; its input are pixels from 0 to 255."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Floats] = {}
    value, height = "image", 8
    for layer in NETWORK:
        if layer.kind == "average_pool2d":
            attributes = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2}
            nodes.append(helper.make_node("AveragePool", [value], [layer.name], layer.name, **attributes))
        elif layer.kind == "fully_connected":
            nodes.append(helper.make_node("Flatten", [value], ["flat"], "flat"))
            of_layer = exported_parameters(layer, parameters, constants)
            nodes.append(helper.make_node("Gemm", ["flat", *of_layer], [layer.name], layer.name, transB=1))
        else:
            (top, bottom), (left, right) = (same_padding(height, layer.kernel, layer.stride) for _ in range(2))
            attributes = {
                "kernel_shape": [layer.kernel] * 2,
                "strides": [layer.stride] * 2,
                "pads": [top, left, bottom, right],
                "group": layer.channels if layer.kind == "depthwise_conv2d" else 1,
            }
            of_layer, summed = exported_parameters(layer, parameters, constants), f"{layer.name}_sum"
            nodes.append(helper.make_node("Conv", [value, *of_layer], [summed], summed, **attributes))
            nodes.append(helper.make_node("Relu", [summed], [layer.name], layer.name))
        value, height = layer.name, -(-height // layer.stride)
    nodes.append(helper.make_node("Softmax", [value], ["probabilities"], "probabilities", axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    # The oldest versions that say what is said here, so that every reader of ONNX takes the file.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return model


def exported_parameters(layer: Layer, parameters: dict[str, Floats], constants: dict[str, Floats]) -> tuple[str, str]:
    """Puts a layer's weights and bias among the constants, with axes in the order of ONNX; gives their names."""
    names = (f"{layer.name}.weights", f"{layer.name}.bias")
    weights, bias = (parameters[name] for name in names)
    if layer.kind == "fully_connected":
        # What is flattened has its channels first now; the image is square.
        channels = NETWORK[-2].channels
        side = math.isqrt(weights.shape[1] // channels)
        weights = weights.reshape(-1, side, side, channels).transpose(0, 3, 1, 2).reshape(weights.shape)
    elif layer.kind == "depthwise_conv2d":
        weights = weights.transpose(3, 0, 1, 2)
    else:
        weights = weights.transpose(0, 3, 1, 2)
    if layer is NETWORK[0]:
        weights = weights / np.float32(255)  # it was trained on pixels from 0 to 1
    constants |= dict(zip(names, (np.ascontiguousarray(weights), bias), strict=True))
    return names


def pixels(images: Floats) -> npt.NDArray[np.uint8]:
    """Images of 0 to 1 as bytes."""
    return np.rint(images * 255).astype(np.uint8)


def main() -> None:
    """Trains, writes the files and prints the accuracy on digits by other writers."""
    images, labels = digits()
    images /= np.float32(BRIGHTEST_PIXEL)
    known, unseen = slice(0, TRAINING_SAMPLES), slice(TRAINING_SAMPLES, None)
    with threadpool_limits(1):  # the order of a BLAS's sums depends on its threads
        parameters = train(images[known], labels[known])
    (HERE / "digits.onnx").write_bytes(exported(parameters).SerializeToString(deterministic=True))
    calibration = {"x": pixels(images[known][:CALIBRATION_SAMPLES])}
    (HERE / "digits_calibration.npz").write_bytes(write_npz(calibration))
    samples = {"x": pixels(images[unseen]), "y": labels[unseen]}
    (HERE / "digits_samples.npz").write_bytes(write_npz(samples))
    correct = 100 * accuracy(parameters, images[unseen], labels[unseen])
    print(f"{correct:.1f} % of {len(labels[unseen])} digits by other writers")


if __name__ == "__main__":
    main()
