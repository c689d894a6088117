"""Passes on small graphs: `tests/golden/passes/*.case`.

A case has comments, the line `run: PASS...` (`within TOLERANCE` for float results that may differ), a graph as it
prints, a line `----`, and the graph expected. Both graphs run on three random inputs and must agree. `--update`
rewrites what is expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.text import parse_graph, print_graph
from luciole.graph.verify import verify_graph
from luciole.ir.types import Array, DType
from luciole.ops.catalog import load_operators
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.passes.pipeline import PASSES

CASES = sorted((Path(__file__).parents[2] / "golden" / "passes").glob("*.case"))

HEADER = re.compile(r"^run: (?P<passes>[a-z_ ]+?)(?: within (?P<tolerance>\S+))?$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A case file: comments, passes to run, the graph, and the graph expected."""

    path: Path

    @property
    def parts(self) -> tuple[str, str, str]:
        head, graph, expected = re.split(r"^(?=graph )|^----\n", self.path.read_text(), maxsplit=2, flags=re.MULTILINE)
        return head, graph, expected


def random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)

    def array(dtype: DType, shape: tuple[int, ...]) -> Array:
        if dtype.is_float:
            return random.uniform(-4, 4, shape).astype(np.float32)
        low, high = dtype.limits
        return random.integers(low, high, shape, endpoint=True).astype(dtype.numpy)

    return {value.name: array(value.type.dtype, value.type.shape) for value in graph.inputs}


def assert_same_meaning(before: Graph, after: Graph, tolerance: float) -> None:
    for seed in range(3):
        inputs = random_inputs(before, seed)
        old, new = run_graph(before, inputs), run_graph(after, inputs)
        assert list(old) == list(new)
        for name in old:
            if tolerance:
                np.testing.assert_allclose(new[name], old[name], rtol=tolerance, atol=tolerance)
            else:
                assert new[name].tobytes() == old[name].tobytes()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, update_cases: bool) -> None:
    head, text, expected = Case(path).parts
    header = HEADER.search(head)
    assert header is not None, "the line `run: PASS...` is missing"
    load_operators()
    before, graph = parse_graph(text), parse_graph(text)
    assert print_graph(before) == text, "the graph is not written as it prints"
    context = PassContext(DeveloperOptions(verify="each"))
    context.run_pipeline(graph, [PASSES[name] for name in header["passes"].split()])
    verify_graph(graph)
    assert_same_meaning(before, graph, float(header["tolerance"] or 0))
    found = print_graph(graph)
    if found != expected and update_cases:
        path.write_text(f"{head}{text}----\n{found}")
    else:
        assert found == expected
