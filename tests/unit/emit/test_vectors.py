"""Vectors have the interpreter's bits: as LLVM and C on this machine, and by MVE, from LLVM and from gcc, on a core."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from luciole.emit.c import prelude_c, print_kernel_c
from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.emulate.qemu import QemuBundle
from luciole.ir.target import find_target
from luciole.kernel.core import Kernel, Parameter
from luciole.kernel.interpret import run_kernel
from luciole.kernel.text import parse_kernel, print_kernel
from luciole.kernel.verify import verify_kernel
from support.native_c import WARNINGS, compile_c, kernels_source
from support.random_kernels import equal_bits, random_inputs
from support.vector_kernels import TYPES, vector_kernel
from unit.emit.test_c import SHARED_LIBRARY, check
from unit.emit.test_llvm import check_native

KERNELS = [vector_kernel(dtype, lanes) for dtype, lanes in TYPES]
#: Those that call nothing on a Cortex-M: divisions and conversions of 64 bits would.
ON_CORE = [vector_kernel(dtype, lanes) for dtype, lanes in TYPES if dtype.bits <= 32]
M55 = "cortex-m55"


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_vectors_print_parse_and_run_as_machine_code(kernel: Kernel) -> None:
    verify_kernel(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel
    for seed in range(3):
        check_native(kernel, seed)


@pytest.mark.parametrize(
    ("name", "flags"), [("gcc", "-O2 -std=c99"), ("g++", "-O1 -std=c++98 -Wno-long-long"), ("clang", "-O1 -std=c99")]
)
def test_vectors_are_lanes_in_c(name: str, flags: str, tmp_path: Path) -> None:
    library = compile_c(kernels_source(KERNELS), tmp_path, name, [*flags.split(), *WARNINGS, *SHARED_LIBRARY])
    check(library, KERNELS)


def _size(parameter: Parameter) -> int:
    return math.prod(parameter.shape) * parameter.dtype.size_bytes


def _places() -> list[list[int]]:
    """Where each kernel's buffers are in the arena, one behind the other."""
    places, end = [], 0
    for kernel in ON_CORE:
        places.append([])
        for parameter in kernel.parameters:
            places[-1].append(end)
            end += -(-_size(parameter) // 16) * 16
    return [*places, [end]]


def _from_llvm() -> bytes:
    target, lines, declared = find_target(M55), [], []
    modules = []
    for number, (kernel, places) in enumerate(zip(ON_CORE, _places(), strict=False)):
        text = print_kernel_llvm(kernel, f"kernel_{number}", target, section=f".text.kernel_{number}")
        modules.append(LlvmModule(text, optimize=False))
        declared.append(f"declare void @kernel_{number}({', '.join('ptr' for _ in places)})")
        lines += [f"  %p{place} = getelementptr i8, ptr %arena, i32 {place}" for place in places]
        lines.append(f"  call void @kernel_{number}({', '.join(f'ptr %p{place}' for place in places)})")
    glue = "\n".join(
        [
            *declared,
            "define i32 @toy_init(ptr %model, ptr %arena, i32 %size) {\n  store ptr %arena, ptr %model\n  ret i32 0\n}",
            "define ptr @toy_input(ptr %model) {\n  %arena = load ptr, ptr %model\n  ret ptr %arena\n}",
            "define ptr @toy_output(ptr %model) {\n  %arena = load ptr, ptr %model\n  ret ptr %arena\n}",
            'define i32 @toy_run(ptr %model) section ".text.toy_run" {\n  %arena = load ptr, ptr %model',
            *lines,
            "  ret i32 0\n}",
        ]
    )
    return compile_object([*modules, LlvmModule(glue, optimize=False)], target)


def _from_c(directory: Path) -> bytes:
    compiler = "arm-none-eabi-gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    calls = []
    for number, (kernel, places) in enumerate(zip(ON_CORE, _places(), strict=False)):
        pointers = (f"(void *)(arena + {place})" for place in places)
        calls.append(f"    kernel_{number}({', '.join(pointers)});")
        assert len(places) == len(kernel.parameters)
    text = prelude_c(ON_CORE) + "\n".join(print_kernel_c(k, f"kernel_{i}") for i, k in enumerate(ON_CORE))
    text += "\n".join(
        [
            "int toy_init(void **model, void *arena, unsigned size) { (void)size; *model = arena; return 0; }",
            "void *toy_input(void **model) { return *model; }",
            "void *toy_output(void **model) { return *model; }",
            "int toy_run(void **model)",
            "{",
            "    unsigned char *arena = (unsigned char *)*model;",
            *calls,
            "    return 0;",
            "}\n",
        ]
    )
    (directory / "toy.c").write_text(text)
    flags = [*find_target(M55).gcc_flags, "-O2", "-std=gnu99", "-ffreestanding", "-ffunction-sections", "-w"]
    flags.append("-fno-tree-loop-distribute-patterns")  # no call of memset
    command = [compiler, *flags, "-c", "toy.c", "-o", "toy.o"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]
    return (directory / "toy.o").read_bytes()


@pytest.mark.qemu
@pytest.mark.parametrize("source", ["llvm", "c"])
def test_vectors_run_by_mve(source: str, tmp_path: Path) -> None:
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    *places, (end,) = _places()
    memory = bytearray(end)
    expected = {}
    for number, (kernel, at) in enumerate(zip(ON_CORE, places, strict=True)):
        buffers, _ = random_inputs(kernel, number)
        expected[number] = run_kernel(kernel, buffers)["y"]
        for parameter, place in zip(kernel.parameters, at, strict=True):
            memory[place : place + _size(parameter)] = buffers[parameter.name].tobytes()
    data = _from_llvm() if source == "llvm" else _from_c(tmp_path)
    interface = BundleInterface("toy", end, 16, (Slot(0, end),), (Slot(0, end),))
    (found,) = QemuBundle(data, find_core(M55), interface).run([bytes(memory)]).outputs
    for number, (kernel, at) in enumerate(zip(ON_CORE, places, strict=True)):
        y = kernel.parameter("y")
        got = np.frombuffer(found[at[1] : at[1] + _size(y)], y.dtype.numpy).reshape(y.shape)
        different = np.flatnonzero(got != expected[number])
        lanes = TYPES[number][1]
        assert equal_bits(expected[number], got), (
            f"{kernel.name}: results {sorted({int(i) // lanes for i in different})}"
        )
