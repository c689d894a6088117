"""Bundles: the files, the report, and saving all of it or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from luciole.bundle import Bundle, assemble_bundle
from luciole.bundle.assemble import check_promises
from luciole.bundle.check import ObjectFacts
from luciole.errors import CompileError, InternalError
from luciole.graph.core import Graph
from luciole.ir.target import find_target
from luciole.options import Options
from luciole.report.model import Report
from unit.bundle.graphs import IDENTITY, chain, large, program_of


def bundle_of(graph: Graph, target: str = "cortex-m4", **options: str) -> Bundle:
    given = Options(target=target, **options)  # type: ignore[arg-type]  # names of options
    return assemble_bundle(program_of(graph, target), find_target(target), IDENTITY, given)


REPORTS = ["toy.report.json", "toy.report.html"]


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({}, ["toy.h", "toy.o", "toy_test.c"]),
        ({"emit": "archive"}, ["toy.h", "libtoy.a", "toy_test.c"]),
        ({"emit": "c"}, ["toy.h", "toy.c", "toy_test.c"]),
        ({"bundle_api": "glow"}, ["toy.h", "toy.o", "toy.weights.bin", "toy.weights.txt", "toy_test.c"]),
        (
            {"bundle_api": "glow", "emit": "c"},
            ["toy.h", "toy.c", "toy.weights.bin", "toy.weights.txt", "toy_test.c"],
        ),
    ],
)
def test_a_bundle_has_its_files(options: dict[str, str], files: list[str]) -> None:
    bundle = bundle_of(chain(), **options)
    assert list(bundle.files) == [*files, *REPORTS]
    assert bundle.report.link.files == tuple(f for f in files if f != "toy_test.c")
    assert all(file.isascii() for file in files)


def test_large_weights_of_c_stand_apart() -> None:
    assert list(bundle_of(large(), emit="c").files) == [
        "toy.h", "toy_weights.h", "toy_weights.c", "toy.c", "toy_test.c", *REPORTS,
    ]  # fmt: skip


def test_the_report_states_what_is_in_the_object() -> None:
    bundle = bundle_of(chain())
    program = program_of(chain(), "cortex-m4")
    report = bundle.report
    assert Report.from_json(bundle.files["toy.report.json"].decode()) == report
    assert report.memory.arena_bytes == program.arena.size_bytes
    assert report.memory.stack_bytes is not None and report.memory.stack_bytes > 0
    assert report.flash.weights_bytes == program.weights.size_bytes
    assert report.flash.code_bytes is not None
    assert report.flash.code_bytes >= sum({la.kernel: la.code_bytes or 0 for la in report.layers}.values()) > 0
    assert report.macs == 8 * 8 * (8 * 27 + 16 * 8 + 4 * 64)
    assert [layer.operator for layer in report.layers] == ["conv2d"] * 3
    assert report.model.original_name == IDENTITY.original_name
    assert report.link.lines == (
        "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard -I. main.c toy.o",
    )


def test_the_report_of_c_leaves_to_the_compiler_what_is_its_own() -> None:
    report = bundle_of(chain(), emit="c").report
    assert (report.flash.code_bytes, report.flash.rodata_bytes, report.memory.stack_bytes) == (None, None, None)
    assert report.flash.total_bytes == report.flash.weights_bytes > 0


_PRINT_HASHES = """
import hashlib
from unit.bundle.graphs import many_ports
from unit.bundle.test_bundle import bundle_of
for options in ({}, {"emit": "archive"}, {"emit": "c"}, {"bundle_api": "glow"}):
    for name, data in bundle_of(many_ports(), **options).files.items():
        print(name, hashlib.sha256(data).hexdigest())
"""


def test_the_same_model_gives_the_same_bytes_in_another_process(root: Path) -> None:
    def hashes(seed: str) -> str:
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root / "tests")]),
        }
        command = [sys.executable, "-c", _PRINT_HASHES]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    first = hashes("1")
    assert len(first.splitlines()) > 15
    assert first == hashes("2")


def test_saving_writes_every_file_and_leaves_others_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "build"
    bundle = bundle_of(chain())
    bundle.save(folder)
    (folder / "mine.txt").write_text("mine")
    (folder / "toy.h").write_text("old")
    bundle.save(folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == {**bundle.files, "mine.txt": b"mine"}
    assert os.stat(folder / "toy.h").st_mode & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "toy.h").write_text("old")
    (tmp_path / "toy.report.html").mkdir()
    with pytest.raises(CompileError, match=r"error\[cannot-write\]: the bundle cannot be written to .*is a folder"):
        bundle_of(chain()).save(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["toy.h", "toy.report.html"]
    assert (tmp_path / "toy.h").read_text() == "old"


def test_a_file_in_the_place_of_the_folder_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("a file")
    with pytest.raises(CompileError, match="cannot-write"):
        bundle_of(chain()).save(tmp_path / "build")


def test_the_files_of_a_bundle_do_not_change() -> None:
    with pytest.raises(TypeError):
        bundle_of(chain()).files["toy.h"] = b""  # type: ignore[index]  # that is what is tested


def test_an_object_that_needs_a_library_breaks_the_promise() -> None:
    check_promises(ObjectFacts({}, 0, 0, 0, 0, ("__aeabi_fadd", "__mulsf3", "__muldi3", "__aeabi_lmul")))
    with pytest.raises(InternalError, match="the object needs memcpy, __aeabi_memcpy, expf"):
        check_promises(ObjectFacts({}, 0, 0, 0, 0, ("memcpy", "__aeabi_memcpy", "__aeabi_fadd", "expf")))
