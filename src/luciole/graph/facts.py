"""What is found out about operators: once for each, since they are immutable, and for copies over the same operands."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from luciole.graph.core import Operator

_Fact = TypeVar("_Fact")


def found_once(op: Operator, key: Hashable, find: Callable[[], _Fact]) -> _Fact:
    """What `find` gives, which must follow from the operator's attributes and from its operands' types and data."""
    facts: dict[Hashable, _Fact] = op.__dict__.setdefault("_facts", {})
    if key not in facts:
        facts[key] = find()
    return facts[key]


def share_facts(op: Operator, copy: Operator) -> None:
    """Let a copy, whose operands have equal types and the same data, have what is known and will be known of `op`."""
    copy.__dict__["_facts"] = op.__dict__.setdefault("_facts", {})
