"""The writer of test files: what it writes reads back, runs in the oracle, and can be wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest
import tflite

from support.oracle import Oracle, require_oracle
from support.tflite_writer import (
    ModelSpec,
    OperatorSpec,
    SubgraphSpec,
    TensorSpec,
    corrupt,
    find_bytes,
    single_operator,
    write_model,
)

X = TensorSpec("x", (1, 4), "i8", (0.5,), (3,))
H = TensorSpec("h", (1, 4), "i8", (0.5,), (3,))
Y = TensorSpec("y", (4,), "i8", (0.5,), (3,))
CHAIN = SubgraphSpec(
    [X, H, Y, TensorSpec("shape", (1,), "i32", data=np.array([4], np.int32))],
    [OperatorSpec("RELU", ["x"], ["h"]), OperatorSpec("RESHAPE", ["h", "shape"], ["y"], {"new_shape": [4]})],
    ["x"],
    ["y"],
)


def test_two_operators_run_in_the_oracle() -> None:
    require_oracle()
    (result,) = Oracle(write_model(ModelSpec([CHAIN]))).run([np.array([[-5, 2, 3, 90]], np.int8)])
    assert result.tolist() == [3, 3, 3, 90]


def test_the_oracle_refuses_with_an_exception() -> None:
    require_oracle()
    other = TensorSpec("y", (1, 4), "f32")
    with pytest.raises(RuntimeError):
        Oracle(write_model(single_operator("RESHAPE", [X], [other]))).run([np.zeros((1, 4), np.int8)])


def test_everything_reads_back() -> None:
    weights = TensorSpec(
        "w",
        (2, 1, 1, 1),
        "i8",
        (0.5, 0.25),
        (0, 0),
        0,
        np.array([[[[1]]], [[[-2]]]], np.int8),
        shape_signature=(-1, 1, 1, 1),
    )
    options = {"padding": "VALID", "stride_h": 2, "stride_w": 3, "fused_activation_function": "relu6"}
    conv = OperatorSpec("CONV_2D", ["x", "w", -1], ["y"], options, version=3)
    custom = OperatorSpec("CUSTOM", [7], [9], custom_code="mine", custom_options=b"abc")
    first = SubgraphSpec([X, weights, Y], [conv], ["x"], ["y"])
    data = write_model(ModelSpec([first, SubgraphSpec([], [custom], [], [5], "second")], extra_buffers=[b"tail"]))
    assert tflite.Model.ModelBufferHasIdentifier(data, 0)
    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    tensor = graph.Tensors(1)
    assert (tensor.Name(), tensor.ShapeAsNumpy().tolist(), tensor.Type()) == (
        b"w",
        [2, 1, 1, 1],
        tflite.TensorType.INT8,
    )
    assert tensor.ShapeSignatureAsNumpy().tolist() == [-1, 1, 1, 1]
    assert tensor.Quantization().ScaleAsNumpy().tolist() == [0.5, 0.25]
    assert model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes() == b"\x01\xfe"
    assert model.Buffers(0).DataLength() == 0
    assert model.Buffers(model.BuffersLength() - 1).DataAsNumpy().tobytes() == b"tail"
    node = graph.Operators(0)
    code = model.OperatorCodes(node.OpcodeIndex())
    assert (code.BuiltinCode(), code.DeprecatedBuiltinCode(), code.Version()) == (3, 3, 3)
    assert node.InputsAsNumpy().tolist() == [0, 1, -1]
    table = tflite.Conv2DOptions()
    table.Init(node.BuiltinOptions().Bytes, node.BuiltinOptions().Pos)
    assert (table.Padding(), table.StrideH(), table.StrideW(), table.FusedActivationFunction()) == (1, 2, 3, 3)
    second = model.Subgraphs(1)
    assert (second.Name(), second.OutputsAsNumpy().tolist()) == (b"second", [5])
    node = second.Operators(0)
    assert model.OperatorCodes(node.OpcodeIndex()).CustomCode() == b"mine"
    assert (node.InputsAsNumpy().tolist(), node.CustomOptionsAsNumpy().tobytes()) == ([7], b"abc")


def test_constants_are_aligned_to_sixteen_bytes() -> None:
    blobs = [bytes([65 + i]) * (17 + i) for i in range(4)]
    tensors = [TensorSpec(f"t{i}", (len(b),), "i8", data=b) for i, b in enumerate(blobs)]
    data = write_model(ModelSpec([SubgraphSpec(tensors, [], [], [])]))
    assert [find_bytes(data, blob) % 16 for blob in blobs] == [0, 0, 0, 0]


def test_hostile_files() -> None:
    wrong = TensorSpec("x", (1 << 30, -5), 99, buffer=1234)
    model = ModelSpec(
        [SubgraphSpec([wrong], [OperatorSpec(9999, [77], [])], [0], [])], operator_code_offset=50, identifier=b"XXXX"
    )
    data = write_model(model)
    graph = tflite.Model.GetRootAsModel(data, 0).Subgraphs(0)
    assert data[4:8] == b"XXXX"
    assert graph.Tensors(0).ShapeAsNumpy().tolist() == [1 << 30, -5]
    assert (graph.Tensors(0).Type(), graph.Tensors(0).Buffer()) == (99, 1234)
    assert graph.Operators(0).OpcodeIndex() == 50
    assert corrupt(b"abcd", {0: 0, -1: 255}) == b"\x00bc\xff"
    with pytest.raises(ValueError, match="2 occurrences"):
        find_bytes(b"aa", b"a")
