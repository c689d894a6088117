"""Quantization parameters: how integers stand for reals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quant:
    """real = scale * (integer - zero_point), per tensor, or per slice along `axis`.

    Scales are float32 values held as Python floats; `repr` of the float32 round-trips. One scale and zero point means
    per tensor.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...] = (0,)
    axis: int = 0

    def __post_init__(self) -> None:
        if len(self.scales) != len(self.zero_points):
            raise ValueError(f"{len(self.scales)} scales but {len(self.zero_points)} zero points")

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int = 0) -> Quant:
        """One scale and zero point for the whole tensor."""
        return cls((float(np.float32(scale)),), (int(zero_point),))

    @property
    def is_per_channel(self) -> bool:
        """Whether each slice along `axis` has parameters of its own."""
        return len(self.scales) > 1

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantization."""
        if self.is_per_channel:
            raise ValueError("a per-channel quantization has no single scale")
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantization."""
        if self.is_per_channel:
            raise ValueError("a per-channel quantization has no single zero point")
        return self.zero_points[0]

    def __str__(self) -> str:
        if self.is_per_channel:
            return f"affine(channels={len(self.scales)}, axis={self.axis})"
        return f"affine(scale={np.float32(self.scales[0])!s}, zero={self.zero_points[0]})"
