"""Quantizing from Python: `luciole.quantize_model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from luciole.driver import prepare
from luciole.errors import CompileError, printable
from luciole.exporters.onnx import write_qdq
from luciole.graph.core import Graph
from luciole.graph.text import save_graph
from luciole.importers import load_model
from luciole.importers.samples import SampleSource, Scaling, fed_samples
from luciole.options import ObserverName, SchemeName
from luciole.passes.manager import PassContext
from luciole.quantize import LayerError, QuantizeOptions, profile_text, quantize_and_compare


@dataclass(frozen=True)
class QuantizedModel:
    """An int8 model made of a float one.

    `layers` tells the error of each result on the first samples that it was calibrated with, `profile` is the text of
    what calibration saw. `save` writes a file that `luciole.compile` and `luciole.load` take as any other model.
    """

    graph: Graph
    layers: tuple[LayerError, ...]
    profile: str

    def save(self, path: str | Path) -> None:
        """Write a `.graph` file, and the constants into an `.npz` beside it, or an `.onnx` file with QuantizeLinear and
        DequantizeLinear. Raises `CompileError` when that fails.
        """
        path = Path(path)
        if path.suffix not in (".graph", ".onnx"):
            found = path.suffix or path.name
            raise CompileError.of("bad-option", f"a quantized model is a .graph or .onnx file, not {found}")
        data = write_qdq(self.graph) if path.suffix == ".onnx" else None
        try:
            if data is None:
                save_graph(self.graph, path)
            else:
                path.write_bytes(data)
        except OSError as error:
            raise CompileError.of("cannot-write", f'cannot write "{printable(str(path))}": {error.strerror}') from None

    def save_profile(self, path: str | Path) -> None:
        """Write the profile, from which the same model is quantized again without samples. Raises `CompileError`."""
        try:
            Path(path).write_text(self.profile, encoding="utf-8", newline="\n")
        except OSError as error:
            raise CompileError.of("cannot-write", f'cannot write "{printable(str(path))}": {error.strerror}') from None


def quantize_model(
    source: str | Path,
    calibration: SampleSource | None = None,
    *,
    scheme: SchemeName = "affine",
    observer: ObserverName = "minmax",
    per_tensor: bool = False,
    float_operators: Sequence[str] = (),
    equalize: bool = False,
    correct_bias: bool = False,
    profile: str | Path | None = None,
    data_scale: float = 1.0,
    data_zero: float = 0.0,
    dims: Mapping[str, int] | None = None,
) -> QuantizedModel:
    """The int8 model of a float model file.

    `calibration` is an `.npz`, an `.npy` or a folder of these, or an iterable that is read once; it gives an array for
    each sample, or arrays by input name. Stored numbers stand for the reals (x - data_zero) * data_scale. It may be
    left out when there is a `profile`, a file that `save_profile` wrote. `float_operators` are kinds of operators, and
    names of nodes or tensors. Raises `CompileError` for operators without a meaning in int8 and for data that does not
    fit.
    """
    if calibration is None and profile is None:
        raise CompileError.of("no-calibration-data", "quantize_model needs samples of what the model will see")
    graph = prepare(load_model(source, dims), PassContext())
    samples = fed_samples(() if calibration is None else calibration, graph.inputs, Scaling(data_scale, data_zero))
    options = QuantizeOptions(
        scheme,
        observer,
        per_channel=not per_tensor,
        float_operators=tuple(float_operators),
        equalize=equalize,
        correct_bias=correct_bias,
    )
    earlier = None if profile is None else Path(profile)
    quantized, layers = quantize_and_compare(graph, samples, options, profile=earlier)
    return QuantizedModel(quantized.graph, layers, profile_text(graph, quantized.calibration))
