"""Pointers moved as post-indexed addressing modes move them, for compilers that do not find that themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from luciole.ir.types import DType
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Body,
    Constant,
    Define,
    Expr,
    For,
    If,
    Kernel,
    Read,
    Repeat,
    Stmt,
    Variable,
    Write,
    binary,
)
from luciole.kernel.rewrite import assigned_names, defined_names, fresh_name, is_stable, kernel_names
from luciole.kernel.vectors import Gather
from luciole.kernel.walk import bodies, expressions, map_body_expressions, walk, walk_expr

#: A loop has at most this many pointers of its own: more would not stay in registers.
_MOST_POINTERS = 4
#: Vectors of words are reached at up to this many bytes from a pointer, those of bytes at a quarter.
_WORDS_REACH = 508


def run_pointers(kernel: Kernel) -> Kernel:
    """The kernel with pointers in place of sums in loops over vectors, and with every pointer that moves by a constant
    moved right behind its first access.

        for i in 0..64 step 4                       ->   x_run: pointer = address(x)
          write.i8x4(address(y, i)) =                    y_run: pointer = address(y)
            read.i8x4(address(x, i))                     for i in 0..64 step 4
                                                           write.i8x4(y_run) = read.i8x4(x_run)
                                                           x_run = x_run + 4
                                                           y_run = y_run + 4

        a: i8x16 = read.i8x16(w)                    ->   a: i8x16 = read.i8x16(w)
        b: i8x16 = read.i8x16(w + 16)                    w = w + 32
        w = w + 32                                       b: i8x16 = read.i8x16(w - 16)

    Kernels without vectors stay as they are.
    """
    runner = _Runner(kernel_names(kernel))
    return replace(kernel, body=runner.body(kernel.body))


@dataclass(frozen=True)
class _Step:
    """A pointer into a loop: base + factor * the loop's variable + offset."""

    base: Expr
    factor: int
    offset: int


class _Runner:
    def __init__(self, names: set[str]) -> None:
        self.names = names

    def body(self, body: Body) -> Body:
        """The body with loops inside it changed first, then its own moves."""
        result: list[Stmt] = []
        for stmt in body:
            match stmt:
                case For():
                    result += self._loop(replace(stmt, body=self.body(stmt.body)))
                case Repeat():
                    result.append(replace(stmt, body=self.body(stmt.body)))
                case If():
                    result.append(replace(stmt, then=self.body(stmt.then), otherwise=self.body(stmt.otherwise)))
                case _:
                    result.append(stmt)
        return self._moved_early(tuple(result))

    # Loops

    def _loop(self, loop: For) -> Body:
        """A loop over vectors with pointers of its own, defined before it."""
        if any(bodies(stmt) for stmt in loop.body):
            return (loop,)
        changing = assigned_names(loop.body) | set(defined_names(loop.body)) | {loop.variable.name}
        steps: dict[Expr, _Step] = {}
        for access in _vector_accesses(loop.body):
            step = _step(access.pointer, loop.variable.name, changing)
            if step is None:
                return (loop,)
            if step.factor:
                steps[access.pointer] = step
        starts = dict.fromkeys((step.base, step.factor) for step in steps.values())
        if not 0 < len(starts) <= _MOST_POINTERS:
            return (loop,)
        runs = {}
        before: list[Stmt] = []
        after: list[Stmt] = []
        for base, factor in starts:
            run = Variable(fresh_name(f"{_name(base)}_run", self.names), DType.POINTER)
            runs[base, factor] = run
            before.append(Define(run, binary("add", base, binary("mul", loop.begin, factor))))
            after.append(Assign(run, run + factor * loop.step))

        def rule(expr: Expr) -> Expr | None:
            if not isinstance(expr, Read | Gather) or expr.pointer not in steps:
                return None
            step = steps[expr.pointer]
            run = runs[step.base, step.factor]
            if isinstance(expr, Gather):
                return replace(expr, pointer=run + step.offset)
            return replace(expr, pointer=run, offset=expr.offset + step.offset)

        changed: list[Stmt] = []
        for stmt in map_body_expressions(loop.body, rule):
            if isinstance(stmt, Write) and stmt.pointer in steps:
                step = steps[stmt.pointer]
                stmt = replace(stmt, pointer=runs[step.base, step.factor], offset=stmt.offset + step.offset)
            changed.append(stmt)
        return (*before, replace(loop, body=self._moved_early((*changed, *after))))

    # Moves

    def _moved_early(self, body: Body) -> Body:
        """Every move of a pointer by a constant right behind an access that it can be one instruction with."""
        for move in [stmt for stmt in body if _moved_by(stmt)]:
            body = self._with_early(body, body.index(move), move)
        return body

    def _with_early(self, body: Body, end: int, move: Stmt) -> Body:
        assert isinstance(move, Assign)
        pointer, distance = move.variable, _moved_by(move)
        begin = end
        while begin > 0 and _only_accesses(body[begin - 1], pointer):
            begin -= 1
        for index in range(begin, end):
            first = next((a for a in _uses(body[index], pointer) if _joins(a, distance)), None)
            if first is None:
                continue
            before, stmt = self._apart(body[index], first, pointer)
            rest = (*stmt, *body[index + 1 : end])
            later = [a for s in rest for a in _uses(s, pointer)]
            if all(a.offset - distance >= -_reach(a) for a in later):
                return (*body[:index], *before, move, *_shifted(rest, pointer, distance), *body[end + 1 :])
        return body

    def _apart(self, stmt: Stmt, first: Read | Write, pointer: Variable) -> tuple[Body, Body]:
        """A statement as what does the first access, and the rest."""
        if sum(1 for _ in _uses(stmt, pointer)) == 1:
            return (stmt,), ()
        assert isinstance(first, Read)
        vector = Variable(fresh_name("vector", self.names), first.dtype, first.lanes)
        (rest,) = map_body_expressions((stmt,), lambda expr: vector if expr == first else None)
        return (Define(vector, first),), (rest,)


def _vector_accesses(body: Body) -> Iterator[Read | Gather | Write]:
    for stmt in body:
        if isinstance(stmt, Write) and stmt.value.lanes > 1:
            yield stmt
        for expr in expressions(stmt):
            for node in walk_expr(expr):
                if isinstance(node, Read | Gather) and node.lanes > 1:
                    yield node


def _uses(stmt: Stmt, pointer: Variable) -> Iterator[Read | Write]:
    """The accesses of vectors at a register's pointer, reads first."""
    for expr in expressions(stmt):
        for node in walk_expr(expr):
            if isinstance(node, Read) and node.pointer == pointer:
                yield node
    if isinstance(stmt, Write) and stmt.pointer == pointer:
        yield stmt


def _only_accesses(stmt: Stmt, pointer: Variable) -> bool:
    """Whether a statement does nothing with a pointer but access memory at it."""
    if any(bodies(stmt)):
        return not any(e == pointer for s in walk((stmt,)) for e in _nodes(s))
    if isinstance(stmt, Assign | Define) and stmt.variable.name == pointer.name:
        return False
    return sum(1 for e in _nodes(stmt) if e == pointer) == sum(1 for _ in _uses(stmt, pointer))


def _nodes(stmt: Stmt) -> Iterator[Expr]:
    for expr in expressions(stmt):
        yield from walk_expr(expr)


def _moved_by(stmt: Stmt) -> int:
    """By how many bytes a statement moves a pointer, 0 for any other statement."""
    match stmt:
        case Assign(Variable() as pointer, Binary("add", Variable() as a, Constant() as distance)):
            return int(distance.value) if pointer.dtype is DType.POINTER and a == pointer else 0
    return 0


def _reach(access: Read | Write) -> int:
    value = access if isinstance(access, Read) else access.value
    are_words = access.alignment >= 4 and value.lanes * value.dtype.bits == 128
    return _WORDS_REACH if are_words else _WORDS_REACH // 4 * value.dtype.size_bytes


def _joins(access: Read | Write, distance: int) -> bool:
    value = access if isinstance(access, Read) else access.value
    return value.lanes > 1 and access.offset == 0 and abs(distance) <= _reach(access)


def _shifted(body: Body, pointer: Variable, distance: int) -> Body:
    """A body after a pointer has moved."""

    def rule(expr: Expr) -> Expr | None:
        if not isinstance(expr, Read) or expr.pointer != pointer:
            return None
        return replace(expr, offset=expr.offset - distance)

    result: list[Stmt] = []
    for stmt in map_body_expressions(body, rule):
        if isinstance(stmt, Write) and stmt.pointer == pointer:
            stmt = replace(stmt, offset=stmt.offset - distance)
        result.append(stmt)
    return tuple(result)


def _step(pointer: Expr, variable: str, changing: set[str]) -> _Step | None:
    """A pointer as a step of a loop; `None` where it is none."""
    match pointer:
        case Address():
            base: Expr = Address(pointer.buffer, Constant(0, DType.INDEX))
            parts = _linear(pointer.offset, variable, changing)
        case Binary("add"):
            base, parts = pointer.a, _linear(pointer.b, variable, changing)
            if isinstance(base, Address | Binary):
                inner = _step(base, variable, changing)
                if inner is None or parts is None:
                    return None
                rest, factor, offset = parts
                moved = inner.base if rest is None else binary("add", inner.base, rest)
                return _Step(moved, inner.factor + factor, inner.offset + offset)
        case Variable():
            base, parts = pointer, (None, 0, 0)
        case _:
            return None
    if parts is None or not is_stable(base, changing):
        return None
    rest, factor, offset = parts
    return _Step(base if rest is None else binary("add", base, rest), factor, offset)


def _linear(index: Expr, variable: str, changing: set[str]) -> tuple[Expr | None, int, int] | None:
    """An index as (what stays in the loop, factor of the loop's variable, constant); `None` where it is no such sum."""
    match index:
        case Constant():
            return None, 0, int(index.value)
        case Variable() if index.name == variable:
            return None, 1, 0
        case Binary("mul", a, Constant() as factor) if (parts := _linear(a, variable, changing)) is not None:
            rest, count, offset = parts
            scale = int(factor.value)
            return None if rest is None else binary("mul", rest, factor), count * scale, offset * scale
        case Binary("add", a, b):
            left, right = _linear(a, variable, changing), _linear(b, variable, changing)
            if left is None or right is None:
                return None
            rests = [rest for rest in (left[0], right[0]) if rest is not None]
            total = None if not rests else rests[0] if len(rests) == 1 else binary("add", *rests)
            return total, left[1] + right[1], left[2] + right[2]
    return (index, 0, 0) if is_stable(index, changing) else None


def _name(base: Expr) -> str:
    """What a pointer is named after: the buffer or register that it begins at."""
    for node in walk_expr(base):
        if isinstance(node, Address):
            return node.buffer
        if isinstance(node, Variable) and node.dtype is DType.POINTER:
            return node.name
    return "pointer"
