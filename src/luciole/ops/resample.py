"""Sums of a few elements along an axis with constant weights: interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr, clamp
from luciole.ops import common

#: So many taps are held in registers while the elements behind the axis are gone through.
_REGISTERS = 4

#: Fractional bits of the weights of int8 elements, so that those below 2 in magnitude fit into 16 bits.
WEIGHT_BITS = 14

#: The sum of the weights' magnitudes may not reach this, so that sums of products fit into 32 bits.
_LARGEST_WEIGHTS = 1 << 22

#: What rounds to the nearest when fractional bits are shifted out.
_HALF = 1 << (WEIGHT_BITS - 1)


@operator("resample")
class Resample(Operator):
    """y[n..., i, k...] = sum over t of weights[i, t] * x[n..., positions[i, t], k...], along `axis` of x.

    Positions [results, taps] are constant i32 inside the axis. The constant weights have the same shape: f32 where x is
    f32; where x is int8, i16 in units of 2**-14, which multiply x minus its zero point: sums are rounded to the nearest
    number, halves up, and the result keeps the quantization of x.
    """

    x: Value
    positions: Value
    weights: Value
    axis: int

    def infer(self) -> TensorType:
        x, positions, weights = self.x.type, self.positions, self.weights
        expected = {DType.F32: DType.F32, DType.I8: DType.I16}.get(x.dtype)
        if weights.type.dtype is not expected or positions.type.dtype is not DType.I32:
            raise self.error("x and weights must be f32, or i8 and i16, and positions i32", "unsupported-types")
        if not 0 <= self.axis < x.rank:
            raise self.error(f"axis {self.axis} is none of the {x.rank} axes")
        if positions.data is None or positions.type.rank != 2 or positions.type.shape != weights.type.shape:
            raise self.error("positions must be constant, [results, taps], as weights")
        if not positions.data.size or positions.data.min() < 0 or positions.data.max() >= x.shape[self.axis]:
            raise self.error(f"positions must lie in 0..{x.shape[self.axis] - 1}")
        shape = (*x.shape[: self.axis], positions.type.shape[0], *x.shape[self.axis + 1 :])
        if x.dtype is DType.F32:
            return TensorType(DType.F32, shape)
        numbers = common.constant_of(self, weights, "weights").astype(np.int64)
        if np.abs(numbers).sum(axis=1).max() >= _LARGEST_WEIGHTS:
            raise self.error(f"the weights of a result must be below {_LARGEST_WEIGHTS >> WEIGHT_BITS} together")
        common.operand_quant(self, self.x)
        return TensorType(DType.I8, shape, common.moved_quant(self, self.x))

    def macs(self) -> int:
        return self.infer().elements * self.positions.type.shape[1]

    def compute(self, x: Array, positions: Array, weights: Array) -> Array:
        rank = x.ndim - self.axis - 1
        zero = self._zero_point()
        if zero is not None:
            x, weights = x.astype(np.int32) - zero, weights.astype(np.int32)
        total = np.zeros(self.infer().shape, x.dtype)
        for tap in range(positions.shape[1]):
            factor = weights[:, tap].reshape(-1, *(1,) * rank)
            total = total + factor * x.take(positions[:, tap], axis=self.axis)
        if zero is None:
            return total
        return arithmetic.clamp(((total + _HALF) >> WEIGHT_BITS) + zero, *DType.I8.limits).astype(np.int8)

    def _zero_point(self) -> int | None:
        """The zero point of int8 elements, none of floats."""
        return common.operand_quant(self, self.x).zero_point if common.is_int8(self.x) else None

    def kernel_shapes(self) -> dict[str, Shape]:
        """The axes before `axis` as one, those behind as one."""
        shape = self.x.type.shape
        outer, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        return {"x": (outer, shape[self.axis], inner), "y": (outer, self.positions.type.shape[0], inner)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        outer, count, inner = v.y.shape
        taps = v.positions.shape[1]
        zero = self._zero_point()
        nothing = common.float_zero() if zero is None else Constant(0, DType.I32)

        def product(factor: Expr, element: Expr) -> Expr:
            return common.widened(factor) * common.centered(self, self.x, element)

        def finished(total: Expr) -> Expr:
            if zero is None:
                return total
            return clamp(((total + _HALF) >> WEIGHT_BITS) + zero, *DType.I8.limits).cast(DType.I8)

        with k.loop("n", outer) as n, k.loop("j", count) as j:

            def position(tap: Expr | int) -> Expr:
                return v.positions[j, tap].cast(DType.INDEX)

            if taps <= _REGISTERS:
                places = [k.define("position", position(tap), DType.INDEX) for tap in range(taps)]
                factors = [k.define("weight", v.weights[j, tap]) for tap in range(taps)]
                with k.loop("i", inner) as i:
                    total = nothing
                    for place, factor in zip(places, factors, strict=True):
                        total = total + product(factor, v.x[n, place, i])
                    v.y[n, j, i] = finished(total)
            else:
                with k.loop("i", inner) as i:
                    running = k.define("total", nothing)
                    with k.loop("t", taps) as t:
                        running += product(v.weights[j, t], v.x[n, position(t), i])
                    v.y[n, j, i] = finished(running)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        two = s.constant(np.array([[0, 1], [2, 2], [1, 0]], np.int32))
        yield cls(s.f32(2, 3, 4), two, s.f32_weights(3, 2), 1)
        six = s.constant(np.array([[0, 1, 2, 3, 4, 4], [0, 0, 1, 2, 3, 4]], np.int32))
        yield cls(s.f32(5), six, s.f32_weights(2, 6), 0)
        halves = s.constant(np.array([[8192, 8192], [16384, 0], [-4096, 20480]], np.int16))
        yield cls(s.i8(2, 3, 4, zero=-128), two, halves, 1)
        yield cls(
            s.i8(2, 5, zero=9), six, s.constant(s.random.integers(-(1 << 15), 1 << 15, (2, 6)).astype(np.int16)), 1
        )


def fixed_point_weights(weights: Array) -> Array:
    """Weights of floats [results, taps] as those of int8 elements: i16, each row with the sum of the floats, as near as
    units allow. Weights of 2 and more in magnitude become the greatest number there is.
    """
    units = np.clip(weights.astype(np.float64) * (1 << WEIGHT_BITS), *DType.I16.limits)
    numbers = np.rint(units)
    largest = np.abs(numbers).argmax(axis=1)[:, None]
    missing = np.rint(units.sum(axis=1, keepdims=True)) - numbers.sum(axis=1, keepdims=True)
    np.put_along_axis(numbers, largest, np.take_along_axis(numbers, largest, 1) + missing, 1)
    return np.clip(numbers, *DType.I16.limits).astype(np.int16)
