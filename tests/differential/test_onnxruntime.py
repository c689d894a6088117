"""Models in ONNX give what onnxruntime gives, in machine code and in C, and keep channels last inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import luciole
from luciole.graph.core import Graph
from luciole.ir.types import Array
from luciole.ops.transpose import Transpose
from support.onnx_models import MODELS, random_inputs, reference

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


@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_onnxruntime(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    path = tmp_path / f"{name}.onnx"
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


@pytest.mark.parametrize("name", [name for name in MODELS if name != "attention"])
def test_no_transpose_is_left_inside(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(MODELS[name]().SerializeToString())
    graph = luciole.load(path, stage="graph").program.graph
    assert inner_transposes(graph) == []
    assert sum(isinstance(op, Transpose) for op in graph.operators) <= len(graph.inputs) + len(graph.outputs)
