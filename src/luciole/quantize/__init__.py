"""From a float graph and samples of its data to an int8 graph with the exact meaning of TensorFlow Lite.

calibration = calibrate(graph, samples)
quantized = convert(graph, calibration, QuantizeOptions())
layers = layer_errors(graph, quantized, samples)
"""

from luciole.quantize.calibrate import Calibration, Sample, calibrate
from luciole.quantize.convert import (
    Quantized,
    check_quantizable,
    convert,
    is_quantization_remark,
    quantize_graph,
)
from luciole.quantize.equalize import equalize
from luciole.quantize.names import find_operators, tensor_names
from luciole.quantize.observe import OBSERVERS, Range, Statistics
from luciole.quantize.options import QuantizeOptions
from luciole.quantize.report import LayerError, layer_errors
from luciole.quantize.schemes import SCHEMES, Scheme

__all__ = [
    "OBSERVERS",
    "SCHEMES",
    "Calibration",
    "LayerError",
    "QuantizeOptions",
    "Quantized",
    "Range",
    "Sample",
    "Scheme",
    "Statistics",
    "calibrate",
    "check_quantizable",
    "convert",
    "equalize",
    "find_operators",
    "is_quantization_remark",
    "layer_errors",
    "quantize_graph",
    "tensor_names",
]
