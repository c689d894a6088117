"""Each invariant of graphs, broken on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from luciole.errors import InternalError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.verify import graph_problems, verify_graph
from luciole.ir.quant import Quant
from luciole.ir.types import DType, TensorType
from luciole.ops.fused import fuse
from support.toy_operators import ToyAdd, ToyAttributes, ToyRelu, registered_toys


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with registered_toys():
        yield


def sound_graph() -> Graph:
    """relu(x + c), then that plus x."""
    g = GraphBuilder("sound")
    x, c = g.input("x", DType.F32, (1, 3)), g.constant(np.array([1, 2, 3], np.float32))
    t = g.add(ToyRelu(g.add(ToyAdd(x, c), "sum")), "t")
    g.output("y", g.add(ToyAdd(t, x), "y"))
    return g.graph


def broken(graph: Graph) -> set[int]:
    numbers = {number for number, _ in graph_problems(graph)}
    if numbers:
        with pytest.raises(InternalError) as caught:
            verify_graph(graph)
        assert all(f"\n  {number}. " in str(caught.value) for number in numbers)
    else:
        verify_graph(graph)
    return numbers


def test_a_sound_graph_has_no_problems() -> None:
    assert broken(sound_graph()) == set()


def test_1_operands_are_made_before_they_are_read() -> None:
    graph = sound_graph()
    graph.reorder(reversed(graph.operators))
    assert broken(graph) == {1}


def test_1_operands_belong_to_the_graph() -> None:
    graph, other = sound_graph(), sound_graph()
    graph.add(ToyRelu(other.inputs[0]))
    assert broken(graph) == {1, 3}
    assert broken(other) == {3}


def test_2_results_know_their_producer() -> None:
    graph = sound_graph()
    graph.result(graph.operators[0]).producer = graph.operators[1]
    assert broken(graph) == {2}
    graph = sound_graph()
    graph.result(graph.operators[0]).index = 1
    assert broken(graph) == {2}
    graph = sound_graph()
    graph.inputs[0].producer = graph.operators[1]
    assert broken(graph) == {2}


def test_3_users_are_exact() -> None:
    graph = sound_graph()
    del graph.inputs[0].users[graph.operators[0]]
    assert broken(graph) == {3}
    graph = sound_graph()
    graph.inputs[0].users[graph.operators[1]] = None
    assert broken(graph) == {3}


@pytest.mark.parametrize("name", ["x", ""])
def test_4_names_are_unique_and_not_empty(name: str) -> None:
    graph = sound_graph()
    graph.result(graph.operators[0]).name = name
    assert broken(graph) == {4}


def test_5_types_are_inferred() -> None:
    graph = sound_graph()
    graph.result(graph.operators[-1]).type = TensorType(DType.F32, (3, 1))
    assert broken(graph) == {5}
    graph = sound_graph()
    graph.inputs[0].type = TensorType(DType.F32, (2,))  # now nothing broadcasts
    assert broken(graph) == {5}


def test_6_only_constants_have_data_and_it_fits_their_type() -> None:
    graph = sound_graph()
    graph.inputs[0].data = np.zeros((1, 3), np.float32)
    assert broken(graph) == {6}
    data: list[np.ndarray | None] = [None, np.zeros((1, 3), np.float32), np.zeros(3, np.int32), np.zeros(3, np.float32)]
    for array in data:
        graph = sound_graph()
        graph.constants[0].data = array
        assert broken(graph) == {6}


@pytest.mark.parametrize(
    "type",
    [
        TensorType(DType.INDEX, (2,)),
        TensorType(DType.POINTER, ()),
        TensorType(DType.F32, (-1,)),
        TensorType(DType.F32, (1 << 16, 1 << 16)),
        TensorType(DType.F32, (2,), Quant.per_tensor(0.5)),
        TensorType(DType.I8, (2,), Quant((0.1,), (0,))),
        TensorType(DType.I8, (2,), Quant.per_tensor(0.0)),
        TensorType(DType.I8, (2,), Quant.per_tensor(-1.0)),
        TensorType(DType.I8, (2,), Quant.per_tensor(float("inf"))),
        TensorType(DType.I8, (2,), Quant((0.5, 0.5, 0.5), (0, 0, 0), 0)),
        TensorType(DType.I8, (2,), Quant((0.5, 0.5), (0, 0), 1)),
    ],
)
def test_7_types_are_sound(type: TensorType) -> None:
    graph = sound_graph()
    graph.add_input("bad", type)
    assert broken(graph) == {7}


def test_8_outputs_exist_under_unique_names() -> None:
    graph = sound_graph()
    graph.add_output("z", Value("z", TensorType(DType.F32, ())))
    assert broken(graph) == {8}
    graph = sound_graph()
    graph.add_output("y", graph.inputs[0])
    assert broken(graph) == {8}


def test_9_operators_are_registered_and_their_attributes_print() -> None:
    graph = sound_graph()
    graph.add(ToyAttributes(graph.inputs[0], pair=[1, 2]))  # type: ignore[arg-type]  # on purpose
    assert broken(graph) == {9}
    graph = sound_graph()

    class Unregistered(ToyRelu):
        """An operator that nobody knows."""

    graph.add(Unregistered(graph.inputs[0]))
    assert broken(graph) == {9}


def test_10_an_operators_quant_is_that_of_its_result() -> None:
    graph = sound_graph()
    graph.add(ToyRelu(graph.inputs[0], quant=Quant.per_tensor(0.5)))
    assert broken(graph) == {10}


def test_11_graphs_within_are_checked_too() -> None:
    graph = sound_graph()
    first, relu, _ = graph.operators
    fused = fuse([first, relu], graph)
    graph.replace(relu, fused)
    graph.erase(first)
    assert broken(graph) == set()
    inner = fused.body.operators[0]
    fused.body.result(inner).name = fused.body.inputs[0].name
    assert broken(graph) == {11}
