"""`TfliteModel` -> `Graph`, through the import rules that stand with the operators.

Names, scales and zero points are those of the file. Everything that prevents the import is collected over the whole
file and raised together.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

import numpy as np

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Diagnostics, printable
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.foreign import ForeignNode, tflite
from luciole.importers.tflite import composite, functions, moving  # noqa: F401  # their rules register themselves
from luciole.importers.tflite.check import check_operators, check_tensors, operator_location, raise_problems
from luciole.importers.tflite.model import TfliteModel, TfliteOperator, TfliteTensor
from luciole.importers.tflite.reader import parse_model
from luciole.ir.types import DType, TensorType
from luciole.ops.catalog import load_operators

#: Integers of these types stand for scaled reals, so their quantization belongs to the type.
_QUANTIZED = (DType.I8, DType.U8, DType.I16)


def load_tflite(data: bytes, file: str) -> Graph:
    """The graph of the .tflite file with the bytes `data`; errors call the file `file`.

    Raises `CompileError` with everything that is broken (exit code 1) or unsupported (2) in the file.
    """
    return build_graph(parse_model(data, file))


def build_graph(model: TfliteModel) -> Graph:
    """The graph of a model. Raises `CompileError` with everything unsupported."""
    load_operators()  # and with them their import rules
    diagnostics = Diagnostics()
    check_tensors(model, diagnostics)
    refused = check_operators(model, tflite.__contains__, diagnostics)
    if len(diagnostics.items) > bool(refused):
        raise_problems(diagnostics)  # tensors without a type: rules have nothing to work on
    build = _Build(model, diagnostics)
    for operator in model.operators:
        build.add(operator, refused)
    raise_problems(diagnostics)
    return build.finish()


class _Build:
    """The graph under construction, and the value of each tensor so far."""

    def __init__(self, model: TfliteModel, diagnostics: Diagnostics) -> None:
        self.model = model
        self.diagnostics = diagnostics
        self.g = GraphBuilder(PurePath(model.file).stem)
        self.values: dict[int, Value] = {}
        for index in model.inputs:
            tensor = model.tensors[index]
            type = tensor_type(tensor)
            self.values[index] = self.g.input(tensor.name, type.dtype, type.shape, type.quant)

    def add(self, operator: TfliteOperator, refused: set[int]) -> None:
        """Add one operator by its rule. A refused one still gives values, so that problems of others are found."""
        model = self.model
        outputs = [model.tensors[i] for i in operator.outputs]
        types = tuple(tensor_type(tensor) for tensor in outputs)
        values: tuple[Value, ...] = tuple(Value(t.name, type) for t, type in zip(outputs, types, strict=True))
        if operator.position not in refused:
            node = ForeignNode(
                kind=operator.kind,
                location=operator_location(model, operator),
                inputs=tuple(None if i < 0 else self._operand(i) for i in operator.inputs),
                output_names=tuple(tensor.name for tensor in outputs),
                output_types=types,
                attributes=operator.options,
            )
            try:
                results = tflite.apply(node, self.g)
                _check_results(node, results)
                values = results
            except CompileError as error:
                self.diagnostics.extend(_with_exit_codes(error))
        self.values.update(zip(operator.outputs, values, strict=True))

    def _operand(self, index: int) -> Value:
        """The value of a tensor; a constant is made when it is first read."""
        if index not in self.values:
            tensor = self.model.tensors[index]
            data = tensor.data if tensor.data is not None else np.zeros(tensor.shape, tensor_type(tensor).dtype.numpy)
            if data.dtype == np.float16:  # every half float is a float, and only constants may be half floats
                data = data.astype(np.float32)
            self.values[index] = self.g.constant(data, tensor.quant, tensor.name)
        return self.values[index]

    def finish(self) -> Graph:
        """The graph with its outputs, without the constants that rules have read into attributes."""
        taken: set[str] = set()
        results = [self._operand(index) for index in self.model.outputs]
        for index, value in zip(self.model.outputs, results, strict=True):
            name = base = self.model.tensors[index].name
            number = 1
            while name in taken:  # the same tensor may be several outputs
                number += 1
                name = f"{base}#{number}"
            taken.add(name)
            self.g.output(name, value)
        graph = self.g.graph
        kept = set(results)
        for value in graph.constants:
            if not value.users and value not in kept:
                graph.erase_constant(value)
        return graph


def tensor_type(tensor: TfliteTensor) -> TensorType:
    """The type of a tensor in the graph. Half floats are floats there; `check_tensors` has refused other types."""
    return TensorType(tensor.dtype or DType.F32, tensor.shape, tensor.quant)


def _with_exit_codes(error: CompileError) -> CompileError:
    """An operator's own errors, which know nothing of files: what it does not support is no fault of the file's."""
    return CompileError(
        *(replace(d, exit_code=EXIT_UNSUPPORTED) if d.code.startswith("unsupported-") else d for d in error.diagnostics)
    )


def _check_results(node: ForeignNode, results: tuple[Value, ...]) -> None:
    """Raise `CompileError` when what a rule made differs from what the file says about the node's results."""
    if len(results) != len(node.output_types):
        raise node.error(f"{node.kind} has {len(results)} results, but the file gives it {len(node.output_types)}")
    for name, value, declared in zip(node.output_names, results, node.output_types, strict=True):
        found, shown = value.type, printable(name)
        if (found.dtype, found.shape) != (declared.dtype, declared.shape):
            raise node.error(
                f"the operands of {node.kind} give {printable(str(_plain(found)))}, but the file says that its result "
                f'"{shown}" is {_plain(declared)}',
                code="result-mismatch",
            )
        if declared.dtype in _QUANTIZED and found.quant != declared.quant:
            raise node.unsupported(
                f'the result "{shown}" is quantized as {declared.quant}, but {node.kind} gives it as {found.quant}',
                help="the operator copies numbers, so the quantization of its result must be that of its operand",
                code="unsupported-quantization",
            )


def _plain(type: TensorType) -> TensorType:
    """A type without its quantization, which is not what the message is about."""
    return TensorType(type.dtype, type.shape)
