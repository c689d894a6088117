"""Bytes of an .onnx file -> `OnnxModel`. Every number of the file is checked before it is used.

The package `onnx` parses the container; nothing else of it is used on a file that may be hostile. Problems of single
tensors and nodes are collected and raised together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Diagnostics, Location, ToolError, printable
from luciole.importers.onnx.functions import inline_functions
from luciole.importers.onnx.model import Attribute, Branch, OnnxInput, OnnxModel, OnnxNode, Unreadable
from luciole.importers.onnx.tensors import ELEMENT_TYPES, EXTERNAL, element_name, read_tensor, text_of
from luciole.ir.types import Array

#: Versions of ONNX's own operators that are understood: rules know what changed in between.
OLDEST_OPSET, NEWEST_OPSET = 6, 28

#: Bounds on what a file may hold; real models stay a hundredfold below, and reading stays a matter of seconds.
MAXIMUM_NODES = 50_000
MAXIMUM_TENSORS = 200_000
MAXIMUM_INPUTS = 4096  # and as many outputs

#: The names of ONNX's own domain.
_OWN_DOMAINS = ("", "ai.onnx")

# Numbers of `AttributeProto.AttributeType` (onnx.proto).
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 5, 6, 7, 8
_UNREADABLE = {5: "a graph", 9: "tensors", 10: "graphs", 11: "a sparse tensor", 12: "sparse tensors", 13: "a type"}


def parse_model(data: bytes, file: str, folder: Path | None = None) -> OnnxModel:
    """The model in `data`, the content of the file that errors call `file`; `folder` is where its other files are.

    Raises `CompileError`: with exit code 1 when the file is broken, with 2 when it is beyond what is supported;
    `ToolError` when the package onnx is missing.
    """
    reading = _Reading(file, folder)
    model = reading.model(_parse(data, Location(file)))
    reading.diagnostics.raise_if_any()
    return model


def external_content(data: bytes, folder: Path) -> Iterator[bytes]:
    """The numbers of the initializers of a model that stand in files beside it, in order.

    Nothing of tensors that cannot be read, nor of a file that is no model: the import has the words for those.
    """
    if b"location" not in data:  # the key by which a tensor names its file
        return
    try:
        proto = _parse(data, Location())
    except (CompileError, ToolError):
        return
    for tensor in proto.graph.initializer:
        if tensor.data_location == EXTERNAL:
            with suppress(CompileError):
                yield read_tensor(tensor, text_of(tensor.name), folder, Location()).tobytes()


def read_nodes(protos: Iterable[Any], constants: dict[str, Array], location: Location) -> list[OnnxNode]:
    """Nodes that stand in no file, in order; those that hold constants are added to `constants`.

    Raises `CompileError` for attributes that cannot be read.
    """
    reading = _Reading(location.file, None)
    nodes = [reading.node(position, proto, constants) for position, proto in enumerate(protos)]
    reading.diagnostics.raise_if_any()
    return [node for node in nodes if node is not None]


def _parse(data: bytes, location: Location) -> Any:
    """The file as the package onnx presents it."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
    except ImportError as error:
        raise ToolError(
            f"ONNX models need the package onnx ({error}); get it by: pip install 'luciole[onnx]'"
        ) from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError) as problem:
        raise CompileError.of(
            "not-onnx", f"the file is not an ONNX model: {printable(str(problem))}", location
        ) from None
    if not proto.HasField("graph"):
        raise CompileError.of("not-onnx", "the file is not an ONNX model: it has no graph", location)
    return proto


class _Reading:
    """The state of reading one file."""

    def __init__(self, file: str, folder: Path | None) -> None:
        self.location = Location(file)
        self.folder = folder
        self.diagnostics = Diagnostics()

    def problem(self, code: str, message: str, *, help: str = "", unsupported: bool = True) -> None:
        """Remember a problem that does not prevent reading on."""
        self.diagnostics.add(code, message, self.location, help=help, exit_code=EXIT_UNSUPPORTED if unsupported else 1)

    def model(self, proto: Any) -> OnnxModel:
        """The model. Raises `CompileError` where nothing more can be read."""
        graph = proto.graph
        opset = self._opset(proto)
        self._check_sizes(graph)
        proto_nodes = inline_functions(proto, MAXIMUM_NODES, self.location)
        if len(graph.sparse_initializer):
            self.problem("unsupported-sparsity", f"{len(graph.sparse_initializer)} tensors are stored sparsely")
        constants = self._constants(graph)
        inputs = tuple(self._end(info, "input") for info in graph.input if text_of(info.name) not in constants)
        nodes = [self.node(position, node, constants) for position, node in enumerate(proto_nodes)]
        model = OnnxModel(
            file=self.location.file,
            opset=opset,
            inputs=inputs,
            outputs=tuple(self._end(info, "output") for info in graph.output),
            constants=constants,
            nodes=tuple(node for node in nodes if node is not None),
        )
        if not self.diagnostics:
            self._check_dataflow(model)
        return model

    def _opset(self, proto: Any) -> int:
        """The version of ONNX's own operators. Raises `CompileError` when there is none, or several."""
        versions = {entry.version for entry in proto.opset_import if text_of(entry.domain) in _OWN_DOMAINS}
        nodes = [node for body in (proto.graph, *proto.functions) for node in body.node]
        if not versions and all(text_of(node.domain) not in _OWN_DOMAINS for node in nodes):
            return NEWEST_OPSET  # no operator needs to know
        if len(versions) != 1:
            found = "none" if not versions else " and ".join(map(str, sorted(versions)))
            raise CompileError.of(
                "malformed-model",
                f"the model must import one version of ONNX's operators, it imports {found}",
                self.location,
            )
        (version,) = versions
        if not OLDEST_OPSET <= version <= NEWEST_OPSET:
            raise CompileError.of(
                "unsupported-version",
                f"the model uses opset {version}; supported are {OLDEST_OPSET} to {NEWEST_OPSET}",
                self.location,
                help="convert it: onnx.version_converter.convert_version",
                exit_code=EXIT_UNSUPPORTED,
            )
        return int(version)

    def _check_sizes(self, graph: Any) -> None:
        """Refuse files of absurd size before anything is made for their parts."""
        tensors = len(graph.initializer) + sum(len(n.output) + len(n.input) for n in graph.node[:MAXIMUM_NODES])
        ends = max(len(graph.input) - len(graph.initializer), len(graph.output))
        for count, what, limit in (
            (len(graph.node), "nodes", MAXIMUM_NODES),
            (tensors, "tensors", MAXIMUM_TENSORS),
            (ends, "inputs or outputs", MAXIMUM_INPUTS),
        ):
            if count > limit:
                message = f"the model has {count} {what}; the limit is {limit}"
                raise CompileError.of("too-large", message, self.location, exit_code=EXIT_UNSUPPORTED)

    def _constants(self, graph: Any) -> dict[str, Array]:
        """The initializers by name."""
        constants: dict[str, Array] = {}
        for tensor in graph.initializer:
            name = text_of(tensor.name)
            if name in constants:
                message = f'two initializers are called "{printable(name)}"'
                self.problem("malformed-graph", message, unsupported=False)
            try:
                constants[name] = read_tensor(tensor, name, self.folder, self.location)
            except CompileError as error:
                self.diagnostics.extend(error)
        return constants

    def _end(self, info: Any, role: str) -> OnnxInput:
        """An input or output of the model."""
        name = text_of(info.name)
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            what = (kind or "unknown").removesuffix("_type")
            self.problem("unsupported-type", f'{role} "{printable(name)}" is of type {what}, not a tensor')
            return OnnxInput(name, what, None)
        type = info.type.tensor_type
        _, dtype, _ = ELEMENT_TYPES.get(type.elem_type, ("", None, ""))
        element = dtype.name if dtype is not None else element_name(type.elem_type)
        if not type.HasField("shape"):
            return OnnxInput(name, element, None)
        sizes: list[int | str] = []
        for size in type.shape.dim:
            which = size.WhichOneof("value")
            sizes.append(int(size.dim_value) if which == "dim_value" else text_of(size.dim_param))
        return OnnxInput(name, element, tuple(sizes))

    def node(self, position: int, node: Any, constants: dict[str, Array]) -> OnnxNode | None:
        """One node; a `Constant` becomes one of the constants."""
        domain, operator = text_of(node.domain), text_of(node.op_type)
        kind = operator if domain in _OWN_DOMAINS else f"{domain}:{operator}"
        inputs, outputs = tuple(map(text_of, node.input)), tuple(map(text_of, node.output))
        name = text_of(node.name) or next((output for output in outputs if output), f"node {position}")
        location = Location(self.location.file, name, kind)
        attributes: dict[str, Attribute] = {}
        try:
            for attribute in node.attribute:
                key = text_of(attribute.name)
                if key in attributes:
                    raise CompileError.of("malformed-node", f"attribute {printable(key)} is given twice", location)
                attributes[key] = self._attribute(attribute, key, location)
            if kind == "Constant":
                self._constant(outputs, attributes, constants, location)
                return None
        except CompileError as error:
            self.diagnostics.extend(error)
        return OnnxNode(kind, location, inputs, outputs, attributes)

    def _attribute(self, attribute: Any, name: str, location: Location) -> Attribute:
        """The value of an attribute in plain form."""
        type = attribute.type
        if attribute.ref_attr_name:
            return Unreadable("a reference to a function's attribute")
        if type == _FLOAT:
            return float(attribute.f)
        if type == _INT:
            return int(attribute.i)
        if type == _STRING:
            return text_of(attribute.s)
        if type == _TENSOR:
            return read_tensor(attribute.t, f"{location.node}.{name}", self.folder, location)
        if type == _FLOATS:
            return tuple(float(value) for value in attribute.floats)
        if type == _INTS:
            return tuple(int(value) for value in attribute.ints)
        if type == _STRINGS:
            return tuple(text_of(value) for value in attribute.strings)
        if (
            type == _GRAPH
            and (location.kind in ("Loop", "Scan") or (location.kind == "If" and not len(attribute.g.input)))
            and not len(attribute.g.sparse_initializer)
        ):
            return self._branch(attribute.g)
        return Unreadable(_UNREADABLE.get(type, f"of type {type}"))

    def _branch(self, graph: Any) -> Branch:
        """A graph that a node holds."""
        constants = self._constants(graph)
        nodes = [self.node(position, node, constants) for position, node in enumerate(graph.node)]
        outputs = tuple(text_of(output.name) for output in graph.output)
        inputs = tuple(text_of(info.name) for info in graph.input if text_of(info.name) not in constants)
        return Branch(constants, tuple(node for node in nodes if node is not None), outputs, inputs)

    def _constant(
        self,
        outputs: tuple[str, ...],
        attributes: dict[str, Attribute],
        constants: dict[str, Array],
        location: Location,
    ) -> None:
        """Add the value of a `Constant` node, which one of several attributes holds."""
        import numpy as np

        if len(attributes) != 1 or len(outputs) != 1:
            raise CompileError.of("malformed-node", "Constant needs one attribute and one result", location)
        ((name, value),) = attributes.items()
        types = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
        if name == "value" and isinstance(value, np.ndarray):
            data = value
        elif name in types and not isinstance(value, Unreadable | str):
            data = np.array(value, types[name])
        else:
            what = value.what if isinstance(value, Unreadable) else name
            raise CompileError.of(
                "unsupported-type", f"Constant holds {printable(what)}", location, exit_code=EXIT_UNSUPPORTED
            )
        if outputs[0] in constants:
            raise CompileError.of("malformed-graph", f'"{printable(outputs[0])}" is made twice', location)
        constants[outputs[0]] = data

    def _check_dataflow(self, model: OnnxModel) -> None:
        """Check the order of execution. Invariants of a sound file:

        1. there is an output; names of inputs are different, and so are names of outputs;
        2. every tensor is made once: an input, a constant, or a result of one node;
        3. a node reads what was made before it; so do the outputs.
        """
        if not model.outputs:
            self.problem("malformed-graph", "the model has no outputs", unsupported=False)
        known = {"", *model.constants}
        self._make(known, (i.name for i in model.inputs), self.location)
        for node in model.nodes:
            for name in dict.fromkeys(node.inputs):
                if name not in known:
                    message = f'"{printable(name)}" is read, but nothing made it before'
                    self.diagnostics.add("malformed-graph", message, node.location)
            if not any(node.outputs):
                self.diagnostics.add("malformed-graph", "the node has no results", node.location)
            self._make(known, (name for name in node.outputs if name), node.location)
        if len({output.name for output in model.outputs}) != len(model.outputs):
            self.problem("malformed-graph", "two outputs have the same name", unsupported=False)
        for output in model.outputs:
            if output.name not in known or not output.name:
                message = f'output "{printable(output.name)}" is made by no node'
                self.problem("malformed-graph", message, unsupported=False)

    def _make(self, known: set[str], names: Iterable[str], location: Location) -> None:
        for name in names:
            if name in known:
                self.diagnostics.add("malformed-graph", f'"{printable(name)}" is made twice', location)
            known.add(name)
