"""Types and numbers as LLVM writes them."""

from __future__ import annotations

import struct

from luciole.ir.types import DType
from luciole.kernel.core import Expr

#: Types of registers.
TYPES: dict[DType, str] = {
    DType.BOOL: "i1",
    DType.I8: "i8",
    DType.U8: "i8",
    DType.I16: "i16",
    DType.U16: "i16",
    DType.I32: "i32",
    DType.U32: "i32",
    DType.I64: "i64",
    DType.U64: "i64",
    DType.F16: "i16",
    DType.F32: "float",
    DType.F64: "double",
    DType.INDEX: "i32",
    DType.POINTER: "ptr",
}


def memory_type(dtype: DType) -> str:
    """The type of a number in memory."""
    return "i8" if dtype is DType.BOOL else TYPES[dtype]


def vector_type(scalar: str, lanes: int) -> str:
    """So many of a scalar type; itself for one."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def type_of(expr: Expr) -> str:
    """The type of an expression."""
    return vector_type(TYPES[expr.dtype], expr.lanes)


def truth_type(expr: Expr) -> str:
    """The type of a comparison of such expressions."""
    return vector_type("i1", expr.lanes)


def suffix_of(expr: Expr) -> str:
    """The type of an expression at the end of an intrinsic's name."""
    scalar = expr.dtype.value if expr.dtype.is_float else TYPES[expr.dtype]
    return scalar if expr.lanes == 1 else f"v{expr.lanes}{scalar}"


def number(text: str, expr: Expr) -> str:
    """A number of the type of an expression, in all its lanes."""
    return text if expr.lanes == 1 else f"splat ({TYPES[expr.dtype]} {text})"


def float_literal(value: float, dtype: DType) -> str:
    """A float as LLVM writes it: the hexadecimal digits of the double of the same value."""
    rounded = struct.unpack("<f", struct.pack("<f", value))[0] if dtype is DType.F32 else value
    return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
