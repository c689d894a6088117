"""One kernel alone on an emulated core."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.emulate.cores import find_core
from luciole.emulate.result import Measurement
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.ir.target import Target
from luciole.ir.types import Array
from luciole.kernel.core import Kernel
from luciole.lower.schedule import scheduled


def measure_kernel(kernel: Kernel, target: Target, buffers: Mapping[str, Array]) -> tuple[Measurement, bytes]:
    """What a kernel costs on the emulated core of a target, given its inputs, and the bytes of its first result."""
    kernel = scheduled(kernel, target)
    text = print_kernel_llvm(kernel, "kernel", target, section=".text.kernel")
    code = compile_object([LlvmModule(text, optimize=not kernel.is_scheduled)], target)
    machine = EmulatedMachine(code, find_core(target.emulated_core))
    addresses: dict[str, int] = {}
    result, size = "", 0
    for parameter in kernel.parameters:
        bytes_ = int(np.prod(parameter.shape, dtype=np.int64)) * parameter.dtype.size_bytes
        addresses[parameter.name] = machine.allocate(bytes_, max(parameter.alignment, 4), parameter.name)
        if parameter.name in buffers:
            data = np.ascontiguousarray(buffers[parameter.name])
            machine.write(addresses[parameter.name], data.tobytes())
        elif parameter.kind == "out" and not result:
            result, size = parameter.name, bytes_
    measured = machine.measure("kernel", *addresses.values())
    return measured, machine.read(addresses[result], size)
