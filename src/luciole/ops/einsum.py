"""Sums of products by named axes: rules only, made of transposes, sums, and products of matrices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.ir.types import DType, Shape
from luciole.ops.gather import taken
from luciole.ops.matmul import FullyConnected, MatMul
from luciole.ops.onnx_options import permuted
from luciole.ops.reshape import reshaped
from luciole.ops.tile import broadcast_to


@dataclass(frozen=True, eq=False)
class _Term:
    """A tensor whose axes have names, each another."""

    value: Value
    labels: tuple[str, ...]

    def size(self, label: str) -> int:
        """The size of an axis."""
        return self.value.type.shape[self.labels.index(label)]

    def sizes(self, labels: Sequence[str]) -> Shape:
        """The sizes of some axes."""
        return tuple(self.size(label) for label in labels)


@onnx("Einsum")
def _import_einsum(node: ForeignNode, g: GraphBuilder) -> Value:
    """Operands are multiplied in order; axes that neither the result nor a later operand names are summed at once."""
    operands = [node.input(index) for index in range(len(node.inputs))]
    if any(value.type.dtype is not DType.F32 for value in operands):
        raise node.unsupported("Einsum of anything but float32 is not supported", code="unsupported-type")
    inputs, output = _parse(node, operands)
    terms = [_diagonal(node, g, value, labels) for value, labels in zip(operands, inputs, strict=True)]
    terms = _broadcast(node, g, terms)
    total = terms[0]
    for index, term in enumerate(terms[1:], 1):
        needed = {*output, *(label for later in terms[index + 1 :] for label in later.labels)}
        total = _product(node, g, _summed(node, g, total, needed | {*term.labels}), term, needed)
    total = _summed(node, g, total, set(output))
    if set(total.labels) != set(output):
        raise node.error(f"Einsum {node.text('equation')} names axes of the result that no operand has")
    return _ordered(node, g, total, output)


def _parse(node: ForeignNode, operands: list[Value]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The names of the axes of each operand and of the result; axes behind an ellipsis are called 0, 1, ... from the
    last.
    """
    equation = node.text("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    parts = left.split(",")
    if len(parts) != len(operands):
        raise node.error(f"Einsum {equation} of {len(operands)} operands")
    inputs = [_labels(node, part, value.type.rank) for part, value in zip(parts, operands, strict=True)]
    hidden = max((sum(label.isdigit() for label in labels) for labels in inputs), default=0)
    rest = tuple(str(place) for place in reversed(range(hidden)))
    if not arrow:
        counts = Counter(label for labels in inputs for label in labels)
        return inputs, (*rest, *sorted(label for label, n in counts.items() if n == 1 and not label.isdigit()))
    named = _labels(node, right, len(right.replace("...", "")) + (hidden if "..." in right else 0))
    if len(set(named)) != len(named):
        raise node.error(f"Einsum {equation} names an axis of the result twice")
    return inputs, named


def _labels(node: ForeignNode, part: str, rank: int) -> tuple[str, ...]:
    before, ellipsis, behind = part.partition("...")
    if any(not (letter.isascii() and letter.isalpha()) for letter in before + behind):
        raise node.error(f"Einsum {node.text('equation')} has names other than letters")
    hidden = rank - len(before) - len(behind)
    if hidden < 0 or (hidden and not ellipsis):
        raise node.error(f"Einsum {node.text('equation')} of an operand with {rank} axes")
    return (*before, *(str(place) for place in reversed(range(hidden))), *behind)


def _diagonal(node: ForeignNode, g: GraphBuilder, value: Value, labels: tuple[str, ...]) -> _Term:
    """Without the elements whose indices differ along axes of the same name."""
    while len(set(labels)) < len(labels):
        twice = next(label for label, count in Counter(labels).items() if count > 1)
        first, second = [axis for axis, label in enumerate(labels) if label == twice][:2]
        size = value.type.shape[first]
        if value.type.shape[second] != size:
            raise node.error(f"Einsum {node.text('equation')}: axes {twice} have {size} and another number of elements")
        others = [axis for axis in range(len(labels)) if axis not in (first, second)]
        moved = permuted(node, g, value, (*others, first, second))
        flat = reshaped(node, g, moved, (*moved.type.shape[:-2], size * size))
        value = taken(node, g, flat, len(others), range(0, size * size, size + 1))
        labels = (*(labels[axis] for axis in others), twice)
    return _Term(value, labels)


def _broadcast(node: ForeignNode, g: GraphBuilder, terms: list[_Term]) -> list[_Term]:
    """With axes of one size for each name; those of one element are repeated."""
    sizes: dict[str, int] = {}
    for term in terms:
        for label in term.labels:
            sizes[label] = max(sizes.get(label, 1), term.size(label))
    wide = []
    for term in terms:
        wanted = tuple(sizes[label] for label in term.labels)
        if any(size not in (1, full) for size, full in zip(term.value.type.shape, wanted, strict=True)):
            raise node.error(f"Einsum {node.text('equation')}: {term.value.type} does not fit the other operands")
        wide.append(_Term(broadcast_to(node, g, term.value, wanted), term.labels))
    return wide


def _summed(node: ForeignNode, g: GraphBuilder, term: _Term, needed: set[str]) -> _Term:
    """Without the axes that nobody needs: a product with a row of ones."""
    kept = tuple(label for label in term.labels if label in needed)
    gone = tuple(label for label in term.labels if label not in needed)
    if not gone:
        return term
    count = math.prod(term.sizes(gone))
    rows = reshaped(node, g, _ordered(node, g, term, (*kept, *gone)), (math.prod(term.sizes(kept)), count))
    ones = g.constant(np.ones((1, count), np.float32), name=f"{node.name}/ones")
    total = g.add(FullyConnected(rows, ones, location=node.location))
    return _Term(reshaped(node, g, total, term.sizes(kept)), kept)


def _ordered(node: ForeignNode, g: GraphBuilder, term: _Term, labels: Sequence[str]) -> Value:
    """The tensor with its axes in another order."""
    permutation = tuple(term.labels.index(label) for label in labels)
    return term.value if permutation == tuple(range(len(labels))) else permuted(node, g, term.value, permutation)


def _product(node: ForeignNode, g: GraphBuilder, a: _Term, b: _Term, needed: set[str]) -> _Term:
    """The product of two tensors, summed over the axes of both that nobody else needs."""
    b = _summed(node, g, b, needed | {*a.labels})
    shared = [label for label in a.labels if label in b.labels]
    batch = [label for label in shared if label in needed]
    inner = [label for label in shared if label not in needed]
    rows = [label for label in a.labels if label not in shared]
    columns = [label for label in b.labels if label not in shared]
    outer, count = a.sizes(batch), math.prod(a.sizes(inner))
    left = reshaped(node, g, _ordered(node, g, a, (*batch, *rows, *inner)), (*outer, math.prod(a.sizes(rows)), count))
    right_shape = (*outer, count, math.prod(b.sizes(columns)))
    right = reshaped(node, g, _ordered(node, g, b, (*batch, *inner, *columns)), right_shape)
    y = g.add(MatMul(left, right, location=node.location))
    shape = (*outer, *a.sizes(rows), *b.sizes(columns))
    return _Term(reshaped(node, g, y, shape), (*batch, *rows, *columns))
