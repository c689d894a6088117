"""Tensors whose data stand in files beside the model: read only what lies in the model's folder, by its plain name.

A model file is data from anywhere, and it names files of ours. So a location must be a relative path without `..`; no
part of it may be a link, the file must be a regular one with a single name, and what is read must lie inside it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from luciole.errors import CompileError, Location, printable

#: The keys that ONNX defines; others are refused, for nobody knows what they would ask for.
_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})


def read_external(folder: Path | None, entries: Mapping[str, str], size: int, what: str, location: Location) -> bytes:
    """The `size` bytes of the tensor called `what`. Raises `CompileError` for whatever leaves the model's folder."""

    def error(problem: str) -> CompileError:
        return CompileError.of(
            "external-data",
            f"data of {what}: {problem}",
            location,
            help="external data are files in the model's own folder or below it",
        )

    if unknown := sorted(set(entries) - _KEYS):
        raise error(f"unknown entry {printable(unknown[0])!r}")
    if folder is None:
        raise error("the model was given as bytes, so there is no folder to read from")
    offset = _number(entries.get("offset", "0"))
    length = _number(entries.get("length", str(size)))
    if offset is None or length is None:
        raise error("offset and length must be plain numbers")
    if length != size:
        raise error(f"the type and shape need {size} bytes, the length is {length}")
    parts = _parts(entries.get("location", ""))
    if parts is None:
        raise error(f"the location {printable(entries.get('location', ''))!r} is no plain relative path")
    try:
        return _read(folder, parts, offset, length)
    except OSError as problem:
        raise error(f'"{printable("/".join(parts))}" {problem.strerror or problem}') from None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _parts(path: str) -> list[str] | None:
    """The names that a path goes through, or None where it is not a plain relative one on every system."""
    if not path or any(c in path for c in ("\0", "\\", ":")) or path.startswith("/"):
        return None
    parts = [part for part in path.split("/") if part != "."]
    return None if not parts or any(part in ("", "..") for part in parts) else parts


def _read(folder: Path, parts: list[str], offset: int, length: int) -> bytes:
    """Part of a file below a folder, opened name by name so that no link is ever followed."""
    no_link = getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        for position, part in enumerate(parts):
            is_last = position + 1 == len(parts)
            flags = os.O_RDONLY | no_link | (os.O_NONBLOCK if is_last else os.O_DIRECTORY)
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("is not a regular file")
        if status.st_nlink != 1:
            raise OSError("has several names (hard links)")
        if offset + length > status.st_size:
            raise OSError(f"has {status.st_size} bytes, bytes {offset} to {offset + length} are asked for")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) != length:
            raise OSError("became shorter while it was read")
        return data
    finally:
        os.close(descriptor)
