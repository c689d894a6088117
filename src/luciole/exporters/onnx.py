"""int8 graphs -> ONNX with QuantizeLinear and DequantizeLinear around each operator, as onnxruntime runs them.

Each operator becomes the float operator between dequantized operands and a quantized result; operators that only move
numbers, or choose among them, work on the int8 tensors. Inputs and outputs are float32. ONNX has channels first: values
of four axes get a transpose where an operator needs the other layout than they have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from luciole.errors import EXIT_UNSUPPORTED, CompileError, ToolError, printable
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType
from luciole.ops.activation import LeakyRelu, Logistic, Relu, Relu6, Tanh
from luciole.ops.comparison import Equal, Less, LessEqual, Maximum, Minimum, Select
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, BinaryOperator, Mul, Sub
from luciole.ops.gather import Gather
from luciole.ops.int8 import Annotate, Lookup
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.pad import Pad
from luciole.ops.parametric_relu import ParametricRelu
from luciole.ops.pool import AveragePool2d, MaxPool2d, Pool
from luciole.ops.quantization import Requantize
from luciole.ops.reduce import Mean, ReduceMaximum, ReduceMinimum
from luciole.ops.resample import WEIGHT_BITS, Resample
from luciole.ops.reshape import Reshape
from luciole.ops.slice import Slice
from luciole.ops.softmax import Softmax
from luciole.ops.tile import Tile
from luciole.ops.transpose import Transpose

#: Versions of the format: those that onnxruntime 1.13 and later read.
OPSET, IR_VERSION = 17, 8

_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)

#: What an operator is called in ONNX where it needs no attributes.
_PLAIN: dict[type[Operator], str] = {
    Add: "Add",
    Sub: "Sub",
    Mul: "Mul",
    MatMul: "MatMul",
    ParametricRelu: "PRelu",
    Relu: "Relu",
    Equal: "Equal",
    Less: "Less",
    LessEqual: "LessOrEqual",
    Logistic: "Sigmoid",
    Maximum: "Max",
    Minimum: "Min",
    Tanh: "Tanh",
}

#: Limits of fused activations.
_LIMITS: dict[str, tuple[float, float | None]] = {
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def write_qdq(graph: Graph) -> bytes:
    """The ONNX file of an int8 graph.

    Raises `CompileError` that names the operators without a form in ONNX, `ToolError` without the package onnx.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ToolError(
            f"ONNX models need the package onnx ({error}); get it by: pip install 'luciole[onnx]'"
        ) from None
    return _Writer(graph).write()


class _Writer:
    """The model under construction: nodes, constants, and the names of tensors."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}
        self._names: set[str] = set()
        #: Names of int8 tensors, as the graph has them and with channels first.
        self._plain: dict[Value, str] = {}
        self._first: dict[Value, str] = {}

    def write(self) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        inputs, outputs = [], []
        for value in self._graph.inputs:
            name, dtype = self._name(value.name), value.type.dtype
            is_index = dtype in (DType.I32, DType.I64)
            given = helper.np_dtype_to_tensor_dtype(dtype.numpy) if is_index else TensorProto.FLOAT
            inputs.append(helper.make_tensor_value_info(name, given, value.type.shape))
            self._plain[value] = name if is_index else self._quantized(name, value)
        for op in self._graph.operators:
            self._operator(op)
        for name, value in self._graph.outputs:
            made = self._dequantized(self._as_is(value), value)
            unique = self._name(name)
            self._nodes.append(helper.make_node("Identity", [made], [unique], name=f"{unique}/output"))
            outputs.append(helper.make_tensor_value_info(unique, TensorProto.FLOAT, value.type.shape))
        constants = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        made_graph = helper.make_graph(self._nodes, self._graph.name, inputs, outputs, constants)
        model = helper.make_model(
            made_graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="luciole"
        )
        return bytes(model.SerializeToString(deterministic=True))

    # Names, nodes, constants

    def _name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._names:
            name, count = f"{wanted}.{count}", count + 1
        self._names.add(name)
        return name

    def _node(self, kind: str, inputs: list[str], wanted: str, **attributes: Any) -> str:
        from onnx import helper

        name = self._name(wanted)
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}/{kind}", **attributes))
        return name

    def _constant(self, array: Array, wanted: str) -> str:
        name = self._name(wanted)
        self._constants[name] = np.ascontiguousarray(array)
        return name

    # Between reals and integers

    def _scaling(self, quant: Quant, dtype: DType, name: str) -> tuple[str, str]:
        scales, zeros = np.array(quant.scales, np.float32), np.array(quant.zero_points, dtype.numpy)
        if not quant.is_per_channel:
            scales, zeros = scales.reshape(()), zeros.reshape(())
        return self._constant(scales, f"{name}/scale"), self._constant(zeros, f"{name}/zero_point")

    def _quantized(self, reals: str, value: Value) -> str:
        quant = _quant_of(value, "result")
        return self._node("QuantizeLinear", [reals, *self._scaling(quant, DType.I8, value.name)], f"{value.name}/int8")

    def _dequantized(self, integers: str, value: Value) -> str:
        quant = _quant_of(value, "operand")
        scaling = self._scaling(quant, value.type.dtype, value.name)
        return self._node("DequantizeLinear", [integers, *scaling], f"{value.name}/reals")

    def _weights(self, array: Array, quant: Quant, name: str) -> str:
        """Constant weights, dequantized; slices along the first axis may have scales of their own."""
        scaling = self._scaling(quant, DType.I8, name)
        axis = {"axis": quant.axis} if quant.is_per_channel else {}
        return self._node("DequantizeLinear", [self._constant(array, name), *scaling], f"{name}/reals", **axis)

    def _bias(self, op: Conv2d | DepthwiseConv2d | FullyConnected, w: Quant) -> list[str]:
        """The int32 bias, dequantized, in units of the product of both scales."""
        if op.b is None or op.b.data is None:
            return []
        units = np.float32(_quant_of(op.x, "operand").scale) * np.array(w.scales, np.float32)
        name = op.b.name
        scale = self._constant(units if len(units) > 1 else units.reshape(()), f"{name}/scale")
        axis = {"axis": 0} if len(units) > 1 else {}
        return [self._node("DequantizeLinear", [self._constant(op.b.data, name), scale], f"{name}/reals", **axis)]

    # Layouts

    def _as_is(self, value: Value) -> str:
        """The int8 tensor as the graph has it."""
        if value not in self._plain:
            if value.data is not None:
                self._plain[value] = self._constant(value.data, value.name)
            else:
                self._plain[value] = self._node("Transpose", [self._first[value]], value.name, perm=_TO_LAST)
        return self._plain[value]

    def _channels_first(self, value: Value) -> str:
        """The int8 tensor with channels first."""
        if value not in self._first:
            name = f"{value.name}/first"
            self._first[value] = self._node("Transpose", [self._as_is(value)], name, perm=_TO_FIRST)
        return self._first[value]

    # Operators

    def _operator(self, op: Operator) -> None:
        writer = _WRITERS.get(type(op))
        result = self._graph.results(op)[0]
        if writer is None or result.type.dtype not in (DType.I8, DType.BOOL):
            text = f"{op.kind} is not written to ONNX"
            help = "write a .graph file, which holds every model"
            raise CompileError.of("unsupported-operator", text, op.location, help=help, exit_code=EXIT_UNSUPPORTED)
        writer(self, op, result)

    def _limited(self, reals: str, activation: str, name: str) -> str:
        """A fused activation as an operator of its own."""
        if activation == "none":
            return reals
        low, high = _LIMITS[activation]
        if high is None:
            return self._node("Relu", [reals], f"{name}/relu")
        limits = [self._constant(np.array(limit, np.float32), f"{name}/limit") for limit in (low, high)]
        return self._node("Clip", [reals, *limits], f"{name}/clip")

    def _spatial(
        self, op: Conv2d | DepthwiseConv2d | Pool, result: Value, kind: str, *inputs: str, **given: Any
    ) -> None:
        """An operator with a window, over channels first."""
        x = self._dequantized(self._channels_first(op.x), op.x)
        window = op.window
        attributes = {"kernel_shape": window.kernel, "strides": window.strides, "pads": window.pads, **given}
        y = self._node(kind, [x, *inputs], f"{result.name}/{kind.lower()}", **attributes)
        self._first[result] = self._quantized(self._limited(y, op.activation, result.name), result)

    def _conv(self, op: Conv2d, result: Value) -> None:
        data, quant = _weights_of(op, 0)
        w = self._weights(data.transpose(0, 3, 1, 2), quant, op.w.name)
        self._spatial(op, result, "Conv", w, *self._bias(op, quant), dilations=op.dilations)

    def _depthwise(self, op: DepthwiseConv2d, result: Value) -> None:
        data, quant = _weights_of(op, 3)
        moved = Quant(quant.scales, quant.zero_points, 0)
        w = self._weights(data.transpose(3, 0, 1, 2), moved, op.w.name)
        groups = op.x.type.shape[3]
        self._spatial(op, result, "Conv", w, *self._bias(op, moved), dilations=op.dilations, group=groups)

    def _average_pool(self, op: AveragePool2d, result: Value) -> None:
        self._spatial(op, result, "AveragePool", count_include_pad=0)

    def _max_pool(self, op: MaxPool2d, result: Value) -> None:
        self._spatial(op, result, "MaxPool")

    def _fully_connected(self, op: FullyConnected, result: Value) -> None:
        data, quant = _weights_of(op, 0)
        x, shape = self._as_is(op.x), op.x.type.shape
        if len(shape) != 2:
            rows = self._constant(np.array([math.prod(shape[:-1]), shape[-1]], np.int64), f"{result.name}/rows")
            x = self._node("Reshape", [x, rows], f"{result.name}/matrix")
        inputs = [self._dequantized(x, op.x), self._weights(data, quant, op.w.name), *self._bias(op, quant)]
        y = self._limited(self._node("Gemm", inputs, f"{result.name}/gemm", transB=1), op.activation, result.name)
        made = self._quantized(y, result)
        if len(shape) != 2:
            target = self._constant(np.array(result.type.shape, np.int64), f"{result.name}/shape")
            made = self._node("Reshape", [made, target], result.name)
        self._plain[result] = made

    def _elementwise(self, op: Operator, result: Value) -> None:
        """With channels first where all operands are there already, and have one shape."""
        operands = op.operands
        is_first = all(v in self._first and v.type.shape == result.type.shape for v in operands)
        integers = [self._first[v] if is_first else self._as_is(v) for v in operands]
        reals = [self._dequantized(name, v) for name, v in zip(integers, operands, strict=True)]
        y = self._node(_PLAIN[type(op)], reals, f"{result.name}/reals")
        if isinstance(op, BinaryOperator):
            y = self._limited(y, op.activation, result.name)
        is_truth = result.type.dtype is DType.BOOL
        (self._first if is_first else self._plain)[result] = y if is_truth else self._quantized(y, result)

    def _function(self, op: Relu6 | LeakyRelu | Requantize, result: Value) -> None:
        layout = self._first if op.x in self._first else self._plain
        reals = self._dequantized(self._first[op.x] if op.x in self._first else self._as_is(op.x), op.x)
        if isinstance(op, Relu6):
            reals = self._limited(reals, "relu6", result.name)
        elif isinstance(op, LeakyRelu):
            reals = self._node("LeakyRelu", [reals], f"{result.name}/leaky", alpha=op.alpha)
        layout[result] = self._quantized(reals, result)

    def _mean(self, op: Mean, result: Value) -> None:
        x = self._dequantized(self._as_is(op.x), op.x)
        y = self._node("ReduceMean", [x], f"{result.name}/mean", axes=op.axes, keepdims=int(op.keep_dims))
        self._plain[result] = self._quantized(y, result)

    def _extremum(self, op: ReduceMaximum | ReduceMinimum, result: Value) -> None:
        """Exact: the greatest of the numbers stands for the greatest of the reals."""
        kind = "ReduceMax" if isinstance(op, ReduceMaximum) else "ReduceMin"
        x = self._dequantized(self._as_is(op.x), op.x)
        y = self._node(kind, [x], f"{result.name}/reals", axes=op.axes, keepdims=int(op.keep_dims))
        self._plain[result] = self._quantized(y, result)

    def _lookup(self, op: Lookup, result: Value) -> None:
        """The entry for each number of a table that begins at -128; dequantized and quantized, it has a scale."""
        from onnx import TensorProto

        x = self._node("Cast", [self._as_is(op.x)], f"{result.name}/number", to=TensorProto.INT32)
        first = self._constant(np.array(-DType.I8.limits[0], np.int32), f"{result.name}/first")
        index = self._node("Add", [x, first], f"{result.name}/index")
        table = self._constant(np.array(op.entries, np.int8), f"{result.name}/table")
        entry = self._node("Gather", [table, index], f"{result.name}/entry")
        self._plain[result] = self._quantized(self._dequantized(entry, result), result)

    def _annotate(self, op: Annotate, result: Value) -> None:
        self._plain[result] = self._as_is(op.x)

    def _gather(self, op: Gather, result: Value) -> None:
        self._plain[result] = self._node(
            "Gather", [self._as_is(op.x), self._as_is(op.indices)], result.name, axis=op.axis
        )

    def _tile(self, op: Tile, result: Value) -> None:
        repeats = self._constant(np.array(op.repeats, np.int64), f"{result.name}/repeats")
        self._plain[result] = self._node("Tile", [self._as_is(op.x), repeats], result.name)

    def _select(self, op: Select, result: Value) -> None:
        """Between reals: onnxruntime has no selection of int8."""
        a, b = (self._dequantized(self._as_is(v), v) for v in (op.a, op.b))
        y = self._node("Where", [self._as_is(op.condition), a, b], f"{result.name}/reals")
        self._plain[result] = self._quantized(y, result)

    def _resample(self, op: Resample, result: Value) -> None:
        """A product with a matrix [results, elements] of weights, for each slice along the axis."""
        if op.positions.data is None or op.weights.data is None:
            raise op.error("positions and weights must be constants", "unsupported-types")
        shape, count = op.x.type.shape, op.positions.type.shape[0]
        matrix = np.zeros((count, shape[op.axis]), np.float32)
        np.add.at(
            matrix, (np.arange(count)[:, None], op.positions.data), op.weights.data / np.float32(1 << WEIGHT_BITS)
        )
        outer, inner = math.prod(shape[: op.axis]), math.prod(shape[op.axis + 1 :])
        slices = self._constant(np.array([outer, shape[op.axis], inner], np.int64), f"{result.name}/slices")
        x = self._dequantized(self._node("Reshape", [self._as_is(op.x), slices], f"{result.name}/operand"), op.x)
        weights = self._constant(matrix, op.weights.name)
        y = self._quantized(self._node("MatMul", [weights, x], f"{result.name}/matmul"), result)
        target = self._constant(np.array(result.type.shape, np.int64), f"{result.name}/shape")
        self._plain[result] = self._node("Reshape", [y, target], result.name)

    def _softmax(self, op: Softmax, result: Value) -> None:
        x = self._dequantized(self._as_is(op.x), op.x)
        if op.beta != 1.0:
            x = self._node("Mul", [x, self._constant(np.array(op.beta, np.float32), "beta")], f"{result.name}/scaled")
        self._plain[result] = self._quantized(self._node("Softmax", [x], f"{result.name}/softmax", axis=-1), result)

    def _concat(self, op: Concat, result: Value) -> None:
        self._plain[result] = self._node("Concat", [self._as_is(x) for x in op.xs], result.name, axis=op.axis)

    def _reshape(self, op: Reshape, result: Value) -> None:
        shape = self._constant(np.array(op.shape, np.int64), f"{result.name}/shape")
        self._plain[result] = self._node("Reshape", [self._as_is(op.x), shape], result.name)

    def _transpose(self, op: Transpose, result: Value) -> None:
        self._plain[result] = self._node("Transpose", [self._as_is(op.x)], result.name, perm=op.permutation)

    def _slice(self, op: Slice, result: Value) -> None:
        ends = [b + (n - 1) * s + (1 if s > 0 else -1) for b, n, s in zip(op.begin, op.size, op.steps, strict=True)]
        ends = [end if end >= 0 else -(1 << 31) for end in ends]
        numbers = (op.begin, ends, range(op.x.type.rank), op.steps)
        operands = [self._constant(np.array(n, np.int64), f"{result.name}/slice") for n in numbers]
        self._plain[result] = self._node("Slice", [self._as_is(op.x), *operands], result.name)

    def _pad(self, op: Pad, result: Value) -> None:
        pads = self._constant(np.array((*op.before, *op.after), np.int64), f"{result.name}/pads")
        fill = self._constant(np.array(op.fill(), np.int8), f"{result.name}/fill")
        self._plain[result] = self._node("Pad", [self._as_is(op.x), pads, fill], result.name)


def _quant_of(value: Value, what: str) -> Quant:
    """The quantization of an int8 tensor. Raises `CompileError` when it has none, or is of another type."""
    quant = value.type.quant
    if value.type.dtype is not DType.I8 or quant is None or quant.is_per_channel:
        raise CompileError.of(
            "unsupported-types",
            f"the {what} %{printable(value.name)} is {value.type}; ONNX is written for int8 with one scale",
            help="quantize all operators, without --float-operators",
            exit_code=EXIT_UNSUPPORTED,
        )
    return quant


def _weights_of(op: Conv2d | DepthwiseConv2d | FullyConnected, axis: int) -> tuple[Array, Quant]:
    """Constant weights and their quantization, whose slices lie along `axis`."""
    if op.w.data is None or op.w.type.quant is None or (op.b is not None and op.b.data is None):
        raise op.error("weights and bias must be constants", "unsupported-types")
    return op.w.data, Quant(op.w.type.quant.scales, op.w.type.quant.zero_points, axis)


#: How each operator is written.
_WRITERS: dict[type[Operator], Callable[[_Writer, Any, Value], None]] = {
    **dict.fromkeys(_PLAIN, _Writer._elementwise),
    Annotate: _Writer._annotate,
    AveragePool2d: _Writer._average_pool,
    Concat: _Writer._concat,
    Conv2d: _Writer._conv,
    DepthwiseConv2d: _Writer._depthwise,
    FullyConnected: _Writer._fully_connected,
    Gather: _Writer._gather,
    LeakyRelu: _Writer._function,
    Lookup: _Writer._lookup,
    MaxPool2d: _Writer._max_pool,
    Mean: _Writer._mean,
    Pad: _Writer._pad,
    ReduceMaximum: _Writer._extremum,
    ReduceMinimum: _Writer._extremum,
    Relu6: _Writer._function,
    Requantize: _Writer._function,
    Resample: _Writer._resample,
    Reshape: _Writer._reshape,
    Select: _Writer._select,
    Slice: _Writer._slice,
    Softmax: _Writer._softmax,
    Tile: _Writer._tile,
    Transpose: _Writer._transpose,
}
