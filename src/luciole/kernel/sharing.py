"""Kernels that differ in integers only, made one kernel with scalar parameters: anti-unification.

    kernel f(out y: i8[8])      kernel g(out y: i8[6])           kernel h(out y: i8[8], number: i32, number_1: i32)
      for i in 0..8               for i in 0..6            ->      for i in 0..index(number)
        y[i] = 3                    y[i] = 5                         y[i] = i8(number_1)

Bounds, strides, offsets and the constants of arithmetic may differ; steps, alignments, divisors, and what a machine
instruction wants as a constant may not. Numbers that follow from others (`stride = 2 * width` in all of the kernels)
are computed from these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from luciole.ir.types import DType, row_major_strides
from luciole.kernel.core import (
    Binary,
    Body,
    Call,
    Cast,
    Constant,
    Define,
    Expr,
    Intrinsic,
    Kernel,
    Load,
    Parameter,
    Read,
    Store,
    Variable,
    Write,
    binary,
)
from luciole.kernel.rewrite import fresh_name, kernel_names

#: A number that differs is derived from another by a factor of at most this.
_LARGEST_FACTOR = 64

#: What takes the place of an integer: given its value and type, an expression, or `None` to keep it.
_Replace = Callable[[int, DType], Expr]


@dataclass(frozen=True)
class Template:
    """A kernel with its numbers taken out: `blank` is equal for kernels that can be one."""

    kernel: Kernel
    blank: Kernel
    values: tuple[int, ...]
    #: Which of the numbers are offsets of single accesses, where a register costs an instruction each time.
    is_offset: tuple[bool, ...]


@dataclass(frozen=True)
class SharedKernel:
    """One kernel for several, and the values of its scalars that make it each of them, in order."""

    kernel: Kernel
    scalars: tuple[tuple[int, ...], ...]


def template(kernel: Kernel) -> Template:
    """A kernel without its numbers; its buffers become vectors of any length, so that strides are numbers too."""
    flat = flattened(kernel)
    values: list[int] = []
    offsets: list[bool] = []

    def take(value: int, dtype: DType) -> Expr:
        values.append(value)
        offsets.append(dtype is DType.POINTER)
        return Constant(0, DType.INDEX if dtype is DType.POINTER else dtype)

    blank_parameters = tuple(replace(p, shape=(0,)) for p in flat.parameters)
    blank = replace(flat, name="", parameters=blank_parameters, body=_rebuilt(flat.body, take))
    return Template(flat, blank, tuple(values), tuple(offsets))


def flattened(kernel: Kernel) -> Kernel:
    """The kernel over buffers of one axis.

    y[i, j] = x[i, j]   ->   y[i * 6 + j] = x[i * 6 + j]
    """
    shapes = {p.name: p.shape for p in kernel.parameters}

    def flat(node: Any) -> Any:
        if isinstance(node, Load | Store):
            node = replace(node, indices=(_linear(node.indices, shapes[node.buffer]),))
        is_difference = isinstance(node, Binary) and node.operation == "sub" and node.dtype is DType.INDEX
        if is_difference and isinstance(node.b, Constant):
            return replace(node, operation="add", b=Constant(-int(node.b.value), DType.INDEX))
        return node

    parameters = tuple(replace(p, shape=(_elements(p),)) for p in kernel.parameters)
    return replace(kernel, parameters=parameters, body=_mapped(kernel.body, flat))


def share(templates: Sequence[Template], name: str) -> SharedKernel:
    """One kernel that is each of the templates' kernels for some values of its scalars.

    Raises `ValueError` when the templates are not equal.
    """
    first = templates[0]
    if any(t.blank != first.blank for t in templates):
        raise ValueError("kernels of different templates cannot be shared")
    columns = list(zip(*(t.values for t in templates), strict=True))
    taken = kernel_names(first.kernel)
    scalars: dict[tuple[int, ...], Variable] = {}
    derived: dict[tuple[int, ...], Variable] = {}
    definitions: list[Define] = []
    for column in columns:
        if len(set(column)) == 1 or column in scalars or column in derived:
            continue
        found = next((f for base in scalars if (f := _derivation(base, column)) is not None), None)
        if found is None:
            scalars[column] = Variable(fresh_name("number", taken), DType.I32)
            continue
        base, factor, constant = found
        derived[column] = Variable(fresh_name("derived", taken), DType.I32)
        definitions.append(Define(derived[column], scalars[base] * factor + constant))
    position = iter(columns)

    def put(value: int, dtype: DType) -> Expr:
        column = next(position)
        variable = scalars.get(column) or derived.get(column)
        wanted = DType.INDEX if dtype is DType.POINTER else dtype
        return Constant(value, wanted) if variable is None else _as(variable, wanted)

    body = _rebuilt(first.kernel.body, put)
    largest = tuple(
        replace(p, shape=(max(_elements(t.kernel.parameters[i]) for t in templates),))
        for i, p in enumerate(first.kernel.parameters)
    )
    kernel = replace(
        first.kernel, name=name, parameters=largest, body=(*definitions, *body), scalars=tuple(scalars.values())
    )
    return SharedKernel(kernel, tuple(zip(*scalars, strict=True)) if scalars else ((),) * len(templates))


def _derivation(base: tuple[int, ...], column: tuple[int, ...]) -> tuple[tuple[int, ...], int, int] | None:
    """`base`, factor and constant so that column = base * factor + constant, if there are such."""
    first = next(i for i in range(1, len(base)) if base[i] != base[0])
    factor, rest = divmod(column[first] - column[0], base[first] - base[0])
    constant = column[0] - base[0] * factor
    if rest or abs(factor) > _LARGEST_FACTOR or abs(constant) >= 1 << 31:
        return None
    return (
        (base, factor, constant) if all(b * factor + constant == c for b, c in zip(base, column, strict=True)) else None
    )


def _as(variable: Variable, dtype: DType) -> Expr:
    return variable if dtype is DType.I32 else Cast(variable, dtype)


def _elements(parameter: Parameter) -> int:
    count = 1
    for extent in parameter.shape:
        count *= extent
    return count


def _linear(indices: tuple[Expr, ...], shape: tuple[int, ...]) -> Expr:
    """The flat index, strides of 1 and indices of 0 written out, so that all kernels of an operator look alike."""
    linear: Expr | None = None
    for index, stride in zip(indices, row_major_strides(shape), strict=True):
        term = index if stride == 1 and len(indices) == 1 else Binary("mul", index, Constant(stride, DType.INDEX))
        linear = term if linear is None else Binary("add", linear, term)
    return linear if linear is not None else Constant(0, DType.INDEX)


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Statements, expressions and tuples of them with `function` applied to every node, inner ones first."""
    if isinstance(value, tuple):
        return tuple(_mapped(item, function) for item in value)
    if not is_dataclass(value) or isinstance(value, Intrinsic | type):
        return value
    changed = {}
    for field in fields(value):
        old = getattr(value, field.name)
        if field.init and (isinstance(old, tuple) or is_dataclass(old)):
            new = _mapped(old, function)
            if new is not old:
                changed[field.name] = new
    return function(replace(value, **changed) if changed else value)


def _rebuilt(body: Body, function: _Replace) -> Body:
    """A body with its numbers replaced, in the order in which they stand."""
    return tuple(_replaced(stmt, function) for stmt in body)


def _replaced(value: Any, function: _Replace) -> Any:
    if isinstance(value, tuple):
        return tuple(_replaced(item, function) for item in value)
    match value:
        case Constant():
            is_number = not value.dtype.is_float and value.dtype is not DType.BOOL
            fits = -(1 << 31) <= value.value < 1 << 31
            return function(int(value.value), value.dtype) if is_number and fits else value
        case Binary("divide" | "remainder"):
            return replace(value, a=_replaced(value.a, function))
        case Binary("shift_left" | "shift_right") if value.dtype in (DType.I64, DType.U64):
            return replace(value, a=_replaced(value.a, function))
        case Call() if value.intrinsic.llvm or value.intrinsic.c:
            kept = (a if isinstance(a, Constant) else _replaced(a, function) for a in value.arguments)
            return replace(value, arguments=tuple(kept))
        case Read() | Write():
            return _replaced_access(value, function)
    if not is_dataclass(value) or isinstance(value, Intrinsic | Variable | type):
        return value
    changed = {
        field.name: _replaced(getattr(value, field.name), function)
        for field in fields(value)
        if field.init and (isinstance(getattr(value, field.name), tuple) or is_dataclass(getattr(value, field.name)))
    }
    return replace(value, **changed) if changed else value


def _replaced_access(access: Read | Write, function: _Replace) -> Read | Write:
    """An access whose offset is a number like others: where it differs, it is added to the pointer."""
    pointer = _replaced(access.pointer, function)
    offset = function(access.offset, DType.POINTER)
    if isinstance(offset, Constant):
        access = replace(access, pointer=pointer, offset=int(offset.value))
    else:
        access = replace(access, pointer=binary("add", pointer, offset), offset=0)
    return replace(access, value=_replaced(access.value, function)) if isinstance(access, Write) else access
