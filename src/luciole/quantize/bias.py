"""Bias correction: what rounding the weights does to the mean of a sum is made up for in the bias.

A sum of products with weights w - e instead of w is less by sum(e * x), on the average by sum(e * mean(x)) (Nagel et
al. 2019, "Data-free quantization through weight equalization and bias correction", section 4.2, with measured means).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from luciole.ir.types import Array
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.quantize.roles import Weighted


def mean_of_sums(op: Weighted, weights: Array, means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of each channel's sums of products with other weights, for the means of each channel of the input.

    It is that of windows which lie inside of the image.
    """
    if isinstance(op, DepthwiseConv2d):
        per_channel = weights.sum(axis=(0, 1, 2), dtype=np.float64)
        return np.asarray(per_channel * np.repeat(means, len(per_channel) // len(means)), np.float64)
    if isinstance(op, Conv2d):
        weights = weights.sum(axis=(1, 2), dtype=np.float64)
    return np.asarray((weights * means).sum(axis=1, dtype=np.float64), np.float64)
