"""A bundle's C sources compiled for another core by GCC, where one is installed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from luciole.errors import EXIT_UNSUPPORTED, CompileError, ToolError
from luciole.ir.target import Target

#: GCC by the beginning of a target's triple, and Debian's package of it.
_COMPILERS = {
    "thumb": ("arm-none-eabi-gcc", "gcc-arm-none-eabi"),
    "riscv": ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf"),
    "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
}

_FLAGS = ("-std=c99", "-O2", "-ffreestanding", "-fno-pic", "-ffunction-sections", "-fdata-sections")


def build_cross_object(files: Mapping[str, bytes], target: Target) -> bytes:
    """One relocatable object of the C sources among `files`, the test program left out.

    Raises `CompileError` when Luciole does not know GCC's flags for the target, `ToolError` when that GCC is missing or
    refuses the sources.
    """
    compiler, package = next((c for start, c in _COMPILERS.items() if target.triple.startswith(start)), ("", ""))
    if not compiler or not target.gcc_flags:
        raise CompileError.of(
            "not-runnable",
            f"C source is not compiled here for {target.name}",
            help="run with --emit object",
            exit_code=EXIT_UNSUPPORTED,
        )
    path = shutil.which(compiler)
    if path is None:
        raise ToolError(f"compiling C for {target.name} needs {compiler}; on Debian: apt-get install {package}")
    with tempfile.TemporaryDirectory(prefix="luciole-") as name:
        folder = Path(name)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        sources = [file for file in files if file.endswith(".c") and not file.endswith("_test.c")]
        command = [path, *_FLAGS, *target.gcc_flags, "-nostdlib", "-r", *sources, "-o", "bundle.o"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise ToolError(f"the C compiler failed: {shlex.join(command)}\n{result.stderr[:4000]}")
        return (folder / "bundle.o").read_bytes()
