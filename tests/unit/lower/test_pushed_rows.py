"""Inputs whose rows come one after another: the same bits, whatever the portions, and what the interface promises."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import luciole
from luciole.bundle import Bundle
from luciole.bundle.host import HostSession, find_compiler
from luciole.compilation import Compilation
from luciole.driver import build_bundle, build_program, compile_model
from luciole.emulate.bundle import UnicornBundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.samples import Samples
from luciole.graph.text import save_graph
from luciole.ops.conv import Conv2d
from luciole.options import Options
from luciole.program.interpret import run_program
from luciole.program.text import parse_program, render_program
from luciole.program.verify import verify_program
from support.program_checks import assert_same_outputs, random_inputs
from support.row_graphs import row_graph
from support.small_models import small_int8

#: Networks all of whose readers of the input run by rows.
SEEDS = (0, 2, 4, 6)


def source_of(graph: Graph, folder: Path) -> Path:
    path = folder / "rows.graph"
    save_graph(graph, path)
    return path


def compiled(graph: Graph, folder: Path, **options: str) -> Bundle:
    return compile_model(source_of(graph, folder), Options(input_rows=True, **options))  # type: ignore[arg-type]  # words


def in_portions(session: HostSession, data: bytes, height: int, portion: int) -> list[int]:
    """Push an image by so many rows at a time; what was returned."""
    row = len(data) // height
    counts = [min(portion, height - first) for first in range(0, height, portion)]
    starts = range(0, height, portion)
    return [session.push_rows(data[s * row : (s + n) * row], n) for s, n in zip(starts, counts, strict=True)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_program_takes_rows_and_keeps_no_input(seed: int, tmp_path: Path) -> None:
    graph = row_graph(seed)
    inputs = random_inputs(graph, seed)
    expected = run_graph(graph, inputs)
    with Compilation(source_of(graph, tmp_path), Options("cortex-m4", input_rows=True)) as run:
        program = build_program(run)
    verify_program(program)
    assert all(buffer.kind != "input" for buffer in program.buffers.values())
    assert_same_outputs(run_program(program, inputs), expected)
    rendered = render_program(program)
    assert render_program(parse_program(rendered.text, rendered.arrays)).text == rendered.text


@pytest.mark.parametrize("emit", ["object", "c"])
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_portions_make_no_difference(seed: int, emit: str, tmp_path: Path) -> None:
    graph = row_graph(seed)
    bundle = compiled(graph, tmp_path, emit=emit)
    if emit == "c":
        session = HostSession.from_c(bundle.files, bundle.interface)
    else:
        session = HostSession.from_object(bundle.object_bytes, bundle.interface)
    height = bundle.interface.inputs[0].shape[1]
    with session:
        for portion in (1, 2, height):
            inputs = random_inputs(graph, seed + portion)
            (data,) = (array.tobytes() for array in inputs.values())
            returned = in_portions(session, data, height, portion)
            assert returned == [max(0, height - (i + 1) * portion) for i in range(len(returned))]
            expected = [array.tobytes() for array in run_graph(graph, inputs).values()]
            assert session.run([data]) == expected
        assert session.push_rows(b"", -1) == -1
        assert session.push_rows(data + data, height + 1) == -1
        assert session.run([data]) == expected


def test_an_emulated_core_takes_rows(tmp_path: Path) -> None:
    graph = row_graph(2)
    bundle = compiled(graph, tmp_path, target="cortex-m4")
    interface = bundle.interface
    slots = [tuple(Slot(t.offset, t.size_bytes) for t in tensors) for tensors in (interface.inputs, interface.outputs)]
    rows = interface.inputs[0].shape[1]
    core = BundleInterface(interface.prefix, interface.arena_bytes, interface.arena_alignment, *slots, pushed_rows=rows)
    emulated = UnicornBundle(bundle.object_bytes, find_core("cortex-m4"), core)
    inputs = random_inputs(graph, 5)
    result = emulated.run([array.tobytes() for array in inputs.values()])
    assert list(result.outputs) == [array.tobytes() for array in run_graph(graph, inputs).values()]


@pytest.mark.qemu
@pytest.mark.parametrize("target", ["cortex-m55", "cortex-m4", "rv64gcv"])
def test_qemu_pushes_rows(target: str, tmp_path: Path) -> None:
    graph = row_graph(2)
    session = luciole.load(source_of(graph, tmp_path), target=target, input_rows=True, emulator="qemu")
    for seed in range(2):
        inputs = random_inputs(graph, seed)
        assert_same_outputs(session.run(inputs, measure=True), run_graph(graph, inputs))
        assert session.last_run.instructions > 0


def save_board(path: Path, ram_bytes: int) -> Path:
    """Two memories of each kind; so small that a little fits into the fast ones."""
    rows = [("tcm", "ram", ram_bytes), ("sram", "ram", 1 << 20), ("fast", "flash", 300), ("far", "flash", 1 << 20)]
    texts = [
        f'[memory.{name}]\nkind = "{kind}"\nbase = {index << 28}\nsize = {size}\ncycles = {index + 1}\n'
        for index, (name, kind, size) in enumerate(rows)
    ]
    path.write_text("".join(texts))
    return path


@pytest.mark.parametrize(("target", "emit"), [("native", "object"), ("native", "c"), ("cortex-m4", "object")])
def test_rows_come_into_the_memories_of_a_board(target: str, emit: Any, tmp_path: Path) -> None:
    graph = row_graph(2)
    source = source_of(graph, tmp_path)
    for ram_bytes, arenas in ((4, 2), (100, 2), (1 << 20, 1)):
        board = save_board(tmp_path / "board.toml", ram_bytes)
        session = luciole.load(source, target=target, emit=emit, input_rows=True, memory=board)
        assert len(session.program.regions_of("arena")) == arenas
        for seed in range(3):
            inputs = random_inputs(graph, seed)
            assert_same_outputs(session.run(inputs), run_graph(graph, inputs))


@pytest.mark.qemu
def test_qemu_pushes_rows_into_the_memories_of_a_board(tmp_path: Path) -> None:
    graph = row_graph(2)
    board = save_board(tmp_path / "board.toml", 100)
    session = luciole.load(source_of(graph, tmp_path), target="cortex-m55", input_rows=True, memory=board)
    inputs = random_inputs(graph, 1)
    assert_same_outputs(session.run(inputs), run_graph(graph, inputs))


@pytest.mark.parametrize("ram_bytes", [0, 100])
def test_the_test_program_of_a_bundle_pushes_rows(ram_bytes: int, tmp_path: Path) -> None:
    memory = {"memory": str(save_board(tmp_path / "board.toml", ram_bytes))} if ram_bytes else {}
    bundle = compiled(row_graph(2), tmp_path, emit="c", **memory)
    assert ("rows.ld" in bundle.files) == bool(ram_bytes)
    for name, data in bundle.files.items():
        (tmp_path / name).write_bytes(data)
    sources = [name for name in bundle.files if name.endswith(".c")]
    command = [*find_compiler(), "-std=c99", "-Wall", "-Wextra", "-Werror", *sources, "-o", "program"]
    subprocess.run(command, cwd=tmp_path, check=True)
    found = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True)
    assert found.stdout == "rows: ok\n"
    header = bundle.files["rows.h"].decode()
    assert "int32_t rows_push_rows(rows_model *model, const int8_t *rows, int32_t count);" in header
    assert "rows_run(" not in header and "rows_input(" not in header


def test_rows_save_the_input(tmp_path: Path) -> None:
    graph = Graph("tall")
    s = Samples()
    x = graph.add_input("x", s.i8(1, 32, 8, 4).type)
    weights = s.i8_weights(4, 3, 3, 4)
    w = graph.add_constant(weights.data, weights.type.quant)  # type: ignore[arg-type]  # a constant has data
    (y,) = graph.add(Conv2d(x, w, strides=(2, 2), quant=s.quant(0.2)))
    graph.add_output("y", y)
    source = source_of(graph, tmp_path)
    sizes = []
    for options in (Options("cortex-m4", input_rows=True), Options("cortex-m4", optimize="ram")):
        with Compilation(source, options) as run:
            program = build_program(run)
            sizes.append(program.arena.size_bytes)
            build_bundle(run, program)
    assert sizes[0] < sizes[1] - 500


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"input_rows": True, "keep_input": True}, "bad-option"),
        ({"input_rows": True, "bundle_api": "glow"}, "bad-option"),
    ],
)
def test_options_that_contradict_rows(options: dict[str, object], code: str) -> None:
    with pytest.raises(CompileError) as caught:
        Options(**options)  # type: ignore[arg-type]  # words and flags
    assert caught.value.diagnostics[0].code == code


def test_models_whose_input_cannot_come_by_rows(tmp_path: Path) -> None:
    graph = Graph("flat")
    x = graph.add_input("x", small_int8().outputs[0][1].type)
    graph.add_output("y", x)
    with pytest.raises(CompileError) as caught:
        compiled(graph, tmp_path)
    (problem,) = caught.value.diagnostics
    assert problem.code == "no-input-rows"
    assert problem.message.startswith(
        "--input-rows needs a model with one input of the shape [1, height, width, channels]"
    )
