"""Vectors in LLVM assembly: what is not the same as for scalars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luciole.emit import mve, rvv
from luciole.emit.llvm_types import TYPES, memory_type, number, suffix_of, truth_type, type_of, vector_type
from luciole.errors import InternalError
from luciole.ir.types import DType
from luciole.kernel.core import Call, Constant, Expr, Read, Splat, Write
from luciole.kernel.rewrite import widened
from luciole.kernel.vectors import ActiveLanes, Dot, Gather, Lanes, Reduce

if TYPE_CHECKING:
    from luciole.emit.llvm import LlvmPrinter


def print_vector(printer: LlvmPrinter, expr: Expr) -> str:
    """The value of an expression that only vectors know."""
    match expr:
        case Splat():
            return _splat(printer, expr)
        case Lanes():
            value, whole = "poison", type_of(expr)
            for i, element in enumerate(expr.elements):
                scalar = f"{TYPES[expr.dtype]} {printer.expr(element)}"
                value = printer.operation(f"insertelement {whole} {value}, {scalar}, i32 {i}")
            return value
        case ActiveLanes():
            return _active_lanes(printer, expr)
        case Gather():
            return _gather(printer, expr)
        case Dot():
            return _dot(printer, expr)
        case Reduce():
            return _reduce(printer, expr)
    raise InternalError(f"no LLVM for {type(expr).__name__}")


def print_call(printer: LlvmPrinter, expr: Call, arguments: list[str]) -> str:
    """An intrinsic on vectors: as the target spells it, or by its meaning."""
    spelled = _spelled(printer, expr, arguments)
    return spelled or printer.meaning(widened(expr.intrinsic, expr.lanes), arguments)


def _spelled(printer: LlvmPrinter, expr: ActiveLanes | Dot | Call, arguments: list[str]) -> str:
    """The value of an expression over printed operands as the target spells it, or nothing."""
    if printer.target.has("mve"):
        return mve.print_llvm(printer, expr, arguments)
    return rvv.print_llvm(printer, expr, arguments) if printer.target.has("rvv") else ""


def print_read(printer: LlvmPrinter, expr: Read) -> str:
    """A vector from memory."""
    pointer = printer.offset(printer.expr(expr.pointer), expr.offset)
    memory = vector_type(memory_type(expr.dtype), expr.lanes)
    words = mve.words_of(expr) if printer.target.has("mve") else 0
    if words:
        value = printer.operation(f"load <{words} x i32>, ptr {pointer}, align {expr.alignment}")
        return printer.operation(f"bitcast <{words} x i32> {value} to {memory}")
    if expr.mask is None:
        value = printer.operation(f"load {memory}, ptr {pointer}, align {expr.alignment}")
        return _from_memory(printer, expr, value)
    mask_value = printer.expr(expr.mask)
    if printer.target.has("rvv") and mask_value in printer.lane_counts:
        value = rvv.print_read(printer, expr, pointer, printer.lane_counts[mask_value])
    else:
        mask = f"{truth_type(expr)} {mask_value}"
        name = f"llvm.masked.load.{_memory_suffix(expr)}.p0"
        printer.declarations.add(f"declare {memory} @{name}(ptr, {truth_type(expr)}, {memory})")
        value = printer.operation(
            f"call {memory} @{name}(ptr align {expr.alignment} {pointer}, {mask}, {memory} zeroinitializer)"
        )
    return _from_memory(printer, expr, value)


def print_write(printer: LlvmPrinter, stmt: Write) -> None:
    """A vector to memory."""
    value = printer.expr(stmt.value)
    pointer = printer.offset(printer.expr(stmt.pointer), stmt.offset)
    memory = vector_type(memory_type(stmt.value.dtype), stmt.value.lanes)
    if stmt.value.dtype is DType.BOOL:
        value = printer.operation(f"zext {type_of(stmt.value)} {value} to {memory}")
    if stmt.mask is None:
        printer.emit(f"store {memory} {value}, ptr {pointer}, align {stmt.alignment}")
        return
    mask_value = printer.expr(stmt.mask)
    if printer.target.has("rvv") and mask_value in printer.lane_counts:
        rvv.print_write(printer, stmt, value, pointer, printer.lane_counts[mask_value])
        return
    name = f"llvm.masked.store.{_memory_suffix(stmt.value)}.p0"
    printer.declarations.add(f"declare void @{name}({memory}, ptr, {truth_type(stmt.value)})")
    mask = f"{truth_type(stmt.value)} {mask_value}"
    printer.emit(f"call void @{name}({memory} {value}, ptr align {stmt.alignment} {pointer}, {mask})")


def _memory_suffix(expr: Expr) -> str:
    return f"v{expr.lanes}i8" if expr.dtype is DType.BOOL else suffix_of(expr)


def _from_memory(printer: LlvmPrinter, expr: Expr, value: str) -> str:
    """A vector as registers hold it."""
    if expr.dtype is not DType.BOOL:
        return value
    return printer.operation(f"icmp ne <{expr.lanes} x i8> {value}, zeroinitializer")


def _splat(printer: LlvmPrinter, expr: Splat) -> str:
    if isinstance(expr.a, Constant):
        return number(printer.constant(expr.a), expr)
    type, scalar = type_of(expr), TYPES[expr.dtype]
    first = printer.operation(f"insertelement {type} poison, {scalar} {printer.expr(expr.a)}, i32 0")
    return printer.operation(f"shufflevector {type} {first}, {type} poison, <{expr.lanes} x i32> zeroinitializer")


def _active_lanes(printer: LlvmPrinter, expr: ActiveLanes) -> str:
    count = printer.expr(expr.count)
    if isinstance(expr.count, Constant):
        bits = ", ".join(f"i1 {'true' if i < expr.count.value else 'false'}" for i in range(expr.lanes))
        mask = f"<{bits}>"
    else:
        name = f"llvm.get.active.lane.mask.v{expr.lanes}i1.i32"
        mask = _spelled(printer, expr, [count])
        mask = mask or printer.call_llvm(name, type_of(expr), [("i32", "0"), ("i32", count)])
    printer.lane_counts[mask] = count
    return mask


def _gather(printer: LlvmPrinter, expr: Gather) -> str:
    pointer, offsets = printer.expr(expr.pointer), printer.expr(expr.offsets)
    lanes, memory = expr.lanes, vector_type(memory_type(expr.dtype), expr.lanes)
    pointers = printer.operation(f"getelementptr i8, ptr {pointer}, <{lanes} x i32> {offsets}", "p")
    mask = "splat (i1 true)" if expr.mask is None else printer.expr(expr.mask)
    name, truth = f"llvm.masked.gather.{_memory_suffix(expr)}.v{lanes}p0", truth_type(expr)
    printer.declarations.add(f"declare {memory} @{name}(<{lanes} x ptr>, i32 immarg, {truth}, {memory})")
    arguments = f"<{lanes} x ptr> {pointers}, i32 {expr.dtype.size_bytes}, {truth} {mask}, {memory} zeroinitializer"
    return _from_memory(printer, expr, printer.operation(f"call {memory} @{name}({arguments})"))


def _dot(printer: LlvmPrinter, expr: Dot) -> str:
    operands = [printer.expr(e) for e in (expr.accumulator, expr.a, expr.b)]
    spelled = _spelled(printer, expr, operands)
    if spelled:
        return spelled
    count, type = expr.a.lanes, f"<{expr.a.lanes} x i32>"
    wide = [
        printer.operation(f"{'sext' if e.dtype.is_signed else 'zext'} {type_of(e)} {text} to {type}")
        for e, text in zip((expr.a, expr.b), operands[1:], strict=True)
    ]
    products, total = printer.operation(f"mul {type} {wide[0]}, {wide[1]}"), operands[0]
    if expr.lanes == 1:
        total_of_products = printer.call_llvm(f"llvm.vector.reduce.add.v{count}i32", "i32", [(type, products)])
        return printer.operation(f"add i32 {total}, {total_of_products}")
    group = count // expr.lanes
    for j in range(group):
        lanes = ", ".join(f"i32 {i}" for i in range(j, count, group))
        part = printer.operation(f"shufflevector {type} {products}, {type} poison, <{expr.lanes} x i32> <{lanes}>")
        total = printer.operation(f"add {type_of(expr)} {total}, {part}")
    return total


def _reduce(printer: LlvmPrinter, expr: Reduce) -> str:
    sign = "" if expr.operation == "add" else "s" if expr.dtype.is_signed else "u"
    name = f"llvm.vector.reduce.{sign}{expr.operation}.{suffix_of(expr.a)}"
    return printer.call_llvm(name, type_of(expr), [(type_of(expr.a), printer.expr(expr.a))])
