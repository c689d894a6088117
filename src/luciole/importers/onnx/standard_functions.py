"""Operators that ONNX itself defines by a function over others: nodes of the function's body take their place.

The bodies come with the package onnx. Some depend on the types of the operands, which are known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from luciole.errors import Location
from luciole.graph.core import Value
from luciole.graph.foreign import ForeignNode
from luciole.importers.onnx.functions import inline_call
from luciole.importers.onnx.model import OnnxNode
from luciole.importers.onnx.reader import read_nodes
from luciole.importers.onnx.tensors import ELEMENT_TYPES
from luciole.ir.types import Array

#: ONNX's number of each element type, by numpy's name.
_ELEMENTS = {dtype.name: number for number, (_, dtype, _) in ELEMENT_TYPES.items() if dtype is not None}

#: Operators whose function was written down late, and the opset since which they have meant the same. (Changelog.md.)
_SAME_SINCE = {
    "Celu": 12,
    "Elu": 6,
    "HardSigmoid": 6,
    "HardSwish": 14,
    "LogSoftmax": 6,
    "Selu": 6,
    "Shrink": 9,
    "Softplus": 6,
    "Softsign": 6,
    "ThresholdedRelu": 10,
}


def is_standard_function(kind: str, opset: int) -> bool:
    """Whether ONNX defines an operator by a function, in some version of that opset or before it."""
    return _version(kind, opset) is not None


def expand_function(
    node: ForeignNode, names: Sequence[str], opset: int
) -> tuple[list[OnnxNode], dict[str, Array], int]:
    """The nodes of the function that an operator stands for, their constants, and the opset that they are written in.

    `names` are those of the operands. Raises `CompileError` where the function has no body for these operands.
    """
    version = _version(node.kind, opset)
    assert version is not None, "the kind has no function; see is_standard_function"
    schema = _schema(node.kind, max(version, opset))
    function = _body(schema, version, node, _proto(node, names))
    if function is None:
        raise node.unsupported(f"{node.kind} of these operands is not supported", code="unsupported-operator")
    label = node.location.node or node.name
    constants: dict[str, Array] = {}
    nodes = read_nodes(inline_call(function, _proto(node, names), label), constants, Location(node.location.file))
    written = next((entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")), version)
    return nodes, constants, written


def _schema(kind: str, opset: int) -> Any:
    from onnx import defs

    try:
        return defs.get_schema(kind, opset, "")
    except defs.SchemaError:
        return None


def _version(kind: str, opset: int) -> int | None:
    """The opset whose function an operator stands for: the latest up to this one, or the first of the same meaning."""
    schema = _schema(kind, opset)
    if schema is None:
        return None
    known = [v for v in _known_versions(schema) if v <= opset]
    if known or opset < _SAME_SINCE.get(kind, opset + 1):
        return max(known, default=None)
    from onnx import defs

    later = _schema(kind, defs.onnx_opset_version())
    return min((v for v in _known_versions(later) if v > opset), default=None)


def _known_versions(schema: Any) -> tuple[int, ...]:
    return (*schema.function_opset_versions, *schema.context_dependent_function_opset_versions)


def _body(schema: Any, version: int, node: ForeignNode, proto: Any) -> Any:
    """The function in a version, for the types of the operands; None where there is none for them."""
    from onnx import FunctionProto, helper

    if version in schema.context_dependent_function_opset_versions:
        types = [_type(value, helper) for value in node.inputs]
        data = schema.get_context_dependent_function_with_opset_version(version, proto.SerializeToString(), types)
    else:
        data = schema.get_function_with_opset_version(version)
    if not data:
        return None
    function = FunctionProto()
    function.ParseFromString(data)
    for name, attribute in schema.attributes.items():
        is_given = name in node.attributes or any(known.name == name for known in function.attribute_proto)
        if not is_given and attribute.default_value.name:
            function.attribute_proto.append(attribute.default_value)
    return function


def _type(value: Value | None, helper: Any) -> bytes:
    if value is None:
        return b""
    type = helper.make_tensor_type_proto(_ELEMENTS[value.type.dtype.numpy.name], value.type.shape)
    data: bytes = type.SerializeToString()
    return data


def _proto(node: ForeignNode, names: Sequence[str]) -> Any:
    """The node as the file had it."""
    from onnx import helper, numpy_helper

    proto = helper.make_node(node.kind, names, node.output_names, node.location.node)
    for name, value in node.attributes.items():
        plain = numpy_helper.from_array(np.asarray(value)) if isinstance(value, np.ndarray) else value
        proto.attribute.append(helper.make_attribute(name, plain))
    return proto
