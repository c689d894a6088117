"""The meaning of expressions in numpy: on scalars for the interpreter, on whole arrays for operators' `compute`.

Integers wrap as numpy arrays do; floats are float32 or float64, each operation rounded on its own, so the bits are
those of any IEEE machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from luciole.ir.types import Array, DType
from luciole.kernel.core import (
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Constant,
    Expr,
    Intrinsic,
    Select,
    Splat,
    Unary,
    Variable,
)
from luciole.kernel.vectors import ActiveLanes, Dot, Lanes, Reduce

Values = Mapping[str, Array]


class EvaluationError(Exception):
    """An operation outside its domain: overflow of an index, a shift too far, a division by zero, a float that fits no
    integer.
    """


def _check_shift(amount: Array, dtype: DType) -> None:
    if np.any(amount < 0) or np.any(amount >= dtype.bits):
        raise EvaluationError(f"shift of {dtype.value} by {amount}")


def _divide(a: Array, b: Array, dtype: DType) -> Array:
    if dtype.is_float:
        return np.asarray(np.divide(a, b))
    if np.any(b == 0):
        raise EvaluationError("division by zero")
    quotient = np.abs(np.asarray(a).astype(object)) // np.abs(np.asarray(b).astype(object))
    sign = np.where((a < 0) == (b < 0), 1, -1).astype(object)
    return _wrapped(quotient * sign, dtype)


def _remainder(a: Array, b: Array, dtype: DType) -> Array:
    quotient = _divide(a, b, dtype).astype(object)
    return _wrapped(a.astype(object) - quotient * b.astype(object), dtype)


def _wrapped(value: Any, dtype: DType) -> Array:
    """Exact Python integers back in `dtype`, wrapped."""
    low, _ = dtype.limits
    return np.asarray((np.asarray(value, dtype=object) - low) % (1 << dtype.bits) + low).astype(dtype.numpy)


_INTEGER: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shift_left": np.left_shift,
    "shift_right": np.right_shift,
}


def binary_value(operation: str, a: Array, b: Array, dtype: DType) -> Array:
    """One binary operation on arrays of `dtype`. Raises `EvaluationError` outside its domain."""
    if operation == "divide":
        return _divide(a, b, dtype)
    if operation == "remainder":
        return _remainder(a, b, dtype)
    if operation.startswith("shift"):
        _check_shift(b, dtype)
    if dtype.is_float and operation in ("min", "max"):
        # As `a < b ? a : b` and `a > b ? a : b`: the second operand when either is not a number.
        return np.where(a < b if operation == "min" else a > b, a, b)
    result = _INTEGER[operation](a, b)
    if dtype is DType.INDEX:
        exact = _INTEGER[operation](a.astype(np.int64), b.astype(np.int64))
        if np.any(exact != result):
            raise EvaluationError(f"index arithmetic overflows: {operation} of {a} and {b}")
    return np.asarray(result)


def unary_value(operation: str, a: Array, dtype: DType) -> Array:
    """One unary operation on an array of `dtype`."""
    match operation:
        case "neg":
            return np.asarray(np.negative(a))
        case "not":
            return np.asarray(np.logical_not(a) if dtype is DType.BOOL else np.bitwise_not(a))
        case "abs":
            return np.asarray(np.abs(a))
        case "floor":
            return np.asarray(np.floor(a))
        case "round_even":
            return np.asarray(np.rint(a))
        case "sqrt":
            return np.asarray(np.sqrt(a))
    raise EvaluationError(f"no unary operation {operation}")


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def compare_value(operation: str, a: Array, b: Array) -> Array:
    """One comparison on arrays."""
    return np.asarray(_COMPARE[operation](a, b))


def cast_value(a: Array, source: DType, target: DType) -> Array:
    """A conversion. Raises `EvaluationError` when a float does not fit the integer type."""
    if source.is_float and target.is_integer:
        low, high = target.limits
        truncated = np.trunc(a.astype(np.float64))
        if not np.all((truncated >= low) & (truncated <= high)):
            raise EvaluationError(f"cast of {a} to {target.value} is out of range")
        return truncated.astype(target.numpy)
    if target is DType.INDEX and source.is_integer:
        low, high = target.limits
        if np.any(a.astype(np.int64) < low) or np.any(a.astype(np.int64) > high):
            raise EvaluationError(f"cast of {a} to index is out of range")
    return a.astype(target.numpy)


def active_lanes(count: Array, lanes: int) -> Array:
    """The mask of `ActiveLanes`. Raises `EvaluationError` for a negative count."""
    if np.any(count < 0):
        raise EvaluationError(f"a mask of {count} lanes")
    return np.asarray(np.arange(lanes) < count)


def dot_value(accumulator: Array, a: Array, b: Array) -> Array:
    """The value of `Dot`: `i32`, one for a scalar accumulator, else as many lanes as that has."""
    products = a.astype(np.int32) * b.astype(np.int32)
    sums = products.reshape(np.size(accumulator), -1).sum(axis=1, dtype=np.int32)
    return np.asarray(accumulator + sums.reshape(np.shape(accumulator)))


def reduce_value(operation: str, a: Array) -> Array:
    """The value of `Reduce` over the lanes of a vector."""
    match operation:
        case "add":
            return np.asarray(a.sum(axis=-1, dtype=a.dtype))
        case "min":
            return np.asarray(a.min(axis=-1))
        case "max":
            return np.asarray(a.max(axis=-1))
    raise EvaluationError(f"no reduction {operation}")


def evaluate(expr: Expr, values: Values) -> Array:
    """The value of an expression without memory accesses, given its variables: arrays of any shape for scalars, of
    `lanes` for vectors. Raises `EvaluationError` outside its domain.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        return _evaluate(expr, values)


def _evaluate(expr: Expr, values: Values) -> Array:
    match expr:
        case Variable():
            return values[expr.name]
        case Constant():
            return np.asarray(expr.value, dtype=expr.dtype.numpy)
        case Binary():
            return binary_value(expr.operation, _evaluate(expr.a, values), _evaluate(expr.b, values), expr.dtype)
        case Compare():
            return compare_value(expr.operation, _evaluate(expr.a, values), _evaluate(expr.b, values))
        case Unary():
            return unary_value(expr.operation, _evaluate(expr.a, values), expr.dtype)
        case Select():
            condition = _evaluate(expr.condition, values)
            return np.where(condition, _evaluate(expr.a, values), _evaluate(expr.b, values))
        case Cast():
            return cast_value(_evaluate(expr.a, values), expr.a.dtype, expr.dtype)
        case Bitcast():
            return np.asarray(_evaluate(expr.a, values), order="C").view(expr.dtype.numpy)
        case Call():
            return call_value(expr.intrinsic, [_evaluate(a, values) for a in expr.arguments])
        case Splat():
            return np.full(expr.lanes, _evaluate(expr.a, values))
        case Lanes():
            return np.asarray([_evaluate(e, values) for e in expr.elements], expr.dtype.numpy)
        case ActiveLanes():
            return active_lanes(_evaluate(expr.count, values), expr.lanes)
        case Dot():
            return dot_value(*(_evaluate(e, values) for e in (expr.accumulator, expr.a, expr.b)))
        case Reduce():
            return reduce_value(expr.operation, _evaluate(expr.a, values))
    raise EvaluationError(f"{type(expr).__name__} is not a pure expression")


def call_value(intrinsic: Intrinsic, arguments: list[Array]) -> Array:
    """An intrinsic applied to arrays by its meaning: elementwise, with broadcasting."""
    values = {p.name: a for p, a in zip(intrinsic.parameters, arguments, strict=True)}
    for definition in intrinsic.definitions:
        values[definition.variable.name] = _evaluate(definition.value, values)
    return _evaluate(intrinsic.result, values)


def apply_intrinsic(intrinsic: Intrinsic, *arguments: Array) -> Array:
    """An intrinsic as a numpy function; arguments must have the parameters' types."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        result: Array = call_value(intrinsic, [np.asarray(a) for a in arguments])
    return result.reshape(np.broadcast_shapes(*(np.shape(a) for a in arguments)))  # an array of no axes too
