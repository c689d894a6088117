"""Operators by hand-scheduled recipes: in the kernel interpreter, as C on this machine, on an emulated core."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.graph.core import Operator
from luciole.graph.interpret import compute_operator
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ir.types import Array
from luciole.kernel.interpret import run_kernel
from luciole.kernel.text import parse_kernel, print_kernel
from luciole.kernel.verify import verify_kernel
from luciole.lower.schedule import scheduled
from luciole.targets.base import BoundKernel, KernelRecipe, build_kernel
from support.native_c import call_kernel, compile_c, kernels_source
from support.operator_samples import assert_nearly_equal

#: No kernel may need more bytes of stack.
STACK_LIMIT = 1024


@dataclass(frozen=True, eq=False)
class RecipeCase:
    """An operator with the data of its activations, and the recipe that computes it."""

    op: Operator
    samples: Samples
    recipe: KernelRecipe

    @cached_property
    def bound(self) -> BoundKernel:
        """The recipe's kernel; the recipe must apply."""
        assert self.recipe.applies(self.op) == "", f"{self.op}"
        return build_kernel(self.op, self.recipe)

    @cached_property
    def expected(self) -> Array:
        """The result by the operator's meaning in numpy."""
        values = dict(self.samples.arrays) | {v: v.data for v in self.op.operands if v.data is not None}
        (result,) = compute_operator(self.op, values)
        return result

    @cached_property
    def buffers(self) -> dict[str, Array]:
        """The kernel's inputs by name, in the shapes that it sees."""
        given = {name: self.samples.arrays[value] for name, value in self.bound.activations}
        given |= dict(self.bound.constants)
        parameters = self.bound.kernel.parameters
        return {p.name: np.asarray(given[p.name], order="C").reshape(p.shape) for p in parameters if p.name in given}

    def check(self, got: Array, where: str) -> None:
        """Assert that a result has the bits of `expected`; sums of floats are nearly the same."""
        if got.dtype == np.float32:
            assert_nearly_equal(got.reshape(self.expected.shape), self.expected, tolerance=3e-6)
            return
        assert np.array_equal(got.reshape(self.expected.shape), self.expected), f"{where}: {self.op}"


def check_interpreted(cases: Sequence[RecipeCase], target: str = "x86-64") -> None:
    """Verify each kernel as the target runs it, its text too, and run it in the interpreter, which checks every access
    and shift.
    """
    for case in cases:
        kernel = scheduled(case.bound.kernel, find_target(target))
        verify_kernel(kernel)
        assert parse_kernel(print_kernel(kernel)) == kernel
        case.check(run_kernel(kernel, case.buffers)["y"], f"interpreted for {target}")


def check_as_c(cases: Sequence[RecipeCase], directory: Path, target: str = "x86-64") -> None:
    """Compile all kernels, as the target runs them, as one C file with gcc, and run them on this machine."""
    source = kernels_source([scheduled(case.bound.kernel, find_target(target)) for case in cases])
    library = ctypes.CDLL(str(compile_c(source, directory, "gcc", ["-O1", "-shared", "-fPIC"])))
    for i, case in enumerate(cases):
        case.check(call_kernel(library, f"kernel_{i}", case.bound.kernel, case.buffers, {})["y"], "C")


def measure_emulated(cases: Sequence[RecipeCase], core: str = "cortex-m4") -> list[int]:
    """Run every kernel on an emulated core, compare its result, and return the executed instructions of each."""
    return [_measure(case, core) for case in cases]


def _measure(case: RecipeCase, core: str) -> int:
    target = find_target(core)
    kernel = scheduled(case.bound.kernel, target)
    module = LlvmModule(print_kernel_llvm(kernel, "kernel", target, section=".text.kernel"), not kernel.is_scheduled)
    machine = EmulatedMachine(compile_object([module], target), find_core(core))
    addresses = {}
    for parameter in kernel.parameters:
        size = int(np.prod(parameter.shape)) * parameter.dtype.size_bytes
        addresses[parameter.name] = machine.allocate(size, max(parameter.alignment, 4), parameter.name)
        if parameter.name in case.buffers:
            machine.write(addresses[parameter.name], np.ascontiguousarray(case.buffers[parameter.name]).tobytes())
        elif parameter.kind == "workspace":
            machine.write(addresses[parameter.name], b"\xa5" * size)
    measured = machine.measure("kernel", *addresses.values())
    assert measured.stack_bytes <= STACK_LIMIT
    machine.check_guards()
    got = np.frombuffer(machine.read(addresses["y"], case.expected.nbytes), case.expected.dtype)
    case.check(got, core)
    return measured.instructions
