"""Kernels that differ in numbers made one: it computes what each of them did, on every path."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ir.types import Array
from luciole.kernel.core import Kernel
from luciole.kernel.interpret import run_kernel
from luciole.kernel.sharing import SharedKernel, share, template
from luciole.kernel.text import parse_kernel, print_kernel
from luciole.kernel.transform import expand_long_multiply
from luciole.kernel.verify import verify_kernel
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.base import GENERIC, alternatives
from support.native_c import call_kernel, compile_c, kernels_source
from support.operator_samples import integer_samples
from support.recipe_cases import RecipeCase

BEFORE = """\
kernel a(in x: i8[2,3], out y: i8[2,3])
  for i in 0..2
    for j in 0..3
      y[i, j] = x[i, j] + 5
end
"""
SHARED = """\
kernel both(in x: i8[28], out y: i8[28], number: i32, number_1: i32)
  derived: i32 = number * 2 + -1
  for i in 0..index(number)
    for j in 0..index(derived)
      y[i * index(derived) + j * 1] = x[i * index(derived) + j * 1] + i8(number_1)
end
"""


def test_numbers_become_scalars() -> None:
    other = BEFORE.replace("[2,3]", "[4,7]").replace("0..2", "0..4").replace("0..3", "0..7").replace("+ 5", "+ 6")
    shared = share([template(parse_kernel(BEFORE)), template(parse_kernel(other))], "both")
    assert print_kernel(shared.kernel) == SHARED
    assert shared.scalars == ((2, 5), (4, 6))
    assert parse_kernel(SHARED) == shared.kernel


def test_what_cannot_be_a_register_keeps_kernels_apart() -> None:
    text = BEFORE.replace("x[i, j] + 5", "x[i, j] / 5")
    first, second = (template(parse_kernel(text.replace("/ 5", f"/ {n}"))) for n in (5, 6))
    assert first.blank != second.blank
    with pytest.raises(ValueError, match="different templates"):
        share([first, second], "both")
    steps = [template(parse_kernel(BEFORE.replace("0..3", f"0..3 step {n}"))) for n in (1, 2)]
    assert steps[0].blank != steps[1].blank


class Shared:
    """Cases whose kernels are one."""

    def __init__(self, cases: Sequence[RecipeCase], expand: bool = False) -> None:
        self.cases = cases
        kernels = [expand_long_multiply(c.bound.kernel) if expand else c.bound.kernel for c in cases]
        found: SharedKernel = share([template(k) for k in kernels], "shared")
        verify_kernel(found.kernel)
        self.kernel = found.kernel
        names = [s.name for s in self.kernel.scalars]
        self.scalars = [dict(zip(names, values, strict=True)) for values in found.scalars]

    def parameters_of(self, case: RecipeCase) -> Kernel:
        """The shared kernel with vectors as long as those of one case."""
        flat = template(case.bound.kernel).kernel.parameters
        return replace(self.kernel, parameters=flat)

    def buffers(self, case: RecipeCase) -> dict[str, Array]:
        """The inputs of one case as vectors."""
        return {name: array.reshape(-1) for name, array in case.buffers.items()}


def groups(cases: Sequence[RecipeCase]) -> list[list[RecipeCase]]:
    """The cases whose kernels are equal but for numbers, two or more."""
    found: dict[Kernel, dict[str, RecipeCase]] = {}
    for case in cases:
        found.setdefault(template(case.bound.kernel).blank, {})[case.bound.kernel.name] = case
    return [list(group.values()) for group in found.values() if len(group) > 1]


def layers(core: str) -> list[RecipeCase]:
    """Convolutions, depthwise ones and fully connected layers of several sizes by all kernels that a core has."""
    operators: list[tuple[Operator, Samples]] = []
    for seed, (size, channels, outputs) in enumerate([((4, 6), 8, 6), ((3, 4), 12, 8), ((3, 6), 8, 10)]):
        s = Samples(seed)
        quant, x = s.quant(0.9, -128), s.i8(1, *size, channels, zero=-128)

        def weights(s: Samples, *shape: int) -> object:
            w = s.i8_weights(*shape, axis=0, scale=0.01)
            assert w.data is not None
            return s.constant((w.data // 3).astype(np.int8), w.type.quant)

        pads, bias = (1, 1, 1, 1), s.i32_bias(outputs)
        operators += [
            (Conv2d(x, weights(s, outputs, 3, 3, channels), bias, pads=pads, quant=quant), s),  # type: ignore[arg-type]  # a value
            (Conv2d(x, weights(s, outputs, 1, 1, channels), bias, quant=quant), s),  # type: ignore[arg-type]  # a value
            (
                DepthwiseConv2d(
                    x, s.i8_weights(1, 3, 3, channels, axis=3, scale=0.02), s.i32_bias(channels), pads=pads, quant=quant
                ),
                s,
            ),
            (FullyConnected(s.i8(1, 4 * channels), weights(s, outputs, 4 * channels), bias, quant=quant), s),  # type: ignore[arg-type]  # a value
        ]
    return [RecipeCase(op, s, a.recipe) for op, s in operators for a in alternatives(op, find_target(core))]


def test_generic_kernels_of_all_operators() -> None:
    cases = []
    for sample in integer_samples():
        made = Samples()
        made.arrays.update(sample.arrays)
        if len(sample.bound.results) == 1:
            cases.append(RecipeCase(sample.op, made, GENERIC))
    shared = [Shared(group) for group in groups(cases)]
    assert len({s.cases[0].op.kind for s in shared}) > 3
    for one in shared:
        for case, scalars in zip(one.cases, one.scalars, strict=True):
            lengths = {p.name: p.shape[0] for p in one.parameters_of(case).parameters}
            case.check(run_kernel(one.kernel, one.buffers(case), scalars, lengths=lengths)["y"], "interpreted")


@pytest.mark.parametrize("core", ["cortex-m4", "rv32imc", "cortex-m0plus"])
def test_scheduled_kernels(core: str, tmp_path: Path) -> None:
    target = find_target(core)
    shared = [Shared(group, expand=not target.has("long_multiply")) for group in groups(layers(core))]
    recipes = {one.cases[0].recipe.name for one in shared}
    assert recipes >= ({"generic", "hilo"} if core == "cortex-m4" else {"generic"})
    library = ctypes.CDLL(
        str(compile_c(kernels_source([one.kernel for one in shared]), tmp_path, "gcc", ["-O1", "-shared", "-fPIC"]))
    )
    modules = [
        LlvmModule(
            print_kernel_llvm(one.kernel, f"kernel_{i}", target, section=f".text.kernel_{i}"),
            not one.kernel.is_scheduled,
        )
        for i, one in enumerate(shared)
    ]
    code = compile_object(modules, target)
    for i, one in enumerate(shared):
        for case, scalars in zip(one.cases[:2], one.scalars[:2], strict=True):
            buffers = one.buffers(case)
            case.check(call_kernel(library, f"kernel_{i}", one.parameters_of(case), buffers, scalars)["y"], "C")
            machine = EmulatedMachine(code, find_core(core))
            addresses = {}
            for parameter in one.parameters_of(case).parameters:
                size = parameter.shape[0] * parameter.dtype.size_bytes
                addresses[parameter.name] = machine.allocate(size, max(parameter.alignment, 4), parameter.name)
                if parameter.name in buffers:
                    machine.write(addresses[parameter.name], np.ascontiguousarray(buffers[parameter.name]).tobytes())
            machine.measure(f"kernel_{i}", *addresses.values(), *(v & 0xFFFFFFFF for v in scalars.values()))
            machine.check_guards()
            got = np.frombuffer(machine.read(addresses["y"], case.expected.nbytes), case.expected.dtype)
            case.check(got, core)
