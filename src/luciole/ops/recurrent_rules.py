"""How recurrent layers of file formats become operators, one for each direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ir.types import DType
from luciole.ops.concat import Concat
from luciole.ops.elementwise import Add
from luciole.ops.gates import GATES
from luciole.ops.gather import taken
from luciole.ops.onnx_options import permuted
from luciole.ops.recurrent import Gru, Lstm, Recurrent, Rnn
from luciole.ops.reshape import reshaped

#: ONNX's names of activation functions, which it compares without case.
_ACTIVATIONS = {name.replace("_", ""): name for name in GATES}

_DIRECTIONS = {"forward": "forward", "reverse": "reverse", "bidirectional": "bidirectional"}


@dataclass(frozen=True, eq=False)
class _Layer:
    """A node of one of the recurrent kinds, read; `x` is [steps, batch, inputs]."""

    node: ForeignNode
    g: GraphBuilder
    x: Value
    directions: tuple[bool, ...]
    batch_first: bool
    lengths: Value | None
    options: Mapping[str, Any]

    def part(self, index: int, direction: int, *, is_state: bool = False) -> Value | None:
        """What operand `index` holds for a direction, along its first axis; states may have the batch before."""
        value = self.node.optional(index)
        if value is None:
            return None
        axis = 1 if is_state and self.batch_first else 0
        shape = value.type.shape
        if len(shape) <= axis or shape[axis] != len(self.directions):
            raise self.node.error(f"operand {index} of {self.node.kind} is {value.type}, not of every direction")
        rest = (*shape[:axis], *shape[axis + 1 :])
        if value.data is not None:
            return self.g.constant(value.data.take(direction, axis), name=value.name)
        return reshaped(self.node, self.g, taken(self.node, self.g, value, axis, [direction]), rest)

    def rows(self, value: Value | None, begin: int, end: int) -> Value | None:
        """Some elements of a vector."""
        if value is None:
            return None
        if value.type.rank != 1 or value.type.shape[0] < end:
            raise self.node.error(f"{self.node.kind} with a bias {value.type}, which needs {end} elements a direction")
        if value.data is not None:
            return self.g.constant(value.data[begin:end].copy(), name=value.name)
        return taken(self.node, self.g, value, 0, range(begin, end))

    def sum(self, a: Value | None, b: Value | None) -> Value | None:
        """The sum of two vectors, at once where both are constant."""
        if a is None or b is None:
            return a if b is None else b
        if a.data is not None and b.data is not None:
            return self.g.constant(a.data + b.data, name=a.name)
        return self.g.add(Add(a, b, location=self.node.location))

    def activations(self, direction: int, count: int) -> dict[str, Any]:
        """The attributes `activations` and `numbers` of a direction."""
        default = {1: ("Tanh",), 2: ("Sigmoid", "Tanh"), 3: ("Sigmoid", "Tanh", "Tanh")}[count]
        given = self.node.attributes.get("activations", default * len(self.directions))
        if not isinstance(given, tuple) or len(given) != count * len(self.directions):
            raise self.node.error(f"{self.node.kind} has activations {given!r}, not {count} a direction")
        names = [str(name).lower() for name in given]
        if unknown := [name for name in names if name not in _ACTIVATIONS]:
            help = f"supported are {', '.join(GATES)}"
            raise self.node.unsupported(f"{self.node.kind} with the activation {unknown[0]}", help=help)
        numbers = self._numbers([_ACTIVATIONS[name] for name in names])
        part = slice(direction * count, (direction + 1) * count)
        mine = tuple(_ACTIVATIONS[name] for name in names[part])
        is_default = all(
            pair == (GATES[name].alpha, GATES[name].beta) for name, pair in zip(mine, numbers[part], strict=True)
        )
        return {"activations": mine, "numbers": () if is_default else tuple(n for pair in numbers[part] for n in pair)}

    def _numbers(self, names: list[str]) -> list[tuple[float, float]]:
        """Alpha and beta of each function; the file gives those of the functions that have such a number, in order."""
        columns = []
        for attribute, has_one, default in (
            ("activation_alpha", _WITH_ALPHA, [GATES[name].alpha for name in names]),
            ("activation_beta", _WITH_BETA, [GATES[name].beta for name in names]),
        ):
            given = self.node.attributes.get(attribute, ())
            if not isinstance(given, tuple) or not all(isinstance(n, int | float) for n in given):
                raise self.node.error(f"{attribute} of {self.node.kind} is {given!r}")
            users = [index for index, name in enumerate(names) if name in has_one]
            if len(given) == len(names):
                users = list(range(len(names)))
            if len(given) > len(users):
                raise self.node.error(
                    f"{self.node.kind} has {len(given)} numbers {attribute}, for {len(users)} functions"
                )
            column = list(default)
            for index, number in zip(users, given, strict=False):
                column[index] = float(number)
            columns.append(column)
        return list(zip(*columns, strict=True))

    def results(self, operators: list[Recurrent]) -> tuple[Value, ...]:
        """The node's results: the sequence with the directions as an axis, and the last states."""
        values = [self.g.add_all(op) for op in operators]
        count = 1 + operators[0].further_states
        states = [self._joined([found[index] for found in values], 0) for index in range(count)]
        if operators[0].sequence:
            sequence = self._joined([found[count] for found in values], 1)
            if self.batch_first:
                sequence = permuted(self.node, self.g, sequence, (2, 0, 1, 3))
        else:
            sequence = states[0]  # which nobody reads
        if self.batch_first:
            states = [permuted(self.node, self.g, state, (1, 0, 2)) for state in states]
        return (sequence, *states)

    def _joined(self, parts: list[Value], axis: int) -> Value:
        wide = [
            reshaped(self.node, self.g, part, (*part.type.shape[:axis], 1, *part.type.shape[axis:])) for part in parts
        ]
        return wide[0] if len(wide) == 1 else self.g.add(Concat(tuple(wide), axis, location=self.node.location))


_WITH_ALPHA = {"affine", "leaky_relu", "thresholded_relu", "scaled_tanh", "hard_sigmoid", "elu"}
_WITH_BETA = {"affine", "scaled_tanh", "hard_sigmoid"}


def _layer(node: ForeignNode, g: GraphBuilder) -> _Layer:
    x = node.input(0)
    if x.type.rank != 3 or node.input(2).type.rank != 3:
        raise node.error(f"{node.kind} of {x.type} with recurrent weights {node.input(2).type}")
    units = node.input(2).type.shape[-1]
    if node.integer("hidden_size", units) != units:
        raise node.error(f"hidden_size of {node.kind} is {node.integer('hidden_size')}, its weights have {units}")
    batch_first = bool(node.integer("layout", 0))
    direction = node.choice("direction", _DIRECTIONS, "forward")
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    if batch_first:
        x = permuted(node, g, x, (1, 0, 2))
    lengths = node.optional(4)
    if lengths is not None:
        if lengths.type.dtype is not DType.I32 or lengths.type.shape != x.type.shape[1:2]:
            raise node.error(f"{node.kind} with lengths {lengths.type} of a batch of {x.type.shape[1]}")
        if lengths.data is not None:
            if not np.all((lengths.data >= 0) & (lengths.data <= x.type.shape[0])):
                raise node.error(f"{node.kind} with lengths beyond the {x.type.shape[0]} steps")
            lengths = None if np.all(lengths.data == x.type.shape[0]) else lengths
    clip = node.number("clip", 0.0) if "clip" in node.attributes else 0.0
    options = {"clip": clip, "sequence": bool(node.output_names[0]), "location": node.location}
    return _Layer(node, g, x, directions, batch_first, lengths, options)


@onnx("RNN")
def _import_rnn(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """Operands are x, w, r, and perhaps b, lengths and the first state; one operator for each direction."""
    layer, units = _layer(node, g), node.input(2).type.shape[-1]
    operators: list[Recurrent] = []
    for direction, reverse in enumerate(layer.directions):
        both = layer.part(3, direction)
        operators.append(
            Rnn(
                layer.x,
                _required(node, layer.part(1, direction)),
                _required(node, layer.part(2, direction)),
                layer.sum(layer.rows(both, 0, units), layer.rows(both, units, 2 * units)),
                layer.part(5, direction, is_state=True),
                layer.lengths,
                reverse=reverse,
                **layer.activations(direction, 1),
                **layer.options,
            )
        )
    return layer.results(operators)


@onnx("GRU")
def _import_gru(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """As RNN; `linear_before_reset` says that the reset comes after the product."""
    layer, units = _layer(node, g), node.input(2).type.shape[-1]
    reset_after = bool(node.integer("linear_before_reset", 0))
    operators: list[Recurrent] = []
    for direction, reverse in enumerate(layer.directions):
        both = layer.part(3, direction)
        of_inputs, of_state = layer.rows(both, 0, 3 * units), layer.rows(both, 3 * units, 6 * units)
        b2 = None
        if reset_after and of_inputs is not None and of_state is not None:
            gates = layer.sum(layer.rows(of_inputs, 0, 2 * units), layer.rows(of_state, 0, 2 * units))
            last = layer.rows(of_inputs, 2 * units, 3 * units)
            b, b2 = _joined(layer, gates, last), layer.rows(of_state, 2 * units, 3 * units)
        else:
            b = layer.sum(of_inputs, of_state)
        operators.append(
            Gru(
                layer.x,
                _required(node, layer.part(1, direction)),
                _required(node, layer.part(2, direction)),
                b,
                layer.part(5, direction, is_state=True),
                layer.lengths,
                reverse=reverse,
                b2=b2,
                reset_after=reset_after,
                **layer.activations(direction, 2),
                **layer.options,
            )
        )
    return layer.results(operators)


@onnx("LSTM")
def _import_lstm(node: ForeignNode, g: GraphBuilder) -> tuple[Value, ...]:
    """As RNN, with the first cell state and peephole weights behind."""
    if node.integer("input_forget", 0):
        raise node.unsupported("LSTM with input_forget is not supported")
    layer, units = _layer(node, g), node.input(2).type.shape[-1]
    operators: list[Recurrent] = []
    for direction, reverse in enumerate(layer.directions):
        both = layer.part(3, direction)
        operators.append(
            Lstm(
                layer.x,
                _required(node, layer.part(1, direction)),
                _required(node, layer.part(2, direction)),
                layer.sum(layer.rows(both, 0, 4 * units), layer.rows(both, 4 * units, 8 * units)),
                layer.part(5, direction, is_state=True),
                layer.lengths,
                reverse=reverse,
                c=layer.part(6, direction, is_state=True),
                p=layer.part(7, direction),
                **layer.activations(direction, 3),
                **layer.options,
            )
        )
    return layer.results(operators)


def _required(node: ForeignNode, value: Value | None) -> Value:
    if value is None:
        raise node.error(f"{node.kind} needs weights")
    return value


def _joined(layer: _Layer, a: Value | None, b: Value | None) -> Value | None:
    """Two vectors one after the other."""
    if a is None or b is None:
        return None
    if a.data is not None and b.data is not None:
        return layer.g.constant(np.concatenate([a.data, b.data]), name=a.name)
    return layer.g.add(Concat((a, b), 0, location=layer.node.location))
