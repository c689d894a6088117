"""Small operands for operators' `samples()`: values that carry data for the generic tests."""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Value
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType


class Samples:
    """Makes operand values with reproducible random data. `arrays` holds the data of those that are inputs of the
    sample.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.arrays: dict[Value, Array] = {}

    def f32(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Value:
        """A float activation, uniform in low..high."""
        return self._activation(self.random.uniform(low, high, shape).astype(np.float32))

    def f32_values(self, *values: float) -> Value:
        """A float activation of one axis with given elements."""
        return self._activation(np.array(values, np.float32))

    def f64(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Value:
        """A double activation, uniform in low..high."""
        return self._activation(np.asarray(self.random.uniform(low, high, shape), np.float64))

    def f64_values(self, *values: float) -> Value:
        """A double activation of one axis with given elements."""
        return self._activation(np.array(values, np.float64))

    def i8(self, *shape: int, scale: float = 0.05, zero: int = 0) -> Value:
        """A quantized activation over the whole range, both ends included where there is room."""
        data = self.random.integers(-128, 128, shape).astype(np.int8)
        data.reshape(-1)[: min(2, data.size)] = (-128, 127)[: min(2, data.size)]
        return self._activation(data, Quant.per_tensor(scale, zero))

    def i32(self, *shape: int, low: int = -1000, high: int = 1000) -> Value:
        """An integer activation."""
        return self._activation(self.random.integers(low, high, shape).astype(np.int32))

    def numbers(self, dtype: DType, *shape: int) -> Value:
        """An activation of any element type without quantization; integers over their whole range, both ends included
        where there is room.
        """
        if dtype is DType.F64:
            return self.f64(*shape, low=-4.0, high=4.0)
        if dtype is DType.F32:
            return self.f32(*shape, low=-4.0, high=4.0)
        low, high = (0, 1) if dtype is DType.BOOL else dtype.limits
        data = self.random.integers(low, high, shape, np.uint64 if low == 0 else np.int64, endpoint=True)
        data.reshape(-1)[: min(2, data.size)] = (low, high)[: min(2, data.size)]
        return self.array(data.astype(dtype.numpy))

    def array(self, data: Array, quant: Quant | None = None) -> Value:
        """An activation of given data."""
        return self._activation(data, quant)

    def f32_weights(self, *shape: int) -> Value:
        """A float constant."""
        return self.constant(self.random.normal(0, 0.5, shape).astype(np.float32))

    def i8_weights(self, *shape: int, axis: int | None = 0, scale: float = 0.01) -> Value:
        """Symmetric int8 weights in -127..127, with a scale of its own for each slice along `axis` (one scale for
        `None`).
        """
        data = self.random.integers(-127, 128, shape).astype(np.int8)
        if axis is None:
            return self.constant(data, Quant.per_tensor(scale))
        scales = (scale * self.random.uniform(0.5, 2.0, shape[axis])).astype(np.float32)
        return self.constant(data, Quant(tuple(float(s) for s in scales), (0,) * len(scales), axis))

    def i32_bias(self, channels: int, low: int = -2000, high: int = 2000) -> Value:
        """An int32 constant."""
        return self.constant(self.random.integers(low, high, (channels,)).astype(np.int32))

    def constant(self, data: Array, quant: Quant | None = None) -> Value:
        """A constant of given data."""
        return Value(f"c{len(self.arrays)}", TensorType(DType.of(data), tuple(data.shape), quant), data)

    def quant(self, scale: float = 0.05, zero: int = 0) -> Quant:
        """A per-tensor quantization."""
        return Quant.per_tensor(scale, zero)

    def shape(self, *sizes: int) -> Shape:
        """A shape."""
        return sizes

    def _activation(self, data: Array, quant: Quant | None = None) -> Value:
        value = Value(f"x{len(self.arrays)}", TensorType(DType.of(data), tuple(data.shape), quant))
        self.arrays[value] = data
        return value
