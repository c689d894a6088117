"""Arrays and texts that verbs write."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from luciole.errors import CompileError, printable
from luciole.graph.text import write_npz
from luciole.ir.types import Array


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name into an `.npz`, or a single one into an `.npy`. Raises `CompileError` when that fails."""
    if path.suffix == ".npy":
        if len(arrays) != 1:
            raise CompileError.of(
                "bad-option", f"an .npy holds one array, the model has {len(arrays)} outputs", help="name an .npz"
            )
        stream = io.BytesIO()
        np.lib.format.write_array(stream, next(iter(arrays.values())), allow_pickle=False)
        write_files({path: stream.getvalue()})
    else:
        write_files({path: write_npz(arrays)})


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write all files or none. Raises `CompileError` when that fails."""
    written: list[tuple[str, Path]] = []
    try:
        for path, data in files.items():
            if path.is_dir():
                raise IsADirectoryError(0, "is a directory")
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
            written.append((temporary, path))
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
        for temporary, path in written:
            os.replace(temporary, path)
    except (OSError, ValueError) as error:
        names = ", ".join(f'"{printable(str(path))}"' for path in files)
        reason = getattr(error, "strerror", None) or error
        raise CompileError.of("cannot-write", f"cannot write {names}: {reason}") from None
    finally:
        for temporary, _ in written:
            Path(temporary).unlink(missing_ok=True)
