"""Objects that C compilers make: sections and relocations unlike ours, jump tables, function pointers, data."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine

SOURCE = r"""
typedef int (*operation)(int, int);
__attribute__((noinline)) static int add(int a, int b) { return a + b; }
__attribute__((noinline)) static int divide(int a, int b) { return a / b; }
__attribute__((noinline)) static int remainder_(int a, int b) { return a % b; }
static const operation operations[] = { add, divide, remainder_ };
static const char text[] = "firefly";
struct record { int values[40]; };
struct record saved;
int counter = 5;
static long long total;

__attribute__((noinline)) int choose(int what, int a, int b)
{
    switch (what) {
    case 0: return a * b;
    case 1: return a - b;
    case 2: return a ^ b;
    case 3: return (a << 3) | b;
    case 4: return a & b;
    case 5: return text[a % 7];
    case 6: return -a;
    case 7: return a > b ? a : 77;
    default: return -1;
    }
}

__attribute__((noinline)) void keep(struct record *to, const struct record *from) { *to = *from; }

int compute(int seed)
{
    struct record here;
    for (int i = 0; i < 40; i++)
        here.values[i] = choose(i % 9, seed + i, 3) + operations[i % 3](seed * i, i + 1);
    keep(&saved, &here);
    for (int i = 0; i < 40; i++)
        total += (long long)saved.values[i] * 1000003 / (i + 1);
    counter += 1;
    return (int)(total % 1000000007) + counter;
}
"""


def expected(seed: int) -> int:
    """`compute(seed)`, the first time it is called."""

    def quotient(a: int, b: int) -> int:
        return abs(a) // b * (1 if a >= 0 else -1)

    def choose(what: int, a: int, b: int) -> int:
        values = [a * b, a - b, a ^ b, a << 3 | b, a & b, b"firefly"[a % 7], -a, a if a > b else 77, -1]
        return values[what]

    total = 0
    for i in range(40):
        a, b = seed * i, i + 1
        value = choose(i % 9, seed + i, 3) + (a + b, quotient(a, b), a - quotient(a, b) * b)[i % 3]
        total += quotient(value * 1000003, i + 1)
    return total % 1000000007 + 6


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "test.c"
    path.write_text(SOURCE)
    return path


def run(data: bytes, core: str) -> None:
    machine = EmulatedMachine(data, find_core(core))
    measured = machine.measure("compute", 11)
    assert measured.value & 0xFFFF_FFFF == expected(11)
    assert measured.instructions == sum(measured.instructions_by_function.values())
    assert machine.read(machine.loaded.address_of("counter"), 4) == bytes([6, 0, 0, 0])


GCC = "arm-none-eabi-gcc"


@pytest.mark.cross
@pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")
@pytest.mark.parametrize("flags", ["-O0", "-O2", "-Os -fno-jump-tables", "-O3 -ffunction-sections", "-O2 -mpure-code"])
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"])
def test_objects_of_gcc_run(source: Path, core: str, flags: str) -> None:
    result = source.with_suffix(".o")
    subprocess.run([GCC, f"-mcpu={core}", "-mthumb", *flags.split(), "-c", source, "-o", result], check=True)
    run(result.read_bytes(), core)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("core", "target", "flags"),
    [
        ("rv32imc", "riscv32-freestanding", "-mcpu=generic_rv32+m+c"),
        ("rv32imc", "riscv32-freestanding", "-mcpu=generic_rv32+m+c+relax"),
        ("rv64gc", "riscv64-freestanding", "-mcpu=generic_rv64+m+a+f+d+c -mcmodel=medium"),
        ("cortex-a53", "aarch64-freestanding", "-mcpu=cortex_a53"),
        ("cortex-m4", "thumb-freestanding-eabi", "-mcpu=cortex_m4"),
    ],
)
def test_objects_of_clang_run(source: Path, core: str, target: str, flags: str) -> None:
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    result = source.with_suffix(".o")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *flags.split(), "-O2", "-fno-sanitize=all"]
    subprocess.run([*command, "-c", source, "-o", result], check=True, capture_output=True)
    run(result.read_bytes(), core)
