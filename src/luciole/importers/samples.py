"""Samples of a model's data: what they stand for, and how they become the model's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from luciole.errors import CompileError, printable
from luciole.graph.core import Value
from luciole.importers.arrays import load_arrays
from luciole.ir.arithmetic import quantize
from luciole.ir.types import Array, DType

#: A file or folder, or one array or arrays by input name for each sample.
SampleSource: TypeAlias = str | Path | Iterable[Array | Mapping[str, Array]]


@dataclass(frozen=True)
class Scaling:
    """How stored samples become reals: (x - zero) * scale.

    Where that changes nothing, an integer input takes integers as they are, unless they `are_reals` all the same: what
    a float model was to be given, that is an integer model now.
    """

    scale: float = 1.0
    zero: float = 0.0
    are_reals: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether stored samples are the numbers that the input takes."""
        return self.scale == 1.0 and self.zero == 0.0 and not self.are_reals


def feed(sample: Array, value: Value, scaling: Scaling) -> Array:
    """One stored sample as the model's input, of which it has the number of elements; its shape does not matter.

    - Without a scaling, samples of the input's own type are taken as they are; uint8 into an int8 input: minus 128.
    - Into a float input: (x - zero) * scale.
    - Else the reals (x - zero) * scale are quantized with the input's own scale and zero point; integers need a scaling
      for that, since nobody else knows what they stand for.

    Raises `CompileError` when the number of elements is another, or the types do not fit.
    """
    if sample.dtype.kind not in "iufb":
        raise CompileError.of("bad-data", f"samples of {sample.dtype} are no numbers")
    if sample.size != value.type.elements:
        found, expected = list(sample.shape), list(value.type.shape)
        raise CompileError.of(
            "bad-data",
            f'a sample has shape {found}, the input "{printable(value.name)}" is {expected}',
            help="the first axis of an array of samples numbers them; each has as many elements as the input",
        )
    dtype, shaped, quant = value.type.dtype, sample.reshape(value.type.shape), value.type.quant
    if scaling.is_identity and shaped.dtype.name == dtype.numpy.name:
        return shaped.astype(dtype.numpy)
    if scaling.is_identity and shaped.dtype == np.uint8 and dtype is DType.I8:
        return (shaped.astype(np.int16) - 128).astype(np.int8)
    reals = (shaped.astype(np.float64) - scaling.zero) * scaling.scale
    if dtype.is_real:
        return reals.astype(dtype.numpy)
    if quant is None or quant.is_per_channel or (shaped.dtype.kind != "f" and scaling.is_identity):
        raise CompileError.of(
            "bad-data",
            f"samples of {shaped.dtype} do not fit the input {value.type}",
            help="--data-scale and --data-zero say which reals they stand for: (x - zero) * scale",
        )
    return quantize(reals.astype(np.float32), quant.scale, quant.zero_point, dtype.limits).astype(dtype.numpy)


def load_labelled(path: Path, limit: int | None) -> tuple[Array, Array | None]:
    """Samples and labels. Raises `CompileError` when there are none, some are no numbers, or not one label a sample."""
    arrays = load_arrays(path)
    samples, labels = arrays.get("x"), arrays.get("y")
    if samples is None:
        names = ", ".join(map(str, arrays)) or "none"
        raise CompileError.of(
            "bad-data",
            f'"{path}" has no array `x`; its arrays are {names}',
            help="labelled data is an .npz with samples `x` and labels `y`",
        )
    if samples.ndim < 1 or len(samples) == 0:
        raise CompileError.of("bad-data", f'"{path}" holds no samples')
    if labels is not None and (labels.ndim != 1 or len(labels) != len(samples) or labels.dtype.kind not in "iub"):
        found = f"{labels.dtype}{list(labels.shape)}"
        raise CompileError.of("bad-data", f"labels `y` are one integer a sample, {len(samples)}; they are {found}")
    if samples.dtype.kind == "f":
        for number, sample in enumerate(samples[:limit]):
            if not np.isfinite(sample).all():
                raise CompileError.of("bad-data", f'sample {number} of "{path}" has infinite numbers or NaN')
    return samples[:limit], None if labels is None else labels[:limit]


def fed_samples(
    source: SampleSource, inputs: Sequence[Value], scaling: Scaling = Scaling()
) -> Iterator[dict[str, Array]]:
    """Samples by input name, each array as its input takes it (`feed`).

    - An `.npz` has arrays by input name, or `x` for a model of one input; their first axis numbers the samples. An
      `.npy` is such an `x`.
    - A folder has `.npy` files for a model of one input: in the order of their names, each one sample, or several along
      a first axis.
    - An iterable gives an array a sample, or arrays by input name.

    Raises `CompileError` for whatever does not fit the inputs.
    """
    if isinstance(source, str | Path):
        given = _from_path(Path(source), inputs)
    else:
        given = iter(source)
    for number, sample in enumerate(given):
        named = sample if isinstance(sample, Mapping) else {_only(inputs).name: np.asarray(sample)}
        _check_names(named, inputs, f"sample {number}")
        yield {value.name: feed(np.asarray(named[value.name]), value, scaling) for value in inputs}


def _from_path(path: Path, inputs: Sequence[Value]) -> Iterator[Array | Mapping[str, Array]]:
    if path.is_dir():
        only = _only(inputs)
        for file in sorted(path.glob("*.npy")):
            array = load_arrays(file)[0]
            yield from [array] if array.size == only.type.elements else _rows(array, str(file))
        return
    arrays = {str(key): array for key, array in load_arrays(path).items()}
    single = arrays.get("x", arrays.get("0"))
    if len(inputs) == 1 and inputs[0].name not in arrays and single is not None:
        arrays = {inputs[0].name: single}
    _check_names(arrays, inputs, f'"{printable(str(path))}"')
    rows = [_rows(arrays[value.name], str(path)) for value in inputs]
    if len({len(row) for row in rows}) > 1:
        counts = ", ".join(f"{printable(v.name)}: {len(row)}" for v, row in zip(inputs, rows, strict=True))
        raise CompileError.of("bad-data", f"the inputs have different numbers of samples ({counts})")
    for parts in zip(*rows, strict=True):
        yield {value.name: part for value, part in zip(inputs, parts, strict=True)}


def _rows(array: Array, where: str) -> Array:
    if array.ndim == 0:
        raise CompileError.of("bad-data", f'"{printable(where)}" has a single number, no samples')
    return array


def _only(inputs: Sequence[Value]) -> Value:
    if len(inputs) != 1:
        names = ", ".join(printable(value.name) for value in inputs)
        raise CompileError.of(
            "bad-data",
            f"the model has {len(inputs)} inputs, {names}; a sample is one array",
            help="give arrays by input name",
        )
    return inputs[0]


def _check_names(named: Mapping[str, Array], inputs: Sequence[Value], where: str) -> None:
    """Raise `CompileError` when an input has no array."""
    missing = [printable(value.name) for value in inputs if value.name not in named]
    if missing:
        found = ", ".join(printable(str(name)) for name in named) or "none"
        raise CompileError.of(
            "bad-data",
            f"{where} has no array for the input {', '.join(missing)}; its arrays are {found}",
            help="name the arrays as the inputs are, or `x` for the only one",
        )
