"""What integers an expression can have: sound bounds, so that back ends and the verifier can leave checks out.

Every bound is closed. A register of unknown value has the bounds of its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from luciole.ir.types import DType
from luciole.kernel.core import (
    Assign,
    Binary,
    Bitcast,
    Body,
    Cast,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    Select,
    Splat,
    Unary,
    Variable,
)
from luciole.kernel.walk import walk


class Interval(NamedTuple):
    """All integers from `low` to `high`, both included."""

    low: int
    high: int

    def fits(self, dtype: DType) -> bool:
        """Whether every number of the interval is one of the type."""
        bounds = of_type(dtype)
        return bounds.low <= self.low and self.high <= bounds.high

    def union(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


Known = Mapping[str, Interval]


def of_type(dtype: DType) -> Interval:
    """All values of an integer type or of `BOOL`."""
    return Interval(0, 1) if dtype is DType.BOOL else Interval(*dtype.limits)


def exact_interval(operation: str, a: Interval, b: Interval, bits: int) -> Interval | None:
    """Bounds of a binary operation on unbounded integers, before any wrapping; `None` where nothing is known."""
    match operation:
        case "add":
            return Interval(a.low + b.low, a.high + b.high)
        case "sub":
            return Interval(a.low - b.high, a.high - b.low)
        case "mul":
            return _hull(x * y for x in a for y in b)
        case "min":
            return Interval(min(a.low, b.low), min(a.high, b.high))
        case "max":
            return Interval(max(a.low, b.low), max(a.high, b.high))
        case "divide" if b.low > 0 or b.high < 0:
            return _hull(_truncated(x, y) for x in a for y in b)
        case "remainder" if b.low > 0 or b.high < 0:
            largest = max(abs(b.low), abs(b.high)) - 1
            return Interval(max(min(a.low, 0), -largest), min(max(a.high, 0), largest))
        case "and" if a.low >= 0 or b.low >= 0:
            return Interval(0, min(x.high for x in (a, b) if x.low >= 0))
        case "or" | "xor" if a.low >= 0 and b.low >= 0:
            lowest = max(a.low, b.low) if operation == "or" else 0
            return Interval(lowest, (1 << max(a.high, b.high).bit_length()) - 1)
        case "shift_left" if b.low >= 0 and b.high < bits:
            return _hull(x << y for x in a for y in b)
        case "shift_right" if b.low >= 0 and b.high < bits:
            return _hull(x >> y for x in a for y in b)
    return None


def _hull(values: object) -> Interval:
    numbers = [int(v) for v in values]  # type: ignore[attr-defined]  # any iterable of integers
    return Interval(min(numbers), max(numbers))


def _truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def interval(expr: Expr, known: Known) -> Interval:
    """Bounds of an expression of integer type or `BOOL`, given bounds of some registers; never wrong, at times wide."""
    everything = of_type(expr.dtype)
    bounds = _unwrapped(expr, known)
    if bounds is None:
        return everything
    if bounds.fits(expr.dtype):
        return bounds
    if expr.dtype is DType.INDEX:
        # Index arithmetic never overflows, so what lies outside does not happen.
        low, high = max(bounds.low, everything.low), min(bounds.high, everything.high)
        return Interval(low, high) if low <= high else everything
    return everything


def binary_interval(expr: Binary, known: Known) -> Interval | None:
    """Bounds of a binary integer operation before it wraps; `None` where nothing is known."""
    return exact_interval(expr.operation, interval(expr.a, known), interval(expr.b, known), expr.dtype.bits)


def register_bounds(body: Body) -> dict[str, Interval]:
    """Bounds of all registers of a kernel that keep their first value, and of loop variables; names are unique."""
    known: dict[str, Interval] = {}
    assigned = {stmt.variable.name for stmt in walk(body) if isinstance(stmt, Assign)}
    for stmt in walk(body):
        match stmt:
            case For():
                begin, end = interval(stmt.begin, known), interval(stmt.end, known)
                known[stmt.variable.name] = Interval(begin.low, max(begin.low, end.high - 1))
            case Define() if stmt.variable.name not in assigned:
                dtype = stmt.variable.dtype
                if dtype.is_integer or dtype is DType.BOOL:
                    known[stmt.variable.name] = interval(stmt.value, known)
    return known


def _unwrapped(expr: Expr, known: Known) -> Interval | None:
    match expr:
        case Constant():
            return Interval(int(expr.value), int(expr.value))
        case Variable():
            return known.get(expr.name)
        case Binary():
            return binary_interval(expr, known)
        case Unary() if expr.dtype is not DType.BOOL:
            inner = interval(expr.a, known)
            if expr.operation == "neg":
                return Interval(-inner.high, -inner.low)
            if expr.operation == "not":
                top = -1 if expr.dtype.is_signed else expr.dtype.limits[1]
                return Interval(top - inner.high, top - inner.low)
            return None
        case Select():
            return interval(expr.a, known).union(interval(expr.b, known))
        case Splat():
            return interval(expr.a, known)
        case Cast() if not expr.a.dtype.is_float and expr.dtype is not DType.BOOL:
            return interval(expr.a, known)
        case Bitcast() if not expr.a.dtype.is_float:
            inner = interval(expr.a, known)
            return inner if inner.fits(expr.dtype) else None
        case Compare():
            decided = decide(expr, known)
            return None if decided is None else Interval(int(decided), int(decided))
    return None


def decide(expr: Compare, known: Known) -> bool | None:
    """The outcome of a comparison of integers, where the bounds of its operands tell."""
    if not (expr.a.dtype.is_integer or expr.a.dtype is DType.BOOL):
        return None
    a, b = interval(expr.a, known), interval(expr.b, known)
    match expr.operation:
        case "lt":
            return True if a.high < b.low else False if a.low >= b.high else None
        case "le":
            return True if a.high <= b.low else False if a.low > b.high else None
        case "gt":
            return True if a.low > b.high else False if a.high <= b.low else None
        case "ge":
            return True if a.low >= b.high else False if a.high < b.low else None
        case "eq":
            return True if a.low == a.high == b.low == b.high else False if a.high < b.low or b.high < a.low else None
        case "ne":
            return False if a.low == a.high == b.low == b.high else True if a.high < b.low or b.high < a.low else None
    return None
