"""Rebuilding kernels: walks that replace expressions, statements and names, for transforms to stand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from luciole.kernel.core import (
    Address,
    Assign,
    Body,
    Constant,
    Define,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Read,
    Repeat,
    Splat,
    Stmt,
    Store,
    Variable,
    Write,
)
from luciole.kernel.vectors import Gather
from luciole.kernel.walk import map_expr, walk, walk_expr

#: A statement's replacement: any number of statements, or `None` to keep it.
StmtRule = Callable[[Stmt], Body | None]


def map_stmt_expressions(stmt: Stmt, function: Callable[[Expr], Expr]) -> Stmt:
    """A statement with `function` applied to each expression that stands in it or in statements within it."""
    match stmt:
        case Define():
            return Define(stmt.variable, function(stmt.value))
        case Assign():
            return Assign(stmt.variable, function(stmt.value))
        case Store():
            return Store(stmt.buffer, tuple(function(i) for i in stmt.indices), function(stmt.value))
        case Write():
            mask = None if stmt.mask is None else function(stmt.mask)
            return replace(stmt, pointer=function(stmt.pointer), value=function(stmt.value), mask=mask)
        case For():
            body = map_body_expressions(stmt.body, function)
            return replace(stmt, begin=function(stmt.begin), end=function(stmt.end), body=body)
        case Repeat():
            return Repeat(map_body_expressions(stmt.body, function), function(stmt.condition))
        case If():
            then, otherwise = (map_body_expressions(b, function) for b in (stmt.then, stmt.otherwise))
            return If(function(stmt.condition), then, otherwise)
    return stmt


def map_body_expressions(body: Body, function: Callable[[Expr], Expr]) -> Body:
    """`map_stmt_expressions` of each statement."""
    return tuple(map_stmt_expressions(stmt, function) for stmt in body)


def map_expressions(kernel: Kernel, function: Callable[[Expr], Expr]) -> Kernel:
    """A kernel with `function` applied to every expression that stands in a statement."""
    return replace(kernel, body=map_body_expressions(kernel.body, function))


def rewrite_body(body: Body, rule: StmtRule) -> Body:
    """Replace statements, outer before inner; what a rule returns is not looked at again."""
    result: list[Stmt] = []
    for stmt in body:
        new = rule(stmt)
        if new is not None:
            result += new
            continue
        match stmt:
            case For() | Repeat():
                stmt = replace(stmt, body=rewrite_body(stmt.body, rule))
            case If():
                stmt = If(stmt.condition, rewrite_body(stmt.then, rule), rewrite_body(stmt.otherwise, rule))
        result.append(stmt)
    return tuple(result)


def substitute_body(body: Body, values: Mapping[str, Expr]) -> Body:
    """Registers replaced by expressions wherever they are read; they must not be assigned or defined in the body."""

    def rule(expr: Expr) -> Expr | None:
        return values.get(expr.name) if isinstance(expr, Variable) else None

    return map_body_expressions(body, lambda expr: map_expr(expr, rule))


def rename_body(body: Body, names: Mapping[str, str]) -> Body:
    """Registers and buffers under new names, where they are defined, assigned, read and written."""

    def variable(old: Variable) -> Variable:
        return replace(old, name=names.get(old.name, old.name))

    def rule(expr: Expr) -> Expr | None:
        match expr:
            case Variable() if expr.name in names:
                return variable(expr)
            case Load() if expr.buffer in names:
                return replace(expr, buffer=names[expr.buffer])
            case Address() if expr.buffer in names:
                return replace(expr, buffer=names[expr.buffer])
        return None

    def targets(body: Body) -> Body:
        result: list[Stmt] = []
        for stmt in body:
            match stmt:
                case Define() | Assign():
                    stmt = replace(stmt, variable=variable(stmt.variable))
                case Store():
                    stmt = replace(stmt, buffer=names.get(stmt.buffer, stmt.buffer))
                case For():
                    stmt = replace(stmt, variable=variable(stmt.variable), body=targets(stmt.body))
                case Repeat():
                    stmt = replace(stmt, body=targets(stmt.body))
                case If():
                    stmt = replace(stmt, then=targets(stmt.then), otherwise=targets(stmt.otherwise))
            result.append(stmt)
        return tuple(result)

    return targets(map_body_expressions(body, lambda expr: map_expr(expr, rule)))


def defined_names(body: Body) -> list[str]:
    """Registers that a body defines, loop variables among them, in order."""
    return [stmt.variable.name for stmt in walk(body) if isinstance(stmt, Define | For)]


def assigned_names(body: Body) -> set[str]:
    """Registers that a body gives new values."""
    return {stmt.variable.name for stmt in walk(body) if isinstance(stmt, Assign)}


def kernel_names(kernel: Kernel) -> set[str]:
    """All names that a kernel uses."""
    names = {p.name for p in kernel.parameters} | {s.name for s in kernel.scalars}
    return names | set(defined_names(kernel.body))


def fresh_name(name: str, taken: set[str]) -> str:
    """`name`, or the first of `name_1`, `name_2`, ... that is free; the result is added to `taken`."""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def widened(intrinsic: Intrinsic, lanes: int) -> Intrinsic:
    """An intrinsic whose parameters are vectors: its meaning for each lane."""

    def rule(expr: Expr) -> Expr | None:
        match expr:
            case Variable():
                return replace(expr, lanes=lanes)
            case Constant():
                return Splat(expr, lanes)
        return None

    definitions = tuple(
        Define(replace(d.variable, lanes=lanes), map_expr(d.value, rule)) for d in intrinsic.definitions
    )
    parameters = tuple(replace(parameter, lanes=lanes) for parameter in intrinsic.parameters)
    result = map_expr(intrinsic.result, rule)
    return replace(intrinsic, parameters=parameters, definitions=definitions, result=result)


def is_stable(expr: Expr, assigned: set[str]) -> bool:
    """Whether an expression has the same value wherever its registers are defined: no memory, nothing in `assigned`."""
    return not any(
        isinstance(e, Load | Read | Gather) or (isinstance(e, Variable) and e.name in assigned) for e in walk_expr(expr)
    )
