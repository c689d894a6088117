"""Models of integers alone: the ends of a quantized model become int8, and what is computed in floats is refused."""

from __future__ import annotations

from luciole.errors import EXIT_UNSUPPORTED, Diagnostics, printable
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.quant import Quant
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.fused import Fused
from luciole.ops.matmul import FullyConnected
from luciole.ops.quantization import Dequantize, Quantize

#: What tools that quantize do of themselves, and what they have to be told.
_HELP_QUANTIZE = "quantize the model with this operator included, or compile with --quantize int8 and samples"
_HELP_RESULT = "quantize its result too, with int8 or uint8 and one scale"
_HELP_WEIGHTS = "quantize its weights to int8 with zero points of 0: weight_type=QInt8 in onnxruntime.quantization"


def with_integer_ends(graph: Graph) -> Graph:
    """The same graph with int8 inputs for float ones that are only quantized, and outputs before they are dequantized.

    The numbers that stand for reals are in the types of the new inputs and outputs.
    """
    new = Graph(graph.name)
    new.remarks.extend(graph.remarks)
    copies: dict[Value, Value] = {}
    for value in graph.inputs:
        quant = _only_quantized_as(value, graph)
        if quant is None:
            copies[value] = new.add_input(value.name, value.type)
            continue
        users = [user for user in value.users if isinstance(user, Quantize)]
        given = new.add_input(value.name, graph.result(users[0]).type)
        copies |= {graph.result(user): given for user in users}
        new.remarks.append(f"input {printable(value.name)} is int8: {quant}")
    for value in graph.constants:
        if value.data is not None:
            copies[value] = new.add_constant(value.data, value.type.quant, value.name)
    for op in graph.operators:
        results = graph.results(op)
        if results[0] not in copies:
            made = new.add(op.with_operands(copies.__getitem__), [value.name for value in results])
            copies.update(zip(results, made, strict=True))
    taken: set[Value] = set(new.inputs)
    for name, value in graph.outputs:
        maker, output = value.producer, copies[value]
        if isinstance(maker, Dequantize) and copies[maker.x] not in taken and maker.x.data is None:
            output = copies[maker.x]
            new.remarks.append(f"output {printable(name)} is {output.type.dtype.numpy.name}: {output.type.quant}")
        taken.add(output)
        new.add_output(name, output)
    return new


def _only_quantized_as(value: Value, graph: Graph) -> Quant | None:
    """The one quantization that all readers of a float input give it to int8, if they do."""
    if not value.type.dtype.is_float or graph.is_output(value) or not value.users:
        return None
    kinds = {user.quant if isinstance(user, Quantize) and user.to == "i8" else None for user in value.users}
    return kinds.pop() if len(kinds) == 1 else None


def check_integers(graph: Graph) -> None:
    """Raise `CompileError` that names every operator of an optimized graph that reads or makes floats, and why."""
    problems = Diagnostics()
    for value in graph.inputs:
        if value.type.dtype.is_float and not value.users:
            problems.add(
                "float-operator", f"the input %{printable(value.name)} is of floats", exit_code=EXIT_UNSUPPORTED
            )
    for op in graph.operators:
        for inner, owner in [(i, op.body) for i in op.body.operators] if isinstance(op, Fused) else [(op, graph)]:
            values = (*inner.operands, *owner.results(inner))
            if any(value.type.dtype.is_float for value in values):
                reason, help = _reason(inner, owner)
                problems.add(
                    "float-operator",
                    f"{inner.kind} is computed in floats: {reason}",
                    inner.location,
                    notes=(f"its result is {', '.join(repr(value) for value in owner.results(inner))}",),
                    help=help,
                    exit_code=EXIT_UNSUPPORTED,
                )
    problems.raise_if_any()


def _reason(op: Operator, graph: Graph) -> tuple[str, str]:
    """Why an operator is not one of integers, and what helps."""
    floats = [value for value in op.operands if value.type.dtype.is_float and value.data is None]
    plain = [value for value in floats if not isinstance(value.producer, Dequantize)]
    if isinstance(op, Quantize):
        if op.x.producer is None:
            return "the input is used as floats too, or quantized in several ways", _HELP_QUANTIZE
        return f"nothing of int8 makes what {op.x.producer.kind} gives", _HELP_QUANTIZE
    if isinstance(op, Dequantize):
        return "its result is used as floats", _HELP_QUANTIZE
    if plain:
        return f"its operand %{printable(plain[0].name)} is not quantized", _HELP_QUANTIZE
    users = [user for value in graph.results(op) for user in value.users]
    if not users or not all(isinstance(user, Quantize) for user in users):
        return "its result is not quantized", _HELP_RESULT
    if isinstance(op, Conv2d | DepthwiseConv2d | FullyConnected):
        return "its weights are no constants of symmetric int8", _HELP_WEIGHTS
    return "it has no form in int8", "leave it out, or let the application compute it"
