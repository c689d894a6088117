"""Models quantized by `onnxruntime.quantization`, as users bring them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

from luciole.ir.types import Array
from support.onnx_models import Net, ds_cnn, mobilenet_v2, random_inputs, resnet

#: How many samples ranges are taken from.
CALIBRATION_SAMPLES = 4


def mobilenet_v1() -> onnx.ModelProto:
    """Depthwise separable convolutions, as in MobileNetV1; the head is an average pool and a dense layer."""
    net = Net(7, opset=13)
    x = net.add("Relu", net.normalized(net.conv("image", (3, 8), 3, strides=[2, 2], bias=False), 8))
    for channels, wider, stride in ((8, 16, 1), (16, 16, 2)):
        x = net.conv(x, (channels, channels), 3, group=channels, strides=[stride] * 2, bias=False)
        x = net.add("Relu", net.normalized(x, channels))
        x = net.add("Relu", net.normalized(net.conv(x, (channels, wider), 1, bias=False), wider))
    x = net.add("AveragePool", x, kernel_shape=[5, 5])
    return net.model({"image": [1, 3, 20, 20]}, {net.classified(net.add("Flatten", x), 16, 2): [1, 2]})


#: Float models by name.
FLOAT_MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet": resnet,
    "ds_cnn": ds_cnn,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
}

#: Types of activations and weights, by the names that onnxruntime's documentation has for them.
SCHEMES = {"s8s8": (QuantType.QInt8, QuantType.QInt8), "u8s8": (QuantType.QUInt8, QuantType.QInt8)}


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Random samples for calibration."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._rest: Iterator[dict[str, Array]] = (random_inputs(model, 100 + i) for i in range(CALIBRATION_SAMPLES))

    def get_next(self) -> dict[str, Array] | None:
        """One more sample, or None at the end."""
        return next(self._rest, None)


def quantized(
    name: str, scheme: str, folder: Path, *, per_channel: bool = True, format: QuantFormat = QuantFormat.QDQ
) -> onnx.ModelProto:
    """A model quantized by onnxruntime: with QuantizeLinear and DequantizeLinear around each operator, or QLinear."""
    model = FLOAT_MODELS[name]()
    activations, weights = SCHEMES[scheme]
    paths = [folder / f"{name}.{stage}.onnx" for stage in ("float", "prepared", "quantized")]
    onnx.save(model, paths[0])
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(str(paths[0]), str(paths[1]), skip_symbolic_shape=True)
            quantize_static(
                str(paths[1]),
                str(paths[2]),
                _Samples(model),
                quant_format=format,
                activation_type=activations,
                weight_type=weights,
                per_channel=per_channel,
            )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(paths[2])
