"""An ONNX file as plain data: what it says, checked but not yet interpreted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from luciole.errors import Location
from luciole.ir.types import Array

#: The value of an attribute. An array is a tensor; `Unreadable` stands for a graph or another thing without a plain
#: form.
Attribute = object


@dataclass(frozen=True)
class Unreadable:
    """An attribute that no rule can use, and what it is."""

    what: str


@dataclass(frozen=True, eq=False)
class Branch:
    """A graph that an attribute holds: its constants, its nodes in order, its results, and inputs of its own."""

    constants: Mapping[str, Array]
    nodes: tuple[OnnxNode, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnnxInput:
    """What the file says about an input or output of the model.

    `element` is numpy's name of the element type, or ONNX's where numpy has none. `shape` is None where the file gives
    none; a size is a number, a name, or "" where it is open without a name.
    """

    name: str
    element: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One node. `kind` is the operator's name, after its domain and a colon where that is not ONNX's own.

    `inputs` are names of tensors, "" for one left out; so are `outputs`. `location` names the node in errors.
    """

    kind: str
    location: Location
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A whole file: its graph, with nodes in order of execution. `opset` is the version of ONNX's own operators."""

    file: str
    opset: int
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[OnnxInput, ...]
    constants: Mapping[str, Array]
    nodes: tuple[OnnxNode, ...]
