"""What a scheme decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType

#: The greatest int8 weight; -128 is left out, so that a weight and its negative are both there.
GREATEST_WEIGHT = 127

#: No scale is smaller: products of three of them are still normal in double, and one is in float32.
LEAST_SCALE = 2.0**-100

#: The scale of a tensor of which only zeros were seen; every scale would do for these.
SCALE_OF_ZEROS = 1.0


class Scheme(ABC):
    """Base of schemes. int8 weights are symmetric in all of them, as the operators need it."""

    name: ClassVar[str]

    def activation(self, low: float, high: float, dtype: DType = DType.I8) -> Quant:
        """Scale and zero point of an i8 or i16 tensor whose reals go from `low` <= 0 to `high` >= 0.

        Zero is a number of its own. Where both are zero the scale is `SCALE_OF_ZEROS`. i16 is symmetric in every
        scheme, as in TensorFlow Lite: 16 bits have room for the half that is not used.
        """
        if low == high == 0:
            return Quant.per_tensor(SCALE_OF_ZEROS)
        return self.int8(low, high) if dtype is DType.I8 else self.symmetric(low, high, dtype)

    @abstractmethod
    def int8(self, low: float, high: float) -> Quant:
        """`activation` of an i8 tensor that is not all zeros."""

    def symmetric(self, low: float, high: float, dtype: DType = DType.I8) -> Quant:
        """The greatest magnitude becomes the greatest number, the zero point is 0."""
        return Quant.per_tensor(self.scale(max(-low, high) / dtype.limits[1]))

    def scale(self, step: float) -> float:
        """The scale to take when `step` would do exactly: a float32 number."""
        return float(np.float32(max(step, LEAST_SCALE)))

    def weights(self, data: Array, axis: int | None) -> npt.NDArray[np.float64]:
        """The scales of float weights, one for each slice along `axis` or one for all (`None`).

        The greatest magnitude becomes 127. Slices of zeros take the scale that all weights together would have.
        """
        greatest = float(np.abs(data).max(initial=0.0))
        common = self.scale(greatest / GREATEST_WEIGHT) if greatest else SCALE_OF_ZEROS
        if axis is None:
            return np.array([common], np.float64)
        rows = np.abs(np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)).max(axis=1, initial=0.0)
        return np.array([self.scale(float(row) / GREATEST_WEIGHT) if row else common for row in rows], np.float64)
