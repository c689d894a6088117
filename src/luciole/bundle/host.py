"""Bundles run on this machine: the native object in this process, or the C sources built by the host's C compiler.

Both give the bundle exactly what a board gives it, an arena with arbitrary bytes in it, and look afterwards whether
anything around the arena was written.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from luciole.bundle.interface import Interface, Tensor
from luciole.emit.entry import STATUSES
from luciole.emit.native import LoadedObject
from luciole.errors import InternalError, ToolError
from luciole.program.core import ARENA

#: Bytes that stand before and after each memory that a bundle gets, and what they hold.
GUARD_BYTES, _GUARD_FILL = 256, 0xA5

#: What the memories hold before the bundle writes to them: nobody may rely on zeros.
_ARENA_FILL = 0x5A

#: The least alignment of memories here, so that guards are not in the same cache line.
_LEAST_ALIGNMENT = 64


class _Memory:
    """Memory at an aligned address between two guards."""

    def __init__(self, size: int, alignment: int) -> None:
        alignment = max(alignment, _LEAST_ALIGNMENT)
        self.size = size
        total = size + 2 * GUARD_BYTES + alignment
        self._buffer = (ctypes.c_ubyte * total)()
        base = ctypes.addressof(self._buffer)
        ctypes.memset(base, _GUARD_FILL, total)
        self.address = -(-(base + GUARD_BYTES) // alignment) * alignment
        ctypes.memset(self.address, _ARENA_FILL, size)

    def check(self, what: str) -> None:
        """Raise `InternalError` when a guard is not what it was."""
        guard = bytes([_GUARD_FILL]) * GUARD_BYTES
        if ctypes.string_at(self.address - GUARD_BYTES, GUARD_BYTES) != guard:
            raise InternalError(f"the bundle wrote before its {what}")
        if ctypes.string_at(self.address + self.size, GUARD_BYTES) != guard:
            raise InternalError(f"the bundle wrote after its {what}")


class HostSession:
    """A bundle on this machine, one instance of the model.

        session = HostSession.from_object(data, interface)
        outputs = session.run([image_bytes])

    `run` takes and gives the bytes of the tensors, in the order of the model.
    """

    def __init__(
        self,
        interface: Interface,
        address_of: Callable[[str], int],
        keep: object,
        constant_weights: bytes = b"",
        close: Callable[[], None] | None = None,
    ) -> None:
        """For `from_object` and `from_c`: `address_of` finds functions, `keep` is what must stay alive meanwhile."""
        self.interface = interface
        self._address_of = address_of
        self._keep = keep
        self._close = close
        self._arena = _Memory(interface.arena_bytes, interface.arena_alignment)
        self._mutable = _Memory(interface.mutable_bytes, interface.arena_alignment)
        self._weights = constant_weights
        self._constant = _Memory(len(constant_weights), interface.arena_alignment)
        ctypes.memmove(self._constant.address, constant_weights, len(constant_weights))
        self._model = (ctypes.c_void_p * max(1, len(interface.ranges)))()
        self._ranges = {ARENA: self._arena}
        for other in interface.ranges[1:]:
            self._ranges[other.region] = _Memory(other.size_bytes, other.alignment)
        if interface.ranges:
            given = [n for r in interface.ranges for n in (self._ranges[r.region].address, r.size_bytes)]
            memories = (ctypes.c_void_p * len(given))(*given)
            self._check(self._status("init", ctypes.addressof(memories)))
        elif interface.api == "luciole":
            self._check(self._status("init", self._arena.address, interface.arena_bytes))

    @classmethod
    def from_object(cls, data: bytes, interface: Interface, constant_weights: bytes = b"") -> Self:
        """The object of a bundle for the target `native`, loaded into this process. Glow's interface takes the weights
        too.
        """
        loaded = LoadedObject(data)
        return cls(interface, loaded.address, loaded, constant_weights)

    @classmethod
    def from_c(
        cls,
        files: Mapping[str, bytes],
        interface: Interface,
        constant_weights: bytes = b"",
        *,
        compiler: Sequence[str] = (),
        flags: Sequence[str] = ("-O2",),
    ) -> Self:
        """The C sources of a bundle, built with `compiler` (by default the one that `find_compiler` finds).

        Raises `ToolError` when there is no C compiler or it refuses its arguments.
        """
        folder = tempfile.TemporaryDirectory(prefix="luciole-")
        try:
            library_path = build_library(files, Path(folder.name), compiler or find_compiler(), flags)
            library = ctypes.CDLL(str(library_path))
        except BaseException:
            folder.cleanup()
            raise

        def address_of(symbol: str) -> int:
            return ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value or 0

        return cls(interface, address_of, library, constant_weights, folder.cleanup)

    def another(self) -> HostSession:
        """One more instance of the same loaded model, with memory of its own; both may run at once in different
        threads.
        """
        return HostSession(self.interface, self._address_of, self._keep, self._weights)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove temporary files; the session still runs, since the code is loaded."""
        if self._close is not None:
            self._close()
            self._close = None

    def run(self, inputs: Sequence[bytes]) -> list[bytes]:
        """One inference: the bytes of the outputs for the bytes of the inputs.

        Raises `CompileError` (`bad-input`) for inputs of another number or size, `InternalError` when the bundle
        returns an error or writes outside of its memory.
        """
        given = tuple(bytes(data) for data in inputs)
        self.interface.check_inputs(given)
        for data, tensor in zip(given, self.interface.inputs, strict=True):
            if self.interface.takes_rows:
                break
            ctypes.memmove(self._tensor_address(tensor), data, len(data))
        if self.interface.api == "glow":
            arguments = (self._constant.address, self._mutable.address, self._arena.address)
            self._check(self._call(self.interface.prefix, ctypes.c_int, *arguments))
        elif self.interface.takes_rows:
            if missing := self.push_rows(given[0], self.interface.inputs[0].shape[1]):
                raise InternalError(f"the bundle still wants {missing} rows")
        else:
            self._check(self._status("run"))
        for what, memory in self._ranges.items():
            memory.check(what)
        for memory, what in ((self._mutable, "inputs and outputs"), (self._constant, "weights")):
            memory.check(what)
        return [ctypes.string_at(self._tensor_address(t), t.size_bytes) for t in self.interface.outputs]

    def push_rows(self, rows: bytes, count: int) -> int:
        """Give a bundle that takes rows the next ones; how many are still missing, -1 for too many."""
        given = ctypes.create_string_buffer(rows, max(1, len(rows)))
        return ctypes.c_int32(self._status("push_rows", ctypes.addressof(given), count)).value

    def _tensor_address(self, tensor: Tensor) -> int:
        if self.interface.api == "glow":
            return self._mutable.address + tensor.offset
        address = int(self._call(tensor.function, ctypes.c_void_p, ctypes.addressof(self._model)))
        home = self._ranges.get(tensor.region)
        if home is not None and address != home.address + tensor.offset:
            raise InternalError(f"{tensor.function} is not at {tensor.region} + {tensor.offset}, where the plan has it")
        return address

    def _status(self, function: str, *arguments: int) -> int:
        name = f"{self.interface.prefix}_{function}"
        return int(self._call(name, ctypes.c_int, ctypes.addressof(self._model), *arguments))

    def _check(self, status: int) -> None:
        if status != 0:
            name = STATUSES[status] if 0 <= status < len(STATUSES) else str(status)
            raise InternalError(f"the bundle returned the status {name}")

    def _call(self, symbol: str, result: type[Any], *arguments: int) -> Any:
        """All arguments are pointers or sizes, which are as wide here."""
        function = ctypes.CFUNCTYPE(result, *[ctypes.c_void_p] * len(arguments))(self._address_of(symbol))
        return function(*arguments)


def find_compiler() -> list[str]:
    """The command of this machine's C compiler: `$CC`, `cc`, or clang in the Python package ziglang.

    Raises `ToolError` when there is none.
    """
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(command[0]) is not None:
        return command
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise ToolError(
        f"there is no C compiler ({command[0]} is not found)\n  help: install one, set CC, or run pip install ziglang"
    )


def build_library(files: Mapping[str, bytes], folder: Path, compiler: Sequence[str], flags: Sequence[str] = ()) -> Path:
    """A shared library of the C sources among `files`, built in `folder`, where all files are written.

    Raises `ToolError` with the compiler's words when it fails.
    """
    for name, data in files.items():
        (folder / name).write_bytes(data)
    # The test program has a main of its own.
    sources = [name for name in files if name.endswith(".c") and not name.endswith("_test.c")]
    output = folder / "bundle.so"
    command = [*compiler, "-std=c99", "-fPIC", "-shared", *flags, *sources, "-o", output.name]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ToolError(f"the C compiler failed: {shlex.join(command)}\n{result.stderr[:4000]}")
    return output
