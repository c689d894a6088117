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
    quantize_graph,
)
from luciole.quantize.equalize import equalize
from luciole.quantize.names import find_operators, tensor_names
from luciole.quantize.observe import OBSERVERS, Range, Statistics
from luciole.quantize.options import QuantizeOptions
from luciole.quantize.profile import load_profile, profile_text
from luciole.quantize.remarks import (
    Accuracy,
    LayerError,
    Quantization,
    accuracy_remark,
    is_quantization_remark,
    quantization_of,
)
from luciole.quantize.report import COMPARED_SAMPLES, ErrorTally, layer_errors, quantize_and_compare
from luciole.quantize.schemes import SCHEMES, Scheme

__all__ = [
    "COMPARED_SAMPLES",
    "OBSERVERS",
    "SCHEMES",
    "Accuracy",
    "Calibration",
    "ErrorTally",
    "LayerError",
    "Quantization",
    "QuantizeOptions",
    "Quantized",
    "Range",
    "Sample",
    "Scheme",
    "Statistics",
    "accuracy_remark",
    "calibrate",
    "check_quantizable",
    "convert",
    "equalize",
    "find_operators",
    "is_quantization_remark",
    "layer_errors",
    "load_profile",
    "profile_text",
    "quantization_of",
    "quantize_and_compare",
    "quantize_graph",
    "tensor_names",
]
