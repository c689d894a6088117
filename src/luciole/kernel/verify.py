"""The invariants of kernels, checked between the stages.

1. Parameters, scalars and registers have names, all different.
2. A register is read or assigned only where its definition has run: after it, in its body or one nested there; the
   condition of `Repeat` stands at the end of its body. It has the type of its definition.
3. The value of `Define`, `Assign` and `Store` has the type of its target; conditions are `bool`; bounds and indices are
   `index`; a value written to memory is no pointer.
4. Operands agree: both of one type (a pointer moves by an `index`), and of one for which the operation exists; a `Cast`
   is between numbers or `bool`, a `Bitcast` between numbers of one width; `Select` has a `bool` and two alike.
5. Only registers that `Define` made are assigned: no loop variable, scalar or buffer.
6. A buffer is named by a parameter, indexed once an axis, and loaded as its type. An index whose bounds are known does
   not lie outside for all its values.
7. Inputs are not written, neither by `Store` nor through a pointer that leads only to inputs.
8. A loop's step is positive.
9. Alignments are powers of two. An access asks for no more than every buffer that the pointer leads to has; where the
   address is known it is a multiple and inside the buffer.
10. Constants are in the range of their type; shifts by known amounts stay below the width; no divisor is known to be 0.
11. A call has the parameters' types, and an intrinsic's meaning reads its parameters and earlier definitions only.
12. Buffers hold numbers or `bool`, in a shape of sizes that are not negative; scalars are `i32`.
13. Pointers that are compared may lead to one buffer.
14. Operands of one operation have as many lanes, from 1 to 64, and so have a register and its values. Addresses,
    indices, bounds, conditions of statements and what `Store` writes are scalars; no vector is of pointers. A mask is
    `bool` and has the lanes of its access.
15. `Dot` sums bytes to `i32`, as many for each lane of the accumulator; `Reduce` is of integers, by an operation that
    there is.

What cannot be decided is not a problem: the interpreter checks it on data. Code that provably never runs is not checked
for 6, 9 and 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from luciole.errors import InternalError
from luciole.ir.types import DType
from luciole.kernel.core import (
    BINARY_OPERATIONS,
    COMPARISONS,
    UNARY_OPERATIONS,
    Address,
    Assign,
    Binary,
    Bitcast,
    Body,
    Call,
    Cast,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Parameter,
    Read,
    Repeat,
    Select,
    Splat,
    Stmt,
    Store,
    Unary,
    Variable,
    Write,
)
from luciole.kernel.expressions import type_text
from luciole.kernel.intervals import Interval, interval
from luciole.kernel.pointers import pointer_roots, roots_of
from luciole.kernel.rewrite import assigned_names
from luciole.kernel.text import stmt_text, value_text
from luciole.kernel.vectors import MAXIMUM_LANES, REDUCTIONS, ActiveLanes, Dot, Gather, Lanes, Reduce
from luciole.kernel.walk import children

_FLOAT_OPERATIONS = ("add", "sub", "mul", "divide", "min", "max")
_BOOL_OPERATIONS = ("min", "max", "and", "or", "xor")


def verify_kernel(kernel: Kernel) -> None:
    """Check the invariants above. Raises `InternalError` with every violation: number, what is wrong, the statement."""
    problems = kernel_problems(kernel)
    if problems:
        raise InternalError(f"kernel {kernel.name} is not valid:\n" + "\n".join(f"  {p}" for p in problems))


def kernel_problems(kernel: Kernel) -> list[str]:
    """The violations of the invariants, each as `[number] what is wrong: statement`."""
    return list(dict.fromkeys(_Verifier(kernel).problems()))


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.parameters = {p.name: p for p in kernel.parameters}
        self.assigned = assigned_names(kernel.body)
        self.roots = pointer_roots(kernel.body)
        self.names: set[str] = set()
        #: Registers that can be read here, with their types and lanes.
        self.visible: dict[str, tuple[DType, int]] = {}
        self.assignable: set[str] = set()
        self.known: dict[str, Interval] = {}
        self.is_dead = False
        self.checked: set[str] = set()

    def problems(self) -> Iterator[str]:
        for parameter in self.kernel.parameters:
            yield from self.parameter(parameter)
        for scalar in self.kernel.scalars:
            yield from self.name(scalar.name, "scalar")
            if scalar.dtype is not DType.I32:
                yield f"[12] scalar {scalar.name} is {scalar.dtype.value}, not i32"
            self.visible[scalar.name] = scalar.dtype, 1
        yield from self.body(self.kernel.body)

    def name(self, name: str, what: str) -> Iterator[str]:
        if not name:
            yield f"[1] a {what} has no name"
        if name in self.names:
            yield f"[1] the name {name} is given twice"
        self.names.add(name)

    def parameter(self, parameter: Parameter) -> Iterator[str]:
        yield from self.name(parameter.name, "parameter")
        if parameter.dtype in (DType.INDEX, DType.POINTER):
            yield f"[12] buffer {parameter.name} holds {parameter.dtype.value}"
        if any(size < 0 for size in parameter.shape):
            yield f"[12] buffer {parameter.name} has the shape {list(parameter.shape)}"
        if not _is_power_of_two(parameter.alignment):
            yield f"[9] buffer {parameter.name} is aligned to {parameter.alignment}"

    # Statements

    def body(self, body: Body, condition: Expr | None = None, owner: Stmt | None = None) -> Iterator[str]:
        """A scope: registers defined in it are gone after it, and after the condition of a `Repeat`."""
        before = dict(self.visible), set(self.assignable)
        for stmt in body:
            yield from self.statement(stmt)
        if condition is not None and owner is not None:
            yield from self.in_statement(owner, self.condition(condition))
        self.visible, self.assignable = before

    def in_statement(self, stmt: Stmt, problems: Iterator[str]) -> Iterator[str]:
        """Problems with the line of the statement."""
        found = list(problems)
        if not found:
            return
        try:
            lines = stmt_text(stmt)
            line = lines[-1 if isinstance(stmt, Repeat) else 0]
        except (InternalError, KeyError, AttributeError):
            line = str(stmt)
        for problem in found:
            yield f"{problem}: {line}"

    def statement(self, stmt: Stmt) -> Iterator[str]:
        match stmt:
            case Define():
                yield from self.in_statement(stmt, self.define(stmt))
                self.visible[stmt.variable.name] = stmt.variable.dtype, stmt.variable.lanes
                self.assignable.add(stmt.variable.name)
            case Assign():
                yield from self.in_statement(stmt, self.assign(stmt))
            case Store():
                yield from self.in_statement(stmt, self.store(stmt))
            case Write():
                yield from self.in_statement(stmt, self.write(stmt))
            case For():
                yield from self.in_statement(stmt, self.loop(stmt))
                yield from self.loop_body(stmt)
            case Repeat():
                yield from self.body(stmt.body, stmt.condition, stmt)
            case If():
                yield from self.in_statement(stmt, self.condition(stmt.condition))
                yield from self.branch(stmt)

    def define(self, stmt: Define) -> Iterator[str]:
        yield from self.name(stmt.variable.name, "register")
        yield from self.typed(stmt.value, stmt.variable.dtype, 3, stmt.variable.name, stmt.variable.lanes)
        name, dtype = stmt.variable.name, stmt.variable.dtype
        if name not in self.assigned and _is_countable(dtype) and stmt.value.dtype is dtype:
            self.known[name] = interval(stmt.value, self.known)

    def assign(self, stmt: Assign) -> Iterator[str]:
        name = stmt.variable.name
        if name not in self.assignable:
            is_known = name in self.visible or name in self.parameters
            yield f"[5] {name} cannot be assigned" if is_known else f"[2] {name} is assigned before it is defined"
        elif self.visible[name] != (stmt.variable.dtype, stmt.variable.lanes):
            yield f"[2] {name} is {type_text(*self.visible[name])}, assigned as {stmt.variable.type_text}"
        yield from self.typed(stmt.value, stmt.variable.dtype, 3, name, stmt.variable.lanes)

    def store(self, stmt: Store) -> Iterator[str]:
        yield from self.indices(stmt.buffer, stmt.indices)
        parameter = self.parameters.get(stmt.buffer)
        yield from self.expression(stmt.value)
        if parameter is None:
            return
        if parameter.kind == "in":
            yield f"[7] the input {parameter.name} is written"
        if stmt.value.dtype is not parameter.dtype:
            yield f"[3] {parameter.name} holds {parameter.dtype.value}, given {stmt.value.dtype.value}"
        if stmt.value.lanes != 1:
            yield f"[14] {stmt.value.type_text} is stored to an element of {parameter.name}"

    def write(self, stmt: Write) -> Iterator[str]:
        yield from self.expression(stmt.value)
        if stmt.value.dtype is DType.POINTER:
            yield "[3] a pointer is written to memory"
            return
        if stmt.mask is not None:
            yield from self.expression(stmt.mask)
        yield from self.access(stmt.pointer, stmt.offset, stmt.value, stmt.alignment, stmt.mask)
        buffers = [self.parameters[b] for b in sorted(roots_of(stmt.pointer, self.roots)) if b in self.parameters]
        if buffers and all(b.kind == "in" for b in buffers):
            yield f"[7] the input {buffers[0].name} is written"

    def loop(self, stmt: For) -> Iterator[str]:
        yield from self.name(stmt.variable.name, "loop variable")
        if stmt.variable.dtype is not DType.INDEX:
            yield f"[3] loop variable {stmt.variable.name} is {stmt.variable.dtype.value}, not index"
        if stmt.step < 1:
            yield f"[8] the step of {stmt.variable.name} is {stmt.step}"
        for bound in (stmt.begin, stmt.end):
            yield from self.typed(bound, DType.INDEX, 3, "a bound")

    def loop_body(self, stmt: For) -> Iterator[str]:
        is_dead = self.is_dead
        if stmt.begin.dtype is DType.INDEX and stmt.end.dtype is DType.INDEX:
            begin, end = interval(stmt.begin, self.known), interval(stmt.end, self.known)
            self.is_dead = is_dead or begin.low >= end.high
            self.known[stmt.variable.name] = Interval(begin.low, max(begin.low, end.high - 1))
        self.visible[stmt.variable.name] = stmt.variable.dtype, stmt.variable.lanes
        yield from self.body(stmt.body)
        del self.visible[stmt.variable.name]
        self.is_dead = is_dead

    def branch(self, stmt: If) -> Iterator[str]:
        is_dead = self.is_dead
        known = interval(stmt.condition, self.known) if stmt.condition.dtype is DType.BOOL else Interval(0, 1)
        self.is_dead = is_dead or not known.high
        yield from self.body(stmt.then)
        self.is_dead = is_dead or bool(known.low)
        yield from self.body(stmt.otherwise)
        self.is_dead = is_dead

    # Expressions

    def condition(self, expr: Expr) -> Iterator[str]:
        yield from self.typed(expr, DType.BOOL, 3, "a condition")

    def typed(self, expr: Expr, dtype: DType, number: int, what: str, lanes: int = 1) -> Iterator[str]:
        yield from self.expression(expr)
        if expr.dtype is not dtype:
            yield f"[{number}] {what} is {dtype.value}, given {expr.dtype.value}"
        elif expr.lanes != lanes:
            yield f"[14] {what} is {type_text(dtype, lanes)}, given {expr.type_text}"

    def expression(self, expr: Expr) -> Iterator[str]:
        """Problems of an expression, those of its operands first."""
        for child in children(expr):
            yield from self.expression(child)
        yield from self.lanes(expr)
        match expr:
            case Constant():
                yield from self.constant(expr)
            case Variable():
                if expr.name not in self.visible:
                    yield f"[2] {expr.name} is read before it is defined"
                elif self.visible[expr.name] != (expr.dtype, expr.lanes):
                    yield f"[2] {expr.name} is {type_text(*self.visible[expr.name])}, read as {expr.type_text}"
            case Binary():
                yield from self.binary(expr)
            case Compare():
                yield from self.compare(expr)
            case Unary():
                yield from self.unary(expr)
            case Select():
                if expr.condition.dtype is not DType.BOOL or expr.a.dtype is not expr.b.dtype:
                    types = ", ".join(e.dtype.value for e in children(expr))
                    yield f"[4] select of {types}"
            case Cast():
                if {DType.POINTER, DType.F16} & {expr.a.dtype, expr.dtype}:
                    yield f"[4] {expr.a.dtype.value} cannot become {expr.dtype.value}"
            case Bitcast():
                kinds = (expr.a.dtype, expr.dtype)
                if DType.POINTER in kinds or DType.BOOL in kinds or kinds[0].bits != kinds[1].bits:
                    yield f"[4] the bits of {kinds[0].value} are no {kinds[1].value}"
            case Load():
                yield from self.load(expr)
            case Address():
                if expr.buffer not in self.parameters:
                    yield f"[6] no buffer is named {expr.buffer}"
                if expr.offset.dtype is not DType.INDEX:
                    yield f"[3] an offset is index, given {expr.offset.dtype.value}"
            case Read():
                yield from self.access(expr.pointer, expr.offset, expr, expr.alignment, expr.mask)
            case Gather():
                if expr.pointer.dtype is not DType.POINTER:
                    yield f"[4] memory at {expr.pointer.dtype.value}"
                if expr.offsets.dtype is not DType.INDEX:
                    yield f"[3] offsets are index, given {expr.offsets.dtype.value}"
            case ActiveLanes():
                if expr.count.dtype is not DType.INDEX:
                    yield f"[3] a count is index, given {expr.count.dtype.value}"
            case Dot():
                factors = (expr.a.dtype, expr.b.dtype)
                if expr.dtype is not DType.I32 or any(t not in (DType.I8, DType.U8) for t in factors):
                    yield f"[15] dot of {', '.join(e.type_text for e in children(expr))}"
            case Reduce():
                if expr.operation not in REDUCTIONS or not expr.dtype.is_integer or expr.dtype is DType.INDEX:
                    yield f"[15] reduce_{expr.operation} of {expr.dtype.value}"
            case Call():
                yield from self.call(expr)

    def lanes(self, expr: Expr) -> Iterator[str]:
        """Violations of 14 by a node, whose operands are checked already."""
        if not 1 <= expr.lanes <= MAXIMUM_LANES or (expr.lanes > 1 and expr.dtype is DType.POINTER):
            yield f"[14] there is no {expr.type_text}"
        found = {child.lanes for child in children(expr)}
        match expr:
            case Load() | Address() | ActiveLanes() | Splat():
                is_right = found <= {1}
            case Lanes():
                is_right = found == {1} and expr.lanes > 1 and len({e.dtype for e in expr.elements}) == 1
            case Read():
                is_right = expr.pointer.lanes == 1
            case Gather():
                is_right = expr.pointer.lanes == 1 and expr.lanes > 1 and _is_mask(expr.mask, expr.lanes)
            case Reduce():
                is_right = expr.a.lanes > 1
            case Dot():
                is_right = expr.a.lanes == expr.b.lanes and expr.a.lanes % expr.lanes == 0 and expr.a.lanes > 1
            case _:
                is_right = len(found) <= 1
        if not is_right:
            types = ", ".join(child.type_text for child in children(expr))
            yield f"[14] {type(expr).__name__.lower()} of {types}"

    def constant(self, expr: Constant) -> Iterator[str]:
        dtype = expr.dtype
        if dtype is DType.POINTER:
            yield "[10] a pointer has no constants"
        elif dtype.is_float:
            return
        elif expr.value != int(expr.value) or not Interval(int(expr.value), int(expr.value)).fits(dtype):
            yield f"[10] {expr.value} is no {dtype.value}"

    def binary(self, expr: Binary) -> Iterator[str]:
        operation, a, b = expr.operation, expr.a.dtype, expr.b.dtype
        if operation not in BINARY_OPERATIONS:
            yield f"[4] there is no operation {operation}"
        elif a is DType.POINTER:
            if operation not in ("add", "sub") or b is not DType.INDEX:
                yield f"[4] {operation} of pointer and {b.value}"
        elif a is not b:
            yield f"[4] {operation} of {a.value} and {b.value}"
        elif (
            a is DType.F16
            or (a.is_float and operation not in _FLOAT_OPERATIONS)
            or (a is DType.BOOL and operation not in _BOOL_OPERATIONS)
        ):
            yield f"[4] {operation} of {a.value}"
        elif a.is_integer and not self.is_dead:
            amount = interval(expr.b, self.known)
            if operation.startswith("shift") and (amount.high < 0 or amount.low >= a.bits):
                yield f"[10] {a.value} shifted by {value_text(expr.b)}"
            if operation in ("divide", "remainder") and amount == (0, 0):
                yield f"[10] {operation} by 0"

    def compare(self, expr: Compare) -> Iterator[str]:
        a, b = expr.a.dtype, expr.b.dtype
        if expr.operation not in COMPARISONS:
            yield f"[4] there is no comparison {expr.operation}"
        elif a is not b or a is DType.F16:
            yield f"[4] {expr.operation} of {a.value} and {b.value}"
        elif a is DType.POINTER:
            left, right = roots_of(expr.a, self.roots), roots_of(expr.b, self.roots)
            if left and right and not left & right:
                yield f"[13] pointers into {', '.join(sorted(left))} and {', '.join(sorted(right))} are compared"

    def unary(self, expr: Unary) -> Iterator[str]:
        operation, dtype = expr.operation, expr.dtype
        if operation not in UNARY_OPERATIONS:
            yield f"[4] there is no operation {operation}"
            return
        is_right = {
            "neg": dtype.is_integer or dtype.is_float,
            "not": dtype.is_integer or dtype is DType.BOOL,
        }.get(operation, dtype.is_float)
        if not is_right:
            yield f"[4] {operation} of {dtype.value}"

    def load(self, expr: Load) -> Iterator[str]:
        # The operands are checked already; here they count and their bounds matter.
        yield from self.indices(expr.buffer, expr.indices, is_checked=True)
        parameter = self.parameters.get(expr.buffer)
        if parameter is not None and parameter.dtype is not expr.dtype:
            yield f"[6] {parameter.name} holds {parameter.dtype.value}, loaded as {expr.dtype.value}"

    def indices(self, buffer: str, indices: tuple[Expr, ...], is_checked: bool = False) -> Iterator[str]:
        for index in indices:
            if not is_checked:
                yield from self.expression(index)
            if index.dtype is not DType.INDEX:
                yield f"[3] an index of {buffer} is {index.dtype.value}"
        parameter = self.parameters.get(buffer)
        if parameter is None:
            yield f"[6] no buffer is named {buffer}"
            return
        if len(indices) != len(parameter.shape):
            yield f"[6] {buffer} has {len(parameter.shape)} axes, indexed with {len(indices)}"
            return
        if self.is_dead:
            return
        for axis, (index, size) in enumerate(zip(indices, parameter.shape, strict=True)):
            if index.dtype is DType.INDEX:
                bounds = interval(index, self.known)
                if bounds.high < 0 or bounds.low >= size:
                    yield f"[6] index {value_text(index)} of axis {axis} of {buffer} is outside 0..{size}"

    def access(self, pointer: Expr, offset: int, value: Expr, alignment: int, mask: Expr | None) -> Iterator[str]:
        dtype = value.dtype
        if not _is_mask(mask, value.lanes):
            yield f"[14] a mask of {value.type_text} is {mask.type_text if mask is not None else ''}"
        if pointer.dtype is not DType.POINTER:
            yield f"[4] memory at {pointer.dtype.value}"
            return
        if dtype is DType.POINTER:
            yield "[3] a pointer is read from memory"
            return
        if not _is_power_of_two(alignment):
            yield f"[9] an access is aligned to {alignment}"
            return
        for buffer in sorted(roots_of(pointer, self.roots)):
            parameter = self.parameters.get(buffer)
            if parameter is not None and _is_power_of_two(parameter.alignment) and parameter.alignment < alignment:
                yield f"[9] {buffer} is aligned to {parameter.alignment}, accessed with {alignment}"
        if isinstance(pointer, Address) and isinstance(pointer.offset, Constant) and not self.is_dead:
            size = dtype.size_bytes * (value.lanes if mask is None else 1)
            yield from self.known_access(pointer.buffer, int(pointer.offset.value) + offset, size, alignment)

    def known_access(self, buffer: str, address: int, accessed: int, alignment: int) -> Iterator[str]:
        if address % alignment:
            yield f"[9] address {address} of {buffer} is not a multiple of {alignment}"
        parameter = self.parameters.get(buffer)
        if parameter is not None and parameter.dtype not in (DType.INDEX, DType.POINTER):
            size = math.prod(parameter.shape) * parameter.dtype.size_bytes
            if not 0 <= address <= size - accessed:
                yield f"[9] bytes {address}..{address + accessed} are outside {buffer} of {size} bytes"

    def call(self, expr: Call) -> Iterator[str]:
        intrinsic = expr.intrinsic
        given, wanted = [a.dtype for a in expr.arguments], [p.dtype for p in intrinsic.parameters]
        if given != wanted:
            yield (
                f"[11] {intrinsic.name} takes ({', '.join(t.value for t in wanted)}), "
                f"given ({', '.join(t.value for t in given)})"
            )
        if intrinsic.name not in self.checked:
            self.checked.add(intrinsic.name)
            yield from intrinsic_problems(intrinsic)


def intrinsic_problems(intrinsic: Intrinsic) -> Iterator[str]:
    """Violations of 11 in an intrinsic itself: memory in its meaning, or a name that it does not have."""
    names = {p.name: p.dtype for p in intrinsic.parameters}
    for what, expr in [*((d.variable, d.value) for d in intrinsic.definitions), (None, intrinsic.result)]:
        stack = [expr]
        while stack:
            node = stack.pop()
            stack += children(node)
            if isinstance(node, Load | Read | Gather | Address):
                yield f"[11] the meaning of {intrinsic.name} touches memory"
            if isinstance(node, Variable) and names.get(node.name) is not node.dtype:
                yield f"[11] the meaning of {intrinsic.name} reads {node.name}"
        dtype = intrinsic.dtype if what is None else what.dtype
        if expr.dtype is not dtype:
            yield f"[11] the meaning of {intrinsic.name} gives {expr.dtype.value} for {dtype.value}"
        if what is not None:
            names[what.name] = what.dtype


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _is_mask(mask: Expr | None, lanes: int) -> bool:
    """Whether an access of so many lanes may have the mask; one of scalars has none."""
    return mask is None or (mask.dtype is DType.BOOL and mask.lanes == lanes and lanes > 1)


def _is_countable(dtype: DType) -> bool:
    return dtype.is_integer or dtype is DType.BOOL
