"""Loop-invariant definitions moved out of loops."""

from __future__ import annotations

from dataclasses import replace

from luciole.kernel.core import (
    Address,
    Binary,
    Body,
    Cast,
    Constant,
    Define,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Read,
    Repeat,
    Stmt,
    Store,
    Variable,
    Write,
)
from luciole.kernel.pointers import PointerRoots, pointer_roots, roots_of
from luciole.kernel.rewrite import assigned_names, defined_names
from luciole.kernel.vectors import Gather
from luciole.kernel.walk import walk, walk_expr


def hoist(kernel: Kernel) -> Kernel:
    """Move registers that have the same value in every turn of a loop before the loop, as far out as they can go.

        for oh in 0..8             ->   scale: i32 = m[0]
          for ow in 0..8                for oh in 0..8
            scale: i32 = m[0]             row: index = oh * 8
            row: index = oh * 8           for ow in 0..8
            y[row + ow] = scale             y[row + ow] = scale

    A register moves when it is never assigned and all that its value reads stays the same in the loop: registers, and
    buffers that the loop does not write. A value that could fail (memory, a division, a shift by a register, a float
    that becomes an integer) moves only from a loop that runs at least once.
    """
    shared = {p.name for p in kernel.parameters if kernel.may_overlap and p.kind != "workspace"}
    mover = _Mover(assigned_names(kernel.body), pointer_roots(kernel.body), shared)
    return replace(kernel, body=mover.body(kernel.body))


class _Mover:
    def __init__(self, assigned: set[str], roots: PointerRoots, shared: set[str]) -> None:
        self.assigned = assigned
        self.roots = roots
        #: Buffers of which a write to one may change another.
        self.shared = shared

    def body(self, body: Body) -> Body:
        """The body with each loop in it preceded by what moves out of it."""
        result: list[Stmt] = []
        for stmt in body:
            match stmt:
                case For() | Repeat():
                    moved, kept = self.divide(stmt, self.body(stmt.body))
                    result += [*moved, replace(stmt, body=kept)]
                case If():
                    result.append(If(stmt.condition, self.body(stmt.then), self.body(stmt.otherwise)))
                case _:
                    result.append(stmt)
        return tuple(result)

    def divide(self, loop: For | Repeat, body: Body) -> tuple[Body, Body]:
        """Which statements of a loop's body move before it, and which stay."""
        changing = set(defined_names(body)) | assigned_names(body)
        if isinstance(loop, For):
            changing.add(loop.variable.name)
        written = self.written(body)
        runs = isinstance(loop, Repeat) or _has_turns(loop)
        moved: list[Stmt] = []
        kept: list[Stmt] = []
        for stmt in body:
            if isinstance(stmt, Define) and stmt.variable.name not in self.assigned:
                nodes = list(walk_expr(stmt.value))
                reads = {n.name for n in nodes if isinstance(n, Variable)}
                is_same = not reads & changing and all(self.is_unwritten(n, written) for n in nodes)
                if is_same and (runs or not any(_can_fail(n) for n in nodes)):
                    changing.discard(stmt.variable.name)
                    moved.append(stmt)
                    continue
            kept.append(stmt)
        return tuple(moved), tuple(kept)

    def written(self, body: Body) -> set[str]:
        """Buffers that a body may write."""
        result: set[str] = set()
        for stmt in walk(body):
            if isinstance(stmt, Store):
                result.add(stmt.buffer)
            elif isinstance(stmt, Write):
                result |= roots_of(stmt.pointer, self.roots)
        return result | self.shared if result & self.shared else result

    def is_unwritten(self, node: Expr, written: set[str]) -> bool:
        if isinstance(node, Load):
            return node.buffer not in written
        return not (isinstance(node, Read | Gather) and roots_of(node.pointer, self.roots) & written)


def _has_turns(loop: For) -> bool:
    is_known = isinstance(loop.begin, Constant) and isinstance(loop.end, Constant)
    return is_known and loop.begin.value < loop.end.value  # type: ignore[attr-defined]  # both are constants


def _can_fail(node: Expr) -> bool:
    """Whether computing this where the program would not have computed it may be wrong."""
    match node:
        case Load() | Read() | Gather() | Address():
            return True
        case Binary("divide" | "remainder" | "shift_left" | "shift_right") if not node.dtype.is_float:
            return not isinstance(node.b, Constant)
        case Cast():
            return node.a.dtype.is_float
    return False
