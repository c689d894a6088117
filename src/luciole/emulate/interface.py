"""What a caller knows of a bundle on an emulated core, and what every emulator promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from luciole.emulate.result import RunResult
from luciole.errors import CompileError

#: What the arena holds before the bundle writes to it: nobody may rely on zeros.
ARENA_FILL = 0x5A
#: The name of the arena among the caller's memories.
ARENA = "arena"


@dataclass(frozen=True)
class Slot:
    """A tensor in the arena, or in another of the caller's memories: `size` bytes from `offset`."""

    offset: int
    size: int
    memory: str = ARENA


@dataclass(frozen=True)
class BundleInterface:
    """What a caller of the bundle knows: the prefix of its functions, the arena, inputs and outputs in order.

    `others` are further memories that it supplies: name, bytes and alignment of each.
    """

    prefix: str
    arena_bytes: int
    arena_alignment: int
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    others: tuple[tuple[str, int, int], ...] = ()
    #: Rows of the one input that `<prefix>_push_rows` takes; 0 where the input lies in the arena.
    pushed_rows: int = 0

    @property
    def run_symbol(self) -> str:
        """The function that runs the model."""
        return f"{self.prefix}_{'push_rows' if self.pushed_rows else 'run'}"


class EmulatedBundle(Protocol):
    """A bundle on an emulated core, whatever emulates it.

    `run` and `run_many` raise `CompileError` (`bad-input`) for inputs of another number or size, `EmulationFault` when
    the program faults, writes outside of its memory, or returns another status than OK.
    """

    @property
    def emulator(self) -> str:
        """The program that emulates, and its core."""

    def run(self, inputs: Sequence[bytes], *, measure: bool = False) -> RunResult:
        """One inference; with `measure` it is counted too (slower)."""

    def run_many(self, samples: Sequence[Sequence[bytes]]) -> list[RunResult]:
        """An inference for each sample, none of them counted."""


def check_inputs(interface: BundleInterface, inputs: Sequence[bytes]) -> None:
    """Raise `CompileError` unless `inputs` are as many and as large as the interface says."""
    if len(inputs) != len(interface.inputs):
        raise CompileError.of(
            "bad-input", f"{interface.prefix} takes {len(interface.inputs)} inputs, {len(inputs)} given"
        )
    for index, (data, slot) in enumerate(zip(inputs, interface.inputs, strict=True)):
        if len(data) != slot.size:
            raise CompileError.of(
                "bad-input", f"input {index} of {interface.prefix} has {slot.size} B, {len(data)} given"
            )
