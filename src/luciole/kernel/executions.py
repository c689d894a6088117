"""How often each statement of a kernel runs, found without running it: loops are counted, not turned.

Control flow is followed with concrete numbers: every buffer begins at an address of its own, registers that depend on
nothing but these, loop variables and scalars are known, and what is loaded from memory is not. A loop whose turns
differ (windows cut at the edges of an image) is looked at in its first, its middle and its last turn.
"""

from __future__ import annotations

from collections.abc import Mapping

from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Body,
    Cast,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    If,
    Kernel,
    Repeat,
    Select,
    Stmt,
    Variable,
)
from luciole.kernel.walk import bodies, expressions, walk, walk_expr

#: Buffers begin at multiples of this, so that pointers into different ones are never taken for each other.
_BUFFER_STRIDE = 1 << 40
#: Turns of a loop whose end depends on data; none of our kernels has one, but texts may.
_UNKNOWN_TURNS = 8

#: What a register holds; `None` where it depends on data.
_Known = dict[str, int | None]


def executions(kernel: Kernel, scalars: Mapping[str, int] | None = None) -> dict[int, float]:
    """How often each statement of a kernel runs, by `id`; the body of a loop counts once a turn.

    `scalars` are the values of its scalar parameters.
    """
    counter = _Counter(kernel)
    known: _Known = dict(scalars or {})
    counter.run(kernel.body, known, 1.0)
    return counter.counts


class _Counter:
    def __init__(self, kernel: Kernel) -> None:
        self.addresses = {p.name: (i + 1) * _BUFFER_STRIDE for i, p in enumerate(kernel.parameters)}
        self.relevant = _control_registers(kernel.body)
        self.counts: dict[int, float] = {}
        self._pruned: dict[int, tuple[Body, Body]] = {}

    def run(self, body: Body, known: _Known, times: float) -> None:
        """Follow a body that runs `times` times; 0 only follows it."""
        for stmt in body if times else self.pruned(body):
            if times:
                self.counts[id(stmt)] = self.counts.get(id(stmt), 0.0) + times
            match stmt:
                case Define() | Assign():
                    if stmt.variable.name in self.relevant:
                        known[stmt.variable.name] = self.value(stmt.value, known)
                case For():
                    self.loop(stmt, known, times)
                case Repeat():
                    self.repeat(stmt, known, times)
                case If():
                    self.branch(stmt, known, times)

    def pruned(self, body: Body) -> Body:
        """The statements of a body that change registers which control flow depends on."""
        if id(body) not in self._pruned:
            kept = tuple(stmt for stmt in body if any(_defines(s) in self.relevant for s in walk((stmt,))))
            # The body is kept beside, so that its id stays its own.
            self._pruned[id(body)] = body, kept
        return self._pruned[id(body)][1]

    def loop(self, stmt: For, known: _Known, times: float) -> None:
        begin, end = self.value(stmt.begin, known), self.value(stmt.end, known)
        turns = _UNKNOWN_TURNS if begin is None or end is None else max(0, -(-(end - begin) // stmt.step))
        first = begin or 0
        if not turns:
            return
        if turns <= 3:
            shares = [(turn, 1.0) for turn in range(turns)]
        elif self.differs(stmt):
            shares = [(0, 1.0), (turns // 2, turns - 2.0), (turns - 1, 1.0)]
        else:
            shares = [(0, float(turns))]
        before, steps = dict(known), dict[str, int | None]()
        for turn, share in shares:
            _advance(known, before, steps, turn)
            known[stmt.variable.name] = first + turn * stmt.step
            start = dict(known)
            self.run(stmt.body, known, times * share)
            if turn == 0:
                steps = _steps(start, known)
        _advance(known, before, steps, turns)

    def repeat(self, stmt: Repeat, known: _Known, times: float) -> None:
        following = dict(known)
        self.run(stmt.body, following, 0)
        first, distance = self.condition(stmt.condition, following)
        after_one = dict(following)
        self.run(stmt.body, following, 0)
        _, next_distance = self.condition(stmt.condition, following)
        turns = _turns_of(stmt.condition, first, distance, next_distance)
        steps = _steps(known, after_one)
        before = dict(known)
        self.run(stmt.body, known, times * turns)
        _advance(known, before, steps, turns)

    def condition(self, condition: Expr, known: _Known) -> tuple[int | None, int | None]:
        """Whether a condition holds, and how far the two sides of a comparison are apart."""
        distance = None
        if isinstance(condition, Compare):
            a, b = self.value(condition.a, known), self.value(condition.b, known)
            distance = None if a is None or b is None else a - b
        return self.value(condition, known), distance

    def branch(self, stmt: If, known: _Known, times: float) -> None:
        condition = self.value(stmt.condition, known)
        if condition is not None:
            self.run(stmt.then if condition else stmt.otherwise, known, times)
            return
        other = dict(known)
        self.run(stmt.then, known, times / 2)
        self.run(stmt.otherwise, other, times / 2)
        for name in known:
            if known[name] != other.get(name):
                known[name] = None

    def differs(self, stmt: For) -> bool:
        """Whether what runs in a loop's body may depend on the turn."""
        dependent = {stmt.variable.name}
        for inner in walk(stmt.body):
            read = {e.name for x in expressions(inner) for e in walk_expr(x) if isinstance(e, Variable)}
            if read & dependent:
                if isinstance(inner, For | Repeat | If):
                    return True
                if (name := _defines(inner)) is not None:
                    dependent.add(name)
        return False

    def value(self, expr: Expr, known: _Known) -> int | None:
        """The number that an expression has; `None` where it depends on data."""
        match expr:
            case Constant():
                return int(expr.value)
            case Variable():
                return known.get(expr.name)
            case Address():
                offset = self.value(expr.offset, known)
                return None if offset is None else self.addresses[expr.buffer] + offset
            case Cast():
                return self.value(expr.a, known)
            case Select():
                condition = self.value(expr.condition, known)
                return None if condition is None else self.value(expr.a if condition else expr.b, known)
            case Binary() | Compare():
                a, b = self.value(expr.a, known), self.value(expr.b, known)
                return None if a is None or b is None else _combined(expr.operation, a, b)
        return None


def _combined(operation: str, a: int, b: int) -> int | None:
    match operation:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "min":
            return min(a, b)
        case "max":
            return max(a, b)
        case "divide" if b:
            return int(a / b) if abs(a) < 1 << 50 else a // b
        case "remainder" if b:
            return a - b * int(a / b)
        case "and":
            return a & b
        case "or":
            return a | b
        case "xor":
            return a ^ b
        case "shift_left" if 0 <= b < 64:
            return a << b
        case "shift_right" if 0 <= b < 64:
            return a >> b
        case "eq":
            return int(a == b)
        case "ne":
            return int(a != b)
        case "lt":
            return int(a < b)
        case "le":
            return int(a <= b)
        case "gt":
            return int(a > b)
        case "ge":
            return int(a >= b)
    return None


def _turns_of(condition: Expr, first: int | None, distance: int | None, following: int | None) -> int:
    """The turns of a `Repeat`, from its condition and the distance of what it compares after one turn and after two."""
    if first == 0:
        return 1
    if not isinstance(condition, Compare) or distance is None or following is None or following == distance:
        return _UNKNOWN_TURNS
    turns = 1 + -(-abs(distance) // abs(following - distance))
    return turns + 1 if condition.operation in ("le", "ge") and distance % (following - distance) == 0 else turns


def _steps(before: _Known, after: _Known) -> dict[str, int | None]:
    """How far each register moved in one turn."""
    moved: dict[str, int | None] = {}
    for name, start in before.items():
        end = after.get(name)
        if end != start:
            moved[name] = None if start is None or end is None else end - start
    return moved


def _advance(known: _Known, before: _Known, steps: Mapping[str, int | None], turns: int) -> None:
    """Set the registers to what they are after some turns of a loop in which they move evenly."""
    for name, step in steps.items():
        start = before.get(name)
        known[name] = None if start is None or step is None else start + turns * step


def _defines(stmt: Stmt) -> str | None:
    return stmt.variable.name if isinstance(stmt, Define | Assign) else None


def _control_registers(body: Body) -> set[str]:
    """Registers on which the course of a kernel depends: those that bounds and conditions read, and what they are made
    of.
    """
    sources: dict[str, set[str]] = {}
    wanted: list[str] = []
    for stmt in walk(body):
        read = [e.name for x in expressions(stmt) for e in walk_expr(x) if isinstance(e, Variable)]
        if bodies(stmt):
            wanted += read
        elif (name := _defines(stmt)) is not None:
            sources.setdefault(name, set()).update(read)
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += sources.get(name, ())
    return found
