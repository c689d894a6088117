"""Inputs that come channels last: the transpose is gone, the rest means the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.errors import CompileError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.samples import Samples
from luciole.graph.text import save_graph
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from luciole.ops.conv import Conv2d
from luciole.ops.transpose import Transpose
from luciole.passes.input_layout import take_channels_last


def channels_first() -> Graph:
    builder, s = GraphBuilder("first"), Samples()
    x = builder.input("image", DType.I8, (1, 3, 8, 6), Quant.per_tensor(0.05, 3))
    moved = builder.add(Transpose(x, (0, 2, 3, 1)))
    weights = s.i8_weights(4, 3, 3, 3)
    assert weights.data is not None
    w = builder.constant(weights.data, weights.type.quant)
    builder.output("y", builder.add(Conv2d(moved, w, pads=(1, 1, 1, 1), quant=s.quant(0.2))))
    return builder.graph


def test_the_transpose_is_gone_and_nothing_else() -> None:
    image = np.random.default_rng(0).integers(-128, 128, (1, 3, 8, 6)).astype(np.int8)
    (expected,) = run_graph(channels_first(), {"image": image}).values()
    graph = channels_first()
    assert take_channels_last(graph) == 1
    assert [op.kind for op in graph.operators] == ["conv2d"]
    (found,) = run_graph(graph, {"image": np.ascontiguousarray(image.transpose(0, 2, 3, 1))}).values()
    assert (found == expected).all()


def test_rows_of_a_model_with_channels_first(tmp_path: Path) -> None:
    source = tmp_path / "first.graph"
    save_graph(channels_first(), source)
    image = np.random.default_rng(1).integers(-128, 128, (1, 3, 8, 6)).astype(np.int8)
    (expected,) = luciole.load(source).run({"image": image}).values()
    session = luciole.load(source, input_layout="nhwc", input_rows=True)
    (found,) = session.run({"image": np.ascontiguousarray(image.transpose(0, 2, 3, 1))}).values()
    assert (found == expected).all()
    with pytest.raises(CompileError) as caught:
        luciole.load(source, input_rows=True)
    assert caught.value.diagnostics[0].code == "no-input-rows"


def test_models_without_a_transpose_are_refused() -> None:
    graph = channels_first()
    take_channels_last(graph)
    with pytest.raises(CompileError) as caught:
        take_channels_last(graph)
    (problem,) = caught.value.diagnostics
    assert problem.code == "no-transpose"
