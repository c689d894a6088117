"""Texts of graphs and how they print: `tests/golden/graph/*.case`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luciole.graph.text import parse_graph, print_graph
from luciole.graph.verify import verify_graph
from luciole.ops.catalog import load_operators

CASES = sorted((Path(__file__).parents[2] / "golden" / "graph").glob("*.case"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, update_cases: bool) -> None:
    load_operators()
    text = path.read_text(encoding="utf-8")
    given, expected = re.split(r"^----\n", text, maxsplit=1, flags=re.MULTILINE)
    graph = parse_graph(given, file=path.name)
    verify_graph(graph)
    found = print_graph(graph)
    if found != expected and update_cases:
        path.write_text(f"{given}----\n{found}", encoding="utf-8")
    else:
        assert found == expected
    assert print_graph(parse_graph(found)) == found
