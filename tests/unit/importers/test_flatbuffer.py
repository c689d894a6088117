"""The bounded FlatBuffers accessor: every number of a file may be wrong."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.importers.tflite.flatbuffer import FlatBuffer


def file_of(fields: dict[int, bytes], behind: bytes = b"") -> bytes:
    """A file whose root table has scalar fields of the given bytes; `behind` follows it directly."""
    count = max(fields, default=-1) + 1
    offsets, body = [0] * count, b""
    for slot, value in sorted(fields.items()):
        offsets[slot] = 4 + len(body)
        body += value
    vtable = struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + len(body), *offsets)
    position = 4 + len(vtable)
    return struct.pack("<I", position) + vtable + struct.pack("<i", len(vtable)) + body + behind


def test_scalars_and_defaults() -> None:
    root = FlatBuffer(file_of({0: struct.pack("<i", -7), 2: b"\x05"}), "f").root()
    assert root.integer(0, "i32", "a") == -7
    assert root.integer(1, "i32", "b", 9) == 9
    assert root.integer(2, "u8", "c") == 5
    assert root.integer(40, "u8", "d", 3) == 3
    assert (root.has(0), root.has(1)) == (True, False)


def test_vectors_are_read_only_views() -> None:
    data = file_of({0: struct.pack("<I", 4)}, struct.pack("<I3h", 3, 1, -2, 3))
    numbers = FlatBuffer(data, "f").root().numbers(0, np.int16, "v")
    assert numbers is not None
    assert numbers.tolist() == [1, -2, 3]
    assert not numbers.flags.writeable


def test_text_that_is_not_utf8_is_escaped() -> None:
    data = file_of({0: struct.pack("<I", 4)}, struct.pack("<I", 3) + b"a\xff\n")
    assert FlatBuffer(data, "f").root().text(0, "name") == "a\\xff\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        struct.pack("<I", 0),
        struct.pack("<I", 4),
        struct.pack("<I", 0xFFFFFFFF),
        struct.pack("<Ii", 4, 100),  # vtable before the file
        struct.pack("<Ii", 4, -100),  # vtable behind it
        struct.pack("<IiHH", 4, -4, 3, 4),  # odd vtable
        struct.pack("<IiHH", 4, -4, 200, 4),  # vtable behind the end
        struct.pack("<IiHH", 4, -4, 4, 200),  # table behind the end
        struct.pack("<IiHH", 4, -4, 4, 0),  # table without room for its own offset
    ],
)
def test_broken_roots_are_refused(data: bytes) -> None:
    with pytest.raises(CompileError, match="root"):
        FlatBuffer(data, "f").root()


@pytest.mark.parametrize(
    ("fields", "behind"),
    [
        ({0: struct.pack("<I", 0xFFFFFFF0)}, b""),  # offset that would wrap 32 bits
        ({0: struct.pack("<I", 0)}, b""),
        ({0: struct.pack("<I", 4)}, struct.pack("<I", 0xFFFFFFFF)),  # length that would wrap
        ({0: struct.pack("<I", 4)}, struct.pack("<I", 0x40000001) + bytes(4)),  # four times the length wraps
        ({0: struct.pack("<I", 4)}, struct.pack("<I", 2) + bytes(7)),  # one byte short
        ({0: struct.pack("<I", 4)}, b"\x01\x00"),  # length cut
        ({0: b"\x04"}, b""),  # field of one byte where an offset of four must stand
    ],
)
def test_broken_vectors_are_refused(fields: dict[int, bytes], behind: bytes) -> None:
    root = FlatBuffer(file_of(fields, behind), "f").root()
    with pytest.raises(CompileError, match=r"root\.shape"):
        root.numbers(0, np.int32, "shape")


def test_a_field_outside_of_its_table_is_refused() -> None:
    data = bytearray(file_of({0: struct.pack("<I", 1)}))
    struct.pack_into("<H", data, 8, 0x7FFF)
    with pytest.raises(CompileError, match=r"root\.version lies at byte 32767 of a table of 8 bytes"):
        FlatBuffer(bytes(data), "f").root().integer(0, "u32", "version")


def test_too_many_elements_are_refused_before_they_are_visited() -> None:
    data = file_of({0: struct.pack("<I", 4)}, struct.pack("<I", 1000) + bytes(4000))
    with pytest.raises(CompileError, match=r"tensors has 1000 elements; the limit is 999"):
        FlatBuffer(data, "f").root().tables(0, "tensors", 999)


def test_a_tree_that_shares_its_leaves_without_end_is_refused() -> None:
    """100,000 references to one table of 60,000 bytes would be 6 GB of work from a file of 0.5 MB."""
    count, size = 100_000, 60_000
    vector = struct.pack("<I", count)
    start = 4 * count  # from the first offset to the leaf's vtable
    vector += b"".join(struct.pack("<I", start - 4 * i + 4) for i in range(count))
    leaf = struct.pack("<HH", 4, size) + struct.pack("<i", 4) + bytes(size)
    data = file_of({0: struct.pack("<I", 4)}, vector + leaf)
    with pytest.raises(CompileError, match="refers to the same bytes again and again"):
        FlatBuffer(data, "f").root().tables(0, "tensors", count)
