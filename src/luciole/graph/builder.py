"""Building graphs: `g.add(Conv2d(x, w, b, strides=(2, 2)))` gives the result value."""

from __future__ import annotations

from luciole.graph.core import Graph, Operator, Value
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType


class GraphBuilder:
    """A graph under construction. Names are hints: the graph makes them unique."""

    def __init__(self, name: str) -> None:
        self.graph = Graph(name)

    def input(self, name: str, dtype: DType, shape: Shape, quant: Quant | None = None) -> Value:
        """A model input."""
        return self.graph.add_input(name, TensorType(dtype, shape, quant))

    def constant(self, data: Array, quant: Quant | None = None, name: str = "c") -> Value:
        """A constant tensor."""
        return self.graph.add_constant(data, quant, name)

    def add(self, op: Operator, name: str = "") -> Value:
        """Append an operator with one result. Raises `CompileError` when its types do not fit."""
        (value,) = self.graph.add(op, (name,) if name else ())
        return value

    def add_all(self, op: Operator, names: tuple[str, ...] = ()) -> tuple[Value, ...]:
        """Append an operator with several results."""
        return self.graph.add(op, names)

    def output(self, name: str, value: Value) -> None:
        """Declare a model output."""
        self.graph.add_output(name, value)
