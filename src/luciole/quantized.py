"""Quantizing from Python: `luciole.quantize_model`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from luciole.driver import prepare
from luciole.errors import CompileError, printable
from luciole.graph.core import Graph
from luciole.graph.text import save_graph
from luciole.importers import load_model
from luciole.importers.samples import SampleSource, Scaling, fed_samples
from luciole.options import ObserverName, SchemeName
from luciole.passes.manager import PassContext
from luciole.quantize import (
    LayerError,
    QuantizeOptions,
    Sample,
    layer_errors,
    quantize_graph,
)

#: So many samples are compared layer by layer; the figures are of many elements each.
COMPARED_SAMPLES = 16


@dataclass(frozen=True)
class QuantizedModel:
    """An int8 model made of a float one.

    `layers` tells the error of each result on the first samples that it was calibrated with. `save` writes a file that
    `luciole.compile` and `luciole.load` take as any other model.
    """

    graph: Graph
    layers: tuple[LayerError, ...]

    def save(self, path: str | Path) -> None:
        """Write a `.graph` file, and the constants into an `.npz` beside it. Raises `CompileError` when that fails."""
        path = Path(path)
        if path.suffix != ".graph":
            raise CompileError.of("bad-option", f"a quantized model is a .graph file, not {path.suffix or path.name}")
        try:
            save_graph(self.graph, path)
        except OSError as error:
            raise CompileError.of("cannot-write", f'cannot write "{printable(str(path))}": {error.strerror}') from None


def quantize_model(
    source: str | Path,
    calibration: SampleSource,
    *,
    scheme: SchemeName = "affine",
    observer: ObserverName = "minmax",
    per_tensor: bool = False,
    data_scale: float = 1.0,
    data_zero: float = 0.0,
) -> QuantizedModel:
    """The int8 model of a float model file.

    `calibration` is an `.npz`, an `.npy` or a folder of these, or an iterable that is read once; it gives an array for
    each sample, or arrays by input name. Stored numbers stand for the reals (x - data_zero) * data_scale. Raises
    `CompileError` for operators without a meaning in int8 and for data that does not fit.
    """
    graph = prepare(load_model(source), PassContext())
    kept = _First(fed_samples(calibration, graph.inputs, Scaling(data_scale, data_zero)), COMPARED_SAMPLES)
    quantized = quantize_graph(graph, kept, QuantizeOptions(scheme, observer, per_channel=not per_tensor))
    return QuantizedModel(quantized.graph, layer_errors(graph, quantized, kept.first))


class _First:
    """Samples that go by once, of which the first are kept."""

    def __init__(self, samples: Iterable[Sample], count: int) -> None:
        self.first: list[Sample] = []
        self._samples = samples
        self._count = count

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._samples:
            if len(self.first) < self._count:
                self.first.append(sample)
            yield sample
