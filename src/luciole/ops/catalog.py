"""The one list of the modules that hold operators; importing a module registers its classes and their import rules."""

from __future__ import annotations

from importlib import import_module

from luciole.graph.core import OPERATORS, Operator

#: Modules of this package, in the order in which tables show their operators.
MODULES = (
    "conv",
    "depthwise",
    "conv_transpose",
    "matmul",
    "elementwise",
    "bits",
    "comparison",
    "cast",
    "functions",
    "float_remainder",
    "powers",
    "pool",
    "pool_positions",
    "pool_rules",
    "reduce",
    "normalization",
    "ranking",
    "pixel_sums",
    "activation",
    "softmax",
    "reshape",
    "transpose",
    "depth_space",
    "slice",
    "gather",
    "scatter",
    "tile",
    "resample",
    "bilinear",
    "grid_sample",
    "roi_align",
    "resize",
    "known_positions",
    "masks",
    "parametric_relu",
    "einsum",
    "lp_pool",
    "concat",
    "pad",
    "quantization",
    "recurrent",
    "recurrent_rules",
    "int8",
    "quantization_by_channel",
    "onnx_quantization",
    "onnx_qlinear",
    "integer_sums",
    "fused",
)


def load_operators() -> dict[str, type[Operator]]:
    """Import every operator's module; all operator classes by kind."""
    for module in MODULES:
        import_module(f"luciole.ops.{module}")
    return OPERATORS
