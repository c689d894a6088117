"""Many operators as one program on an emulated Cortex-M55, one start of QEMU for all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
import pytest

from luciole.bundle.objects import build_object
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.emulate.qemu import QemuBundle
from luciole.ir.target import find_target
from luciole.lower.schedule import schedule_kernels
from support.operator_samples import joined
from support.program_checks import build
from support.recipe_cases import RecipeCase

CORE = "cortex-m55"


def measure_vectors(cases: Sequence[RecipeCase]) -> list[int]:
    """Check every operator's result by the kernel that the core takes, and return the executed instructions of each."""
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    graph, arrays = joined((case.op, case.samples) for case in cases)
    target = find_target(CORE)
    program = schedule_kernels(build(graph, CORE), target)
    inputs = tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in program.inputs())
    outputs = tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in program.outputs())
    interface = BundleInterface("net", program.arena.size_bytes, program.arena.alignment, inputs, outputs)
    bundle = QemuBundle(build_object(program, "net", target), find_core(CORE), interface)
    result = bundle.run([array.tobytes() for array in arrays], measure=True)
    for case, got, call in zip(cases, result.outputs, result.calls, strict=True):
        case.check(np.frombuffer(got, np.int8), call.symbol)
        assert case.recipe.name in call.symbol
    return [call.instructions for call in result.calls]
