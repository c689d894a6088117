"""Loops over elements as loops over vectors.

Recipes write what happens to one element and mark the loop (`is_vector`); for targets with vectors `vectorize` makes
them, and all others run the loop as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from luciole.ir.types import DType, Shape, row_major_strides
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Body,
    Call,
    Cast,
    Comment,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    Kernel,
    Load,
    Read,
    Select,
    Splat,
    Stmt,
    Store,
    Unary,
    Variable,
    Write,
    binary,
    maximum,
)
from luciole.kernel.intervals import Interval, interval, register_bounds
from luciole.kernel.pointers import PointerRoots, pointer_roots, roots_of
from luciole.kernel.rewrite import fresh_name, kernel_names, rewrite_body
from luciole.kernel.vectors import ActiveLanes, Dot, Gather
from luciole.kernel.walk import children, map_expr, walk_expr, with_children

#: Another meaning of an intrinsic, from its arguments, that takes fewer instructions on vectors.
VectorForm = Callable[[tuple[Expr, ...]], Expr]


@dataclass(frozen=True)
class VectorUnit:
    """What the vectors of a core are.

    A vector has `bits`. Loops of at most `unrolled_vectors` whole vectors are written out. `forms` has intrinsics that
    vectors compute in another way, by name.
    """

    bits: int
    unrolled_vectors: int
    forms: Mapping[str, VectorForm]


def vectorize(kernel: Kernel, unit: VectorUnit) -> Kernel:
    """Each marked loop by vectors of as many elements as fit for the widest number that varies in it.

        for i in 0..21 vectors     ->   total = dot(total, read.i8x16(p), read.i8x16(q))
          total = total +               mask: boolx16 = active.boolx16(5)
            i32(read.i8(p + i)) *       total = dot(total, read.i8x16(p + 16, mask=mask),
            i32(read.i8(q + i))                     read.i8x16(q + 16, mask=mask))

        for i in 0..n vectors      ->   for i in 0..n step 4
          y[i] = i8(i32(x[i]) + 1)        mask: boolx4 = active.boolx4(n - i)
                                          write.i8x4(address(y, i), mask=mask) =
                                            i8x4(i32x4(read.i8x4(address(x, i), mask=mask)) + 1)

    A loop whose bounds show that it has no more elements than a vector is one vector under a mask. The turns must be
    independent: no buffer is written and read; registers from outside are only sums of products of
    bytes. Raises `ValueError` for a marked loop that cannot become one of vectors.
    """
    surroundings = _Surroundings(
        kernel.name,
        kernel_names(kernel),
        pointer_roots(kernel.body),
        {p.name: p.shape for p in kernel.parameters},
        register_bounds(kernel.body),
    )

    def rule(stmt: Stmt) -> Body | None:
        if not isinstance(stmt, For) or not stmt.is_vector:
            return None
        return _VectorLoop(stmt, unit, surroundings).statements()

    return replace(kernel, body=rewrite_body(kernel.body, rule))


@dataclass(frozen=True)
class _Surroundings:
    """What is known of a kernel: all its names, where pointers lead, shapes of buffers, bounds of registers."""

    kernel: str
    names: set[str]
    roots: PointerRoots
    shapes: Mapping[str, Shape]
    known: Mapping[str, Interval]


class _VectorLoop:
    """One loop on its way to vectors."""

    def __init__(self, loop: For, unit: VectorUnit, surroundings: _Surroundings) -> None:
        self.loop = loop
        self.unit = unit
        self.surroundings = surroundings
        self.names = surroundings.names
        #: Registers of the body that differ from turn to turn.
        self.varying = {loop.variable.name}
        #: What stands for the body's registers and the loop's variable in the vector at hand.
        self.values: dict[str, Expr] = {}
        self.mask: Expr | None = None
        #: Registers of the body that have been defined in a vector before; each vector has its own.
        self.defined: set[str] = set()
        if loop.step != 1:
            raise self.problem(f"its step is {loop.step}")
        self.lanes = unit.bits // self.widest()
        self.check_memory()

    def problem(self, reason: str) -> ValueError:
        """Why the loop has no vectors."""
        return ValueError(
            f"loop {self.loop.variable.name} of {self.surroundings.kernel} cannot become vectors: {reason}"
        )

    # What fits

    def varies(self, expr: Expr) -> bool:
        return any(isinstance(node, Variable) and node.name in self.varying for node in walk_expr(expr))

    def widest(self) -> int:
        """Bits of the widest number that varies."""
        widths = [8]
        for stmt in self.loop.body:
            match stmt:
                case Define():
                    if self.varies(stmt.value):
                        self.varying.add(stmt.variable.name)
                        widths += self.widths(stmt.value)
                case Assign():
                    widths += [width for factor in self.factors(stmt) for width in self.widths(factor)]
                case Store() | Write():
                    widths += self.widths(stmt.value)
                case Comment():
                    pass
                case _:
                    raise self.problem(f"{type(stmt).__name__.lower()} in its body")
        return max(widths)

    def widths(self, expr: Expr) -> list[int]:
        """Bits of the numbers that vary in an expression; those within addresses do not count."""
        if expr.dtype is DType.POINTER or expr.dtype.bits > 32:
            raise self.problem(f"a number of {expr.dtype.value}")
        own = [expr.dtype.bits]
        match expr:
            case Binary() | Unary() | Compare() | Select() | Cast() | Call() if self.varies(expr):
                return own + [width for operand in children(expr) for width in self.widths(operand)]
            case Load() if self.is_scattered(expr):
                return own + [width for index in expr.indices for width in self.widths(index)]
        return own

    def factors(self, stmt: Assign) -> tuple[Expr, Expr]:
        """The two factors of bytes of register = register + a * b."""
        match stmt.value:
            case Binary("add", Variable() as total, Binary("mul", Cast() as a, Cast() as b)):
                bytes_only = all(c.a.dtype in (DType.I8, DType.U8) and c.dtype is DType.I32 for c in (a, b))
                if total == stmt.variable and bytes_only:
                    return a.a, b.a
        raise self.problem(f"{stmt.variable.name} is no sum of products of bytes")

    def check_memory(self) -> None:
        """No turn may read what another one writes: buffers that are written are not read."""
        written: set[str] = set()
        read: set[str] = set()
        for stmt in self.loop.body:
            if isinstance(stmt, Store):
                written.add(stmt.buffer)
            elif isinstance(stmt, Write):
                written |= self.buffers(stmt.pointer)
            if isinstance(stmt, Define | Assign | Store | Write):
                for node in walk_expr(stmt.value):
                    if isinstance(node, Load):
                        read.add(node.buffer)
                    elif isinstance(node, Read):
                        read |= self.buffers(node.pointer)
        if written & read:
            raise self.problem(f"{', '.join(sorted(written & read))} is written and read")

    def buffers(self, pointer: Expr) -> set[str]:
        found = roots_of(pointer, self.surroundings.roots)
        if not found:
            raise self.problem("a pointer may lead anywhere")
        return found

    # The loop

    def statements(self) -> Body:
        """What takes the place of the loop."""
        begin, end = self.loop.begin, self.loop.end
        if not (isinstance(begin, Constant) and isinstance(end, Constant)):
            return self.masked(begin, end)
        first, count = int(begin.value), max(int(end.value) - int(begin.value), 0)
        middle = first + count // self.lanes * self.lanes
        result: list[Stmt] = []
        if middle - first <= self.unit.unrolled_vectors * self.lanes:
            for i in range(first, middle, self.lanes):
                result += self.turn(_index(i))
        else:
            body = self.turn(self.loop.variable)
            result.append(replace(self.loop, end=_index(middle), step=self.lanes, body=body, is_vector=False))
        if rest := count % self.lanes:
            result += self.turn(_index(middle), _index(rest))
        return tuple(result)

    def masked(self, begin: Expr, end: Expr) -> Body:
        """Every vector under a mask; a loop only where there may be more than one."""
        count = interval(binary("sub", end, begin), self.surroundings.known)
        if count.high > self.lanes:
            body = self.turn(self.loop.variable, binary("sub", end, self.loop.variable))
            return (replace(self.loop, step=self.lanes, body=body, is_vector=False),)
        left = binary("sub", end, begin)
        return self.turn(begin, left if count.low >= 0 else maximum(left, 0))

    def turn(self, index: Expr, left: Expr | None = None) -> Body:
        """One vector of elements from an index on, all of them or as many as are left."""
        self.values = {self.loop.variable.name: index}
        result: list[Stmt] = []
        self.mask = None
        if left is not None:
            self.mask = Variable(fresh_name("mask", self.names), DType.BOOL, self.lanes)
            result.append(Define(self.mask, ActiveLanes(left, self.lanes)))
        return (*result, *(self.statement(stmt) for stmt in self.loop.body))

    def statement(self, stmt: Stmt) -> Stmt:
        match stmt:
            case Define():
                varies = self.varies(stmt.value)
                value = self.vector(stmt.value) if varies else self.scalar(stmt.value)
                old = stmt.variable
                name = fresh_name(old.name, self.names) if old.name in self.defined else old.name
                self.defined.add(old.name)
                variable = Variable(name, old.dtype, value.lanes)
                self.values[old.name] = variable
                return Define(variable, value)
            case Assign():
                a, b = self.factors(stmt)
                return Assign(stmt.variable, Dot(stmt.variable, self.vector(a), self.vector(b)))
            case Store():
                return self.write(*self.element(stmt.buffer, stmt.indices, stmt.value.dtype), stmt.value, 0)
            case Write():
                self.check_step(stmt.pointer, stmt.value.dtype)
                return self.write(self.scalar(stmt.pointer), stmt.offset, stmt.value, stmt.alignment)
        return stmt

    def write(self, pointer: Expr, offset: int, value: Expr, alignment: int) -> Write:
        return Write(pointer, offset, self.vector(value), alignment or value.dtype.size_bytes, self.mask)

    # Memory

    def element(self, buffer: str, indices: tuple[Expr, ...], dtype: DType) -> tuple[Expr, int]:
        """Pointer and offset of an element from which a vector begins."""
        linear = self.linear(buffer, indices)
        step = self.step(linear)
        if step != 1:
            raise self.problem(f"elements of {buffer} are {step} apart")
        return Address(buffer, binary("mul", self.scalar(linear), dtype.size_bytes)), 0

    def linear(self, buffer: str, indices: tuple[Expr, ...]) -> Expr:
        """The number of an element from the beginning of a buffer."""
        linear: Expr = _index(0)
        for index, stride in zip(indices, row_major_strides(self.surroundings.shapes[buffer]), strict=True):
            linear = binary("add", linear, binary("mul", index, stride))
        return linear

    def is_scattered(self, expr: Load) -> bool:
        """Whether the index of an element depends on data."""
        return any(self.varies(node) for index in expr.indices for node in walk_expr(index) if isinstance(node, Cast))

    def check_step(self, pointer: Expr, dtype: DType) -> None:
        if self.step(pointer) != dtype.size_bytes:
            raise self.problem("it does not move by one element a turn")

    def step(self, expr: Expr) -> int:
        """How much an index or pointer moves from one turn to the next."""
        if not self.varies(expr):
            return 0
        match expr:
            case Variable() if expr.name == self.loop.variable.name:
                return 1
            case Binary("add"):
                return self.step(expr.a) + self.step(expr.b)
            case Binary("sub"):
                return self.step(expr.a) - self.step(expr.b)
            case Binary("mul", _, Constant() as factor):
                return self.step(expr.a) * int(factor.value)
            case Address():
                return self.step(expr.offset)
        raise self.problem("an address does not move by a constant")

    # Values

    def scalar(self, expr: Expr) -> Expr:
        """An expression over the registers of the vector at hand that is the same in all turns, or an address."""

        def rule(node: Expr) -> Expr | None:
            return self.values.get(node.name) if isinstance(node, Variable) else None

        return map_expr(expr, rule)

    def vector(self, expr: Expr) -> Expr:
        if not self.varies(expr):
            return Splat(self.scalar(expr), self.lanes)
        match expr:
            case Variable() if expr.name in self.values and expr.name != self.loop.variable.name:
                return self.values[expr.name]
            case Load() if self.is_scattered(expr):
                offsets = self.vector(binary("mul", self.linear(expr.buffer, expr.indices), expr.dtype.size_bytes))
                return Gather(Address(expr.buffer, _index(0)), offsets, expr.dtype, self.mask)
            case Load():
                pointer, offset = self.element(expr.buffer, expr.indices, expr.dtype)
                return Read(pointer, offset, expr.dtype, expr.dtype.size_bytes, self.lanes, self.mask)
            case Read():
                self.check_step(expr.pointer, expr.dtype)
                return replace(expr, pointer=self.scalar(expr.pointer), lanes=self.lanes, mask=self.mask)
            case Call():
                arguments = tuple(self.vector(argument) for argument in expr.arguments)
                form = self.unit.forms.get(expr.intrinsic.name)
                return Call(expr.intrinsic, arguments) if form is None else form(arguments)
            case Binary() | Unary() | Compare() | Select() | Cast():
                return with_children(expr, tuple(self.vector(operand) for operand in children(expr)))
        raise self.problem(f"the value of {type(expr).__name__.lower()}")


def _index(number: int) -> Constant:
    return Constant(number, DType.INDEX)
