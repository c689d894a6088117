"""Axes in another order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.quant import Quant
from luciole.ir.types import Array, Shape, TensorType
from luciole.kernel.builder import LoopBuilder
from luciole.ops import common
from luciole.ops.tflite_options import axis_of


@operator("transpose")
class Transpose(Operator):
    """y[i0, i1, ...] = x[j0, j1, ...] with j[permutation[a]] = i[a]: axis a of y is axis permutation[a] of x."""

    takes_halves = True

    x: Value
    permutation: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.type
        if sorted(self.permutation) != list(range(x.rank)):
            raise self.error(f"permutation {list(self.permutation)} does not order the {x.rank} axes of x")
        quant = common.kept_quant(self, self.x)
        if x.quant is not None and x.quant.is_per_channel:
            quant = Quant(x.quant.scales, x.quant.zero_points, self.permutation.index(x.quant.axis))
        return TensorType(x.dtype, tuple(x.shape[axis] for axis in self.permutation), quant)

    def compute(self, x: Array) -> Array:
        return np.ascontiguousarray(x.transpose(self.permutation)) if self.permutation else x

    @property
    def is_view(self) -> bool:
        """Whether the axes longer than one stay in order."""
        moved = [axis for axis in self.permutation if self.x.type.shape[axis] != 1]
        return moved == sorted(moved)

    def kernel_shapes(self) -> dict[str, Shape]:
        runs = self._runs()
        sizes = {run: int(np.prod([self.x.type.shape[axis] for axis in run], dtype=np.int64)) for run in runs}
        return {"x": tuple(sizes[run] for run in sorted(runs)), "y": tuple(sizes[run] for run in runs)}

    def _runs(self) -> list[tuple[int, ...]]:
        """Axes of x longer than one in the order of y, those that stay neighbors in order together."""
        runs: list[tuple[int, ...]] = []
        kept = [axis for axis in range(self.x.type.rank) if self.x.type.shape[axis] != 1]
        for axis in self.permutation:
            if axis not in kept:
                continue
            if runs and kept.index(axis) == kept.index(runs[-1][-1]) + 1:
                runs[-1] = (*runs[-1], axis)
            else:
                runs.append((axis,))
        return runs

    def loops(self, k: LoopBuilder, v: Views) -> None:
        runs = self._runs()
        with k.nest("i", *v.y.shape) as indices:
            source = [indices[runs.index(run)] for run in sorted(runs)]
            v.y[tuple(indices)] = v.x[tuple(source)]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.f32(2, 3, 4, 5), (0, 3, 1, 2))
        yield cls(s.f32(3, 4), (1, 0))
        yield cls(s.i8(1, 3, 1, 4, zero=3), (2, 1, 0, 3))
        yield cls(s.i8(2, 3, 4), (2, 0, 1))
        yield cls(s.i32(1, 1), (1, 0))


@tflite("TRANSPOSE")
def _import_transpose(node: ForeignNode, g: GraphBuilder) -> Value:
    """The second operand is the permutation."""
    x = node.input(0)
    permutation = tuple(axis_of(node, axis, x.type.rank) for axis in node.constant_integers(1))
    return g.add(Transpose(x, permutation, location=node.location), node.name)


@onnx("Transpose")
def _import_onnx_transpose(node: ForeignNode, g: GraphBuilder) -> Value:
    """By `perm`, which reverses the axes where it is left out."""
    x = node.input(0)
    permutation = node.integers("perm", tuple(reversed(range(x.type.rank))))
    if sorted(permutation) != list(range(x.type.rank)):
        raise node.error(f"Transpose of {x.type} by {list(permutation)}")
    return g.add(Transpose(x, permutation, location=node.location), node.name)
