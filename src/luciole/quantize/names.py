"""What the user calls the tensors and operators of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from luciole.errors import CompileError, printable
from luciole.graph.core import Graph, Operator, Value

#: What passes append to the name of a tensor that has the same elements in another order or shape.
_SUFFIXES = ("/last", "/nhwc", "/plain")


def tensor_names(graph: Graph) -> dict[Value, str]:
    """The names of all values but constants, as the user's model has them; all differ.

    A value that passes have moved to another order of axes has the name that it had before, where no other value has
    that name.
    """
    values = [value for value in graph.values() if not value.is_constant]
    plain = {value: _without_suffix(value.name) for value in values}
    counts = Counter(plain.values())
    taken = {value.name for value in values}
    return {
        value: name if counts[name] == 1 and (name == value.name or name not in taken) else value.name
        for value, name in plain.items()
    }


def find_operators(graph: Graph, words: Iterable[str]) -> frozenset[Operator]:
    """The operators that words name: all of a kind, or one by the name of its node or of a tensor that it makes.

    Raises `CompileError` that lists the words which name nothing.
    """
    names, found, unknown = tensor_names(graph), set[Operator](), []
    for word in words:
        named = [
            op
            for op in graph.operators
            if word in (op.kind, op.location.node)
            or any(word in (names[value], value.name) for value in graph.results(op))
        ]
        found.update(named)
        if not named:
            unknown.append(printable(word))
    if unknown:
        kinds = ", ".join(dict.fromkeys(op.kind for op in graph.operators))
        raise CompileError.of(
            "bad-option",
            f"--float-operators: no operator is called {', '.join(unknown)}",
            help=f"name nodes or tensors of the model, or kinds; here these are {kinds}",
        )
    return frozenset(found)


def _without_suffix(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
