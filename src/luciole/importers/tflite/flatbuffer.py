"""Reads the tables of a FlatBuffers file, checking every offset before it follows it.

Nothing here trusts the file: a position, a length or a count that does not lie inside the file becomes a
`CompileError` that says which field it was and at which byte. The work is bounded too: vectors and tables may be
shared, so a small file can describe a very large tree; the bytes visited may exceed the file's size only by a fixed
factor.

Layout, from the FlatBuffers internals document: all numbers are little-endian. A table begins with a signed 32-bit
distance back to its vtable; the vtable holds its own size, the table's size, and for each field the 16-bit offset of
its value in the table (0 when absent). Strings, vectors and tables are referred to by an unsigned 32-bit distance
forward; a vector begins with its 32-bit length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luciole.errors import CompileError, Location
from luciole.ir.types import Array

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_SCALARS = {
    name: struct.Struct("<" + code)
    for name, code in {
        "bool": "?",
        "i8": "b",
        "u8": "B",
        "i32": "i",
        "u32": "I",
        "i64": "q",
        "u64": "Q",
        "f32": "f",
    }.items()
}

#: How many times over the file may be visited. Sharing of vtables, names and shapes is usual, but only a few-fold.
_MAXIMUM_VISITS = 16
_FREE_VISITS_BYTES = 1 << 16


class FlatBuffer:
    """The bytes of a file and the account of how many of them were visited."""

    def __init__(self, data: bytes, file: str) -> None:
        """`data` is the whole file, `file` the name that errors give it."""
        self.data = data
        self.location = Location(file)
        self._visits_left = _MAXIMUM_VISITS * len(data) + _FREE_VISITS_BYTES

    def root(self) -> Table:
        """The root table, to which the first four bytes point."""
        return self.table_at(self.follow(0, "root"), "root")

    def error(self, path: str, problem: str) -> CompileError:
        """The error for a structure that is not as FlatBuffers have it."""
        return CompileError.of(
            "malformed-file",
            f"{path} {problem}",
            self.location,
            help="the file is truncated or damaged; copy or convert it again",
        )

    def visit(self, start: int, size_bytes: int, path: str) -> None:
        """Check that `size_bytes` bytes from `start` lie in the file, and charge them to the account."""
        if start < 0 or size_bytes < 0 or start + size_bytes > len(self.data):
            raise self.error(
                path, f"lies at bytes {start}..{start + size_bytes}, outside of the {len(self.data)} bytes of the file"
            )
        self._visits_left -= size_bytes + 1
        if self._visits_left < 0:
            raise self.error(path, "refers to the same bytes again and again, like a decompression bomb")

    def follow(self, position: int, path: str) -> int:
        """The absolute position that the offset stored at `position` points to."""
        self.visit(position, 4, path)
        distance: int = _U32.unpack_from(self.data, position)[0]
        if distance == 0:
            raise self.error(path, f"has an offset of zero at byte {position}")
        return position + distance

    def table_at(self, position: int, path: str) -> Table:
        """The table at an absolute position, its vtable checked."""
        self.visit(position, 4, path)
        vtable = position - _I32.unpack_from(self.data, position)[0]
        self.visit(vtable, 4, path)
        vtable_size = _U16.unpack_from(self.data, vtable)[0]
        table_size = _U16.unpack_from(self.data, vtable + 2)[0]
        if vtable_size < 4 or vtable_size % 2 or table_size < 4:
            raise self.error(
                path, f"has a field table of {vtable_size} bytes for {table_size} bytes of fields at byte {vtable}"
            )
        self.visit(vtable, vtable_size, path)
        self.visit(position, table_size, path)
        return Table(self, position, table_size, vtable, vtable_size, path)

    def vector_at(self, position: int, item_size: int, path: str) -> tuple[int, int]:
        """Position of the first element and number of elements of the vector at a position, checked but not charged."""
        self.visit(position, 4, path)
        length: int = _U32.unpack_from(self.data, position)[0]
        start = position + 4
        if start + length * item_size > len(self.data):
            raise self.error(
                path, f"has {length} elements at byte {position}, more than the {len(self.data)} bytes of the file hold"
            )
        return start, length


@dataclass(frozen=True)
class Table:
    """One table; fields are named by their slot, the number of their declaration in the schema, counted from 0.

    `path` says where the table stands, for errors: `subgraphs[0].tensors[3]`.
    """

    buffer: FlatBuffer
    position: int
    size_bytes: int
    vtable: int
    vtable_size: int
    path: str

    def _field(self, slot: int, size_bytes: int, name: str) -> int | None:
        """Absolute position of a field of the given size, or None where the file leaves it out."""
        entry = 4 + 2 * slot
        if entry + 2 > self.vtable_size:
            return None
        offset: int = _U16.unpack_from(self.buffer.data, self.vtable + entry)[0]
        if offset == 0:
            return None
        if offset < 4 or offset + size_bytes > self.size_bytes:
            raise self.buffer.error(
                f"{self.path}.{name}", f"lies at byte {offset} of a table of {self.size_bytes} bytes"
            )
        return self.position + offset

    def _target(self, slot: int, name: str) -> int | None:
        """Absolute position of what a field refers to, or None where the file leaves it out."""
        field = self._field(slot, 4, name)
        return None if field is None else self.buffer.follow(field, f"{self.path}.{name}")

    def scalar(self, slot: int, kind: str, name: str, default: int | float | bool = 0) -> int | float | bool:
        """A number of `kind` (`bool i8 u8 i32 u32 i64 u64 f32`)."""
        reader = _SCALARS[kind]
        field = self._field(slot, reader.size, name)
        if field is None:
            return default
        value: int | float | bool = reader.unpack_from(self.buffer.data, field)[0]
        return value

    def integer(self, slot: int, kind: str, name: str, default: int = 0) -> int:
        """An integer of `kind`."""
        return int(self.scalar(slot, kind, name, default))

    def numbers(self, slot: int, dtype: npt.DTypeLike, name: str) -> Array | None:
        """A vector of numbers as a read-only view of the file, or None where the file leaves it out. Charged."""
        target = self._target(slot, name)
        if target is None:
            return None
        item = np.dtype(dtype).newbyteorder("<")
        start, length = self.buffer.vector_at(target, item.itemsize, f"{self.path}.{name}")
        self.buffer.visit(start, length * item.itemsize, f"{self.path}.{name}")
        return np.frombuffer(self.buffer.data, item, length, start)

    def span(self, slot: int, name: str) -> tuple[int, int]:
        """Position and length of a vector of bytes, (0, 0) where the file leaves it out. Not charged: not visited."""
        target = self._target(slot, name)
        return (0, 0) if target is None else self.buffer.vector_at(target, 1, f"{self.path}.{name}")

    def text(self, slot: int, name: str) -> str:
        """A string; bytes that are not UTF-8 become escapes. Empty where the file leaves it out."""
        data = self.numbers(slot, np.uint8, name)
        return "" if data is None else data.tobytes().decode("utf-8", "backslashreplace")

    def has(self, slot: int) -> bool:
        """Whether the file gives a value for the field."""
        return self._field(slot, 0, "field") is not None

    def table(self, slot: int, name: str) -> Table | None:
        """A table that a field refers to, or None where the file leaves it out."""
        target = self._target(slot, name)
        return None if target is None else self.buffer.table_at(target, f"{self.path}.{name}")

    def tables(self, slot: int, name: str, maximum: int) -> list[Table]:
        """A vector of tables, of at most `maximum` elements."""
        target = self._target(slot, name)
        if target is None:
            return []
        path = f"{name}" if self.path == "root" else f"{self.path}.{name}"
        start, length = self.buffer.vector_at(target, 4, path)
        if length > maximum:
            raise CompileError.of(
                "too-large", f"{path} has {length} elements; the limit is {maximum}", self.buffer.location, exit_code=2
            )
        positions = (self.buffer.follow(start + 4 * i, f"{path}[{i}]") for i in range(length))
        return [self.buffer.table_at(position, f"{path}[{i}]") for i, position in enumerate(positions)]
