"""The samples of all operators, with their data, results and kernels, for the generic tests."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Operator, Value
from luciole.graph.interpret import compute_operator
from luciole.graph.samples import Samples
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.core import Kernel
from luciole.lower.schedule import scheduled
from luciole.ops.catalog import load_operators
from luciole.ops.pool import AveragePool2d
from luciole.targets.base import BoundKernel, build_kernel
from support.random_kernels import equal_bits

#: Operators whose float results are sums, so that the order of additions shows in the last bits.
SUMMING = ("conv2d", "depthwise_conv2d", "fully_connected", "matmul", "average_pool2d", "mean", "softmax")
SUMMING += ("reduce_sum", "reduce_product", "rnn", "gru", "lstm")


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample of an operator. `name` is its kind, element type and number."""

    name: str
    op: Operator
    arrays: dict[Value, Array]

    @property
    def is_float(self) -> bool:
        """Whether floats are among operands or results, or decide what integers cannot, as in one operator."""
        types = [value.type for value in self.op.operands] + list(self.op.result_types())
        sums_floats = isinstance(self.op, AveragePool2d) and self.op.rounding == "onnx"
        return any(type.dtype.is_real for type in types) or sums_floats

    @property
    def is_long(self) -> bool:
        """Whether numbers of 64 bits are among operands or results."""
        types = [value.type for value in self.op.operands] + list(self.op.result_types())
        return any(type.dtype.bits == 64 for type in types)

    @property
    def is_double(self) -> bool:
        """Whether doubles are among operands or results, for which there is no code on many cores."""
        types = [value.type for value in self.op.operands] + list(self.op.result_types())
        return any(type.dtype is DType.F64 for type in types)

    @cached_property
    def expected(self) -> tuple[Array, ...]:
        """The results by the operator's meaning in numpy."""
        return compute_operator(self.op, self.arrays)

    @cached_property
    def bound(self) -> BoundKernel:
        """The generic kernel."""
        return build_kernel(self.op)

    def buffers(self, kernel: Kernel | None = None) -> dict[str, Array]:
        """The kernel's inputs by name, in the shapes that it sees."""
        given = {name: self.arrays[value] for name, value in self.bound.activations} | dict(self.bound.constants)
        parameters = (kernel or self.bound.kernel).parameters
        return {p.name: np.asarray(given[p.name], order="C").reshape(p.shape) for p in parameters if p.name in given}

    def check(self, results: dict[str, Array]) -> None:
        """Assert that results by name are the expected ones: equal bits, or nearly the same for sums of floats."""
        for name, want in zip(self.bound.results, self.expected, strict=True):
            got = results[name].reshape(want.shape)
            if self.op.kind in SUMMING and want.dtype.kind == "f":
                assert_nearly_equal(got, want)
            else:
                assert equal_bits(got, np.asarray(want, order="C")), f"{self.op}: {got} instead of {want}"


def assert_nearly_equal(got: Array, want: Array, tolerance: float = 1e-6) -> None:
    """Assert that floats differ by at most `tolerance` times the largest, and are not numbers at the same places."""
    assert np.array_equal(np.isnan(got), np.isnan(want)), f"{got} instead of {want}"
    largest = np.nanmax(np.abs(want[np.isfinite(want)]), initial=0.0)
    with np.errstate(invalid="ignore"):
        error = np.nanmax(np.where(got == want, 0.0, np.abs(got.astype(np.float64) - want)), initial=0.0)
    assert error <= tolerance * largest, f"{got} instead of {want}"


@cache
def samples() -> tuple[Sample, ...]:
    """All samples of all operators that have some."""
    found = []
    for kind, cls in load_operators().items():
        if not cls.__module__.startswith("luciole."):
            continue
        maker = Samples()
        for number, op in enumerate(cls.samples(maker)):
            constants = {value: value.data for value in op.operands if value.data is not None}
            dtype = (op.operands[0].type if op.operands else op.result_types()[0]).dtype.value
            found.append(Sample(f"{kind}-{dtype}-{number}", op, maker.arrays | constants))
    return tuple(found)


def compile_samples(chosen: tuple[Sample, ...], target: Target) -> bytes:
    """One object with the generic kernels as functions `kernel_0`, `kernel_1`, ... in order."""
    modules = []
    for number, sample in enumerate(chosen):
        kernel = scheduled(sample.bound.kernel, target)
        modules.append(LlvmModule(print_kernel_llvm(kernel, f"kernel_{number}", target)))
    return compile_object(modules, target)


def call_address(address: int, sample: Sample) -> dict[str, Array]:
    """Run a kernel loaded into this process; its results by name."""
    buffers = sample.buffers()
    memory: list[Array] = []
    results: dict[str, Array] = {}
    for parameter in sample.bound.kernel.parameters:
        if parameter.name in buffers:
            memory.append(buffers[parameter.name])
        else:
            memory.append(np.full(parameter.shape, 0x5A, parameter.dtype.numpy))
            results[parameter.name] = memory[-1]
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(memory))(address)
    function(*(array.ctypes.data for array in memory))
    return results


def integer_samples() -> tuple[Sample, ...]:
    """Samples without floats and without numbers of 64 bits."""
    return tuple(sample for sample in samples() if not sample.is_float and not sample.is_long)


def float_samples() -> tuple[Sample, ...]:
    """Samples with floats and without numbers of 64 bits."""
    return tuple(sample for sample in samples() if sample.is_float and not sample.is_long)


def long_samples(target: Target) -> tuple[Sample, ...]:
    """Samples with numbers of 64 bits that a target has code for: cores of 32 bits need support functions to convert
    and to divide long integers, and doubles need a unit of their own.
    """
    return tuple(s for s in samples() if s.is_long and (target.has("double") or not s.is_double))


def one_of_each(chosen: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """The first sample of each operator and element type."""
    first: dict[str, Sample] = {}
    for sample in chosen:
        first.setdefault(sample.name.rpartition("-")[0], sample)
    return tuple(first.values())


def dtypes_of(kind: str) -> set[DType]:
    """The element types that the samples of an operator have."""
    return {value.type.dtype for sample in samples() if sample.op.kind == kind for value in sample.op.operands} | {
        type.dtype for sample in samples() if sample.op.kind == kind for type in sample.op.result_types()
    }


def joined(operators: Iterable[tuple[Operator, Samples]]) -> tuple[Graph, list[Array]]:
    """One graph of many operators that have nothing to do with each other, with results `result0`, `result1`, ..., and
    the data of its inputs in order.
    """
    g, arrays = GraphBuilder("joined"), []
    for number, (op, samples) in enumerate(operators):
        values = {}
        for name, value in op.named_operands():
            if value.data is not None:
                values[name] = g.constant(value.data, value.type.quant)
            else:
                type = value.type
                values[name] = g.input(f"operator{number}_{name}", type.dtype, type.shape, type.quant)
                arrays.append(samples.arrays[value])
        g.output(f"result{number}", g.add(replace(op, **values)))
    return g.graph, arrays
