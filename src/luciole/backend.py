"""Luciole as a backend in the sense of `onnx.backend`: models run on this machine, compiled.

    import luciole.backend as backend
    y = backend.run_model(model, [x])[0]

The package onnx need not be installed to import this module, but to have a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from luciole.errors import CompileError
from luciole.ir.types import Array
from luciole.session import Session, load


class Model(Protocol):
    """What is asked of an `onnx.ModelProto`."""

    def SerializeToString(self) -> bytes:  # protobuf's name
        """The bytes of the model's file."""


class Prepared:
    """A compiled model."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs in order, for the inputs in order. Raises `CompileError` when these do not fit."""
        return tuple(self.session.run(dict(enumerate(inputs))).values())


def prepare(model: Model, device: str = "CPU") -> Prepared:
    """Compile a model. Raises `CompileError` for what is wrong with it or not supported, and for another device."""
    if not supports_device(device):
        raise CompileError.of("bad-option", f"there is no device {device}", help="models run on CPU")
    with TemporaryDirectory(prefix="luciole-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return Prepared(load(path))


def run_model(model: Model, inputs: Sequence[Array], device: str = "CPU") -> tuple[Array, ...]:
    """Compile a model and run it once. Raises what `prepare` and `run` raise."""
    return prepare(model, device).run(inputs)


def is_compatible(model: Model, device: str = "CPU") -> bool:
    """Whether a model compiles."""
    try:
        prepare(model, device)
    except CompileError:
        return False
    return True


def supports_device(device: str) -> bool:
    """Whether models run on a device: on the processor only."""
    return device.partition(":")[0] == "CPU"
