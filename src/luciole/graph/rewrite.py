"""Rewriting graphs by rules.

    @rule(Relu)
    def fuse_relu(op: Relu, graph: Graph) -> Operator | None:
        \"\"\"relu(conv2d(x)) -> conv2d(x, activation="relu")    when nobody else reads conv2d.\"\"\"
        conv = op.x.producer
        if not isinstance(conv, Conv2d) or conv.activation != "none" or graph.use_count(op.x) > 1:
            return None
        return dataclasses.replace(conv, activation="relu")

A rule checks first and changes nothing before it is sure: it may add operators (`graph.add(..., before=op)`) and
constants only when it then returns a replacement. What it returns takes the place of the operator: a new operator of
the same result types, or a value of the same type that already holds the result. An output of a model is memory of its
own; so a value is ignored that is an input, a constant or another output, where the operator's result is an output. The
driver removes what nobody reads any more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from luciole.errors import InternalError
from luciole.graph.core import Graph, Operator, Value

SomeOperator = TypeVar("SomeOperator", bound=Operator)


@dataclass(frozen=True)
class Rule:
    """A rewriting rule for the operators of some classes; `algebra` is the first line of its docstring."""

    name: str
    classes: tuple[type[Operator], ...]
    function: Callable[[Any, Graph], Operator | Value | None]

    @property
    def algebra(self) -> str:
        """What the rule does, as `before -> after   when ...`."""
        return re.sub(r"\s+", " ", (self.function.__doc__ or "").strip())


def rule(
    *classes: type[Operator],
) -> Callable[[Callable[[SomeOperator, Graph], Operator | Value | None]], Rule]:
    """Decorate a function of an operator of these classes (or subclasses) and its graph: makes it a `Rule`."""

    def decorate(function: Callable[[SomeOperator, Graph], Operator | Value | None]) -> Rule:
        return Rule(function.__name__, classes, function)

    return decorate


@dataclass
class RuleCounter:
    """Counts applications of rules in a compilation; after `limit` no rule applies (`--limit-rules`, to bisect).

    `trace`, when given, is told each application in one line (`--trace-rules`).
    """

    limit: int | None = None
    trace: Callable[[str], None] | None = None
    applied: int = field(default=0, init=False)

    @property
    def is_exhausted(self) -> bool:
        """Whether no further rule may apply."""
        return self.limit is not None and self.applied >= self.limit

    def count(self, name: str, before: object, after: object) -> None:
        """Count one application of a rule, or one change of a pass that has no rules."""
        self.applied += 1
        if self.trace is not None:
            self.trace(f"{self.applied} {name}: {before} -> {after}")


def apply_rules(graph: Graph, rules: Sequence[Rule], counter: RuleCounter | None = None) -> int:
    """Apply rules until none matches; the number of applications.

    Operators are visited in order, and for each the rules in the order given; after an application the new operators
    and all that read or made their operands are visited again. Raises `InternalError` when the rules never end.
    """
    counter = counter or RuleCounter()
    worklist = _Worklist(graph.operators)
    bound = 1000 + 100 * len(graph.operators)
    applied = 0
    while (op := worklist.take()) is not None and not counter.is_exhausted:
        if op not in graph:
            continue
        for candidate in rules:
            if not isinstance(op, candidate.classes):
                continue
            described, results = repr(op), graph.results(op)
            found = candidate.function(op, graph)
            if found is None or (isinstance(found, Value) and not _can_be_outputs_of(graph, op, found)):
                continue
            counter.count(candidate.name, f"{described} {op.location}".rstrip(), found)
            applied += 1
            if applied > bound:
                raise InternalError(f"rules {', '.join(r.name for r in rules)} go on for ever, last at {described}")
            worklist.add(_put_in_place(graph, op, results, found, candidate))
            break
    return applied


def _can_be_outputs_of(graph: Graph, op: Operator, value: Value) -> bool:
    """Whether a value can be the output that an operator's result is: an operator's result that is no output so far."""
    is_plain = value.producer is not None and not graph.is_output(value)
    return is_plain or not any(map(graph.is_output, graph.results(op)))


def _put_in_place(
    graph: Graph, op: Operator, results: tuple[Value, ...], found: Operator | Value, applied: Rule
) -> list[Operator]:
    """Let what a rule found take the place of an operator; gives the operators to visit again."""
    if isinstance(found, Value):
        if len(results) != 1 or results[0].type != found.type:
            raise InternalError(f"rule {applied.name} gives {found!r} for {op}, which makes {results}")
        graph.redirect(results[0], found)
        graph.erase(op)
        touched = [found]
    else:
        if found in graph:
            raise InternalError(f"rule {applied.name} gives {found} for {op}; it is in the graph already")
        graph.replace(op, found)
        touched = list(results)
    producers = [value.producer for value in (*touched, *op.operands) if value.producer is not None]
    remove_unused(graph, op.operands)
    neighbors = [found] if isinstance(found, Operator) else []
    for producer in producers:
        if producer in graph:
            neighbors.append(producer)
            neighbors += [user for value in graph.results(producer) for user in value.users]
    neighbors += [user for value in touched for user in value.users]
    neighbors += [v.producer for near in neighbors for v in near.operands if v.producer is not None]
    return neighbors


def remove_unused(graph: Graph, values: Iterable[Value]) -> int:
    """Remove the constants and the operators of some values that nobody reads, and then what only those read."""
    removed = 0
    pending = list(values)
    while pending:
        value = pending.pop()
        producer = value.producer
        if value.is_constant:
            if value in graph.constants and graph.use_count(value) == 0:
                graph.erase_constant(value)
                removed += 1
        elif producer is not None and producer in graph and not any(map(graph.use_count, graph.results(producer))):
            graph.erase(producer)
            removed += 1
            pending += producer.operands
    return removed


class _Worklist:
    """Operators to visit, each waiting once, first in first out."""

    def __init__(self, operators: Iterable[Operator]) -> None:
        self._queue = deque(operators)
        self._waiting = set(self._queue)

    def take(self) -> Operator | None:
        if not self._queue:
            return None
        op = self._queue.popleft()
        self._waiting.remove(op)
        return op

    def add(self, operators: Iterable[Operator]) -> None:
        for op in operators:
            if op not in self._waiting:
                self._waiting.add(op)
                self._queue.append(op)
