"""Softmax over the last axis."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir import fixed_point
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel import elementary, elementary_double
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Constant, Expr, maximum, minimum, select
from luciole.kernel.evaluate import apply_intrinsic
from luciole.kernel.intrinsics import high_multiply, leading_zeros, reciprocal_of_one_plus, rounding_shift_right
from luciole.ops import common
from luciole.ops.onnx_options import permuted
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import axis_of

#: Rows of this many elements may have a sum whose reciprocal needs a shift above 31.
_LONG_ROW = 512

_LEAST = {dtype: float(np.finfo(dtype.numpy.name).min) for dtype in common.FLOATS}
_EXP = {DType.F32: elementary.exp, DType.F64: elementary_double.exp}


@operator("softmax")
class Softmax(Operator):
    """y[..., i] = exp(beta * x[..., i]) / sum over j of exp(beta * x[..., j]).

    The greatest element of a row is subtracted before. int8: TensorFlow Lite's fixed-point function, see
    `fixed_point.softmax_int8`; the result has scale 1/256 and zero point -128.
    """

    x: Value
    beta: float = 1.0

    def infer(self) -> TensorType:
        x = self.x.type
        if x.rank < 1 or x.dtype not in (*common.FLOATS, DType.I8):
            raise self.error("x must have an axis, of f32, f64 or i8", "unsupported-types")
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise self.error(f"beta is {self.beta}, it must be positive")
        if x.dtype.is_float:
            return TensorType(x.dtype, x.shape)
        common.operand_quant(self, self.x)
        if common.result_quant(self) != fixed_point.SOFTMAX_OUTPUT:
            raise self.error(f"softmax of i8 has the quantization {fixed_point.SOFTMAX_OUTPUT}")
        if x.shape[-1] > fixed_point.SOFTMAX_MAXIMUM_ROW:
            raise self.error(f"rows have {x.shape[-1]} elements, above {fixed_point.SOFTMAX_MAXIMUM_ROW}")
        return TensorType(DType.I8, x.shape, self.quant)

    def compute(self, x: Array) -> Array:
        if common.is_int8(self.x):
            return fixed_point.softmax_int8(x, self.beta, common.operand_quant(self, self.x).scale)
        with np.errstate(invalid="ignore", over="ignore"):
            dtype, number = DType.of(x), x.dtype.type
            greatest = np.fmax.reduce(x, axis=-1, keepdims=True, initial=number(_LEAST[dtype]))
            powers = apply_intrinsic(_EXP[dtype], (x - greatest) * number(self.beta))
            return np.asarray(powers / powers.sum(axis=-1, keepdims=True), x.dtype)

    def parameters(self) -> dict[str, Array]:
        if not common.is_int8(self.x):
            return {}
        return {"table": fixed_point.exp_table(self.beta, common.operand_quant(self, self.x).scale)}

    def kernel_shapes(self) -> dict[str, Shape]:
        *outer, row = self.x.type.shape
        return {name: (math.prod(outer), row) for name in ("x", "y")}

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        with k.loop("row", v.y.shape[0]) as row:
            if common.is_int8(self.x):
                self._int8_row(k, v, row)
            else:
                self._float_row(k, v, row)

    def _int8_row(self, k: LoopBuilder, v: Views, row: Expr) -> None:
        """Three passes: the greatest element, the sum of exponentials from the table, the results."""
        length = v.y.shape[1]
        greatest = k.define("greatest", Constant(-128, DType.I32))
        with k.loop("i", length) as i:
            greatest.set(maximum(v.x[row, i].cast(DType.I32), greatest))

        def exponential(i: Expr) -> Expr:
            return v.table[(greatest - v.x[row, i].cast(DType.I32)).cast(DType.INDEX)]

        total = k.define("total", Constant(0, DType.U32))
        with k.loop("i", length) as i:
            term = rounding_shift_right(exponential(i), fixed_point.SOFTMAX_SUM_INTEGER_BITS)
            total += term.cast(DType.U32)
        zeros = k.define("zeros", leading_zeros(total))
        fraction = (total << zeros.cast(DType.U32)).cast(DType.I32) - Constant(-(1 << 31), DType.I32)
        scale = k.define("scale", reciprocal_of_one_plus(fraction))
        shift = k.define("shift", 12 - zeros + 23)
        with k.loop("i", length) as i:
            product = high_multiply(exponential(i), scale)
            if length < _LONG_ROW:
                scaled = rounding_shift_right(product, shift)
            else:
                scaled = select(shift > 31, 0, rounding_shift_right(product, minimum(shift, 31)))
            v.y[row, i] = minimum(scaled - 128, 127).cast(DType.I8)

    def _float_row(self, k: LoopBuilder, v: Views, row: Expr) -> None:
        """Three passes: the greatest element, the sum, the results; the exponentials are computed twice, not kept."""
        length, dtype = v.y.shape[1], v.x.dtype
        exp = _EXP[dtype]
        greatest = k.define("greatest", Constant(_LEAST[dtype], dtype))
        with k.loop("i", length) as i:
            greatest.set(maximum(v.x[row, i], greatest))
        total = k.define("total", common.float_zero(dtype))
        with k.loop("i", length) as i:
            total += exp((v.x[row, i] - greatest) * self.beta)
        with k.loop("i", length) as i:
            v.y[row, i] = exp((v.x[row, i] - greatest) * self.beta) / total

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 10, low=-8, high=8))
        yield cls(s.f64(3, 10, low=-8, high=8), beta=0.3)
        yield cls(s.f32(2, 2, 5, low=-90, high=90), beta=0.7)
        yield cls(s.f32_values(-np.inf, 1.0, 200.0, 199.0))
        yield cls(s.i8(3, 12, scale=0.1, zero=-20), quant=fixed_point.SOFTMAX_OUTPUT)
        yield cls(s.i8(1, 2, scale=0.004), beta=2.0, quant=fixed_point.SOFTMAX_OUTPUT)
        yield cls(s.i8(4, 1), quant=fixed_point.SOFTMAX_OUTPUT)
        yield cls(s.i8(1, 600, scale=1e-6), quant=fixed_point.SOFTMAX_OUTPUT)


@tflite("SOFTMAX")
def _import_softmax(node: ForeignNode, g: GraphBuilder) -> Value:
    """Along the last axis; beta, which the file always gives, multiplies the operand."""
    x, beta, quant = node.input(0), node.number("beta"), node.output_type.quant
    return g.add(Softmax(x, beta=beta, quant=quant, location=node.location), node.name)


@onnx("Softmax")
def _import_onnx_softmax(node: ForeignNode, g: GraphBuilder) -> Value:
    """Along `axis`; with `is_flattened`, the meaning before opset 13, along all axes from there on together."""
    x = node.input(0)
    shape = x.type.shape
    if not shape:
        raise node.error("Softmax of a scalar")
    axis = axis_of(node, node.integer("axis", -1), len(shape))
    if axis == len(shape) - 1:
        return g.add(Softmax(x, location=node.location), node.name)
    if node.integer("is_flattened", 0):
        rows = reshaped(node, g, x, (math.prod(shape[:axis]), math.prod(shape[axis:])))
        return reshaped(node, g, g.add(Softmax(rows, location=node.location)), shape)
    order = (*range(axis), *range(axis + 1, len(shape)), axis)
    y = g.add(Softmax(permuted(node, g, x, order), location=node.location), f"{node.name}/last")
    return permuted(node, g, y, tuple(order.index(i) for i in range(len(shape))), node.name)
