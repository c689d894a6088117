"""Means along axes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common
from luciole.ops.common import Requantizer
from luciole.ops.tflite_options import axis_of


@operator("mean")
class Mean(Operator):
    """y = the mean of x along `axes`, which disappear unless `keep_dims`.

    f32: the sum divided by the number of elements. int8: the sum minus number * zero point is requantized with a
    multiplier that the number divides, see `arithmetic.mean_multiplier`.
    """

    x: Value
    axes: tuple[int, ...]
    keep_dims: bool = False
    rounding: Rounding = "tflite"

    @property
    def count(self) -> int:
        """How many elements each mean is of."""
        return math.prod(self.x.type.shape[axis] for axis in self.axes)

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in (DType.F32, DType.I8):
            raise self.error("x must be f32 or i8", "unsupported-types")
        if len(set(self.axes)) != len(self.axes) or any(not 0 <= axis < x.rank for axis in self.axes):
            raise self.error(f"axes {list(self.axes)} must be different ones of 0..{x.rank - 1}")
        if self.count < 1:
            raise self.error("the mean of no elements")
        kept = [1 if i in self.axes else s for i, s in enumerate(x.shape) if self.keep_dims or i not in self.axes]
        return TensorType(x.dtype, tuple(kept), self.quant)

    def compute(self, x: Array) -> Array:
        shape = self.infer().shape
        if not common.is_int8(self.x):
            total = x.sum(axis=self.axes, dtype=np.float32) / np.float32(self.count)
            return np.asarray(total, np.float32).reshape(shape)
        zero = common.operand_quant(self, self.x).zero_point
        total = x.astype(np.int64).sum(axis=self.axes) - self.count * zero
        return self.requantizer().compute(total).astype(np.int8).reshape(shape)

    def requantizer(self) -> Requantizer:
        """How the int32 sums become the result."""
        source, target = common.operand_quant(self, self.x), common.result_quant(self)
        formula = arithmetic.float_mean_multiplier if self.rounding == "onnx" else arithmetic.mean_multiplier
        multiplier = formula(source.scale, target.scale, self.count)
        return Requantizer(
            (multiplier,), target.zero_point, -128, 127, self.rounding, self.count * common.reach(source)
        )

    def kernel_shapes(self) -> dict[str, Shape]:
        """x with neighboring axes merged that are both averaged or both kept, y with the kept ones."""
        sizes = [size for size, _ in self._groups()]
        return {"x": tuple(sizes), "y": tuple(size for size, is_averaged in self._groups() if not is_averaged)}

    def _groups(self) -> list[tuple[int, bool]]:
        """Sizes of the merged axes, and whether each is averaged."""
        groups: list[tuple[int, bool]] = []
        for axis, size in enumerate(self.x.type.shape):
            is_averaged = axis in self.axes
            if size == 1:
                continue
            if groups and groups[-1][1] == is_averaged:
                groups[-1] = (groups[-1][0] * size, is_averaged)
            else:
                groups.append((size, is_averaged))
        return groups

    def loops(self, k: LoopBuilder, v: Views) -> None:
        groups = self._groups()
        is_int8 = common.is_int8(self.x)
        with k.nest("i", *v.y.shape) as kept:
            initial = -self.count * common.operand_quant(self, self.x).zero_point if is_int8 else common.float_zero()
            total = k.define("total", initial)
            with k.nest("r", *(size for size, is_averaged in groups if is_averaged)) as averaged:
                outer, inner = iter(kept), iter(averaged)
                total += common.widened(v.x[tuple(next(inner if is_averaged else outer) for _, is_averaged in groups)])
            if is_int8:
                v.y[tuple(kept)] = self.requantizer().emit_constant(total).cast(DType.I8)
            else:
                v.y[tuple(kept)] = total / float(self.count)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4, 5), (1, 2), keep_dims=True)
        yield cls(s.f32(3, 4), (0, 1))
        yield cls(s.f32(2, 1, 3), (1,))
        yield cls(s.i8(1, 4, 5, 3, zero=-128), (1, 2), quant=s.quant(0.05, -128))
        yield cls(s.i8(2, 3, 4, 2, zero=11), (0, 2), keep_dims=True, quant=s.quant(0.05, 60))
        yield cls(s.i8(3, 7, scale=0.5), (1,), rounding="tflite-single", quant=s.quant(0.1, -1))
        yield cls(s.i8(40, zero=-3), (0,), quant=s.quant(0.05, -3))
        yield cls(s.i8(2, 6, 9, zero=-3), (1,), rounding="onnx", quant=s.quant(0.025, -3))


@tflite("MEAN")
def _import_mean(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand holds the axes; a repeated one counts once."""
    x = node.input(0)
    axes = tuple(sorted({axis_of(node, axis, x.type.rank) for axis in node.constant_integers(1)}))
    keep_dims, quant = node.boolean("keep_dims", False), node.output_type.quant
    return g.add(Mean(x, axes, keep_dims=keep_dims, quant=quant, location=node.location), node.name)


@onnx("ReduceMean")
def _import_reduce_mean(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand holds the axes; without it all of them, or none where `noop_with_empty_axes`."""
    x = node.input(0)
    axes = node.constant_integers(1) if node.optional(1) is not None else ()
    if not axes and node.integer("noop_with_empty_axes", 0):
        return x
    chosen = tuple(sorted({axis_of(node, axis, x.type.rank) for axis in axes})) or tuple(range(x.type.rank))
    keep_dims = bool(node.integer("keepdims", 1))
    return g.add(Mean(x, chosen, keep_dims=keep_dims, location=node.location), node.name)


@onnx("GlobalAveragePool")
def _import_global_average_pool(node: ForeignNode, g: GraphBuilder) -> Value:
    """The mean over all axes but batch and channels, which stay with size one."""
    x = node.input(0)
    if x.type.rank < 3:
        raise node.error(f"GlobalAveragePool of {x.type}, which has no spatial dimensions")
    return g.add(Mean(x, tuple(range(2, x.type.rank)), keep_dims=True, location=node.location), node.name)
