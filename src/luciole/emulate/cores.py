"""The cores that can be emulated, and which emulator runs each: plain data.

Sources: unicorn 2.1 for the model names; QEMU 7.2's `hw/arm/mps2.c`, `mps2-tz.c`, `armsse.c` and `hw/riscv/virt.c` for
memory maps, timers and clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from luciole.errors import CompileError


class Family(Enum):
    """An instruction set with one calling convention and one set of relocations."""

    THUMB = "thumb"
    RISCV32 = "riscv32"
    RISCV64 = "riscv64"
    AARCH64 = "aarch64"

    @property
    def pointer_bytes(self) -> int:
        """Size of an address, 4 or 8."""
        return 4 if self in (Family.THUMB, Family.RISCV32) else 8


class Counter(Enum):
    """How a QEMU machine lets the guest read the number of executed instructions."""

    CMSDK_TIMER = "a 32-bit timer that counts down at the system clock"
    SYSTEM_COUNTER = "a 64-bit counter that counts up at the system clock"
    MINSTRET = "the RISC-V retired-instructions counter"


@dataclass(frozen=True)
class QemuMachine:
    """A `qemu-system-*` machine: what to start and where its memory is.

    Attributes:
        program: the executable's name.
        machine: the value of `-M`.
        cpu: the value of `-cpu`, empty for the machine's own.
        entry_address: where the start-up code (on Arm, the vector table first) has to stand.
        image_address, image_bytes: memory for the object's code and constants.
        ram_address, ram_bytes: memory for the arena, the stack and the rest.
        counter: what counts instructions, and at `counter_address`.
        clock_hz: ticks a second of virtual time of that counter; under `-icount shift=0` an instruction takes 1 ns of
            it.
    """

    program: str
    machine: str
    cpu: str
    entry_address: int
    image_address: int
    image_bytes: int
    ram_address: int
    ram_bytes: int
    counter: Counter
    counter_address: int = 0
    clock_hz: int = 1_000_000_000


@dataclass(frozen=True)
class EmulatedCore:
    """A core by its name in `--target`, with the emulators that run it.

    Attributes:
        unicorn_model: name of unicorn's CPU constant, empty when unicorn has no such core.
        qemu: the machine to use, None when there is none.
        cycle_model: the core whose timing rules `cycles.py` knows, empty for none.
        strict_alignment: whether an access that is not a multiple of its size faults, or may, on real cores.
        note: what a reader of the figures has to know.
    """

    name: str
    family: Family
    unicorn_model: str = ""
    qemu: QemuMachine | None = None
    cycle_model: str = ""
    strict_alignment: bool = False
    note: str = ""


_MEBIBYTE = 1 << 20


def _mps2(machine: str) -> QemuMachine:
    """An MPS2 board with an Armv7-M core; the last 64 KiB of the 4 MiB code memory hold nothing of ours."""
    return QemuMachine(
        program="qemu-system-arm",
        machine=machine,
        cpu="",
        entry_address=0x0000_0000,
        image_address=0x0000_2000,
        image_bytes=4 * _MEBIBYTE - 0x2000,
        ram_address=0x2000_0000,
        ram_bytes=4 * _MEBIBYTE,
        counter=Counter.CMSDK_TIMER,
        counter_address=0x4000_0000,
        clock_hz=25_000_000,
    )


_AN505 = QemuMachine(
    program="qemu-system-arm",
    machine="mps2-an505",
    cpu="",
    entry_address=0x1000_0000,
    image_address=0x1000_2000,
    image_bytes=4 * _MEBIBYTE - 0x2000,
    ram_address=0x3800_0000,
    ram_bytes=4 * _MEBIBYTE,
    counter=Counter.CMSDK_TIMER,
    counter_address=0x5000_0000,
    clock_hz=20_000_000,
)

# Code and constants stand in the 8 MiB QSPI flash (secure alias), since the tightly coupled memory has 512 KiB only.
_AN547 = QemuMachine(
    program="qemu-system-arm",
    machine="mps3-an547",
    cpu="",
    entry_address=0x0000_0000,
    image_address=0x3800_0000,
    image_bytes=8 * _MEBIBYTE,
    ram_address=0x3100_0000,
    ram_bytes=2 * _MEBIBYTE,
    counter=Counter.SYSTEM_COUNTER,
    counter_address=0x5810_0000,
    clock_hz=32_000_000,
)


def _virt(bits: int) -> QemuMachine:
    """QEMU's `virt` board. The object stands in the flash below 2 GiB, so that absolute addresses of RV64 reach it."""
    return QemuMachine(
        program=f"qemu-system-riscv{bits}",
        machine="virt",
        cpu=f"rv{bits},v=true,vlen=128,elen=64",
        entry_address=0x8000_0000,
        image_address=0x2000_0000,
        image_bytes=32 * _MEBIBYTE,
        ram_address=0x8010_0000,
        ram_bytes=64 * _MEBIBYTE,
        counter=Counter.MINSTRET,
    )


_M85_NOTE = (
    "QEMU has no Cortex-M85: run as a Cortex-M55, which has the same instructions but for pointer authentication"
)

CORES: tuple[EmulatedCore, ...] = (
    EmulatedCore(
        "cortex-m0plus",
        Family.THUMB,
        "UC_CPU_ARM_CORTEX_M0",
        strict_alignment=True,
        note="run as a Cortex-M0: the same instructions",
    ),
    EmulatedCore(
        "cortex-m23",
        Family.THUMB,
        "UC_CPU_ARM_CORTEX_M33",
        strict_alignment=True,
        note="run as a Cortex-M33, which has all instructions of a Cortex-M23",
    ),
    EmulatedCore("cortex-m3", Family.THUMB, "UC_CPU_ARM_CORTEX_M3", _mps2("mps2-an385")),
    EmulatedCore("cortex-m4", Family.THUMB, "UC_CPU_ARM_CORTEX_M4", _mps2("mps2-an386"), cycle_model="cortex-m4"),
    EmulatedCore("cortex-m7", Family.THUMB, "UC_CPU_ARM_CORTEX_M7", _mps2("mps2-an500")),
    EmulatedCore("cortex-m33", Family.THUMB, "UC_CPU_ARM_CORTEX_M33", _AN505),
    EmulatedCore("cortex-m55", Family.THUMB, "", _AN547),
    EmulatedCore("cortex-m85", Family.THUMB, "", _AN547, note=_M85_NOTE),
    EmulatedCore("rv32imc", Family.RISCV32, "UC_CPU_RISCV32_ANY", _virt(32), strict_alignment=True),
    EmulatedCore("rv32imafc", Family.RISCV32, "UC_CPU_RISCV32_ANY", _virt(32), strict_alignment=True),
    EmulatedCore(
        "rv32imc-zve32x",
        Family.RISCV32,
        "",
        _virt(32),
        strict_alignment=True,
        note="run on a core with the whole vector extension, registers of 128 bits",
    ),
    EmulatedCore("rv64gc", Family.RISCV64, "UC_CPU_RISCV64_ANY", _virt(64)),
    EmulatedCore("rv64gcv", Family.RISCV64, "", _virt(64)),
    EmulatedCore("cortex-a53", Family.AARCH64, "UC_CPU_ARM64_A53"),
    EmulatedCore("cortex-a72", Family.AARCH64, "UC_CPU_ARM64_A72"),
)


def find_core(name: str) -> EmulatedCore:
    """The core called `name`; raises `CompileError` with code `unknown-core` and the list of known ones."""
    for core in CORES:
        if core.name == name:
            return core
    known = ", ".join(core.name for core in CORES)
    raise CompileError.of("unknown-core", f'no emulated core is called "{name}"', help=f"known cores are {known}")
