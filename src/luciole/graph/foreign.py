"""What an operator's class needs to be imported from a file format, without the importer's code.

An importer turns each node of its file into a `ForeignNode` and asks the format's rules to add core operators for it.
A rule stands in the file of the operator that it makes:

    @tflite("SOFTMAX")
    def _softmax(node: ForeignNode, g: GraphBuilder) -> Value:
        return g.add(Softmax(node.input(0), beta=node.number("beta"), location=node.location), node.name)

Another format is one more `ImportRules` at the end of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from luciole.errors import EXIT_UNSUPPORTED, EXIT_USER, CompileError, Location
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.ir.types import Array, TensorType

#: Adds the operators that mean the same as a node; gives the node's results.
ImportRule = Callable[["ForeignNode", GraphBuilder], Value | tuple[Value, ...]]


@dataclass(frozen=True, eq=False)
class ForeignNode:
    """One node of a model file, in the words of its format.

    `kind` is the format's name of the operator, `inputs` its operands (None where an optional one is left out),
    `output_names` and `output_types` what the file says about its results, `attributes` plain numbers, strings and
    tuples of them. The methods raise `CompileError` at the node when the file does not give what a rule asks for.
    """

    kind: str
    location: Location
    inputs: tuple[Value | None, ...]
    output_names: tuple[str, ...]
    output_types: tuple[TensorType, ...]
    attributes: Mapping[str, object]

    @property
    def name(self) -> str:
        """The name of the only (or first) result."""
        return self.output_names[0]

    @property
    def output_type(self) -> TensorType:
        """The type of the only (or first) result as the file has it."""
        return self.output_types[0]

    def error(self, message: str, code: str = "malformed-node", help: str = "") -> CompileError:
        """An error at this node: the file contradicts itself or its format."""
        return CompileError.of(code, message, self.location, notes=self._notes(), help=help, exit_code=EXIT_USER)

    def unsupported(self, message: str, help: str = "", code: str = "unsupported-attribute") -> CompileError:
        """An error at this node: the file is sound, but uses what Luciole does not support."""
        return CompileError.of(code, message, self.location, notes=self._notes(), help=help, exit_code=EXIT_UNSUPPORTED)

    def _notes(self) -> tuple[str, ...]:
        operands = ", ".join("-" if value is None else str(value.type) for value in self.inputs)
        return (f"operands are {operands}",) if operands else ()

    # Operands

    def optional(self, index: int) -> Value | None:
        """Operand `index`, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int) -> Value:
        """Operand `index`."""
        value = self.optional(index)
        if value is None:
            raise self.error(f"{self.kind} needs {index + 1} operands, operand {index} is missing")
        return value

    def constant(self, index: int) -> Array:
        """The values of operand `index`, which must be known at compile time."""
        data = self.input(index).data
        if data is None:
            raise self.unsupported(
                f"operand {index} of {self.kind} must be a constant",
                help="sizes and axes that are computed at run time cannot be compiled",
            )
        return data

    def constant_integers(self, index: int) -> tuple[int, ...]:
        """The values of operand `index`, a constant of integers, in row-major order."""
        data = self.constant(index)
        if not np.issubdtype(data.dtype, np.integer):
            raise self.error(f"operand {index} of {self.kind} must hold integers, not {data.dtype}")
        return tuple(int(value) for value in data.reshape(-1))

    # Attributes

    def _attribute(self, name: str, default: object) -> object:
        value = self.attributes.get(name, default)
        if value is None:
            raise self.error(f"{self.kind} has no attribute {name}")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """An attribute that is an integer."""
        value = self._attribute(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(f"attribute {name} of {self.kind} is {value!r}, not an integer")
        return value

    def positive(self, name: str, default: int | None = None) -> int:
        """An attribute that is an integer above 0: a stride, a size."""
        value = self.integer(name, default)
        if value < 1:
            raise self.error(f"attribute {name} of {self.kind} is {value}; it must be positive")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """An attribute that is a finite number."""
        value = self._attribute(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise self.error(f"attribute {name} of {self.kind} is {value!r}, not a finite number")
        return float(value)

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """An attribute that is true or false."""
        value = self._attribute(name, default)
        if not isinstance(value, bool):
            raise self.error(f"attribute {name} of {self.kind} is {value!r}, not true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """An attribute that is a string."""
        value = self._attribute(name, default)
        if not isinstance(value, str):
            raise self.error(f"attribute {name} of {self.kind} is {value!r}, not a string")
        return value

    def choice(self, name: str, supported: Mapping[str, str], default: str | None = None) -> str:
        """A string attribute, translated by `supported`; refuses what is not in it and names what is."""
        value = self.text(name, default)
        if value not in supported:
            raise self.unsupported(
                f"{self.kind} with {name} {value} is not supported", help=f"supported are {', '.join(supported)}"
            )
        return supported[value]

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        value = self._attribute(name, default)
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise self.error(f"attribute {name} of {self.kind} is {value!r}, not a list of integers")
        return value


@dataclass(frozen=True)
class RuleDescription:
    """A rule for tables: the format's name of the operator, the file of core operators it stands in, what it notes."""

    kind: str
    module: str
    note: str


class ImportRules:
    """The import rules of one file format, by the format's names of operators."""

    def __init__(self, format: str) -> None:
        self.format = format
        self._rules: dict[str, ImportRule] = {}

    def __call__(self, *kinds: str) -> Callable[[ImportRule], ImportRule]:
        """Decorate the rule for some kinds of nodes."""

        def decorate(rule: ImportRule) -> ImportRule:
            for kind in kinds:
                if kind in self._rules:
                    raise ValueError(f"two {self.format} rules for {kind}")
                self._rules[kind] = rule
            return rule

        return decorate

    def __contains__(self, kind: str) -> bool:
        return kind in self._rules

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that have a rule, sorted."""
        return tuple(sorted(self._rules))

    def describe(self) -> tuple[RuleDescription, ...]:
        """All rules in words, by kind."""
        return tuple(
            RuleDescription(kind, rule.__module__.rpartition(".")[2], (rule.__doc__ or "").strip().partition("\n")[0])
            for kind, rule in sorted(self._rules.items())
        )

    def apply(self, node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
        """The results of a node by its rule, which must exist. Raises `CompileError` when the rule refuses."""
        results = self._rules[node.kind](node, g)
        return results if isinstance(results, tuple) else (results,)


#: Rules for TensorFlow Lite; kinds are the names of its built-in operators, attributes those of its options tables.
tflite = ImportRules("TFLite")

#: Rules for ONNX; kinds are names of its operators in their newest form (see `importers.onnx.upgrade`). Shapes are not
#: stated by these files, so a node has no `output_types`.
onnx = ImportRules("ONNX")
