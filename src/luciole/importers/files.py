"""Reading model files that may be anything: missing, a directory, a pipe that never ends, larger than memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from luciole.errors import CompileError, printable

#: Larger files are refused before they are read. FlatBuffers cannot address more.
MAXIMUM_FILE_BYTES = 1 << 31


def read_file(path: Path, maximum_bytes: int = MAXIMUM_FILE_BYTES) -> bytes:
    """The content of a regular file. Raises `CompileError` for all else, without waiting on pipes and devices."""

    def error(problem: str, help: str = "") -> CompileError:
        return CompileError.of("unreadable-file", f'"{printable(str(path))}" {problem}', help=help)

    try:
        # Without this flag, opening a pipe would wait for a writer; what the file is gets checked below.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise error("does not exist") from None
    except (OSError, ValueError) as problem:
        raise error(f"cannot be opened: {getattr(problem, 'strerror', None) or problem}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise error("is not a regular file" if not stat.S_ISDIR(status.st_mode) else "is a directory")
        if status.st_size > maximum_bytes:
            raise error(f"has {status.st_size} bytes; the limit is {maximum_bytes}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)  # no more, should the file grow meanwhile
    except (OSError, MemoryError) as problem:
        raise error(f"cannot be read: {problem}") from None
    finally:
        os.close(descriptor)
