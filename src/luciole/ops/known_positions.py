"""Operators of formats that move elements by positions that are known at import: rules only."""

from __future__ import annotations

import math

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ops.gather import check_positions, taken
from luciole.ops.resample import Resample
from luciole.ops.reshape import reshaped
from luciole.ops.tflite_options import axis_of

#: Sizes of windows are free numbers of the file.
_MAXIMUM_WINDOW = 1 << 12


@onnx("ReverseSequence")
def _import_reverse_sequence(node: ForeignNode, g: GraphBuilder) -> Value:
    """The first elements along the time axis in reverse, as many as a constant says for each of the batch."""
    x, lengths = node.input(0), node.constant_integers(1)
    time, batch = (node.integer(f"{name}_axis", default) for name, default in (("time", 0), ("batch", 1)))
    if x.type.rank < 2 or {time, batch} != {0, 1}:
        raise node.error(f"ReverseSequence of {x.type} along axes {time} and {batch}")
    steps, count = x.type.shape[time], x.type.shape[batch]
    if len(lengths) != count or not all(0 <= length <= steps for length in lengths):
        raise node.error(f"ReverseSequence of {steps} steps of {count} sequences by lengths {list(lengths)}")
    check_positions(node, steps * count)
    rows = np.arange(steps)[:, None]
    sources = np.where(rows < np.array(lengths), np.array(lengths) - 1 - rows, rows)  # [steps, count]
    flat = sources * count + np.arange(count) if time == 0 else (np.arange(count) * steps + sources).T
    joined = reshaped(node, g, x, (steps * count, *x.type.shape[2:]))
    return reshaped(node, g, taken(node, g, joined, 0, flat.reshape(-1).tolist()), x.type.shape)


@onnx("Compress")
def _import_compress(node: ForeignNode, g: GraphBuilder) -> Value:
    """The elements along an axis, or of all, for which a constant holds."""
    x, condition = node.input(0), node.constant(1)
    if "axis" not in node.attributes:
        x, axis = reshaped(node, g, x, (x.type.elements,)), 0
    else:
        axis = axis_of(node, node.integer("axis"), x.type.rank)
    positions = np.flatnonzero(condition).tolist()
    if condition.ndim != 1 or condition.size > x.type.shape[axis]:
        raise node.error(f"Compress of {x.type} along axis {axis} by {condition.size} conditions")
    if not positions:
        raise node.unsupported("Compress takes nothing, so its result has no elements", code="unsupported-empty")
    return taken(node, g, x, axis, positions, node.name)


@onnx("Col2Im")
def _import_col2im(node: ForeignNode, g: GraphBuilder) -> Value:
    """Windows [N, C * taps, windows] added up where they overlap, to an image of constant size: the inverse of a
    convolution's gathering.
    """
    x, image, block = node.input(0), node.constant_integers(1), node.constant_integers(2)
    rank = len(image)

    def numbers(name: str, length: int, default: int) -> tuple[int, ...]:
        given = node.integers(name, (default,) * length)
        if len(given) != length or min(given) < default or max(given) > _MAXIMUM_WINDOW:
            raise node.error(f"{name} of Col2Im is {list(given)}; it needs {length} from {default} on")
        return given

    strides, dilations = numbers("strides", rank, 1), numbers("dilations", rank, 1)
    pads = numbers("pads", 2 * rank, 0)
    if not rank or len(block) != rank or min(*image, *block) < 1 or x.type.rank != 3:
        raise node.error(f"Col2Im of {x.type} to {list(image)} by {list(block)}")
    counts = []
    for axis in range(rank):
        padded = image[axis] + pads[axis] + pads[axis + rank]
        counts.append((padded - (block[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1)
    taps, windows = math.prod(block), math.prod(counts)
    batch, rows, columns = x.type.shape
    if min(counts) < 1 or columns != windows or rows % taps:
        raise node.error(f"Col2Im of {x.type}, with {windows} windows of {taps}")
    check_positions(node, math.prod(image))
    check_positions(node, taps * windows)
    positions, weights = _contributions(image, block, counts, strides, dilations, pads)
    flat = reshaped(node, g, x, (batch, rows // taps, taps * windows))
    places, factors = g.constant(positions, name=f"{node.name}/positions"), g.constant(weights)
    y = g.add(Resample(flat, places, factors, 2, location=node.location))
    return reshaped(node, g, y, (batch, rows // taps, *image))


def _contributions(
    image: tuple[int, ...],
    block: tuple[int, ...],
    counts: list[int],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """For each element of the image, its places among the taps of the windows, and 1 for each; 0 fills the rows."""
    found: list[list[int]] = [[] for _ in range(math.prod(image))]
    for tap, offset in enumerate(np.ndindex(*block)):
        for window, begin in enumerate(np.ndindex(*counts)):
            place = [
                begin[axis] * strides[axis] + offset[axis] * dilations[axis] - pads[axis] for axis in range(len(image))
            ]
            if all(0 <= p < size for p, size in zip(place, image, strict=True)):
                found[int(np.ravel_multi_index(place, image))].append(tap * math.prod(counts) + window)
    width = max(map(len, found))
    positions = np.array([row + row[:1] * (width - len(row)) or [0] * width for row in found], np.int32)
    weights = np.array([[1.0] * len(row) + [0.0] * (width - len(row)) for row in found], np.float32)
    return positions, weights
