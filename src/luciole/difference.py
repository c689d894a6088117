"""The first operator whose compiled code does not give what the operator means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.extract import graph_up_to
from luciole.graph.interpret import run_graph
from luciole.ir.types import Array
from luciole.program.core import Program

#: Float results may differ from the reference by this much, relative to the largest magnitude of the result.
FLOAT_TOLERANCE = 1e-5
#: The same for half floats, whose last place is 1e-3 of them.
HALF_TOLERANCE = 4e-3

#: Compiles a graph and runs it on the sample; the program, and the outputs by name.
CompileAndRun = Callable[[Graph], tuple[Program, Mapping[str, Array]]]


@dataclass(frozen=True)
class Difference:
    """An operator and the value it makes, the kernel that ran it, and what was found and expected.

    `needs_sharing` says that the operator is right as long as every value has memory of its own: then the memory plan
    or a kernel that works in place is wrong.
    """

    operator: Operator
    value: Value
    kernel: str
    recipe: str
    found: Array
    expected: Array
    needs_sharing: bool

    @property
    def differing(self) -> Array:
        """Flat indices of the elements that differ by more than is promised, ascending."""
        return np.flatnonzero(elements_differ(self.found, self.expected))

    @property
    def first_index(self) -> tuple[int, ...]:
        """The first element that differs."""
        return tuple(int(i) for i in np.unravel_index(int(self.differing[0]), self.expected.shape))


def elements_differ(found: Array, expected: Array) -> Array:
    """Which elements differ: in any bit for integers, by more than the promised tolerance for floats."""
    if found.dtype.kind != "f":
        return np.asarray(found != expected)
    finite = np.abs(expected[np.isfinite(expected)])
    tolerance = HALF_TOLERANCE if found.dtype == np.float16 else FLOAT_TOLERANCE
    limit = tolerance * (float(finite.max(initial=0.0)) or 1.0)
    with np.errstate(invalid="ignore"):
        close = np.abs(found.astype(np.float64) - expected.astype(np.float64)) <= limit
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    return np.asarray(~(close | same))


def arrays_agree(found: Array, expected: Array) -> bool:
    """Whether no element differs."""
    return not bool(elements_differ(found, expected).any())


def graphs_agree(first: Graph, second: Graph, inputs: Mapping[str, Array]) -> bool:
    """Whether two graphs mean the same on a sample, such as a graph before and after passes."""
    found, expected = run_graph(second, inputs), run_graph(first, inputs)
    return all(arrays_agree(found[name], expected[name]) for name, _ in first.outputs)


def find_first_difference(graph: Graph, inputs: Mapping[str, Array], run: CompileAndRun) -> Difference | None:
    """The first operator, in the order of `graph`, whose own code gives another result than its meaning on `inputs`.

    First the graph is compiled with every value as an output, so that no two share memory. If all are right then, the
    graph is compiled up to one value after another, by bisection, with memory shared as usual. None means that the
    difference does not show in either.
    """
    expected: dict[Value, Array] = {}
    run_graph(graph, inputs, lambda value, array: expected.update({value: array}))
    values = [value for op in graph.operators for value in graph.results(op)]
    program, found = run(graph_up_to(graph, values))
    for value in values:
        if not arrays_agree(found[value.name], expected[value]):
            return _difference(program, value, found[value.name], expected[value], needs_sharing=False)

    def check(value: Value) -> Difference | None:
        program, found = run(graph_up_to(graph, [value]))
        if arrays_agree(found[value.name], expected[value]):
            return None
        return _difference(program, value, found[value.name], expected[value], needs_sharing=True)

    worst, low, high = None, 0, len(values)
    while low < high:
        middle = (low + high) // 2
        difference = check(values[middle])
        if difference is None:
            low = middle + 1
        else:
            worst, high = difference, middle
    while worst is not None:
        operands = [v for v in worst.value.producer.operands if v.producer] if worst.value.producer else []
        earlier = next((d for d in map(check, operands) if d is not None), None)
        if earlier is None:
            return worst
        worst = earlier
    return None


def _difference(program: Program, value: Value, found: Array, expected: Array, *, needs_sharing: bool) -> Difference:
    """What is known about a wrong value; `program` computes a copy of it under the same name."""
    assert value.producer is not None
    kernel, recipe = "", ""
    for instruction in program.instructions:
        if value.name in (result.name for result in program.graph.results(instruction.operator)):
            kernel, recipe = instruction.kernel, instruction.recipe
    return Difference(value.producer, value, kernel, recipe, found, expected, needs_sharing)
