"""Bytes -> `TfliteModel`, held against the accessors of the `tflite` package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.importers.tflite.model import TfliteModel
from luciole.importers.tflite.reader import parse_model
from luciole.ir.quant import Quant
from support.tflite_writer import (
    ModelSpec,
    OperatorSpec,
    SubgraphSpec,
    TensorSpec,
    _Writer,
    single_operator,
    write_model,
)

tflite = pytest.importorskip("tflite", reason="the tflite package is not installed")

NAMES = [
    "ad_ae_f32",
    "ad_ae_int8",
    "hello_world_int8",
    "ic_resnet8_f32",
    "ic_resnet8_int8",
    "kws_dscnn_f32",
    "kws_dscnn_int8",
    "micro_speech_quantized",
    "mobilenet_v2_224_int8",
    "sww_int8",
    "trained_lstm_int8",
    "vww_mbv1_f32",
    "vww_mbv1_int8",
]


def parse(spec: ModelSpec) -> TfliteModel:
    """The model of a description."""
    return parse_model(write_model(spec), "test.tflite")


@pytest.mark.parametrize("name", NAMES)
def test_every_shared_model_reads_as_the_package_reads_it(name: str, shared_model: Callable[[str], Path]) -> None:
    data = shared_model(name).read_bytes()
    ours = parse_model(data, f"{name}.tflite")
    theirs = tflite.Model.GetRootAs(data, 0)
    graph = theirs.Subgraphs(0)
    kinds = {number: kind for kind, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    types = {number: type for type, number in vars(tflite.TensorType).items() if isinstance(number, int)}
    assert ours.inputs == tuple(graph.InputsAsNumpy())
    assert ours.outputs == tuple(graph.OutputsAsNumpy())
    assert (len(ours.tensors), len(ours.operators)) == (graph.TensorsLength(), graph.OperatorsLength())
    for mine, position in zip(ours.operators, range(graph.OperatorsLength()), strict=True):
        node = graph.Operators(position)
        assert mine.code == kinds[theirs.OperatorCodes(node.OpcodeIndex()).BuiltinCode()]
        assert mine.inputs == tuple(node.InputsAsNumpy())
        assert mine.outputs == tuple(node.OutputsAsNumpy())
    for mine in ours.tensors:
        tensor = graph.Tensors(mine.index)
        assert mine.original_name == tensor.Name().decode()
        assert mine.type_name == types[tensor.Type()]
        assert mine.shape == (tuple(tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ())
        quantization = tensor.Quantization()
        if mine.quant is not None:
            assert np.array_equal(np.float32(mine.quant.scales), quantization.ScaleAsNumpy())
            assert np.array_equal(mine.quant.zero_points, quantization.ZeroPointAsNumpy())
        else:
            assert mine.type_name == "FLOAT32" or quantization is None or not quantization.ScaleLength()
        buffer = theirs.Buffers(tensor.Buffer())
        assert mine.is_constant == bool(buffer.DataLength())
        if mine.data is not None:
            assert mine.data.tobytes() == buffer.DataAsNumpy().tobytes()
            assert mine.data.shape == mine.shape
            assert not mine.data.flags.writeable


def test_options_have_the_schema_s_words() -> None:
    options = {"stride_w": 2, "stride_h": 3, "padding": "VALID", "filter_width": 2, "filter_height": 4}
    spec = single_operator("MAX_POOL_2D", [TensorSpec("x", (1, 8, 8, 1))], [TensorSpec("y", (1, 2, 4, 1))], options)
    (operator,) = parse(spec).operators
    assert operator.options == options | {"fused_activation_function": "NONE"}


def test_options_left_out_take_the_schema_s_defaults() -> None:
    spec = single_operator("CONV_2D", [TensorSpec("x", (1, 8, 8, 1))], [TensorSpec("y", (1, 8, 8, 1))])
    (operator,) = parse(spec).operators
    assert (operator.options["dilation_w_factor"], operator.options["stride_w"]) == (1, 0)


def test_names_become_unique_and_the_original_is_kept() -> None:
    tensors = [TensorSpec(name, (1,), "f32") for name in ("x", "x", "x_1", "", "x", "")]
    chain = [OperatorSpec("RELU", [i], [i + 1]) for i in range(5)]
    model = parse(ModelSpec([SubgraphSpec(tensors, chain, [0], [5])]))
    assert [t.original_name for t in model.tensors] == ["x", "x", "x_1", "", "x", ""]
    names = [t.name for t in model.tensors]
    assert names == ["x", "x_2", "x_1", "tensor_3", "x_3", "tensor_5"]


def test_quantization_is_kept() -> None:
    weights = TensorSpec("w", (2, 3), "i8", (0.5, 0.25), (0, 0), 0, np.ones((2, 3), np.int8))
    inputs = [TensorSpec("x", (1, 3), "i8", (0.1,), (-7,)), weights]
    model = parse(single_operator("FULLY_CONNECTED", inputs, [TensorSpec("y", (1, 2), "i8", (0.3,))]))
    assert model.tensors[0].quant == Quant.per_tensor(0.1, -7)
    assert model.tensors[1].quant == Quant((0.5, 0.25), (0, 0), 0)
    assert model.tensors[2].quant == Quant.per_tensor(0.3, 0)


def test_the_scale_of_a_float_tensor_means_nothing() -> None:
    spec = single_operator("RELU", [TensorSpec("x", (1,), "f32", (0.1,))], [TensorSpec("y", (1,), "f32")])
    assert parse(spec).tensors[0].quant is None


def test_constants_that_share_a_buffer_share_memory() -> None:
    data = np.arange(6, dtype=np.float32)
    tensors = [
        TensorSpec("x", (6,), "f32"),
        TensorSpec("a", (6,), "f32", data=data),
        TensorSpec("b", (2, 3), "f32", buffer=1),
        TensorSpec("y", (6,), "f32"),
    ]
    model = parse(ModelSpec([SubgraphSpec(tensors, [OperatorSpec("ADD", ["x", "a"], ["y"])], ["x"], ["y"])]))
    a, b = model.tensors[1].data, model.tensors[2].data
    assert a is not None
    assert b is not None
    assert np.shares_memory(a, b)
    assert b.tolist() == [[0, 1, 2], [3, 4, 5]]


class _WriterOfLargeFiles(_Writer):
    """Writes buffers as files above 2 GiB have them: a place behind the tables. All are at MARK, to be replaced."""

    MARK = 0x1122334455667788

    def buffer(self, data: bytes) -> int:
        tflite.BufferStart(self.builder)
        if data:
            tflite.BufferAddOffset(self.builder, self.MARK)
            tflite.BufferAddSize(self.builder, len(data))
        return int(tflite.BufferEnd(self.builder))


def large_file(place: int | None) -> bytes:
    """A model with a constant behind the tables; `place` is the offset that the file claims."""
    values = np.array([1, 2, 3], np.float32)
    w = TensorSpec("w", (3,), "f32", data=values)
    spec = single_operator("ADD", [TensorSpec("x", (3,), "f32"), w], [TensorSpec("y", (3,), "f32")])
    tables = _WriterOfLargeFiles().model(spec)
    mark = _WriterOfLargeFiles.MARK.to_bytes(8, "little")
    assert tables.count(mark) == 1
    return tables.replace(mark, (len(tables) if place is None else place).to_bytes(8, "little")) + values.tobytes()


def test_constants_behind_the_tables() -> None:
    model = parse_model(large_file(None), "large.tflite")
    assert model.tensors[1].data is not None
    assert model.tensors[1].data.tolist() == [1, 2, 3]


@pytest.mark.parametrize("place", [1 << 20, (1 << 64) - 4, 1 << 63])
def test_constants_behind_the_end_are_refused(place: int) -> None:
    with pytest.raises(CompileError, match=r"buffers\[1\]\.offset points to bytes .* behind the end"):
        parse_model(large_file(place), "large.tflite")


def broken(tensor: TensorSpec) -> ModelSpec:
    """A model of one ADD whose second operand is `tensor`."""
    return single_operator("ADD", [TensorSpec("x", (2, 3), "f32"), tensor], [TensorSpec("y", (2, 3), "f32")])


ONES = np.ones((2, 3), np.float32)
INT8 = np.ones((2, 3), np.int8)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            TensorSpec("w", (2, 3), "f32", data=ONES, buffer=9),
            'tensor "w" refers to buffer 9, but the file has 2 buffers',
        ),
        (
            TensorSpec("w", (2, 2), "f32", data=ONES),
            'tensor "w" of type FLOAT32 and shape [2,2] needs 16 bytes of data, buffer 1 has 24',
        ),
        (TensorSpec("w", (2, -3), "f32", data=ONES), 'tensor "w" has the shape [2,-3] with a negative size'),
        (
            TensorSpec("w", (2**31 - 1, 2**31 - 1), "f32", data=ONES),
            'tensor "w" of shape [2147483647,2147483647] has 4611686014132420609 elements; the limit is 2147483648',
        ),
        (TensorSpec("w", (1,) * 9, "f32", data=ONES), 'tensor "w" has 9 dimensions; the limit is 8'),
        (TensorSpec("w", (2, 3), 77, data=ONES), 'tensor "w" has element type 77, which TFLite does not define'),
        (
            TensorSpec("w", (2, 3), "i8", (0.0,), data=INT8),
            'tensor "w" has the scale 0.0; scales must be positive and finite',
        ),
        (
            TensorSpec("w", (2, 3), "i8", (float("nan"),), data=INT8),
            "has the scale nan; scales must be positive and finite",
        ),
        (
            TensorSpec("w", (2, 3), "i8", (1.0, -2.0), data=INT8),
            "has the scale -2.0; scales must be positive and finite",
        ),
        (TensorSpec("w", (2, 3), "i8", (1.0,), (128,), data=INT8), "has the zero point 128, outside of INT8"),
        (TensorSpec("w", (2, 3), "i8", (1.0, 1.0), (0,), data=INT8), "has 2 scales but 1 zero points"),
        (
            TensorSpec("w", (2, 3), "i8", (1.0, 1.0), axis=1, data=INT8),
            "has 2 scales along dimension 1, which has size 3",
        ),
        (
            TensorSpec("w", (2, 3), "i8", (1.0, 1.0), axis=2, data=INT8),
            "is quantized along dimension 2, but has 2 dimensions",
        ),
        (TensorSpec("w", (2, 3), "i8", (1.0, 1.0), axis=-1, data=INT8), "is quantized along dimension -1"),
        (TensorSpec("w", (6,), "bool", data=b"\0\1\2\0\0\0"), 'tensor "w" of type BOOL has values other than 0 and 1'),
    ],
)
def test_wrong_tensors_are_named(tensor: TensorSpec, message: str) -> None:
    with pytest.raises(CompileError) as error:
        parse(broken(tensor))
    assert message in str(error.value)


def graph(operators: list[OperatorSpec], inputs: list[str | int], outputs: list[str | int]) -> ModelSpec:
    """A model over tensors a, b, c, d of one float each and the constant k."""
    tensors = [TensorSpec(name, (1,), "f32") for name in "abcd"] + [
        TensorSpec("k", (1,), "f32", data=np.ones(1, np.float32))
    ]
    return ModelSpec([SubgraphSpec(tensors, operators, inputs, outputs)])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            graph([OperatorSpec("ADD", ["a", "c"], ["b"]), OperatorSpec("RELU", ["b"], ["c"])], ["a"], ["c"]),
            'operator 0 (ADD) reads tensor "c", which operator 1 (RELU) writes later',
        ),
        (
            graph([OperatorSpec("ADD", ["a", "b"], ["b"])], ["a"], ["b"]),
            'operator 0 (ADD) reads tensor "b", which operator 0 (ADD) writes later',
        ),
        (
            graph([OperatorSpec("RELU", ["a"], ["b"]), OperatorSpec("TANH", ["a"], ["b"])], ["a"], ["b"]),
            'tensor "b" is written by operator 0 (RELU) and by operator 1 (TANH)',
        ),
        (
            graph([OperatorSpec("RELU", ["a"], ["k"])], ["a"], ["k"]),
            'tensor "k" is a constant, but operator 0 (RELU) writes it',
        ),
        (
            graph([OperatorSpec("RELU", ["a"], ["a"])], ["a"], ["a"]),
            "is an input of the model, but operator 0 (RELU) writes it",
        ),
        (
            graph([OperatorSpec("ADD", ["a", "d"], ["b"])], ["a"], ["b"]),
            'tensor "d", which has no data and is written by no operator',
        ),
        (graph([OperatorSpec("RELU", ["a"], ["b"])], ["a"], ["c"]), 'output tensor "c" is written by no operator'),
        (
            graph([OperatorSpec("RELU", ["a"], ["b"])], ["a", "k"], ["b"]),
            'tensor "k" is an input of the model and a constant',
        ),
        (graph([OperatorSpec("RELU", ["a"], ["b"])], ["a", "a"], ["b"]), "the model names the same input twice"),
        (graph([OperatorSpec("RELU", ["a"], ["b"])], ["a"], []), "the model has no outputs"),
        (graph([OperatorSpec("RELU", ["a"], [])], ["a"], ["a"]), "operator 0 (RELU) has no results"),
        (
            graph([OperatorSpec("RELU", [99], ["b"])], ["a"], ["b"]),
            "operators[0].inputs refers to tensor 99, but the file has 5",
        ),
        (
            graph([OperatorSpec("RELU", ["a"], [-1])], ["a"], ["b"]),
            "operators[0].outputs refers to tensor -1, but the file has 5",
        ),
        (graph([OperatorSpec("RELU", [-2], ["b"])], ["a"], ["b"]), "operators[0].inputs refers to tensor -2"),
    ],
)
def test_what_is_no_dataflow_is_refused(spec: ModelSpec, message: str) -> None:
    with pytest.raises(CompileError) as error:
        parse(spec)
    assert message in str(error.value)
    assert error.value.exit_code == 1


def test_a_wrong_operator_code_is_refused() -> None:
    spec = graph([OperatorSpec("RELU", ["a"], ["b"])], ["a"], ["b"])
    with pytest.raises(CompileError, match="operator 0 refers to operator code 5, but the file has 1"):
        parse(ModelSpec(spec.subgraphs, operator_code_offset=5))


def test_a_model_without_subgraph_is_refused() -> None:
    with pytest.raises(CompileError, match="the model has no subgraph"):
        parse(ModelSpec([]))


def test_all_problems_come_together_but_not_without_end() -> None:
    tensors = [TensorSpec(f"t{i}", (-5,), "f32") for i in range(30)]
    with pytest.raises(CompileError) as error:
        parse(ModelSpec([SubgraphSpec(tensors, [OperatorSpec("RELU", [0], [1])], [0], [1])]))
    assert len(error.value.diagnostics) == 21
    assert error.value.diagnostics[-1].message == "10 further problems of this file"
