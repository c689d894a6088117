"""Static libraries."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from luciole.bundle.archive import global_symbols, write_archive
from luciole.bundle.objects import build_object
from luciole.ir.target import find_target
from unit.bundle.graphs import chain, program_of

NAMES = ["toy.o", "a_member_with_a_rather_long_name.o", "another_member_with_a_long_name.o"]


def an_object(prefix: str = "toy") -> bytes:
    return build_object(program_of(chain()), prefix, find_target("native"))


def read_members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Offset and bytes of each member, by the name in its header."""
    assert archive.startswith(b"!<arch>\n")
    found, at = {}, 8
    while at < len(archive):
        header = archive[at : at + 60]
        assert at % 2 == 0 and header.endswith(b"`\n")
        size = int(header[48:58])
        found[header[:16].decode().strip()] = (at, archive[at + 60 : at + 60 + size])
        at += 60 + size + size % 2
    return found


def test_members_come_back_and_the_index_points_to_them() -> None:
    data = an_object()
    members = read_members(write_archive({NAMES[0]: data, NAMES[1]: data + b"!"}))
    assert list(members) == ["/", "//", "toy.o/", "/0"]
    assert members["toy.o/"][1] == data
    assert members["/0"][1] == data + b"!"
    index = members["/"][1]
    count = struct.unpack(">I", index[:4])[0]
    places = struct.unpack(f">{count}I", index[4 : 4 + 4 * count])
    names = index[4 + 4 * count :].rstrip(b"\0").decode().split("\0")
    assert dict(zip(names[: count // 2], places[: count // 2], strict=True))["toy_run"] == members["toy.o/"][0]
    assert places[count // 2 :] == (members["/0"][0],) * (count // 2)


def test_only_symbols_that_are_defined_and_global_are_listed() -> None:
    symbols = global_symbols(an_object())
    assert {"toy_init", "toy_run", "toy_input", "toy_output"} <= set(symbols)
    assert all(symbol.startswith("toy_") for symbol in symbols)


def test_the_same_members_give_the_same_bytes() -> None:
    assert write_archive({"toy.o": an_object()}) == write_archive({"toy.o": an_object()})


def test_the_archiver_of_this_machine_reads_it(tmp_path: Path) -> None:
    if shutil.which("ar") is None:
        pytest.skip("ar is not installed")
    path = tmp_path / "libtoy.a"
    path.write_bytes(write_archive({name: an_object() for name in NAMES}))
    listed = subprocess.run(["ar", "t", path], capture_output=True, text=True, check=True).stdout.split()
    assert listed == NAMES
    index = subprocess.run(["nm", "-s", path], capture_output=True, text=True, check=True).stdout
    assert f"toy_run in {NAMES[2]}" in index
