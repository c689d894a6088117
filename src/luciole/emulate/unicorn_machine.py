"""An object's functions, called on a core that unicorn emulates.

Memory is one region for each purpose with unmapped pages around it, so that an access outside faults and is told with
its instruction; bytes between a region's own bounds and its pages hold a guard pattern that is checked after every
call. Code and constants cannot be written. Counting needs an emulator that has translated nothing yet, since a block
hook added later never fires for blocks that are translated already: a measured call runs in a fresh one that begins
with the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from luciole.emulate.blocks import CycleEstimator, summarize
from luciole.emulate.cores import EmulatedCore, Family
from luciole.emulate.cycles import cycle_estimator
from luciole.emulate.helpers import HELPERS, MEMORY_HELPERS, call_helper
from luciole.emulate.loader import LoadedObject, load_object, undefined_symbols
from luciole.emulate.recorder import BlockRecorder
from luciole.emulate.registers import (
    Emulator,
    Machine,
    add_native_hook,
    describe_machine,
    import_unicorn,
    stop_function,
)
from luciole.emulate.result import EmulationFault, Measurement
from luciole.errors import CompileError, InternalError

_PAGE = 4096
#: Flash begins with a page of traps: where calls return to, then one slot a support function. The object follows.
_FLASH_ADDRESS = 0x0800_0000
_TRAP_BYTES, _TRAP_SLOT = _PAGE, 16
_DATA_ADDRESS = 0x2000_0000
_STACK_TOP = 0x3000_0000
_HEAP_ADDRESS = 0x4000_0000
_GUARD, _PAINT = 0xC5, 0xA5


@dataclass(frozen=True)
class Region:
    """Memory with a purpose: `size` bytes from `address`, inside the pages `page_address` .. `page_end`."""

    name: str
    address: int
    size: int
    page_address: int
    page_end: int
    writable: bool = True
    executable: bool = False


@dataclass
class _Fault:
    """The last memory access that was refused: what was tried, where."""

    access: str = ""
    address: int = 0


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


class EmulatedMachine:
    """A core with an object in its flash, a stack, and memory that the caller asks for.

    Attributes:
        loaded: the object at its addresses.
        helpers: the support functions that the object needs and this class computes, sorted.

    Raises `CompileError` when the object cannot be loaded or needs symbols that nobody provides, `ToolError` without
    unicorn.
    """

    def __init__(
        self, object_bytes: bytes, core: EmulatedCore, *, stack_bytes: int = 65536, time_limit_s: float = 600.0
    ) -> None:
        self.core = core
        self._machine: Machine = describe_machine(core)
        self._unicorn: ModuleType = import_unicorn()
        self._time_limit_s = time_limit_s
        thumb_bit = 1 if core.family is Family.THUMB else 0
        undefined = undefined_symbols(object_bytes, core.family)
        numeric = HELPERS if core.family in (Family.THUMB, Family.RISCV32) else {}
        self.helpers = tuple(name for name in undefined if name in numeric or name in MEMORY_HELPERS)
        self._trap_names = {_FLASH_ADDRESS + _TRAP_SLOT * (i + 1): name for i, name in enumerate(self.helpers)}
        provided = {name: address | thumb_bit for address, name in self._trap_names.items()}
        self.loaded: LoadedObject = load_object(
            object_bytes, core.family, _FLASH_ADDRESS + _TRAP_BYTES, _DATA_ADDRESS, provided
        )
        self._regions: list[Region] = [self._flash_region()]
        if self.loaded.writable.data:
            self._regions.append(self._region("writable data", _DATA_ADDRESS, len(self.loaded.writable.data)))
        stack_bytes = _round_up(stack_bytes, _PAGE)
        self._stack = self._region("stack", _STACK_TOP - stack_bytes, stack_bytes)
        self._regions.append(self._stack)
        self._heap_end = _HEAP_ADDRESS
        self._estimate: CycleEstimator | None = cycle_estimator(core, self.read)
        self._fault = _Fault()
        self._called_helpers: set[str] = set()
        self._emulator = self._new_emulator(None)
        for segment in self.loaded.segments:
            self._emulator.mem_write(segment.address, segment.data)

    # ----------------------------------------------------------------------------------------------------------- memory
    def _flash_region(self) -> Region:
        end = max(segment.address + len(segment.data) for segment in (self.loaded.code, self.loaded.constants))
        end = _round_up(max(end, _FLASH_ADDRESS + _TRAP_BYTES), _PAGE)
        if end > _DATA_ADDRESS:
            raise CompileError.of(
                "does-not-fit", f"code and constants of {end - _FLASH_ADDRESS} B exceed the emulator's flash"
            )
        return Region("flash", _FLASH_ADDRESS, end - _FLASH_ADDRESS, _FLASH_ADDRESS, end, False, True)

    @staticmethod
    def _region(name: str, address: int, size: int) -> Region:
        return Region(name, address, size, address // _PAGE * _PAGE, _round_up(address + size, _PAGE))

    def allocate(self, size: int, alignment: int = 16, name: str = "memory") -> int:
        """Address of `size` new zero bytes that end as close to an unmapped page as `alignment` (a power of 2) lets.

        Memories of no bytes have an address, too, in a page of guards.
        """
        page_address = _round_up(self._heap_end, max(_PAGE, alignment)) + max(_PAGE, alignment)
        page_end = page_address + _round_up(max(size, 1), _PAGE)
        address = (page_end - size) // alignment * alignment
        region = Region(name, address, size, page_address, page_end)
        self._heap_end = page_end
        self._regions.append(region)
        self._map(self._emulator, region)
        self._emulator.mem_write(page_address, bytes([_GUARD]) * (address - page_address))
        self._emulator.mem_write(address + size, bytes([_GUARD]) * (page_end - address - size))
        return address

    def read(self, address: int, size: int) -> bytes:
        """Bytes of emulated memory; raises `InternalError` outside of it."""
        try:
            return bytes(self._emulator.mem_read(address, size))
        except self._unicorn.UcError as error:
            raise InternalError(f"no emulated memory at 0x{address:08x}, {size} B") from error

    def write(self, address: int, data: bytes) -> None:
        """Change bytes of emulated memory; raises `InternalError` outside of it."""
        try:
            self._emulator.mem_write(address, data)
        except self._unicorn.UcError as error:
            raise InternalError(f"no emulated memory at 0x{address:08x}, {len(data)} B") from error

    def check_guards(self) -> None:
        """Raise `EmulationFault` when bytes just outside of a region were written."""
        for region in self._regions:
            if (
                region.page_address < _HEAP_ADDRESS
            ):  # flash, data and stack have no guard bytes, only unmapped neighbors
                continue
            before = self.read(region.page_address, region.address - region.page_address)
            end = region.address + region.size
            after = self.read(end, region.page_end - end)
            for place, found in (("before", before), ("after", after)):
                if found.count(_GUARD) != len(found):
                    raise EmulationFault(f"the program wrote just {place} its {region.name} ({region.size} B)")

    # -------------------------------------------------------------------------------------------------------- emulators
    def _map(self, emulator: Emulator, region: Region) -> None:
        unicorn = self._unicorn
        protection = unicorn.UC_PROT_READ
        protection |= unicorn.UC_PROT_WRITE if region.writable else 0
        protection |= unicorn.UC_PROT_EXEC if region.executable else 0
        emulator.mem_map(region.page_address, region.page_end - region.page_address, protection)

    def _new_emulator(self, memory_of: Emulator | None) -> Emulator:
        """An emulator that has translated nothing, with all regions, and with the contents of another one's memory."""
        unicorn = self._unicorn
        emulator: Emulator = unicorn.Uc(self._machine.architecture, self._machine.mode)
        emulator.ctl_set_cpu_model(self._machine.model)
        for region in self._regions:
            self._map(emulator, region)
            if memory_of is not None:
                size = region.page_end - region.page_address
                emulator.mem_write(region.page_address, bytes(memory_of.mem_read(region.page_address, size)))
        for slot in range(len(self.helpers) + 1):
            emulator.mem_write(_FLASH_ADDRESS + _TRAP_SLOT * slot, self._machine.return_instruction)
        for register, value in self._machine.setup.items():
            emulator.reg_write(register, emulator.reg_read(register) | value)
        emulator.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_bad_access)
        if self.helpers:
            end = _FLASH_ADDRESS + _TRAP_BYTES - 1
            emulator.hook_add(unicorn.UC_HOOK_CODE, self._on_helper, begin=_FLASH_ADDRESS + _TRAP_SLOT, end=end)
        return emulator

    def _on_bad_access(self, _: Emulator, access: int, address: int, size: int, value: int, data: object) -> bool:
        unicorn = self._unicorn
        kinds = {
            unicorn.UC_MEM_READ_UNMAPPED: f"read of {size} B outside of its memory",
            unicorn.UC_MEM_WRITE_UNMAPPED: f"write of {size} B outside of its memory",
            unicorn.UC_MEM_FETCH_UNMAPPED: "jump outside of its code",
            unicorn.UC_MEM_READ_PROT: f"read of {size} B of unreadable memory",
            unicorn.UC_MEM_WRITE_PROT: f"write of {size} B to read-only memory",
            unicorn.UC_MEM_FETCH_PROT: "jump to data",
        }
        self._fault = _Fault(kinds.get(access, "bad access"), address)
        return False

    def _on_helper(self, emulator: Emulator, address: int, size: int, data: object) -> None:
        name = self._trap_names.get(address)
        if name is None:
            return
        self._called_helpers.add(name)
        registers = self._machine.arguments
        if name in MEMORY_HELPERS:
            kind, destination, source, length = MEMORY_HELPERS[name]
            count = emulator.reg_read(registers[length])
            if kind == "copy" and source is not None:
                content = bytes(emulator.mem_read(emulator.reg_read(registers[source]), count))
            else:
                fill = emulator.reg_read(registers[source]) & 0xFF if source is not None else 0
                content = bytes([fill]) * count
            emulator.mem_write(emulator.reg_read(registers[destination]), content)
            return
        words = [emulator.reg_read(register) & 0xFFFF_FFFF for register in registers[:4]]
        for register, word in zip(registers, call_helper(HELPERS[name], words), strict=False):
            emulator.reg_write(register, word)

    # ------------------------------------------------------------------------------------------------------------ calls
    def _prepare(self, emulator: Emulator, arguments: tuple[int, ...]) -> int:
        """Set registers and stack for a call; the stack pointer at the call comes back."""
        machine, word = self._machine, self.core.family.pointer_bytes
        mask = (1 << 8 * word) - 1
        on_stack = arguments[len(machine.arguments) :]
        pointer = _STACK_TOP - _round_up(len(on_stack) * word, 16)
        for register, value in zip(machine.arguments, arguments, strict=False):
            emulator.reg_write(register, value & mask)
        for index, value in enumerate(on_stack):
            emulator.mem_write(pointer + index * word, (value & mask).to_bytes(word, "little"))
        emulator.reg_write(machine.stack_pointer, pointer)
        thumb_bit = 1 if self.core.family is Family.THUMB else 0
        emulator.reg_write(machine.return_address, _FLASH_ADDRESS | thumb_bit)
        return pointer

    def _run(self, emulator: Emulator, address: int, symbol: str, recorder: BlockRecorder | None = None) -> int:
        """Execute from `address` to the return; the result register comes back."""
        self._fault = _Fault()
        try:
            emulator.emu_start(address, _FLASH_ADDRESS, timeout=int(self._time_limit_s * 1_000_000))
        except self._unicorn.UcError as error:
            raise EmulationFault(self._describe_fault(emulator, symbol, str(error))) from error
        if recorder is not None and recorder.misaligned_address:
            self._fault = _Fault("access that is not aligned to its size", recorder.misaligned_address)
            raise EmulationFault(self._describe_fault(emulator, symbol, ""))
        if emulator.reg_read(self._machine.program_counter) & ~1 != _FLASH_ADDRESS:
            raise EmulationFault(self._describe_fault(emulator, symbol, f"no end after {self._time_limit_s:g} s"))
        return int(emulator.reg_read(self._machine.arguments[0]))

    def _describe_fault(self, emulator: Emulator, symbol: str, reason: str) -> str:
        counter = emulator.reg_read(self._machine.program_counter)
        function = self.loaded.function_at(counter & ~1)
        where = f"{function.name}+0x{(counter & ~1) - function.address:x}" if function is not None else "no function"
        fault = self._fault
        what = f"{fault.access}, address 0x{fault.address:08x}" if fault.access else reason
        if self._stack.address - _PAGE <= fault.address < self._stack.address:
            what += f" (just below the stack of {self._stack.size} B)"
        return f"{symbol} on {self.core.name}: {what}, at pc 0x{counter:08x} in {where}"

    def call(self, symbol: str, *arguments: int) -> int:
        """Call a function with integer or address arguments, as fast as it goes; its result register comes back,
        unsigned.

        Raises `CompileError` for an unknown symbol, `EmulationFault` for a bad access, a written guard, or no end in
        time.
        """
        address = self.loaded.address_of(symbol)
        self._prepare(self._emulator, arguments)
        value = self._run(self._emulator, address, symbol)
        self.check_guards()
        return value

    def measure(self, symbol: str, *arguments: int, by_call: bool = True) -> Measurement:
        """Call a function as `call` does, and count what it executes and what stack it uses (10 ns a basic block).

        With `by_call` the calls that the function makes itself are told apart, at 30 us a call.
        """
        address = self.loaded.address_of(symbol)
        function = self.loaded.function_at(address & ~1)
        if function is None:
            raise CompileError.of("undefined-symbol", f'"{symbol}" is not a function of the object')
        code_end = self.loaded.code.address + len(self.loaded.code.data)
        everything = (_FLASH_ADDRESS, code_end)
        root = (function.address, function.address + function.size) if by_call else everything
        recorder = BlockRecorder(*root, ignored=_FLASH_ADDRESS, base=_FLASH_ADDRESS, size=code_end - _FLASH_ADDRESS)
        emulator = self._new_emulator(self._emulator)
        emulator.mem_write(self._stack.address, bytes([_PAINT]) * self._stack.size)
        top = self._prepare(emulator, arguments)
        self._called_helpers = set()
        unicorn, state = self._unicorn, recorder.state_address
        add_native_hook(emulator, unicorn.UC_HOOK_BLOCK, recorder.block_hook, state)
        if self.core.strict_alignment:
            accesses = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
            add_native_hook(emulator, accesses, recorder.access_hook(stop_function()), state)
        value = self._run(emulator, address, symbol, recorder)
        for region in self._regions:
            if region.writable:
                content = bytes(emulator.mem_read(region.page_address, region.page_end - region.page_address))
                self._emulator.mem_write(region.page_address, content)
        self.check_guards()
        stack = self.read(self._stack.address, top - self._stack.address)
        summary = summarize(self.loaded, root, recorder.finish(), self.read, self._trap_names, self._estimate)
        return Measurement(
            value=value,
            instructions=summary.instructions,
            instructions_by_function=summary.instructions_by_function,
            calls=summary.calls,
            estimated_cycles=summary.estimated_cycles,
            stack_bytes=len(stack.lstrip(bytes([_PAINT]))),
            helpers=tuple(sorted(self._called_helpers)),
        )
