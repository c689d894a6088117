"""A compiled model against its reference on labelled data: equal results, and how many answers are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luciole.difference import arrays_agree
from luciole.errors import CompileError
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.importers.samples import Scaling, feed
from luciole.ir.types import Array, TensorType
from luciole.session import Session

#: Samples that are run at a time: an emulator that has to be started anew is started once for all of them.
BATCH = 32

#: Confusion is counted for at most so many classes.
_MAXIMUM_CLASSES = 1000


@dataclass(frozen=True)
class Validation:
    """What came out.

    `mismatches` counts samples with an output that differs from the reference by more than is promised. Errors are of
    the first output, in its own numbers (steps of the scale where it is quantized). `correct` and `reference_correct`
    count right predictions and are `None` without labels; `confusion` has a row for each label and a column for each
    prediction, and is empty where there are too many.
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
) -> Validation:
    """Run every sample on the session and on the reference, the graph as it was imported, and compare.

    The model has one input. All outputs are compared, the first one is the prediction. `progress` is told how many
    samples were done since the last time. Raises `CompileError` when the data does not fit the model.
    """
    if len(reference.inputs) != 1:
        raise CompileError.of("bad-data", f"labelled data feeds one input, the model has {len(reference.inputs)}")
    value = reference.inputs[0]
    name, output = reference.outputs[0]
    tally = _Tally(output.type, labels)
    for start in range(0, len(samples), BATCH):
        fed = [{value.name: feed(sample, value, scaling)} for sample in samples[start : start + BATCH]]
        for inputs, found in zip(fed, session.run_many(fed), strict=True):
            expected = run_graph(reference, inputs)
            agrees = all(arrays_agree(found[other], expected[other]) for other, _ in reference.outputs)
            tally.add(found[name], expected[name], agrees)
        progress(len(fed))
    return tally.result()


def count_right(
    session: Session, samples: Sequence[Mapping[str, Array]], labels: Array, progress: Callable[[int], object]
) -> int:
    """How many samples, given as inputs by name, have their label as the first output's prediction.

    `progress` is told how many samples were done since the last time.
    """
    name, output = session.program.graph.outputs[0]
    right = 0
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        for found, label in zip(session.run_many(batch), labels[start : start + BATCH], strict=True):
            right += predict(found[name], output.type) == int(label)
        progress(len(batch))
    return right


class _Tally:
    """Counts what `Validation` tells, sample by sample."""

    def __init__(self, output: TensorType, labels: Array | None) -> None:
        self._output = output
        self._labels = labels
        classes = max(2, output.elements)
        is_counted = labels is not None and classes <= _MAXIMUM_CLASSES
        self._confusion = np.zeros((classes, classes), np.int64) if is_counted else None
        self._samples = self._mismatches = self._correct = self._reference_correct = self._agreeing = 0
        self._first: int | None = None
        self._largest = self._squares = 0.0

    def add(self, found: Array, expected: Array, agrees: bool) -> None:
        """Count one sample: its first output, and whether all outputs agree."""
        with np.errstate(invalid="ignore"):
            error = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        self._largest = max(self._largest, float(error.max(initial=0.0)))
        self._squares += float((error**2).mean()) if error.size else 0.0
        if not agrees:
            self._mismatches += 1
            self._first = self._samples if self._first is None else self._first
        prediction, wanted = predict(found, self._output), predict(expected, self._output)
        self._agreeing += prediction == wanted
        if self._labels is not None:
            label = int(self._labels[self._samples])
            self._correct += prediction == label
            self._reference_correct += wanted == label
            if self._confusion is not None and 0 <= label < len(self._confusion):
                self._confusion[label, prediction] += 1
        self._samples += 1

    def result(self) -> Validation:
        """All counts."""
        has_labels = self._labels is not None
        return Validation(
            samples=self._samples,
            mismatches=self._mismatches,
            first_mismatch=self._first,
            largest_error=self._largest,
            root_mean_square_error=float(np.sqrt(self._squares / max(1, self._samples))),
            correct=self._correct if has_labels else None,
            reference_correct=self._reference_correct if has_labels else None,
            agreeing_predictions=self._agreeing,
            confusion=() if self._confusion is None else tuple(tuple(map(int, row)) for row in self._confusion),
        )


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
