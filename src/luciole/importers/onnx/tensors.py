"""Tensors of an ONNX file -> numpy arrays. Types, sizes and bytes are checked before anything is allocated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Location, printable
from luciole.importers.onnx.external import read_external
from luciole.ir.types import MAXIMUM_ELEMENTS, Array, DType

MAXIMUM_RANK = 8

#: Element types by ONNX's number: ONNX's name, numpy's type, and the field that holds values where `raw_data` does not.
#: (onnx.proto, message TensorProto.)
ELEMENT_TYPES: dict[int, tuple[str, np.dtype[np.generic] | None, str]] = {
    1: ("FLOAT", np.dtype(np.float32), "float_data"),
    2: ("UINT8", np.dtype(np.uint8), "int32_data"),
    3: ("INT8", np.dtype(np.int8), "int32_data"),
    4: ("UINT16", np.dtype(np.uint16), "int32_data"),
    5: ("INT16", np.dtype(np.int16), "int32_data"),
    6: ("INT32", np.dtype(np.int32), "int32_data"),
    7: ("INT64", np.dtype(np.int64), "int64_data"),
    8: ("STRING", None, ""),
    9: ("BOOL", np.dtype(np.bool_), "int32_data"),
    10: ("FLOAT16", np.dtype(np.float16), "int32_data"),
    11: ("DOUBLE", np.dtype(np.float64), "double_data"),
    12: ("UINT32", np.dtype(np.uint32), "uint64_data"),
    13: ("UINT64", np.dtype(np.uint64), "uint64_data"),
    14: ("COMPLEX64", None, ""),
    15: ("COMPLEX128", None, ""),
    16: ("BFLOAT16", None, ""),
}

#: Numpy's names of the element types that tensors of a graph may have.
GRAPH_TYPES = frozenset(dtype.numpy.name for dtype in DType if dtype not in (DType.INDEX, DType.POINTER))

_DATA_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")

#: Where a tensor says that its data are in another file. (onnx.proto, `TensorProto.DataLocation`.)
EXTERNAL = 1


def text_of(data: str | bytes) -> str:
    """A string of the file, readable whatever its bytes are: protobuf gives those that are no UTF-8 as bytes."""
    return data if isinstance(data, str) else data.decode("utf-8", "backslashreplace")


def element_name(number: int) -> str:
    """ONNX's name of an element type."""
    return ELEMENT_TYPES[number][0] if number in ELEMENT_TYPES else f"type {number}"


def read_tensor(tensor: Any, name: str, folder: Path | None, location: Location) -> Array:
    """The values of a `TensorProto`, read-only. Raises `CompileError` for types numpy lacks and contradicting sizes."""
    label = f'tensor "{printable(name)}"'

    def malformed(problem: str) -> CompileError:
        return CompileError.of("malformed-tensor", f"{label} {problem}", location)

    title, dtype, field = ELEMENT_TYPES.get(tensor.data_type, (element_name(tensor.data_type), None, ""))
    if dtype is None:
        raise CompileError.of(
            "unsupported-type",
            f"{label} has element type {title}",
            location,
            help="supported are FLOAT, FLOAT16, DOUBLE, BOOL and integers",
            exit_code=EXIT_UNSUPPORTED,
        )
    shape = tuple(tensor.dims)
    if len(shape) > MAXIMUM_RANK:
        raise malformed(f"has {len(shape)} dimensions; the limit is {MAXIMUM_RANK}")
    if min(shape, default=0) < 0:
        raise malformed(f"has the shape {list(shape)} with a negative size")
    count = math.prod(shape)
    if count > MAXIMUM_ELEMENTS:
        raise malformed(f"of shape {list(shape)} has {count} elements; the limit is {MAXIMUM_ELEMENTS}")
    if tensor.HasField("segment"):
        raise malformed("is stored in segments, which ONNX does not define any more")
    filled = [f for f in _DATA_FIELDS if len(getattr(tensor, f))]
    is_external = tensor.data_location == EXTERNAL
    if len(filled) + is_external + bool(tensor.raw_data) > 1:
        raise malformed("has data in more than one place")
    needed = count * dtype.itemsize
    if is_external:
        entries = {text_of(entry.key): text_of(entry.value) for entry in tensor.external_data}
        return _from_bytes(read_external(folder, entries, needed, label, location), dtype, shape, malformed)
    if tensor.raw_data or not filled:
        if len(tensor.raw_data) != needed:
            raise malformed(f"of shape {list(shape)} needs {needed} bytes of data, the file has {len(tensor.raw_data)}")
        return _from_bytes(tensor.raw_data, dtype, shape, malformed)
    if filled != [field]:
        raise malformed(f"of element type {title} has its values in {filled[0]}")
    values = getattr(tensor, field)
    if len(values) != count:
        raise malformed(f"of shape {list(shape)} needs {count} values, the file has {len(values)}")
    return _frozen(_from_numbers(values, dtype, malformed).reshape(shape))


def _from_numbers(values: Any, dtype: np.dtype[np.generic], malformed: Any) -> Array:
    """Values that the file holds one by one, in a field that may be wider than their type."""
    if dtype == np.float16:  # their bits, as numbers of 16 bits
        wide: Array = np.array(values, np.int64)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise malformed("has half floats that do not fit into 16 bits")
        return wide.astype(np.uint16).view(np.float16)
    if dtype.kind == "f":
        return np.array(values, dtype)
    wide = np.array(values, np.uint64 if dtype == np.uint64 else np.int64 if dtype != np.uint32 else np.uint64)
    low, high = (0, 1) if dtype == np.bool_ else DType.of(np.empty(0, dtype)).limits
    if int(wide.min()) < low or int(wide.max()) > high:
        raise malformed(f"has values outside of {dtype.name}")
    return wide.astype(dtype)


def _from_bytes(data: bytes, dtype: np.dtype[np.generic], shape: tuple[int, ...], malformed: Any) -> Array:
    stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("<")
    values = np.frombuffer(data, stored)
    if dtype == np.bool_ and values.size and int(values.max()) > 1:
        raise malformed("of type BOOL has values other than 0 and 1")
    return _frozen(values.astype(dtype).reshape(shape))


def _frozen(values: Array) -> Array:
    values.flags.writeable = False
    return values
