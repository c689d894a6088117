"""Which format a file is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from luciole.errors import CompileError
from luciole.graph.text import print_graph, save_graph
from luciole.importers import load_model
from support.tflite_writer import TensorSpec, single_operator, write_model


def relu() -> bytes:
    """The bytes of a TFLite file."""
    return write_model(single_operator("RELU", [TensorSpec("x", (2,), "f32")], [TensorSpec("y", (2,), "f32")]))


def test_tflite_files_are_known_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "network.bin").write_bytes(relu())
    assert load_model(tmp_path / "network.bin").name == "network"
    assert load_model(str(tmp_path / "network.bin")).name == "network"


def test_graph_text_loads_as_it_was_saved(tmp_path: Path) -> None:
    (tmp_path / "network.tflite").write_bytes(relu())
    graph = load_model(tmp_path / "network.tflite")
    save_graph(graph, tmp_path / "network.graph")
    assert print_graph(load_model(tmp_path / "network.graph")) == print_graph(graph)


def test_broken_graph_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "network.graph").write_text("graph of nothing\n")
    with pytest.raises(CompileError) as error:
        load_model(tmp_path / "network.graph")
    assert error.value.exit_code == 1
