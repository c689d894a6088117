"""Whole models: the imported graph, interpreted by the operators' meaning in numpy, against the golden outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from luciole.graph.interpret import run_graph
from luciole.graph.verify import verify_graph
from luciole.importers import load_model

#: Model -> how many of its golden samples are run; the larger the model, the fewer.
SAMPLES = {
    "ad_ae_f32": 6,
    "ad_ae_int8": 6,
    "hello_world_int8": 4,
    "ic_resnet8_f32": 6,
    "ic_resnet8_int8": 18,
    "kws_dscnn_f32": 6,
    "kws_dscnn_int8": 18,
    "micro_speech_quantized": 4,
    "mobilenet_v2_224_int8": 1,
    "sww_int8": 6,
    "vww_mbv1_f32": 6,
    "vww_mbv1_int8": 6,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_outputs(name: str, shared_model: Callable[[str], Path]) -> None:
    path = shared_model(name)
    graph = load_model(path)
    verify_graph(graph)
    golden = np.load(path.with_suffix("").with_suffix(".golden.npz"))
    (value,) = graph.inputs
    ((output, _),) = graph.outputs
    for x, expected in list(zip(golden["input"], golden["output0"], strict=True))[: SAMPLES[name]]:
        found = run_graph(graph, {value.name: x})[output]
        assert found.dtype == expected.dtype
        if expected.dtype == np.float32:
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        else:
            assert np.array_equal(found, expected)


def test_names_of_inputs_outputs_and_nodes_are_kept(shared_model: Callable[[str], Path]) -> None:
    graph = load_model(shared_model("kws_dscnn_int8"))
    assert graph.name == "kws_dscnn_int8"
    assert [v.name for v in graph.inputs] == ["input_1"]
    assert [name for name, _ in graph.outputs] == ["Identity"]
    assert [op.location.kind for op in graph.operators][-3:] == ["RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    assert graph.operators[-1].location.node == "Identity"
    assert {op.location.file for op in graph.operators} == {"kws_dscnn_int8.tflite"}
    assert str(graph.inputs[0].type) == "i8[1,49,10,1]:affine(scale=0.5847029, zero=83)"
