"""Expressions on vectors as calls of small C functions, which `c_vector_support` writes.

A vector of 128 bits is the compiler's own type where MVE is there, and so is a mask of 4, 8 or 16 lanes; everywhere
else, and for all other types, a vector is a struct of lanes and a function a loop over them. Four bytes that come from
memory to be widened, or go there from wider lanes, are one function with the load or store, being one instruction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from luciole.errors import InternalError
from luciole.ir.types import DType
from luciole.kernel.core import (
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Constant,
    Expr,
    Intrinsic,
    Read,
    Select,
    Splat,
    Unary,
    Write,
)
from luciole.kernel.expressions import type_text
from luciole.kernel.vectors import ActiveLanes, Dot, Gather, Lanes, Reduce

if TYPE_CHECKING:
    from luciole.emit.c_expressions import ExpressionPrinter

#: Bits of the vectors that the compiler has types for.
NATIVE_BITS = 128


@dataclass(frozen=True, order=True)
class VectorType:
    """An element type, of which an index is an `i32`, and lanes; 1 for a scalar."""

    word: str
    lanes: int

    @classmethod
    def of(cls, dtype: DType, lanes: int) -> VectorType:
        """Of so many numbers."""
        return cls(DType.I32.value if dtype is DType.INDEX else dtype.value, lanes)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return DType(self.word)

    @property
    def text(self) -> str:
        """As in names: `i32x4`."""
        return type_text(self.dtype, self.lanes)

    @property
    def is_native(self) -> bool:
        """Whether MVE has such vectors."""
        if self.dtype is DType.BOOL:
            return self.lanes in (4, 8, 16)
        return self.dtype.is_integer and self.dtype.bits <= 32 and self.dtype.bits * self.lanes == NATIVE_BITS


@dataclass(frozen=True, order=True)
class VectorFunction:
    """A function on vectors: an operation, the types of its result and operands, and a number that is part of it: an
    alignment, a shift. `intrinsic` is the name of the one that it applies.
    """

    operation: str
    types: tuple[VectorType, ...]
    number: int = 0
    intrinsic: str = ""

    @property
    def name(self) -> str:
        """Its name in C."""
        parts = [self.intrinsic or self.operation, *(t.text for t in self.types)]
        return "luciole_" + "_".join(parts + ([str(self.number)] if self.number else []))


def type_of(expr: Expr) -> VectorType:
    """The type of an expression."""
    return VectorType.of(expr.dtype, expr.lanes)


def vector_value(printer: ExpressionPrinter, expr: Expr) -> str:
    """An expression on vectors, whose value may be a scalar, as a call."""
    kind = type_of(expr)
    match expr:
        case Splat():
            return _call(printer, VectorFunction("splat", (kind,)), expr.a)
        case Binary():
            return _binary(printer, expr)
        case Unary():
            return _call(printer, VectorFunction(expr.operation, (kind,)), expr.a)
        case Compare():
            return _call(printer, VectorFunction(expr.operation, (type_of(expr.a),)), expr.a, expr.b)
        case Select():
            return _call(printer, VectorFunction("select", (kind,)), expr.condition, expr.a, expr.b)
        case Cast():
            return _cast(printer, expr)
        case Bitcast() if kind == type_of(expr.a):
            return printer.value(expr.a)
        case Bitcast():
            return _call(printer, VectorFunction("bitcast", (kind, type_of(expr.a))), expr.a)
        case Read() | Gather():
            return _from_memory(printer, expr, kind)
        case Lanes():
            return _call(printer, VectorFunction("lanes", (kind,)), *expr.elements)
        case ActiveLanes():
            return _call(printer, VectorFunction("active", (kind,)), expr.count)
        case Dot():
            types = (kind, type_of(expr.a), type_of(expr.b))
            if isinstance(expr.accumulator, Constant) and expr.accumulator.value == 0:
                return _call(printer, VectorFunction("products", types), expr.a, expr.b)
            return _call(printer, VectorFunction("dot", types), expr.accumulator, expr.a, expr.b)
        case Reduce():
            return _call(printer, VectorFunction(f"reduce_{expr.operation}", (type_of(expr.a),)), expr.a)
        case Call():
            return _intrinsic(printer, expr.intrinsic, kind, expr.arguments)
    raise InternalError(f"no C for {type(expr).__name__} of {expr.type_text}")


def vector_write(printer: ExpressionPrinter, stmt: Write) -> str:
    """A vector written to memory, without the semicolon."""
    memory, value = type_of(stmt.value), stmt.value
    held = memory
    if isinstance(value, Cast) and _is_widened(type_of(value.a), memory):
        held, value = type_of(value.a), value.a
    elif isinstance(value, Read | Gather) and memory.dtype is DType.I8 and memory.lanes == 4:
        # Four bytes on their way from memory to memory are lanes of words.
        held = VectorType.of(DType.I32, 4)
    printed = _from_memory(printer, stmt.value, held) if held != memory and value is stmt.value else None
    masked = "_masked" if stmt.mask is not None else ""
    function = VectorFunction(f"write{masked}", (memory,) if held == memory else (memory, held), stmt.alignment)
    arguments = [printer.address(stmt.pointer, stmt.offset), printed or printer.value(value)]
    arguments += [] if stmt.mask is None else [printer.value(stmt.mask)]
    return _text(printer, function, arguments)


def _text(printer: ExpressionPrinter, function: VectorFunction, arguments: list[str]) -> str:
    printer.vector_functions.add(function)
    return f"{function.name}({', '.join(arguments)})"


def _call(printer: ExpressionPrinter, function: VectorFunction, *operands: Expr) -> str:
    return _text(printer, function, [printer.value(operand) for operand in operands])


def _binary(printer: ExpressionPrinter, expr: Binary) -> str:
    """An operation; a second operand that is the same in all lanes stays a scalar where machines take one."""
    kind, operation = type_of(expr), expr.operation
    if isinstance(expr.b, Splat):
        if operation in ("shift_left", "shift_right") and isinstance(expr.b.a, Constant):
            amount = int(expr.b.a.value)
            if amount == 0:
                return printer.value(expr.a)
            return _call(printer, VectorFunction(operation, (kind,), amount), expr.a)
        if operation in ("add", "sub", "mul") and expr.dtype.is_integer:
            return _call(printer, VectorFunction(f"{operation}_scalar", (kind,)), expr.a, expr.b.a)
    return _call(printer, VectorFunction(operation, (kind,)), expr.a, expr.b)


def _is_widened(wide: VectorType, narrow: VectorType) -> bool:
    """Whether lanes of one type hold numbers of the other, which is narrower, in memory."""
    is_wide = wide.is_native and wide.dtype.is_integer
    return is_wide and narrow.dtype.is_integer and narrow.dtype.bits < wide.dtype.bits


def _cast(printer: ExpressionPrinter, expr: Cast) -> str:
    kind, source = type_of(expr), type_of(expr.a)
    if kind == source:
        return printer.value(expr.a)
    if isinstance(expr.a, Read | Gather) and _is_widened(kind, source):
        return _from_memory(printer, expr.a, kind)
    return _call(printer, VectorFunction("cast", (kind, source)), expr.a)


def _from_memory(printer: ExpressionPrinter, expr: Expr, held: VectorType) -> str:
    """A vector from memory in lanes of its own type or of a wider one."""
    memory = type_of(expr)
    types = (memory,) if held == memory else (memory, held)
    match expr:
        case Read():
            arguments = [printer.address(expr.pointer, expr.offset)]
            name, number = "read", expr.alignment
        case Gather():
            arguments = [printer.value(expr.pointer), printer.value(expr.offsets)]
            name, number = "gather", 0
        case _:
            raise InternalError(f"{type(expr).__name__} is not from memory")
    if expr.mask is not None:
        name += "_masked"
        arguments.append(printer.value(expr.mask))
    return _text(printer, VectorFunction(name, types, number), arguments)


def _intrinsic(printer: ExpressionPrinter, intrinsic: Intrinsic, kind: VectorType, arguments: tuple[Expr, ...]) -> str:
    function = VectorFunction("call", (kind,), intrinsic=intrinsic.name)
    printer.vector_intrinsics[function] = intrinsic
    return _call(printer, function, *arguments)
