"""The folder that reproduces a bug of ours: traceback, command, and what the failing stage was given."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from luciole.version import __version__


def write_crash_folder(error: BaseException, context: str = "", save: Callable[[Path], object] | None = None) -> str:
    """Write `luciole-crash-<hash>/` into the working folder, or where temporary files go if that cannot be written.

    `context` is added to the command; `save` writes further files into the folder. Equal tracebacks give equal names.
    Gives the folder, or why there is none; never raises an error of its own.
    """
    trace = "".join(traceback.format_exception(error))
    name = f"luciole-crash-{hashlib.sha256(trace.encode('utf-8', 'replace')).hexdigest()[:8]}"
    command = f"{shlex.join(sys.argv)}\nluciole {__version__}, Python {platform.python_version()}, {sys.platform}\n"
    problem = ""
    for place in (Path(), Path(tempfile.gettempdir())):
        folder = place / name
        try:
            folder.mkdir(exist_ok=True)
            (folder / "traceback.txt").write_text(trace, encoding="utf-8", errors="backslashreplace")
            (folder / "command.txt").write_text(command + context, encoding="utf-8", errors="backslashreplace")
        except OSError as failure:
            problem = problem or f"none, {folder} cannot be written: {failure.strerror}"
            continue
        try:
            if save is not None:
                save(folder)
        except Exception as failure:  # what was given may be what is broken; the traceback is there already
            return f"{folder}/ (without the intermediate form: {failure})"
        return f"{folder}/"
    return problem
