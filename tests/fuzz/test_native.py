"""Random graphs compiled for this machine, as an object and as C: the same numbers as the graph's meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

import luciole
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.text import print_graph, save_graph
from luciole.ir.types import Array
from support.program_checks import random_inputs
from support.random_graphs import graphs
from support.two_results import registered_halves


@pytest.fixture(autouse=True)
def halves() -> Iterator[None]:
    with registered_halves():
        yield


def assert_nearly(found: Array, expected: Array) -> None:
    """Integers equal; floats as near as sums in another order leave them, measured at the largest of the tensor."""
    if expected.dtype.kind == "f":
        largest = float(np.abs(expected).max(initial=1.0))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * largest)
    else:
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("emit", ["object", "c"])
def test_machine_code_gives_what_graphs_give(emit: str, tmp_path: Path) -> None:
    path = tmp_path / "random.graph"

    # A failure is shown as it is: shrinking would compile hundreds of graphs.
    @settings(max_examples=10, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
    @given(graphs(), st.booleans(), st.booleans())
    def check(graph: Graph, keep_input: bool, keep_output: bool) -> None:
        note(print_graph(graph))
        save_graph(graph, path)
        try:
            session = luciole.load(path, emit=emit, keep_input=keep_input, keep_output=keep_output)
        except luciole.ToolError as missing:
            pytest.skip(str(missing))
        for seed in range(2):
            inputs = random_inputs(graph, seed)
            outputs = session.run(inputs)
            for name, expected in run_graph(graph, inputs).items():
                assert_nearly(np.asarray(outputs[name]).reshape(expected.shape), expected)

    check()
