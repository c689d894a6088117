"""`luciole quantize`: a float model and samples in, an integer model and what it lost out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from luciole.cli.files import write_files
from luciole.cli.options import calibration_options, model_argument, quantization_of
from luciole.cli.output import json_option, show
from luciole.driver import calibration_samples, prepare, quantize_options
from luciole.errors import CompileError
from luciole.exporters.onnx import write_qdq
from luciole.graph.core import Graph
from luciole.graph.text import render_graph, write_npz
from luciole.importers import load_model
from luciole.importers.samples import Scaling, fed_samples, load_labelled
from luciole.ir.types import Array
from luciole.options import Options
from luciole.passes.manager import PassContext
from luciole.quantize import (
    Accuracy,
    LayerError,
    Quantized,
    Sample,
    accuracy_remark,
    check_quantizable,
    find_operators,
    profile_text,
    quantize_and_compare,
)
from luciole.quantize.remarks import METHOD
from luciole.quantize.report import quantize_sample
from luciole.report.table import Cell, Column, Table
from luciole.session import host_session
from luciole.validate import count_right


@click.command()
@model_argument
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File for the integer model, a .graph or .onnx.")
@calibration_options
@click.option("--save-profile", type=click.Path(path_type=Path), help="File for what calibration saw; see --profile.")
@click.option("--data", type=click.Path(path_type=Path), help="An .npz with samples `x` and labels `y` to count with.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out the first labelled samples.")
@json_option
def quantize(
    model: Path,
    output: Path | None,
    save_profile: Path | None,
    data: Path | None,
    skip: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Make MODEL one of int8, by samples of its data; show the error of each layer and, with --data, right answers.

    The model that --output writes compiles as any other: `luciole compile model.graph`.
    """
    options = Options(quantize="int8", dims=given["dims"], **quantization_of(given))
    if output is not None and output.suffix not in (".graph", ".onnx"):
        found = output.suffix or "a folder"
        raise CompileError.of("bad-option", f"the integer model is a .graph or .onnx file, not {found}")
    labelled = load_labelled(data, None) if data is not None else None
    how = quantize_options(options)
    graph = prepare(load_model(model, dict(options.dims)), PassContext())
    check_quantizable(graph, find_operators(graph, how.float_operators))
    profile = Path(options.profile) if options.profile else None
    samples = calibration_samples(options, graph)
    is_quiet = not sys.stderr.isatty()
    with click.progressbar(samples, label="calibrating", file=sys.stderr, hidden=is_quiet) as passing:
        quantized, layers = quantize_and_compare(graph, passing, how, profile=profile)
    accuracy = None
    if labelled is not None:
        scaling = Scaling(options.data_scale, options.data_zero)
        accuracy = _accuracy(model, graph, quantized, labelled, skip, scaling)
        quantized.graph.remarks.append(accuracy_remark(accuracy))
    method = next(remark for remark in quantized.graph.remarks if remark.startswith(METHOD))
    items: list[Table | str] = [_layer_table(layers), method] if layers else [method]
    if accuracy is not None:
        items.append(_accuracy_table(accuracy))
    files = {} if output is None else _model_files(quantized.graph, output)
    if save_profile is not None:
        files[save_profile] = profile_text(graph, quantized.calibration).encode("utf-8")
    if files:
        write_files(files)
        items.append("written:\n" + "\n".join(f"  {path}" for path in files))
    facts = {
        "layers": [asdict(layer) | {"effective_bits": layer.effective_bits} for layer in layers],
        "method": method,
        "accuracy": None if accuracy is None else asdict(accuracy),
        "files": [str(path) for path in files],
    }
    show(items, facts, as_json)


@contextmanager
def _progress(what: str, length: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal; what is called when samples are done."""
    with click.progressbar(length=length, label=what, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield bar.update


def _accuracy(
    model: Path, graph: Graph, quantized: Quantized, labelled: tuple[Array, Array | None], skip: int, scaling: Scaling
) -> Accuracy:
    """Both models on labelled samples, as machine code of this machine."""
    stored, labels = labelled
    if labels is None:
        raise CompileError.of("bad-data", "the data of --data has no labels `y`")
    stored, labels = stored[skip:], labels[skip:]
    if len(stored) == 0:
        raise CompileError.of("bad-data", f"--skip {skip} leaves no labelled samples")
    reals: list[Sample] = list(fed_samples(stored, graph.inputs, scaling))
    integers: list[Sample] = [quantize_sample(quantized.graph, sample) for sample in reals]
    right = []
    for what, kind, samples in (("float", graph, reals), ("int8", quantized.graph, integers)):
        with _progress(f"running {what}", len(samples)) as done:
            right.append(count_right(host_session(model, kind), samples, labels, done))
    return Accuracy(len(reals), right[0], right[1])


def _model_files(graph: Graph, path: Path) -> dict[Path, bytes]:
    """The model's text, and its constants beside it; or the model in ONNX."""
    if path.suffix == ".onnx":
        return {path: write_qdq(graph)}
    rendered = render_graph(graph)
    files = {path: rendered.text.encode("utf-8")}
    return files | ({path.with_suffix(".npz"): write_npz(rendered.arrays)} if rendered.arrays else {})


def _layer_table(layers: tuple[LayerError, ...]) -> Table:
    columns = (
        Column("result", "result", limit=40),
        Column("operator", "operator"),
        Column("scale", "scale", right=True),
        Column("zero", "zero_point", right=True),
        Column("SQNR dB", "signal_to_noise_db", right=True, decimals=1),
        Column("bits", "effective_bits", right=True, decimals=1),
        Column("largest error", "largest_error", right=True, decimals=4),
        Column("largest value", "largest_real", right=True, decimals=4),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            layer.name,
            layer.kind,
            layer.scale,
            layer.zero_point,
            layer.signal_to_noise_db,
            layer.effective_bits,
            layer.largest_error,
            layer.largest_real,
        )
        for layer in layers
    ]
    return Table(columns, tuple(rows))


def _accuracy_table(accuracy: Accuracy) -> Table:
    def share(right: int) -> str:
        return f"{right:,} of {accuracy.samples:,} ({100 * right / accuracy.samples:.2f} %)"

    rows: list[tuple[Cell, ...]] = [("float", share(accuracy.float_right)), ("int8", share(accuracy.integer_right))]
    return Table((Column("right answers", "model"), Column("", "right")), tuple(rows))
