"""Running samples through a float graph and watching all its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from luciole.errors import CompileError, Location, printable
from luciole.graph.core import Graph, Value
from luciole.graph.interpret import run_graph
from luciole.ir.types import Array, DType
from luciole.quantize.observe import Statistics
from luciole.quantize.roles import Weighted

#: One array for each input, by its name.
Sample: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True)
class Calibration:
    """Statistics of the float inputs and results of a graph by the values' names, and how many samples they are of.

    `is_equalized` tells whether they are of the graph after `equalize`, which has other numbers.
    """

    samples: int
    statistics: Mapping[str, Statistics]
    is_equalized: bool = False

    def merged(self, later: Calibration) -> Calibration:
        """The calibration with these samples and then those of `later`, another part of the same graph's data."""
        both = {name: own.merged(later.statistics[name]) for name, own in self.statistics.items()}
        return Calibration(self.samples + later.samples, both, self.is_equalized)


def calibrate(
    graph: Graph,
    samples: Iterable[Sample],
    progress: Callable[[int], object] = lambda _: None,
    *,
    may_be_empty: bool = False,
    is_equalized: bool = False,
) -> Calibration:
    """The statistics of a float graph over samples, one after the other; `progress` is told 1 after each.

    Raises `CompileError` when there are no samples, unless there may be none, when one does not fit the inputs, or when
    a number is not finite, in the samples or in what the graph makes of them.
    """
    statistics = {value.name: Statistics() for value in watched_values(graph)}
    weighted = {value for value in watched_values(graph) if has_channels(graph, value)}
    count = 0
    for sample in samples:
        _check_sample(graph, sample, count)
        number = count

        def watch(value: Value, array: Array, number: int = number) -> None:
            if not _is_watched(value):
                return
            if not np.isfinite(array).all():
                location = value.producer.location if value.producer is not None else Location()
                raise CompileError.of(
                    "bad-data", f"sample {number} makes %{printable(value.name)} infinite or not a number", location
                )
            statistics[value.name].add(array, with_channels=value in weighted)

        for value in graph.inputs:
            watch(value, sample[value.name])
        with np.errstate(over="ignore", invalid="ignore"):
            run_graph(graph, sample, watch)
        count += 1
        progress(1)
    if count == 0 and not may_be_empty:
        raise CompileError.of(
            "no-calibration-data",
            "there are no samples to calibrate with",
            help="about a hundred samples of what the model will see, as an .npz with an array `x`",
        )
    return Calibration(count, statistics, is_equalized)


def watched_values(graph: Graph) -> tuple[Value, ...]:
    """The values that statistics are of: float inputs and results, in order."""
    return tuple(value for value in graph.values() if _is_watched(value))


def has_channels(graph: Graph, value: Value) -> bool:
    """Whether statistics of a value have the means of its channels: an operator with weights reads it."""
    return any(isinstance(op, Weighted) and op.x is value for op in value.users if op in graph)


def _is_watched(value: Value) -> bool:
    return value.type.dtype is DType.F32 and not value.is_constant


def _check_sample(graph: Graph, sample: Sample, number: int) -> None:
    """Raise `CompileError` when a sample does not fit the inputs."""
    for value in graph.inputs:
        name = printable(value.name)
        if value.name not in sample:
            raise CompileError.of("bad-data", f'sample {number} has nothing for the input "{name}"')
        array = sample[value.name]
        if tuple(array.shape) != value.type.shape or array.dtype != value.type.dtype.numpy:
            found = f"{array.dtype}{list(array.shape)}"
            raise CompileError.of("bad-data", f'sample {number} is {found}, the input "{name}" is {value.type}')
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CompileError.of("bad-data", f'sample {number} for the input "{name}" has infinite numbers or NaN')
