"""`Loop` and `Scan` as the nodes of their bodies, once for each turn: their number is known, and not large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from luciole.errors import Location, printable
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode
from luciole.importers.onnx.model import Branch, OnnxNode
from luciole.ir.types import MAXIMUM_ELEMENTS, Array
from luciole.ops.concat import Concat
from luciole.ops.gather import taken
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import axis_of

#: The kinds of nodes with a body that runs several times.
KINDS = ("Loop", "Scan")

#: All loops of a model become so many nodes together.
MAXIMUM_UNROLLED = 1 << 13

#: Scan has the operands of this version on; before, it had batches and lengths.
_SCAN_VERSION = 9


class Scope(Protocol):
    """What the graph under construction does for its loops."""

    g: GraphBuilder
    #: Tensors that are known, by name.
    arrays: dict[str, Array]
    #: Tensors that have a value, by name.
    values: dict[str, Value]
    #: How many nodes of bodies were added.
    unrolled: int

    def add_inner(self, node: OnnxNode, opset: int) -> None:
        """Add a node of a body, in the words of an opset. Raises `CompileError`."""

    def operand(self, name: str, location: Location) -> Value:
        """The value of a tensor that something made."""


def unroll(node: ForeignNode, names: tuple[str, ...], opset: int, scope: Scope) -> None:
    """Add all turns of a `Loop` or `Scan` whose operands have these names, and bind its results."""
    body = node.attributes.get("body")
    if not isinstance(body, Branch):
        raise node.error(f"the body of {node.kind} must be a graph")
    if node.kind == "Scan":
        if opset < _SCAN_VERSION:
            raise node.unsupported(f"Scan of opset {opset}", help=f"convert it to opset {_SCAN_VERSION} or newer")
        _Turns(node, body, scope, opset).scan(names)
    else:
        _Turns(node, body, scope, opset).loop(names)


class _Turns:
    """One loop, turn by turn."""

    def __init__(self, node: ForeignNode, body: Branch, scope: Scope, opset: int) -> None:
        self.node = node
        self.opset = opset
        self.body = body
        self.scope = scope
        self.prefix = next((name for name in node.output_names if name), node.location.node)
        #: For each result that is gathered over the turns, the names of its parts.
        self.gathered: list[list[str]] = []

    def loop(self, names: tuple[str, ...]) -> None:
        """Operands are the number of turns, a condition, and what goes from turn to turn."""
        node, scope = self.node, self.scope
        carried = list(names[2:])
        if len(self.body.inputs) != 2 + len(carried):
            raise node.error(f"the body of Loop has {len(self.body.inputs)} inputs, not {2 + len(carried)}")
        if not 1 + len(carried) <= len(self.body.outputs):
            raise node.error(f"the body of Loop has {len(self.body.outputs)} results for {len(carried)} tensors")
        count, condition = self._known(names, 0), self._known(names, 1)
        if count is None:
            raise node.unsupported(
                "Loop without a number of turns",
                help="export the model with loops of a constant length",
                code="unsupported-operator",
            )
        turns = int(count) if condition is None or bool(condition) else 0
        self._check_count(turns)
        for turn in range(turns):
            position, truth = self._name(turn, "turn"), self._name(turn, "condition")
            scope.arrays[position], scope.arrays[truth] = np.array(turn, np.int64), np.array(True)
            proceeds, *results = self._turn(turn, [position, truth, *carried])
            carried = self._split(results, len(carried))
            if proceeds not in scope.arrays:
                raise node.unsupported(
                    "Loop until a condition that is computed at run time",
                    help="export the model with loops of a constant length",
                    code="unsupported-operator",
                )
            if not scope.arrays[proceeds].all():
                break
        self._bind(carried, [0] * len(self.gathered))

    def scan(self, names: tuple[str, ...]) -> None:
        """Operands are what goes from turn to turn, and tensors of which each turn takes a slice."""
        node = self.node
        count = node.integer("num_scan_inputs")
        if not 1 <= count <= len(names) or len(self.body.inputs) != len(names):
            raise node.error(f"Scan of {len(names)} operands with {count} scanned, and {len(self.body.inputs)} inputs")
        carried, scanned = list(names[:-count]), [self.scope.operand(n, node.location) for n in names[-count:]]
        results = len(self.body.outputs) - len(carried)
        if results < 0 or any(not value.type.rank for value in scanned):
            raise node.error(f"the body of Scan has {len(self.body.outputs)} results for {len(carried)} tensors")
        given, backward = self._each("scan_input_axes", count), self._each("scan_input_directions", count)
        axes = [axis_of(node, axis, value.type.rank) for axis, value in zip(given, scanned, strict=True)]
        turns = {value.type.shape[axis] for axis, value in zip(axes, scanned, strict=True)}
        if len(turns) != 1:
            raise node.error(f"Scan of tensors with {sorted(turns)} slices")
        (length,) = turns
        self._check_count(length)
        for turn in range(length):
            slices = []
            for number, (value, axis) in enumerate(zip(scanned, axes, strict=True)):
                slices.append(self._name(turn, f"slice{number}"))
                self._take(slices[-1], value, axis, length - 1 - turn if backward[number] else turn)
            carried = self._split(self._turn(turn, [*carried, *slices]), len(carried))
        for parts, is_backward in zip(self.gathered, self._each("scan_output_directions", results), strict=True):
            if is_backward:
                parts.reverse()
        self._bind(carried, list(self._each("scan_output_axes", results)))

    def _each(self, name: str, count: int) -> tuple[int, ...]:
        """An attribute with a number for each of several tensors, by default 0."""
        numbers = self.node.integers(name, (0,) * count)
        if len(numbers) != count:
            raise self.node.error(f"{name} has {len(numbers)} numbers for {count} tensors")
        return numbers

    def _name(self, turn: int, name: str) -> str:
        return f"{self.prefix}/{turn}/{name}"

    def _known(self, names: tuple[str, ...], index: int) -> Array | None:
        """The number that an operand is, or `None` where it is left out; at run time it may not be computed."""
        if index >= len(names) or not names[index]:
            return None
        array = self.scope.arrays.get(names[index])
        if array is None or array.size != 1:
            what = "number of turns" if index == 0 else "condition"
            raise self.node.unsupported(
                f"Loop whose {what} is computed at run time",
                help="export the model with loops of a constant length",
                code="unsupported-operator",
            )
        return np.asarray(array.reshape(()))

    def _check_count(self, turns: int) -> None:
        nodes = max(turns, 0) * max(1, len(self.body.nodes))
        if turns < 1:
            raise self.node.unsupported(f"{self.node.kind} that never runs", code="unsupported-empty")
        if self.scope.unrolled + nodes > MAXIMUM_UNROLLED:
            raise self.node.unsupported(
                f"{self.node.kind} of {turns} turns would become {nodes} nodes; the limit for a model is"
                f" {MAXIMUM_UNROLLED}",
                help="use ONNX's LSTM, GRU or RNN, which stay loops",
                code="too-large",
            )

    def _turn(self, turn: int, inputs: list[str]) -> list[str]:
        """Add the body once; the names of its results."""
        renamed = _renamed(self.body, f"{self.prefix}/{turn}/", dict(zip(self.body.inputs, inputs, strict=True)))
        made = [*renamed.constants, *(name for inner in renamed.nodes for name in inner.outputs if name)]
        taken_names = [name for name in made if name in self.scope.arrays or name in self.scope.values]
        if taken_names or len(set(made)) != len(made):
            twice = printable((taken_names or made)[0])
            raise self.node.error(f'"{twice}" is made twice', code="malformed-graph")
        self.scope.arrays.update(renamed.constants)
        self.scope.unrolled += max(1, len(renamed.nodes))
        for inner in renamed.nodes:
            self.scope.add_inner(inner, self.opset)
        return list(renamed.outputs)

    def _split(self, results: list[str], carried: int) -> list[str]:
        """What goes to the next turn; the rest is gathered."""
        if not self.gathered:
            self.gathered = [[] for _ in results[carried:]]
        for parts, name in zip(self.gathered, results[carried:], strict=True):
            parts.append(name)
        return results[:carried]

    def _take(self, name: str, x: Value, axis: int, position: int) -> None:
        """Name a slice of x, without the axis."""
        if x.data is not None and x.type.quant is None:
            self.scope.arrays[name] = np.take(x.data, position, axis)
            return
        shape = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
        slice_ = taken(self.node, self.scope.g, x, axis, range(position, position + 1))
        self.scope.values[name] = reshaped(self.node, self.scope.g, slice_, shape)

    def _bind(self, carried: list[str], axes: list[int]) -> None:
        """Give the results of the node their values."""
        node, scope = self.node, self.scope
        outputs = node.output_names
        if len(outputs) > len(carried) + len(self.gathered):
            raise node.error(f"{node.kind} with {len(outputs)} results, of a body with fewer")
        for name, inner in zip(outputs, carried, strict=False):
            if name:
                scope.values[name] = scope.operand(inner, node.location)
                if inner in scope.arrays:
                    scope.arrays[name] = scope.arrays[inner]
        for name, parts, given in zip(outputs[len(carried) :], self.gathered, axes, strict=False):
            if not name:
                continue
            values = [scope.operand(part, node.location) for part in parts]
            shape = values[0].type.shape
            if any(value.type.shape != shape for value in values):
                raise node.unsupported(f"{node.kind} whose turns give results of different shapes")
            if len(values) * math.prod(shape) > MAXIMUM_ELEMENTS:
                raise node.unsupported(f"{node.kind} gathers {len(values)} times {list(shape)}", code="too-large")
            axis = axis_of(node, given, len(shape) + 1)
            if all(part in scope.arrays for part in parts):
                scope.arrays[name] = np.stack([scope.arrays[part] for part in parts], axis)
                continue
            long = (*shape[:axis], 1, *shape[axis:])
            rows = tuple(reshaped(node, scope.g, value, long) for value in values)
            scope.values[name] = scope.g.add(Concat(rows, axis, location=node.location), name)


def _renamed(body: Branch, prefix: str, given: Mapping[str, str]) -> Branch:
    """A body whose own tensors have a prefix; `given` are the names that its inputs, or those around it, go by."""
    own = [*body.constants, *(name for node in body.nodes for name in node.outputs if name)]
    names = dict(given) | {name: f"{prefix}{name}" for name in own}
    nodes = []
    for node in body.nodes:
        attributes = {
            key: _renamed(value, prefix, {k: v for k, v in names.items() if k not in value.inputs})
            if isinstance(value, Branch)
            else value
            for key, value in node.attributes.items()
        }
        nodes.append(
            replace(
                node,
                inputs=tuple(names.get(name, name) for name in node.inputs),
                outputs=tuple(names.get(name, name) for name in node.outputs),
                attributes=attributes,
            )
        )
    constants = {names[name]: array for name, array in body.constants.items()}
    return Branch(constants, tuple(nodes), tuple(names.get(name, name) for name in body.outputs), body.inputs)
