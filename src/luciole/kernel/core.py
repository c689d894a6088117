"""Statements and kernels: immutable values. The expressions in them stand in `expressions` and are named here too.

A kernel is a function over buffers. Buffers are dense row-major tensors of a static shape; registers hold scalars or
vectors; raw memory is reached through pointers (`Address`, `Read`, `Write`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from luciole.ir.types import DType, Shape
from luciole.kernel.expressions import (
    BINARY_OPERATIONS,
    COMPARISONS,
    INTRINSICS,
    UNARY_OPERATIONS,
    Address,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Constant,
    Define,
    Expr,
    Intrinsic,
    Load,
    Operand,
    Read,
    Select,
    Splat,
    Stmt,
    Unary,
    Variable,
    as_expr,
    binary,
    cast,
    clamp,
    compare,
    maximum,
    minimum,
    repr_without_defaults,
    select,
    wrap,
)

__all__ = [
    "BINARY_OPERATIONS",
    "COMPARISONS",
    "INTRINSICS",
    "UNARY_OPERATIONS",
    "Address",
    "Assign",
    "Binary",
    "Bitcast",
    "Body",
    "Call",
    "Cast",
    "Comment",
    "Compare",
    "Constant",
    "Define",
    "Expr",
    "Fence",
    "For",
    "If",
    "Intrinsic",
    "Kernel",
    "Load",
    "Operand",
    "Parameter",
    "ParameterKind",
    "Read",
    "Repeat",
    "Select",
    "Splat",
    "Stmt",
    "Store",
    "Unary",
    "Variable",
    "Write",
    "as_expr",
    "binary",
    "cast",
    "clamp",
    "compare",
    "maximum",
    "minimum",
    "select",
    "wrap",
]


Body = tuple[Stmt, ...]


@dataclass(frozen=True)
class Assign(Stmt):
    """A new value for a register that `Define` made."""

    variable: Variable
    value: Expr


@dataclass(frozen=True)
class Store(Stmt):
    """An element of a buffer written, one index an axis."""

    buffer: str
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True)
class Write(Stmt):
    """A value written at `pointer` plus a constant number of bytes; the address is a multiple of `alignment`. A vector
    has its lanes one after the other; where a mask is false, memory is not touched.
    """

    pointer: Expr
    offset: int
    value: Expr
    alignment: int
    mask: Expr | None = None

    def __repr__(self) -> str:
        return repr_without_defaults(self)


@dataclass(frozen=True)
class For(Stmt):
    """The body for variable = begin, begin + step, ... while below end; `step` is a positive constant; bounds are read
    once.

    `is_vector` asks `vectorize` to make vectors of the turns where the target has them; it has no other meaning.
    """

    variable: Variable
    begin: Expr
    end: Expr
    step: int
    body: Body
    is_vector: bool = False

    def __repr__(self) -> str:
        return repr_without_defaults(self)


@dataclass(frozen=True)
class Repeat(Stmt):
    """The body once, and again while the condition holds after it: the loop of advancing pointers."""

    body: Body
    condition: Expr


@dataclass(frozen=True)
class If(Stmt):
    """One of two bodies."""

    condition: Expr
    then: Body
    otherwise: Body = ()


@dataclass(frozen=True)
class Fence(Stmt):
    """An order fence that emits nothing: the machine scheduler moves no memory access across it, and with
    `holds_arithmetic` nothing else either.
    """

    holds_arithmetic: bool = False


@dataclass(frozen=True)
class Comment(Stmt):
    """A remark for the reader of the text and of the C; no meaning."""

    text: str


ParameterKind = Literal["in", "out", "inout", "workspace"]


@dataclass(frozen=True)
class Parameter:
    """A buffer that a kernel is given. A workspace holds nothing before and nothing after."""

    kind: ParameterKind
    name: str
    dtype: DType
    shape: Shape
    alignment: int = 1


@dataclass(frozen=True)
class Kernel:
    """A function over buffers and `i32` scalars.

    `is_scheduled` marks a hand-scheduled kernel: back ends keep its order and run no loop optimizations on it.
    `may_overlap` says that results may share memory with inputs: no read of an input moves across a write of a result.
    It is no part of what the kernel computes, so `repr` leaves it out.
    """

    name: str
    parameters: tuple[Parameter, ...]
    body: Body
    scalars: tuple[Variable, ...] = ()
    is_scheduled: bool = False
    may_overlap: bool = field(default=False, repr=False)

    def parameter(self, name: str) -> Parameter:
        """The buffer parameter of that name. Raises `KeyError`."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)
