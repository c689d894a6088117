"""What a graph remembers of its quantization: remarks, lines of text that stay with it in `.graph` files.

One remark tells how it was done; then there may be one for each result, and one that tells the accuracy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TypeVar

from luciole.errors import CompileError, printable

#: How remarks begin.
METHOD, LAYER, ACCURACY = "quantized to int8: ", "quantization layer ", "quantization accuracy "

Facts = TypeVar("Facts", "LayerError", "Accuracy")

_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


@dataclass(frozen=True)
class LayerError:
    """The error of one value against float, with all operators before it in int8 too.

    `node` is the name in the user's model of the operator that makes it, or empty.
    `signal_to_noise_db` is 10 log10(sum of squares of the reals / sum of squares of the errors); `largest_error` is in
    reals, `largest_real` the greatest magnitude of the float value. `effective_bits` are those of an ideal quantizer
    with the same ratio, (ratio - 1.76) / 6.02.
    """

    name: str
    node: str
    kind: str
    scale: float
    zero_point: int
    signal_to_noise_db: float
    largest_error: float
    largest_real: float

    @property
    def effective_bits(self) -> float:
        """Bits of an ideal quantizer with this ratio of signal to noise."""
        return (self.signal_to_noise_db - 1.76) / 6.02


@dataclass(frozen=True)
class Accuracy:
    """Right answers of the float model and of the integer model on the same labelled samples."""

    samples: int
    float_right: int
    integer_right: int


@dataclass(frozen=True)
class Quantization:
    """How a graph was quantized, in words; the error of each result and the accuracy, where they were measured."""

    method: str
    layers: tuple[LayerError, ...]
    accuracy: Accuracy | None


def is_quantization_remark(remark: str) -> bool:
    """Whether a graph's remark is one of those of this module."""
    return remark.startswith((METHOD, LAYER, ACCURACY))


def layer_remarks(layers: Iterable[LayerError]) -> list[str]:
    """A remark for each result."""
    return [LAYER + json.dumps(asdict(layer)) for layer in layers]


def accuracy_remark(accuracy: Accuracy) -> str:
    """The remark on the accuracy."""
    return ACCURACY + json.dumps(asdict(accuracy))


def quantization_of(remarks: Iterable[str]) -> Quantization | None:
    """What remarks tell; None for a graph that we did not quantize.

    Raises `CompileError` for a remark that begins as one of ours and goes on otherwise: it comes from a file.
    """
    method, layers, accuracy = "", [], None
    for remark in remarks:
        if remark.startswith(METHOD):
            method = remark.removeprefix(METHOD)
        elif remark.startswith(LAYER):
            layers.append(_facts(LayerError, remark, LAYER))
        elif remark.startswith(ACCURACY):
            accuracy = _facts(Accuracy, remark, ACCURACY)
    return Quantization(method, tuple(layers), accuracy) if method or layers or accuracy else None


def _facts(kind: type[Facts], remark: str, head: str) -> Facts:
    try:
        found = json.loads(remark.removeprefix(head))
        for field in fields(kind):
            value = found[field.name]
            if type(value) not in _TYPES[str(field.type)] or (not isinstance(value, str) and not math.isfinite(value)):
                raise ValueError
            if isinstance(value, int) and not -(1 << 31) <= value < 1 << 31:
                raise ValueError
        return kind(**{field.name: found[field.name] for field in fields(kind)})
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        problem = f'the remark "{printable(remark)[:80]}" does not say what its beginning promises'
        raise CompileError.of("graph-file", problem, help="quantize the model again") from None
