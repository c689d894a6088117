"""A C program that runs a bundle once on a known input and says whether the output is right, on a desk or on a
board.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luciole.bundle.glow import placeholder_macros
from luciole.bundle.header import ModelIdentity
from luciole.bundle.interface import Interface, Tensor
from luciole.bundle.templating import render
from luciole.emit.c_expressions import float_literal
from luciole.emit.entry_c import literals, wrapped
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.ir.types import Array, DType, TensorType

#: How far floats may be from the reference, in parts of the largest magnitude of the output: sums are ordered
#: differently.
FLOAT_TOLERANCE = 1e-4


#: How far half floats may be, in units of their last place: each operator rounds its result.
HALF_TOLERANCE = 4


@dataclass(frozen=True)
class Sample:
    """Inputs and the outputs that belong to them, in the order of the model."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


def make_sample(graph: Graph) -> Sample:
    """Arbitrary inputs, the same on every machine, and what the graph's reference makes of them."""
    inputs = {value.name: _arbitrary(value.type, index) for index, value in enumerate(graph.inputs)}
    outputs = run_graph(graph, inputs)
    return Sample(tuple(inputs.values()), tuple(outputs[name] for name, _ in graph.outputs))


def print_test_program(interface: Interface, model: ModelIdentity, sample: Sample) -> str:
    """The text of `<prefix>_test.c`. Integers have to be equal; floats may be off by `FLOAT_TOLERANCE`."""
    is_glow = interface.api == "glow"
    addresses = _glow_addresses(interface) if is_glow else _addresses(interface)
    return render(
        "bundle_test.c.j2",
        prefix=interface.prefix,
        upper=interface.prefix.upper(),
        interface=interface,
        original_name=model.original_name,
        is_glow=is_glow,
        inputs=[
            _tested(t, a, addresses[i], False)
            for i, (t, a) in enumerate(zip(interface.inputs, sample.inputs, strict=True))
        ],
        outputs=[
            _tested(t, a, addresses[len(interface.inputs) + i], True)
            for i, (t, a) in enumerate(zip(interface.outputs, sample.outputs, strict=True))
        ],
    )


@dataclass(frozen=True)
class _TestedTensor:
    """What the template needs of a tensor: its values as text, where it is, and how far off it may be (empty: not at
    all).
    """

    name: str
    c_type: str
    elements: int
    values: str
    address: str
    tolerance: str
    difference_type: str


def _tested(tensor: Tensor, data: Array, address: str, is_output: bool) -> _TestedTensor:
    tolerance = ""
    difference_type = tensor.c_type
    if is_output and tensor.dtype is DType.F16:
        tolerance, difference_type = str(HALF_TOLERANCE), "int32_t"
    elif is_output and tensor.dtype.is_float:
        finite = np.abs(data[np.isfinite(data)])
        largest = float(finite.max()) if finite.size else 0.0
        tolerance = float_literal(float(f"{FLOAT_TOLERANCE * max(largest, 1e-30):.3g}"), tensor.dtype)
        # Fewer digits than a float has, so that the last bits of this machine's sums do not show.
        data = np.array([float(f"{v:.6g}") for v in data.reshape(-1).tolist()], tensor.dtype.numpy)
    values = "\n".join(wrapped(literals(data), "    "))
    return _TestedTensor(tensor.name, tensor.c_type, tensor.elements, values, address, tolerance, difference_type)


def _addresses(interface: Interface) -> list[str]:
    return [f"{tensor.function}(&model)" for tensor in (*interface.inputs, *interface.outputs)]


def _glow_addresses(interface: Interface) -> list[str]:
    tensors = (*interface.inputs, *interface.outputs)
    return [
        f"({tensor.c_type} *)(void *)GLOW_GET_ADDR(mutable_weight, {macro})"
        for tensor, (macro, _) in zip(tensors, placeholder_macros(interface), strict=True)
    ]


def _arbitrary(type: TensorType, index: int) -> Array:
    """Numbers without a pattern, by Knuth's multiplicative hash, so that they depend on no library's generator."""
    counters = np.arange(1, type.elements + 1, dtype=np.uint64) + np.uint64(7919 * index)
    mixed = (counters * np.uint64(2654435761)) & np.uint64(0xFFFF_FFFF)
    if type.dtype.is_real:
        data: Array = (mixed.astype(np.float64) / 2.0**31 - 1.0).astype(type.dtype.numpy)
    elif type.dtype is DType.BOOL:
        data = mixed >= np.uint64(1 << 31)
    else:
        low, high = type.dtype.limits
        span = min(high - low + 1, 1 << 16)
        start = low if type.dtype.bits <= 16 else 0
        data = (start + (mixed >> np.uint64(16)).astype(np.int64) * span // (1 << 16)).astype(type.dtype.numpy)
    return data.reshape(type.shape)
