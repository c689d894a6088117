"""Models in ONNX give what onnxruntime gives, in machine code and in C, and keep channels last inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnx

import luciole
from luciole.graph.core import Graph
from luciole.ir.types import Array
from luciole.ops.transpose import Transpose
from support.onnx_models import MODELS, random_inputs, reference
from support.onnx_networks import NETWORKS

#: Relative to the largest magnitude of an output: sums are ordered differently.
TOLERANCE = 1e-4
#: Machine code and C have the same order of additions.
SAME = 1e-6


def close(result: Array, expected: Array, tolerance: float) -> bool:
    return bool(np.max(np.abs(result - expected)) <= tolerance * max(1e-3, float(np.max(np.abs(expected)))))


def inner_transposes(graph: Graph) -> list[Transpose]:
    """Transposes that neither read an input nor make an output."""
    found = [op for op in graph.operators if isinstance(op, Transpose)]
    return [op for op in found if op.x not in graph.inputs and not graph.is_output(graph.result(op))]


#: Networks that take seconds to compile.
LARGE = ("resnet18", "mobilenet_v2", "squeezenet")
NAMES = [f"small {name}" for name in MODELS] + [
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in NETWORKS
]


def built(name: str) -> onnx.ModelProto:
    """One of the small models or of the whole networks."""
    return MODELS[name.removeprefix("small ")]() if name.startswith("small ") else NETWORKS[name]()


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_onnxruntime(name: str, tmp_path: Path) -> None:
    model = built(name)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    sessions = [luciole.load(path), luciole.load(path, emit="c")]
    for seed in range(2):
        inputs = random_inputs(model, seed)
        expected = reference(model, inputs)
        llvm, c = (session.run(inputs) for session in sessions)
        assert list(llvm) == list(c) == list(expected)
        for output in expected:
            assert close(llvm[output], expected[output], TOLERANCE), output
            assert close(c[output], llvm[output], SAME), output


#: Attention and recurrent layers put the axes into another order for a reason.
CONVOLUTIONAL = [f"small {name}" for name in MODELS if name != "attention"] + ["ds_cnn"]
CONVOLUTIONAL_LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *CONVOLUTIONAL_LARGE])
def test_no_transpose_is_left_inside(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(built(name).SerializeToString())
    graph = luciole.load(path, stage="graph").program.graph
    assert inner_transposes(graph) == []
    assert sum(isinstance(op, Transpose) for op in graph.operators) <= len(graph.inputs) + len(graph.outputs)
