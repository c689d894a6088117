"""What a run on an emulated core tells: plain data, the same for every emulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from luciole.errors import InternalError


class EmulationFault(InternalError):
    """The emulated program did what it must not: a bad access, an unknown instruction, no end, a bad status."""


@dataclass(frozen=True)
class CallRecord:
    """One call made directly by the measured function, in the order of execution.

    Attributes:
        index: 0 for the first call.
        site: an address in the measured function: of the basic block, or of the instruction, that calls.
        symbol: the function called.
        instructions: executed from the call to the return, functions further down included.
        estimated_cycles: None where no cycle model is known.
    """

    index: int
    site: int
    symbol: str
    instructions: int
    estimated_cycles: int | None = None


@dataclass(frozen=True)
class Measurement:
    """What one call of a function cost.

    Attributes:
        value: the function's result register.
        instructions: executed instructions; predicated and no-operation ones count 1 each, a support function 1 a call.
        instructions_by_function: by symbol, each without the functions it calls; empty where the emulator cannot tell.
        calls: the calls that the measured function made, in order; empty where the emulator cannot tell.
        estimated_cycles: by a model of the core (`cycles.py`), not measured; None where there is no model.
        stack_bytes: really used, by painting; 0 when it was not measured.
        helpers: support functions that were called and that the emulator computed, sorted.
    """

    value: int
    instructions: int
    instructions_by_function: Mapping[str, int] = field(default_factory=dict)
    calls: tuple[CallRecord, ...] = ()
    estimated_cycles: int | None = None
    stack_bytes: int = 0
    helpers: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """Outputs of one inference, in the model's order, and what it cost.

    `measurement` is of `<prefix>_run`, None in a run that was not measured; the properties below raise `InternalError`
    then. `emulator` names the program that ran it.
    """

    outputs: tuple[bytes, ...]
    measurement: Measurement | None = None
    emulator: str = ""

    def _measured(self) -> Measurement:
        if self.measurement is None:
            raise InternalError("this run was not measured")
        return self.measurement

    @property
    def instructions(self) -> int:
        """Executed instructions of `<prefix>_run`."""
        return self._measured().instructions

    @property
    def instructions_by_function(self) -> Mapping[str, int]:
        """Executed instructions by function symbol."""
        return self._measured().instructions_by_function

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """What `<prefix>_run` called, in order: one record a layer."""
        return self._measured().calls

    @property
    def estimated_cycles(self) -> int | None:
        """Estimated cycles, None without a model of this core."""
        return self._measured().estimated_cycles

    @property
    def stack_bytes(self) -> int:
        """Bytes of stack really used by `<prefix>_run`."""
        return self._measured().stack_bytes

    @property
    def helpers(self) -> tuple[str, ...]:
        """Support functions that the emulator provided."""
        return self._measured().helpers
