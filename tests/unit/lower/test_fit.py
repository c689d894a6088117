"""RAM as an input: the smallest program, the fastest that fits, and models that must be small."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.compilation import Compilation
from luciole.driver import build_program
from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.text import save_graph
from luciole.ir.target import find_target
from luciole.lower.fit import Fitting
from luciole.lower.lower import LoweringOptions, lower
from luciole.options import Options
from luciole.program.interpret import run_program
from luciole.program.verify import verify_program
from support.program_checks import assert_same_outputs, random_inputs
from support.row_graphs import row_graph, tall_graph

#: Bytes of the arena on Cortex-M4 that must be enough, workspace included.
GOALS = {"ic_resnet8_int8": 18_500, "kws_dscnn_int8": 7_000, "vww_mbv1_int8": 30_600, "sww_int8": 4_100}


def fitting(graph: Graph) -> Fitting:
    target, options = find_target("cortex-m4"), LoweringOptions()
    return Fitting(lower(graph, target, options), target, options)


@pytest.mark.parametrize("seed", [2, 6, 15])
def test_less_ram_is_another_program_with_the_same_bits(seed: int) -> None:
    graph = row_graph(seed, 10)
    inputs = random_inputs(graph, seed)
    expected = run_graph(graph, inputs)
    found = fitting(graph)
    smallest = found.smallest()
    sizes = [program.arena.size_bytes for program in (smallest, found.overlapped, found.plain)]
    assert sizes == sorted(sizes)
    for limit in {*sizes, (sizes[0] + sizes[1]) // 2}:
        program = found.within(limit)
        verify_program(program)
        assert program.arena.size_bytes <= limit
        assert_same_outputs(run_program(program, inputs), expected)
    assert found.within(sizes[0] - 1).arena.size_bytes == sizes[0]


def test_streams_make_a_network_smaller_than_overlap() -> None:
    found = fitting(row_graph(2, 10))
    smallest = found.smallest()
    assert smallest.streams and smallest.arena.size_bytes < found.overlapped.arena.size_bytes


def test_what_does_not_fit_says_what_would(tmp_path: Path) -> None:
    source = tmp_path / "net.graph"
    save_graph(row_graph(2, 10), source)
    with Compilation(source, Options("cortex-m4", optimize="ram")) as run:
        least = build_program(run).arena.size_bytes
    with Compilation(source, Options("cortex-m4", max_ram=least)) as run:
        assert build_program(run).arena.size_bytes <= least
    with Compilation(source, Options("cortex-m4", max_ram=least - 1)) as run, pytest.raises(CompileError) as caught:
        build_program(run)
    (problem,) = caught.value.diagnostics
    assert problem.code == "does-not-fit"
    assert problem.message == f"the arena needs {least:,} B, --max-ram allows {least - 1:,} B"
    assert any("smallest" in note for note in problem.notes)


def test_trade_offs_give_ram_for_time() -> None:
    found = fitting(tall_graph())
    points = found.trade_offs()
    assert len(points) > 1 and points[-1].streamed_layers > 0
    for fast, small in pairwise(points):
        assert fast.arena_bytes > small.arena_bytes and fast.instructions < small.instructions


def test_inspect_shows_trade_offs(tmp_path: Path) -> None:
    source = tmp_path / "net.graph"
    save_graph(tall_graph(), source)
    command = [sys.executable, "-m", "luciole.cli.main", "inspect", str(source), "--target", "cortex-m4", "--pareto"]
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    points = json.loads(as_json)["trade_offs"]
    assert points[0]["slowdown"] == 1.0 and points[-1]["way"] == "row by row"
    page = tmp_path / "page.html"
    command += ["--html", str(page)]
    as_text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "RAM against time" in as_text and "####" in as_text
    drawn = page.read_text(encoding="utf-8")
    assert drawn.count("<circle") == len(points) and f"{points[-1]['arena_bytes']:,} B" in drawn


@pytest.mark.slow
def test_two_rows_at_a_time_are_faster_where_there_is_room(shared_model: Callable[[str], Path]) -> None:
    """Winograd's kernels compute pairs of rows; they buy speed with flash. One row at a time it is 12.3 M."""
    path = shared_model("ic_resnet8_int8")
    session = luciole.load(path, target="cortex-m4", max_ram="33K", optimize="speed")
    assert session.program.arena.size_bytes <= 33 << 10
    assert 2 in {instruction.rows for instruction in session.program.instructions}
    with np.load(path.with_suffix("").with_suffix(".golden.npz")) as golden:
        (found,) = session.run({0: golden["input"][0]}, measure=True).values()
        assert np.array_equal(found, golden["output0"][0])
    assert session.last_run.instructions <= 9_600_000


@pytest.mark.slow
@pytest.mark.parametrize("model", GOALS)
def test_models_need_so_little_ram(shared_model: Callable[[str], Path], model: str) -> None:
    with Compilation(shared_model(model), Options("cortex-m4", optimize="ram")) as run:
        assert build_program(run).arena.size_bytes <= GOALS[model]
