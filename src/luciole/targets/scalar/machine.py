"""What register-tiled kernels must know of a core that only has scalar instructions."""

from __future__ import annotations

from dataclasses import dataclass

from luciole.ir.target import Target
from luciole.ir.types import DType


@dataclass(frozen=True)
class Machine:
    """A family of cores, as kernels of one element type see it.

    `sums` accumulators fit its registers beside the operands and pointers of a tile. Loads reach `reach` bytes from
    their pointer. `product` is how many instructions multiply and add. Where bytes are not sign-extended by loads with
    an offset (`is_unsigned`), kernels keep x + 128 and w + 128, and subtract what that adds. `requantize` is about how
    many instructions turn a sum into a stored result.
    """

    name: str
    dtype: DType
    #: Features of a target without which these kernels cannot be.
    needs: frozenset[str]
    triples: tuple[str, ...]
    sums: int
    reach: int
    product: int
    is_unsigned: bool
    requantize: int
    #: Whether registers remain for a pointer to each window of a tile.
    has_pointers: bool = False
    #: Instructions that load from a pointer plus a register.
    indexed_load: int = 1
    #: Instructions around one turn of the inner loop.
    turn: int = 5
    #: Products of one sum in a turn of the inner loop, tried in this order: the first that divides the sum's length.
    unrolls: tuple[int, ...] = (8, 10, 9, 12, 7, 6, 5, 4)
    #: Estimated, loads and multiplications with their extra cycles.
    cycles_per_instruction: float = 1.3

    def suits(self, target: Target) -> bool:
        """Whether a target is a core of this family."""
        return target.triple.startswith(self.triples)

    @property
    def bias(self) -> int:
        """What is added to bytes as they are kept: 128 where they are kept unsigned."""
        return 128 if self.is_unsigned else 0


#: Armv7-M and later: 14 registers, MLA, loads of signed bytes at offsets below 4096.
THUMB2 = Machine(
    "thumb2",
    DType.I8,
    frozenset({"long_multiply"}),
    ("thumbv7", "thumbv8m.main"),
    sums=8,
    reach=4095,
    product=1,
    is_unsigned=False,
    requantize=10,
)
#: RV32 with M: 27 registers, no multiply-add, offsets below 2048.
RISCV32 = Machine(
    "riscv32",
    DType.I8,
    frozenset({"long_multiply"}),
    ("riscv32",),
    sums=16,
    reach=2047,
    product=2,
    is_unsigned=False,
    requantize=14,
    indexed_load=2,
    turn=3,
    unrolls=(4, 3, 5, 2),
)
#: Armv6-M, Armv8-M Baseline: 8 low registers, a multiplication that overwrites its operand, byte loads that reach 31.
THUMB1 = Machine(
    "thumb1",
    DType.I8,
    frozenset(),
    ("thumbv6m", "thumbv8m.base"),
    sums=4,
    reach=31,
    product=2,
    is_unsigned=True,
    requantize=45,
    turn=6,
)
#: The FPU of Armv7E-M and Armv8-M: 32 registers, loads that reach 1020 bytes; integer registers are free for pointers.
THUMB2_FPU = Machine(
    "thumb2",
    DType.F32,
    frozenset({"fpu"}),
    ("thumbv7em", "thumbv8m.main"),
    sums=16,
    reach=1020,
    product=2,
    is_unsigned=False,
    requantize=2,
    has_pointers=True,
    unrolls=(4, 3, 5, 2),
)
#: RV32 with F.
RISCV32_FPU = Machine(
    "riscv32",
    DType.F32,
    frozenset({"fpu"}),
    ("riscv32",),
    sums=16,
    reach=2047,
    product=2,
    is_unsigned=False,
    requantize=2,
    has_pointers=True,
    turn=4,
    unrolls=(4, 3, 5, 2),
)

MACHINES = (THUMB2, RISCV32, THUMB1, THUMB2_FPU, RISCV32_FPU)
