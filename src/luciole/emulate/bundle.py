"""A bundle's object, run through the C interface of its header: `<prefix>_init`, then `<prefix>_run` for each sample.

The inputs and outputs stand in the arena at offsets that the memory plan knows. The arena begins with arbitrary bytes,
as a caller's does.
"""

from __future__ import annotations

from collections.abc import Sequence

from luciole.emulate.cores import EmulatedCore
from luciole.emulate.interface import ARENA, ARENA_FILL, BundleInterface, EmulatedBundle, Slot, check_inputs
from luciole.emulate.qemu import QemuBundle
from luciole.emulate.registers import import_unicorn
from luciole.emulate.result import EmulationFault, RunResult
from luciole.emulate.unicorn_machine import EmulatedMachine


class UnicornBundle:
    """A bundle on a core that unicorn emulates."""

    def __init__(
        self, object_bytes: bytes, core: EmulatedCore, interface: BundleInterface, *, stack_bytes: int = 65536
    ) -> None:
        self._interface = interface
        self._core = core
        self.machine = EmulatedMachine(object_bytes, core, stack_bytes=stack_bytes)
        prefix = interface.prefix
        self._arena = self.machine.allocate(interface.arena_bytes, interface.arena_alignment, "arena")
        pointer_bytes, count = core.family.pointer_bytes, 1 + len(interface.others)
        self._model = self.machine.allocate(pointer_bytes * count, pointer_bytes, "model handle")
        self.machine.write(self._arena, bytes([ARENA_FILL]) * interface.arena_bytes)
        self._places = {ARENA: self._arena}
        arguments: tuple[int, ...] = (self._arena, interface.arena_bytes)
        if interface.others:
            words = [*arguments]
            for name, size, alignment in interface.others:
                self._places[name] = self.machine.allocate(size, alignment, name)
                self.machine.write(self._places[name], bytes([ARENA_FILL]) * size)
                words += [self._places[name], size]
            given = b"".join(word.to_bytes(pointer_bytes, "little") for word in words)
            arguments = (self.machine.allocate(len(given), pointer_bytes, "memories"),)
            self.machine.write(arguments[0], given)
        status = self.machine.call(f"{prefix}_init", self._model, *arguments)
        if status & 0xFFFF_FFFF:
            raise EmulationFault(f"{prefix}_init returned status {status & 0xFFFF_FFFF}")
        self._rows = 0
        if interface.pushed_rows:
            self._rows = self.machine.allocate(interface.inputs[0].size, 8, "rows of the input")
        else:
            self._check_pointers("input", interface.inputs)
        self._check_pointers("output", interface.outputs)

    def _check_pointers(self, what: str, slots: tuple[Slot, ...]) -> None:
        """Where there is one tensor, its accessor has to point to where the plan says."""
        symbol = f"{self._interface.prefix}_{what}"
        if len(slots) == 1 and symbol in self.machine.loaded.symbols:
            pointer, place = self.machine.call(symbol, self._model), slots[0].memory
            if pointer != self._address(slots[0]):
                found = pointer - self._places[place]
                raise EmulationFault(f"{symbol} points to {place} + {found}, the plan says {place} + {slots[0].offset}")

    def _address(self, slot: Slot) -> int:
        return self._places[slot.memory] + slot.offset

    @property
    def emulator(self) -> str:
        """The program that emulates, and its core."""
        return f"unicorn {import_unicorn().__version__} ({self._core.name})"

    def run(self, inputs: Sequence[bytes], *, measure: bool = False) -> RunResult:
        """One inference; see `EmulatedBundle`."""
        check_inputs(self._interface, inputs)
        for data, slot in zip(inputs, self._interface.inputs, strict=True):
            self.machine.write(self._rows or self._address(slot), data)
        rows = self._interface.pushed_rows
        symbol = self._interface.run_symbol
        arguments = (self._model, self._rows, rows) if rows else (self._model,)
        measurement = self.machine.measure(symbol, *arguments) if measure else None
        status = measurement.value if measurement is not None else self.machine.call(symbol, *arguments)
        if status & 0xFFFF_FFFF:
            raise EmulationFault(f"{symbol} returned status {status & 0xFFFF_FFFF}")
        outputs = tuple(self.machine.read(self._address(slot), slot.size) for slot in self._interface.outputs)
        return RunResult(outputs, measurement, self.emulator)

    def run_many(self, samples: Sequence[Sequence[bytes]]) -> list[RunResult]:
        """An inference for each sample, none of them counted."""
        return [self.run(inputs) for inputs in samples]


def open_bundle(object_bytes: bytes, core: EmulatedCore, interface: BundleInterface) -> EmulatedBundle:
    """The bundle on `core`, by unicorn where it has that core, else by QEMU.

    Raises `ToolError` when the emulator is not installed, `CompileError` when the object cannot be loaded.
    """
    if core.unicorn_model:
        return UnicornBundle(object_bytes, core, interface)
    return QemuBundle(object_bytes, core, interface)
