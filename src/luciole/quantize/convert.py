"""The int8 graph of a float graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Diagnostics, Location, printable
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.arithmetic import dequantize, quantize
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, TensorType
from luciole.ops.activation import Relu, Relu6
from luciole.ops.int8 import Annotate, Lookup
from luciole.ops.quantization import Dequantize, Quantize, Requantize
from luciole.ops.reduce import Mean, ReduceSum
from luciole.ops.resample import Resample, fixed_point_weights
from luciole.quantize.bias import mean_of_sums
from luciole.quantize.calibrate import Calibration, Sample, calibrate
from luciole.quantize.equalize import equalize
from luciole.quantize.functions import Function, find_functions, tabulated_operators
from luciole.quantize.groups import choose_quants
from luciole.quantize.names import find_operators
from luciole.quantize.observe import OBSERVERS, Range
from luciole.quantize.options import QuantizeOptions
from luciole.quantize.profile import load_profile
from luciole.quantize.remarks import METHOD
from luciole.quantize.rewrites import replace_divisions
from luciole.quantize.roles import (
    CHANNEL_AXES,
    COMPARING,
    FIXED,
    JOINING,
    KEEPING,
    REWRITTEN,
    Weighted,
    has_own_form,
)
from luciole.quantize.schemes import SCHEMES, Scheme

#: No bias is greater in magnitude: int32 has room left for the sum. Where it would be, the weights' scale grows.
GREATEST_BIAS = 1 << 29


@dataclass(frozen=True)
class Quantized:
    """An int8 graph, for each float value of the original, constants apart, the value that stands for it, and what
    the ranges are of.
    """

    graph: Graph
    values: Mapping[Value, Value]
    calibration: Calibration


def convert(graph: Graph, calibration: Calibration, options: QuantizeOptions = QuantizeOptions()) -> Quantized:
    """The int8 graph that computes what a float graph does, with the meaning of TensorFlow Lite's int8 operators.

    Inputs and outputs are int8 too, but for those of operators that stay in float. The graph is one before elementwise
    fusion, with activations fused already and divisions replaced, and `calibration` is of it. Raises `CompileError`
    that names all operators without a meaning in int8.
    """
    kept = find_operators(graph, options.float_operators)
    check_quantizable(graph, kept)
    functions = find_functions(graph, kept)
    tabulated = tabulated_operators(functions)
    operators = tuple(op for op in _float_operators(graph) if op not in kept and op not in tabulated)
    observe, scheme = OBSERVERS[options.observer], SCHEMES[options.scheme]
    ranges: dict[Value, Range] = {}
    for value in graph.values():
        if value.type.dtype is not DType.F32:
            continue
        if value.data is None:
            statistics = calibration.statistics[value.name]
            ranges[value] = observe(statistics) if statistics.lows else Range(0.0, 0.0)
        elif value.data.size:
            ranges[value] = Range(float(value.data.min()), float(value.data.max()))
        else:
            ranges[value] = Range(0.0, 0.0)
    quants = choose_quants(graph, operators, ranges, scheme)
    quantized = _Writer(graph, quants, kept, functions, calibration, options).write()
    quantized.graph.remarks.append(
        f"{METHOD}{options.describe()} over {calibration.samples} samples; {_float_words(graph, kept)}"
    )
    return quantized


def _float_words(graph: Graph, kept: frozenset[Operator]) -> str:
    """Which operators stay in float, in words."""
    named = [op for op in _float_operators(graph) if op in kept]
    if not named:
        return "no operator stays in float"
    words = ", ".join(f'{op.kind} "{op.location.node or graph.results(op)[0].name}"' for op in named)
    verb = "stays" if len(named) == 1 else "stay"
    return f"{len(named)} {verb} in float because --float-operators names them: {words}"


def quantize_graph(
    graph: Graph,
    samples: Iterable[Sample],
    options: QuantizeOptions = QuantizeOptions(),
    progress: Callable[[int], object] = lambda _: None,
    profile: Path | None = None,
) -> Quantized:
    """`convert` by the ranges seen in samples, after a look at what cannot be converted, which takes less time.

    Where there is a profile file, its samples come before these, of which there may be none then. With the option
    `equalize`, layers of `graph` are balanced first; what it computes stays the same. `progress` is told 1 after each
    sample. Raises what `calibrate`, `load_profile` and `convert` raise.
    """
    kept = find_operators(graph, options.float_operators)
    replace_divisions(graph, kept)
    check_quantizable(graph, kept)
    if options.equalize:
        equalize(graph)
    earlier = None if profile is None else load_profile(graph, profile)
    if earlier is not None and earlier.is_equalized is not options.equalize:
        with_or_without = "with" if earlier.is_equalized else "without"
        raise CompileError.of("bad-option", f"the profile was made {with_or_without} --equalize", help="do the same")
    given = calibrate(graph, samples, progress, may_be_empty=earlier is not None, is_equalized=options.equalize)
    return convert(graph, given if earlier is None else earlier.merged(given), options)


def _is_float(value: Value) -> bool:
    return value.type.dtype is DType.F32


def _float_operators(graph: Graph) -> tuple[Operator, ...]:
    """The operators that read or make floats, in order."""
    return tuple(op for op in graph.operators if any(map(_is_float, (*op.operands, *graph.results(op)))))


def check_quantizable(graph: Graph, kept: frozenset[Operator] = frozenset()) -> None:
    """Raise `CompileError` that lists whatever keeps a graph from being quantized; `kept` operators stay in float."""
    problems = Diagnostics()
    quantized = next((op for op in graph.operators if isinstance(op, Quantize) and op not in kept), None)
    if quantized is not None:
        raise CompileError.of(
            "nothing-to-quantize",
            f'"{printable(graph.name)}" is quantized already',
            quantized.location,
            help="it compiles as it is, without --quantize; quantize the float model that it was made of",
        )
    tabulated = tabulated_operators(find_functions(graph, kept))
    if not any(map(_is_float, (*graph.inputs, *(value for _, value in graph.outputs)))):
        problems.add(
            "nothing-to-quantize",
            f'"{printable(graph.name)}" has no float inputs or outputs',
            help="an int8 model compiles as it is, without --quantize",
        )
    for op in _float_operators(graph):
        if op in kept or op in tabulated or isinstance(op, REWRITTEN):
            continue
        if not has_own_form(op) or not (isinstance(op, COMPARING) or all(map(_is_float, graph.results(op)))):
            problems.add(
                "unsupported-quantization",
                f"{op.kind} has no int8 form",
                op.location,
                notes=(f"its result is {', '.join(repr(value) for value in graph.results(op))}",),
                help="nothing stays in float unasked: --float-operators "
                f"{op.location.node or graph.results(op)[0].name} keeps this one, or replace it in the model",
                exit_code=EXIT_UNSUPPORTED,
            )
        elif isinstance(op, Weighted) and (op.w.data is None or (op.b is not None and op.b.data is None)):
            problems.add(
                "unsupported-quantization",
                f"{op.kind} has weights or a bias that are not constant",
                op.location,
                exit_code=EXIT_UNSUPPORTED,
            )
    for value in graph.constants:
        if value.data is not None and _is_float(value) and not np.isfinite(value.data).all():
            name = printable(value.name)
            problems.add("bad-data", f"the constant %{name} has infinite numbers or NaN", help="train the model again")
    problems.raise_if_any()


class _Writer:
    """Writes the int8 graph, operator by operator."""

    def __init__(
        self,
        graph: Graph,
        quants: Mapping[Value, Quant],
        kept: frozenset[Operator],
        functions: Mapping[Operator, Function],
        calibration: Calibration,
        options: QuantizeOptions,
    ) -> None:
        self._source = graph
        self._quants = quants
        self._kept = kept
        self._functions = functions
        self._calibration = calibration
        self._options = options
        self._scheme = SCHEMES[options.scheme]
        self._graph = Graph(graph.name)
        self._graph.remarks.extend(graph.remarks)
        self._values: dict[Value, Value] = {}
        self._integers: dict[tuple[Value, Quant], Value] = {}
        self._reals: dict[Value, Value] = {}

    def write(self) -> Quantized:
        """The whole graph."""
        for value in self._source.inputs:
            is_kept = bool(value.users) and all(op in self._kept for op in value.users)
            type = value.type if is_kept or not _is_float(value) else self._int8_type(value)
            self._values[value] = self._graph.add_input(value.name, type)
        cut: set[Value] = set()
        tabulated = tabulated_operators(self._functions)
        for op in self._source.operators:
            if op in tabulated and op not in self._functions:
                continue
            if self._is_done_by_saturation(op):
                cut.add(op.operands[0])
                self._values[self._source.result(op)] = self._values[op.operands[0]]
                continue
            results = self._source.results(op)
            new_op = op.with_operands(self._real) if op in self._kept else self._converted(op)
            new = self._graph.add(new_op, [value.name for value in results])
            self._values.update(zip(results, new, strict=True))
        for name, value in self._source.outputs:
            made = self._operand(value) if value.is_constant else self._values[value]
            self._graph.add_output(name, made)
        made_of = {v: new for v, new in self._values.items() if _is_float(v) and not v.is_constant and v not in cut}
        return Quantized(self._graph, made_of, self._calibration)

    def _is_done_by_saturation(self, op: Operator) -> bool:
        """Whether a relu changes nothing: its operand has the same numbers, of which the least stands for zero."""
        if not isinstance(op, Relu) or op in self._kept or self._source.use_count(op.x) > 1 or op.x.is_constant:
            return False
        quant = self._quants.get(op.x)
        is_same = quant is not None and quant == self._quants[self._source.result(op)] and quant.zero_point == -128
        return is_same and self._values[op.x].producer is not None and not _is_float(self._values[op.x])

    def _int8_type(self, value: Value) -> TensorType:
        return TensorType(DType.I8, value.type.shape, self._quants[value])

    def _converted(self, op: Operator) -> Operator:
        """The int8 operator; one that has no floats stays as it is."""
        if isinstance(op, Weighted) and _is_float(op.x):
            return self._weighted(op)
        (result, *_) = self._source.results(op)
        if isinstance(op, COMPARING) and _is_float(op.operands[0]):
            (common, *_) = (self._quants[v] for v in op.operands if not v.is_constant)
            return op.with_operands(lambda value: self._operand_as(value, common, op))
        if not _is_float(result):
            return op.with_operands(self._operand)
        quant = self._quants[result]
        if op in self._functions:
            return self._table(op, self._functions[op], quant)
        if isinstance(op, Resample):
            weights = fixed_point_weights(_data(op.weights))
            made = self._graph.add_constant(weights, None, op.weights.name)
            return replace(op, x=self._operand(op.x), positions=self._operand(op.positions), weights=made)
        if isinstance(op, KEEPING):
            kept = op.with_operands(self._operand)
            return replace(kept, quant=quant) if isinstance(op, Relu6) else kept
        if isinstance(op, JOINING):
            return op.with_operands(lambda v: self._operand_as(v, quant, op) if _is_float(v) else self._operand(v))
        if isinstance(op, ReduceSum):
            return self._sum(op, quant)
        return replace(op.with_operands(self._operand), quant=FIXED.get(type(op), quant))

    def _sum(self, op: ReduceSum, quant: Quant) -> Operator:
        """A sum as the mean of numbers that stand for as many times more as there are addends."""
        x, count = self._operand(op.x), op.x.type.elements // self._source.result(op).type.elements
        given = self._operand_quant(op.x)
        many = Annotate(x, quant=Quant.per_tensor(given.scale * count, given.zero_point), location=op.location)
        (multiplied,) = self._graph.add(many, [f"{op.x.name}/times_{count}"])
        return Mean(multiplied, op.axes, op.keep_dims, quant=quant, location=op.location)

    def _table(self, op: Operator, function: Function, quant: Quant) -> Operator:
        """A function of each element as a table of its results for every int8 number."""
        source = self._operand_quant(function.x)
        numbers = dequantize(np.arange(-128, 128), source.scale, source.zero_point)
        results = function.compute(self._source, numbers)
        entries = quantize(results, quant.scale, quant.zero_point)
        return Lookup(self._operand(function.x), tuple(map(int, entries)), quant=quant, location=op.location)

    def _operand_quant(self, value: Value) -> Quant:
        """The quantization of what `_operand` gives."""
        quant = self._operand(value).type.quant
        assert quant is not None
        return quant

    def _operand(self, value: Value) -> Value:
        """The int8 value of a float value, as it was quantized; others as they are."""
        if _is_float(value):
            return self._constant(value, self._quants[value]) if value.is_constant else self._integer(value)
        if value not in self._values and value.data is not None:
            self._values[value] = self._graph.add_constant(value.data, value.type.quant, value.name)
        return self._values[value]

    def _operand_as(self, value: Value, quant: Quant, user: Operator) -> Value:
        """The int8 value of a float value with this very quantization."""
        if value.data is not None:
            return self._constant(value, quant)
        if _is_float(self._values[value]):
            return self._integer(value, quant)
        given = self._values[value]
        if given.type.quant == quant:
            return given
        (scaled,) = self._graph.add(Requantize(given, quant=quant, location=user.location), [f"{value.name}/scaled"])
        return scaled

    def _integer(self, value: Value, quant: Quant | None = None) -> Value:
        """The int8 value of a result or input; one that was kept in float is quantized, once for each quantization."""
        made = self._values[value]
        if not _is_float(made):
            return made
        key = (value, quant or self._quants[value])
        if key not in self._integers:
            location = made.producer.location if made.producer is not None else Location()
            op = Quantize(made, quant=key[1], location=location)
            (self._integers[key],) = self._graph.add(op, [f"{value.name}/int8"])
        return self._integers[key]

    def _real(self, value: Value) -> Value:
        """What an operator that stays in float reads for a value."""
        if not _is_float(value):
            return self._operand(value)
        made = self._reals.get(value)
        if made is None and value.data is not None:
            made = self._graph.add_constant(value.data, None, value.name)
        elif made is None:
            made = self._values[value]
            if not _is_float(made):
                location = made.producer.location if made.producer is not None else Location()
                (made,) = self._graph.add(Dequantize(made, location=location), [f"{value.name}/float"])
        self._reals[value] = made
        return made

    def _constant(self, value: Value, quant: Quant) -> Value:
        """A float constant in int8, once for each quantization."""
        key = (value, quant)
        if key not in self._integers and value.data is not None:
            numbers = np.asarray(quantize(value.data, quant.scale, quant.zero_point), np.int8)
            self._integers[key] = self._graph.add_constant(numbers, quant, value.name)
        return self._integers[key]

    def _weighted(self, op: Weighted) -> Operator:
        """An operator with int8 weights, and an int32 bias in units of the product of both scales."""
        x, axis = self._operand(op.x), CHANNEL_AXES[type(op)]
        weights, bias = _data(op.w), None if op.b is None else _data(op.b).astype(np.float64)
        input_scale = self._quants[op.x].scale
        channels = weights.shape[axis]
        scales = self._scheme.weights(weights, axis if self._options.per_channel and channels > 1 else None)
        if bias is not None:
            scales = _with_room(self._scheme, scales, bias, input_scale)
        numbers = _symmetric(weights, scales, axis)
        if self._options.correct_bias and op.x.data is None:
            means = self._calibration.statistics[op.x.name].channel_means()
            lost = weights - numbers * _along(scales, axis, weights.ndim)
            bias = mean_of_sums(op, lost, means) + (np.zeros(channels) if bias is None else bias)
            scales = np.maximum(scales, _with_room(self._scheme, scales, bias, input_scale))
            numbers = _symmetric(weights, scales, axis)
        quant = Quant(tuple(map(float, scales)), (0,) * len(scales), axis if len(scales) > 1 else 0)
        changes: dict[str, Any] = {"x": x, "quant": self._quants[self._source.result(op)]}
        changes["w"] = self._graph.add_constant(numbers, quant, op.w.name)
        if bias is not None:
            units = input_scale * scales
            bias_quant = Quant(tuple(float(np.float32(u)) for u in units), (0,) * len(units))
            name = op.b.name if op.b is not None else f"{op.w.name}/bias"
            changes["b"] = self._graph.add_constant(np.rint(bias / units).astype(np.int32), bias_quant, name)
        return replace(op, **changes)


def _data(value: Value) -> Array:
    if value.data is None:
        raise CompileError.of("unsupported-quantization", f"%{printable(value.name)} is not constant")
    return value.data


def _symmetric(weights: Array, scales: Array, axis: int) -> Array:
    """Weights as int8 numbers of -127..127 for one scale, or one for each slice along an axis."""
    numbers = np.rint(weights.astype(np.float64) / _along(scales, axis, weights.ndim))
    return np.clip(numbers, -127, 127).astype(np.int8)


def _along(scales: Array, axis: int, rank: int) -> Array:
    """One scale, or one for each slice along an axis, shaped to multiply a tensor of a rank."""
    return scales.reshape([-1 if i == axis and len(scales) > 1 else 1 for i in range(rank)])


def _with_room(scheme: Scheme, scales: Array, bias: Array, input_scale: float) -> Array:
    """The weights' scales, greater where a bias would not fit into `GREATEST_BIAS` times both scales."""
    if len(scales) == 1:
        bias = np.abs(bias).max(initial=0.0, keepdims=True)
    needed = np.abs(bias) / (input_scale * GREATEST_BIAS)
    return np.array([max(s, scheme.scale(float(n)) if n else 0.0) for s, n in zip(scales, needed, strict=True)])
