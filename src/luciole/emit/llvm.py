"""Kernels as LLVM assembly text, in static single assignment form straight from the loop tree.

Registers that a loop or branch assigns become phi nodes; intrinsics are expanded in place from their meaning, or become
the LLVM intrinsic they name where the target has the feature. So hand-scheduled kernels need no pass before code
generation.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from luciole.emit import llvm_vectors
from luciole.emit.llvm_helpers import DIVISION, SQUARE_ROOT, UNSIGNED_DIVISION
from luciole.emit.llvm_types import TYPES, float_literal, memory_type, number, suffix_of, truth_type, type_of
from luciole.errors import InternalError
from luciole.ir.target import Target
from luciole.ir.types import DType, Shape, row_major_strides
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Bitcast,
    Body,
    Call,
    Cast,
    Comment,
    Compare,
    Constant,
    Define,
    Expr,
    Fence,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Read,
    Repeat,
    Select,
    Splat,
    Stmt,
    Store,
    Unary,
    Variable,
    Write,
    binary,
)
from luciole.kernel.inactive_lanes import inactive_lanes_matter
from luciole.kernel.vectors import ActiveLanes, Dot, Gather, Lanes, Reduce
from luciole.kernel.walk import walk

_INTEGER_OPERATIONS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "and": "and",
    "or": "or",
    "xor": "xor",
    "shift_left": "shl",
}
_FLOAT_OPERATIONS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "divide": "fdiv"}
_FLOAT_COMPARISONS = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


def print_kernel_llvm(kernel: Kernel, function: str, target: Target, attributes: str = "", section: str = "") -> str:
    """A module that defines the kernel as `function`: pointers for the buffers in order, then `i32` scalars; returns
    nothing.
    """
    printer = LlvmPrinter(kernel, target)
    printer.body(kernel.body)
    parameters = [
        f"ptr {_buffer_attributes(p.kind, kernel.may_overlap)} align {p.alignment} %{p.name}" for p in kernel.parameters
    ]
    parameters += [f"i32 %{s.name}" for s in kernel.scalars]
    where = f' section "{section}"' if section else ""
    head = f'define void @{function}({", ".join(parameters)}) nounwind noinline "no-builtins" {attributes}{where} {{'
    lines = [head, "entry:", *printer.lines, "  ret void", "}"]
    lines += sorted(printer.declarations)
    lines += printer.helpers
    return "\n".join(lines) + "\n"


def _buffer_attributes(kind: str, may_overlap: bool) -> str:
    """What LLVM may know of a buffer; a workspace shares memory with nothing."""
    own = "" if may_overlap and kind != "workspace" else "noalias "
    return own + {"in": "nocapture readonly", "out": "nocapture writeonly"}.get(kind, "nocapture")


class LlvmPrinter:
    """The lines of one function as they come to be."""

    def __init__(self, kernel: Kernel, target: Target) -> None:
        self.kernel = kernel
        self.target = target
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        #: Definitions of functions of our own, in order of first use.
        self.helpers: list[str] = []
        self.values: dict[str, str] = {s.name: f"%{s.name}" for s in kernel.scalars}
        self.shapes: dict[str, Shape] = {p.name: p.shape for p in kernel.parameters}
        #: Masks whose lanes are true up to a count, and that count.
        self.lane_counts: dict[str, str] = {}
        self.alignments = {p.name: p.alignment for p in kernel.parameters}
        self.block = "entry"
        self.count = 0

    @cached_property
    def needs_zeros(self) -> bool:
        """Whether it matters that lanes which masks leave out of reads are zeros."""
        return inactive_lanes_matter(self.kernel)

    # Lines

    def emit(self, text: str) -> None:
        self.lines.append("  " + text)

    def name(self, base: str = "v") -> str:
        self.count += 1
        return f"%{base}.{self.count}"

    def operation(self, text: str, base: str = "v") -> str:
        result = self.name(base)
        self.emit(f"{result} = {text}")
        return result

    def label(self, base: str) -> str:
        self.count += 1
        return f"{base}.{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    # Statements

    def body(self, body: Body) -> None:
        for stmt in body:
            self.statement(stmt)

    def statement(self, stmt: Stmt) -> None:
        match stmt:
            case Define() | Assign():
                self.values[stmt.variable.name] = self.expr(stmt.value)
            case Store():
                value, pointer = self.expr(stmt.value), self.element(stmt.buffer, stmt.indices, stmt.value.dtype)
                self.store(value, stmt.value.dtype, pointer, stmt.value.dtype.size_bytes)
            case Write() if stmt.value.lanes > 1:
                llvm_vectors.print_write(self, stmt)
            case Write():
                value = self.expr(stmt.value)
                pointer = self.offset(self.expr(stmt.pointer), stmt.offset)
                self.store(value, stmt.value.dtype, pointer, stmt.alignment)
            case For():
                self.for_loop(stmt)
            case Repeat():
                self.repeat(stmt)
            case If():
                self.branch(stmt)
            case Fence():
                self.emit('fence syncscope("singlethread") acq_rel')
                if stmt.holds_arithmetic:
                    # A label, which is the only thing without code that machine schedulers end a region at.
                    self.emit('call void @llvm.codeview.annotation(metadata !{!"fence"})')
                    self.declarations.add("declare void @llvm.codeview.annotation(metadata)")
            case Comment():
                pass
            case _:
                raise InternalError(f"no LLVM for {type(stmt).__name__}")

    def store(self, value: str, dtype: DType, pointer: str, alignment: int) -> None:
        if dtype is DType.BOOL:
            value, dtype = self.operation(f"zext i1 {value} to i8"), DType.U8
        self.emit(f"store {TYPES[dtype]} {value}, ptr {pointer}, align {alignment}")

    def carried(self, body: Body) -> list[tuple[str, str]]:
        """Registers from outside that a body assigns and their types, in order of their first assignment."""
        found: dict[str, str] = {}
        for stmt in walk(body):
            if isinstance(stmt, Assign) and stmt.variable.name in self.values:
                found[stmt.variable.name] = type_of(stmt.variable)
        return list(found.items())

    def open_loop(self, base: str, carried: list[tuple[str, str]]) -> tuple[str, str, dict[str, str], int]:
        """Begin a loop block; returns its label, the block before, the phi names, and where to insert the phi lines."""
        before, label = self.block, self.label(base)
        self.emit(f"br label %{label}")
        self.start(label)
        phis = {name: self.name(name) for name, _ in carried}
        self.values |= phis
        return label, before, phis, len(self.lines)

    def close_loop(
        self,
        at: int,
        label: str,
        before: str,
        initial: dict[str, str],
        phis: dict[str, str],
        carried: list[tuple[str, str]],
    ) -> None:
        """Insert the phi nodes now that the values after one turn are known."""
        self.lines[at:at] = [
            f"  {phis[name]} = phi {of} [ {initial[name]}, %{before} ], [ {self.values[name]}, %{self.block} ]"
            for name, of in carried
        ]

    def for_loop(self, stmt: For) -> None:
        begin, end = self.expr(stmt.begin), self.expr(stmt.end)
        known = isinstance(stmt.begin, Constant) and isinstance(stmt.end, Constant)
        if isinstance(stmt.begin, Constant) and isinstance(stmt.end, Constant) and stmt.begin.value >= stmt.end.value:
            return
        carried = self.carried(stmt.body)
        initial = {name: self.values[name] for name, _ in carried}
        exit_label, guard = self.label("done"), ""
        if not known:
            guard, enter = self.block, self.label("enter")
            test = self.operation(f"icmp slt i32 {begin}, {end}")
            self.emit(f"br i1 {test}, label %{enter}, label %{exit_label}")
            self.start(enter)
        label, before, phis, at = self.open_loop(stmt.variable.name, carried)
        index = self.name(stmt.variable.name)
        self.values[stmt.variable.name] = index
        self.body(stmt.body)
        following = self.operation(f"add nsw i32 {index}, {stmt.step}")
        test = self.operation(f"icmp slt i32 {following}, {end}")
        latch = self.block
        self.emit(f"br i1 {test}, label %{label}, label %{exit_label}")
        self.close_loop(at, label, before, initial, phis, carried)
        self.lines.insert(at, f"  {index} = phi i32 [ {begin}, %{before} ], [ {following}, %{latch} ]")
        self.start(exit_label)
        if guard:
            for name, of in carried:
                text = f"phi {of} [ {initial[name]}, %{guard} ], [ {self.values[name]}, %{latch} ]"
                self.values[name] = self.operation(text, name)

    def repeat(self, stmt: Repeat) -> None:
        carried = self.carried(stmt.body)
        initial = {name: self.values[name] for name, _ in carried}
        label, before, phis, at = self.open_loop("repeat", carried)
        self.body(stmt.body)
        test, exit_label = self.expr(stmt.condition), self.label("done")
        self.emit(f"br i1 {test}, label %{label}, label %{exit_label}")
        self.close_loop(at, label, before, initial, phis, carried)
        self.start(exit_label)

    def branch(self, stmt: If) -> None:
        carried = list(dict.fromkeys(self.carried(stmt.then) + self.carried(stmt.otherwise)))
        initial = {name: self.values[name] for name, _ in carried}
        test = self.expr(stmt.condition)
        then, otherwise, after = self.label("then"), self.label("else"), self.label("after")
        self.emit(f"br i1 {test}, label %{then}, label %{otherwise}")
        ends = []
        for label, body in ((then, stmt.then), (otherwise, stmt.otherwise)):
            self.values |= initial
            self.start(label)
            self.body(body)
            ends.append((self.block, {name: self.values[name] for name, _ in carried}))
            self.emit(f"br label %{after}")
        self.start(after)
        for name, of in carried:
            arms = ", ".join(f"[ {values[name]}, %{block} ]" for block, values in ends)
            self.values[name] = self.operation(f"phi {of} {arms}", name)

    # Addresses

    def element(self, buffer: str, indices: Iterable[Expr], dtype: DType) -> str:
        strides = row_major_strides(self.shapes[buffer])
        linear: Expr = Constant(0, DType.INDEX)
        for index, stride in zip(indices, strides, strict=True):
            linear = binary("add", linear, binary("mul", index, stride))
        offset = 0
        if isinstance(linear, Binary) and linear.operation in ("add", "sub") and isinstance(linear.b, Constant):
            offset = int(linear.b.value) * (1 if linear.operation == "add" else -1)
            linear = linear.a
        pointer = f"%{buffer}"
        if not (isinstance(linear, Constant) and linear.value == 0):
            pointer = self.operation(
                f"getelementptr inbounds {memory_type(dtype)}, ptr {pointer}, i32 {self.expr(linear)}", "p"
            )
        return self.offset(pointer, offset * dtype.size_bytes)

    def offset(self, pointer: str, offset_bytes: int) -> str:
        return self.operation(f"getelementptr i8, ptr {pointer}, i32 {offset_bytes}", "p") if offset_bytes else pointer

    # Expressions

    def expr(self, expr: Expr) -> str:
        match expr:
            case Variable():
                return self.values[expr.name]
            case Constant():
                return self.constant(expr)
            case Load():
                return self.load(self.element(expr.buffer, expr.indices, expr.dtype), expr.dtype, expr.dtype.size_bytes)
            case Read() if expr.lanes > 1:
                return llvm_vectors.print_read(self, expr)
            case Read():
                return self.load(self.offset(self.expr(expr.pointer), expr.offset), expr.dtype, expr.alignment)
            case Address():
                if isinstance(expr.offset, Constant):
                    return self.offset(f"%{expr.buffer}", int(expr.offset.value))
                return self.operation(f"getelementptr i8, ptr %{expr.buffer}, i32 {self.expr(expr.offset)}", "p")
            case Binary():
                return self.binary(expr)
            case Compare():
                return self.compare(expr)
            case Unary():
                return self.unary(expr)
            case Select():
                of, truth = type_of(expr), type_of(expr.condition)
                condition, a, b = self.expr(expr.condition), self.expr(expr.a), self.expr(expr.b)
                return self.operation(f"select {truth} {condition}, {of} {a}, {of} {b}")
            case Cast():
                return self.cast(expr)
            case Bitcast():
                return self.operation(f"bitcast {type_of(expr.a)} {self.expr(expr.a)} to {type_of(expr)}")
            case Call():
                return self.call(expr)
            case Splat() | Lanes() | ActiveLanes() | Gather() | Dot() | Reduce():
                return llvm_vectors.print_vector(self, expr)
        raise InternalError(f"no LLVM for {type(expr).__name__}")

    def constant(self, expr: Constant) -> str:
        if expr.dtype.is_float:
            return float_literal(float(expr.value), expr.dtype)
        if expr.dtype is DType.BOOL:
            return "true" if expr.value else "false"
        return str(int(expr.value))

    def load(self, pointer: str, dtype: DType, alignment: int) -> str:
        value = self.operation(f"load {memory_type(dtype)}, ptr {pointer}, align {alignment}")
        return self.operation(f"icmp ne i8 {value}, 0") if dtype is DType.BOOL else value

    def binary(self, expr: Binary) -> str:
        a, b = self.expr(expr.a), self.expr(expr.b)
        dtype, operation = expr.dtype, expr.operation
        if dtype is DType.POINTER:
            step = b if operation == "add" else self.operation(f"sub nsw i32 0, {b}")
            return self.operation(f"getelementptr i8, ptr {a}, i32 {step}", "p")
        type = type_of(expr)
        if dtype.is_float:
            if operation in ("min", "max"):
                test = self.operation(f"fcmp {'olt' if operation == 'min' else 'ogt'} {type} {a}, {b}")
                return self.operation(f"select {truth_type(expr)} {test}, {type} {a}, {type} {b}")
            return self.operation(f"{_FLOAT_OPERATIONS[operation]} {type} {a}, {b}")
        if operation in ("min", "max"):
            name = f"llvm.{'s' if dtype.is_signed else 'u'}{operation}.{suffix_of(expr)}"
            return self.call_llvm(name, type, [(type, a), (type, b)])
        if operation in ("divide", "remainder"):
            return self.divide(expr, a, b)
        if operation == "shift_right":
            return self.operation(f"{'ashr' if dtype.is_signed else 'lshr'} {type} {a}, {b}")
        flags = " nsw" if dtype is DType.INDEX and operation in ("add", "sub", "mul") else ""
        return self.operation(f"{_INTEGER_OPERATIONS[operation]}{flags} {type} {a}, {b}")

    def divide(self, expr: Binary, a: str, b: str) -> str:
        """Division; through a loop of our own on cores that have no instruction for it.

        The least number divided by -1 wraps in kernels and traps on some machines: -1 becomes a negation.
        """
        dtype, is_quotient = expr.dtype, expr.operation == "divide"
        of, sign = type_of(expr), "s" if dtype.is_signed else "u"
        if not self.target.has("divide") and dtype.bits <= 32 and expr.lanes == 1:
            return self.divide_by_loop(dtype, is_quotient, a, b)
        divided_by = expr.b.a if isinstance(expr.b, Splat) else expr.b
        is_safe = isinstance(divided_by, Constant) and divided_by.value != -1
        if is_safe or not dtype.is_signed or dtype is DType.INDEX:
            return self.operation(f"{sign}{'div' if is_quotient else 'rem'} {of} {a}, {b}")
        truth, one, minus_one, zero = truth_type(expr), *(number(n, expr) for n in ("1", "-1", "0"))
        negates = self.operation(f"icmp eq {of} {b}, {minus_one}")
        divisor = self.operation(f"select {truth} {negates}, {of} {one}, {of} {b}")
        result = self.operation(f"s{'div' if is_quotient else 'rem'} {of} {a}, {divisor}")
        if not is_quotient:
            return result
        negated = self.operation(f"sub {of} {zero}, {a}")
        return self.operation(f"select {truth} {negates}, {of} {negated}, {of} {result}")

    def divide_by_loop(self, dtype: DType, is_quotient: bool, a: str, b: str) -> str:
        """Quotient or remainder of numbers of up to 32 bits, through a function of our own."""
        of, narrow = TYPES[dtype], dtype.bits < 32
        if narrow:
            extend = "sext" if dtype.is_signed else "zext"
            a, b = (self.operation(f"{extend} {of} {value} to i32") for value in (a, b))
        self.use_helper(DIVISION if dtype.is_signed else UNSIGNED_DIVISION)
        function = "luciole_divide" if dtype.is_signed else "luciole_divide_unsigned"
        result = self.operation(f"call i32 @{function}(i32 {a}, i32 {b})")
        if not is_quotient:
            product = self.operation(f"mul i32 {result}, {b}")
            result = self.operation(f"sub i32 {a}, {product}")
        return self.operation(f"trunc i32 {result} to {of}") if narrow else result

    def compare(self, expr: Compare) -> str:
        a, b, dtype, of = self.expr(expr.a), self.expr(expr.b), expr.a.dtype, type_of(expr.a)
        if dtype.is_float:
            return self.operation(f"fcmp {_FLOAT_COMPARISONS[expr.operation]} {of} {a}, {b}")
        predicate = expr.operation
        if predicate not in ("eq", "ne"):
            predicate = ("s" if dtype.is_signed else "u") + predicate
        return self.operation(f"icmp {predicate} {of} {a}, {b}")

    def unary(self, expr: Unary) -> str:
        a, type = self.expr(expr.a), type_of(expr)
        match expr.operation:
            case "neg" if expr.dtype.is_float:
                return self.operation(f"fneg {type} {a}")
            case "neg":
                flags = "nsw " if expr.dtype is DType.INDEX else ""
                return self.operation(f"sub {flags}{type} {number('0', expr)}, {a}")
            case "not":
                ones = "true" if expr.dtype is DType.BOOL else "-1"
                return self.operation(f"xor {type} {a}, {number(ones, expr)}")
            case "abs" if expr.dtype.is_float:
                return self.call_llvm(f"llvm.fabs.{suffix_of(expr)}", type, [(type, a)])
            case "round_even":
                return self.round_even(expr, a)
            case "floor":
                rounded = self.round_even(expr, a)
                is_above = self.operation(f"fcmp ogt {type} {rounded}, {a}")
                below = self.operation(f"fsub {type} {rounded}, {number(float_literal(1.0, expr.dtype), expr)}")
                return self.operation(f"select {truth_type(expr)} {is_above}, {type} {below}, {type} {rounded}")
            case "sqrt" if self.target.has("fpu" if expr.dtype is DType.F32 else "double"):
                return self.call_llvm(f"llvm.sqrt.{suffix_of(expr)}", type, [(type, a)])
            case "sqrt" if expr.lanes == 1 and expr.dtype is DType.F32:
                self.use_helper(SQUARE_ROOT)
                return self.operation(f"call float @luciole_sqrt(float {a})")
        raise InternalError(f"no LLVM for {expr.operation} of {expr.type_text}")

    def round_even(self, expr: Unary, value: str) -> str:
        """To the nearest integer, ties to even: adding 2**23 (of doubles 2**52) leaves no bits for a fraction; the sign
        stays.
        """
        whole_from = 2.0**23 if expr.dtype is DType.F32 else 2.0**52
        type, limit = type_of(expr), number(float_literal(whole_from, expr.dtype), expr)
        magnitude = self.call_llvm(f"llvm.fabs.{suffix_of(expr)}", type, [(type, value)])
        has_fraction = self.operation(f"fcmp olt {type} {magnitude}, {limit}")
        raised = self.operation(f"fadd {type} {magnitude}, {limit}")
        whole = self.operation(f"fsub {type} {raised}, {limit}")
        kept = self.operation(f"select {truth_type(expr)} {has_fraction}, {type} {whole}, {type} {magnitude}")
        return self.call_llvm(f"llvm.copysign.{suffix_of(expr)}", type, [(type, kept), (type, value)])

    def use_helper(self, definition: str) -> None:
        """Bring a function of our own into the module, once."""
        if definition not in self.helpers:
            self.helpers.append(definition)

    def cast(self, expr: Cast) -> str:
        source, target = expr.a.dtype, expr.dtype
        a, from_type, to_type = self.expr(expr.a), type_of(expr.a), type_of(expr)
        if source.is_float and target.is_float:
            if source is target:
                return a
            return self.operation(f"{'fpext' if target is DType.F64 else 'fptrunc'} {from_type} {a} to {to_type}")
        if source.is_float and target is DType.BOOL:
            return self.operation(f"fcmp une {from_type} {a}, {number(float_literal(0.0, source), expr.a)}")
        if source.is_float:
            return self.operation(f"{'fptosi' if target.is_signed else 'fptoui'} {from_type} {a} to {to_type}")
        if target.is_float:
            return self.operation(f"{'sitofp' if source.is_signed else 'uitofp'} {from_type} {a} to {to_type}")
        if target is DType.BOOL:
            return self.operation(f"icmp ne {from_type} {a}, {number('0', expr.a)}")
        if source.bits < target.bits:
            return self.operation(f"{'sext' if source.is_signed else 'zext'} {from_type} {a} to {to_type}")
        return self.operation(f"trunc {from_type} {a} to {to_type}") if source.bits > target.bits else a

    def call(self, expr: Call) -> str:
        intrinsic, arguments = expr.intrinsic, [self.expr(a) for a in expr.arguments]
        if expr.lanes > 1:
            return llvm_vectors.print_call(self, expr, arguments)
        if intrinsic.llvm and (not intrinsic.feature or self.target.has(intrinsic.feature)):
            typed = [(TYPES[p.dtype], a) for p, a in zip(intrinsic.parameters, arguments, strict=True)]
            *setters, last = intrinsic.llvm.split()
            for name in setters:
                self.call_llvm(name, TYPES[intrinsic.dtype], typed)
            return self.call_llvm(last, TYPES[intrinsic.dtype], typed)
        return self.meaning(intrinsic, arguments)

    def meaning(self, intrinsic: Intrinsic, arguments: list[str]) -> str:
        """An intrinsic's result by its meaning."""
        outer = self.values
        self.values = {p.name: a for p, a in zip(intrinsic.parameters, arguments, strict=True)}
        for definition in intrinsic.definitions:
            self.values[definition.variable.name] = self.expr(definition.value)
        result = self.expr(intrinsic.result)
        self.values = outer
        return result

    def call_llvm(self, name: str, result: str, arguments: list[tuple[str, str]]) -> str:
        self.declarations.add(f"declare {result} @{name}({', '.join(t for t, _ in arguments)})")
        return self.operation(f"call {result} @{name}({', '.join(f'{t} {a}' for t, a in arguments)})")
