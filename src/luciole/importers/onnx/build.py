"""`OnnxModel` -> `Graph`, through the import rules that stand with the operators.

Names are those of the file. What is known at import is computed at once; everything that prevents the import is
collected over the whole file and raised together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Diagnostic, Diagnostics, Location, printable
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.foreign import ForeignNode, onnx
from luciole.graph.interpret import compute_operator
from luciole.importers.onnx import composite  # noqa: F401  # its rules register themselves
from luciole.importers.onnx.bind import bind_inputs
from luciole.importers.onnx.folding import MAXIMUM_ELEMENTS as MAXIMUM_FOLDED
from luciole.importers.onnx.folding import can_fold, fold
from luciole.importers.onnx.model import Branch, OnnxInput, OnnxModel, OnnxNode, Unreadable
from luciole.importers.onnx.reader import parse_model
from luciole.importers.onnx.standard_functions import expand_function, is_standard_function
from luciole.importers.onnx.tensors import GRAPH_TYPES, MAXIMUM_RANK
from luciole.importers.onnx.unrolling import KINDS as UNROLLED_KINDS
from luciole.importers.onnx.unrolling import unroll
from luciole.importers.onnx.upgrade import upgrade
from luciole.ir.types import MAXIMUM_ELEMENTS, Array, DType, TensorType
from luciole.ops.cast import Cast
from luciole.ops.catalog import load_operators
from luciole.ops.onnx_options import is_weights

#: How many problems, and how many kinds or names within one problem, an error shows.
_MAXIMUM_PROBLEMS, _MAXIMUM_KINDS, _MAXIMUM_NAMES = 20, 20, 3

#: Kinds that may be computed in integers: of quantized constants they read the integers.
_OF_INTEGERS: tuple[str, ...] = (
    "Add",
    "Concat",
    "Conv",
    "Flatten",
    "Gemm",
    "Identity",
    "MatMul",
    "Mul",
    "Reshape",
    "Squeeze",
    "Sub",
)
_OF_INTEGERS += ("Transpose", "Unsqueeze")

#: Kinds that move or convert half floats as they are; all others compute in float32.
_MOVING: tuple[str, ...] = (
    "Cast",
    "CastLike",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)

#: Of half floats these are computed as ONNX defines them by other operators, each of which rounds its result.
_ROUNDED_BY_STEP = ("Softmax",)


def load_onnx(data: bytes, file: str, folder: Path | None = None, dims: Mapping[str, int] | None = None) -> Graph:
    """The graph of the .onnx file with the bytes `data`; errors call the file `file`.

    `folder` is where the file stands, for data beside it; `dims` binds named sizes of inputs. Raises `CompileError`
    with everything that is broken (exit code 1) or unsupported (2) in the file, `ToolError` without the package onnx.
    """
    return build_graph(parse_model(data, file, folder), dims or {})


def build_graph(model: OnnxModel, dims: Mapping[str, int]) -> Graph:
    """The graph of a model. Raises `CompileError` with everything unsupported."""
    load_operators()  # and with them their import rules
    diagnostics = Diagnostics()
    inputs = bind_inputs(model, dims, diagnostics)
    refused = _check_kinds(model, diagnostics)
    build = _Build(model, inputs, diagnostics)
    for node in model.nodes:
        build.add(node, refused)
    _raise_problems(diagnostics)
    return build.finish()


def _check_kinds(model: OnnxModel, diagnostics: Diagnostics) -> set[str]:
    """Collect the kinds of nodes without an import rule, and give them."""
    unknown: dict[str, list[OnnxNode]] = {}
    for node in model.nodes:
        if not (
            node.kind in onnx
            or node.kind in ("If", *UNROLLED_KINDS)
            or can_fold(node.kind)
            or is_standard_function(node.kind, model.opset)
        ):
            unknown.setdefault(node.kind, []).append(node)
    if unknown:
        shown = [_counted(kind, nodes) for kind, nodes in list(unknown.items())[:_MAXIMUM_KINDS]]
        verb = "operator has" if len(unknown) == 1 else "operators have"
        more = ", ..." if len(unknown) > _MAXIMUM_KINDS else ""
        diagnostics.add(
            "unsupported-operator",
            f"{len(unknown)} {verb} no import rule: {', '.join(shown)}{more}",
            Location(model.file),
            help="`luciole ops` lists the supported operators",
            exit_code=EXIT_UNSUPPORTED,
        )
    return set(unknown)


def _counted(kind: str, nodes: list[OnnxNode]) -> str:
    names = ", ".join(f'"{printable(node.location.node)}"' for node in nodes[:_MAXIMUM_NAMES])
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    return f"{printable(kind)} ({count}, {names}{', ...' if len(nodes) > _MAXIMUM_NAMES else ''})"


class _Build:
    """The graph under construction, and what is known of each tensor so far."""

    def __init__(self, model: OnnxModel, inputs: Mapping[str, TensorType], diagnostics: Diagnostics) -> None:
        self.model = model
        self.diagnostics = diagnostics
        self.g = GraphBuilder(PurePath(model.file).stem)
        self.arrays: dict[str, Array] = dict(model.constants)
        self.values: dict[str, Value] = {}
        for name, type in inputs.items():
            self.values[name] = self.g.input(name, type.dtype, type.shape)
        #: Constants that the file has as integers with a scale, for nodes that may be computed in integers.
        self.dequantized: dict[str, Value] = {}
        #: How many nodes of the bodies of loops there are.
        self.unrolled = 0
        #: Tensors whose node was refused, and all that depends on them: nothing can be said about those.
        self.unknown = {i.name for i in model.inputs} - set(inputs)

    def add(self, node: OnnxNode, refused: set[str]) -> None:
        """Add one node, and remember its problems."""
        if node.kind in refused or any(name in self.unknown for name in node.inputs):
            self.unknown.update(node.outputs)
            return
        try:
            self._add(node, self.model.opset)
        except CompileError as error:
            self.diagnostics.extend(_with_exit_codes(error))
            self.unknown.update(node.outputs)

    def _add(self, node: OnnxNode, opset: int) -> None:
        _check_node(node, opset)
        plain = ForeignNode(
            kind=node.kind,
            location=node.location,
            inputs=tuple(self._operand(name, node.location, node.kind) if name else None for name in node.inputs),
            output_names=node.outputs,
            output_types=(),
            attributes=node.attributes,
        )
        foreign = upgrade(plain, opset)
        if (arrays := fold(foreign)) is not None:
            self.arrays.update(zip(node.outputs, (_frozen(array) for array in arrays), strict=False))
            return
        if node.kind == "If":
            self._add_branch(foreign, opset)
            return
        if node.kind in UNROLLED_KINDS:
            unroll(plain, node.inputs, opset, self)
            return
        is_half = any(value is not None and value.type.dtype is DType.F16 for value in foreign.inputs)
        is_defined = is_half and node.kind in _ROUNDED_BY_STEP
        if (node.kind not in onnx or is_defined) and is_standard_function(node.kind, opset):
            inner, constants, written = expand_function(replace(foreign, inputs=plain.inputs), node.inputs, opset)
            self.arrays.update(constants)
            for part in inner:
                self._add(part, written)
            return
        if node.kind not in onnx:
            raise foreign.unsupported(
                f"{node.kind} is supported at compile time only, of constants and shapes", code="unsupported-operator"
            )
        results = self._in_floats(foreign) if is_half else onnx.apply(foreign, self.g)
        is_constant = all(value is None or value.is_constant for value in foreign.inputs)
        if len(results) < len(node.outputs) and any(node.outputs[len(results) :]):
            raise foreign.unsupported(f"{node.kind} with {len(node.outputs)} results is not supported")
        for name, value in zip(node.outputs, results, strict=False):
            if not name:
                continue
            _check_result(foreign, value)
            self.values[name] = value
            if (is_constant or is_weights(value)) and value.type.elements <= MAXIMUM_FOLDED:
                self.arrays[name] = _frozen(_computed(value))
                del self.values[name]
                if is_weights(value):
                    self.dequantized[name] = value

    def _in_floats(self, node: ForeignNode) -> tuple[Value, ...]:
        """The results of a node with half floats: it computes in float32, and rounds each result."""
        if node.kind in _MOVING:
            return onnx.apply(node, self.g)
        results = onnx.apply(replace(node, inputs=tuple(self._as_float(value) for value in node.inputs)), self.g)
        kept = range(1, 3) if node.kind == "LayerNormalization" else ()
        return tuple(
            self.g.add(Cast(value, "f16", location=node.location))
            if value.type.dtype is DType.F32 and index not in kept
            else value
            for index, value in enumerate(results)
        )

    def _as_float(self, value: Value | None) -> Value | None:
        """A value with half floats as float32."""
        if value is None or value.type.dtype is not DType.F16:
            return value
        if value.data is not None:
            return self.g.constant(value.data.astype(np.float32), name=value.name)
        return self.g.add(Cast(value, "f32"))

    def _add_branch(self, node: ForeignNode, opset: int) -> None:
        """Add the nodes of one branch of an `If` whose condition is known."""
        condition = node.input(0).data
        if condition is None or condition.size != 1:
            raise node.unsupported("If by a condition that is computed at run time", code="unsupported-operator")
        branch = node.attributes.get("then_branch" if condition.item() else "else_branch")
        if not isinstance(branch, Branch) or len(branch.outputs) != len(node.output_names):
            raise node.error("the branches of If must be graphs without inputs, with the results of the node")
        made = [*branch.constants, *(name for inner in branch.nodes for name in inner.outputs if name)]
        if twice := [name for name in made if name in self.arrays or name in self.values]:
            raise node.error(f'"{printable(twice[0])}" is made twice', code="malformed-graph")
        self.arrays.update(branch.constants)
        for inner in branch.nodes:
            self._add(inner, opset)
        for name, inner_name in zip(node.output_names, branch.outputs, strict=True):
            self.values[name] = self._operand(inner_name, node.location)
            if inner_name in self.arrays:
                self.arrays[name] = self.arrays[inner_name]

    def add_inner(self, node: OnnxNode, opset: int) -> None:
        """Add a node of the body of a loop. Raises `CompileError`."""
        self._add(node, opset)

    def operand(self, name: str, location: Location) -> Value:
        """The value of a tensor that something made. Raises `CompileError` when nothing did."""
        return self._operand(name, location)

    def _operand(self, name: str, location: Location, kind: str = "") -> Value:
        """The value of a tensor for a node of a kind; a constant is made when it is first read."""
        if kind in _OF_INTEGERS and name in self.dequantized:
            return self.dequantized[name]
        if name not in self.values:
            if name not in self.arrays:  # in a graph that a node holds; others are checked when they are read
                raise CompileError.of("malformed-graph", f'"{printable(name)}" is read, but nothing made it', location)
            data = self.arrays[name]
            if data.dtype.name not in GRAPH_TYPES:
                message = f'constant "{printable(name)}" is of {data.dtype.name}, which the graph does not have'
                raise CompileError.of("unsupported-type", message, location, exit_code=EXIT_UNSUPPORTED)
            self.values[name] = self.g.constant(data, name=name)
        return self.values[name]

    def finish(self) -> Graph:
        """The graph with its outputs, without what only led to constants."""
        for output in self.model.outputs:
            location = Location(self.model.file)
            value = self._operand(output.name, location)
            _check_output(output, value, self.model.file)
            if value.type.elements == 0:
                message = f'the output "{printable(output.name)}" is {value.type}, without elements'
                raise CompileError.of("unsupported-empty", message, location, exit_code=EXIT_UNSUPPORTED)
            self.g.output(output.name, value)
        graph = self.g.graph
        for op in reversed(graph.operators):
            if not any(map(graph.use_count, graph.results(op))):
                graph.erase(op)
        for value in graph.constants:
            if not graph.use_count(value):
                graph.erase_constant(value)
        return graph


def _computed(value: Value) -> Array:
    """The data of a value that a rule made of constants alone: of weights, mostly."""
    if value.data is not None or value.producer is None:
        return np.asarray(value.data)
    op = value.producer
    return compute_operator(op, {operand: _computed(operand) for operand in op.operands})[value.index]


def _frozen(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _check_node(node: OnnxNode, opset: int) -> None:
    """Raise `CompileError` when a node has attributes or numbers of operands that ONNX does not define for its kind."""
    from onnx import defs

    def malformed(problem: str) -> CompileError:
        return CompileError.of("malformed-node", f"{node.kind} {problem}", node.location)

    if ":" in node.kind:  # of another domain, which the package onnx does not know
        return
    try:
        schema: Any = defs.get_schema(node.kind, opset, "")
    except defs.SchemaError:
        raise malformed(f"does not exist in opset {opset}") from None
    for name, value in node.attributes.items():
        if name not in schema.attributes:
            raise malformed(f"has no attribute {printable(name)} in opset {opset}")
        if isinstance(value, Unreadable):
            raise malformed(f"has the attribute {name}, which is {value.what}")
        if isinstance(value, float) and not np.isfinite(value):
            raise malformed(f"has the attribute {name} of {value}")
    if not schema.min_input <= len(node.inputs) <= schema.max_input:
        raise malformed(f"has {len(node.inputs)} operands; it takes {schema.min_input} to {schema.max_input}")
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        raise malformed(f"has {len(node.outputs)} results; it gives {schema.min_output} to {schema.max_output}")


def _check_result(node: ForeignNode, value: Value) -> None:
    """Raise `CompileError` for results that no graph may have."""
    if value.type.elements == 0 and not value.is_constant:
        raise node.unsupported(f"the result {value.type} of {node.kind} has no elements", code="unsupported-empty")
    if value.type.rank > MAXIMUM_RANK:
        message = f"the result of {node.kind} has {value.type.rank} dimensions; the limit is {MAXIMUM_RANK}"
        raise node.unsupported(message, code="too-large")
    if value.type.elements > MAXIMUM_ELEMENTS:
        message = f"the result {value.type} of {node.kind} has more than {MAXIMUM_ELEMENTS} elements"
        raise node.unsupported(message, code="too-large")


def _check_output(output: OnnxInput, value: Value, file: str) -> None:
    """Raise `CompileError` when an output differs from what the file says about it."""
    found = value.type
    sizes = output.shape if output.shape is not None else found.shape
    known = zip(sizes, found.shape, strict=False)
    fits = len(sizes) == found.rank and all(not isinstance(a, int) or a == b for a, b in known)
    if output.element != found.dtype.numpy.name or not fits:
        declared = f"{output.element}[{','.join(str(size) or '?' for size in sizes)}]"
        raise CompileError.of(
            "result-mismatch",
            f'the output "{printable(output.name)}" is {found}, but the file says {printable(declared)}',
            Location(file),
        )


def _with_exit_codes(error: CompileError) -> CompileError:
    """An operator's own errors, which know nothing of files: what it does not support is no fault of the file's."""
    return CompileError(
        *(replace(d, exit_code=EXIT_UNSUPPORTED) if d.code.startswith("unsupported-") else d for d in error.diagnostics)
    )


def _raise_problems(diagnostics: Diagnostics) -> None:
    """Raise what was collected, cut to a readable length."""
    items = diagnostics.items
    if len(items) > _MAXIMUM_PROBLEMS:
        left = items[_MAXIMUM_PROBLEMS:]
        worst = max(item.exit_code for item in left)
        more = Diagnostic("more-problems", f"{len(left)} further problems of this file", exit_code=worst)
        raise CompileError(*items[:_MAXIMUM_PROBLEMS], more)
    diagnostics.raise_if_any()
