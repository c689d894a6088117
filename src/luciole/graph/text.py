"""The text form of graphs, and `.graph` files.

    graph digits
      source "digits.tflite"
      remark "quantized to int8: scheme affine"
      quant q0 = affine(scale=0.0235, zero=-128)
      quant q1 = affine(scale=@5b1c03aa, zero=0, axis=0)
      in %image: i8[1,8,8,1]:q0
      const %w: i8[16,3,3,1]:q1 = @9f2c41d0
      const %shape: i32[2] = [1, -1]
      %0: i8[1,8,8,16]:q0 = conv2d(%image, %w, none, pads=[1, 1, 1, 1], activation="relu")  @"conv_1"(CONV_2D)
      out %0 as "features"
    end

- One statement a line as printed; read back, line ends are blanks. `#` begins a comment.
- A name stands as it is when it has letters, digits and `_./;$-` only, else as a JSON string: `%"my tensor"`.
- A remark is a line for reports: what a pass did to the model.
- Operands come first, in the order of the class: `none` for an absent one before others, `[%a, %b]` for a tuple.
- Attributes are integers, floats, `true`, `false`, `none`, strings, element types, lists of those, and graphs in
  braces. A float is the shortest decimal that gives the same float32 number; one that is no float32 is hexadecimal.
- The operator's `quant` prints with its result's type; `@"node"(kind)` is the location, with `in "file"` unless the
  file is the one of the line `source`.
- A constant of at most 16 elements prints as a list, row by row, and a larger one as the hash of its content
  (`content_hash`, with a number appended where two contents of a graph share it). Per-channel scales and zero points
  do likewise, with a limit of 4.

Printing, parsing and printing again gives the same text. `save_graph` writes the text to `x.graph` and the arrays to
`x.npz`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from luciole.errors import CompileError, InternalError, Location
from luciole.graph.core import Graph, Operator, Value, content_hash
from luciole.graph.parse import MAXIMUM_TEXT_BYTES, parse_graph
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, TensorType

__all__ = [
    "GraphText",
    "array_reference",
    "array_text",
    "load_graph",
    "parse_graph",
    "print_graph",
    "read_npz",
    "read_text",
    "render_graph",
    "save_graph",
    "value_text",
    "word_text",
    "write_npz",
]

#: Constants and lists of scales up to these lengths stand in the text.
MAXIMUM_INLINE_ELEMENTS, MAXIMUM_INLINE_SCALES = 16, 4

#: Arrays of a `.npz` file may have this many bytes together.
MAXIMUM_ARRAY_BYTES = 4 << 30

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_./;$-]+")
_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class GraphText:
    """A graph as text, and the arrays that the text names by hash."""

    text: str
    arrays: dict[str, Array]


def print_graph(graph: Graph) -> str:
    """The graph as text, ending in a newline."""
    return render_graph(graph).text


def render_graph(graph: Graph) -> GraphText:
    """The graph as text, with the arrays that belong to it."""
    arrays: dict[str, Array] = {}
    lines = _GraphPrinter(graph, arrays).lines()
    return GraphText("\n".join(lines) + "\n", arrays)


@dataclass
class _GraphPrinter:
    graph: Graph
    arrays: dict[str, Array]
    quants: dict[Quant, str] = field(default_factory=dict)
    source: str = ""

    def lines(self) -> list[str]:
        graph = self.graph
        self.source = _common_file(graph.operators)
        body = [f"in {self.declaration(value)}" for value in graph.inputs]
        body += [f"const {self.declaration(value)} = {self.constant(value)}" for value in graph.constants]
        for op in graph.operators:
            body += self.operator(op)
        body += [f"out {_value(value)} as {_quoted(name)}" for name, value in graph.outputs]
        head = [f"source {_quoted(self.source)}"] if self.source else []
        head += [f"remark {_quoted(remark)}" for remark in graph.remarks]
        head += [f"quant {name} = {self.quant(quant)}" for quant, name in self.quants.items()]
        return [f"graph {word_text(graph.name)}", *("  " + line for line in head + body), "end"]

    def declaration(self, value: Value) -> str:
        return f"{_value(value)}: {self.type(value.type)}"

    def type(self, type: TensorType) -> str:
        text = f"{type.dtype.value}[{','.join(map(str, type.shape))}]"
        if type.quant is None:
            return text
        return f"{text}:{self.quants.setdefault(type.quant, f'q{len(self.quants)}')}"

    def quant(self, quant: Quant) -> str:
        parts = [f"scale={self.numbers(quant.scales, np.dtype(np.float32))}"]
        same_zero = len(set(quant.zero_points)) == 1
        zeros = quant.zero_points[:1] if same_zero else quant.zero_points
        parts.append(f"zero={self.numbers(zeros, np.dtype(np.int32))}")
        if quant.is_per_channel or quant.axis != 0:
            parts.append(f"axis={quant.axis}")
        return f"affine({', '.join(parts)})"

    def numbers(self, numbers: Sequence[float | int], dtype: np.dtype[np.generic]) -> str:
        if len(numbers) == 1:
            return attribute_text(numbers[0])
        if len(numbers) <= MAXIMUM_INLINE_SCALES:
            return attribute_text(tuple(numbers))
        return array_reference(np.array(numbers, dtype), self.arrays)

    def constant(self, value: Value) -> str:
        data = value.data
        if data is None:
            raise InternalError(f"constant {value!r} has no data")
        return array_text(data, self.arrays)

    def operator(self, op: Operator) -> list[str]:
        results = ", ".join(self.declaration(value) for value in self.graph.results(op))
        arguments = self.operands(op)
        lines = [f"{results} = {op.kind}("]
        for name, value in op.attributes().items():
            if not isinstance(value, Graph):
                arguments.append(f"{name}={attribute_text(value)}")
        lines[-1] += ", ".join(arguments)
        separator = ", " if arguments else ""
        for name, value in op.attributes().items():
            if isinstance(value, Graph):
                lines[-1] += f"{separator}{name}={{"
                lines += ["  " + line for line in _GraphPrinter(value, self.arrays).lines()]
                lines.append("}")
                separator = ", "
        lines[-1] += ")" + self.location(op.location)
        return lines

    def operands(self, op: Operator) -> list[str]:
        texts = []
        for name in op.operand_fields:
            operand = getattr(op, name)
            if isinstance(operand, tuple):
                texts.append(f"[{', '.join(map(_value, operand))}]")
            else:
                texts.append("none" if operand is None else _value(operand))
        while texts and texts[-1] == "none":
            texts.pop()
        return texts

    def location(self, location: Location) -> str:
        if not location:
            return ""
        kind = f"({word_text(location.kind)})" if location.kind else ""
        file = f" in {_quoted(location.file)}" if location.file != self.source else ""
        return f"  @{_quoted(location.node)}{kind}{file}"


def attribute_text(value: object) -> str:
    """An attribute as text. Raises `InternalError` for a value that the text form cannot hold."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, DType):
        return value.value
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(attribute_text, value))}]"
    raise InternalError(f"an attribute holds {value!r}, a {type(value).__name__}, which has no text form")


def array_text(data: Array, arrays: dict[str, Array]) -> str:
    """A constant as text: a list when it is short, else its name in `arrays`, where it is put."""
    if data.size <= MAXIMUM_INLINE_ELEMENTS and not (data.dtype.kind == "f" and np.isnan(data).any()):
        return attribute_text(tuple(data.reshape(-1).tolist()))
    return array_reference(data, arrays)


def array_reference(data: Array, arrays: dict[str, Array]) -> str:
    """The name of an array by its content, with the sign `@`; the array is put into `arrays`."""
    base = name = content_hash(data)
    number = 0
    while name in arrays and not _same_array(arrays[name], data):
        number += 1
        name = f"{base}.{number}"
    arrays[name] = data
    return f"@{name}"


def _float_text(value: float) -> str:
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.float32(value)
    if value != value or float(single) == value:
        return str(single)
    return float(value).hex()


def value_text(name: str) -> str:
    """The name of a value or buffer with the percent sign, in quotes where it needs them."""
    return "%" + (name if _PLAIN_NAME.fullmatch(name) else _quoted(name))


def _value(value: Value) -> str:
    return value_text(value.name)


def word_text(text: str) -> str:
    """A name that stands without a sign, in quotes where it needs them."""
    return text if _PLAIN_WORD.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text)


def _common_file(operators: Sequence[Operator]) -> str:
    """The file that most operators come from, the first of those where several do."""
    counts: dict[str, int] = {}
    for op in operators:
        if op.location.file:
            counts[op.location.file] = counts.get(op.location.file, 0) + 1
    return max(counts, key=lambda file: counts[file], default="")


def _same_array(first: Array, second: Array) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


# --- files ------------------------------------------------------------------------------------------------------------


def save_graph(graph: Graph, path: Path) -> None:
    """Write `path`, which ends in `.graph`, and the `.npz` beside it for large arrays; the same bytes every time."""
    rendered = render_graph(graph)
    path.write_text(rendered.text, encoding="utf-8", newline="\n")
    if rendered.arrays:
        path.with_suffix(".npz").write_bytes(write_npz(rendered.arrays))


def write_npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays as the bytes of a `.npz` file that depend on names and contents only: no times, no compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(
                member, np.ascontiguousarray(data).reshape(data.shape), (1, 0), allow_pickle=False
            )
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, member.getvalue())
    return buffer.getvalue()


def load_graph(path: Path) -> Graph:
    """Read a `.graph` file and the `.npz` beside it, if any. Raises `CompileError` for whatever is wrong with them."""
    text = read_text(path, "graph-file")
    arrays_path = path.with_suffix(".npz")
    arrays = read_npz(arrays_path, "graph-file") if arrays_path.is_file() else {}
    return parse_graph(text, arrays, str(path))


def read_text(path: Path, code: str) -> str:
    """The text of a file of ours. Raises `CompileError` of that code when there is none or it is too large."""
    try:
        if path.stat().st_size > MAXIMUM_TEXT_BYTES:
            raise CompileError.of(code, f"the file is larger than {MAXIMUM_TEXT_BYTES} bytes", Location(str(path)))
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError.of(code, f"cannot read the file: {error.strerror}", Location(str(path))) from None
    except UnicodeDecodeError:
        raise CompileError.of(code, "the file is not UTF-8 text", Location(str(path))) from None


def read_npz(path: Path, code: str) -> dict[str, Array]:
    """The arrays of a `.npz` file. Raises `CompileError` of that code for whatever is wrong with it."""

    def error(message: str) -> CompileError:
        return CompileError.of(code, message, Location(str(path)))

    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAXIMUM_ARRAY_BYTES:
                raise error(f"the arrays are larger than {MAXIMUM_ARRAY_BYTES} bytes")
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    arrays[entry.filename.removesuffix(".npy")] = _read_npy(archive.read(entry))
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as problem:
        raise error(f"not a file of numpy arrays: {problem}") from None
    return arrays


def _read_npy(data: bytes) -> Array:
    """One array of a `.npz` file, its header checked against its length first. Raises `ValueError`."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"version {version} of the array format")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("an array holds Python objects")
    elements = 1
    for size in shape:
        elements *= size
    if elements * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of shape {shape} has {len(data) - stream.tell()} bytes")
    array = np.frombuffer(data, dtype, count=elements, offset=stream.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")
