"""Which unicorn registers carry arguments, results, the stack and the return address in each calling convention."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from luciole.emulate.cores import EmulatedCore, Family
from luciole.errors import InternalError, ToolError


class Emulator(Protocol):
    """What is used of unicorn's class `Uc`, which ships no types."""

    def ctl_set_cpu_model(self, model: int) -> None:
        """Choose the core."""

    def mem_map(self, address: int, size: int, perms: int) -> None:
        """Give pages of memory."""

    def mem_read(self, address: int, size: int) -> bytearray:
        """Bytes of memory."""

    def mem_write(self, address: int, data: bytes) -> None:
        """Change bytes of memory."""

    def reg_read(self, reg_id: int) -> int:
        """A register."""

    def reg_write(self, reg_id: int, value: int) -> None:
        """Change a register."""

    def hook_add(self, htype: int, callback: Callable[..., object], *, begin: int = 1, end: int = 0) -> int:
        """Ask to be told of events of a kind, at addresses from begin to end when begin <= end."""

    def emu_start(self, begin: int, until: int, timeout: int = 0) -> None:
        """Execute from one address to another, for at most so many microseconds."""


@dataclass(frozen=True)
class Machine:
    """How to make a unicorn emulator for a core, and its registers by role (unicorn's numbers).

    Attributes:
        architecture, mode, model: for `Uc` and its CPU model.
        arguments: integer argument registers in order; the first is the result register too.
        stack_pointer, return_address, program_counter: these registers.
        setup: register values that the core needs before compiled code may run.
        return_instruction: the encoding of a return.
    """

    architecture: int
    mode: int
    model: int
    arguments: tuple[int, ...]
    stack_pointer: int
    return_address: int
    program_counter: int
    setup: Mapping[int, int]
    return_instruction: bytes


def import_unicorn() -> ModuleType:
    """The optional package unicorn; raises `ToolError` when it is not installed."""
    try:
        import unicorn
        import unicorn.arm64_const
        import unicorn.arm_const
        import unicorn.riscv_const
    except ImportError as error:
        raise ToolError("emulation needs the package unicorn: pip install luciole[emulate]") from error
    return unicorn


def describe_machine(core: EmulatedCore) -> Machine:
    """The unicorn machine for `core`; raises `ToolError` when unicorn has no such core."""
    unicorn = import_unicorn()
    if not core.unicorn_model:
        help_text = f"; {core.qemu.program} has" if core.qemu is not None else ""
        raise ToolError(f"unicorn has no {core.name}{help_text}")
    if core.family is Family.THUMB:
        arm = unicorn.arm_const
        return Machine(
            unicorn.UC_ARCH_ARM,
            unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS,
            getattr(arm, core.unicorn_model),
            tuple(arm.UC_ARM_REG_R0 + number for number in range(4)),
            arm.UC_ARM_REG_SP,
            arm.UC_ARM_REG_LR,
            arm.UC_ARM_REG_PC,
            {},  # unicorn's M-profile cores start with the floating-point unit on
            bytes.fromhex("7047"),  # BX LR
        )
    if core.family is Family.AARCH64:
        arm64 = unicorn.arm64_const
        return Machine(
            unicorn.UC_ARCH_ARM64,
            unicorn.UC_MODE_ARM,
            getattr(arm64, core.unicorn_model),
            tuple(arm64.UC_ARM64_REG_X0 + number for number in range(8)),
            arm64.UC_ARM64_REG_SP,
            arm64.UC_ARM64_REG_LR,
            arm64.UC_ARM64_REG_PC,
            {arm64.UC_ARM64_REG_CPACR_EL1: 3 << 20},  # FPEN: no trap of floating point
            bytes.fromhex("c0035fd6"),  # RET
        )
    riscv = unicorn.riscv_const
    return Machine(
        unicorn.UC_ARCH_RISCV,
        unicorn.UC_MODE_RISCV32 if core.family is Family.RISCV32 else unicorn.UC_MODE_RISCV64,
        getattr(riscv, core.unicorn_model),
        tuple(riscv.UC_RISCV_REG_A0 + number for number in range(8)),
        riscv.UC_RISCV_REG_SP,
        riscv.UC_RISCV_REG_RA,
        riscv.UC_RISCV_REG_PC,
        {riscv.UC_RISCV_REG_MSTATUS: 1 << 13},  # FS = initial: the floating-point unit is on
        bytes.fromhex("67800000"),  # JALR x0, 0(ra)
    )


def add_native_hook(emulator: Emulator, kind: int, function: int, argument: int) -> None:
    """Have the emulator call machine code of ours at `function`, with `argument` last, for all events of a kind.

    unicorn's Python layer takes Python functions only, so this goes to the C library below it. Raises `ToolError` when
    this version of unicorn is laid out in another way.
    """
    library = _library()
    handle = ctypes.c_size_t()
    engine = getattr(emulator, "_uch", None)
    if engine is None:
        raise ToolError("this version of unicorn is not supported: pip install 'unicorn>=2.1.1,<3'")
    status = library.uc_hook_add(
        engine, ctypes.byref(handle), kind, ctypes.c_void_p(function), ctypes.c_void_p(argument), 1, 0
    )
    if status:
        raise InternalError(f"unicorn refuses a hook of kind {kind}: error {status}")


def stop_function() -> int:
    """Address of the C function that stops an emulator."""
    return ctypes.cast(_library().uc_emu_stop, ctypes.c_void_p).value or 0


def _library() -> ctypes.CDLL:
    """unicorn's shared library, as a handle of our own, so that our argument types do not touch unicorn's."""
    import_unicorn()
    try:
        from unicorn.unicorn_py3.unicorn import uclib
    except ImportError as error:
        raise ToolError("this version of unicorn is not supported: pip install 'unicorn>=2.1.1,<3'") from error
    library = ctypes.CDLL(uclib._name)
    library.uc_hook_add.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.c_uint64,
    ]
    return library
