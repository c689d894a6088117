"""The oracle for TFLite files: TensorFlow Lite Micro from PyPI (`tflite-micro`), reference kernels on the host.

Never the LiteRT interpreter, whose optimized kernels differ from the reference. The package has wheels for Linux on
x86-64 only: import this module through `pytest.importorskip("tflite_micro")` or call `require_oracle` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]


def require_oracle() -> None:
    """Skip the calling test or module where the package is missing."""
    pytest.importorskip("tflite_micro", reason="the oracle tflite-micro has no wheel for this platform")


class Oracle:
    """A model loaded once, to run on many inputs."""

    def __init__(self, model: bytes | str | Path, arena_bytes: int | None = None) -> None:
        from tflite_micro import runtime

        data = bytes(model) if isinstance(model, bytes | bytearray) else Path(model).read_bytes()
        size = arena_bytes or max(1 << 20, 12 * len(data))
        self._interpreter = runtime.Interpreter.from_bytes(data, arena_size=size)
        self._model = data

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs for inputs in the order of the model's, each an array of the tensor's shape and type.

        Raises `RuntimeError` when the interpreter refuses. A model with state (variables) keeps it between runs.
        """
        for index, array in enumerate(inputs):
            self._interpreter.set_input(np.ascontiguousarray(array), index)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(i)) for i in range(self.output_count)]

    @property
    def output_count(self) -> int:
        """Number of outputs of the first subgraph."""
        import tflite

        return int(tflite.Model.GetRootAsModel(self._model, 0).Subgraphs(0).OutputsLength())


def run_tflite_micro(model: bytes | str | Path, inputs: Sequence[Array], arena_bytes: int | None = None) -> list[Array]:
    """The outputs of a model file (or its bytes) for one set of inputs."""
    return Oracle(model, arena_bytes).run(inputs)
