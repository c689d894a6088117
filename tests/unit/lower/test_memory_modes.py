"""Random networks in every way to use memory: the same bits, and no access outside of the arena."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

from luciole.bundle.host import HostSession, find_compiler
from luciole.driver import compile_model
from luciole.errors import ToolError
from luciole.graph.interpret import run_graph
from luciole.graph.text import save_graph
from luciole.options import Options
from support.program_checks import random_inputs
from support.row_graphs import row_graph

#: Tensors apart; the smallest program, with overlap and streams; rows of the input from the caller.
MODES = {"plain": Options(), "smallest": Options(optimize="ram"), "pushed": Options(input_rows=True)}
#: Networks all of whose readers of the input run by rows.
SEEDS = (0, 2, 4, 6, 11, 15, 18, 24)


@cache
def has_sanitizer(folder: Path) -> bool:
    """Whether this machine's C compiler finds accesses outside of variables."""
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    try:
        command = [*find_compiler(), "-fsanitize=address", str(source), "-o", str(folder / "empty")]
    except ToolError:
        return False
    built = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return built and subprocess.run([folder / "empty"], capture_output=True, check=False).returncode == 0


def check(seed: int, mode: str, emit: str, folder: Path) -> None:
    """Outputs equal those of the graph; sessions look at guards around the arena, C runs under the sanitizer."""
    graph = row_graph(seed)
    source = folder / "rows.graph"
    save_graph(graph, source)
    options = MODES[mode]
    bundle = compile_model(source, Options(emit=emit, optimize=options.optimize, input_rows=options.input_rows))  # type: ignore[arg-type]  # a word
    if emit == "object":
        inputs = random_inputs(graph, seed)
        with HostSession.from_object(bundle.object_bytes, bundle.interface) as session:
            for _ in range(2):
                found = session.run([array.tobytes() for array in inputs.values()])
                assert found == [array.tobytes() for array in run_graph(graph, inputs).values()]
        return
    for name, data in bundle.files.items():
        (folder / name).write_bytes(data)
    flags = ["-fsanitize=address", "-fno-sanitize-recover"] if has_sanitizer(folder) else []
    sources = [name for name in bundle.files if name.endswith(".c")]
    subprocess.run([*find_compiler(), "-std=c99", "-O1", *flags, *sources, "-o", "program"], cwd=folder, check=True)
    run = subprocess.run([folder / "program"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "rows: ok\n"), run.stderr


@pytest.mark.parametrize("emit", ["object", "c"])
@pytest.mark.parametrize("mode", MODES)
def test_a_network_in_every_mode(mode: str, emit: str, tmp_path: Path) -> None:
    check(SEEDS[1], mode, emit, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("emit", ["object", "c"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", SEEDS)
def test_many_networks_in_every_mode(seed: int, mode: str, emit: str, tmp_path: Path) -> None:
    check(seed, mode, emit, tmp_path)
