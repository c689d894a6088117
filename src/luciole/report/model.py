"""The report of one compilation as typed data: what fits, what it costs, and where every byte of the arena is.

`Report.to_json` is the file `<name>.report.json` of a bundle. Its keys are public: tools rely on them, and any change
of their meaning raises `SCHEMA_VERSION`. A report holds neither dates nor folders, so that equal models give equal
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import cast

from luciole.errors import CompileError, InternalError, Location, printable
from luciole.quantize.remarks import Quantization
from luciole.report import codec
from luciole.report.codec import Pairs

#: The version of the JSON keys and of their meaning.
SCHEMA_VERSION = 1

_LARGEST_INTEGER = (1 << 63) - 1

#: Fields that may hold a negative number; all others are counts.
_SIGNED_FIELDS = ("zero_point", "first", "last", "signal_to_noise_db")


@dataclass(frozen=True)
class ModelReport:
    """Which model was compiled.

    `name` is the C prefix, `original_name` what the user or the file called it, `file` the base name of the file (no
    folder), `sha256` the hexadecimal digest of the file's bytes.
    """

    name: str
    original_name: str
    file: str
    sha256: str


@dataclass(frozen=True)
class MemoryReport:
    """Writable memory in bytes.

    `arena_bytes` is all that the caller must supply (the macro), aligned to `alignment_bytes`. `activation_bytes` is
    the part that tensors take, `workspace_bytes` what kernels take beyond that, `state_bytes` what lives from one run
    to the next. `lower_bound_bytes` is what no placement of this execution order can go below and `gap_bytes` how far
    the arena is above it; `is_optimal` says whether the placement is proven best, found by `method`. `stack_bytes` is
    the worst case derived from the code, `None` when the code is not compiled to a stack that Luciole knows (C
    source).
    """

    arena_bytes: int
    alignment_bytes: int
    activation_bytes: int
    workspace_bytes: int
    lower_bound_bytes: int
    gap_bytes: int
    is_optimal: bool
    method: str
    state_bytes: int
    input_bytes: int
    output_bytes: int
    stack_bytes: int | None


@dataclass(frozen=True)
class FlashReport:
    """Read-only memory in bytes.

    `weights_bytes`: weights, biases and per-channel parameters as packed; `code_bytes`: machine code; `rodata_bytes`:
    other constants; `total_bytes`: their sum. For a bundle of C source, code and other constants are known only after
    the user's compiler ran, and are `None`; the total then counts what is known.
    """

    weights_bytes: int
    code_bytes: int | None
    rodata_bytes: int | None
    total_bytes: int

    @classmethod
    def of(cls, weights_bytes: int, code_bytes: int | None, rodata_bytes: int | None) -> FlashReport:
        """The report of three parts, with their total."""
        return cls(weights_bytes, code_bytes, rodata_bytes, weights_bytes + (code_bytes or 0) + (rodata_bytes or 0))


@dataclass(frozen=True)
class AlternativeReport:
    """A kernel that could run a layer: `kernel` is the recipe with the parameters that are not as usual.

    Costs are estimates for the layer alone; `weights_bytes` are its constants as this kernel wants them packed.
    `instructions` (executed) is `None` until measured.
    """

    kernel: str
    is_chosen: bool
    estimated_instructions: int
    estimated_cycles: int
    code_bytes: int
    weights_bytes: int
    workspace_bytes: int
    instructions: int | None = None


@dataclass(frozen=True)
class LayerReport:
    """One instruction of the program, in execution order.

    `name` is the user's name of the node and `kernel` the function that runs it. `macs` counts multiply-accumulates,
    `weights_bytes` its constants as packed. `arena_bytes` is how much of the arena is occupied while it runs.
    `code_bytes` is the size of its kernel, which other layers may share. `instructions` (executed) and
    `estimated_cycles` are `None` until measured. `alternatives` are the kernels that could run it, fastest first; none
    unless a profile asked for them.
    """

    name: str
    operator: str
    kernel: str
    macs: int
    weights_bytes: int
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    arena_bytes: int
    code_bytes: int | None = None
    instructions: int | None = None
    estimated_cycles: int | None = None
    alternatives: tuple[AlternativeReport, ...] = ()


@dataclass(frozen=True)
class EmulatedReport:
    """What a run on the emulated `core` took: executed instructions, estimated cycles, the stack it really used."""

    core: str
    instructions: int
    estimated_cycles: int | None
    stack_bytes: int


@dataclass(frozen=True)
class BufferReport:
    """One buffer in the arena: `size_bytes` at `offset`, alive while instructions `first` to `last` run, both included.

    `kind` is `input`, `output`, `state`, `temp` or `workspace`. A `first` of -1 means before the first instruction, a
    `last` equal to the number of instructions after the last one.
    """

    name: str
    kind: str
    offset: int
    size_bytes: int
    first: int
    last: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class TensorReport:
    """One input or output; `scale` and `zero_point` are `None` when its numbers are not quantized."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    size_bytes: int


@dataclass(frozen=True)
class LinkReport:
    """How to get the bundle into a program: the `files` it consists of and the `lines` that compile and link it."""

    files: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class MemoryUse:
    """What the bundle takes of one memory of a board: `used_bytes` of `size_bytes`, as its region `region`.

    `buffers` are the names of the tensors and workspaces that share it (none of constants, of which there are
    `buffer_count`); `cycles` is what the board says of an access.
    """

    memory: str
    kind: str
    region: str
    base: int
    size_bytes: int
    used_bytes: int
    cycles: float
    buffers: tuple[str, ...]
    buffer_count: int


@dataclass(frozen=True)
class Report:
    """All facts about one bundle.

    `layers` are the instructions of the program; `first` and `last` of `buffers` count them. `helpers` are the
    symbols that the bundle leaves to the user's toolchain (soft-float routines on cores without FPU), empty for
    integer models. `removed_channels` are the proofs of channels that the compiler removed, a line each. `options` are
    those that differ from the defaults. `quantization` tells how we made the model one of integers, and what that cost.
    `memories` are those of the board, for a bundle that was placed on one; `buffers` are those of the arena alone.
    `emulated` is `None` until measured.

    Invariants, which `problems` checks:
      1. counts are integers from 0 to 2^63 - 1, floats are finite;
      2. every buffer lies inside the arena;
      3. a buffer's life is not empty and within -1 to the number of layers;
      4. the flash total is the sum of its parts;
      5. the model's file is a name without folder, and its SHA-256 has 64 lower-case hexadecimal digits.
    """

    luciole_version: str
    model: ModelReport
    target: str
    memory: MemoryReport
    flash: FlashReport
    macs: int
    layers: tuple[LayerReport, ...]
    buffers: tuple[BufferReport, ...]
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]
    link: LinkReport
    helpers: tuple[str, ...] = ()
    removed_channels: tuple[str, ...] = ()
    options: Pairs = ()
    quantization: Quantization | None = None
    memories: tuple[MemoryUse, ...] = ()
    emulated: EmulatedReport | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The text of `<name>.report.json`: keys in a fixed order, floats that round-trip, ASCII, a newline at the end.

        Raises `InternalError` when an invariant does not hold.
        """
        problems = self.problems()
        if problems:
            raise InternalError("the report contradicts itself: " + "; ".join(problems))
        return codec.dump(self.to_document())

    def to_document(self) -> dict[str, object]:
        """The report as dictionaries, lists and scalars, `schema_version` first."""
        document = cast(dict[str, object], codec.encode(self))
        return {"schema_version": document.pop("schema_version"), **document}

    @classmethod
    def from_json(cls, text: str, file: str = "") -> Report:
        """The report that `to_json` wrote; `file` names it in errors. Raises `CompileError` for a damaged text."""
        location = Location(file)
        remedy = "compile the model again to get a fresh report"
        try:
            document = codec.parse(text)
            version = document.get("schema_version") if isinstance(document, dict) else None
            if type(version) is int and version != SCHEMA_VERSION:
                raise CompileError.of(
                    "report-version",
                    f"the report has schema version {version}, this luciole reads version {SCHEMA_VERSION}",
                    location,
                    help=remedy,
                )
            if type(version) is not int:
                raise ValueError("report.schema_version is missing")
            report = codec.decode(cls, document, "report")
            problems = report.problems()
            if problems:
                raise ValueError("; ".join(problems[:8]))
        except ValueError as error:
            raise CompileError.of(
                "damaged-report", f"the report cannot be read: {printable(str(error))}", location, help=remedy
            ) from None
        return report

    def problems(self) -> tuple[str, ...]:
        """The broken invariants in words, with the paths of the values; empty for a sound report."""
        found = list(_bad_numbers(self, "report"))
        for index, buffer in enumerate(self.buffers):
            where = f"report.buffers[{index}]"
            if buffer.offset + buffer.size_bytes > self.memory.arena_bytes:
                end = buffer.offset + buffer.size_bytes
                found.append(f"{where} ends at {end}, outside the arena of {self.memory.arena_bytes} bytes")
            if not -1 <= buffer.first <= buffer.last <= len(self.layers):
                found.append(f"{where} lives from {buffer.first} to {buffer.last} among {len(self.layers)} layers")
        flash = self.flash
        if flash != FlashReport.of(flash.weights_bytes, flash.code_bytes, flash.rodata_bytes):
            found.append(f"report.flash.total_bytes is {flash.total_bytes}, not the sum of the parts")
        if "/" in self.model.file:
            found.append("report.model.file has a folder")
        if len(self.model.sha256) != 64 or set(self.model.sha256) - set("0123456789abcdef"):
            found.append("report.model.sha256 is not a SHA-256")
        return tuple(found)

    def with_measurement(
        self,
        emulated: EmulatedReport,
        instructions: Sequence[int | None],
        estimated_cycles: Sequence[int | None] | None = None,
    ) -> Report:
        """This report with what a run took, in all and by layer; `ValueError` unless there is one element a layer."""
        cycles = estimated_cycles if estimated_cycles is not None else [None] * len(self.layers)
        if len(instructions) != len(self.layers) or len(cycles) != len(self.layers):
            raise ValueError(f"{len(instructions)} and {len(cycles)} measurements of {len(self.layers)} layers")
        layers = tuple(
            replace(layer, instructions=count, estimated_cycles=cycle)
            for layer, count, cycle in zip(self.layers, instructions, cycles, strict=True)
        )
        return replace(self, layers=layers, emulated=emulated)

    def buffers_at(self, instruction: int) -> tuple[BufferReport, ...]:
        """The buffers alive while an instruction runs, by address."""
        alive = (buffer for buffer in self.buffers if buffer.first <= instruction <= buffer.last)
        return tuple(sorted(alive, key=lambda buffer: (buffer.offset, -buffer.size_bytes)))

    def peak_instruction(self) -> int:
        """The first instruction with the most occupied bytes; 0 when there are no buffers."""
        return max(range(max(1, len(self.layers))), key=lambda i: (occupied_bytes(self.buffers_at(i)), -i))


def occupied_bytes(buffers: Sequence[BufferReport]) -> int:
    """Bytes of the arena that some buffers cover together; one that two of them share (in place) counts once."""
    total, end = 0, 0
    for buffer in sorted(buffers, key=lambda b: b.offset):
        total += max(0, buffer.offset + buffer.size_bytes - max(end, buffer.offset))
        end = max(end, buffer.offset + buffer.size_bytes)
    return total


def _bad_numbers(value: object, where: str) -> Iterator[str]:
    """Numbers below `value` that break invariant 1."""
    if is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            yield from _bad_numbers(getattr(value, item.name), f"{where}.{item.name}")
    elif isinstance(value, tuple):
        for index, element in enumerate(value):
            yield from _bad_numbers(element, f"{where}[{index}]")
    elif isinstance(value, float):
        if not abs(value) < float("inf"):
            yield f"{where} is not finite"
    elif isinstance(value, int):
        lowest = -_LARGEST_INTEGER - 1 if where.endswith(_SIGNED_FIELDS) else 0
        if not lowest <= value <= _LARGEST_INTEGER and ".options" not in where:
            yield f"{where} is out of range"
