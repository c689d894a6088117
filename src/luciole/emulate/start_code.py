"""A start-up program for a bare core, encoded here so that no assembler or linker is needed.

`StartCode` is the little language in which `qemu_program.py` writes what the core does from reset to exit;
`ThumbStartCode` and `RiscvStartCode` encode it. Encodings: "Armv7-M Architecture Reference Manual" (DDI 0403), chapter
A7; "The RISC-V Instruction Set Manual" volumes I and II. Semihosting: "Semihosting for AArch32 and AArch64" and "RISC-V
Semihosting". Values are 32 bits; statements change only registers that hold nothing across statements.
"""

from __future__ import annotations

from typing import Protocol

from luciole.emulate.cores import Counter, QemuMachine
from luciole.errors import InternalError

# Semihosting operations.
SYS_OPEN, SYS_WRITE, SYS_READ, SYS_EXIT_EXTENDED = 0x01, 0x05, 0x06, 0x20
#: The reason code of SYS_EXIT_EXTENDED that carries an exit status, ADP_Stopped_ApplicationExit.
APPLICATION_EXIT = 0x20026
#: Modes of SYS_OPEN: the positions of "rb" and "wb" in its table.
OPEN_READ, OPEN_WRITE = 1, 5


#: Size of a trampoline's slot, and where its words stand.
SLOT_BYTES, SLOT_START, SLOT_TOTAL, SLOT_COUNT = 24, 8, 12, 16


class StartCode(Protocol):
    """Encodes the statements of a start-up program."""

    address: int
    instructions: int

    def code(self) -> bytes:
        """The bytes encoded so far."""

    def here(self) -> int:
        """The address of the next instruction."""

    def advance(self, address: int) -> None:
        """Leave the bytes up to `address` empty; raises `InternalError` when code stands there already."""

    def begin(self, stack_top: int, fault_handler: int) -> None:
        """Set the core up: stack, floating point, vectors, trap address, instruction counter."""

    def store(self, address: int, value: int) -> None:
        """Write a word."""

    def copy(self, source: int, target: int) -> None:
        """Copy a word."""

    def call(self, function: int, *arguments: int) -> None:
        """Call a function with up to four arguments; its result is ready for `store_result`."""

    def store_result(self, address: int) -> None:
        """Write the last result as a word."""

    def semihost(self, operation: int, block: int) -> None:
        """Ask the host, with the address of a parameter block; its result is ready for `store_result`."""

    def fill(self, begin: int, end: int, word: int) -> None:
        """Write a word to every address from `begin` to before `end`, which are multiples of 4."""

    def read_counter(self, address: int) -> int:
        """Write the instruction counter as two words, low first; returns the instructions before its reading."""

    def repeat(self, start: int, count_address: int) -> None:
        """Decrement a word of memory and go to `start` unless it is zero then."""

    def trampoline(self, function: int, slot: int) -> int:
        """Call a function in place of its caller: arguments and results pass untouched, on the stack too.

        A slot of `SLOT_BYTES` keeps the return address, the counter at the call, and as words at `SLOT_TOTAL` and
        `SLOT_COUNT` the ticks of all calls and their number. Returns the instructions between the two readings that are
        not the function's.
        """

    def fault_record(self, address: int) -> None:
        """In a fault handler: write `FAULT_WORDS` words that tell why and where."""


def _gap(position: int, address: int) -> bytes:
    """Zeros from `position` to `address`."""
    if position > address:
        raise InternalError(f"the start-up program is {position - address} B too long")
    return bytes(address - position)


class ThumbStartCode:
    """Thumb-2 code (Armv7-M and later). Uses r0 to r3 for arguments and r4 to r6 for itself."""

    #: Configurable fault status, fault address; then r0-r3, r12, lr, pc, psr as the core stacked them.
    FAULT_WORDS = 10

    def __init__(self, address: int, machine: QemuMachine) -> None:
        self.address = address
        self.instructions = 0
        self._machine = machine
        self._bytes = bytearray()

    def code(self) -> bytes:
        """The bytes encoded so far."""
        return bytes(self._bytes)

    def here(self) -> int:
        """The address of the next instruction."""
        return self.address + len(self._bytes)

    def advance(self, address: int) -> None:
        """Leave the bytes up to `address` empty."""
        self._bytes += _gap(self.here(), address)

    def _emit(self, *halfwords: int) -> None:
        """One instruction."""
        self.instructions += 1
        for halfword in halfwords:
            self._bytes += halfword.to_bytes(2, "little")

    def _constant(self, register: int, value: int) -> None:
        """MOVW and MOVT."""
        for opcode, half in ((0xF240, value & 0xFFFF), (0xF2C0, value >> 16 & 0xFFFF)):
            immediate = (half >> 8 & 7) << 12 | half & 0xFF
            self._emit(opcode | half >> 12 | (half >> 11 & 1) << 10, immediate | register << 8)

    def begin(self, stack_top: int, fault_handler: int) -> None:
        """Enable floating point (CPACR) and start the counter; stack pointer and vectors come from the table."""
        self.store(0xE000_ED88, 0x00F0_0000)
        self._emit(0xF3BF, 0x8F4F)  # DSB
        self._emit(0xF3BF, 0x8F6F)  # ISB
        base = self._machine.counter_address
        if self._machine.counter is Counter.CMSDK_TIMER:
            self.store(base + 8, 0xFFFF_FFFF)  # RELOAD
            self.store(base + 4, 0xFFFF_FFFF)  # VALUE
            self.store(base, 1)  # CTRL: enable
        else:
            self.store(base, 1)  # CNTCR: enable

    def store(self, address: int, value: int) -> None:
        """Write a word."""
        self._constant(4, address)
        self._constant(5, value)
        self._emit(0x6025)  # STR r5, [r4]

    def copy(self, source: int, target: int) -> None:
        """Copy a word."""
        self._constant(4, source)
        self._emit(0x6825)  # LDR r5, [r4]
        self._constant(4, target)
        self._emit(0x6025)  # STR r5, [r4]

    def call(self, function: int, *arguments: int) -> None:
        """Call a function; its address has bit 0 set."""
        for register, value in enumerate(arguments):
            self._constant(register, value)
        self._constant(4, function)
        self._emit(0x47A0)  # BLX r4

    def store_result(self, address: int) -> None:
        """Write r0."""
        self._constant(4, address)
        self._emit(0x6020)  # STR r0, [r4]

    def semihost(self, operation: int, block: int) -> None:
        """r0 is the operation, r1 the block."""
        self._constant(0, operation)
        self._constant(1, block)
        self._emit(0xBEAB)  # BKPT 0xAB

    def fill(self, begin: int, end: int, word: int) -> None:
        """A loop of three instructions."""
        self._constant(4, begin)
        self._constant(5, end)
        self._constant(6, word)
        self._emit(0xC440)  # STM r4!, {r6}
        self._emit(0x42AC)  # CMP r4, r5
        self._emit(0xD1FC)  # BNE to the STM

    def read_counter(self, address: int) -> int:
        """Write the counter of this machine; the high word of a 32-bit one is zero."""
        base = self._machine.counter_address
        if self._machine.counter is Counter.CMSDK_TIMER:
            before = self.instructions + 2
            self.copy(base + 4, address)
            self.store(address + 4, 0)
        else:
            # the low word wraps every 2^32 ticks, 134 s of virtual time: the high word is read first, and hardly ever
            # changes
            self.copy(base + 12, address + 4)
            before = self.instructions + 2
            self.copy(base + 8, address)
        return before

    def repeat(self, start: int, count_address: int) -> None:
        """The jump back is absolute, so any distance will do."""
        self._constant(4, count_address)
        self._emit(0x6825)  # LDR r5, [r4]
        self._emit(0x3D01)  # SUBS r5, #1
        self._emit(0x6025)  # STR r5, [r4]
        self._emit(0xD004)  # BEQ past the next three
        self._constant(4, start | 1)
        self._emit(0x4720)  # BX r4

    def trampoline(self, function: int, slot: int) -> int:
        """Changes r12 only, as veneers may: a caller that was compiled with the function knows what it leaves alone."""
        down = self._machine.counter is Counter.CMSDK_TIMER
        counter = self._machine.counter_address + (4 if down else 8)
        self._constant(12, slot)
        self._emit(0xF8CC, 0xE000)  # STR lr, [r12]
        self._constant(14, counter)
        first = self.instructions
        self._emit(0xF8DE, 0xE000)  # LDR lr, [lr]
        self._emit(0xF8CC, 0xE000 | SLOT_START)  # STR lr, [r12, #start]
        self._constant(14, function)
        self._emit(0x47F0)  # BLX lr
        self._emit(0xB40C)  # PUSH {r2, r3}
        self._constant(3, counter)
        second = self.instructions
        self._emit(0x681B)  # LDR r3, [r3]
        self._constant(12, slot)
        self._emit(0xF8DC, 0x2000 | SLOT_START)  # LDR r2, [r12, #start]
        self._emit(0x1AD3 if down else 0x1A9B)  # SUBS r3, r2, r3 or SUBS r3, r3, r2
        self._emit(0xF8DC, 0x2000 | SLOT_TOTAL)  # LDR r2, [r12, #total]
        self._emit(0x189B)  # ADDS r3, r3, r2
        self._emit(0xF8CC, 0x3000 | SLOT_TOTAL)  # STR r3, [r12, #total]
        self._emit(0xF8DC, 0x2000 | SLOT_COUNT)  # LDR r2, [r12, #count]
        self._emit(0x3201)  # ADDS r2, #1
        self._emit(0xF8CC, 0x2000 | SLOT_COUNT)  # STR r2, [r12, #count]
        self._emit(0xBC0C)  # POP {r2, r3}
        self._emit(0xF8DC, 0xF000)  # LDR pc, [r12]
        return second - first

    def fault_record(self, address: int) -> None:
        """CFSR (0xE000ED28), BFAR (0xE000ED38), then the eight words at the stack pointer."""
        self.copy(0xE000_ED28, address)
        self.copy(0xE000_ED38, address + 4)
        self._emit(0x466C)  # MOV r4, sp
        self._constant(5, address + 8)
        for word in range(8):
            self._emit(0x6826 | word << 6)  # LDR r6, [r4, #4 * word]
            self._emit(0x602E | word << 6)  # STR r6, [r5, #4 * word]


class RiscvStartCode:
    """RV32 or RV64 code without compressed instructions. Uses a0 to a3 for arguments and t0 to t2 for itself."""

    #: Cause, pc, and the address or instruction that faulted.
    FAULT_WORDS = 3

    def __init__(self, address: int, pointer_bytes: int) -> None:
        self.address = address
        self.instructions = 0
        self._is_64 = pointer_bytes == 8
        self._bytes = bytearray()

    def code(self) -> bytes:
        """The bytes encoded so far."""
        return bytes(self._bytes)

    def here(self) -> int:
        """The address of the next instruction."""
        return self.address + len(self._bytes)

    def advance(self, address: int) -> None:
        """Leave the bytes up to `address` empty."""
        self._bytes += _gap(self.here(), address)

    def _emit(self, word: int) -> None:
        """One instruction."""
        self.instructions += 1
        self._bytes += (word & 0xFFFF_FFFF).to_bytes(4, "little")

    def _constant(self, register: int, value: int) -> None:
        """LUI and ADDI; on RV64 the sign extension of bit 31 is shifted out."""
        self._emit((value + 0x800 & 0xFFFF_F000) | register << 7 | 0x37)  # LUI
        self._emit((value & 0xFFF) << 20 | register << 15 | register << 7 | 0x13)  # ADDI
        if self._is_64:
            self._emit(32 << 20 | register << 15 | 1 << 12 | register << 7 | 0x13)  # SLLI 32
            self._emit(32 << 20 | register << 15 | 5 << 12 | register << 7 | 0x13)  # SRLI 32

    def _load(self, target: int, base: int, offset: int = 0) -> None:
        self._emit(offset << 20 | base << 15 | 2 << 12 | target << 7 | 0x03)  # LW target, offset(base)

    def _save(self, value: int, base: int, offset: int = 0) -> None:
        """SW value, offset(base), for offsets below 32."""
        self._emit(value << 20 | base << 15 | 2 << 12 | offset << 7 | 0x23)

    def _read_csr(self, register: int, csr: int) -> None:
        self._emit(csr << 20 | 2 << 12 | register << 7 | 0x73)  # CSRRS register, csr, x0

    def begin(self, stack_top: int, fault_handler: int) -> None:
        """Stack; floating point and vectors (mstatus.FS and VS); trap address (mtvec); counters (mcountinhibit)."""
        self._constant(2, stack_top)
        self._constant(5, 0x6600)
        self._emit(0x300 << 20 | 5 << 15 | 2 << 12 | 0x73)  # CSRRS x0, mstatus, t0
        self._constant(5, fault_handler)
        self._emit(0x305 << 20 | 5 << 15 | 1 << 12 | 0x73)  # CSRRW x0, mtvec, t0
        self._emit(0x320 << 20 | 1 << 12 | 0x73)  # CSRRW x0, mcountinhibit, x0

    def store(self, address: int, value: int) -> None:
        """Write a word."""
        self._constant(5, address)
        self._constant(6, value)
        self._save(6, 5)

    def copy(self, source: int, target: int) -> None:
        """Copy a word."""
        self._constant(5, source)
        self._load(6, 5)
        self._constant(5, target)
        self._save(6, 5)

    def call(self, function: int, *arguments: int) -> None:
        """Call a function."""
        for index, value in enumerate(arguments):
            self._constant(10 + index, value)
        self._constant(5, function)
        self._emit(5 << 15 | 1 << 7 | 0x67)  # JALR ra, 0(t0)

    def store_result(self, address: int) -> None:
        """Write a0."""
        self._constant(5, address)
        self._save(10, 5)

    def semihost(self, operation: int, block: int) -> None:
        """a0 is the operation, a1 the block; the three instructions that mean such a call stay within one page."""
        self._constant(10, operation)
        self._constant(11, block)
        while len(self._bytes) % 16:
            self._emit(0x0000_0013)  # NOP
        self._emit(0x01F0_1013)  # SLLI x0, x0, 0x1F
        self._emit(0x0010_0073)  # EBREAK
        self._emit(0x4070_5013)  # SRAI x0, x0, 7

    def fill(self, begin: int, end: int, word: int) -> None:
        """A loop of three instructions."""
        self._constant(5, begin)
        self._constant(6, end)
        self._constant(7, word)
        self._save(7, 5)
        self._emit(4 << 20 | 5 << 15 | 5 << 7 | 0x13)  # ADDI t0, t0, 4
        self._emit(0x7F << 25 | 6 << 20 | 5 << 15 | 1 << 12 | 0b11001 << 7 | 0x63)  # BNE t0, t1, -8

    def read_counter(self, address: int) -> int:
        """Write minstret; on RV32 its high half is read first (it changes every 2^32 instructions)."""
        if self._is_64:
            before = self.instructions
            self._read_csr(6, 0xB02)
            self._emit(32 << 20 | 6 << 15 | 5 << 12 | 7 << 7 | 0x13)  # SRLI t2, t1, 32
        else:
            self._read_csr(7, 0xB82)
            before = self.instructions
            self._read_csr(6, 0xB02)
        self._constant(5, address)
        self._save(6, 5)
        self._constant(5, address + 4)
        self._save(7, 5)
        return before

    def repeat(self, start: int, count_address: int) -> None:
        """The jump back is absolute, so any distance will do."""
        self._constant(5, count_address)
        self._load(6, 5)
        self._emit(0xFFF << 20 | 6 << 15 | 6 << 7 | 0x13)  # ADDI t1, t1, -1
        self._save(6, 5)
        self._constant(5, start)
        self._emit(6 << 15 | 0b01000 << 7 | 0x63)  # BEQ t1, x0, +8
        self._emit(5 << 15 | 0x67)  # JALR x0, 0(t0)

    def trampoline(self, function: int, slot: int) -> int:
        """Changes t0 before the call, t0 to t2 after it; results are in a0 and a1."""
        pointer = 3 if self._is_64 else 2  # SD and LD, or SW and LW
        self._constant(5, slot)
        self._emit(1 << 20 | 5 << 15 | pointer << 12 | 0x23)  # store ra, 0(t0)
        first = self.instructions
        self._read_csr(6, 0xB02)
        self._save(6, 5, SLOT_START)
        self._constant(5, function)
        self._emit(5 << 15 | 1 << 7 | 0x67)  # JALR ra, 0(t0)
        second = self.instructions
        self._read_csr(6, 0xB02)
        self._constant(5, slot)
        self._load(7, 5, SLOT_START)
        self._emit(0x20 << 25 | 7 << 20 | 6 << 15 | 6 << 7 | 0x33)  # SUB t1, t1, t2
        self._load(7, 5, SLOT_TOTAL)
        self._emit(7 << 20 | 6 << 15 | 6 << 7 | 0x33)  # ADD t1, t1, t2
        self._save(6, 5, SLOT_TOTAL)
        self._load(7, 5, SLOT_COUNT)
        self._emit(1 << 20 | 7 << 15 | 7 << 7 | 0x13)  # ADDI t2, t2, 1
        self._save(7, 5, SLOT_COUNT)
        self._emit(5 << 15 | pointer << 12 | 1 << 7 | 0x03)  # load ra, 0(t0)
        self._emit(1 << 15 | 0x67)  # JALR x0, 0(ra)
        return second - first

    def fault_record(self, address: int) -> None:
        """mcause, mepc, mtval."""
        for index, csr in enumerate((0x342, 0x341, 0x343)):
            self._read_csr(6, csr)
            self._constant(5, address + 4 * index)
            self._save(6, 5)
