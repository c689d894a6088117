"""Walks over expressions and statements, and rewriting of expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Bitcast,
    Body,
    Call,
    Cast,
    Compare,
    Define,
    Expr,
    For,
    If,
    Intrinsic,
    Load,
    Read,
    Repeat,
    Select,
    Splat,
    Stmt,
    Store,
    Unary,
    Write,
    binary,
    cast,
    compare,
    select,
)
from luciole.kernel.vectors import ActiveLanes, Dot, Gather, Lanes, Reduce


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression."""
    match expr:
        case Binary() | Compare():
            return (expr.a, expr.b)
        case Unary() | Cast() | Bitcast() | Splat() | Reduce():
            return (expr.a,)
        case Select():
            return (expr.condition, expr.a, expr.b)
        case Load():
            return expr.indices
        case Address():
            return (expr.offset,)
        case Read():
            return (expr.pointer,) if expr.mask is None else (expr.pointer, expr.mask)
        case Call():
            return expr.arguments
        case Lanes():
            return expr.elements
        case ActiveLanes():
            return (expr.count,)
        case Gather():
            return (expr.pointer, expr.offsets, *(() if expr.mask is None else (expr.mask,)))
        case Dot():
            return (expr.accumulator, expr.a, expr.b)
    return ()


def with_children(expr: Expr, new: tuple[Expr, ...]) -> Expr:
    """The same expression over other operands, folded again."""
    match expr:
        case Binary():
            return binary(expr.operation, *new)
        case Compare():
            return compare(expr.operation, *new)
        case Unary():
            return Unary(expr.operation, *new)
        case Cast():
            return cast(new[0], expr.dtype)
        case Bitcast():
            return Bitcast(new[0], expr.dtype)
        case Select():
            return select(*new)
        case Load():
            return Load(expr.buffer, new, expr.dtype)
        case Address():
            return Address(expr.buffer, new[0])
        case Read():
            return replace(expr, pointer=new[0], mask=new[1] if len(new) > 1 else None)
        case Call():
            return Call(expr.intrinsic, new)
        case Splat():
            return Splat(new[0], expr.lanes)
        case Reduce():
            return Reduce(expr.operation, new[0])
        case Lanes():
            return Lanes(new)
        case ActiveLanes():
            return ActiveLanes(new[0], expr.lanes)
        case Gather():
            return Gather(new[0], new[1], expr.dtype, new[2] if len(new) > 2 else None)
        case Dot():
            return Dot(*new)
    return expr


def map_expr(expr: Expr, function: Callable[[Expr], Expr | None]) -> Expr:
    """Rewrite bottom up: `function` gets each node over rewritten operands and returns a replacement, or `None` to keep
    it.
    """
    old = children(expr)
    if old:
        new = tuple(map_expr(child, function) for child in old)
        if any(a is not b for a, b in zip(old, new, strict=True)):
            expr = with_children(expr, new)
    replacement = function(expr)
    return expr if replacement is None else replacement


def expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions that stand directly in a statement."""
    match stmt:
        case Define() | Assign():
            return (stmt.value,)
        case Store():
            return (*stmt.indices, stmt.value)
        case Write():
            return (stmt.pointer, stmt.value, *(() if stmt.mask is None else (stmt.mask,)))
        case For():
            return (stmt.begin, stmt.end)
        case Repeat() | If():
            return (stmt.condition,)
    return ()


def bodies(stmt: Stmt) -> tuple[Body, ...]:
    """The bodies nested directly in a statement."""
    match stmt:
        case For() | Repeat():
            return (stmt.body,)
        case If():
            return (stmt.then, stmt.otherwise)
    return ()


def walk(body: Body) -> Iterator[Stmt]:
    """Every statement, outer before inner, in order."""
    for stmt in body:
        yield stmt
        for inner in bodies(stmt):
            yield from walk(inner)


def walk_expr(expr: Expr) -> Iterator[Expr]:
    """Every node of an expression, outer before inner."""
    yield expr
    for child in children(expr):
        yield from walk_expr(child)


def intrinsics_of(body: Body) -> tuple[Intrinsic, ...]:
    """The intrinsics a body uses, those used by others first, each once, in order of first use."""
    found: dict[str, Intrinsic] = {}

    def visit(expr: Expr) -> None:
        for node in walk_expr(expr):
            if isinstance(node, Call) and node.intrinsic.name not in found:
                for definition in node.intrinsic.definitions:
                    visit(definition.value)
                visit(node.intrinsic.result)
                found[node.intrinsic.name] = node.intrinsic

    for stmt in walk(body):
        for expr in expressions(stmt):
            visit(expr)
    return tuple(found.values())


def map_body_expressions(body: Body, function: Callable[[Expr], Expr | None]) -> Body:
    """Every expression of a body rewritten by `map_expr`; statements stay."""

    def change(expr: Expr) -> Expr:
        return map_expr(expr, function)

    def rewrite(stmt: Stmt) -> Stmt:
        match stmt:
            case Define():
                return Define(stmt.variable, change(stmt.value))
            case Assign():
                return Assign(stmt.variable, change(stmt.value))
            case Store():
                return Store(stmt.buffer, tuple(map(change, stmt.indices)), change(stmt.value))
            case Write():
                mask = None if stmt.mask is None else change(stmt.mask)
                return replace(stmt, pointer=change(stmt.pointer), value=change(stmt.value), mask=mask)
            case For():
                inner = map_body_expressions(stmt.body, function)
                return replace(stmt, begin=change(stmt.begin), end=change(stmt.end), body=inner)
            case Repeat():
                return Repeat(map_body_expressions(stmt.body, function), change(stmt.condition))
            case If():
                then = map_body_expressions(stmt.then, function)
                return If(change(stmt.condition), then, map_body_expressions(stmt.otherwise, function))
        return stmt

    return tuple(rewrite(stmt) for stmt in body)
