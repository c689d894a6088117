"""Between reals and integers with a scale and zero point for each slice along an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.ops.quantization import NARROW, narrow_type, quantized_element


@dataclass(frozen=True, eq=False, repr=False)
class ByChannel(Operator):
    """Base of conversions with a scale and zero point for each slice along an axis."""

    x: Value

    def channels(self) -> Quant:
        """The quantization of the integers."""
        raise NotImplementedError

    def check_channels(self, quant: Quant | None) -> Quant:
        """A quantization. Raises `CompileError` when there is none, or not one for each slice."""
        shape = self.x.type.shape
        if quant is None or not 0 <= quant.axis < len(shape) or len(quant.scales) != shape[quant.axis]:
            raise self.error("there must be a scale and zero point for each slice along an axis")
        return quant

    def parameters(self) -> dict[str, Array]:
        quant = self.channels()
        return {"scales": np.array(quant.scales, np.float32), "zeros": np.array(quant.zero_points, np.int32)}

    def kernel_shapes(self) -> dict[str, Shape]:
        """What is before the axis, the slices, and what is behind."""
        shape, axis = self.x.type.shape, self.channels().axis
        return dict.fromkeys(("x", "y"), (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])))


@operator("quantize_channels")
class QuantizeChannels(ByChannel):
    """y = clamp(round(x / scale[c]) + zero_point[c]), f32 to i8, u8, i16 or u16, for slices c along an axis.

    Halves go to even; otherwise as `quantize`.
    """

    to: str = "i8"

    def channels(self) -> Quant:
        return self.check_channels(self.quant)

    def infer(self) -> TensorType:
        dtype = narrow_type(self.to)
        if self.x.type.dtype is not DType.F32 or dtype not in NARROW:
            raise self.error(f"x must be f32, it cannot become {self.to!r}", "unsupported-types")
        low, high = dtype.limits
        if any(not low <= zero <= high for zero in self.channels().zero_points):
            raise self.error(f"a zero point lies outside of {dtype.numpy.name}")
        return TensorType(dtype, self.x.type.shape, self.quant)

    def compute(self, x: Array) -> Array:
        quant, dtype = self.channels(), narrow_type(self.to)
        slices = zip(np.moveaxis(x, quant.axis, 0), quant.scales, quant.zero_points, strict=True)
        found = [arithmetic.quantize(part, scale, zero, dtype.limits, "onnx") for part, scale, zero in slices]
        return np.ascontiguousarray(np.moveaxis(np.array(found), 0, quant.axis)).astype(dtype.numpy)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as (n, c, i):
            v.y[n, c, i] = quantized_element(v.x[n, c, i], v.scales[c], v.zeros[c], narrow_type(self.to), "onnx")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 5, low=-9, high=9), quant=Quant((0.5, 0.03125, 0.25), (3, -128, 127), 1))
        yield cls(s.f32(3, low=-9, high=9), to="u16", quant=Quant((0.5, 0.0625, 0.25), (3, 0, 127), 0))


@operator("dequantize_channels")
class DequantizeChannels(ByChannel):
    """y = scale[c] * (x - zero_point[c]) for slices c along an axis; otherwise as `dequantize`."""

    def channels(self) -> Quant:
        return self.check_channels(self.x.type.quant)

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in (*NARROW, DType.I32):
            raise self.error("x must be of integers of up to 32 bits", "unsupported-types")
        if any(self.channels().zero_points) and x.dtype is DType.I32:
            raise self.error("i32 has no zero points but 0", "unsupported-quantization")
        return TensorType(DType.F32, x.shape)

    def compute(self, x: Array) -> Array:
        quant = self.channels()
        slices = zip(np.moveaxis(x, quant.axis, 0), quant.scales, quant.zero_points, strict=True)
        found = np.array([arithmetic.dequantize(part, scale, zero) for part, scale, zero in slices])
        return np.ascontiguousarray(np.moveaxis(found, 0, quant.axis))

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.nest("i", *v.y.shape) as (n, c, i):
            v.y[n, c, i] = (v.x[n, c, i].cast(DType.I32) - v.zeros[c]).cast(DType.F32) * v.scales[c]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        scales = (0.5, 0.03125, 0.25)
        yield cls(s.array(s.random.integers(-128, 128, (2, 3, 5)).astype(np.int8), Quant(scales, (3, -128, 127), 1)))
        yield cls(s.array(s.random.integers(0, 256, (3, 4)).astype(np.uint8), Quant(scales, (3, 0, 255), 0)))
