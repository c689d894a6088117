"""Models of a few ONNX nodes over one input, imported and compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np

from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.importers.onnx.build import load_onnx
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.passes.pipeline import OPTIMIZE
from support.onnx_models import Net, random_inputs, reference


def imported(net: Net, shape: tuple[int, ...], output: str) -> tuple[Any, Graph]:
    """The model of one input `x`, and its graph."""
    model = net.model({"x": list(shape)}, {output: None})
    return model, load_onnx(model.SerializeToString(), "model.onnx")


def check(net: Net, shape: tuple[int, ...], output: str) -> Graph:
    """The graph gives what onnxruntime gives, before and after the passes."""
    model, graph = imported(net, shape, output)
    inputs = random_inputs(model)
    (expected,) = reference(model, inputs).values()
    before = run_graph(graph, inputs)[output]
    PassContext(DeveloperOptions(verify="each")).run_pipeline(graph, OPTIMIZE)
    for result in (before, run_graph(graph, inputs)[output]):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    return graph
