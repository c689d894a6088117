"""Several elementwise operators computed in one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

from luciole.graph.core import Elementwise, Graph, Operator, RowAccess, Value, Views, elementwise_rows, operator
from luciole.graph.interpret import run_graph
from luciole.graph.samples import Samples
from luciole.ir.types import Array, Shape, TensorType, merged_axes
from luciole.kernel.builder import LoopBuilder, View
from luciole.kernel.core import Expr
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.quantization import Dequantize, Quantize, Requantize


@operator("fused")
class Fused(Operator):
    """y = body(inputs): elementwise operators whose intermediate results stay in registers.

    The body is a graph of `Elementwise` operators with one output; it has no constants, they are among the inputs. Each
    of its operators rounds as it does alone, so that fusion changes no bit. Its inputs have the types of the operator's
    inputs, in order; results within the body have the shape of the output.
    """

    inputs: tuple[Value, ...]
    body: Graph

    def infer(self) -> TensorType:
        body = self.body
        expected, given = [v.type for v in body.inputs], [v.type for v in self.inputs]
        if expected != given:
            raise self.error(f"the body takes {', '.join(map(str, expected)) or 'no inputs'}")
        if len(body.outputs) != 1 or body.constants or not body.operators:
            raise self.error("the body must have operators, one output and no constants")
        ((_, output),) = body.outputs
        for op in body.operators:
            if not isinstance(op, Elementwise) or len(body.results(op)) != 1:
                raise self.error(f"{op.kind} is not elementwise")
            if body.result(op).type.shape != output.type.shape:
                raise self.error(f"{op.kind} in the body has another shape than the output")
        if output.producer is None:
            raise self.error("the body's output is one of its inputs")
        return output.type

    def compute(self, inputs: tuple[Array, ...]) -> Array:
        ((name, _),) = self.body.outputs
        arrays = {value.name: array for value, array in zip(self.body.inputs, inputs, strict=True)}
        return run_graph(self.body, arrays)[name]

    def macs(self) -> int:
        return sum(op.macs() for op in self.body.operators)

    def parameters(self) -> dict[str, Array]:
        """The parameters of the body's operators, each under its operator's number: `op0_table`."""
        return {
            f"op{number}_{name}": array
            for number, op in enumerate(self.body.operators)
            for name, array in op.parameters().items()
        }

    def kernel_shapes(self) -> dict[str, Shape]:
        """Neighbouring axes merged, so that the loops are few and long."""
        named = [*self.named_operands()]
        result, shapes = merged_axes(self.infer().shape, tuple(value.type.shape for _, value in named))
        return {"y": result} | {name: shape for (name, _), shape in zip(named, shapes, strict=True)}

    def in_place_operands(self) -> tuple[str, ...]:
        result = self.infer()
        return tuple(
            name
            for name, value in self.named_operands()
            if value.type.shape == result.shape and value.type.dtype.size_bytes == result.dtype.size_bytes
        )

    def row_accesses(self) -> dict[str, RowAccess] | None:
        return elementwise_rows(self)

    def restricted_to_rows(self, rows: int) -> Operator:
        """The body over again, over inputs of so many rows."""
        accesses = self.row_accesses()
        assert accesses is not None, f"{self} has no rows"
        body = Graph(self.body.name)
        outer: list[Value] = []
        inside: dict[Value, Value] = {}
        for (name, value), inner in zip(self.named_operands(), self.body.inputs, strict=True):
            type = value.type
            if name in accesses:
                type = type.with_shape((1, accesses[name].window_rows(rows), *type.shape[2:]))
            outer.append(Value(value.name, type, value.data))
            inside[inner] = body.add_input(inner.name, type)
        for op in self.body.operators:
            result = self.body.result(op)
            (inside[result],) = body.add(op.with_operands(lambda value: inside[value]), (result.name,))
        ((name, output),) = self.body.outputs
        body.add_output(name, inside[output])
        return replace(self, inputs=tuple(outer), body=body)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """One loop an axis; each operator's element is a register, read by those after it."""
        values: dict[Value, Expr] = {}
        with ExitStack() as stack:
            indices = [stack.enter_context(k.loop("i", size)) for size in v.y.shape]
            for (name, _), inner in zip(self.named_operands(), self.body.inputs, strict=True):
                view: View = getattr(v, name)
                index = tuple(0 if size == 1 else i for size, i in zip(view.shape, indices, strict=True))
                values[inner] = k.define("x", view[index]).variable
            for number, op in enumerate(self.body.operators):
                assert isinstance(op, Elementwise)
                parameters = Views({name: getattr(v, f"op{number}_{name}") for name in op.parameters()})
                wanted = op.kernel_operands()
                elements = [values[operand] for name, operand in op.named_operands() if name in wanted]
                values[self.body.result(op)] = k.define("t", op.element(parameters, *elements)).variable
            v.y[tuple(indices)] = values[self.body.outputs[0][1]]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        x, row = s.f32(2, 3, 4), s.f32_weights(4)
        yield _chain(Add(x, row, activation="relu"), lambda y: Mul(y, x), lambda y: Sub(row, y))
        x, z = s.i8(1, 4, 2, 3, zero=-128), s.i8(1, 4, 2, 3, scale=0.031, zero=12)
        channel = s.i8_weights(3, axis=None, scale=0.02)
        yield _chain(
            Add(x, z, quant=s.quant(0.09, -3)),
            lambda y: Requantize(y, quant=s.quant(0.06, 10)),
            lambda y: Mul(y, channel, activation="relu", quant=s.quant(0.07, -128)),
            lambda y: Requantize(y, quant=s.quant(0.1, 3)),
        )
        yield _chain(Quantize(s.f32(5, low=-4, high=4), quant=s.quant(0.03, 5)), Dequantize, lambda y: Add(y, y))


def _chain(first: Operator, *others: Callable[[Value], Operator]) -> Fused:
    """The `fused` operator of one operator after the other."""
    graph = Graph("chain")
    operators = [first]
    (value,) = graph.add(first)
    for make in others:
        operators.append(make(value))
        (value,) = graph.add(operators[-1])
    return fuse(operators, graph)


def fuse(operators: list[Operator], graph: Graph) -> Fused:
    """The `fused` operator for elementwise operators of a graph, given in order; the last one's result is the result.

    Raises `CompileError` when one of them cannot stand in a body, for instance because it needs a constant operand.
    """
    body = Graph("body")
    outer: list[Value] = []
    inside: dict[Value, Value] = {}
    made = {graph.result(op) for op in operators}
    for op in operators:
        for value in op.operands:
            if value not in made and value not in inside:
                outer.append(value)
                inside[value] = body.add_input(value.name, value.type)
    for op in operators:
        result = graph.result(op)
        (inside[result],) = body.add(op.with_operands(lambda value: inside[value]), (result.name,))
    last = graph.result(operators[-1])
    body.add_output("y", inside[last])
    fused = Fused(tuple(outer), body, location=operators[-1].location)
    if fused.infer() != last.type:
        raise fused.error(f"the result is {fused.infer()}, not {last.type}")
    fused.parameters()
    return fused
