"""What quantized operators share: windows, the requantization of an accumulator, fused activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Operator, RowAccess, Value
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Multiplier, Rounding
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType, broadcast_shapes
from luciole.kernel.builder import View
from luciole.kernel.core import Constant, Expr, Operand, binary, clamp, maximum, minimum, select
from luciole.kernel.intrinsics import (
    high_multiply,
    requantize_onnx,
    requantize_onnx_small,
    requantize_single,
    requantize_tflite,
    requantize_tflite_offset,
    requantize_tflite_right,
)

ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")

#: Below this an accumulator, and up to this a right shift, may take the short requantization.
#: See `requantize_tflite_offset`.
SHORT_ACCUMULATOR_LIMIT, SHORT_SHIFT_LIMIT = 1 << 30, 22

#: Up to these magnitudes accumulators and results may take the short form of rounding `onnx`.
#: See `requantize_onnx_small`.
EXACT_FLOAT_LIMIT, SMALL_RESULT_LIMIT = 1 << 24, 1 << 21


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window over the height and width of an NHWC tensor; pads are (top, left, bottom, right)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int] = (1, 1)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the result for an input of `size`; below one when the window does not fit."""
        height, width = (
            (size[i] + self.pads[i] + self.pads[i + 2] - self.extent[i]) // self.strides[i] + 1 for i in (0, 1)
        )
        return height, width

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that a window covers, dilation included."""
        return (self.kernel[0] - 1) * self.dilations[0] + 1, (self.kernel[1] - 1) * self.dilations[1] + 1

    @property
    def has_padding(self) -> bool:
        """Whether any pad is not zero."""
        return any(self.pads)

    def problem(self, size: tuple[int, int]) -> str:
        """What is wrong with this window over an input of `size`, or an empty string."""
        if min(self.strides) < 1 or min(self.dilations) < 1 or min(self.kernel) < 1:
            return f"strides {self.strides}, dilations {self.dilations} and window {self.kernel} must be positive"
        if min(self.pads) < 0:
            return f"pads {self.pads} are negative"
        if min(self.output_size(size)) < 1:
            extent, pads = self.extent, self.pads
            return f"a window of {extent[0]}x{extent[1]} does not fit into {size[0]}x{size[1]} with pads {pads}"
        if self.pads[0] >= self.extent[0] or self.pads[1] >= self.extent[1]:
            return f"pads {self.pads} leave windows that see no input"
        return ""

    def empty_problem(self, size: tuple[int, int]) -> str:
        """What is wrong when some windows see no input, or an empty string: averages and maxima need a tap."""
        for axis in (0, 1):
            last = (self.output_size(size)[axis] - 1) * self.strides[axis] - self.pads[axis]
            if last >= size[axis] or (self.dilations[axis] > 1 and self._passes_over(axis, size)):
                return f"pads {self.pads} leave windows that see no input"
        return ""

    def _passes_over(self, axis: int, size: tuple[int, int]) -> bool:
        """Whether the taps of a window are so far apart that all lie in the padding."""
        bounds = (self.tap_bounds(axis, place, size[axis]) for place in range(self.output_size(size)[axis]))
        return any(not range(first, last) for first, last in bounds if isinstance(first, int) and isinstance(last, int))

    def tap_bounds(self, axis: int, position: Operand, size: int) -> tuple[Operand, Operand]:
        """First and last-plus-one tap that falls inside the input, for an output position along `axis` (0 rows, 1
        columns).
        """
        if self.pads[axis] == 0 and self.pads[axis + 2] == 0:
            return 0, self.kernel[axis]
        step = self.dilations[axis]
        start = position * self.strides[axis] - self.pads[axis]
        if isinstance(start, int):
            return max(0, -start + step - 1) // step, min(self.kernel[axis], (max(0, size - start) + step - 1) // step)
        first = maximum(step - 1 - start, 0) // step
        last = minimum(maximum(size + step - 1 - start, 0) // step, self.kernel[axis])
        return first, last

    def inner_range(self, axis: int, size: int) -> range:
        """The output positions along `axis` whose windows lie inside an input of `size`; they are neighbours, perhaps
        none.
        """
        count = (size + self.pads[axis] + self.pads[axis + 2] - self.extent[axis]) // self.strides[axis] + 1
        first = -(-self.pads[axis] // self.strides[axis])
        last = (size - self.extent[axis] + self.pads[axis]) // self.strides[axis] + 1
        return range(min(first, count), max(min(last, count), min(first, count)))

    def overlap_bytes(self, x: TensorType, y: TensorType, pixels: int = 1, *, reads_first: bool = False) -> int | None:
        """How many bytes below an NHWC input its result must begin so that nothing is overwritten before its last read.

        Pixels are made row by row, `pixels` of a row at a time (fewer at its end): their windows are read and they are
        written before the next ones, with `reads_first` all read before any is written. The distance is the greatest of
        (bytes written by then) - (first byte still needed). `None` for several images.
        """
        if x.shape[0] != 1:
            return None
        size, (_, height, width, channels) = x.dtype.size_bytes, y.shape
        starts = np.arange(0, width, pixels)
        ends = np.minimum(starts + pixels, width)
        rows = np.arange(height)[:, None]

        def first_byte(row: Array, column: Array) -> Array:
            top = np.maximum(row * self.strides[0] - self.pads[0], 0)
            left = np.maximum(column * self.strides[1] - self.pads[1], 0)
            found = (top * x.shape[2] + left) * (x.shape[3] * size)
            return np.where((row < height) & (column < width), found, x.size_bytes + y.size_bytes)

        needed = np.minimum(
            first_byte(rows, ends if reads_first else starts), first_byte(rows + 1, np.zeros_like(ends))
        )
        written = (rows * width + ends) * (channels * y.dtype.size_bytes)
        return max(0, int((written - needed).max(initial=0)))

    def row_access(self, x: TensorType, fill: int | None) -> RowAccess | None:
        """The rows of an NHWC operand under a row of the result; `fill` is the byte of padding, None where no byte
        stands for it. None for several images, and for padding that cannot be filled.
        """
        if x.rank != 4 or x.shape[0] != 1:
            return None
        rows = self.output_size((x.shape[1], x.shape[2]))[0]
        is_inside = self.pads[0] == 0 and (rows - 1) * self.strides[0] + self.extent[0] <= x.shape[1]
        if not is_inside and fill is None:
            return None
        return RowAccess(self.strides[0], self.extent[0], self.pads[0], None if is_inside else fill)

    def patches(self, x: Array, fill: int | float) -> Array:
        """All windows of an NHWC array as [N, OH, OW, KH, KW, C], with `fill` outside the input."""
        (top, left, bottom, right), (kh, kw) = self.pads, self.kernel
        height, width = self.output_size((x.shape[1], x.shape[2]))
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        rows = np.arange(height)[:, None] * self.strides[0] + np.arange(kh) * self.dilations[0]
        columns = np.arange(width)[:, None] * self.strides[1] + np.arange(kw) * self.dilations[1]
        taken: Array = padded[:, rows[:, None, :, None], columns[None, :, None, :], :]
        return taken


@dataclass(frozen=True)
class Requantizer:
    """From int32 accumulators to int8: a multiplier and shift for each channel, zero point, clamp, rounding."""

    multipliers: tuple[Multiplier, ...]
    zero_point: int
    low: int
    high: int
    rounding: Rounding
    #: No accumulator exceeds this in magnitude; the proof of the short form.
    accumulator_bound: int = 1 << 31

    @property
    def is_short(self) -> bool:
        """Whether `requantize_tflite_offset` holds for every channel."""
        return (
            self.rounding == "tflite"
            and self.accumulator_bound < SHORT_ACCUMULATOR_LIMIT
            and all(-SHORT_SHIFT_LIMIT <= m.shift <= -1 for m in self.multipliers)
        )

    @property
    def is_small(self) -> bool:
        """Whether `requantize_onnx_small` holds for every channel."""
        largest = max(m.real for m in self.multipliers)
        return self.accumulator_bound <= EXACT_FLOAT_LIMIT and self.accumulator_bound * largest < SMALL_RESULT_LIMIT

    def arrays(self) -> dict[str, Array]:
        """The parameters `multiplier` and `shift` as kernels read them; the short form's shifts are positive, to the
        right.

        A channel with multiplier zero gives zero whatever its shift.
        """
        multiplier, shift = arithmetic.multiplier_arrays(self.multipliers)
        return {"multiplier": multiplier, "shift": -1 - shift if self.is_short else shift}

    def compute(self, accumulator: Array) -> Array:
        """The numpy meaning, channels on the last axis; the result is int64 within low..high."""
        multiplier, shift = arithmetic.multiplier_arrays(self.multipliers)
        scaled = arithmetic.requantize(accumulator, multiplier, shift, self.rounding)
        # One multiplier for all channels is an array of one element, which would give a scalar an axis.
        shifted = scaled.astype(np.int64).reshape(accumulator.shape) + self.zero_point
        return arithmetic.clamp(shifted, self.low, self.high)

    def emit(self, accumulator: Expr, multiplier: Operand, shift: Operand) -> Expr:
        """The kernel expression: an `i32` within low..high."""
        if self.is_short:
            offset = 2 * self.zero_point + 1
            return clamp(requantize_tflite_offset(accumulator, multiplier, shift, offset), self.low, self.high)
        largest = max(m.real for m in self.multipliers)
        scaled = _scaled(accumulator, multiplier, shift, self.rounding, self.accumulator_bound, largest)
        return clamp(scaled + self.zero_point, self.low, self.high)

    def emit_constant(self, accumulator: Expr) -> Expr:
        """As `emit`, for one multiplier for all channels, as constants in the code."""
        (only,) = self.multipliers
        if self.is_short:
            return self.emit(accumulator, only.multiplier, -1 - only.shift)
        scaled = scaled_by(accumulator, only, self.rounding, self.accumulator_bound)
        return clamp(scaled + self.zero_point, self.low, self.high)


def _scaled(
    accumulator: Expr, multiplier: Operand, shift: Operand, rounding: Rounding, bound: int, largest: float
) -> Expr:
    """accumulator * multiplier * 2**(shift - 31), rounded, for any shift; `bound` and `largest` are the greatest
    magnitudes of accumulators and factors.
    """
    if rounding == "tflite":
        return requantize_tflite(accumulator, multiplier, shift)
    if rounding == "tflite-single":
        return requantize_single(accumulator, multiplier, shift)
    is_small = bound <= EXACT_FLOAT_LIMIT and bound * largest < SMALL_RESULT_LIMIT
    return (requantize_onnx_small if is_small else requantize_onnx)(accumulator, multiplier, shift)


def scaled_by(accumulator: Expr, multiplier: Multiplier, rounding: Rounding, bound: int) -> Expr:
    """The kernel expression of `arithmetic.requantize` by a constant, for accumulators up to `bound` in magnitude."""
    if multiplier.multiplier == 0:
        return Constant(0, DType.I32)
    if rounding == "tflite" and multiplier.shift == 0:
        if multiplier.multiplier == 1 << 30 and bound < SHORT_ACCUMULATOR_LIMIT:
            return (accumulator + 1) >> 1
        return high_multiply(accumulator, multiplier.multiplier)
    if rounding == "tflite" and multiplier.shift < 0 and bound < SHORT_ACCUMULATOR_LIMIT:
        return requantize_tflite_right(accumulator, multiplier.multiplier, -multiplier.shift)
    return _scaled(accumulator, multiplier.multiplier, multiplier.shift, rounding, bound, multiplier.real)


def output_clamp(op: Operator, activation: str) -> tuple[int, int]:
    """The clamp that a fused activation puts on an int8 result."""
    quant = result_quant(op)
    return arithmetic.activation_range(activation, quant.scale, quant.zero_point)


def result_quant(op: Operator, dtype: DType = DType.I8) -> Quant:
    """The quantization of an integer result. Raises `CompileError` when there is none, or one per channel."""
    if op.quant is None or op.quant.is_per_channel:
        raise op.error(f"an {dtype.numpy.name} result needs one scale and zero point", "unsupported-types")
    _check_zero_point(op, "the result", op.quant, dtype)
    return op.quant


def _check_zero_point(op: Operator, what: str, quant: Quant, dtype: DType) -> None:
    low, high = dtype.limits
    if not low <= quant.zero_point <= high:
        raise op.error(f"{what} has the zero point {quant.zero_point}, outside of {dtype.numpy.name}")


def operand_quant(op: Operator, value: Value) -> Quant:
    """The per-tensor quantization of an operand. Raises `CompileError` when there is none."""
    if value.type.quant is None or value.type.quant.is_per_channel:
        raise op.error(f"operand %{value.name} needs one scale and zero point", "unsupported-types")
    _check_zero_point(op, f"operand %{value.name}", value.type.quant, value.type.dtype)
    return value.type.quant


def kept_quant(op: Operator, value: Value) -> Quant | None:
    """The quantization of a result whose numbers are those of an operand: the operand's.

    Raises `CompileError` when the operator was given another one.
    """
    if op.quant is not None and op.quant != value.type.quant:
        raise op.error(f"the result keeps the numbers of %{value.name}, it cannot be quantized as {op.quant}")
    return value.type.quant


def moved_quant(op: Operator, value: Value) -> Quant | None:
    """As `kept_quant`, for operators that move elements: one scale for each channel would lose its axis."""
    quant = kept_quant(op, value)
    if quant is not None and quant.is_per_channel:
        raise op.error(f"%{value.name} has a scale for each channel", "unsupported-types")
    return quant


def zero_byte(op: Operator, value: Value) -> int:
    """The byte of which the zeros of an operand consist: the zero point of int8, 0 for floats."""
    return operand_quant(op, value).zero_point & 0xFF if is_int8(value) else 0


def reach(quant: Quant) -> int:
    """The largest magnitude of an int8 number minus the zero point."""
    return max(127 - quant.zero_point, quant.zero_point + 128)


def centered(op: Operator, value: Value, element: Expr) -> Expr:
    """An int8 element of an operand as `i32` minus its zero point; a float as it is."""
    return widened(element) - operand_quant(op, value).zero_point if is_int8(value) else element


def check_bias(op: Operator, b: Value | None, channels: int) -> None:
    """Raise `CompileError` when a bias does not have one element a channel, of the type that the sum has."""
    if b is None:
        return
    if b.type.shape != (channels,):
        raise op.error(f"b has shape {list(b.type.shape)}, needs {[channels]}")
    x = op.operands[0].type.dtype
    if x.is_float and b.type.dtype is not x:
        raise op.error(f"b must be {x.value} as x is", "unsupported-types")


def widened(value: Expr) -> Expr:
    """An int8 element as `i32`; a float as it is."""
    return value if value.dtype.is_float else value.cast(DType.I32)


def float_zero(dtype: DType = DType.F32) -> Expr:
    """0.0"""
    return Constant(0.0, dtype)


def constant_of(op: Operator, value: Value, name: str) -> Array:
    """The data of an operand that must be constant. Raises `CompileError` otherwise."""
    if value.data is None:
        raise op.error(f"{name} must be constant in a quantized {op.kind}")
    return value.data


#: The limits of the fused activations for floats; infinite ones do not limit.
_FLOAT_LIMITS = {
    "none": (-np.inf, np.inf),
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def float_clamp(value: Expr, low: float, high: float) -> Expr:
    """A float moved into low..high; infinite limits do not limit.

    A NaN stays one, as in ONNX Runtime and NumPy: the limit is the first operand of `min` and `max`, which give the
    second where either is a NaN.
    """
    above = value if low == -np.inf else maximum(low, value)
    return above if high == np.inf else minimum(high, above)


def float_clamp_array(values: Array, low: float, high: float) -> Array:
    """`float_clamp` of an array, the same bits."""
    number = values.dtype.type
    above = values if low == -np.inf else np.where(number(low) > values, number(low), values)
    return above if high == np.inf else np.where(number(high) < above, number(high), above)


def float_activation(activation: str, value: Expr) -> Expr:
    """A fused activation on a float element; a NaN stays one."""
    return float_clamp(value, *_FLOAT_LIMITS[activation])


def float_activation_array(activation: str, values: Array) -> Array:
    """A fused activation on a float array, the same bits as `float_activation`."""
    return float_clamp_array(values, *_FLOAT_LIMITS[activation])


#: The floating-point types.
FLOATS = (DType.F32, DType.F64)

#: Integers that are just that.
PLAIN_INTEGERS = (DType.I8, DType.U8, DType.I16, DType.U16, DType.I32, DType.U32, DType.I64, DType.U64)

#: Those of them that samples are of: each width, both signs.
SAMPLED_INTEGERS = (DType.I8, DType.U16, DType.I32, DType.U64)


def broadcast(op: Operator, *shapes: Shape) -> Shape:
    """The numpy broadcast of operands' shapes. Raises `CompileError` when they do not broadcast."""
    try:
        return broadcast_shapes(*shapes)
    except ValueError as problem:
        raise op.error(str(problem)) from None


def truncated_quotient(a: Array, b: Array) -> Array:
    """The quotient of integers rounded toward zero; 0 where the divisor is 0."""
    divisor = np.where(b == 0, b.dtype.type(1), b)
    quotient, remainder = a // divisor, a % divisor
    toward_zero = quotient + ((remainder != 0) & ((a < 0) != (divisor < 0))).astype(a.dtype)
    return np.asarray(np.where(b == 0, a.dtype.type(0), toward_zero), a.dtype)


def guarded_by(divisor: Expr, operation: Callable[[Expr], Expr]) -> Expr:
    """`operation` of a divisor that may be 0: then 0, and nothing is divided."""
    is_zero = divisor.eq(0)
    return select(is_zero, 0, operation(select(is_zero, 1, divisor)))


def is_nan(value: Expr) -> Expr:
    """Whether a float is no number: then it is not equal to itself."""
    return value.ne(value)


def greater_or_nan(value: Expr, greatest: Expr) -> Expr:
    """One step of a maximum of floats: the greater of two, and a NaN where either is one."""
    return select(binary("or", value > greatest, is_nan(value)), value, greatest)


def smaller_or_nan(value: Expr, smallest: Expr) -> Expr:
    """One step of a minimum of floats: the smaller of two, and a NaN where either is one."""
    return select(binary("or", value < smallest, is_nan(value)), value, smallest)


def check_activation(op: Operator, activation: str) -> None:
    """Raise `CompileError` for an activation that does not exist."""
    if activation not in ACTIVATIONS:
        raise op.error(f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}")


def exact_matmul(a: Array, b: Array) -> Array:
    """The product of integer matrices as int64, through float64 (exact while sums stay below 2**53)."""
    product = a.astype(np.float64) @ b.astype(np.float64)
    return np.rint(product).astype(np.int64)


def channel_tile(channels: int) -> int:
    """How many output channels a generic kernel computes side by side, so that each input is loaded once for them."""
    return next(tile for tile in (4, 3, 2, 1) if channels % tile == 0)


def is_int8(value: Value) -> bool:
    """Whether a value is int8."""
    return value.type.dtype is DType.I8


def merged_columns(shape: Shape) -> Shape:
    """[A, B, C, D] as [A, B, C * D]: a row's columns and channels are one run in memory."""
    return (shape[0], shape[1], shape[2] * shape[3])


def looked_up(table: Array, x: Array) -> Array:
    """int8 numbers through a table of 256 entries, that of -128 first."""
    result: Array = table[x.astype(np.int64) + 128]
    return result


def table_element(table: View, element: Expr) -> Expr:
    """The kernel expression of `looked_up`."""
    return table[element.cast(DType.INDEX) + 128]


def lies_in(position: Expr, inner: range, size: int) -> Expr:
    """Whether a position of 0..size lies in a range of it."""
    above = position >= inner.start if inner.start > 0 else None
    below = position < inner.stop if inner.stop < size else None
    if above is None:
        return below if below is not None else position >= 0
    return above if below is None else binary("and", above, below)
