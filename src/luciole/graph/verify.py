"""What holds of every graph between passes.

1. Every operand is an input, a constant, or the result of an earlier operator of the same graph.
2. A result knows its operator and its place among that operator's results; inputs and constants have no producer.
3. The users of a value are the operators of the graph that have it as an operand, and no others.
4. Names of values are unique and not empty.
5. The types of results are those that `infer` gives.
6. A constant's data has the type's element type and shape and cannot be written; inputs and results have no data.
7. Types are sound: an element type that tensors may have, at most `MAXIMUM_ELEMENTS` elements; quantization of integers
   only, with positive float32 scales, one for the tensor or one for each slice along an axis that exists.
8. Outputs are values of the graph; names of outputs are unique.
9. An operator's class is the one registered under its kind, and its attributes have a text form.
10. An operator's `quant`, where given, is the quantization of its first result.
11. All this holds of a graph that is an attribute, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from luciole.errors import CompileError, InternalError
from luciole.graph.core import OPERATORS, Graph, Operator, Value
from luciole.graph.text import attribute_text
from luciole.ir.types import MAXIMUM_ELEMENTS, DType, TensorType


def verify_graph(graph: Graph) -> None:
    """Raise `InternalError` that lists every broken invariant by its number (see the module's text)."""
    problems = [f"{number}. {text}" for number, text in graph_problems(graph)]
    if problems:
        raise InternalError(f"graph {graph.name} is broken:\n  " + "\n  ".join(problems))


def graph_problems(graph: Graph) -> Iterator[tuple[int, str]]:
    """The broken invariants of a graph, each with its number."""
    yield from _order(graph)
    yield from _users(graph)
    yield from _names(graph)
    for op in graph.operators:
        yield from _operator(graph, op)
    constants = set(graph.constants)
    for value in graph.values():
        yield from _data(value, value in constants)
        yield from ((7, f"{value!r}: {problem}") for problem in type_problems(value.type))
    known = set(graph.values())
    for name, value in graph.outputs:
        if value not in known:
            yield 8, f"output {name} is {value!r}, which is no value of the graph"


def _order(graph: Graph) -> Iterator[tuple[int, str]]:
    made = {*graph.inputs, *graph.constants}
    for value in (*graph.inputs, *graph.constants):
        if value.producer is not None:
            yield 2, f"{value!r} is an input or a constant and has the producer {value.producer}"
    for op in graph.operators:
        for operand in op.operands:
            if operand not in made:
                yield 1, f"{op} reads {operand!r}, which nothing before it makes"
        for index, value in enumerate(graph.results(op)):
            if value.producer is not op or value.index != index:
                yield 2, f"{value!r} is result {index} of {op}, but says result {value.index} of {value.producer}"
            made.add(value)


def _users(graph: Graph) -> Iterator[tuple[int, str]]:
    users: dict[Value, dict[Operator, None]] = {value: {} for value in graph.values()}
    for op in graph.operators:
        for operand in op.operands:
            users.setdefault(operand, {})[op] = None
    for value, expected in users.items():
        for op in expected:
            if op not in value.users:
                yield 3, f"{value!r} does not know its user {op}"
        for op in value.users:
            if op not in expected:
                yield 3, f"{value!r} names the user {op}, which does not read it or is not in the graph"


def _names(graph: Graph) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for value in graph.values():
        if not value.name:
            yield 4, f"a value of type {value.type} has no name"
        elif value.name in seen:
            yield 4, f"two values are named {value.name}"
        seen.add(value.name)
    outputs: set[str] = set()
    for name, _ in graph.outputs:
        if name in outputs:
            yield 8, f"two outputs are named {name}"
        outputs.add(name)


def _operator(graph: Graph, op: Operator) -> Iterator[tuple[int, str]]:
    types = tuple(value.type for value in graph.results(op))
    try:
        inferred = op.result_types()
    except CompileError as error:
        yield 5, f"{op} has no type: {error}"
        return
    if inferred != types:
        yield 5, f"{op} gives {', '.join(map(str, inferred))}, its results are {', '.join(map(str, types))}"
    if op.quant is not None and (not types or types[0].quant != op.quant):
        yield 10, f"{op} has quant {op.quant}, its first result is {types[0] if types else 'missing'}"
    if OPERATORS.get(op.kind) is not type(op):
        yield 9, f"{op} is a {type(op).__name__}, which is not registered as {op.kind}"
    for name, attribute in op.attributes().items():
        if isinstance(attribute, Graph):
            yield from ((11, f"{op}: {number}. {text}") for number, text in graph_problems(attribute))
            continue
        try:
            attribute_text(attribute)
        except InternalError as error:
            yield 9, f"{op}: {name}: {error}"


def _data(value: Value, is_constant: bool) -> Iterator[tuple[int, str]]:
    if not is_constant:
        if value.data is not None:
            yield 6, f"{value!r} is no constant and has data"
        return
    data = value.data
    if data is None:
        yield 6, f"constant {value!r} has no data"
    elif tuple(data.shape) != value.type.shape or data.dtype != value.type.dtype.numpy:
        yield 6, f"constant {value!r} holds {data.dtype}{list(data.shape)}"
    elif data.flags.writeable:
        yield 6, f"constant {value!r} can be written"


def type_problems(type: TensorType) -> Iterator[str]:
    """What is wrong with a tensor's type (invariant 7)."""
    if type.dtype in (DType.INDEX, DType.POINTER):
        yield f"no tensor has elements of type {type.dtype.value}"
    if any(size < 0 for size in type.shape):
        yield "a size is negative"
    elif type.elements > MAXIMUM_ELEMENTS:
        yield f"it has {type.elements} elements"
    quant = type.quant
    if quant is None:
        return
    if not type.dtype.is_integer:
        yield f"{type.dtype.value} is quantized"
    if not all(0.0 < scale < math.inf and float(np.float32(scale)) == scale for scale in quant.scales):
        yield "a scale is no positive float32 number"
    if quant.is_per_channel and not (0 <= quant.axis < type.rank and type.shape[quant.axis] == len(quant.scales)):
        yield f"it has {len(quant.scales)} scales along axis {quant.axis}"
