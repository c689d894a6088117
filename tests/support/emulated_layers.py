"""Many operators as one program on a core that QEMU emulates, one start for many."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from luciole.bundle.objects import build_object
from luciole.emulate.cores import EmulatedCore, find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.emulate.qemu import QemuBundle
from luciole.ir.target import find_target
from luciole.lower.schedule import schedule_kernels
from support.operator_samples import joined
from support.program_checks import build
from support.recipe_cases import RecipeCase

#: Layers of one program: the start-up code has room for so many.
BATCH = 20


def measure_layers(cases: Sequence[RecipeCase], core: str, cpu: str = "") -> list[int]:
    """Check every operator's result by the kernel that the core takes, and return the executed instructions of each;
    `cpu` is another processor for QEMU than the core's own.
    """
    emulated = find_core(core)
    machine = emulated.qemu
    assert machine is not None
    emulated = replace(emulated, qemu=replace(machine, cpu=cpu or machine.cpu))
    if shutil.which(machine.program) is None:
        pytest.skip(f"{machine.program} is not installed")
    return [n for first in range(0, len(cases), BATCH) for n in _measure(cases[first : first + BATCH], core, emulated)]


def _measure(cases: Sequence[RecipeCase], core: str, emulated: EmulatedCore) -> list[int]:
    graph, arrays = joined((case.op, case.samples) for case in cases)
    target = find_target(core)
    program = schedule_kernels(build(graph, core), target)
    inputs = tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in program.inputs())
    outputs = tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in program.outputs())
    interface = BundleInterface("net", program.arena.size_bytes, program.arena.alignment, inputs, outputs)
    bundle = QemuBundle(build_object(program, "net", target), emulated, interface)
    result = bundle.run([array.tobytes() for array in arrays], measure=True)
    for case, got, call in zip(cases, result.outputs, result.calls, strict=True):
        case.check(np.frombuffer(got, case.expected.dtype), call.symbol)
        assert f"_{case.recipe.name}_" in call.symbol
    return [call.instructions for call in result.calls]
