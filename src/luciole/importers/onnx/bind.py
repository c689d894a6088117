"""The inputs of an ONNX model with fixed shapes: names of sizes are bound to numbers that the user gives."""

from __future__ import annotations

import math
from collections.abc import Mapping

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Diagnostics, Location, printable
from luciole.importers.onnx.model import OnnxInput, OnnxModel
from luciole.importers.onnx.tensors import MAXIMUM_RANK
from luciole.ir.types import MAXIMUM_ELEMENTS, DType, TensorType

#: Element types that inputs may have.
_DTYPES = {dtype.numpy.name: dtype for dtype in DType if dtype not in (DType.INDEX, DType.POINTER)}


def bind_inputs(model: OnnxModel, dims: Mapping[str, int], diagnostics: Diagnostics) -> dict[str, TensorType]:
    """The types of the inputs, without those that are refused, whose problems are collected.

    `dims` gives a size for each name; a size without a name is called `input:axis`. Raises `CompileError` for a name
    that no input has.
    """
    names = dict.fromkeys(name for i in model.inputs for name in _open_sizes(i).values())
    if unknown := [name for name in dims if name not in names]:
        known = ", ".join(printable(name) for name in names) or "none, all sizes are fixed"
        raise CompileError.of(
            "bad-option", f'no size of the model is called "{printable(unknown[0])}"', help=f"open sizes are {known}"
        )
    types = {}
    for tensor in model.inputs:
        try:
            types[tensor.name] = _bound(tensor, dims, Location(model.file))
        except CompileError as error:
            diagnostics.extend(error)
    return types


def _open_sizes(tensor: OnnxInput) -> dict[int, str]:
    """The name of each size that is open, by axis."""
    sizes = tensor.shape or ()
    return {axis: size or f"{tensor.name}:{axis}" for axis, size in enumerate(sizes) if isinstance(size, str)}


def _bound(tensor: OnnxInput, dims: Mapping[str, int], location: Location) -> TensorType:
    """The type of an input. Raises `CompileError` where it has none."""
    label = f'input "{printable(tensor.name)}"'

    def error(code: str, message: str, help: str = "") -> CompileError:
        return CompileError.of(code, f"{label} {message}", location, help=help, exit_code=EXIT_UNSUPPORTED)

    if tensor.element not in _DTYPES:
        raise error("unsupported-type", f"is of element type {tensor.element}", "export the model as float32")
    if tensor.shape is None:
        raise error("open-shape", "has no shape", "export the model again with the shape of this input")
    open_sizes = _open_sizes(tensor)
    missing = [name for name in dict.fromkeys(open_sizes.values()) if name not in dims]
    if missing:
        sizes = ",".join(open_sizes.get(axis, str(size)) for axis, size in enumerate(tensor.shape))
        options = " ".join(f"--dim {printable(name)}=1" for name in missing)
        raise error(
            "open-shape", f"has the shape [{printable(sizes)}]: give a number for each name", f"as in {options}"
        )
    shape = tuple(dims[open_sizes[a]] if isinstance(s, str) else s for a, s in enumerate(tensor.shape))
    if len(shape) > MAXIMUM_RANK or min(shape, default=1) < 0 or math.prod(shape) > MAXIMUM_ELEMENTS:
        raise error("too-large", f"has the shape {list(shape)}")
    if 0 in shape:
        raise error("unsupported-empty", f"has the shape {list(shape)}, so it has no elements")
    return TensorType(_DTYPES[tensor.element], shape)
