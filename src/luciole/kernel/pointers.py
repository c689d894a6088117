"""Which buffers a pointer may point into."""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.core import Address, Assign, Binary, Body, Define, Expr, Select, Variable
from luciole.kernel.walk import walk

#: For each pointer register the buffers that it may point into.
PointerRoots = dict[str, set[str]]


def roots_of(expr: Expr, roots: PointerRoots) -> set[str]:
    """The buffers that a pointer expression may point into, given those of the registers."""
    match expr:
        case Address():
            return {expr.buffer}
        case Variable():
            return roots.get(expr.name, set())
        case Binary():
            return roots_of(expr.a, roots)
        case Select():
            return roots_of(expr.a, roots) | roots_of(expr.b, roots)
    return set()


def pointer_roots(body: Body) -> PointerRoots:
    """The buffers of every pointer register that a body defines, through all its assignments."""
    roots: PointerRoots = {}
    moves = [s for s in walk(body) if isinstance(s, Define | Assign) and s.variable.dtype is DType.POINTER]
    changed = True
    while changed:
        changed = False
        for stmt in moves:
            known = roots.setdefault(stmt.variable.name, set())
            new = roots_of(stmt.value, roots) - known
            known |= new
            changed = changed or bool(new)
    return roots
