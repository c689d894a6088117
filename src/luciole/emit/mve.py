"""Innermost loops of hand-scheduled kernels as vectors of the M-profile Vector Extension, in LLVM assembly.

A loop becomes vectors when its iterations are independent and walk through memory one element at a time: 16 lanes where
it only moves bytes or sums products of two int8 numbers (VMLADAVA), else 4 lanes of 32 bits. Loops whose length is
known have whole vectors and one under a mask; others have a mask from VCTP in each turn. A loop that does not fit is
left to the caller. Source of the intrinsics: LLVM's IntrinsicsARM.td; of their meaning: Armv8-M Architecture Reference
Manual, DDI 0553 (VQRDMULH, VRSHL, VMLADAV).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from luciole.ir.types import DType, row_major_strides
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Call,
    Cast,
    Comment,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    Load,
    Read,
    Select,
    Stmt,
    Store,
    Variable,
    Write,
)
from luciole.kernel.pointers import PointerRoots, pointer_roots, roots_of
from luciole.kernel.walk import walk_expr

if TYPE_CHECKING:
    from luciole.emit.llvm import _Printer

#: Lanes of bytes and of words.
BYTE_LANES, WORD_LANES = 16, 4
#: Loops of at most so many vectors are written out.
UNROLLED_VECTORS = 3

_OPERATIONS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "and": "and",
    "or": "or",
    "xor": "xor",
    "shift_left": "shl",
}
_REQUANTIZATIONS = frozenset(
    {
        "high_multiply",
        "requantize_tflite_right",
        "requantize_tflite_offset",
        "requantize_by_negated_right",
        "requantize_by_negated_shift",
    }
)


class _NotVectorError(Exception):
    """The loop does not fit."""


def print_vector_loop(printer: _Printer, loop: For) -> bool:
    """Append a loop as vectors to the printer's lines; false, and nothing appended, when the loop does not fit."""
    lines, values, block = len(printer.lines), dict(printer.values), printer.block
    try:
        _VectorLoop(printer, loop).print()
    except _NotVectorError:
        del printer.lines[lines:]
        printer.values, printer.block = values, block
        return False
    return True


class _VectorLoop:
    def __init__(self, printer: _Printer, loop: For) -> None:
        self.printer = printer
        self.loop = loop
        self.varying = {loop.variable.name}
        self.vectors: dict[str, str] = {}
        self.mask = ""
        if loop.step != 1:
            raise _NotVectorError
        self.lanes = self._lanes()
        self._check_memory()

    # What fits

    def _lanes(self) -> int:
        """Lanes of the widest number that varies."""
        lanes = BYTE_LANES
        has_product = False
        for stmt in self.loop.body:
            match stmt:
                case Define():
                    if self._varies(stmt.value):
                        lanes = min(lanes, self._lanes_of(stmt.value))
                        self.varying.add(stmt.variable.name)
                case Assign():
                    self._factors(stmt)
                    has_product = True
                case Store() | Write():
                    lanes = min(lanes, self._lanes_of(stmt.value))
                case Comment():
                    pass
                case _:
                    raise _NotVectorError
        if has_product and lanes != BYTE_LANES:
            raise _NotVectorError
        return lanes

    def _lanes_of(self, expr: Expr) -> int:
        if not self._varies(expr):
            return BYTE_LANES if expr.dtype.bits == 8 else WORD_LANES
        if (not expr.dtype.is_integer and expr.dtype is not DType.BOOL) or expr.dtype.bits > 32:
            raise _NotVectorError
        lanes = WORD_LANES if expr.dtype.bits > 8 or isinstance(expr, Call | Select | Compare) else BYTE_LANES
        match expr:
            case Binary():
                return min(lanes, self._lanes_of(expr.a), self._lanes_of(expr.b))
            case Cast():
                return min(lanes, self._lanes_of(expr.a))
        return lanes

    def _varies(self, expr: Expr) -> bool:
        return any(isinstance(node, Variable) and node.name in self.varying for node in walk_expr(expr))

    def _factors(self, stmt: Assign) -> tuple[Expr, Expr]:
        """The two int8 factors of register = register + a * b."""
        match stmt.value:
            case Binary("add", Variable() as total, Binary("mul", Cast() as a, Cast() as b)):
                if total == stmt.variable and all(c.a.dtype is DType.I8 and c.dtype is DType.I32 for c in (a, b)):
                    return a.a, b.a
        raise _NotVectorError

    def _check_memory(self) -> None:
        """No turn may read what another one writes: buffers written are not read."""
        roots = pointer_roots(self.printer.kernel.body)
        written: set[str] = set()
        read: set[str] = set()
        for stmt in self.loop.body:
            if isinstance(stmt, Store):
                written.add(stmt.buffer)
            elif isinstance(stmt, Write):
                written |= _roots(stmt.pointer, roots)
            if isinstance(stmt, Define | Assign | Store | Write):
                for node in walk_expr(stmt.value):
                    if isinstance(node, Load):
                        read.add(node.buffer)
                    elif isinstance(node, Read):
                        read |= _roots(node.pointer, roots)
        if written & read:
            raise _NotVectorError

    # The loop

    def print(self) -> None:
        begin, end = self.loop.begin, self.loop.end
        if not (isinstance(begin, Constant) and isinstance(end, Constant)):
            self._predicated(begin, end)
            return
        first, count = int(begin.value), int(end.value) - int(begin.value)
        whole = max(count, 0) // self.lanes
        if whole <= UNROLLED_VECTORS:
            for i in range(whole):
                self._turn(str(first + i * self.lanes))
        else:
            self._counted(first, first + whole * self.lanes)
        if rest := max(count, 0) % self.lanes:
            bits = ", ".join(f"i1 {'true' if i < rest else 'false'}" for i in range(self.lanes))
            self.mask = f"<{bits}>"
            self._turn(str(first + whole * self.lanes))

    def _counted(self, begin: int, end: int) -> None:
        """Whole vectors from begin to end."""
        printer = self.printer
        carried = printer.carried(self.loop.body)
        initial = {name: printer.values[name] for name, _ in carried}
        label, before, phis, at = printer.open_loop(self.loop.variable.name, carried)
        index = printer.name(self.loop.variable.name)
        self._turn(index)
        following = printer.operation(f"add nsw i32 {index}, {self.lanes}")
        test = printer.operation(f"icmp slt i32 {following}, {end}")
        done = printer.label("done")
        printer.emit(f"br i1 {test}, label %{label}, label %{done}")
        printer.close_loop(at, label, before, initial, phis, carried)
        printer.lines.insert(at, f"  {index} = phi i32 [ {begin}, %{before} ], [ {following}, %{printer.block} ]")
        printer.start(done)

    def _predicated(self, first: Expr, last: Expr) -> None:
        """Any number of elements, each vector under a mask."""
        printer = self.printer
        begin, end = printer.expr(first), printer.expr(last)
        carried = printer.carried(self.loop.body)
        if carried:
            raise _NotVectorError
        count = printer.operation(f"sub nsw i32 {end}, {begin}")
        test = printer.operation(f"icmp sgt i32 {count}, 0")
        enter, done = printer.label("enter"), printer.label("done")
        printer.emit(f"br i1 {test}, label %{enter}, label %{done}")
        printer.start(enter)
        label, before, _, at = printer.open_loop(self.loop.variable.name, [])
        index, rest = printer.name(self.loop.variable.name), printer.name("rest")
        bits = {BYTE_LANES: 8, WORD_LANES: 32}[self.lanes]
        self.mask = printer.call_llvm(f"llvm.arm.mve.vctp{bits}", f"<{self.lanes} x i1>", [("i32", rest)])
        self._turn(index)
        following = printer.operation(f"add nsw i32 {index}, {self.lanes}")
        left = printer.operation(f"sub nsw i32 {rest}, {self.lanes}")
        test = printer.operation(f"icmp sgt i32 {left}, 0")
        printer.emit(f"br i1 {test}, label %{label}, label %{done}")
        printer.lines[at:at] = [
            f"  {index} = phi i32 [ {begin}, %{before} ], [ {following}, %{printer.block} ]",
            f"  {rest} = phi i32 [ {count}, %{before} ], [ {left}, %{printer.block} ]",
        ]
        printer.start(done)

    def _turn(self, index: str) -> None:
        """One vector from an index on."""
        self.printer.values[self.loop.variable.name] = index
        self.vectors = {}
        for stmt in self.loop.body:
            self._statement(stmt)

    def _statement(self, stmt: Stmt) -> None:
        printer = self.printer
        match stmt:
            case Define() if self._varies(stmt.value):
                self.vectors[stmt.variable.name] = self._vector(stmt.value)
            case Define():
                printer.values[stmt.variable.name] = printer.expr(stmt.value)
            case Assign():
                self._add_products(stmt)
            case Store():
                value, pointer = self._vector(stmt.value), self._element(stmt.buffer, stmt.indices, stmt.value.dtype)
                self._store(value, pointer, stmt.value.dtype, stmt.value.dtype.size_bytes)
            case Write():
                value = self._vector(stmt.value)
                self._store(
                    value, self._address(stmt.pointer, stmt.offset, stmt.value.dtype), stmt.value.dtype, stmt.alignment
                )

    def _add_products(self, stmt: Assign) -> None:
        """register += sum of a * b; lanes under a mask hold zeros."""
        a, b = (self._vector(factor) for factor in self._factors(stmt))
        type, zero = self._type(DType.I8), ("i32", "0")
        total = ("i32", self.printer.values[stmt.variable.name])
        self.printer.values[stmt.variable.name] = self.printer.call_llvm(
            f"llvm.arm.mve.vmldava.v{self.lanes}i8", "i32", [zero, zero, zero, total, (type, a), (type, b)]
        )

    # Memory

    def _element(self, buffer: str, indices: tuple[Expr, ...], dtype: DType) -> str:
        strides = row_major_strides(self.printer.shapes[buffer])
        step = sum(self._step(index) * stride for index, stride in zip(indices, strides, strict=True))
        if step != 1:
            raise _NotVectorError
        return self.printer.element(buffer, indices, dtype)

    def _address(self, pointer: Expr, offset: int, dtype: DType) -> str:
        if self._step(pointer) != dtype.size_bytes:
            raise _NotVectorError
        return self.printer.offset(self.printer.expr(pointer), offset)

    def _step(self, expr: Expr) -> int:
        """How much an index or pointer moves from one turn to the next."""
        if not self._varies(expr):
            return 0
        match expr:
            case Variable() if expr.name == self.loop.variable.name:
                return 1
            case Binary("add"):
                return self._step(expr.a) + self._step(expr.b)
            case Binary("sub"):
                return self._step(expr.a) - self._step(expr.b)
            case Binary("mul", _, Constant() as factor):
                return self._step(expr.a) * int(factor.value)
            case Address():
                return self._step(expr.offset)
        raise _NotVectorError

    def _load(self, pointer: str, dtype: DType, alignment: int) -> str:
        type, printer = self._type(dtype), self.printer
        if not self.mask:
            return printer.operation(f"load {type}, ptr {pointer}, align {alignment}")
        name = f"llvm.masked.load.v{self.lanes}i{dtype.bits}.p0"
        printer.declarations.add(f"declare {type} @{name}(ptr, <{self.lanes} x i1>, {type})")
        mask = f"<{self.lanes} x i1> {self.mask}"
        return printer.operation(
            f"call {type} @{name}(ptr align {alignment} {pointer}, {mask}, {type} zeroinitializer)"
        )

    def _store(self, value: str, pointer: str, dtype: DType, alignment: int) -> None:
        type, printer = self._type(dtype), self.printer
        if not self.mask:
            printer.emit(f"store {type} {value}, ptr {pointer}, align {alignment}")
            return
        name = f"llvm.masked.store.v{self.lanes}i{dtype.bits}.p0"
        printer.declarations.add(f"declare void @{name}({type}, ptr, <{self.lanes} x i1>)")
        mask = f"<{self.lanes} x i1> {self.mask}"
        printer.emit(f"call void @{name}({type} {value}, ptr align {alignment} {pointer}, {mask})")

    # Values

    def _type(self, dtype: DType) -> str:
        return f"<{self.lanes} x i{1 if dtype is DType.BOOL else dtype.bits}>"

    def _splat(self, expr: Expr) -> str:
        scalar, type = f"i{expr.dtype.bits}", self._type(expr.dtype)
        if isinstance(expr, Constant):
            return f"splat ({scalar} {int(expr.value)})"
        first = self.printer.operation(f"insertelement {type} poison, {scalar} {self.printer.expr(expr)}, i32 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.printer.operation(f"shufflevector {type} {first}, {type} poison, {zeros}")

    def _vector(self, expr: Expr) -> str:
        if not self._varies(expr):
            return self._splat(expr)
        match expr:
            case Variable() if expr.name in self.vectors:
                return self.vectors[expr.name]
            case Load():
                return self._load(
                    self._element(expr.buffer, expr.indices, expr.dtype), expr.dtype, expr.dtype.size_bytes
                )
            case Read():
                return self._load(self._address(expr.pointer, expr.offset, expr.dtype), expr.dtype, expr.alignment)
            case Binary():
                return self._binary(expr.operation, expr.dtype, self._vector(expr.a), self._vector(expr.b))
            case Cast():
                return self._cast(self._vector(expr.a), expr.a.dtype, expr.dtype)
            case Compare() if expr.a.dtype.is_integer:
                sign = "" if expr.operation in ("eq", "ne") else "s" if expr.a.dtype.is_signed else "u"
                a, b = self._vector(expr.a), self._vector(expr.b)
                return self.printer.operation(f"icmp {sign}{expr.operation} {self._type(expr.a.dtype)} {a}, {b}")
            case Select():
                test, a, b = self._vector(expr.condition), self._vector(expr.a), self._vector(expr.b)
                type = self._type(expr.dtype)
                return self.printer.operation(f"select {self._type(DType.BOOL)} {test}, {type} {a}, {type} {b}")
            case Call():
                return self._call(expr)
        raise _NotVectorError

    def _binary(self, operation: str, dtype: DType, a: str, b: str) -> str:
        type = self._type(dtype)
        if operation in ("min", "max"):
            name = f"llvm.{'s' if dtype.is_signed else 'u'}{operation}.v{self.lanes}i{dtype.bits}"
            return self.printer.call_llvm(name, type, [(type, a), (type, b)])
        if operation == "shift_right":
            return self.printer.operation(f"{'ashr' if dtype.is_signed else 'lshr'} {type} {a}, {b}")
        if operation not in _OPERATIONS:
            raise _NotVectorError
        return self.printer.operation(f"{_OPERATIONS[operation]} {type} {a}, {b}")

    def _cast(self, value: str, source: DType, target: DType) -> str:
        if source is DType.BOOL or target is DType.BOOL or source.bits == target.bits:
            if source.bits == target.bits:
                return value
            raise _NotVectorError
        if source.bits > target.bits:
            operation = "trunc"
        else:
            operation = "sext" if source.is_signed else "zext"
        return self.printer.operation(f"{operation} {self._type(source)} {value} to {self._type(target)}")

    def _call(self, expr: Call) -> str:
        """The intrinsics of requantization, on words; each equals its meaning where that may be used."""
        if expr.intrinsic.name not in _REQUANTIZATIONS:
            raise _NotVectorError
        arguments = [self._vector(argument) for argument in expr.arguments]
        high = self._high_multiply(arguments[0], arguments[1])
        match expr.intrinsic.name:
            case "requantize_tflite_right":
                return self._rounding_shift(high, high, self._word("sub", "zeroinitializer", arguments[2]))
            case "requantize_tflite_offset":
                # The shift is one less, and the offset twice the zero point and one.
                scaled = self._rounding_shift(high, high, self._word("xor", arguments[2], "splat (i32 -1)"))
                return self._word("add", scaled, self._word("shift_right", arguments[3], "splat (i32 1)"))
            case "requantize_by_negated_right":
                return self._rounding_shift(high, high, arguments[2])
            case "requantize_by_negated_shift":
                return self._rounding_shift(high, self._word("and", high, arguments[2]), arguments[2])
        return high

    def _word(self, operation: str, a: str, b: str) -> str:
        return self._binary(operation, DType.I32, a, b)

    def _high_multiply(self, a: str, b: str) -> str:
        type = self._type(DType.I32)
        return self.printer.call_llvm("llvm.arm.mve.vqrdmulh.v4i32", type, [(type, a), (type, b)])

    def _rounding_shift(self, value: str, sign: str, shift: str) -> str:
        """value, less one where `sign` is negative, shifted right by -shift, rounded, halves up (VRSHL): halves are
        then rounded away from zero.
        """
        type = self._type(DType.I32)
        total = self._word("add", value, self._word("shift_right", sign, "splat (i32 31)"))
        flags = [("i32", "0"), ("i32", "1"), ("i32", "0")]
        operands = [(type, total), (type, shift), *flags]
        return self.printer.call_llvm("llvm.arm.mve.vshl.vector.v4i32.v4i32", type, operands)


def _roots(pointer: Expr, roots: PointerRoots) -> set[str]:
    """The buffers that a pointer may point into."""
    found = roots_of(pointer, roots)
    if not found:
        raise _NotVectorError
    return found
