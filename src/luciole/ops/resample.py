"""Sums of a few elements along an axis with constant weights: interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr
from luciole.ops import common

#: So many taps are held in registers while the elements behind the axis are gone through.
_REGISTERS = 4


@operator("resample")
class Resample(Operator):
    """y[n..., i, k...] = sum over t of weights[i, t] * x[n..., positions[i, t], k...], along `axis` of x; f32 only.

    Positions [results, taps] are constant i32 inside the axis, weights of the same shape constant f32.
    """

    x: Value
    positions: Value
    weights: Value
    axis: int

    def infer(self) -> TensorType:
        x, positions, weights = self.x.type, self.positions, self.weights
        if x.dtype is not DType.F32 or weights.type.dtype is not DType.F32 or positions.type.dtype is not DType.I32:
            raise self.error("x and weights must be f32, positions i32", "unsupported-types")
        if not 0 <= self.axis < x.rank:
            raise self.error(f"axis {self.axis} is none of the {x.rank} axes")
        if positions.data is None or positions.type.rank != 2 or positions.type.shape != weights.type.shape:
            raise self.error("positions must be constant, [results, taps], as weights")
        if not positions.data.size or positions.data.min() < 0 or positions.data.max() >= x.shape[self.axis]:
            raise self.error(f"positions must lie in 0..{x.shape[self.axis] - 1}")
        shape = (*x.shape[: self.axis], positions.type.shape[0], *x.shape[self.axis + 1 :])
        return TensorType(DType.F32, shape)

    def macs(self) -> int:
        return self.infer().elements * self.positions.type.shape[1]

    def compute(self, x: Array, positions: Array, weights: Array) -> Array:
        rank = x.ndim - self.axis - 1
        total = np.zeros(self.infer().shape, np.float32)
        for tap in range(positions.shape[1]):
            factor = weights[:, tap].reshape(-1, *(1,) * rank)
            total = total + factor * x.take(positions[:, tap], axis=self.axis)
        return total

    def kernel_shapes(self) -> dict[str, Shape]:
        """The axes before `axis` as one, those behind as one."""
        shape = self.x.type.shape
        outer, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        return {"x": (outer, shape[self.axis], inner), "y": (outer, self.positions.type.shape[0], inner)}

    def loops(self, k: LoopBuilder, v: Views) -> None:
        outer, count, inner = v.y.shape
        taps = v.positions.shape[1]
        with k.loop("n", outer) as n, k.loop("j", count) as j:

            def position(tap: Expr | int) -> Expr:
                return v.positions[j, tap].cast(DType.INDEX)

            if taps <= _REGISTERS:
                places = [k.define("position", position(tap), DType.INDEX) for tap in range(taps)]
                factors = [k.define("weight", v.weights[j, tap]) for tap in range(taps)]
                with k.loop("i", inner) as i:
                    total = common.float_zero()
                    for place, factor in zip(places, factors, strict=True):
                        total = total + factor * v.x[n, place, i]
                    v.y[n, j, i] = total
            else:
                with k.loop("i", inner) as i:
                    running = k.define("total", common.float_zero())
                    with k.loop("t", taps) as t:
                        running += v.weights[j, t] * v.x[n, position(t), i]
                    v.y[n, j, i] = running

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        two = s.constant(np.array([[0, 1], [2, 2], [1, 0]], np.int32))
        yield cls(s.f32(2, 3, 4), two, s.f32_weights(3, 2), 1)
        six = s.constant(np.array([[0, 1, 2, 3, 4, 4], [0, 0, 1, 2, 3, 4]], np.int32))
        yield cls(s.f32(5), six, s.f32_weights(2, 6), 0)
