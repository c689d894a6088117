"""What the bounds of loops decide, resolved: conditions, minima, loops of at most one turn, registers nobody reads."""

from __future__ import annotations

from dataclasses import replace

from luciole.ir.types import DType
from luciole.kernel.core import (
    Assign,
    Binary,
    Body,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    If,
    Kernel,
    Repeat,
    Stmt,
    Variable,
)
from luciole.kernel.intervals import Interval, decide, interval
from luciole.kernel.rewrite import assigned_names, map_stmt_expressions, substitute_body
from luciole.kernel.walk import expressions, map_expr, walk, walk_expr


def prune(kernel: Kernel) -> Kernel:
    """Resolve what is known at compile time and drop what never runs or is never read.

    for i in 1..9              ->   for i in 1..9
      k: index = i * 2                y[i] = x[i]
      if i >= 1 and i < 9
        y[i] = x[max(i, 0)]
    for j in 9..10             ->   y[9] = 0
      y[j] = 0
    """
    body = _Pruner(assigned_names(kernel.body)).body(kernel.body)
    while (smaller := _without_unread(body)) != body:
        body = smaller
    return replace(kernel, body=body)


class _Pruner:
    def __init__(self, assigned: set[str]) -> None:
        self.assigned = assigned
        self.known: dict[str, Interval] = {}

    def body(self, body: Body) -> Body:
        return tuple(new for stmt in body for new in self.statement(stmt))

    def statement(self, stmt: Stmt) -> Body:
        match stmt:
            case For():
                return self.loop(replace(stmt, begin=self.expr(stmt.begin), end=self.expr(stmt.end)))
            case Repeat():
                body = self.body(stmt.body)
                return (Repeat(body, self.expr(stmt.condition)),)
            case If():
                condition = self.expr(stmt.condition)
                if isinstance(condition, Constant):
                    return self.body(stmt.then if condition.value else stmt.otherwise)
                then, otherwise = self.body(stmt.then), self.body(stmt.otherwise)
                return (If(condition, then, otherwise),) if then or otherwise else ()
        stmt = map_stmt_expressions(stmt, self.expr)
        if isinstance(stmt, Define) and stmt.variable.name not in self.assigned:
            dtype = stmt.variable.dtype
            if dtype.is_integer or dtype is DType.BOOL:
                self.known[stmt.variable.name] = interval(stmt.value, self.known)
        return (stmt,)

    def loop(self, stmt: For) -> Body:
        begin, end = interval(stmt.begin, self.known), interval(stmt.end, self.known)
        if begin.low >= end.high:
            return ()
        if begin.low == begin.high and end.low == end.high and begin.low + stmt.step >= end.high:
            once = substitute_body(stmt.body, {stmt.variable.name: Constant(begin.low, DType.INDEX)})
            return self.body(once)
        self.known[stmt.variable.name] = Interval(begin.low, end.high - 1)
        body = self.body(stmt.body)
        return (replace(stmt, body=body),) if body else ()

    def expr(self, expr: Expr) -> Expr:
        return map_expr(expr, self.rule)

    def rule(self, expr: Expr) -> Expr | None:
        match expr:
            case Compare() if expr.lanes == 1:
                decided = decide(expr, self.known)
                return None if decided is None else Constant(int(decided), DType.BOOL)
            case Binary() if expr.dtype is DType.BOOL:
                return _truth(expr)
            case Binary("min" | "max") if expr.dtype.is_integer:
                a, b = interval(expr.a, self.known), interval(expr.b, self.known)
                if a.high <= b.low:
                    return expr.a if expr.operation == "min" else expr.b
                if b.high <= a.low:
                    return expr.b if expr.operation == "min" else expr.a
        return None


def _truth(expr: Binary) -> Expr | None:
    """`and` and `or` with a known operand."""
    for constant, other in ((expr.a, expr.b), (expr.b, expr.a)):
        if isinstance(constant, Constant) and expr.operation in ("and", "or"):
            return other if bool(constant.value) is (expr.operation == "and") else constant
    return None


def _without_unread(body: Body) -> Body:
    """Drop registers that only their own assignments read."""
    read: set[str] = set()
    for stmt in walk(body):
        names = {e.name for expr in expressions(stmt) for e in walk_expr(expr) if isinstance(e, Variable)}
        read |= names - {stmt.variable.name} if isinstance(stmt, Assign) else names

    def keep(body: Body) -> Body:
        result: list[Stmt] = []
        for stmt in body:
            match stmt:
                case Define() | Assign() if stmt.variable.name not in read:
                    continue
                case For() | Repeat():
                    stmt = replace(stmt, body=keep(stmt.body))
                case If():
                    stmt = If(stmt.condition, keep(stmt.then), keep(stmt.otherwise))
            result.append(stmt)
        return tuple(result)

    return keep(body)
