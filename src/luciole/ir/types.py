"""Element types and tensor types."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from luciole.ir.quant import Quant

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

#: No tensor may have more elements than this; a bound on hostile models, far above any microcontroller or server layer.
MAXIMUM_ELEMENTS = 1 << 31


class DType(Enum):
    """An element type. The value is the name in all text forms.

    `INDEX` is the type of loop variables and addresses in kernels: a signed integer of 32 bits whose arithmetic never
    overflows (the interpreter checks it), so that compilers may widen it freely. `POINTER` is the type of an address in
    a kernel; no tensor has either. `F16` is a type to store numbers in: they are moved and converted, and nothing else.
    """

    BOOL = "bool"
    I8 = "i8"
    U8 = "u8"
    I16 = "i16"
    U16 = "u16"
    I32 = "i32"
    U32 = "u32"
    I64 = "i64"
    U64 = "u64"
    F16 = "f16"
    F32 = "f32"
    F64 = "f64"
    INDEX = "index"
    POINTER = "pointer"

    @property
    def is_float(self) -> bool:
        """Whether this is a floating-point type with arithmetic."""
        return self in (DType.F32, DType.F64)

    @property
    def is_real(self) -> bool:
        """Whether this is a floating-point type."""
        return self in (DType.F16, DType.F32, DType.F64)

    @property
    def is_integer(self) -> bool:
        """Whether this is an integer type, `INDEX` included and `BOOL` not."""
        return not self.is_real and self not in (DType.BOOL, DType.POINTER)

    @property
    def is_signed(self) -> bool:
        """Whether this is an integer type with negative values."""
        return self in (DType.I8, DType.I16, DType.I32, DType.I64, DType.INDEX)

    @property
    def size_bytes(self) -> int:
        """Bytes of one element in memory."""
        return self.numpy.itemsize

    @property
    def bits(self) -> int:
        """Width in bits; 1 for `BOOL`."""
        return 1 if self is DType.BOOL else 8 * self.size_bytes

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy type of the same layout."""
        return _NUMPY[self]

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and largest value of an integer type."""
        if not self.is_integer:
            raise ValueError(f"{self.value} is not an integer type")
        return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.is_signed else (0, (1 << self.bits) - 1)

    @classmethod
    def of(cls, array: npt.NDArray[np.generic]) -> DType:
        """The element type of a numpy array. Raises `KeyError` for a type that tensors cannot have."""
        return _FROM_NUMPY[array.dtype.name]


_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.BOOL: np.dtype(np.bool_),
    DType.I8: np.dtype(np.int8),
    DType.U8: np.dtype(np.uint8),
    DType.I16: np.dtype(np.int16),
    DType.U16: np.dtype(np.uint16),
    DType.I32: np.dtype(np.int32),
    DType.U32: np.dtype(np.uint32),
    DType.I64: np.dtype(np.int64),
    DType.U64: np.dtype(np.uint64),
    DType.F16: np.dtype(np.float16),
    DType.F32: np.dtype(np.float32),
    DType.F64: np.dtype(np.float64),
    DType.INDEX: np.dtype(np.int32),
}
_FROM_NUMPY = {d.name: t for t, d in _NUMPY.items() if t is not DType.INDEX}


@dataclass(frozen=True)
class TensorType:
    """Element type, shape and, when the numbers stand for scaled reals, their quantization."""

    dtype: DType
    shape: Shape
    quant: Quant | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor, without padding."""
        return self.elements * self.dtype.size_bytes

    def with_shape(self, shape: Shape) -> TensorType:
        """The same element type and quantization with another shape."""
        return TensorType(self.dtype, shape, self.quant)

    def __str__(self) -> str:
        quant = f":{self.quant}" if self.quant else ""
        return f"{self.dtype.value}[{','.join(map(str, self.shape))}]{quant}"


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The numpy broadcast of some shapes. Raises `ValueError` when they do not broadcast."""
    rank = max((len(s) for s in shapes), default=0)
    result = []
    for axis in range(rank):
        sizes = {s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0} - {1}
        if len(sizes) > 1:
            raise ValueError("shapes " + " and ".join(str(list(s)) for s in shapes) + " do not broadcast")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def row_major_strides(shape: Shape) -> Shape:
    """Distance in elements between neighbours along each axis of a dense row-major tensor."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def merged_axes(result: Shape, operands: tuple[Shape, ...]) -> tuple[Shape, tuple[Shape, ...]]:
    """Shapes with neighbouring axes merged wherever every operand either has both axes whole or broadcasts over both.

    (1, 8, 8, 16) with operands (1, 8, 8, 16) and (16,) gives (64, 16) with (64, 16) and (1, 16). A result of one
    element gives (1,).
    """
    rank = len(result)
    padded = [(1,) * (rank - len(s)) + s for s in operands]
    merged_result: list[int] = []
    merged: list[list[int]] = [[] for _ in operands]
    previous: tuple[bool, ...] | None = None
    for axis in range(rank):
        if result[axis] == 1:
            continue
        whole = tuple(s[axis] == result[axis] for s in padded)
        if whole == previous:
            merged_result[-1] *= result[axis]
            for own, s in zip(merged, padded, strict=True):
                own[-1] *= s[axis]
        else:
            merged_result.append(result[axis])
            for own, s in zip(merged, padded, strict=True):
                own.append(s[axis])
        previous = whole
    if not merged_result:
        return (1,), tuple((1,) for _ in operands)
    return tuple(merged_result), tuple(tuple(own) for own in merged)
