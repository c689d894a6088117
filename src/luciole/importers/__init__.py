"""Models from files: `load_model` chooses the format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Location
from luciole.graph.core import Graph
from luciole.importers.files import read_file


def load_model(path: Path | str, dims: Mapping[str, int] | None = None) -> Graph:
    """The graph of a model file: .tflite (told by its content), .onnx, or our own text (.graph, with its .npz).

    `dims` gives a number for each named size of an ONNX model's inputs. Raises `CompileError` when the file
    cannot be read, is broken (exit code 1), or uses what is not supported (2).
    """
    from luciole.importers.tflite.reader import is_tflite

    path = Path(path)
    data = read_file(path)
    is_onnx = path.suffix.lower() == ".onnx" and not is_tflite(data)
    if dims and not is_onnx:
        raise CompileError.of("bad-option", "only ONNX models have named sizes to bind", Location(path.name))
    if path.suffix == ".graph":
        from luciole.graph.text import load_graph
        from luciole.ops.catalog import load_operators

        load_operators()
        return load_graph(path)
    if is_tflite(data):
        from luciole.importers.tflite.build import load_tflite

        return load_tflite(data, path.name)
    location = Location(path.name)
    if is_onnx:
        from luciole.importers.onnx.build import load_onnx

        return load_onnx(data, path.name, path.parent, dims)
    if path.suffix in (".pt2", ".pb", ".h5", ".keras"):
        raise CompileError.of(
            "unsupported-format",
            f"models of type {path.suffix} cannot be imported",
            location,
            help="convert the model to .tflite or .onnx",
            exit_code=EXIT_UNSUPPORTED,
        )
    raise CompileError.of(
        "not-a-model",
        "not a model: bytes 4 to 8 are not TFL3 as in TFLite files, and the name ends in neither .onnx nor .graph",
        location,
        help="give a .tflite or .onnx file, or Luciole's own .graph text",
    )
