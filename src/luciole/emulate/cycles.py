"""ESTIMATED cycles of executed code on a Cortex-M4, from the rules of its manual. No silicon was measured.

Source: "Arm Cortex-M4 Processor Technical Reference Manual" r0p1 (DDI 0439D), sections 3.3.1 (cycles of each
instruction), 3.3.2 (pairing of loads and stores) and 7.2.3 (floating point). What is assumed:

- memory without wait states, no contention between fetches and data, aligned accesses, write buffer never full;
- a pipeline refill (P in the manual, 1 to 3) takes 2 cycles;
- a load takes 2 cycles, 1 when it follows a load whose result is not its address; a store with an immediate offset
  takes 1, with a register offset 2, or 1 after a load;
- one more cycle when an address depends on the result of the preceding data-processing instruction;
- load and store multiple, push, pop, double-word accesses take 1 + N cycles and do not pair;
- a conditional branch takes 1 cycle, 1 + P when taken; a division takes 7 (2 to 12 in the manual, by operands);
- floating-point divide and square root take 14, multiply-accumulate 3, and use of a result by the next instruction
  waits 1 cycle;
- IT is not folded; a predicated instruction costs the same whether it acts or not; a support function costs its return
  only.

State does not carry from block to block, so a pair split by a branch target counts as not paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luciole.emulate.blocks import Block, CycleEstimator
from luciole.emulate.cores import EmulatedCore
from luciole.errors import ToolError

if TYPE_CHECKING:
    from capstone import Cs, CsInsn

#: Cycles of a pipeline refill.
_REFILL = 2
#: Cycles of SDIV and UDIV, the middle of 2 to 12.
_DIVISION = 7

_CONDITIONS = ("eq", "ne", "hs", "cs", "lo", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")
_LOADS = ("ldr", "ldrb", "ldrh", "ldrsb", "ldrsh", "ldrt")
_STORES = ("str", "strb", "strh")
_BLOCK_TRANSFERS = ("ldm", "stm", "push", "pop", "vldm", "vstm", "vpush", "vpop", "ldrd", "strd")
_FLOAT_CYCLES = {"vdiv": 14, "vsqrt": 14, "vldr": 2, "vstr": 2}
_FLOAT_CYCLES |= dict.fromkeys(("vmla", "vmls", "vnmla", "vnmls", "vfma", "vfms", "vfnma", "vfnms"), 3)
_BRANCHES = ("b", "cbz", "cbnz")
_CALLS = ("bl", "blx", "bx")


@dataclass(frozen=True)
class _Instruction:
    """What the rules need to know of an instruction.

    Attributes:
        name: mnemonic without width, condition and type suffixes.
        reads, writes: registers by capstone's numbers.
        address: registers that form an address, the base and the index.
        has_index: whether the address has a register offset.
        operand_registers: how many registers are listed, for transfers of several.
        destination: the register a load fills, 0 for none.
        writes_pc: whether it jumps by writing the program counter.
    """

    name: str
    reads: frozenset[int]
    writes: frozenset[int]
    address: frozenset[int]
    has_index: bool
    operand_registers: int
    destination: int
    writes_pc: bool


def _base_name(mnemonic: str) -> str:
    """The mnemonic's operation, `ldr` of `ldrne.w`, as far as the rules tell operations apart."""
    name = mnemonic.split(".")[0]
    known = (*_LOADS, *_STORES, *_BLOCK_TRANSFERS, *_FLOAT_CYCLES, *_BRANCHES, *_CALLS)
    if name in known:
        return name
    for prefix in ("vldm", "vstm", "ldm", "stm"):
        if name.startswith(prefix):
            return prefix
    if name[-2:] in _CONDITIONS and name[:-2] in (*known, "sdiv", "udiv"):
        return name[:-2]
    return name


def _describe(instruction: CsInsn) -> _Instruction:
    from capstone import arm

    memory = [operand for operand in instruction.operands if operand.type == arm.ARM_OP_MEM]
    registers = [operand.reg for operand in instruction.operands if operand.type == arm.ARM_OP_REG]
    reads, writes = instruction.regs_access()
    address = {register for operand in memory for register in (operand.mem.base, operand.mem.index) if register}
    name = _base_name(instruction.mnemonic)
    return _Instruction(
        name=name,
        reads=frozenset(reads),
        writes=frozenset(writes) - {arm.ARM_REG_CPSR},
        address=frozenset(address),
        has_index=any(operand.mem.index for operand in memory),
        operand_registers=len(registers) - (name in ("ldm", "stm", "vldm", "vstm")),
        destination=registers[0] if registers else 0,
        writes_pc=arm.ARM_REG_PC in registers[:1] or (name in ("pop", "ldm") and arm.ARM_REG_PC in registers),
    )


def _single_access_cycles(now: _Instruction, before: _Instruction | None) -> int:
    """A load or store of one integer register, paired with the instruction before it where the manual allows."""
    pairs = before is not None and before.name in _LOADS and before.destination not in now.address
    if now.name in _STORES:
        return 2 if now.has_index and not pairs else 1
    cycles = 1 if pairs else 2
    return cycles + _REFILL if now.writes_pc else cycles


def _instruction_cycles(now: _Instruction, before: _Instruction | None) -> int:
    """Cycles of one instruction after the one before it, without the refill of a branch at the block's end."""
    is_memory = bool(now.address)
    stall = 0
    if before is not None:
        data_processing = not before.address and before.name not in _BLOCK_TRANSFERS
        late_address = is_memory and data_processing and bool(before.writes & now.address)
        is_float = before.name.startswith("v") and before.name not in ("vldr", "vstr", "vmrs", "vmov")
        stall = int(late_address or (is_float and bool(before.writes & now.reads)))
    if now.name in _LOADS or now.name in _STORES:
        return _single_access_cycles(now, before) + stall
    if now.name in _BLOCK_TRANSFERS:
        return 1 + now.operand_registers + (_REFILL if now.writes_pc else 0) + stall
    if now.name in _FLOAT_CYCLES:
        return _FLOAT_CYCLES[now.name] + stall
    if now.name in ("sdiv", "udiv"):
        return _DIVISION + stall
    if now.name in _CALLS:
        return 1 + _REFILL + stall
    if now.name in ("tbb", "tbh"):
        return 2 + _REFILL + stall
    if now.name == "vmov" and now.operand_registers > 2:
        return 2 + stall
    return (1 + _REFILL if now.writes_pc and now.name in ("mov", "add") else 1) + stall


@dataclass(frozen=True)
class _BlockCost:
    """Cycles of one execution of a block, and what a taken branch at its end adds."""

    cycles: int
    taken: int


def _block_cost(disassembler: Cs, address: int, code: bytes) -> _BlockCost:
    cycles, covered = 0, 0
    before: _Instruction | None = None
    for raw in disassembler.disasm(code, address):
        now = _describe(raw)
        cycles += _instruction_cycles(now, before)
        before, covered = now, covered + raw.size
    if covered < len(
        code
    ):  # an encoding that the disassembler does not know: one cycle for what remains, by 32-bit words
        cycles += -(-(len(code) - covered) // 4)
    ends_in_branch = before is not None and before.name in _BRANCHES
    return _BlockCost(cycles, _REFILL if ends_in_branch else 0)


def cycle_estimator(core: EmulatedCore, read: Callable[[int, int], bytes]) -> CycleEstimator | None:
    """A function that estimates the cycles of executed blocks on `core`, or None when there is no model of that core.

    It takes executions and taken branches by block; `read(address, size)` gives code. Raises `ToolError` without
    capstone.
    """
    if core.cycle_model != "cortex-m4":
        return None
    try:
        import capstone
    except ImportError as error:
        raise ToolError("cycle estimates need the package capstone: pip install luciole[emulate]") from error
    disassembler = capstone.Cs(
        capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
    )
    disassembler.detail = True
    costs: dict[Block, _BlockCost] = {}

    def estimate(blocks: Mapping[Block, tuple[int, int]]) -> int:
        total = 0
        for block, (executed, taken) in blocks.items():
            if block not in costs:
                costs[block] = _block_cost(disassembler, block[0], read(*block))
            total += costs[block].cycles * executed + costs[block].taken * taken
        return total

    return estimate
