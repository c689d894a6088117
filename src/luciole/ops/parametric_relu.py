"""Rectifiers with a slope for negative elements that is an operand: one for all, or one for each channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir.arithmetic import quantize_multiplier
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Expr, select
from luciole.ops import common


@operator("parametric_relu")
class ParametricRelu(Elementwise):
    """y = x for positive x, otherwise slope * x; the slope broadcasts to x.

    int8: x minus its zero point is requantized by x.scale / scale, its product with the slope minus that zero point by
    x.scale * slope.scale / scale, both quotients of doubles (TensorFlow Lite's PreluPrepare).
    """

    x: Value
    slope: Value

    def infer(self) -> TensorType:
        x, slope = self.x.type, self.slope.type
        if x.dtype is not slope.dtype or not (x.dtype is DType.I8 or x.dtype.is_float):
            raise self.error("x and slope must both be floats of one width, or i8", "unsupported-types")
        if common.broadcast(self, x.shape, slope.shape) != x.shape:
            raise self.error("the slope must broadcast to x")
        if x.dtype.is_float:
            return x
        self._requantizers()
        return TensorType(DType.I8, x.shape, common.result_quant(self))

    def _requantizers(self) -> tuple[common.Requantizer, common.Requantizer]:
        """Of x, and of products."""
        x, slope, y = (
            common.operand_quant(self, self.x),
            common.operand_quant(self, self.slope),
            common.result_quant(self),
        )
        low, high = DType.I8.limits
        bound = common.reach(x)
        made = []
        for real, largest in (
            (x.scale / y.scale, bound),
            (x.scale * slope.scale / y.scale, bound * common.reach(slope)),
        ):
            multipliers = (quantize_multiplier(real),)
            made.append(common.Requantizer(multipliers, y.zero_point, low, high, "tflite", largest))
        return made[0], made[1]

    def compute(self, x: Array, slope: Array) -> Array:
        if not common.is_int8(self.x):
            return np.where(x < 0, x * slope, x)
        identity, scaled = self._requantizers()
        centered = x.astype(np.int64) - common.operand_quant(self, self.x).zero_point
        slopes = slope.astype(np.int64) - common.operand_quant(self, self.slope).zero_point
        above, below = identity.compute(centered), scaled.compute(centered * slopes)
        return np.where(centered >= 0, above, below).astype(np.int8)

    def element(self, v: Views, *operands: Expr) -> Expr:
        x, slope = operands
        if x.dtype.is_float:
            return select(x < 0.0, x * slope, x)
        identity, scaled = self._requantizers()
        centered = common.centered(self, self.x, x)
        below = scaled.emit_constant(centered * common.centered(self, self.slope, slope))
        return select(centered >= 0, identity.emit_constant(centered), below).cast(DType.I8)

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 5), s.f32_weights(5))
        yield cls(s.f32_values(np.nan, -np.inf, np.inf, -0.0, 2.0), s.f32_values(2.0))
        yield cls(s.i8(2, 9, 5, zero=-9), s.i8_weights(5, axis=None, scale=0.01), quant=s.quant(0.04, 20))
        yield cls(s.i8(100, zero=127), s.i8(1, scale=0.5, zero=3), quant=s.quant(0.7, -128))


@tflite("PRELU")
def _import_parametric_relu(node: ForeignNode, g: GraphBuilder) -> Value:
    """The slope broadcasts to x."""
    op = ParametricRelu(node.input(0), node.input(1), quant=node.output_type.quant, location=node.location)
    return g.add(op, node.name)
