"""How the RISC-V vector extension spells operations on vectors: LLVM's intrinsics, of which some know scalable vectors
only. A vector of so many lanes is the beginning of a scalable one.

Sources: LLVM's IntrinsicsRISCV.td, and for the meaning the RISC-V "V" Vector Extension, version 1.0 (vsmul, vmulh,
vssra, vnclip; the rounding mode `vxrm` 0 rounds to nearest, halves up).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from luciole.emit.llvm_types import TYPES, memory_type, vector_type
from luciole.ir.types import DType
from luciole.kernel.core import Call, Expr, Read, Splat, Write
from luciole.kernel.vectors import ActiveLanes, Dot

if TYPE_CHECKING:
    from luciole.emit.llvm import LlvmPrinter

#: Bits of the registers that every core has at least, and of a scalable vector for each unit of its scale.
REGISTER_BITS, SCALE_BITS = 128, 64
#: Registers of the largest group.
LARGEST_GROUP = 8
#: Halves are rounded up.
_ROUND_UP = 0

#: Intrinsics of LLVM for those of ours.
_SPELLED = {"high_multiply": "vsmul", "multiply_high": "vmulh", "shift_rounded": "vssra", "narrow_rounded": "vnclip"}


def print_llvm(printer: LlvmPrinter, expr: ActiveLanes | Dot | Call, arguments: list[str]) -> str:
    """The value of an expression over printed operands by an intrinsic, or nothing where none fits."""
    if not isinstance(expr, Call) or not _is_group(max(expr.arguments, key=lambda a: a.dtype.bits)):
        return ""
    name = expr.intrinsic.name
    if name == "add_saturated":
        type = vector_type("i16", expr.lanes)
        return printer.call_llvm(f"llvm.sadd.sat.v{expr.lanes}i16", type, [(type, a) for a in arguments])
    if name == "narrow_saturated":
        return _Scalable(printer, expr).call("vnclip", arguments[:1], f"{_word(printer)} 0", has_rounding=True)
    vectors, scalar = arguments, ""
    if name == "shift_rounded":
        amount = _same(arguments[1])
        shift = "" if amount is not None else printer.operation(f"sub {_fixed(expr)} zeroinitializer, {arguments[1]}")
        vectors = [arguments[0], shift or f"splat (i32 {-int(amount or 0)})"]
    elif name not in _SPELLED:
        return ""
    word = _word(printer) if name in ("narrow_rounded", "shift_rounded") else "i32"
    second = expr.arguments[1]
    if (number := _same(vectors[1])) is not None:
        vectors, scalar = vectors[:1], f"{word} {number}"
    elif isinstance(second, Splat) and name != "shift_rounded":
        value = printer.expr(second.a)
        wide = (
            value if TYPES[second.dtype] == word else printer.operation(f"zext {TYPES[second.dtype]} {value} to {word}")
        )
        vectors, scalar = vectors[:1], f"{word} {wide}"
    return _Scalable(printer, expr).call(_SPELLED[name], vectors, scalar, has_rounding=name != "multiply_high")


def _same(vector: str) -> int | None:
    """The number that stands in all lanes of a printed vector, `None` where it is not known."""
    found = re.fullmatch(r"splat \(i\d+ (-?\d+)\)", vector)
    return int(found[1]) if found else None


class _Scalable:
    """The call of an intrinsic on scalable vectors."""

    def __init__(self, printer: LlvmPrinter, expr: Call) -> None:
        self.printer = printer
        self.expr = expr

    def call(self, name: str, vectors: list[str], scalar: str, has_rounding: bool) -> str:
        """Of vectors and perhaps a scalar with its type."""
        printer, word = self.printer, _word(self.printer)
        result = _scalable(self.expr)
        operands = [(_scalable(a), self.widened(a, v)) for a, v in zip(self.expr.arguments, vectors, strict=False)]
        suffixes = [_suffix(e) for e in (self.expr, *self.expr.arguments[: len(vectors)])]
        if suffixes[0] == suffixes[1]:
            del suffixes[1]
        typed = [(result, "poison"), *operands]
        if scalar:
            type, _, value = scalar.partition(" ")
            typed.append((type, value))
            suffixes.append(type)
        typed += [(word, str(_ROUND_UP))] if has_rounding else []
        typed.append((word, str(self.expr.lanes)))
        found = printer.call_llvm(f"llvm.riscv.{name}.{'.'.join([*suffixes, word])}", result, typed)
        of = f"llvm.vector.extract.v{self.expr.lanes}{TYPES[self.expr.dtype]}.{_suffix(self.expr)}"
        return printer.call_llvm(of, _fixed(self.expr), [(result, found), ("i64", "0")])

    def widened(self, operand: Expr, value: str) -> str:
        """A vector as the beginning of a scalable one."""
        type = _scalable(operand)
        name = f"llvm.vector.insert.{_suffix(operand)}.v{operand.lanes}{TYPES[operand.dtype]}"
        return self.printer.call_llvm(name, type, [(type, "poison"), (_fixed(operand), value), ("i64", "0")])


def print_read(printer: LlvmPrinter, expr: Read, pointer: str, count: str) -> str:
    """The first `count` lanes of a vector from memory, zeros behind them where that matters."""
    type, active, truth = _memory(expr), _active(printer, count, expr.lanes), f"<{expr.lanes} x i1>"
    suffix = f"v{expr.lanes}{_memory_scalar(expr)}"
    loads, merges = f"llvm.vp.load.{suffix}.p0", f"llvm.vp.merge.{suffix}"
    printer.declarations.add(f"declare {type} @{loads}(ptr, {truth}, i32)")
    value = printer.operation(
        f"call {type} @{loads}(ptr align {expr.alignment} {pointer}, {truth} splat (i1 true), i32 {active})"
    )
    if not printer.needs_zeros:
        return printer.operation(f"freeze {type} {value}")
    printer.declarations.add(f"declare {type} @{merges}({truth}, {type}, {type}, i32)")
    return printer.operation(
        f"call {type} @{merges}({truth} splat (i1 true), {type} {value}, {type} zeroinitializer, i32 {active})"
    )


def print_write(printer: LlvmPrinter, stmt: Write, value: str, pointer: str, count: str) -> None:
    """The first `count` lanes of a vector to memory."""
    type, active = _memory(stmt.value), _active(printer, count, stmt.value.lanes)
    name, truth = f"llvm.vp.store.v{stmt.value.lanes}{_memory_scalar(stmt.value)}.p0", f"<{stmt.value.lanes} x i1>"
    printer.declarations.add(f"declare void @{name}({type}, ptr, {truth}, i32)")
    where = f"ptr align {stmt.alignment} {pointer}, {truth} splat (i1 true)"
    printer.emit(f"call void @{name}({type} {value}, {where}, i32 {active})")


def _active(printer: LlvmPrinter, count: str, lanes: int) -> str:
    """How many lanes are active of a count, which may be more."""
    if count.isdecimal():
        return str(min(int(count), lanes))
    return printer.call_llvm("llvm.umin.i32", "i32", [("i32", count), ("i32", str(lanes))])


def _is_group(expr: Expr) -> bool:
    """Whether a vector fits a group of registers."""
    return expr.dtype is not DType.BOOL and expr.lanes * expr.dtype.bits <= LARGEST_GROUP * REGISTER_BITS


def _word(printer: LlvmPrinter) -> str:
    return f"i{8 * printer.target.pointer_bytes}"


def _fixed(expr: Expr) -> str:
    return vector_type(TYPES[expr.dtype], expr.lanes)


def _memory_scalar(expr: Expr) -> str:
    return "f32" if expr.dtype.is_float else memory_type(expr.dtype)


def _memory(expr: Expr) -> str:
    return vector_type(memory_type(expr.dtype), expr.lanes)


def _scale(expr: Expr) -> int:
    """Lanes of a scalable vector for each unit of its scale."""
    return max(1, expr.lanes * SCALE_BITS // REGISTER_BITS)


def _scalable(expr: Expr) -> str:
    return f"<vscale x {_scale(expr)} x {TYPES[expr.dtype]}>"


def _suffix(expr: Expr) -> str:
    return f"nxv{_scale(expr)}{TYPES[expr.dtype]}"
