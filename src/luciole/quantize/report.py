"""How far an int8 graph is from the float graph it was made of, layer by layer and in answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from luciole.graph.core import Graph, Value
from luciole.graph.interpret import run_graph
from luciole.ir.arithmetic import dequantize, quantize
from luciole.ir.types import Array
from luciole.quantize.calibrate import Sample
from luciole.quantize.convert import Quantized, quantize_graph
from luciole.quantize.names import tensor_names
from luciole.quantize.options import QuantizeOptions
from luciole.quantize.remarks import LayerError, layer_remarks

#: So many samples are compared layer by layer; the figures are of many elements each.
COMPARED_SAMPLES = 16

#: A perfect result has no finite ratio; this stands for it, far above what float32 can reach.
EXACT_DECIBELS = 200.0


def quantize_sample(graph: Graph, sample: Sample) -> dict[str, Array]:
    """A sample of reals as the inputs of the int8 graph."""
    fed = {}
    for value in graph.inputs:
        quant = value.type.quant
        fed[value.name] = sample[value.name]
        if quant is not None:
            fed[value.name] = quantize(sample[value.name], quant.scale, quant.zero_point).astype(np.int8)
    return fed


def layer_errors(
    graph: Graph, quantized: Quantized, samples: Iterable[Sample], progress: Callable[[int], object] = lambda _: None
) -> tuple[LayerError, ...]:
    """The error of each result over some samples, in order; `progress` is told 1 after each sample."""
    tallies: dict[Value, ErrorTally] = {value: ErrorTally() for value in quantized.values if value.producer is not None}
    originals = {new: value for value, new in quantized.values.items()}
    for sample in samples:
        reals: dict[Value, Array] = {}

        def remember(value: Value, array: Array, reals: dict[Value, Array] = reals) -> None:
            reals[value] = array

        def compare(value: Value, array: Array, reals: dict[Value, Array] = reals) -> None:
            original, quant = originals.get(value), value.type.quant
            if original in tallies:
                found = array if quant is None else dequantize(array, quant.scale, quant.zero_point)
                tallies[original].add(reals[original], found)

        run_graph(graph, sample, remember)
        run_graph(quantized.graph, quantize_sample(quantized.graph, sample), compare)
        progress(1)
    names = tensor_names(graph)
    return tuple(_layer(names[value], quantized.values[value], tally) for value, tally in tallies.items())


def quantize_and_compare(
    graph: Graph,
    samples: Iterable[Sample],
    options: QuantizeOptions = QuantizeOptions(),
    progress: Callable[[int], object] = lambda _: None,
    profile: Path | None = None,
) -> tuple[Quantized, tuple[LayerError, ...]]:
    """`quantize_graph`, and the error of each result on the first samples; the graph remembers both in its remarks.

    `progress` is told 1 after each sample that was calibrated with, of which there may be none with a profile.
    """
    first: list[Sample] = []

    def passing() -> Iterator[Sample]:
        for sample in samples:
            if len(first) < COMPARED_SAMPLES:
                first.append(sample)
            yield sample

    quantized = quantize_graph(graph, passing(), options, progress, profile)
    layers = layer_errors(graph, quantized, first) if first else ()
    quantized.graph.remarks.extend(layer_remarks(layers))
    return quantized, layers


class ErrorTally:
    """How far arrays are from what they should be, in sums over all of them."""

    def __init__(self) -> None:
        self.largest_error = self.largest_real = 0.0
        self._signal = self._noise = self._found = self._product = 0.0
        self._count = 0

    def add(self, reals: Array, found: Array) -> None:
        """Count an array: what it should be, and what it is. Only where both are finite, so that sums stay so."""
        is_finite = np.isfinite(reals) & np.isfinite(found)
        wanted, given = reals[is_finite].astype(np.float64), found[is_finite].astype(np.float64)
        error = np.abs(given - wanted)
        self._signal += float((wanted**2).sum())
        self._noise += float((error**2).sum())
        self._found += float((given**2).sum())
        self._product += float((wanted * given).sum())
        self._count += reals.size
        self.largest_error = max(self.largest_error, float(error.max(initial=0.0)))
        self.largest_real = max(self.largest_real, float(np.abs(wanted).max(initial=0.0)))

    def decibels(self) -> float:
        """The ratio of signal to noise, within +-`EXACT_DECIBELS`."""
        if self._noise == 0:
            return EXACT_DECIBELS
        if self._signal == 0:
            return -EXACT_DECIBELS
        return max(-EXACT_DECIBELS, min(EXACT_DECIBELS, 10 * math.log10(self._signal / self._noise)))

    def cosine(self) -> float:
        """The cosine of the angle between all of one and all of the other; 1 where both are zero."""
        if self._signal == 0 or self._found == 0:
            return float(self._signal == self._found)
        return self._product / math.sqrt(self._signal) / math.sqrt(self._found)

    def root_mean_square(self) -> float:
        """The root of the mean of the squares of the errors."""
        return math.sqrt(self._noise / max(1, self._count))


def _layer(name: str, value: Value, tally: ErrorTally) -> LayerError:
    quant, producer = value.type.quant, value.producer
    scale, zero_point = (quant.scale, quant.zero_point) if quant is not None else (1.0, 0)
    node, kind = (producer.location.node, producer.kind) if producer is not None else ("", "")
    sums = (tally.decibels(), tally.largest_error, tally.largest_real)
    return LayerError(name, node, kind, scale, zero_point, *sums)
