"""The exact text of the refusals of TFLite files that users meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tflite

from luciole.errors import CompileError
from luciole.importers import load_model
from support.tflite_writer import (
    ModelSpec,
    OperatorSpec,
    SubgraphSpec,
    TensorSpec,
    _Writer,
    single_operator,
    write_model,
)


def refusal(data: bytes, folder: Path, name: str = "model.tflite") -> tuple[str, int]:
    """Text and exit code of the error for a file; nothing is written."""
    path = folder / name
    path.write_bytes(data)
    with pytest.raises(CompileError) as error:
        load_model(path)
    assert [p.name for p in folder.iterdir()] == [name]
    return str(error.value), error.value.exit_code


def relu(*tensors: TensorSpec) -> ModelSpec:
    """A model of one RELU from the first tensor to the last."""
    return single_operator("RELU", tensors[:-1], tensors[-1:])


def test_text_file(tmp_path: Path) -> None:
    assert refusal(b"import tensorflow as tf\n" * 50, tmp_path) == (
        "error[not-a-model]: not a model: bytes 4 to 8 are not TFL3 as in TFLite files, "
        "and the name ends in neither .onnx nor .graph\n"
        "  --> model.tflite\n"
        "  help: give a .tflite or .onnx file, or Luciole's own .graph text",
        1,
    )


def test_keras_file(tmp_path: Path) -> None:
    assert refusal(b"\x89HDF\r\n\x1a\n", tmp_path, "model.keras") == (
        "error[unsupported-format]: models of type .keras cannot be imported\n"
        "  --> model.keras\n"
        "  help: convert the model to .tflite or .onnx",
        2,
    )


def test_truncated_file(tmp_path: Path) -> None:
    data = write_model(relu(TensorSpec("x", (1,), "f32"), TensorSpec("y", (1,), "f32")))
    assert refusal(data[:40], tmp_path) == (
        "error[malformed-file]: root lies at bytes 110..114, outside of the 40 bytes of the file\n"
        "  --> model.tflite\n"
        "  help: the file is truncated or damaged; copy or convert it again",
        1,
    )


def test_unknown_operators_are_listed_together(tmp_path: Path) -> None:
    tensors = [TensorSpec(name, (1, 4), "f32") for name in ("x", "a", "b/c", "d", "e", "f")]
    operators = [
        OperatorSpec("CUSTOM", ["x"], ["a"], custom_code="acme.Foo"),
        OperatorSpec("RFFT2D", ["a"], ["b/c"], options_table=None),
        OperatorSpec("CUSTOM", ["b/c"], ["d"], custom_code="acme.Foo"),
        OperatorSpec(300, ["d"], ["e"]),
        OperatorSpec("CUSTOM", ["e"], ["f"], custom_code="line\nbreak"),
    ]
    data = write_model(ModelSpec([SubgraphSpec(tensors, operators, ["x"], ["f"])]))
    assert refusal(data, tmp_path) == (
        'error[unsupported-operator]: 4 operators have no import rule: CUSTOM:acme.Foo (2 nodes, first "a"), '
        'RFFT2D (1 node, "b/c"), BUILTIN_300 (1 node, "e"), CUSTOM:line\\nbreak (1 node, "f")\n'
        "  --> model.tflite\n"
        "  help: `luciole ops` lists the supported operators",
        2,
    )


def test_lstm(shared_model: Callable[[str], Path]) -> None:
    with pytest.raises(CompileError) as error:
        load_model(shared_model("trained_lstm_int8"))
    assert str(error.value) == (
        "error[unsupported-variable]: 2 tensors keeping a value from run to run: "
        '"tfl.pseudo_qconst", "tfl.pseudo_qconst1"\n'
        "  --> trained_lstm_int8.tflite\n"
        "  help: layers with state (recurrent, streaming) are not supported; export the model without state\n"
        "error[unsupported-operator]: 1 operator has no import rule: UNIDIRECTIONAL_SEQUENCE_LSTM "
        '(1 node, "tfl.unidirectional_sequence_lstm")\n'
        "  --> trained_lstm_int8.tflite\n"
        "  help: `luciole ops` lists the supported operators"
    )
    assert error.value.exit_code == 2


def test_hybrid_model(tmp_path: Path) -> None:
    weights = np.ones((2, 3), np.int8)
    tensors = [
        TensorSpec("x", (1, 3), "f32"),
        TensorSpec("w", (2, 3), "i8", (0.1,), data=weights),
        TensorSpec("hidden", (1, 2), "f32"),
        TensorSpec("v", (3, 2), "i8", (0.1,), data=weights),
        TensorSpec("y", (1, 3), "f32"),
    ]
    operators = [
        OperatorSpec("FULLY_CONNECTED", ["x", "w", -1], ["hidden"]),
        OperatorSpec("FULLY_CONNECTED", ["hidden", "v", -1], ["y"]),
    ]
    data = write_model(ModelSpec([SubgraphSpec(tensors, operators, ["x"], ["y"])]))
    assert refusal(data, tmp_path) == (
        "error[unsupported-hybrid]: 2 operators on floats with integer weights (dynamic-range quantization): "
        '"hidden (FULLY_CONNECTED)", "y (FULLY_CONNECTED)"\n'
        "  --> model.tflite\n"
        "  help: quantize fully, with a representative data set and int8 inputs and outputs, or convert as float32",
        2,
    )


def test_two_subgraphs(tmp_path: Path) -> None:
    spec = relu(TensorSpec("x", (1,), "f32"), TensorSpec("y", (1,), "f32"))
    body = SubgraphSpec(spec.subgraphs[0].tensors, [], ["x"], ["x"], "while_body")
    assert refusal(write_model(ModelSpec([spec.subgraphs[0], body])), tmp_path) == (
        'error[unsupported-subgraphs]: the model has 2 subgraphs: "main", "while_body"; only one is supported\n'
        "  --> model.tflite\n"
        "  help: convert a single function without IF, WHILE and CALL_ONCE: unroll loops, freeze variables",
        2,
    )


def test_open_sizes(tmp_path: Path) -> None:
    x = TensorSpec("image", (1, 1, 1, 3), "f32", shape_signature=(-1, -1, -1, 3))
    assert refusal(write_model(relu(x, TensorSpec("y", (1, 1, 1, 3), "f32"))), tmp_path) == (
        'error[open-shape]: input "image" has the shape [1,?,?,3]: sizes 1, 2 are open\n'
        "  --> model.tflite\n"
        "  help: bind every ? to a number and convert the model again with that input shape",
        2,
    )


def test_open_size_in_the_shape_itself(tmp_path: Path) -> None:
    data = write_model(relu(TensorSpec("x", (-1, 3), "f32"), TensorSpec("y", (-1, 3), "f32")))
    assert refusal(data, tmp_path) == (
        'error[open-shape]: input "x" has the shape [?,3]: size 0 is open\n'
        "  --> model.tflite\n"
        "  help: bind every ? to a number and convert the model again with that input shape",
        2,
    )


def test_open_size_of_an_inner_tensor(tmp_path: Path) -> None:
    data = write_model(relu(TensorSpec("x", (1, 3), "f32"), TensorSpec("boxes", (-1, 3), "f32")))
    assert refusal(data, tmp_path) == (
        'error[open-shape]: 1 tensor of open shape: "boxes"\n'
        "  --> model.tflite\n"
        "  help: convert the model again with fixed input shapes; sizes that depend on data cannot be compiled",
        2,
    )


def test_wrong_buffer_index(tmp_path: Path) -> None:
    w = TensorSpec("w", (1,), "f32", buffer=1 << 31)
    data = write_model(single_operator("ADD", [TensorSpec("x", (1,), "f32"), w], [TensorSpec("y", (1,), "f32")]))
    assert refusal(data, tmp_path) == (
        'error[malformed-tensor]: tensor "w" refers to buffer 2147483648, but the file has 1 buffers\n'
        "  --> model.tflite",
        1,
    )


def test_huge_dimensions(tmp_path: Path) -> None:
    data = write_model(relu(TensorSpec("x", (2**31 - 1, 4), "f32"), TensorSpec("y", (2**31 - 1, 4), "f32")))
    lines, exit_code = refusal(data, tmp_path)
    assert lines.split("\n")[0] == (
        'error[too-large]: tensor "x" of shape [2147483647,4] has 8589934588 elements; the limit is 2147483648'
    )
    assert lines.count("error[") == 2
    assert exit_code == 2


def test_element_types_without_arithmetic(tmp_path: Path) -> None:
    tensors = [TensorSpec("x", (1,), "STRING"), TensorSpec("y", (1,), "FLOAT16")]
    assert refusal(write_model(relu(*tensors)), tmp_path) == (
        'error[unsupported-type]: 1 tensor of element type FLOAT16: "y"\n'
        "  --> model.tflite\n"
        "  help: supported are FLOAT32 and INT8, and integers for biases and indices; "
        "convert the model to one of these\n"
        'error[unsupported-type]: 1 tensor of element type STRING: "x"\n'
        "  --> model.tflite\n"
        "  help: supported are FLOAT32 and INT8, and integers for biases and indices; "
        "convert the model to one of these",
        2,
    )


class _WriterOfSparseTensors(_Writer):
    """Gives every tensor an empty table of sparsity."""

    def tensor(self, tensor: TensorSpec) -> int:
        tflite.SparsityParametersStart(self.builder)
        table = tflite.SparsityParametersEnd(self.builder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tflite, "TensorAddIsVariable", lambda b, _: tflite.TensorAddSparsity(b, table))
            return super().tensor(tensor)


def test_sparse_tensors(tmp_path: Path) -> None:
    spec = relu(TensorSpec("x", (1,), "f32"), TensorSpec("y", (1,), "f32"))
    assert refusal(_WriterOfSparseTensors().model(spec), tmp_path) == (
        'error[unsupported-sparsity]: 2 tensors stored sparsely: "x", "y"\n'
        "  --> model.tflite\n"
        "  help: convert again without sparse weights",
        2,
    )


def test_empty_tensors(tmp_path: Path) -> None:
    data = write_model(relu(TensorSpec("x", (1, 0), "f32"), TensorSpec("y", (1, 0), "f32")))
    assert refusal(data, tmp_path) == (
        'error[unsupported-empty]: 2 tensors without elements: "x", "y"\n'
        "  --> model.tflite\n"
        "  help: a size of 0 comes from an empty input shape; convert again with a real one",
        2,
    )
