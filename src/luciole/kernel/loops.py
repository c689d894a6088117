"""Transforms of loops: unrolled, split into blocks, split at points.

A loop is named by its variable. All raise `ValueError` when there is no such loop or it cannot be transformed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from luciole.ir.types import DType
from luciole.kernel.core import (
    Body,
    Constant,
    Define,
    Expr,
    For,
    Kernel,
    Operand,
    Stmt,
    Variable,
    as_expr,
    maximum,
    minimum,
)
from luciole.kernel.rewrite import (
    assigned_names,
    defined_names,
    fresh_name,
    is_stable,
    kernel_names,
    rename_body,
    rewrite_body,
    substitute_body,
)
from luciole.kernel.walk import walk


def find_loop(kernel: Kernel, loop: str) -> For:
    """The loop whose variable has this name."""
    for stmt in walk(kernel.body):
        if isinstance(stmt, For) and stmt.variable.name == loop:
            return stmt
    raise ValueError(f"kernel {kernel.name} has no loop {loop}")


def unroll(kernel: Kernel, loop: str, factor: int | None = None) -> Kernel:
    """The body once for each turn, or, with a factor, `factor` times a turn and a loop for the turns that are left.

        for i in 0..2              ->   t: i32 = x[0]                     # the bounds are constants
          t: i32 = x[i]                 y[0] = t
          y[i] = t                      t_1: i32 = x[1]
                                        y[1] = t_1

        for i in 0..7              ->   for i in 0..6 step 3              # unroll(kernel, "i", 3)
          y[i] = x[i]                     y[i] = x[i]
                                          y[i + 1] = x[i + 1]
                                          y[i + 2] = x[i + 2]
                                        for i_1 in 6..7
                                          y[i_1] = x[i_1]

    Registers that the body defines get names of their own in each copy. With a factor the bounds may be variable.
    """
    names = kernel_names(kernel)
    if factor is not None:
        return _replace_loop(kernel, loop, lambda stmt: _unrolled_by(kernel, stmt, factor, names))
    return _replace_loop(kernel, loop, lambda stmt: _copies(stmt, [_index(i) for i in _turns(stmt)], names))


def _unrolled_by(kernel: Kernel, stmt: For, factor: int, names: set[str]) -> Body:
    if factor < 1:
        raise ValueError(f"loop {stmt.variable.name} cannot be unrolled by {factor}")
    setup, begin, end = _stable_bounds(kernel, stmt, names)
    block = factor * stmt.step
    middle = begin + (maximum(end - begin, 0) + (stmt.step - 1)) // stmt.step // factor * block
    result: list[Stmt] = list(setup)
    if not _is_empty(begin, middle):
        body = _copies(stmt, [stmt.variable + j * stmt.step for j in range(factor)], names)
        result.append(For(stmt.variable, begin, middle, block, body))
    if not _is_empty(middle, end):
        tail = replace(stmt, begin=middle, end=end)
        result.append(tail if _is_empty(begin, middle) else _renamed(tail, names))
    return tuple(result)


def split(kernel: Kernel, loop: str, factor: int) -> Kernel:
    """Two loops in place of one: over blocks of `factor` turns, and within a block; a last loop has what is left.

        for i in 0..10             ->   for i_outer in 0..8 step 4        # split(kernel, "i", 4)
          y[i] = x[i]                     for i in 0..4
                                            y[i_outer + i] = x[i_outer + i]
                                        for i_1 in 8..10
                                          y[i_1] = x[i_1]

    The bounds are constants, so that the inner loop has as many turns each time.
    """
    if factor < 1:
        raise ValueError(f"loop {loop} cannot be split by {factor}")
    names = kernel_names(kernel)

    def rule(stmt: For) -> Body:
        turns, block = _turns(stmt), factor * stmt.step
        middle = turns.start + len(turns) // factor * block
        tail = replace(stmt, begin=_index(middle))
        if len(turns) < factor:
            return (tail,)
        outer = Variable(fresh_name(f"{loop}_outer", names), DType.INDEX)
        body = substitute_body(stmt.body, {loop: outer + stmt.variable})
        inner = replace(stmt, begin=_index(0), end=_index(block), body=body)
        whole = For(outer, _index(turns.start), _index(middle), block, (inner,))
        return (whole, _renamed(tail, names)) if len(turns) % factor else (whole,)

    return _replace_loop(kernel, loop, rule)


def split_at(kernel: Kernel, loop: str, *points: Operand) -> Kernel:
    """The loop as several, one after the other, that meet at the points; `prune` then resolves conditions in each.

        for i in 0..10             ->   for i in 0..1                     # split_at(kernel, "i", 1, 9)
          if i >= 1 and i < 9             if i >= 1 and i < 9
            y[i] = x[i]                     y[i] = x[i]
                                        for i_1 in 1..9
                                          if i_1 >= 1 and i_1 < 9
                                            y[i_1] = x[i_1]
                                        for i_2 in 9..10
                                          ...

    Points ascend and lie on the loop's steps; one outside the bounds counts as the bound.
    """
    names = kernel_names(kernel)

    def rule(stmt: For) -> Body:
        setup, begin, end = _stable_bounds(kernel, stmt, names)
        parts: list[Stmt] = []
        last = begin
        for point in (*points, None):
            bound = end if point is None else minimum(maximum(as_expr(point, DType.INDEX), last), end)
            if point is not None:
                _check_step(stmt, begin, bound, end)
            if not _is_empty(last, bound):
                part = replace(stmt, begin=last, end=bound)
                parts.append(_renamed(part, names) if parts else part)
            last = bound
        return (*setup, *parts)

    return _replace_loop(kernel, loop, rule)


def peel(kernel: Kernel, loop: str, count: int = 1) -> Kernel:
    """The first turns apart, before a loop over the rest.

        for i in 0..8              ->   y[0] = x[0]                       # peel(kernel, "i")
          y[i] = x[i]                   for i_1 in 1..8
                                          y[i_1] = x[i_1]

    The bounds are constants.
    """
    turns = _turns(find_loop(kernel, loop))
    if not turns or count < 1:
        return kernel
    return unroll(split_at(kernel, loop, min(turns.start + count * turns.step, turns.stop)), loop)


# Parts


def _replace_loop(kernel: Kernel, loop: str, rule: Callable[[For], Body]) -> Kernel:
    """The kernel with one loop replaced by statements."""
    found = find_loop(kernel, loop)
    return replace(kernel, body=rewrite_body(kernel.body, lambda stmt: rule(found) if stmt is found else None))


def _index(number: int) -> Constant:
    return Constant(number, DType.INDEX)


def _turns(stmt: For) -> range:
    """The values of the variable of a loop with constant bounds."""
    if not isinstance(stmt.begin, Constant) or not isinstance(stmt.end, Constant):
        raise ValueError(f"the bounds of loop {stmt.variable.name} are not constants")
    return range(int(stmt.begin.value), int(stmt.end.value), stmt.step)


def _is_empty(begin: Expr, end: Expr) -> bool:
    return isinstance(begin, Constant) and isinstance(end, Constant) and begin.value >= end.value


def _copies(stmt: For, values: Sequence[Expr], names: set[str]) -> Body:
    """The body of a loop for each of these values of its variable; all but the first with registers of new names."""
    result: list[Stmt] = []
    for number, value in enumerate(values):
        body = substitute_body(stmt.body, {stmt.variable.name: value})
        if number:
            body = rename_body(body, {name: fresh_name(name, names) for name in defined_names(body)})
        result += body
    return tuple(result)


def _renamed(stmt: For, names: set[str]) -> For:
    """The loop with its variable and all registers of its body under new names."""
    new = {name: fresh_name(name, names) for name in (stmt.variable.name, *defined_names(stmt.body))}
    (renamed,) = rename_body((stmt,), new)
    assert isinstance(renamed, For)
    return renamed


def _stable_bounds(kernel: Kernel, stmt: For, names: set[str]) -> tuple[Body, Expr, Expr]:
    """Bounds that may be read more than once, and the definitions of registers that this takes."""
    assigned = assigned_names(kernel.body)
    setup: list[Stmt] = []
    bounds: list[Expr] = []
    for what, bound in (("begin", stmt.begin), ("end", stmt.end)):
        if is_stable(bound, assigned):
            bounds.append(bound)
            continue
        register = Variable(fresh_name(f"{stmt.variable.name}_{what}", names), DType.INDEX)
        setup.append(Define(register, bound))
        bounds.append(register)
    return tuple(setup), bounds[0], bounds[1]


def _check_step(stmt: For, begin: Expr, point: Expr, end: Expr) -> None:
    if stmt.step == 1 or point == end:
        return
    if not isinstance(begin, Constant) or not isinstance(point, Constant):
        raise ValueError(f"loop {stmt.variable.name} has steps of {stmt.step} and no constant point to split at")
    if (int(point.value) - int(begin.value)) % stmt.step:
        raise ValueError(f"{point.value} is no step of loop {stmt.variable.name}")
