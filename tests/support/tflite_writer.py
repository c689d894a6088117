"""Writes small TFLite files from a plain description, for tests; also files that no converter would write.

    model = single_operator("ADD", inputs=[TensorSpec("a", (1, 4), "i8", (0.5,), (3,)), ...], outputs=[...])
    Path("add.tflite").write_bytes(write_model(model))

The writer checks nothing but what it needs: indices, shapes, types and buffers may be wrong on purpose. Operands are
names of tensors or raw integers (-1 is an absent optional operand). `corrupt` changes bytes of the finished file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

#: Element types by our short names; TFLite's own names ("FLOAT16", "STRING") are accepted too.
DTYPE_CODES = {
    "f32": "FLOAT32",
    "i8": "INT8",
    "u8": "UINT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "bool": "BOOL",
}

#: The options table of an operator, where it is not the operator's name in camel case with "Options" behind it.
OPTIONS_TABLES = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
}

ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3, "tanh": 4, "sign_bit": 5}
PADDINGS = {"SAME": 0, "VALID": 1}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a subgraph.

    `dtype` is a key of DTYPE_CODES, a name of TFLite's TensorType, or its number. `data` makes it a constant: an
    array, or raw bytes of any length. `buffer` overrides the index of the buffer in the file. Tensors with
    quantization have scales and zero points; missing zero points are zeros.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str | int = "i8"
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    data: Any = None
    buffer: int | None = None
    is_variable: bool = False
    shape_signature: tuple[int, ...] | None = None


@dataclass(frozen=True)
class OperatorSpec:
    """One operator: builtin code (a name or a number), operands, options (snake_case fields of its options table)."""

    code: str | int
    inputs: Sequence[str | int]
    outputs: Sequence[str | int]
    options: Mapping[str, Any] = field(default_factory=dict)
    options_table: str | None = None
    version: int = 1
    custom_code: str | None = None
    custom_options: bytes | None = None


@dataclass(frozen=True)
class SubgraphSpec:
    """Tensors and operators; inputs and outputs by name or index."""

    tensors: Sequence[TensorSpec]
    operators: Sequence[OperatorSpec]
    inputs: Sequence[str | int]
    outputs: Sequence[str | int]
    name: str = "main"


@dataclass(frozen=True)
class ModelSpec:
    """A file.

    `extra_buffers` come after those of the tensors; `operator_code_offset` is added to every operator's code index.
    """

    subgraphs: Sequence[SubgraphSpec]
    description: str = "luciole test"
    version: int = 3
    identifier: bytes = b"TFL3"
    extra_buffers: Sequence[bytes] = ()
    operator_code_offset: int = 0


def single_operator(
    code: str | int,
    inputs: Sequence[TensorSpec | None],
    outputs: Sequence[TensorSpec],
    options: Mapping[str, Any] | None = None,
    **operator: Any,
) -> ModelSpec:
    """A model of one operator: inputs without data are the model's inputs; `None` is an absent optional operand."""
    present = [t for t in inputs if t is not None]
    node = OperatorSpec(
        code, [-1 if t is None else t.name for t in inputs], [t.name for t in outputs], options or {}, **operator
    )
    graph = SubgraphSpec(
        [*present, *outputs], [node], [t.name for t in present if t.data is None], [t.name for t in outputs]
    )
    return ModelSpec([graph])


def write_model(model: ModelSpec) -> bytes:
    """The bytes of a TFLite file."""
    writer = _Writer()
    return writer.model(model)


def corrupt(data: bytes, changes: Mapping[int, int]) -> bytes:
    """`data` with the bytes at some offsets (negative ones count from the end) replaced."""
    result = bytearray(data)
    for offset, value in changes.items():
        result[offset] = value
    return bytes(result)


def find_bytes(data: bytes, pattern: bytes) -> int:
    """The offset of the only occurrence of `pattern`, for `corrupt`."""
    if data.count(pattern) != 1:
        raise ValueError(f"{data.count(pattern)} occurrences of {pattern!r}")
    return data.index(pattern)


class _Writer:
    """Builds the tables of one file, children before parents as flatbuffers wants it."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)
        self.buffers: list[bytes] = [b""]
        self.codes: list[tuple[int, str | None, int]] = []

    def model(self, model: ModelSpec) -> bytes:
        b = self.builder
        graphs = [self.subgraph(graph, model) for graph in model.subgraphs]
        self.buffers += model.extra_buffers
        buffers = self.offsets([self.buffer(data) for data in self.buffers])
        codes = self.offsets([self.operator_code(*code) for code in self.codes])
        graph_vector = self.offsets(graphs)
        description = b.CreateString(model.description)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, model.version)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graph_vector)
        tflite.ModelAddDescription(b, description)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), file_identifier=model.identifier)
        return bytes(b.Output())

    def subgraph(self, graph: SubgraphSpec, model: ModelSpec) -> int:
        b = self.builder
        index = {tensor.name: i for i, tensor in enumerate(graph.tensors)}
        tensors = self.offsets([self.tensor(tensor) for tensor in graph.tensors])
        operators = self.offsets([self.operator(node, index, model) for node in graph.operators])
        inputs, outputs = self.indices(graph.inputs, index), self.indices(graph.outputs, index)
        name = b.CreateString(graph.name)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, inputs)
        tflite.SubGraphAddOutputs(b, outputs)
        tflite.SubGraphAddOperators(b, operators)
        tflite.SubGraphAddName(b, name)
        return int(tflite.SubGraphEnd(b))

    def tensor(self, tensor: TensorSpec) -> int:
        b = self.builder
        quantization = self.quantization(tensor) if tensor.scales else 0
        shape = None if tensor.shape is None else self.int32(tensor.shape)
        signature = None if tensor.shape_signature is None else self.int32(tensor.shape_signature)
        name = b.CreateString(tensor.name)
        tflite.TensorStart(b)
        if shape is not None:
            tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, _dtype_code(tensor.dtype))
        tflite.TensorAddBuffer(b, self.buffer_index(tensor))
        tflite.TensorAddName(b, name)
        if quantization:
            tflite.TensorAddQuantization(b, quantization)
        tflite.TensorAddIsVariable(b, tensor.is_variable)
        if signature is not None:
            tflite.TensorAddShapeSignature(b, signature)
        return int(tflite.TensorEnd(b))

    def buffer_index(self, tensor: TensorSpec) -> int:
        if tensor.data is not None:
            raw = tensor.data if isinstance(tensor.data, bytes) else np.ascontiguousarray(tensor.data).tobytes()
            self.buffers.append(raw)
        if tensor.buffer is not None:
            return tensor.buffer
        return len(self.buffers) - 1 if tensor.data is not None else 0

    def quantization(self, tensor: TensorSpec) -> int:
        b = self.builder
        scales = b.CreateNumpyVector(np.asarray(tensor.scales, np.float32))
        zero_points = b.CreateNumpyVector(np.asarray(tensor.zero_points or (0,) * len(tensor.scales), np.int64))
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scales)
        tflite.QuantizationParametersAddZeroPoint(b, zero_points)
        tflite.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
        return int(tflite.QuantizationParametersEnd(b))

    def operator(self, node: OperatorSpec, index: Mapping[str, int], model: ModelSpec) -> int:
        b = self.builder
        number = node.code if isinstance(node.code, int) else getattr(tflite.BuiltinOperator, node.code)
        code = (number, node.custom_code, node.version)
        if code not in self.codes:
            self.codes.append(code)
        table = _options_table(node)
        options = self.options(table, node.options) if table else 0
        inputs, outputs = self.indices(node.inputs, index), self.indices(node.outputs, index)
        custom = None if node.custom_options is None else b.CreateByteVector(node.custom_options)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, self.codes.index(code) + model.operator_code_offset)
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if table:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, table))
            tflite.OperatorAddBuiltinOptions(b, options)
        if custom is not None:
            tflite.OperatorAddCustomOptions(b, custom)
        return int(tflite.OperatorEnd(b))

    def options(self, table: str, fields: Mapping[str, Any]) -> int:
        """An options table; a field that is a sequence becomes a vector of int32."""
        b = self.builder
        values = {k: self.int32(v) if isinstance(v, list | tuple) else v for k, v in fields.items()}
        getattr(tflite, f"{table}Start")(b)
        for name, value in values.items():
            camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
            getattr(tflite, f"{table}Add{camel}")(b, _field_code(name, value))
        return int(getattr(tflite, f"{table}End")(b))

    def operator_code(self, number: int, custom: str | None, version: int) -> int:
        b = self.builder
        name = None if custom is None else b.CreateString(custom)
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
        tflite.OperatorCodeAddBuiltinCode(b, number)
        tflite.OperatorCodeAddVersion(b, version)
        if name is not None:
            tflite.OperatorCodeAddCustomCode(b, name)
        return int(tflite.OperatorCodeEnd(b))

    def buffer(self, data: bytes) -> int:
        """A buffer whose data is aligned to 16 bytes in the file, as the schema asks; empty ones have no data field."""
        b = self.builder
        if not data:
            tflite.BufferStart(b)
            return int(tflite.BufferEnd(b))
        b.StartVector(1, len(data), 16)
        b.head = b.Head() - len(data)
        b.Bytes[b.Head() : b.Head() + len(data)] = data
        vector = b.EndVector()
        tflite.BufferStart(b)
        tflite.BufferAddData(b, vector)
        return int(tflite.BufferEnd(b))

    def offsets(self, items: Sequence[int]) -> int:
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.builder.PrependUOffsetTRelative(item)
        return int(self.builder.EndVector())

    def int32(self, numbers: Sequence[int]) -> int:
        if len(numbers) == 0:
            self.builder.StartVector(4, 0, 4)
            return int(self.builder.EndVector())
        return int(self.builder.CreateNumpyVector(np.asarray(numbers, np.int32)))

    def indices(self, operands: Sequence[str | int], index: Mapping[str, int]) -> int:
        return self.int32([index[operand] if isinstance(operand, str) else operand for operand in operands])


def _dtype_code(dtype: str | int) -> int:
    return dtype if isinstance(dtype, int) else int(getattr(tflite.TensorType, DTYPE_CODES.get(dtype, dtype)))


def _options_table(node: OperatorSpec) -> str | None:
    """The name of the operator's options table; operators such as LOGISTIC have none."""
    if node.options_table is not None or not isinstance(node.code, str):
        return node.options_table
    if node.code in OPTIONS_TABLES:
        return OPTIONS_TABLES[node.code]
    wanted = f"{node.code.replace('_', '')}options".lower()
    return next((name for name in vars(tflite.BuiltinOptions) if name.lower() == wanted), None)


def _field_code(name: str, value: Any) -> Any:
    """Numbers of the enumerations that tests write by name: paddings and fused activations."""
    if not isinstance(value, str):
        return value
    return PADDINGS[value] if name == "padding" else ACTIVATIONS[value]
