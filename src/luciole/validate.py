"""A compiled model against its reference on labelled data: equal bits, accuracy, and the first operator that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from luciole.errors import CompileError
from luciole.graph.core import Graph, Operator, Value
from luciole.graph.interpret import run_graph
from luciole.ir.arithmetic import quantize
from luciole.ir.types import Array, DType
from luciole.session import Session

#: Float outputs may differ from the reference by this much, relative to the largest magnitude of the output.
FLOAT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Scaling:
    """How stored samples become reals: (x - zero) * scale."""

    scale: float = 1.0
    zero: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether stored samples are the reals."""
        return self.scale == 1.0 and self.zero == 0.0


@dataclass(frozen=True)
class Validation:
    """What came out. `mismatches` counts samples whose outputs differ from the reference by more than is promised."""

    samples: int
    mismatches: int
    first_mismatch: int | None
    largest_error: float
    root_mean_square_error: float
    correct: int | None
    reference_correct: int | None
    agreeing_predictions: int
    confusion: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, when there are labels."""
        return None if self.correct is None else self.correct / self.samples


def feed(sample: Array, value: Value, scaling: Scaling) -> Array:
    """One stored sample as the model's input.

    The element type as it is when it fits. uint8 into an int8 input: minus 128. Reals (floats, or integers with a
    scaling) into a quantized input: quantized with the input's own scale and zero point. Integers into a float input:
    (x - zero) * scale. Raises `CompileError` when the number of elements is another.
    """
    if sample.size != value.type.elements:
        expected = list(value.type.shape)
        raise CompileError.of("bad-data", f"a sample has shape {list(sample.shape)}, the input is {expected}")
    dtype, shaped = value.type.dtype, sample.reshape(value.type.shape)
    if dtype.is_float:
        real = shaped.astype(np.float64)
        return ((real - scaling.zero) * scaling.scale).astype(np.float32)
    if scaling.is_identity:
        if shaped.dtype == dtype.numpy:
            return shaped
        if shaped.dtype == np.uint8 and dtype is DType.I8:
            return (shaped.astype(np.int16) - 128).astype(np.int8)
    if (
        value.type.quant is None
        or value.type.quant.is_per_channel
        or (shaped.dtype.kind != "f" and scaling.is_identity)
    ):
        raise CompileError.of("bad-data", f"samples of {shaped.dtype} do not fit the input {value.type}")
    reals = ((shaped.astype(np.float64) - scaling.zero) * scaling.scale).astype(np.float32)
    quant = value.type.quant
    return quantize(reals, quant.scale, quant.zero_point, dtype.limits).astype(dtype.numpy)


def validate(
    session: Session, samples: Array, labels: Array | None, scaling: Scaling, progress: Callable[[int], None]
) -> Validation:
    """Run every sample on the session and on the reference graph and compare. The model has one input; the first output
    is judged.
    """
    graph = session.program.graph
    if len(graph.inputs) != 1:
        raise CompileError.of("bad-data", f"labelled data feeds one input, the model has {len(graph.inputs)}")
    name, value = graph.inputs[0].name, graph.inputs[0]
    output_name, output = graph.outputs[0]
    mismatches, first, largest, squares, agreeing = 0, None, 0.0, 0.0, 0
    correct, reference_correct = 0, 0
    classes = output.type.elements
    confusion = np.zeros((classes, classes), np.int64) if labels is not None and classes <= 1000 else None
    for index, sample in enumerate(samples):
        array = feed(sample, value, scaling)
        found = session.run({name: array})[output_name]
        expected = run_graph(graph, {name: array})[output_name]
        error = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        largest, squares = max(largest, float(error.max())), squares + float((error**2).mean())
        if not outputs_agree(found, expected):
            mismatches, first = mismatches + 1, index if first is None else first
        prediction, wanted = int(np.argmax(found)), int(np.argmax(expected))
        agreeing += prediction == wanted
        if labels is not None:
            label = int(labels[index])
            correct += prediction == label
            reference_correct += wanted == label
            if confusion is not None and 0 <= label < classes:
                confusion[label, prediction] += 1
        progress(index + 1)
    return Validation(
        samples=len(samples),
        mismatches=mismatches,
        first_mismatch=first,
        largest_error=largest,
        root_mean_square_error=float(np.sqrt(squares / max(1, len(samples)))),
        correct=correct if labels is not None else None,
        reference_correct=reference_correct if labels is not None else None,
        agreeing_predictions=agreeing,
        confusion=() if confusion is None else tuple(tuple(int(c) for c in row) for row in confusion),
    )


def outputs_agree(found: Array, expected: Array) -> bool:
    """Equal bits for integers; floats within the promised tolerance."""
    if found.dtype.kind != "f":
        return bool(np.array_equal(found, expected))
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return bool(np.all(np.abs(found - expected) <= FLOAT_TOLERANCE * scale))


def first_difference(
    graph: Graph, inputs: dict[str, Array], run_prefix: Callable[[Value], Array]
) -> tuple[Operator, Array, Array] | None:
    """The first operator, in order, whose own code gives another result than its meaning; with both results.

    `run_prefix` compiles the graph up to a value and runs it. Operators before are bisected: results that agree stay
    agreeing as long as every operator before is right.
    """
    expected: dict[Value, Array] = {}
    run_graph(graph, inputs, lambda value, array: expected.update({value: array}))
    values = [graph.results(op)[0] for op in graph.operators]
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if outputs_agree(run_prefix(values[middle]), expected[values[middle]]):
            low = middle + 1
        else:
            high = middle
    if low == len(values):
        return None
    value = values[low]
    assert value.producer is not None
    return value.producer, run_prefix(value), expected[value]


def prefix_graph(graph: Graph, value: Value) -> Iterator[Operator]:
    """The operators that a value depends on, in order."""
    needed: set[Value] = {value}
    for op in reversed(graph.operators):
        if any(result in needed for result in graph.results(op)):
            needed |= set(op.operands)
    return (op for op in graph.operators if any(result in needed for result in graph.results(op)))
