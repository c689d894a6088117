"""The program that runs a bundle under QEMU: what the core does from reset to exit, and the memory it uses.

It opens two files of the host by semihosting, calls `<prefix>_init`, and for each sample reads the inputs from one file
into the arena, calls `<prefix>_run` between two readings of the instruction counter, and writes the outputs, a record,
and when asked the painted stack to the other. Bundles that take rows get them all from a buffer, by
`<prefix>_push_rows`. The stack stands at the bottom of the RAM and the arena at its top, the bundle's other memories
and rows below it, so that running out of stack or arena faults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from luciole.emulate.cores import EmulatedCore, Family, QemuMachine
from luciole.emulate.elf_image import write_executable
from luciole.emulate.interface import ARENA, ARENA_FILL, BundleInterface, Slot
from luciole.emulate.loader import CallSite, LoadedObject, Segment, load_object
from luciole.emulate.start_code import (
    APPLICATION_EXIT,
    OPEN_READ,
    OPEN_WRITE,
    SLOT_BYTES,
    SYS_EXIT_EXTENDED,
    SYS_OPEN,
    SYS_READ,
    SYS_WRITE,
    RiscvStartCode,
    StartCode,
    ThumbStartCode,
)
from luciole.errors import CompileError

#: Names of the two files, in the folder that QEMU is started in.
INPUT_FILE, OUTPUT_FILE = "input.bin", "output.bin"
#: Exit status of QEMU after a fault of the program.
FAULT_STATUS = 3
#: Words of a record: status of init, status of run, counter before and after run (two words each, low first).
RECORD_WORDS = 6
#: What the stack is painted with.
PAINT = 0xA5
#: The vector table has 16 entries for the core itself; the code follows.
_VECTOR_BYTES = 64
#: Where the fault handler begins, after the program.
_HANDLER_OFFSET = 0x1800
_DATA_BYTES = 16384


@dataclass(frozen=True)
class QemuProgram:
    """An executable for a QEMU machine and how to read what it writes.

    Attributes:
        image: the ELF file.
        loaded: the bundle's object at its addresses.
        overhead: instructions between the two readings of the counter that are not the bundle's.
        stack_bytes: size of the stack dump after each sample's record, 0 for none.
        fault_words: words of the record that a fault appends to the output file.
        call_overheads: instructions that a call's own measurement adds, for each of `sites`.
        sites: the calls of the bundle's function that are measured one by one; a slot of each follows the record.
    """

    image: bytes
    loaded: LoadedObject
    overhead: int
    stack_bytes: int
    fault_words: int
    call_overheads: tuple[int, ...]
    sites: tuple[CallSite, ...]


@dataclass
class _Data:
    """Initialized memory for names and parameter blocks, handed out from the bottom."""

    address: int
    pointer_bytes: int
    content: bytearray = field(default_factory=bytearray)

    def add(self, data: bytes) -> int:
        """Address of a copy of `data`."""
        self.content += bytes(-len(self.content) % 8)
        address = self.address + len(self.content)
        self.content += data
        return address

    def block(self, *values: int) -> int:
        """Address of a semihosting parameter block."""
        return self.add(b"".join(value.to_bytes(self.pointer_bytes, "little") for value in values))


@dataclass(frozen=True)
class _Layout:
    """Addresses in RAM."""

    stack_address: int
    stack_top: int
    data: int
    writable: int
    #: The arena and the bundle's other memories by name, and where rows stand that it is given, 0 for none.
    memories: Mapping[str, int]
    rows: int

    @property
    def arena(self) -> int:
        """Where the arena stands."""
        return self.memories[ARENA]

    @property
    def end(self) -> int:
        """Where what the caller supplies begins."""
        return min(*self.memories.values(), self.rows or self.arena)

    def address_of(self, slot: Slot) -> int:
        """Where a tensor stands."""
        return self.memories[slot.memory] + slot.offset


def _lay_out(machine: QemuMachine, interface: BundleInterface, core: EmulatedCore, stack_bytes: int) -> _Layout:
    stack_top = machine.ram_address + stack_bytes
    writable = stack_top + _DATA_BYTES
    place, memories = machine.ram_address + machine.ram_bytes, {}
    for name, size, alignment in ((ARENA, interface.arena_bytes, interface.arena_alignment), *interface.others):
        place = memories[name] = (place - size) // alignment * alignment
    rows = (place - interface.inputs[0].size) // 16 * 16 if interface.pushed_rows else 0
    layout = _Layout(machine.ram_address, stack_top, stack_top, writable, memories, rows)
    if layout.end < writable:
        size = sum((interface.arena_bytes, *(size for _, size, _ in interface.others)))
        raise CompileError.of(
            "does-not-fit",
            f"an arena of {size} B does not fit in the {machine.ram_bytes} B of {machine.machine}, the"
            f" machine that stands for {core.name}",
        )
    return layout


def _load(
    object_bytes: bytes,
    core: EmulatedCore,
    machine: QemuMachine,
    layout: _Layout,
    redirect: Mapping[int, int] | None = None,
) -> LoadedObject:
    """The object at the machine's addresses, checked to fit."""
    loaded = load_object(object_bytes, core.family, machine.image_address, layout.writable, redirect=redirect)
    end = max(segment.address + len(segment.data) for segment in (loaded.code, loaded.constants))
    if end > machine.image_address + machine.image_bytes:
        raise CompileError.of(
            "does-not-fit",
            f"code and constants of {end - machine.image_address} B exceed the {machine.image_bytes} B of"
            f" {machine.machine}, the machine that stands for {core.name}",
        )
    if layout.writable + len(loaded.writable.data) > layout.end:
        raise CompileError.of("does-not-fit", f"writable data and the arena exceed the RAM of {machine.machine}")
    return loaded


def _sites(loaded: LoadedObject, symbol: str) -> tuple[CallSite, ...]:
    """The direct calls that a function makes, by address."""
    function = loaded.function_at(loaded.address_of(symbol) & ~1)
    return tuple(call for call in loaded.calls if loaded.function_at(call.address) == function)


def _start_code(core: EmulatedCore, machine: QemuMachine, address: int) -> StartCode:
    if core.family is Family.THUMB:
        return ThumbStartCode(address, machine)
    return RiscvStartCode(address, core.family.pointer_bytes)


def _emit_trampolines(
    core: EmulatedCore,
    machine: QemuMachine,
    loaded: LoadedObject,
    sites: tuple[CallSite, ...],
    slots: tuple[int, ...],
) -> tuple[list[Segment], tuple[int, ...]]:
    """A trampoline for each call, after the object and so in reach of it; and the instructions that each adds."""
    address = max(segment.address + len(segment.data) for segment in (loaded.code, loaded.constants))
    segments, overheads = [], []
    for site, slot in zip(sites, slots, strict=True):
        address = -(-address // 16) * 16
        code = _start_code(core, machine, address)
        overheads.append(code.trampoline(site.target, slot))
        segments.append(Segment("trampoline", address, code.code()))
        address += len(code.code())
    return segments, tuple(overheads)


def _emit_exit(code: StartCode, data: _Data, status: int) -> None:
    code.semihost(SYS_EXIT_EXTENDED, data.block(APPLICATION_EXIT, status))


def _emit_fault_handler(code: StartCode, data: _Data, output_block: int, fault_words: int) -> None:
    """Append the fault record to the output file, and exit with `FAULT_STATUS`."""
    record = data.add(bytes(4 * fault_words))
    code.fault_record(record)
    block = data.block(0, record, 4 * fault_words)
    code.copy(output_block, block)
    code.semihost(SYS_WRITE, block)
    _emit_exit(code, data, FAULT_STATUS)


def _emit_main(
    code: StartCode, data: _Data, layout: _Layout, loaded: LoadedObject, interface: BundleInterface, plan: _Plan
) -> int:
    """Everything from opening the files to the exit; returns how many instructions the measurement adds."""
    model = data.add(bytes(data.pointer_bytes * (1 + len(interface.others))))
    record = data.add(bytes(4 * RECORD_WORDS))
    count = data.add(plan.samples.to_bytes(4, "little"))
    reads = [data.block(0, layout.rows or layout.address_of(slot), slot.size) for slot in interface.inputs]
    writes = [data.block(0, record, 4 * RECORD_WORDS)]
    writes += [data.block(0, slot, SLOT_BYTES) for slot in plan.slots]
    writes += [data.block(0, layout.address_of(slot), slot.size) for slot in interface.outputs]
    if plan.dump_stack:
        writes.append(data.block(0, layout.stack_address, layout.stack_top - layout.stack_address))
    for name, mode, blocks in (
        (INPUT_FILE, OPEN_READ, reads),
        (OUTPUT_FILE, OPEN_WRITE, [*writes, plan.output_block]),
    ):
        code.semihost(SYS_OPEN, data.block(data.add(name.encode() + b"\0"), mode, len(name)))
        for block in blocks:
            code.store_result(block)
    prefix = interface.prefix
    given = [layout.arena, interface.arena_bytes]
    given += [number for name, size, _ in interface.others for number in (layout.memories[name], size)]
    code.call(loaded.address_of(f"{prefix}_init"), model, *([data.block(*given)] if interface.others else given))
    code.store_result(record)
    start = code.here()
    for block in reads:
        code.semihost(SYS_READ, block)
    if plan.dump_stack:
        code.fill(layout.stack_address, layout.stack_top, int.from_bytes(bytes([PAINT] * 4), "little"))
    first = code.read_counter(record + 8)
    rows = (layout.rows, interface.pushed_rows) if interface.pushed_rows else ()
    code.call(loaded.address_of(interface.run_symbol), model, *rows)
    code.store_result(record + 4)
    second = code.read_counter(record + 16)
    for block in writes:
        code.semihost(SYS_WRITE, block)
    code.repeat(start, count)
    _emit_exit(code, data, 0)
    return second - first


@dataclass(frozen=True)
class _Plan:
    """What a program is to do: how many samples, whether to dump the stack; where output handle and slots are."""

    samples: int
    dump_stack: bool
    output_block: int
    slots: tuple[int, ...]


def build_program(
    object_bytes: bytes,
    core: EmulatedCore,
    machine: QemuMachine,
    interface: BundleInterface,
    *,
    samples: int,
    stack_bytes: int,
    dump_stack: bool,
    by_call: bool = False,
) -> QemuProgram:
    """The executable that runs `samples` samples of a bundle on `machine`; with `by_call` each layer is measured.

    Raises `CompileError` when the object cannot be loaded or does not fit in the machine.
    """
    layout = _lay_out(machine, interface, core, stack_bytes)
    loaded = _load(object_bytes, core, machine, layout)
    data = _Data(layout.data, core.family.pointer_bytes)
    sites = _sites(loaded, interface.run_symbol) if by_call else ()
    slots = tuple(data.add(bytes(SLOT_BYTES)) for _ in sites)
    trampolines, overheads = _emit_trampolines(core, machine, loaded, sites, slots)
    if sites:
        targets = [trampoline.address | (core.family is Family.THUMB) for trampoline in trampolines]
        redirect = {site.address: target for site, target in zip(sites, targets, strict=True)}
        loaded = _load(object_bytes, core, machine, layout, redirect)
    plan = _Plan(samples, dump_stack, data.block(0), slots)
    is_thumb = core.family is Family.THUMB
    code_address = machine.entry_address + (_VECTOR_BYTES if is_thumb else 0)
    code = _start_code(core, machine, code_address)
    fault_words = ThumbStartCode.FAULT_WORDS if is_thumb else RiscvStartCode.FAULT_WORDS
    entry = code.here()
    handler = machine.entry_address + _HANDLER_OFFSET
    code.begin(layout.stack_top, handler)
    overhead = _emit_main(code, data, layout, loaded, interface, plan)
    code.advance(handler)
    _emit_fault_handler(code, data, plan.output_block, fault_words)
    if len(data.content) > _DATA_BYTES:
        raise CompileError.of(
            "does-not-fit", "the bundle has more inputs and outputs than the start-up program can hold"
        )
    start = code.code()
    if is_thumb:
        vectors = [layout.stack_top, entry | 1, *[handler | 1] * 14]
        start = b"".join(vector.to_bytes(4, "little") for vector in vectors) + start
    segments = [
        Segment("start", machine.entry_address, start),
        *loaded.segments,
        *trampolines,
        Segment("data", layout.data, bytes(data.content)),
        Segment("memories", layout.end, bytes([ARENA_FILL]) * (machine.ram_address + machine.ram_bytes - layout.end)),
    ]
    image = write_executable(core.family, entry | is_thumb, segments)
    dumped = layout.stack_top - layout.stack_address if dump_stack else 0
    return QemuProgram(image, loaded, overhead, dumped, fault_words, overheads, sites)
