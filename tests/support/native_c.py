"""Generated C compiled on this machine and called through ctypes; skips where there is no compiler."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from luciole.emit.c import prelude_c, print_kernel_c
from luciole.ir.types import Array
from luciole.kernel.core import Kernel

#: What generated C must pass without a word, as C and as C++.
WARNINGS = ("-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wvla", "-Wsign-conversion", "-Werror")


def compiler(name: str) -> list[str]:
    """The command of `gcc`, `g++`, or (through the ziglang package) `clang`, `clang++`; skips the test without it."""
    if name.startswith("clang"):
        if importlib.util.find_spec("ziglang") is None:
            pytest.skip("ziglang is not installed")
        return [sys.executable, "-m", "ziglang", "c++" if name.endswith("++") else "cc"]
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return [name]


def compile_c(source: str, directory: Path, name: str, flags: Sequence[str], suffix: str = ".so") -> Path:
    """Compile C text with a named compiler; fails the test with the compiler's words and returns the output file."""
    path, output = directory / f"{name.replace('+', 'x')}.c", directory / f"{name.replace('+', 'x')}{suffix}"
    path.write_text(source, encoding="ascii")
    language = ["-x", "c++"] if name.endswith("++") else ["-x", "c"]
    command = [*compiler(name), *flags, *language, str(path), "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr[:8000]}"
    return output


def kernels_source(kernels: Sequence[Kernel]) -> str:
    """One C file with all the kernels as external functions `kernel_0`, `kernel_1`, ..."""
    functions = [print_kernel_c(k, f"kernel_{i}", 'extern "C"') for i, k in enumerate(kernels)]
    source = "\n".join([prelude_c(kernels), *functions])
    return source.replace('extern "C" void', "LINKAGE void").replace(
        "#include <stdint.h>\n",
        '#include <stdint.h>\n#if defined(__cplusplus)\n#define LINKAGE extern "C"\n#else\n#define LINKAGE\n#endif\n',
        1,
    )


def call_kernel(
    library: ctypes.CDLL, function: str, kernel: Kernel, buffers: Mapping[str, Array], scalars: Mapping[str, int]
) -> dict[str, Array]:
    """Run a compiled kernel on copies of the buffers; returns its `out` and `inout` buffers, as `run_kernel` does."""
    arrays: dict[str, Array] = {}
    for parameter in kernel.parameters:
        size = int(np.prod(parameter.shape, dtype=np.int64)) * parameter.dtype.size_bytes
        memory = np.zeros(size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        array = memory[start : start + size].view(parameter.dtype.numpy).reshape(parameter.shape)
        if parameter.kind in ("in", "inout"):
            array[...] = buffers[parameter.name]
        arrays[parameter.name] = array
    arguments = [ctypes.c_void_p(a.ctypes.data) for a in arrays.values()]
    numbers = [ctypes.c_int32(scalars[s.name]) for s in kernel.scalars]
    getattr(library, function)(*arguments, *numbers)
    return {p.name: arrays[p.name] for p in kernel.parameters if p.kind in ("out", "inout")}
