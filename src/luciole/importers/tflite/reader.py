"""Bytes of a .tflite file -> `TfliteModel`. Every number of the file is checked before it is used.

Damage to the structure (an offset out of the file) ends the reading at once, for nothing behind it can be trusted.
Problems of single tensors and operators are collected and raised together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from luciole.errors import EXIT_UNSUPPORTED, EXIT_USER, CompileError, Diagnostics, Location, printable
from luciole.importers.tflite import schema
from luciole.importers.tflite.check import check_dataflow, raise_problems
from luciole.importers.tflite.flatbuffer import FlatBuffer, Table
from luciole.importers.tflite.model import DTYPES, Option, TfliteModel, TfliteOperator, TfliteTensor
from luciole.ir.quant import Quant
from luciole.ir.types import MAXIMUM_ELEMENTS, Array, Shape

#: Bounds on what a file may hold; real models stay a hundredfold below, and reading stays a matter of seconds.
MAXIMUM_OPERATORS = 50_000
MAXIMUM_TENSORS = 200_000
MAXIMUM_SUBGRAPHS = 10_000
MAXIMUM_INPUTS = 4096  # and as many outputs
MAXIMUM_RANK = 8

#: Types of constants that numpy can hold, by the file's name for them.
_NUMPY_TYPES = {name: dtype.numpy for name, dtype in DTYPES.items()} | {
    "FLOAT16": np.dtype(np.float16),
    "FLOAT64": np.dtype(np.float64),
}


def is_tflite(data: bytes) -> bool:
    """Whether the first bytes of a file carry the identifier of TFLite."""
    return data[4:8] == schema.IDENTIFIER


def parse_model(data: bytes, file: str) -> TfliteModel:
    """The model in `data`, the content of the file that errors call `file`.

    Of several subgraphs the first is read. Raises `CompileError`: with exit code 1 when the file is broken, with 2
    when it is beyond the limits above or of another version of the schema.
    """
    if not is_tflite(data):
        raise CompileError.of(
            "not-tflite",
            f"the file is not a TFLite model: bytes 4 to 8 are {data[4:8]!r}, not {schema.IDENTIFIER!r}",
            Location(file),
            help="give a .tflite file as the TensorFlow Lite converter writes it",
        )
    reading = _Reading(FlatBuffer(data, file), Diagnostics())
    model = reading.model()
    if not reading.diagnostics:
        check_dataflow(model, reading.diagnostics)
    raise_problems(reading.diagnostics)
    return model


@dataclass
class _Reading:
    """The state of reading one file: its bytes, the problems so far, and what is shared among its tensors."""

    buffer: FlatBuffer
    diagnostics: Diagnostics
    spans: list[tuple[int, int]] = field(default_factory=list)
    views: dict[tuple[int, str], Array] = field(default_factory=dict)

    def problem(self, code: str, message: str, *, help: str = "", unsupported: bool = False) -> None:
        """Remember a problem that does not prevent reading on."""
        exit_code = EXIT_UNSUPPORTED if unsupported else EXIT_USER
        self.diagnostics.add(code, message, self.buffer.location, help=help, exit_code=exit_code)

    def model(self) -> TfliteModel:
        """The model, read from the root table."""
        root = self.buffer.root()
        version = root.integer(schema.ModelField.VERSION, "u32", "version")
        if version != schema.SCHEMA_VERSION:
            self.problem(
                "unsupported-version",
                f"the model has schema version {version}; version {schema.SCHEMA_VERSION} is supported",
                unsupported=True,
            )
        codes = root.tables(schema.ModelField.OPERATOR_CODES, "operator_codes", MAXIMUM_OPERATORS)
        subgraphs = root.tables(schema.ModelField.SUBGRAPHS, "subgraphs", MAXIMUM_SUBGRAPHS)
        buffers = root.tables(schema.ModelField.BUFFERS, "buffers", 2 * MAXIMUM_TENSORS)
        if not subgraphs:
            raise CompileError.of("empty-model", "the model has no subgraph", self.buffer.location)
        self.spans = [self._buffer_span(table) for table in buffers]
        graph = subgraphs[0]
        tensor_tables = graph.tables(schema.SubGraphField.TENSORS, "tensors", MAXIMUM_TENSORS)
        tensors = self._tensors(tensor_tables)
        operators = [
            self._operator(position, table, codes, len(tensors))
            for position, table in enumerate(
                graph.tables(schema.SubGraphField.OPERATORS, "operators", MAXIMUM_OPERATORS)
            )
        ]
        return TfliteModel(
            file=self.buffer.location.file,
            version=version,
            subgraphs=tuple(s.text(schema.SubGraphField.NAME, "name") or str(i) for i, s in enumerate(subgraphs)),
            description=root.text(schema.ModelField.DESCRIPTION, "description"),
            tensors=tuple(tensors),
            operators=tuple(operators),
            inputs=self._ends(graph, schema.SubGraphField.INPUTS, "inputs", len(tensors)),
            outputs=self._ends(graph, schema.SubGraphField.OUTPUTS, "outputs", len(tensors)),
        )

    def _buffer_span(self, table: Table) -> tuple[int, int]:
        """Position and length of a buffer's bytes: a vector or, in very large files, a place behind the tables."""
        start, length = table.span(schema.BufferField.DATA, "data")
        offset = table.integer(schema.BufferField.OFFSET, "u64", "offset")
        if length or offset <= 1:  # writers put 1 where the real offset is still to be filled in
            return start, length
        size = table.integer(schema.BufferField.SIZE, "u64", "size")
        if offset + size > len(self.buffer.data):
            raise self.buffer.error(
                f"{table.path}.offset", f"points to bytes {offset}..{offset + size}, behind the end"
            )
        return offset, size

    def _tensors(self, tables: Sequence[Table]) -> list[TfliteTensor]:
        """The tensors, with names made unique: a name that stands already gets the suffix _1, _2..."""
        originals = [table.text(schema.TensorField.NAME, "name") for table in tables]
        taken = set(originals)
        seen: set[str] = set()
        suffixes: dict[str, int] = {}
        tensors = []
        for index, (table, original) in enumerate(zip(tables, originals, strict=True)):
            name = base = original or f"tensor_{index}"
            while name in seen or (name in taken and name != original):
                suffixes[base] = suffixes.get(base, 0) + 1
                name = f"{base}_{suffixes[base]}"
            seen.add(name)
            tensors.append(self._tensor(index, table, name, original))
        return tensors

    def _tensor(self, index: int, table: Table, name: str, original: str) -> TfliteTensor:
        """One tensor; shape, quantization and data are checked against each other."""
        label = f'tensor "{printable(name)}"'
        type_number = table.integer(schema.TensorField.TYPE, "i8", "type")
        if not 0 <= type_number < len(schema.TENSOR_TYPES):
            self.problem("malformed-tensor", f"{label} has element type {type_number}, which TFLite does not define")
            type_number = 0
        type_name = schema.TENSOR_TYPES[type_number]
        shape = self._shape(table, schema.TensorField.SHAPE, "shape", label)
        signature = self._shape(table, schema.TensorField.SHAPE_SIGNATURE, "shape_signature", label)
        is_static = all(size >= 0 for size in shape)
        if math.prod(shape) > MAXIMUM_ELEMENTS:
            sizes = ",".join(map(str, shape))
            self.problem(
                "too-large",
                f"{label} of shape [{sizes}] has {math.prod(shape)} elements; the limit is {MAXIMUM_ELEMENTS}",
                unsupported=True,
            )
            is_static = False
        buffer_index = table.integer(schema.TensorField.BUFFER, "u32", "buffer")
        if buffer_index >= max(len(self.spans), 1):
            self.problem(
                "malformed-tensor",
                f"{label} refers to buffer {buffer_index}, but the file has {len(self.spans)} buffers",
            )
            buffer_index = 0
        is_sparse = table.has(schema.TensorField.SPARSITY)
        is_constant = buffer_index > 0 and self.spans[buffer_index][1] > 0
        readable = is_static and is_constant and not is_sparse
        return TfliteTensor(
            index=index,
            name=name,
            original_name=original,
            type_name=type_name,
            shape=shape,
            signature=signature or None,
            quant=self._quantization(table, type_name, shape, label) if is_static else None,
            is_constant=is_constant,
            data=self._data(buffer_index, type_name, shape, label) if readable else None,
            is_variable=bool(table.scalar(schema.TensorField.IS_VARIABLE, "bool", "is_variable", False)),
            is_sparse=is_sparse,
        )

    def _shape(self, table: Table, slot: int, name: str, label: str) -> Shape:
        """A shape or signature; -1 stands for an open size, everything else below 0 is an error."""
        sizes = table.numbers(slot, np.int32, name)
        if sizes is None:
            return ()
        if len(sizes) > MAXIMUM_RANK:
            self.problem(
                "too-large", f"{label} has {len(sizes)} dimensions; the limit is {MAXIMUM_RANK}", unsupported=True
            )
            return ()
        shape = tuple(int(size) for size in sizes.tolist())
        if any(size < -1 for size in shape):
            self.problem(
                "malformed-tensor", f"{label} has the {name} [{','.join(map(str, shape))}] with a negative size"
            )
            return tuple(max(size, -1) for size in shape)
        return shape

    def _data(self, buffer_index: int, type_name: str, shape: Shape, label: str) -> Array | None:
        """The values of a constant as a read-only view of the file; None for types without a numpy form."""
        dtype = _NUMPY_TYPES.get(type_name)
        if dtype is None:
            return None
        start, length = self.spans[buffer_index]
        expected = math.prod(shape) * dtype.itemsize
        if length != expected:
            self.problem(
                "malformed-tensor",
                f"{label} of type {type_name} and shape [{','.join(map(str, shape))}] needs {expected} bytes of data, "
                f"buffer {buffer_index} has {length}",
            )
            return None
        key = (buffer_index, type_name)
        if key not in self.views:
            self.views[key] = self._view(start, length, dtype, label)
        return self.views[key].reshape(shape)

    def _view(self, start: int, length: int, dtype: np.dtype[np.generic], label: str) -> Array:
        """Bytes of the file as numbers of the machine's byte order, read-only."""
        stored = np.uint8 if dtype == np.bool_ else dtype.newbyteorder("<")
        view = np.frombuffer(self.buffer.data, stored, length // dtype.itemsize, start)
        if dtype == np.bool_ and view.size and int(view.max()) > 1:
            self.problem("malformed-tensor", f"{label} of type BOOL has values other than 0 and 1")
            view = np.minimum(view, 1)
        values = view.astype(dtype, copy=not view.flags.aligned)
        values.flags.writeable = False
        return values

    def _quantization(self, tensor: Table, type_name: str, shape: Shape, label: str) -> Quant | None:
        """The quantization parameters of a tensor of integers; None where there are none."""
        table = tensor.table(schema.TensorField.QUANTIZATION, "quantization")
        if table is None or type_name not in DTYPES or not DTYPES[type_name].is_integer:
            return None
        if table.integer(schema.QuantizationField.DETAILS_TYPE, "u8", "details_type"):
            self.problem("unsupported-quantization", f"{label} has a custom quantization", unsupported=True)
            return None
        scales = table.numbers(schema.QuantizationField.SCALE, np.float32, "scale")
        zero_points = table.numbers(schema.QuantizationField.ZERO_POINT, np.int64, "zero_point")
        if scales is None or not len(scales):
            return None
        if zero_points is None or not len(zero_points):
            zero_points = np.zeros(len(scales), np.int64)
        axis = table.integer(schema.QuantizationField.QUANTIZED_DIMENSION, "i32", "quantized_dimension")
        lowest, highest = DTYPES[type_name].limits
        is_in_range = (zero_points >= lowest) & (zero_points <= highest)
        if len(scales) != len(zero_points):
            message = f"has {len(scales)} scales but {len(zero_points)} zero points"
        elif not np.all(np.isfinite(scales) & (scales > 0)):
            worst = scales[~(np.isfinite(scales) & (scales > 0))][0]
            message = f"has the scale {worst}; scales must be positive and finite"
        elif not np.all(is_in_range):
            message = f"has the zero point {zero_points[~is_in_range][0]}, outside of {type_name}"
        elif len(scales) > 1 and not 0 <= axis < len(shape):
            message = f"is quantized along dimension {axis}, but has {len(shape)} dimensions"
        elif len(scales) > 1 and shape[axis] != len(scales):
            message = f"has {len(scales)} scales along dimension {axis}, which has size {shape[axis]}"
        else:
            return Quant(tuple(scales.tolist()), tuple(zero_points.tolist()), axis if len(scales) > 1 else 0)
        self.problem("malformed-quantization", f"{label} {message}")
        return None

    def _operator(self, position: int, table: Table, codes: Sequence[Table], tensor_count: int) -> TfliteOperator:
        """One operator with its options."""
        code_index = table.integer(schema.OperatorField.OPCODE_INDEX, "u32", "opcode_index")
        if code_index >= len(codes):
            raise CompileError.of(
                "malformed-operator",
                f"operator {position} refers to operator code {code_index}, but the file has {len(codes)}",
                self.buffer.location,
            )
        code_table = codes[code_index]
        number = max(
            code_table.integer(schema.OperatorCodeField.BUILTIN_CODE, "i32", "builtin_code"),
            code_table.integer(schema.OperatorCodeField.DEPRECATED_BUILTIN_CODE, "i8", "deprecated_builtin_code"),
        )
        code = schema.OPERATORS[number] if 0 <= number < len(schema.OPERATORS) else f"BUILTIN_{number}"
        return TfliteOperator(
            position=position,
            code=code,
            custom_name=code_table.text(schema.OperatorCodeField.CUSTOM_CODE, "custom_code")
            if code == "CUSTOM"
            else "",
            version=code_table.integer(schema.OperatorCodeField.VERSION, "i32", "version", 1),
            inputs=self._indices(table, schema.OperatorField.INPUTS, "inputs", tensor_count, lowest=-1),
            outputs=self._indices(table, schema.OperatorField.OUTPUTS, "outputs", tensor_count),
            options=self._options(table),
        )

    def _indices(self, table: Table, slot: int, name: str, tensor_count: int, lowest: int = 0) -> tuple[int, ...]:
        """A vector of tensor indices."""
        numbers = table.numbers(slot, np.int32, name)
        indices = () if numbers is None else tuple(int(i) for i in numbers.tolist())
        for index in indices:
            if not lowest <= index < tensor_count:
                raise CompileError.of(
                    "malformed-operator",
                    f"{table.path}.{name} refers to tensor {index}, but the file has {tensor_count} tensors",
                    self.buffer.location,
                )
        return indices

    def _ends(self, graph: Table, slot: int, name: str, tensor_count: int) -> tuple[int, ...]:
        """The inputs or outputs of the model."""
        indices = self._indices(graph, slot, name, tensor_count)
        if len(indices) > MAXIMUM_INPUTS:
            message = f"the model has {len(indices)} {name}; the limit is {MAXIMUM_INPUTS}"
            raise CompileError.of("too-large", message, self.buffer.location, exit_code=EXIT_UNSUPPORTED)
        return indices

    def _options(self, operator: Table) -> Mapping[str, Option]:
        """The options of an operator by name; empty where it has none, or a table of options without fields."""
        union = operator.integer(schema.OperatorField.BUILTIN_OPTIONS_TYPE, "u8", "builtin_options_type")
        fields = schema.OPTIONS.get(union)
        if fields is None:
            return {}
        table = operator.table(schema.OperatorField.BUILTIN_OPTIONS, "builtin_options")
        if table is None:
            return {}
        options: dict[str, Option] = {}
        for slot, declaration in enumerate(fields.split()):
            if declaration != "-":
                name, _, kind = declaration.partition(":")
                kind, _, default = kind.partition("=")
                options[name] = self._option(table, slot, name, kind, default)
        return options

    def _option(self, table: Table, slot: int, name: str, kind: str, default: str) -> Option:
        """One option of the kind that the schema declares."""
        if kind == "string":
            return table.text(slot, name)
        if kind.endswith("[]"):
            vector = table.numbers(slot, {"i32[]": np.int32, "f32[]": np.float32}[kind], name)
            return () if vector is None else tuple(vector.tolist())
        if kind in schema.ENUMERATIONS:
            names = schema.ENUMERATIONS[kind]
            number = table.integer(slot, "i8", name, int(default or 0))
            return names[number] if 0 <= number < len(names) else f"{number}"
        if kind == "bool":
            return bool(table.scalar(slot, kind, name, default == "True"))
        if kind == "f32":
            return float(table.scalar(slot, kind, name, 0.0))
        return table.integer(slot, kind, name, int(default or 0))
