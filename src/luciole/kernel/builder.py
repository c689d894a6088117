"""Kernels written in Python: registers, loops as `with` blocks, views that index with brackets.

k = LoopBuilder("scale")
x, y = k.buffer("in", "x", DType.I8, (16,)), k.buffer("out", "y", DType.I8, (16,))
with k.loop("i", 16) as i:
    y[i] = x[i] + 1
kernel = k.build()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from luciole.ir.types import DType, Shape
from luciole.kernel.core import (
    INTRINSICS,
    Address,
    Assign,
    Comment,
    Define,
    Expr,
    Fence,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Operand,
    Parameter,
    ParameterKind,
    Read,
    Repeat,
    Stmt,
    Store,
    Variable,
    Write,
    as_expr,
)


class Register(Expr):
    """A register that a builder made; `r += e` and `r.set(e)` append assignments to that builder's kernel."""

    def __init__(self, variable: Variable, builder: LoopBuilder) -> None:
        self.variable = variable
        self.dtype = variable.dtype
        self.lanes = variable.lanes
        self._builder = builder

    def as_data(self) -> Variable:
        """The variable that expressions hold."""
        return self.variable

    def set(self, value: Operand) -> None:
        """Append `register = value`. Raises `TypeError` when the types differ."""
        expr = as_expr(value, self.dtype, self.lanes)
        if expr.dtype is not self.dtype or expr.lanes != self.lanes:
            raise TypeError(f"{self.variable.name} is {self.type_text}, given {expr.type_text}")
        self._builder.append(Assign(self.variable, expr))

    def __iadd__(self, value: Operand) -> Register:
        self.set(self.variable + value)
        return self

    def __isub__(self, value: Operand) -> Register:
        self.set(self.variable - value)
        return self


class View:
    """A buffer parameter; `view[i, j]` loads an element and `view[i, j] = e` stores one. A scalar tensor takes
    `view[()]`.
    """

    def __init__(self, builder: LoopBuilder, parameter: Parameter) -> None:
        self._builder = builder
        self.parameter = parameter

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.parameter.dtype

    @property
    def shape(self) -> Shape:
        """The static shape."""
        return self.parameter.shape

    def _indices(self, key: Operand | tuple[Operand, ...]) -> tuple[Expr, ...]:
        indices = key if isinstance(key, tuple) else (key,)
        if len(indices) != len(self.shape):
            raise TypeError(f"{self.name} has {len(self.shape)} axes, indexed with {len(indices)}")
        return tuple(as_expr(i, DType.INDEX) for i in indices)

    def __getitem__(self, key: Operand | tuple[Operand, ...]) -> Expr:
        return Load(self.name, self._indices(key), self.dtype)

    def __setitem__(self, key: Operand | tuple[Operand, ...], value: Operand) -> None:
        expr = as_expr(value, self.dtype)
        if expr.dtype is not self.dtype:
            raise TypeError(f"{self.name} holds {self.dtype.value}, given {expr.dtype.value}")
        self._builder.append(Store(self.name, self._indices(key), expr))

    def address(self, offset_bytes: Operand = 0) -> Expr:
        """A pointer to a byte of the buffer."""
        return Address(self.name, as_expr(offset_bytes, DType.INDEX))


class LoopBuilder:
    """Collects parameters and statements; `build()` gives the kernel."""

    def __init__(self, name: str, *, is_scheduled: bool = False) -> None:
        self.name = name
        self.is_scheduled = is_scheduled
        self._parameters: list[Parameter] = []
        self._scalars: list[Variable] = []
        self._bodies: list[list[Stmt]] = [[]]
        self._names: dict[str, int] = {}

    # Parameters

    def buffer(self, kind: ParameterKind, name: str, dtype: DType, shape: Shape, alignment: int = 1) -> View:
        """A buffer parameter."""
        parameter = Parameter(kind, self._unique(name), dtype, shape, max(alignment, dtype.size_bytes))
        self._parameters.append(parameter)
        return View(self, parameter)

    def scalar(self, name: str) -> Variable:
        """An `i32` parameter."""
        variable = Variable(self._unique(name), DType.I32)
        self._scalars.append(variable)
        return variable

    def build(self) -> Kernel:
        """The kernel as an immutable value."""
        (body,) = self._bodies
        return Kernel(self.name, tuple(self._parameters), tuple(body), tuple(self._scalars), self.is_scheduled)

    # Statements

    def append(self, stmt: Stmt) -> None:
        """Append a statement to the innermost open body."""
        self._bodies[-1].append(stmt)

    def define(self, name: str, value: Operand, dtype: DType | None = None) -> Register:
        """A register with a first value; `name` gets a number appended when it is taken."""
        expr = as_expr(value, dtype or DType.I32)
        register = self._register(name, expr.dtype, expr.lanes)
        self.append(Define(register.variable, expr))
        return register

    def define_all(self, names: tuple[str, str], values: tuple[Operand, Operand]) -> tuple[Operand, Operand]:
        """Registers for both values, but numbers stay numbers."""
        first, second = (
            self.define(name, value) if isinstance(value, Expr) else value
            for name, value in zip(names, values, strict=True)
        )
        return first, second

    @contextmanager
    def loop(
        self, name: str, begin: Operand, end: Operand | None = None, step: int = 1, *, is_vector: bool = False
    ) -> Iterator[Register]:
        """`with k.loop("i", n) as i` runs 0..n; `k.loop("i", a, b)` runs a..b; `is_vector` asks for vectors."""
        first, last = (0, begin) if end is None else (begin, end)
        register = self._register(name, DType.INDEX)
        with self._nested() as body:
            yield register
        bounds = as_expr(first, DType.INDEX), as_expr(last, DType.INDEX)
        self.append(For(register.variable, *bounds, step, tuple(body), is_vector))

    @contextmanager
    def nest(self, name: str, *sizes: int) -> Iterator[tuple[Register, ...]]:
        """Loops in one another: `with k.nest("i", 2, 3) as (i, j)` runs every pair, the last one fastest."""
        with ExitStack() as stack:
            yield tuple(stack.enter_context(self.loop(name, size)) for size in sizes)

    @contextmanager
    def repeat_while(self, condition: Callable[[], Expr]) -> Iterator[None]:
        """A loop that runs once, and again while `condition()`, evaluated after the body, holds."""
        with self._nested() as body:
            yield
            test = condition().as_data()
        self.append(Repeat(tuple(body), test))

    @contextmanager
    def if_(self, condition: Expr) -> Iterator[None]:
        """A body that runs when the condition holds; `else_()` may follow."""
        with self._nested() as body:
            yield
        self.append(If(condition.as_data(), tuple(body)))

    @contextmanager
    def else_(self) -> Iterator[None]:
        """The other branch of the `if_` just before."""
        with self._nested() as body:
            yield
        last = self._bodies[-1].pop()
        assert isinstance(last, If) and not last.otherwise, "else_() follows if_()"
        self.append(If(last.condition, last.then, tuple(body)))

    def fence(self, *, holds_arithmetic: bool = False) -> None:
        """Let no memory access be scheduled across this point, or nothing at all; emits nothing."""
        self.append(Fence(holds_arithmetic))

    def comment(self, text: str) -> None:
        """A remark for readers of the kernel's text and C."""
        self.append(Comment(text))

    def write(
        self,
        pointer: Expr,
        offset: int,
        value: Operand,
        dtype: DType = DType.I32,
        alignment: int = 0,
        mask: Expr | None = None,
    ) -> None:
        """Write a value at a pointer plus a constant number of bytes; natural alignment unless given."""
        expr = as_expr(value, dtype)
        given = None if mask is None else mask.as_data()
        self.append(Write(pointer.as_data(), offset, expr, alignment or expr.dtype.size_bytes, given))

    # Expressions

    def read(
        self,
        pointer: Expr,
        offset: int,
        dtype: DType,
        alignment: int = 0,
        lanes: int = 1,
        mask: Expr | None = None,
    ) -> Expr:
        """A value at a pointer plus a constant number of bytes; natural alignment of its elements unless given."""
        given = None if mask is None else mask.as_data()
        return Read(pointer.as_data(), offset, dtype, alignment or dtype.size_bytes, lanes, given)

    # Internal

    def _unique(self, name: str) -> str:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if count == 0 else self._unique(f"{name}_{count}")

    def _register(self, name: str, dtype: DType, lanes: int = 1) -> Register:
        return Register(Variable(self._unique(name), dtype, lanes), self)

    @contextmanager
    def _nested(self) -> Iterator[list[Stmt]]:
        self._bodies.append([])
        try:
            yield self._bodies[-1]
        finally:
            self._bodies.pop()


class IntrinsicBuilder:
    """Gathers the definitions of an intrinsic's meaning."""

    def __init__(self) -> None:
        self.definitions: list[Define] = []

    def let(self, name: str, value: Expr) -> Variable:
        """Name an intermediate value."""
        variable = Variable(name, value.dtype)
        self.definitions.append(Define(variable, value))
        return variable


def define_intrinsic(
    name: str, result: DType, *, feature: str = "", c: str = "", llvm: str = "", **parameters: DType
) -> Callable[[Callable[..., Expr]], Intrinsic]:
    """Decorate the meaning of an intrinsic: a function of a `IntrinsicBuilder` and the parameters, returning the
    result.
    """
    return partial(_make_intrinsic, name, result, feature, c, llvm, parameters)


def _make_intrinsic(
    name: str, result: DType, feature: str, c: str, llvm: str, types: dict[str, DType], meaning: Callable[..., Expr]
) -> Intrinsic:
    parameters = tuple(Variable(n, t) for n, t in types.items())
    builder = IntrinsicBuilder()
    value = meaning(builder, *parameters)
    if value.dtype is not result:
        raise TypeError(f"intrinsic {name} gives {value.dtype.value}, declared {result.value}")
    if name in INTRINSICS:
        raise ValueError(f"two intrinsics are named {name}")
    intrinsic = Intrinsic(name, parameters, result, tuple(builder.definitions), value, feature, c, llvm)
    INTRINSICS[name] = intrinsic
    return intrinsic
