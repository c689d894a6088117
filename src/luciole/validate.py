"""A compiled model against its reference on labelled data: equal results, and how many answers are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luciole.difference import arrays_agree
from luciole.errors import CompileError
from luciole.graph.core import Graph, Value
from luciole.graph.interpret import run_graph
from luciole.importers.samples import Scaling, feed
from luciole.ir.types import Array, TensorType
from luciole.quantize import ErrorTally
from luciole.session import Session

#: Samples that are run at a time: an emulator that has to be started anew is started once for all of them.
BATCH = 32

#: Confusion is counted for at most so many classes.
_MAXIMUM_CLASSES = 1000


@dataclass(frozen=True)
class Closeness:
    """How near the reals of the first output are to another model's, and how often both predict the same.

    `signal_to_noise_db` is 10 log10(sum of squares / sum of squares of the errors), over all samples. `correct` counts
    the right predictions of the other model and is `None` without labels.
    """

    largest_error: float
    root_mean_square_error: float
    signal_to_noise_db: float
    cosine: float
    agreeing_predictions: int
    correct: int | None


@dataclass(frozen=True)
class Validation:
    """What came out.

    `mismatches` counts samples with an output that differs from the reference by more than is promised. Errors are of
    the first output, in its own numbers (steps of the scale where it is quantized). `correct` and `reference_correct`
    count right predictions and are `None` without labels; `confusion` has a row for each label and a column for each
    prediction, and is empty where there are too many. `reference` and `original` tell in reals how near the model is
    to its reference, and to the float model that it was made of, where that is known.
    """

    samples: int
    mismatches: int
    first_mismatch: int | None
    largest_error: float
    root_mean_square_error: float
    correct: int | None
    reference_correct: int | None
    agreeing_predictions: int
    confusion: tuple[tuple[int, ...], ...]
    reference: Closeness
    original: Closeness | None

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, when there are labels."""
        return None if self.correct is None else self.correct / self.samples


def validate(
    session: Session,
    reference: Graph,
    samples: Array,
    labels: Array | None,
    scaling: Scaling,
    progress: Callable[[int], object],
    original: Session | None = None,
) -> Validation:
    """Run every sample on the session, on the reference, the graph as it was imported, and on the float original.

    The models have one input. All outputs are compared, the first one is the prediction. `progress` is told how many
    samples were done since the last time. Raises `CompileError` when the data does not fit the model.
    """
    value = _only_input(reference)
    name, output = reference.outputs[0]
    tally = _Tally(output.type, labels, original)
    for start in range(0, len(samples), BATCH):
        fed = [{value.name: feed(sample, value, scaling)} for sample in samples[start : start + BATCH]]
        floats = _outputs(original, samples[start : start + BATCH], scaling)
        for inputs, found, real in zip(fed, session.run_many(fed), floats, strict=True):
            expected = run_graph(reference, inputs)
            agrees = all(arrays_agree(found[other], expected[other]) for other, _ in reference.outputs)
            tally.add(found[name], expected[name], agrees, real)
        progress(len(fed))
    return tally.result()


def _only_input(graph: Graph) -> Value:
    if len(graph.inputs) != 1:
        raise CompileError.of("bad-data", f"labelled data feeds one input, the model has {len(graph.inputs)}")
    return graph.inputs[0]


def _outputs(original: Session | None, samples: Array, scaling: Scaling) -> list[Array | None]:
    """The first output of the float original for each sample."""
    if original is None:
        return [None] * len(samples)
    value = _only_input(original.program.graph)
    name, _ = original.program.graph.outputs[0]
    fed = [{value.name: feed(sample, value, scaling)} for sample in samples]
    return [found[name] for found in original.run_many(fed)]


def count_right(
    session: Session, samples: Sequence[Mapping[str, Array]], labels: Array, progress: Callable[[int], object]
) -> int:
    """How many samples, given as inputs by name, have their label as the first output's prediction.

    `progress` is told how many samples were done since the last time. Raises `CompileError` for a label that is no
    class of the output.
    """
    name, output = session.program.graph.outputs[0]
    _check_labels(labels, output.type)
    right = 0
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        for found, label in zip(session.run_many(batch), labels[start : start + BATCH], strict=True):
            right += predict(found[name], output.type) == int(label)
        progress(len(batch))
    return right


def _check_labels(labels: Array, output: TensorType) -> None:
    """Raise `CompileError` when a label is none of the classes that `predict` may name."""
    classes = max(2, output.elements)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        number = int(wrong[0])
        raise CompileError.of(
            "bad-data",
            f"sample {number} has the label {int(labels[number])}, the model has the classes 0 to {classes - 1}",
            help="labels number the elements of the first output, from 0",
        )


class _Tally:
    """Counts what `Validation` tells, sample by sample."""

    def __init__(self, output: TensorType, labels: Array | None, original: Session | None) -> None:
        self._output = output
        self._labels = labels
        if labels is not None:
            _check_labels(labels, output)
        classes = max(2, output.elements)
        is_counted = labels is not None and classes <= _MAXIMUM_CLASSES
        self._confusion = np.zeros((classes, classes), np.int64) if is_counted else None
        self._samples = self._mismatches = self._correct = 0
        self._first: int | None = None
        self._largest = self._squares = 0.0
        self._reference = _Peer(output)
        self._original: _Peer | None = None
        if original is not None:
            type = original.program.graph.outputs[0][1].type
            if type.elements != output.elements:
                raise CompileError.of(
                    "bad-option", f"the original's first output is {type}, the model's is {output}", help="name another"
                )
            self._original = _Peer(type)

    def add(self, found: Array, expected: Array, agrees: bool, real: Array | None) -> None:
        """Count one sample: its first output, whether all outputs agree, and the original's first output."""
        with np.errstate(invalid="ignore"):
            error = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        self._largest = max(self._largest, float(error.max(initial=0.0)))
        self._squares += float((error**2).mean()) if error.size else 0.0
        if not agrees:
            self._mismatches += 1
            self._first = self._samples if self._first is None else self._first
        prediction, label = predict(found, self._output), None
        if self._labels is not None:
            label = int(self._labels[self._samples])
            self._correct += prediction == label
            if self._confusion is not None:
                self._confusion[label, prediction] += 1
        reals = _reals(found, self._output)
        self._reference.add(reals, expected, prediction, label)
        if self._original is not None and real is not None:
            self._original.add(reals, real, prediction, label)
        self._samples += 1

    def result(self) -> Validation:
        """All counts."""
        has_labels = self._labels is not None
        reference = self._reference.result(has_labels)
        return Validation(
            samples=self._samples,
            mismatches=self._mismatches,
            first_mismatch=self._first,
            largest_error=self._largest,
            root_mean_square_error=float(np.sqrt(self._squares / max(1, self._samples))),
            correct=self._correct if has_labels else None,
            reference_correct=reference.correct,
            agreeing_predictions=reference.agreeing_predictions,
            confusion=() if self._confusion is None else tuple(tuple(map(int, row)) for row in self._confusion),
            reference=reference,
            original=None if self._original is None else self._original.result(has_labels),
        )


class _Peer:
    """Counts what `Closeness` tells of one other model."""

    def __init__(self, output: TensorType) -> None:
        self._output = output
        self._errors = ErrorTally()
        self._agreeing = self._correct = 0

    def add(self, reals: Array, expected: Array, prediction: int, label: int | None) -> None:
        """Count one sample: our reals and prediction, this model's output, and the label."""
        with np.errstate(invalid="ignore", over="ignore"):
            self._errors.add(_reals(expected, self._output).reshape(-1), reals.reshape(-1))
        wanted = predict(expected, self._output)
        self._agreeing += prediction == wanted
        self._correct += wanted == label

    def result(self, has_labels: bool) -> Closeness:
        """All counts."""
        errors = self._errors
        return Closeness(
            errors.largest_error,
            errors.root_mean_square(),
            errors.decibels(),
            errors.cosine(),
            self._agreeing,
            self._correct if has_labels else None,
        )


def _reals(output: Array, type: TensorType) -> Array:
    """The reals that an output's numbers stand for."""
    quant = type.quant
    if quant is None or quant.is_per_channel:
        return output.astype(np.float64)
    return (output.astype(np.float64) - quant.zero_point) * quant.scale


def predict(output: Array, type: TensorType) -> int:
    """The class that an output names: that of its largest element, the first of equals.

    A single element is the probability of class 1, which is named above one half.
    """
    if output.size != 1:
        return int(np.argmax(output)) if output.size else 0
    number = float(output.reshape(-1)[0])
    if type.quant is not None and not type.quant.is_per_channel:
        number = (number - type.quant.zero_point) * type.quant.scale
    return int(number > 0.5)
