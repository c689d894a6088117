"""LLVM code gives the interpreter's bits: random kernels on this machine, the hard corners on emulated cores too."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, LoadedObject, compile_object
from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.ir.target import find_target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Kernel, Unary
from luciole.kernel.interpret import run_kernel
from luciole.kernel.transform import expand_long_multiply
from support.random_kernels import equal_bits, random_inputs, random_kernel
from unit.emit.test_c import KERNELS


def compiled(kernel: Kernel, target_name: str) -> bytes:
    target = find_target(target_name)
    text = print_kernel_llvm(kernel, "kernel", target, section=".text.kernel")
    return compile_object([LlvmModule(text, optimize=not kernel.is_scheduled)], target)


def inputs_of(kernel: Kernel, seed: int) -> tuple[dict[str, Array], dict[str, int]]:
    if kernel.name == "wrapping":
        low = np.iinfo(np.int32).min
        return {"a": np.array([low, low, 7, -7], np.int32), "b": np.array([-1, 3, -2, low], np.int32)}, {}
    return random_inputs(kernel, seed)


def check_native(kernel: Kernel, seed: int) -> None:
    buffers, scalars = inputs_of(kernel, seed)
    loaded = LoadedObject(compiled(kernel, "native"))
    arrays = {}
    for p in kernel.parameters:
        start = buffers.get(p.name)
        aligned = np.zeros(int(np.prod(p.shape)) * p.dtype.size_bytes + 64, np.uint8)
        offset = -aligned.ctypes.data % 64
        arrays[p.name] = aligned[offset : len(aligned) - 64 + offset].view(p.dtype.numpy).reshape(p.shape)
        if start is not None:
            arrays[p.name][...] = start
    types = [ctypes.c_void_p] * len(kernel.parameters) + [ctypes.c_int32] * len(kernel.scalars)
    addresses = [arrays[p.name].ctypes.data for p in kernel.parameters]
    ctypes.CFUNCTYPE(None, *types)(loaded.address("kernel"))(*addresses, *[scalars[s.name] for s in kernel.scalars])
    for name, expected in run_kernel(kernel, buffers, scalars).items():
        assert equal_bits(expected, arrays[name]), f"{kernel.name}: {name}"


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_machine_code_of_hand_written_kernels(kernel: Kernel) -> None:
    check_native(kernel, 1)


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_machine_code_of_random_kernels(first: int) -> None:
    for seed in range(first, first + 10):
        check_native(random_kernel(seed), seed)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "rv32imc", "rv32imafc", "cortex-a53"])
def test_roots_and_roundings_have_the_same_bits_on_every_core(core: str) -> None:
    k = LoopBuilder("roots")
    x, y = k.buffer("in", "x", DType.F32, (64,)), k.buffer("out", "y", DType.F32, (4, 64))
    with k.loop("i", 64) as i:
        y[0, i] = Unary("sqrt", x[i])
        y[1, i] = Unary("floor", x[i])
        y[2, i] = Unary("round_even", x[i])
        y[3, i] = Unary("abs", x[i])
    kernel = k.build()
    bits = np.random.default_rng(3).integers(0, 1 << 31, 64, dtype=np.uint32)
    bits[:8] = [0, 0x80000000, 0x7F800000, 0x3F000000, 0xBFC00000, 1, 0x007FFFFF, 0x7F7FFFFF]
    bits[8:40] = bits[8:40] % 0x10000000 + 0x3A000000  # around one
    expected = run_kernel(kernel, {"x": bits.view(np.float32)})["y"]
    machine = EmulatedMachine(compiled(expand_long_multiply(kernel), core), find_core(core))
    source, result = machine.allocate(256, 16, "x"), machine.allocate(1024, 16, "y")
    machine.write(source, bits.tobytes())
    machine.call("kernel", source, result)
    found = np.frombuffer(machine.read(result, 1024), np.float32).reshape(4, 64)
    assert equal_bits(expected, found)
