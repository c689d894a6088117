"""Between reals and scaled integers: quantize, dequantize, requantize."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, tflite
from luciole.graph.samples import Samples
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Rounding
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Expr, Operand, binary, cast, clamp, select
from luciole.ops import common
from luciole.ops.common import Requantizer

#: What reals are quantized to.
NARROW = (DType.I8, DType.U8, DType.I16, DType.U16)


def quantized_element(x: Expr, scale: Operand, zero_point: Operand, dtype: DType, rounding: Rounding) -> Expr:
    """The quotient's integer part, plus one away from zero where the rest, which is exact, asks for it.

    Quotients beyond four times the range of `dtype` give its ends whatever the zero point.
    """
    quotient = x / scale
    number = select(quotient.eq(quotient), quotient, 0.0)
    largest = float(4 << dtype.bits)
    bounded = clamp(number, -largest, largest)
    whole = bounded.cast(DType.I32)
    rest = bounded - whole.cast(DType.F32)
    up, down = rest >= 0.5, rest <= -0.5
    if rounding == "onnx":
        is_odd = (whole & 1).ne(0)
        up = binary("or", rest > 0.5, binary("and", up, is_odd))
        down = binary("or", rest < -0.5, binary("and", down, is_odd))
    one, none = cast(1, DType.I32), cast(0, DType.I32)
    rounded = whole + select(up, one, none) - select(down, one, none)
    return clamp(rounded + zero_point, *dtype.limits).cast(dtype)


def narrow_type(name: str) -> DType:
    """One of `NARROW` by its name; `F32` for another."""
    return next((dtype for dtype in NARROW if dtype.value == name), DType.F32)


@operator("quantize")
class Quantize(Elementwise):
    """y = clamp(round(x / scale) + zero_point), f32 to i8, or to u8, i16 or u16.

    The quotient is rounded to float32; halves go away from zero, to even for rounding `onnx`. Infinities give the
    ends of the integer type, a NaN the zero point.
    """

    x: Value
    rounding: Rounding = "tflite"
    to: str = "i8"

    def infer(self) -> TensorType:
        if self.x.type.dtype is not DType.F32:
            raise self.error("x must be f32", "unsupported-types")
        dtype = narrow_type(self.to)
        if dtype not in NARROW:
            raise self.error(f"reals are not quantized to {self.to!r}", "unsupported-types")
        return TensorType(dtype, self.x.type.shape, common.result_quant(self, dtype))

    def compute(self, x: Array) -> Array:
        dtype = narrow_type(self.to)
        quant = common.result_quant(self, dtype)
        numbers = arithmetic.quantize(x, quant.scale, quant.zero_point, dtype.limits, self.rounding)
        return numbers.astype(dtype.numpy)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,), dtype = operands, narrow_type(self.to)
        quant = common.result_quant(self, dtype)
        return quantized_element(x, quant.scale, quant.zero_point, dtype, self.rounding)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(3, 40, low=-9, high=9), quant=s.quant(0.05, 3))
        yield cls(s.f32_values(0.5, -0.5, 1.5, -1.5, 2.5, 0.49999997, -0.49999997, 0.0, -0.0), quant=s.quant(1.0, -2))
        yield cls(
            s.f32_values(np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-40, 127.49999, -300.0), quant=s.quant(1.0, -128)
        )
        yield cls(
            s.f32_values(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.0, 9e9, np.nan), rounding="onnx", quant=s.quant(1.0, 127)
        )
        yield cls(s.f32(40, low=-9, high=9), rounding="onnx", to="u8", quant=s.quant(0.05, 130))
        yield cls(s.f32(40, low=-9, high=9), rounding="onnx", to="i16", quant=s.quant(0.0002, -3))
        yield cls(s.f32_values(0.0, 1e9, -1e9, 3.5, 2.5, np.nan), rounding="onnx", to="u16", quant=s.quant(1.0, 40000))


@operator("dequantize")
class Dequantize(Elementwise):
    """y = scale * (x - zero_point), integers of up to 32 bits to f32; the difference is exact, its product rounded.

    i32 has the zero point 0 and becomes the nearest float before.
    """

    x: Value

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in (*NARROW, DType.I32):
            raise self.error("x must be of integers of up to 32 bits", "unsupported-types")
        if common.operand_quant(self, self.x).zero_point and x.dtype is DType.I32:
            raise self.error("i32 has no zero point but 0", "unsupported-quantization")
        return TensorType(DType.F32, x.shape)

    def compute(self, x: Array) -> Array:
        quant = common.operand_quant(self, self.x)
        return arithmetic.dequantize(x, quant.scale, quant.zero_point)

    def element(self, v: Views, *operands: Expr) -> Expr:
        quant = common.operand_quant(self, self.x)
        return (operands[0].cast(DType.I32) - quant.zero_point).cast(DType.F32) * quant.scale

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.i8(2, 30, scale=0.1, zero=-128))
        yield cls(s.i8(1, scale=1.0, zero=127))
        for dtype, zero in ((DType.U8, 130), (DType.I16, -30000), (DType.U16, 65535), (DType.I32, 0)):
            numbers = s.random.integers(*dtype.limits, 30, endpoint=True).astype(dtype.numpy)
            yield cls(s.array(numbers, s.quant(0.003, zero)))


@operator("requantize")
class Requantize(Elementwise):
    """y = clamp(round((x - x.zero_point) * x.scale / scale) + zero_point), i8 to i8, through a table of 256 entries."""

    x: Value
    rounding: Rounding = "tflite"

    def infer(self) -> TensorType:
        if self.x.type.dtype is not DType.I8:
            raise self.error("x must be i8", "unsupported-types")
        common.operand_quant(self, self.x)
        return TensorType(DType.I8, self.x.type.shape, common.result_quant(self))

    def table(self) -> Array:
        """The result for each of -128..127."""
        source, target = common.operand_quant(self, self.x), common.result_quant(self)
        multiplier = arithmetic.rescaling_multiplier(source.scale, target.scale)
        requantizer = Requantizer((multiplier,), target.zero_point, -128, 127, self.rounding)
        return requantizer.compute(np.arange(-128, 128) - source.zero_point).astype(np.int8)

    def compute(self, x: Array) -> Array:
        return common.looked_up(self.table(), x)

    def parameters(self) -> dict[str, Array]:
        return {"table": self.table()}

    def element(self, v: Views, *operands: Expr) -> Expr:
        return common.table_element(v.table, operands[0])

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.i8(2, 130, scale=0.03, zero=-128), quant=s.quant(0.07, 100))
        yield cls(s.i8(20, scale=0.9, zero=127), quant=s.quant(0.007, -128))
        yield cls(s.i8(20, scale=0.5), rounding="tflite-single", quant=s.quant(0.51))


@tflite("QUANTIZE")
def _import_quantize(node: ForeignNode, g: GraphBuilder) -> Value:
    """From floats, or from int8 of another scale."""
    x, quant = node.input(0), node.output_type.quant
    if x.type.dtype is DType.I8:
        return g.add(Requantize(x, quant=quant, location=node.location), node.name)
    return g.add(Quantize(x, quant=quant, location=node.location), node.name)


@tflite("DEQUANTIZE")
def _import_dequantize(node: ForeignNode, g: GraphBuilder) -> Value:
    """To floats; the importer has already widened half floats, which converters store behind a DEQUANTIZE."""
    x = node.input(0)
    if x.is_constant and x.type.dtype is DType.F32:
        return x
    return g.add(Dequantize(x, location=node.location), node.name)
