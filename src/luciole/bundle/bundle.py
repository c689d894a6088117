"""A bundle: the files for the user and the facts about them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from luciole.bundle.interface import Interface
from luciole.errors import CompileError, printable
from luciole.report.html import render_html
from luciole.report.model import Report


@dataclass(frozen=True)
class Bundle:
    """Everything that a compilation gives the user.

    Attributes:
        name: the prefix of functions, macros and files.
        files: contents by file name, in the order of the link line; the same model gives the same bytes.
        report: the typed form of `<name>.report.json`.
        interface: sizes, inputs and outputs, as the header states them.
        object_bytes: the object, as it is in `<name>.o` or in the archive; empty in a bundle of C.
        constant_weights: what Glow's interface takes as its first argument; empty in Luciole's.
    """

    name: str
    files: Mapping[str, bytes]
    report: Report
    interface: Interface
    object_bytes: bytes = b""
    constant_weights: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    def with_report(self, report: Report) -> Bundle:
        """The same bundle with other facts in its report, such as what was measured."""
        files = dict(self.files)
        files[f"{self.name}.report.json"] = report.to_json().encode("ascii")
        files[f"{self.name}.report.html"] = render_html(report).encode("utf-8")
        return replace(self, files=files, report=report)

    def save(self, folder: str | Path) -> None:
        """Write all files into `folder`, which is made when it is not there; files of other names stay as they are.

        First everything is written under temporary names, then renamed, so that a failure in between leaves no half of
        a bundle. Raises `CompileError` (`cannot-write`) when the folder cannot be written.
        """
        path = Path(folder)
        written: list[tuple[Path, Path]] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name, data in self.files.items():
                descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=path)
                written.append((Path(temporary), path / name))
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                os.chmod(temporary, 0o666 & ~_umask())
            for _, destination in written:
                if destination.is_dir():
                    raise IsADirectoryError(f"{destination.name} is a folder")
            for source, destination in written:
                os.replace(source, destination)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CompileError.of(
                "cannot-write",
                f"the bundle cannot be written to {printable(str(folder))}: {reason}",
                help="choose another folder with --output, or make room",
            ) from error
        finally:
            for temporary_path, _ in written:
                temporary_path.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
