"""Bundles spread over the memories of a board: the same bits, every buffer where it has room, sizes and places told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luciole
from luciole.cli.main import run_command
from luciole.errors import CompileError
from luciole.graph.interpret import run_graph
from luciole.ir.board import Board, Memory
from luciole.lower.plan import plan_memory
from luciole.lower.regions import assign_regions, check_regions
from luciole.program.interpret import run_program
from luciole.program.text import print_program
from luciole.program.verify import verify_program
from support.program_checks import assert_same_outputs, build, random_inputs
from support.small_models import save_small, small_int8


def memories(*sizes: tuple[str, int]) -> Board:
    """Memories of these sizes; those whose names begin with f are flash. The fastest stand first."""
    return Board(
        "test",
        tuple(
            Memory(name, "flash" if name[0] == "f" else "ram", index << 28, size, index + 1.0, f".{name}", name.upper())
            for index, (name, size) in enumerate(sizes)
        ),
    )


BOARD = memories(("tcm", 160), ("sram", 4096), ("fast", 300), ("far", 8192))

TOML = "".join(
    f'[memory.{m.name}]\nkind = "{m.kind}"\nbase = {m.base}\nsize = {m.size_bytes}\ncycles = {m.cycles}\n'
    for m in BOARD.memories
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in the working folder, with a board beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text(TOML)
    return save_small(tmp_path)


def test_the_most_used_buffers_go_to_the_fastest_memory() -> None:
    program = plan_memory(assign_regions(build(small_int8()), BOARD))
    verify_program(program)
    check_regions(program, BOARD)
    sizes = {region.name: region.size_bytes for region in program.regions}
    assert list(sizes) == ["weights", "far", "arena", "sram"]
    assert 0 < sizes["weights"] <= 300 and 0 < sizes["arena"] <= 160
    assert "region sram: arena align 16 size" in print_program(program)
    inputs = random_inputs(program.graph, 3)
    for use_kernels in (False, True):
        assert_same_outputs(run_program(program, inputs, use_kernels=use_kernels), run_graph(program.graph, inputs))


def test_one_memory_with_room_for_all_takes_all() -> None:
    large = memories(("tcm", 1 << 20), ("sram", 1 << 20), ("fast", 1 << 20), ("far", 1 << 20))
    program = plan_memory(assign_regions(build(small_int8()), large))
    assert [region.name for region in program.regions] == ["weights", "arena"]
    assert program.arena.size_bytes == plan_memory(build(small_int8())).arena.size_bytes


def test_what_fits_nowhere_is_named() -> None:
    with pytest.raises(CompileError, match="fits into no memory of the board") as problem:
        assign_regions(build(small_int8()), memories(("tcm", 64), ("sram", 64), ("fast", 8192)))
    assert problem.value.exit_code == 3
    assert "memories are tcm 64 B, sram 64 B" in problem.value.diagnostics[0].notes[0]


@pytest.mark.parametrize(
    ("target", "emit", "optimize"),
    [
        ("native", "object", "balanced"),
        ("native", "c", "balanced"),
        ("native", "c", "ram"),
        ("cortex-m7", "object", "ram"),
        ("cortex-m4", "object", "balanced"),
        ("rv64gc", "object", "balanced"),
    ],
)
def test_a_bundle_on_a_board_gives_the_same_bits(model: Path, target: str, emit: Any, optimize: Any) -> None:
    session = luciole.load(model, target=target, emit=emit, optimize=optimize, memory=model.parent / "board.toml")
    assert len(session.program.regions) == 4
    for seed in range(3):
        inputs = random_inputs(small_int8(), seed)
        assert_same_outputs(session.run(inputs), run_graph(small_int8(), inputs))


@pytest.mark.cross
def test_c_for_an_emulated_core_gives_the_same_bits(model: Path) -> None:
    session = luciole.load(model, target="cortex-m4", emit="c", memory="board.toml")
    inputs = random_inputs(small_int8(), 9)
    assert_same_outputs(session.run(inputs), run_graph(small_int8(), inputs))


def test_header_and_report_tell_each_memory(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compile", "small.graph", "--target", "cortex-m7", "--memory", "board.toml", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    used = {use["region"]: use for use in report["memories"]}
    assert {name: use["memory"] for name, use in used.items()} == {
        "weights": "fast",
        "far": "far",
        "arena": "tcm",
        "sram": "sram",
    }
    header = Path("build/small.h").read_text()
    assert f"#define SMALL_ARENA_SIZE {used['arena']['used_bytes']}u" in header
    assert f"#define SMALL_SRAM_SIZE {used['sram']['used_bytes']}u" in header
    assert report["flash"]["weights_bytes"] == used["weights"]["used_bytes"] + used["far"]["used_bytes"]
    assert dict(report["options"])["memory"] == "board.toml"
    assert "Memories of the board" in Path("build/small.report.html").read_text()
    assert run_command(["inspect", "small.graph", "--target", "cortex-m7", "--memory", "board.toml"]) == 0
    shown = capsys.readouterr().out
    assert "0x10000000" in shown and " constants" in shown
    assert run_command(["check", "small.graph", "--target", "cortex-m7", "--memory", "board.toml"]) == 0
    sizes = ", ".join(f"{name} {used[name]['used_bytes']:,} B" for name in ("arena", "weights", "far", "sram"))
    assert sizes in capsys.readouterr().out


@pytest.mark.cross
@pytest.mark.parametrize("emit", ["object", "c"])
def test_the_linker_fragment_puts_everything_in_its_place(model: Path, emit: Any) -> None:
    luciole.compile(model, "cortex-m7", emit=emit, memory="board.toml").save("out")
    files = ["small_test.c", "small.c" if emit == "c" else "small.o"]
    flags = ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard", "-std=c99", "-O2", "-I."]
    rows = [f"{m.region} : ORIGIN = 0x{m.base:x}, LENGTH = {m.size_bytes}" for m in BOARD.memories]
    script = "MEMORY { CODE : ORIGIN = 0x50000000, LENGTH = 1M DATA : ORIGIN = 0x60000000, LENGTH = 1M\n"
    script += "\n".join(rows) + " }\nSECTIONS { INCLUDE small.ld\n.text : { *(.text*) *(.rodata*) } > CODE\n"
    Path("out/own.ld").write_text(script + ".data : { *(.data*) } > DATA .bss : { *(.bss*) } > DATA }\n")
    links = ["-nostdlib", "-DSMALL_TEST_NO_STDIO", "-DSMALL_TEST_NO_MAIN", "-Wl,-e,small_test", "-T", "own.ld"]
    command = ["arm-none-eabi-gcc", *flags, *files, *links, "-lc", "-lgcc", "-o", "small.elf"]
    done = subprocess.run(command, cwd="out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sections = subprocess.run(
        ["arm-none-eabi-objdump", "-h", "out/small.elf"], capture_output=True, text=True, check=True
    ).stdout
    places = {line.split()[1]: int(line.split()[3], 16) for line in sections.splitlines() if line[:3].strip().isdigit()}
    homes = {".small_weights": "fast", ".small_weights_far": "far", ".small_arena": "tcm", ".small_sram": "sram"}
    bases = {memory.name: memory.base for memory in BOARD.memories}
    assert {name: places[name] for name in homes} == {name: bases[memory] for name, memory in homes.items()}


def test_the_test_program_runs_with_several_memories(model: Path) -> None:
    luciole.compile(model, emit="c", memory="board.toml").save("out")
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "small.c", "small_test.c", "-o", "test"]
    done = subprocess.run(command, cwd="out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["out/test"], capture_output=True, text=True, check=False).stdout == "small: ok\n"


def test_stages_keep_the_regions(model: Path) -> None:
    on_board = ["--target", "cortex-m4", "--memory", "board.toml"]
    assert run_command(["compile", "small.graph", *on_board, "-o", "whole"]) == 0
    assert run_command(["compile", "small.graph", *on_board, "--to", "plan", "-o", "p.program"]) == 0
    assert run_command(["compile", "p.program", "--from", "plan", "--memory", "board.toml", "-o", "parts"]) == 0
    for path in Path("whole").iterdir():
        assert path.read_bytes() == (Path("parts") / path.name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--bundle-api", "glow"], 1, "error[bad-option]: --memory cannot go with --bundle-api glow"),
        (["--max-ram", "100"], 1, "error[bad-option]: --max-ram cannot go with --memory, which has sizes of its own"),
    ],
)
def test_refusals(
    model: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["compile", "small.graph", "--memory", "board.toml", *arguments]) == code
    assert capsys.readouterr().err.startswith(message)
    assert not Path("build").exists()


def test_a_program_on_a_board_needs_the_board(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compile", "small.graph", "--memory", "board.toml", "--to", "plan", "-o", "p.program"]) == 0
    assert run_command(["compile", "p.program", "--from", "plan"]) == 1
    assert "the program was placed on a board" in capsys.readouterr().err


def test_a_board_by_name_is_a_core_and_its_memories(model: Path) -> None:
    by_memory = luciole.compile(model, "cortex-m7", memory="stm32f746g-disco")
    by_target = luciole.compile(model, "stm32f746g-disco")
    assert by_memory.files == by_target.files
    assert "DTCM (rw) : ORIGIN = 0x20000000, LENGTH = 65536" in by_target.files["small.ld"].decode()
    session = luciole.load(model, target="stm32f746g-disco")
    inputs = random_inputs(small_int8(), 1)
    assert_same_outputs(session.run(inputs), run_graph(small_int8(), inputs))
    with pytest.raises(CompileError, match="--max-ram cannot go with --memory"):
        luciole.compile(model, "stm32f746g-disco", max_ram="10K")


@pytest.mark.qemu
@pytest.mark.parametrize("target", ["cortex-m55", "rv32imc"])
def test_qemu_runs_bundles_with_several_memories(model: Path, target: str) -> None:
    session = luciole.load(model, target=target, memory="board.toml", emulator="qemu")
    assert len(session.program.regions_of("arena")) == 2
    for seed in range(2):
        inputs = random_inputs(small_int8(), seed)
        assert_same_outputs(session.run(inputs, measure=True), run_graph(small_int8(), inputs))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m4"])
def test_resnet_on_two_memories_of_a_core_equals_its_golden(
    target: str, tmp_path: Path, shared_model: Callable[[str], Path]
) -> None:
    path = shared_model("ic_resnet8_int8")
    text = TOML.replace("size = 160", "size = 17000").replace("size = 4096", "size = 50000")
    (tmp_path / "board.toml").write_text(text.replace("size = 300", "size = 20000").replace("8192", "200000"))
    session = luciole.load(path, target=target, memory=tmp_path / "board.toml")
    assert len(session.program.regions) == 4
    with np.load(path.with_suffix("").with_suffix(".golden.npz")) as golden:
        (found,) = session.run({0: golden["input"][0]}).values()
        assert np.array_equal(found, golden["output0"][0])
