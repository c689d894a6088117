"""The loops of elementwise operators, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

from luciole.graph.core import Elementwise, Views
from luciole.kernel.builder import LoopBuilder, View
from luciole.kernel.core import Expr


def elementwise_loops(k: LoopBuilder, op: Elementwise, v: Views) -> None:
    """One loop an axis over the result; an operand's axis of size one stays at zero. Axes that nothing broadcasts are
    merged.
    """
    shape = v.y.shape
    names = op.kernel_operands()
    views = [getattr(v, name) for name in names]
    with k.nest("i", *shape) as indices:
        v.y[tuple(indices)] = op.element(v, *(broadcast_element(view, indices) for view in views))


def broadcast_element(view: View, indices: Sequence[Expr]) -> Expr:
    """The element of an operand that broadcasts to the result, at some indices of the result."""
    own = indices[len(indices) - len(view.shape) :]
    return view[tuple(0 if size == 1 else i for size, i in zip(view.shape, own, strict=True))]
