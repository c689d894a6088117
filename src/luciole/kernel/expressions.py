"""Expressions, intrinsics, and how they are built: immutable values.

An expression is a scalar, or a vector of `lanes` numbers of one type, on which operations work lane by lane; `vectors`
has the expressions that only vectors know. Integer arithmetic wraps as in two's complement, except for `INDEX`, whose
arithmetic must not overflow. Floating-point operations are IEEE single or double precision, each rounded on its own
(nothing is contracted).

Shifts take amounts from 0 to one less than the width; `divide` and `remainder` truncate toward zero and never divide by
zero; a cast from float to integer truncates and must be in range. The interpreter checks all of these.
"""

from __future__ import annotations

from ctypes import c_float
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, lru_cache
from typing import Any

from luciole.ir.types import DType

BINARY_OPERATIONS = (
    "add", "sub", "mul", "divide", "remainder", "min", "max", "and", "or", "xor", "shift_left", "shift_right",
)  # fmt: skip
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
UNARY_OPERATIONS = ("neg", "not", "abs", "floor", "round_even", "sqrt")


def repr_without_defaults(value: Any) -> str:
    """As dataclasses print, without the fields that have their default values.

    Names of kernels depend on it: what a kernel does not use does not change its name.
    """

    shown = [
        f"{name}={own!r}"
        for name, default in _fields_and_defaults(value.__class__)
        if (own := getattr(value, name)) != default or default is MISSING
    ]
    return f"{type(value).__name__}({', '.join(shown)})"


@cache
def _fields_and_defaults(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """The names of a data class's fields with their default values; `MISSING` where there is none."""
    return tuple((f.name, f.default) for f in fields(kind))


def type_text(dtype: DType, lanes: int = 1) -> str:
    """A scalar's or vector's type as text: `i32`, `i32x4`."""
    return dtype.value if lanes == 1 else f"{dtype.value}x{lanes}"


class Expr:
    """Base of all expressions; each has a `dtype` and `lanes`, 1 for a scalar. Python operators build checked and
    folded expressions; a number beside a vector stands in all lanes.
    """

    __slots__ = ()
    dtype: DType
    #: How many numbers of the type it is.
    lanes: int = 1

    @property
    def type_text(self) -> str:
        """Its type as text."""
        return type_text(self.dtype, self.lanes)

    def as_data(self) -> Expr:
        """The expression as immutable data; a builder's register answers with its variable."""
        return self

    def __add__(self, other: Operand) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return binary("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return binary("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return binary("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return binary("divide", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        """Integer division, truncating toward zero as in C (not Python's floor)."""
        return binary("divide", self, other)

    def __mod__(self, other: Operand) -> Expr:
        """Integer remainder with the sign of the dividend, as in C."""
        return binary("remainder", self, other)

    def __and__(self, other: Operand) -> Expr:
        return binary("and", self, other)

    def __or__(self, other: Operand) -> Expr:
        return binary("or", self, other)

    def __xor__(self, other: Operand) -> Expr:
        return binary("xor", self, other)

    def __lshift__(self, other: Operand) -> Expr:
        return binary("shift_left", self, other)

    def __rshift__(self, other: Operand) -> Expr:
        return binary("shift_right", self, other)

    def __neg__(self) -> Expr:
        return Unary("neg", self.as_data())

    def __invert__(self) -> Expr:
        return Unary("not", self.as_data())

    def __lt__(self, other: Operand) -> Expr:
        return compare("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return compare("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return compare("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return compare("ge", self, other)

    def eq(self, other: Operand) -> Expr:
        """Whether both are equal (`==` compares expressions as data)."""
        return compare("eq", self, other)

    def ne(self, other: Operand) -> Expr:
        """Whether both differ."""
        return compare("ne", self, other)

    def cast(self, dtype: DType) -> Expr:
        """The value converted to another type."""
        return cast(self, dtype)


Operand = Expr | int | float


@dataclass(frozen=True, eq=True)
class Constant(Expr):
    """A literal number."""

    value: int | float
    dtype: DType


@dataclass(frozen=True)
class Variable(Expr):
    """A register: a loop variable, a scalar parameter, or one that `Define` made."""

    name: str
    dtype: DType
    lanes: int = 1

    def __repr__(self) -> str:
        return _variable_repr(self)


#: Kernels use their variables many times over, and names of kernels are made of what all of it prints.
_variable_repr = lru_cache(1024)(repr_without_defaults)


@dataclass(frozen=True)
class Splat(Expr):
    """A vector with one number in all lanes."""

    a: Expr
    lanes: int = field()

    @property
    def dtype(self) -> DType:  # type: ignore[override]  # a property stands for the base's attribute
        """The number's type."""
        return self.a.dtype


class Lanewise(Expr):
    """Base of what works lane by lane: as many lanes as its operand `a`."""

    __slots__ = ()
    a: Expr

    @property
    def lanes(self) -> int:  # type: ignore[override]  # a property stands for the base's attribute
        """Those of the operands."""
        return self.a.lanes


class OfOperandType(Lanewise):
    """Base of what is of the same type as its operand `a`."""

    __slots__ = ()

    @property
    def dtype(self) -> DType:  # type: ignore[override]  # a property stands for the base's attribute
        """The operands' type."""
        return self.a.dtype


@dataclass(frozen=True)
class Binary(OfOperandType):
    """`operation` of two operands of the same type (`shift_*`: the amount too). A pointer may be added to an `INDEX` in
    bytes.
    """

    operation: str
    a: Expr
    b: Expr


@dataclass(frozen=True)
class Unary(OfOperandType):
    """`neg`, `not` (bitwise, logical for bool), and for floats `abs`, `floor`, `round_even` (to nearest, ties to even),
    `sqrt`.
    """

    operation: str
    a: Expr


@dataclass(frozen=True)
class Compare(Lanewise):
    """A comparison of two operands of the same type; the result is `BOOL`. Pointers into one buffer compare too."""

    operation: str
    a: Expr
    b: Expr
    dtype: DType = field(default=DType.BOOL, init=False)


@dataclass(frozen=True)
class Select(OfOperandType):
    """`a` where the condition holds, else `b`, in each lane; both are evaluated."""

    condition: Expr
    a: Expr
    b: Expr


@dataclass(frozen=True)
class Cast(Lanewise):
    """Conversion of a value: integers wrap or extend, integer to float and float to narrower float round to nearest
    even, float to integer truncates.
    """

    a: Expr
    dtype: DType


@dataclass(frozen=True)
class Bitcast(Lanewise):
    """The same bits as another type of the same width."""

    a: Expr
    dtype: DType


@dataclass(frozen=True)
class Load(Expr):
    """An element of a buffer, one index an axis."""

    buffer: str
    indices: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True)
class Address(Expr):
    """A pointer to byte `offset` of a buffer."""

    buffer: str
    offset: Expr
    dtype: DType = field(default=DType.POINTER, init=False)


@dataclass(frozen=True)
class Read(Expr):
    """`dtype` read at `pointer` plus a constant number of bytes; little endian; the address is a multiple of
    `alignment`. A vector has its lanes one after the other; where a mask is false, the lane is 0 and its memory is not
    touched.
    """

    pointer: Expr
    offset: int
    dtype: DType
    alignment: int
    lanes: int = 1
    mask: Expr | None = None

    def __repr__(self) -> str:
        return repr_without_defaults(self)


@dataclass(frozen=True)
class Call(Expr):
    """An intrinsic applied to arguments, scalars or vectors of one number of lanes: to each lane."""

    intrinsic: Intrinsic
    arguments: tuple[Expr, ...]

    @property
    def dtype(self) -> DType:  # type: ignore[override]  # a property stands for the base's attribute
        """The intrinsic's result type."""
        return self.intrinsic.dtype

    @property
    def lanes(self) -> int:  # type: ignore[override]  # a property stands for the base's attribute
        """Those of the operands."""
        return max((a.lanes for a in self.arguments), default=1)


class Stmt:
    """Base of all statements."""

    __slots__ = ()


@dataclass(frozen=True)
class Define(Stmt):
    """A new register with its first value. Names are unique in a kernel."""

    variable: Variable
    value: Expr


@dataclass(frozen=True)
class Intrinsic:
    """A small function with a meaning of its own: straight-line definitions, then a result.

    Back ends print the meaning as a function, unless the target has `feature` and the intrinsic says how to spell it
    there: `c` (a C expression with `{name}` for each parameter) and `llvm` (the name of an LLVM intrinsic of the same
    signature; of several, separated by spaces, the last gives the result, and those before set flags that it reads).
    """

    name: str
    parameters: tuple[Variable, ...]
    dtype: DType
    definitions: tuple[Define, ...]
    result: Expr
    feature: str = ""
    c: str = ""
    llvm: str = ""

    def __call__(self, *arguments: Operand) -> Expr:
        """The intrinsic applied; numbers become constants of the parameter's type, and beside vectors vectors. Raises
        `TypeError` on a wrong argument.
        """
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, not {len(arguments)}")
        lanes = max((a.lanes for a in arguments if isinstance(a, Expr)), default=1)
        given = tuple(as_expr(a, p.dtype, lanes) for a, p in zip(arguments, self.parameters, strict=True))
        for argument, parameter in zip(given, self.parameters, strict=True):
            if argument.dtype is not parameter.dtype or argument.lanes != lanes:
                wanted = type_text(parameter.dtype, lanes)
                raise TypeError(f"{self.name}: {parameter.name} is {wanted}, given {argument.type_text}")
        return Call(self, given)


#: Every intrinsic by name, for the parser; filled by `define_intrinsic` when the modules that hold them are imported.
INTRINSICS: dict[str, Intrinsic] = {}


# Construction with checks and folding


def as_expr(value: Operand, dtype: DType, lanes: int = 1) -> Expr:
    """A number as a constant of `dtype`, floats rounded to it, in so many lanes; an expression as it is."""
    if isinstance(value, Expr):
        return value.as_data()
    if lanes > 1:
        return Splat(as_expr(value, dtype), lanes)
    if dtype.is_float:
        return Constant(float(value) if dtype is DType.F64 else c_float(value).value, dtype)
    if isinstance(value, float):
        raise TypeError(f"{value} is not a {dtype.value}")
    return Constant(wrap(int(value), dtype), dtype)


def wrap(value: int, dtype: DType) -> int:
    """`value` reduced to the range of an integer type, as two's complement wraps. `INDEX` must not overflow
    (`OverflowError`).
    """
    if dtype is DType.BOOL:
        return value & 1
    low, high = dtype.limits
    if low <= value <= high:
        return value
    if dtype is DType.INDEX:
        raise OverflowError(f"index arithmetic overflows: {value}")
    return (value - low) % (1 << dtype.bits) + low


def _fold(operation: str, a: int, b: int, dtype: DType) -> int | None:
    match operation:
        case "add":
            return wrap(a + b, dtype)
        case "sub":
            return wrap(a - b, dtype)
        case "mul":
            return wrap(a * b, dtype)
        case "min":
            return min(a, b)
        case "max":
            return max(a, b)
        case "divide" if b:
            return wrap(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1), dtype)
        case "remainder" if b:
            return abs(a) % abs(b) * (-1 if a < 0 else 1)
        case "and":
            return a & b
        case "or":
            return a | b
        case "xor":
            return a ^ b
        case "shift_left" if 0 <= b < dtype.bits:
            return wrap(a << b, dtype)
        case "shift_right" if 0 <= b < dtype.bits:
            return a >> b
    return None


def _beside(a: Operand, b: Operand) -> Expr:
    """A first operand, which takes the type of the second when it is a number."""
    return as_expr(a, b.dtype, b.lanes) if isinstance(b, Expr) else as_expr(a, DType.INDEX)


def _check_alike(operation: str, a: Expr, b: Expr) -> None:
    if a.dtype is not b.dtype or a.lanes != b.lanes:
        raise TypeError(f"{operation} of {a.type_text} and {b.type_text}")


def binary(operation: str, a: Operand, b: Operand) -> Expr:
    """A binary operation, folded where both are integer constants or one is neutral; one of what is the same in all
    lanes is done once. Raises `TypeError` when types differ.
    """
    left = _beside(a, b)
    right = as_expr(b, DType.INDEX if left.dtype is DType.POINTER else left.dtype, left.lanes)
    if left.dtype is DType.POINTER:
        if operation not in ("add", "sub") or right.dtype is not DType.INDEX:
            raise TypeError(f"{operation} of a pointer and {right.dtype.value}")
    else:
        _check_alike(operation, left, right)
    if isinstance(left, Splat) and isinstance(right, Splat):
        return Splat(binary(operation, left.a, right.a), left.lanes)
    if isinstance(right, Constant) and not left.dtype.is_float:
        value = int(right.value)
        if isinstance(left, Constant):
            folded = _fold(operation, int(left.value), value, left.dtype)
            if folded is not None:
                return Constant(folded, left.dtype)
        if value == 0 and operation in ("add", "sub", "or", "xor", "shift_left", "shift_right"):
            return left
        if value == 1 and operation in ("mul", "divide"):
            return left
        if value == 0 and operation in ("mul", "and"):
            return right
        if left.dtype is DType.INDEX and operation in ("add", "sub") and isinstance(left, Binary):
            return _fold_index_sum(left, value if operation == "add" else -value)
    if isinstance(left, Constant) and not left.dtype.is_float:
        value = int(left.value)
        if value == 0 and operation == "add":
            return right
        if value == 1 and operation == "mul":
            return right
        if value == 0 and operation == "mul":
            return left
    return Binary(operation, left, right)


def _fold_index_sum(left: Binary, value: int) -> Expr:
    """(a + c1) + c2 -> a + (c1 + c2), for indices, which do not overflow."""
    if left.operation in ("add", "sub") and isinstance(left.b, Constant):
        value += int(left.b.value) if left.operation == "add" else -int(left.b.value)
        left_operand: Expr = left.a
    else:
        left_operand = left
    if value == 0:
        return left_operand
    return Binary("add" if value > 0 else "sub", left_operand, Constant(abs(value), DType.INDEX))


def compare(operation: str, a: Operand, b: Operand) -> Expr:
    """A comparison; folded when both are constants. Raises `TypeError` when types differ."""
    left = _beside(a, b)
    right = as_expr(b, left.dtype, left.lanes)
    _check_alike(operation, left, right)
    if isinstance(left, Constant) and isinstance(right, Constant):
        x, y = left.value, right.value
        known = {"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[operation]
        return Constant(int(known), DType.BOOL)
    return Compare(operation, left, right)


def cast(value: Operand, dtype: DType) -> Expr:
    """The value as another type; nothing when it is that type already."""
    if not isinstance(value, Expr):
        return as_expr(value, dtype)
    value = value.as_data()
    if value.dtype is dtype:
        return value
    if isinstance(value, Constant) and not value.dtype.is_float and not dtype.is_float:
        if dtype is DType.BOOL:
            return Constant(int(value.value != 0), dtype)
        return Constant(wrap(int(value.value), dtype), dtype)
    return Cast(value, dtype)


def select(condition: Expr, a: Operand, b: Operand) -> Expr:
    """`a` if the condition holds, else `b`. Raises `TypeError` when types differ."""
    condition = condition.as_data()
    left = _beside(a, b)
    right = as_expr(b, left.dtype, left.lanes)
    _check_alike("select", left, right)
    if condition.lanes != left.lanes:
        raise TypeError(f"select of {left.type_text} by {condition.type_text}")
    if isinstance(condition, Constant):
        return left if condition.value else right
    return Select(condition, left, right)


def minimum(a: Operand, b: Operand) -> Expr:
    """The smaller of two."""
    return binary("min", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    """The larger of two."""
    return binary("max", a, b)


def clamp(value: Expr, low: Operand, high: Operand) -> Expr:
    """`value` moved into low..high."""
    return minimum(maximum(value, low), high)
