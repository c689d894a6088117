"""Functions that an ONNX model defines for itself: each call becomes the nodes of the function's body.

A few lines of functions that call each other twice stand for a number of nodes beyond all memory, so expansion counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Location, printable
from luciole.importers.onnx.tensors import text_of

#: Functions may call functions so deep; deeper ones call themselves.
_MAXIMUM_DEPTH = 32

#: Domain, name, and the overload, by which a node calls a function.
_Key = tuple[str, str, str]


def inline_functions(proto: Any, maximum_nodes: int, location: Location) -> list[Any]:
    """The nodes of a model's graph, without calls. Raises `CompileError` where that has no end, or too many nodes."""
    functions = {(text_of(f.domain), text_of(f.name), _overload(f)): f for f in proto.functions}
    if not functions:
        return list(proto.graph.node)
    if len(functions) != len(proto.functions):
        raise CompileError.of("malformed-model", "the model defines a function twice", location)
    versions = {text_of(entry.domain): entry.version for entry in proto.opset_import}
    inlining = _Inlining(functions, versions, maximum_nodes, location)
    return [inner for node in proto.graph.node for inner in inlining.expand(node, 0)]


def _overload(proto: Any) -> str:
    return text_of(getattr(proto, "overload", ""))


@dataclass
class _Inlining:
    """The functions of a model, and how many nodes and calls have been looked at."""

    functions: Mapping[_Key, Any]
    versions: Mapping[str, int]
    maximum_nodes: int
    location: Location
    count: int = field(default=0, init=False)

    def expand(self, node: Any, depth: int) -> Iterator[Any]:
        """The node itself, or what the function that it calls consists of."""
        self.count += 1
        if self.count > self.maximum_nodes:
            raise self._error(f"its functions make more than {self.maximum_nodes} nodes", "too-large")
        key = (text_of(node.domain), text_of(node.op_type), _overload(node))
        function = self.functions.get(key)
        if function is None:
            yield node
            return
        if depth >= _MAXIMUM_DEPTH:
            raise self._error(f"function {printable(key[1])} calls itself, or calls go deeper than {_MAXIMUM_DEPTH}")
        self._check_versions(function, key[1])
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise self._error(f"a call of function {printable(key[1])} has too many operands or results")
        for inner in inline_call(function, node, f"{text_of(node.name) or key[1]}#{self.count}"):
            yield from self.expand(inner, depth + 1)

    def _check_versions(self, function: Any, name: str) -> None:
        """Raise `CompileError` where a function is written in another version of operators than the model."""
        for entry in function.opset_import:
            domain = text_of(entry.domain)
            if self.versions.get(domain, entry.version) != entry.version:
                problem = f"function {printable(name)} uses opset {entry.version}, the model {self.versions[domain]}"
                raise self._error(problem, "unsupported-functions")

    def _error(self, problem: str, code: str = "malformed-model") -> CompileError:
        exit_code = 1 if code == "malformed-model" else EXIT_UNSUPPORTED
        return CompileError.of(code, f"the model cannot be inlined: {problem}", self.location, exit_code=exit_code)


def inline_call(function: Any, call: Any, label: str) -> Iterator[Any]:
    """The nodes of a function with the names and attributes of a call; `label` makes inner names unique."""
    names: dict[str, str] = {}
    for formal, actual in ((function.input, call.input), (function.output, call.output)):
        given = [text_of(name) for name in actual]
        names |= dict(zip(map(text_of, formal), [*given, *[""] * (len(formal) - len(given))], strict=True))
    unread = {text_of(name) for name in function.output if not names[text_of(name)]}
    attributes = {text_of(a.name): a for a in (*function.attribute_proto, *call.attribute)}

    def renamed(name: str) -> str:
        return names[name] if name in names and name not in unread else f"{label}/{name}" if name else ""

    for position, node in enumerate(function.node):
        yield _renamed_node(node, f"{label}/{text_of(node.name) or position}", renamed, attributes)


def _renamed_node(node: Any, name: str, renamed: Callable[[str], str], attributes: Mapping[str, Any]) -> Any:
    """A node with other names of tensors, in the graphs that it holds too, and with attributes of the call."""
    inner = type(node)()
    inner.CopyFrom(node)
    inner.name = name
    del inner.input[:], inner.output[:], inner.attribute[:]
    inner.input.extend(renamed(text_of(tensor)) for tensor in node.input)
    inner.output.extend(renamed(text_of(tensor)) for tensor in node.output)
    inner.attribute.extend(_bound_attributes(node, attributes))
    for attribute in inner.attribute:
        if attribute.HasField("g"):
            nodes = [
                _renamed_node(part, f"{name}/{text_of(part.name)}", renamed, attributes) for part in attribute.g.node
            ]
            del attribute.g.node[:]
            attribute.g.node.extend(nodes)
            for tensor in (*attribute.g.input, *attribute.g.output, *attribute.g.initializer):
                tensor.name = renamed(text_of(tensor.name))
    return inner


def _bound_attributes(node: Any, attributes: Mapping[str, Any]) -> Iterator[Any]:
    """The attributes of a node in a body; those that refer to an attribute of the call that it lacks are left out."""
    for attribute in node.attribute:
        reference = text_of(attribute.ref_attr_name)
        if not reference:
            yield attribute
        elif reference in attributes:
            bound = type(attribute)()
            bound.CopyFrom(attributes[reference])
            bound.name = text_of(attribute.name)
            yield bound
