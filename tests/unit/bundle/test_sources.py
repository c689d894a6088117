"""Bundles of C: what compilers say, where weights stand, and the test program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from luciole.bundle import HostSession, assemble_bundle, describe_interface, print_bundle_c
from luciole.bundle.test_program import Sample, make_sample, print_test_program
from luciole.emit.entry_c import literals, weight_members, wrapped
from luciole.graph.core import Graph
from luciole.ir.target import find_target
from luciole.options import Options
from support.native_c import WARNINGS, compiler
from unit.bundle.graphs import IDENTITY, chain, constant_output, large, many_ports, program_of, real

STRICT = [*WARNINGS, "-Wundef", "-Wcast-align", "-Wcast-qual", "-Wstrict-aliasing", "-O2"]
ONLY_C = ["-Wstrict-prototypes", "-Wmissing-prototypes"]


def flags_for(name: str) -> list[str]:
    # C++98 has neither fixed-width 64-bit constants nor the `long long` below them; every compiler has both.
    return ["-x", "c++", "-std=c++98", *STRICT, "-Wno-long-long"] if "++" in name else ["-std=c99", *STRICT, *ONLY_C]


@pytest.mark.parametrize("api", ["luciole", "glow"])
@pytest.mark.parametrize("name", ["gcc", "g++", "clang", "clang++"])
@pytest.mark.parametrize("graph", [chain, many_ports, large, real])
def test_compilers_take_every_file_without_a_word(graph: object, name: str, api: str, tmp_path: Path) -> None:
    model: Graph = graph()  # type: ignore[operator]  # one of the functions above
    options = Options(emit="c", bundle_api=api)  # type: ignore[arg-type]  # one of its words
    bundle = assemble_bundle(program_of(model), find_target("native"), IDENTITY, options)
    bundle.save(tmp_path)
    for file in bundle.files:
        if file.endswith(".c"):
            command = [*compiler(name), *flags_for(name), "-c", file, "-o", f"{file}.o"]
            result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", ["gcc", "clang"])
@pytest.mark.parametrize("emit", ["object", "archive", "c"])
@pytest.mark.parametrize("graph", [chain, many_ports, real, constant_output])
def test_the_test_program_says_ok_and_finds_a_mismatch(graph: object, emit: str, name: str, tmp_path: Path) -> None:
    model: Graph = graph()  # type: ignore[operator]  # one of the functions above
    options = Options(emit=emit)  # type: ignore[arg-type]  # one of its words
    bundle = assemble_bundle(program_of(model), find_target("native"), IDENTITY, options)
    bundle.save(tmp_path)
    code = {"object": "toy.o", "archive": "libtoy.a", "c": "toy.c"}[emit]
    assert build_and_run(name, tmp_path, code) == (0, "toy: ok\n")
    sample = make_sample(model)
    first = sample.outputs[0]
    wrong = Sample(sample.inputs, (first + first.dtype.type(1), *sample.outputs[1:]))
    (tmp_path / "toy_test.c").write_text(print_test_program(bundle.interface, IDENTITY, wrong))
    assert build_and_run(name, tmp_path, code) == (1, "toy: mismatch\n")
    assert build_and_run(name, tmp_path, code, "-DTOY_TEST_NO_STDIO") == (1, "")


def build_and_run(name: str, folder: Path, code: str, *flags: str) -> tuple[int, str]:
    command = [*compiler(name), "-std=c99", *flags, "toy_test.c", code, "-o", "toy_test"]
    subprocess.run(command, cwd=folder, check=True)
    result = subprocess.run([folder / "toy_test"], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout


def test_members_of_the_weights_lie_where_the_plan_has_them() -> None:
    program = program_of(many_ports())
    end = 0
    for member in weight_members(program):
        assert member.offset == end
        size = member.elements * (member.buffer.dtype.size_bytes if member.buffer else 1)
        end += size
    assert end == program.weights.size_bytes
    names = [m.name for m in weight_members(program)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_weights_in_a_binary_file_are_the_same_weights(name: str, tmp_path: Path) -> None:
    program = program_of(large())
    interface = describe_interface(program, "toy")
    files = print_bundle_c(program, interface, IDENTITY, "native", "binary")
    assert files["toy_weights.bin"] == program.weights_blob()
    assert len(files["toy_weights.c"]) < 5000
    sample = make_sample(large())
    with HostSession.from_c(files, interface, compiler=compiler(name)) as session:
        assert session.run([sample.inputs[0].tobytes()]) == [sample.outputs[0].tobytes()]


def test_sections_and_alignment_can_be_chosen_by_macros(tmp_path: Path) -> None:
    program = program_of(chain())
    files = print_bundle_c(program, describe_interface(program, "toy"), IDENTITY, "native")
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    flags = [
        '-DTOY_WEIGHTS_ATTRIBUTES=__attribute__((section(".slow")))',
        '-DTOY_CODE_ATTRIBUTES=__attribute__((noinline,section(".quick")))',
    ]
    command = [*compiler("gcc"), "-std=c99", *flags, "-S", "toy.c", "-o", "toy.s"]
    subprocess.run(command, cwd=tmp_path, check=True)
    text = (tmp_path / "toy.s").read_text()
    assert ".section\t.slow" in text and ".section\t.quick" in text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.array([-128, 127], np.int8), ["-128", "127"]),
        (np.array([-(2**31), 2**31 - 1], np.int32), ["(-2147483647 - 1)", "2147483647"]),
        (np.array([2**32 - 1], np.uint32), ["4294967295u"]),
        (np.array([-(2**63), -1], np.int64), ["(-INT64_C(9223372036854775807) - 1)", "INT64_C(-1)"]),
        (np.array([2**64 - 1], np.uint64), ["UINT64_C(18446744073709551615)"]),
        (np.array([1, 0.1, -1e-30], np.float32), ["1.0f", "0.1f", "-1e-30f"]),
        (np.array([np.inf, -np.inf, np.nan], np.float32), ["(1.0f / 0.0f)", "(-1.0f / 0.0f)", "(0.0f / 0.0f)"]),
        (np.array([True, False]), ["1", "0"]),
    ],
)
def test_constants_are_written_exactly(data: np.ndarray, expected: list[str]) -> None:
    assert literals(data) == expected


def test_lines_are_not_longer_than_the_width() -> None:
    lines = list(wrapped([str(i) for i in range(1000)], "    "))
    assert max(map(len, lines)) <= 120
    assert ", ".join(str(i) for i in range(1000)) == " ".join(line.strip() for line in lines)
