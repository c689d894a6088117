"""Profile files: what calibration saw, to quantize again without the samples.

JSON, keyed by the names of the user's tensors. `bins` are the histogram's bins that are not empty, each with its number
and its count; `channel_sums` are hexadecimal. Saved and loaded, merged or split, a profile gives the same integers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from luciole.errors import CompileError, Location, printable
from luciole.graph.core import Graph, Value
from luciole.graph.text import read_text
from luciole.quantize.calibrate import Calibration, has_channels, watched_values
from luciole.quantize.names import tensor_names
from luciole.quantize.observe import BINS, Statistics

#: The value of the key "luciole_profile": how the file is to be read.
VERSION = 1

#: Exponents of histograms that float32 numbers can make.
_EXPONENTS = range(-126, 129)

_LARGEST_COUNT = 1 << 62


def profile_text(graph: Graph, calibration: Calibration) -> str:
    """The text of a profile of a graph: equal calibrations give equal texts."""
    names = tensor_names(graph)
    tensors = {names[value]: _tensor(calibration.statistics[value.name]) for value in watched_values(graph)}
    head = {"luciole_profile": VERSION, "samples": calibration.samples, "equalized": calibration.is_equalized}
    lines = [json.dumps(head)[1:-1] + ', "tensors": {']
    lines += [f"  {json.dumps(name)}: {json.dumps(facts)}," for name, facts in tensors.items()]
    lines[-1] = lines[-1].removesuffix(",")
    return "{" + "\n".join(lines) + "\n}}\n"


def load_profile(graph: Graph, path: Path) -> Calibration:
    """The calibration of a graph from a profile file.

    Raises `CompileError` when the file cannot be read, is no profile, or is one of another model.
    """
    try:
        return _calibration(graph, json.loads(read_text(path, "profile-file")))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        reason = f": {printable(str(error))[:200]}" if isinstance(error, ValueError) else ""
        help = "profiles are written by `luciole quantize --save-profile`"
        raise CompileError.of("profile-file", f"this is no profile{reason}", Location(str(path)), help=help) from None


def _tensor(statistics: Statistics) -> dict[str, object]:
    (filled,) = np.nonzero(statistics.counts)
    facts: dict[str, object] = {
        "lows": statistics.lows,
        "highs": statistics.highs,
        "exponent": statistics.exponent,
        "bins": [[int(i), int(statistics.counts[i])] for i in filled],
    }
    return facts | ({"channel_sums": [hex(n) for n in statistics.channel_sums]} if statistics.channel_sums else {})


def _calibration(graph: Graph, found: Mapping[str, object]) -> Calibration:
    """What a file holds; whatever is not as it should be raises an exception that tells."""
    if found["luciole_profile"] != VERSION:
        raise ValueError(f"it has the version {found['luciole_profile']}, this compiler reads {VERSION}")
    samples, tensors, is_equalized = found["samples"], found["tensors"], found["equalized"]
    if type(samples) is not int or not 0 < samples < _LARGEST_COUNT or not isinstance(tensors, dict):
        raise ValueError("samples are a positive number, and tensors an object")
    if not isinstance(is_equalized, bool):
        raise ValueError("equalized is true or false")
    names = tensor_names(graph)
    missing = [printable(names[value]) for value in watched_values(graph) if names[value] not in tensors]
    if missing:
        raise CompileError.of(
            "bad-data",
            f"the profile has nothing for the tensor {', '.join(missing[:5])}",
            help="it is of another model, or of other options of its import",
        )
    statistics = {}
    for value in watched_values(graph):
        try:
            statistics[value.name] = _statistics(tensors[names[value]], samples, value, graph)
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise ValueError(f"the tensor {printable(names[value])}: {error}") from None
    return Calibration(samples, statistics, is_equalized)


def _statistics(found: Mapping[str, object], samples: int, value: Value, graph: Graph) -> Statistics:
    result = Statistics()
    lows, highs = _numbers(found["lows"]), _numbers(found["highs"])
    if len(lows) != len(highs) or len(lows) not in (0, samples) or any(a > b for a, b in zip(lows, highs, strict=True)):
        raise ValueError("lows and highs are one pair for each sample")
    exponent = found["exponent"]
    if type(exponent) is not int or exponent not in _EXPONENTS:
        raise ValueError("the exponent is out of range")
    result.lows, result.highs, result.exponent = lows, highs, exponent
    bins = found["bins"]
    if not isinstance(bins, list):
        raise ValueError("bins are a list")
    for index, count in bins:
        if type(index) is not int or type(count) is not int or not 0 <= index < BINS or not 0 < count < _LARGEST_COUNT:
            raise ValueError("a bin is out of range")
        result.counts[index] = count
    if lows and not bins:
        raise ValueError("there are samples, but no bins")
    sums = found.get("channel_sums", [])
    if not isinstance(sums, list):
        raise ValueError("channel_sums are a list")
    result.channel_sums = [int(text, 16) for text in sums]
    if lows and has_channels(graph, value) and len(sums) != value.type.shape[-1]:
        raise ValueError(f"channel_sums are {value.type.shape[-1]}, one a channel")
    return result


def _numbers(found: object) -> list[float]:
    if not isinstance(found, list) or not all(type(n) in (int, float) and math.isfinite(n) for n in found):
        raise ValueError("lows and highs are lists of finite numbers")
    return [float(n) for n in found]
