"""A TFLite file as plain data: what its tables say, checked but not yet interpreted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from luciole.errors import printable
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape

#: The value of an option: numbers, names of enumeration values, vectors of integers or floats, strings.
Option = int | float | bool | str | tuple[int, ...] | tuple[float, ...]

#: Element types of tensors that the graph can hold, by the file's name for them.
DTYPES = {
    "FLOAT32": DType.F32,
    "FLOAT64": DType.F64,
    "INT8": DType.I8,
    "UINT8": DType.U8,
    "INT16": DType.I16,
    "UINT16": DType.U16,
    "INT32": DType.I32,
    "UINT32": DType.U32,
    "INT64": DType.I64,
    "UINT64": DType.U64,
    "BOOL": DType.BOOL,
}


@dataclass(frozen=True, eq=False)
class TfliteTensor:
    """One tensor of the file.

    `name` is unique in the model, `original_name` is what the file says. `signature` is the shape with -1 where the
    model was made with an open size. `quant` is None for floats and for integers that stand for themselves. `data`
    holds the values of a constant, read-only and in `shape`; it is None too for constants whose type has no numpy
    form (`is_constant` tells).
    """

    index: int
    name: str
    original_name: str
    type_name: str
    shape: Shape
    signature: Shape | None
    quant: Quant | None
    is_constant: bool
    data: Array | None
    is_variable: bool
    is_sparse: bool

    @property
    def dtype(self) -> DType | None:
        """The element type in the graph, or None where the graph has none (strings, half floats, packed int4...)."""
        return DTYPES.get(self.type_name)

    def __str__(self) -> str:
        return f'tensor "{printable(self.name)}"'


@dataclass(frozen=True)
class TfliteOperator:
    """One operator of the file, at `position` in the order of execution.

    `code` is the built-in name or "CUSTOM", `custom_name` that of a custom operator. `inputs` are tensor indices,
    -1 for one left out. `options` is empty where the file gives none.
    """

    position: int
    code: str
    custom_name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Option]

    @property
    def kind(self) -> str:
        """The name of the operator for registries and messages; custom operators carry their own after a colon."""
        return f"CUSTOM:{self.custom_name}" if self.code == "CUSTOM" else self.code

    def __str__(self) -> str:
        return f"operator {self.position} ({printable(self.kind)})"


@dataclass(frozen=True)
class TfliteModel:
    """A whole file: tensors and operators (in order of execution) of its first subgraph, and the names of all."""

    file: str
    version: int
    description: str
    subgraphs: tuple[str, ...]
    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
