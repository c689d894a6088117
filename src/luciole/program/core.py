"""Regions, buffers, instructions and programs.

A program is what is left of a graph when memory is decided: each value of the graph lives in a buffer, each operator
that needs code is an instruction that runs one kernel over buffers. There is no control flow, so liveness is a range of
instruction numbers. Neighboring instructions may form a stream, which runs them row by row and counts as one step for
the lives of its buffers: they live from its first or to its last instruction.

Step -1 is the caller writing the inputs, steps 0..n-1 are the instructions, step n is the caller reading the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from luciole.errors import InternalError, Location
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.core import Kernel, Parameter

RegionKind = Literal["const", "arena"]
BufferKind = Literal["input", "output", "temp", "const", "workspace", "ring", "state"]
OperandKind = Literal["in", "out", "inout", "workspace"]

#: Names of the two regions that every program has; more there are for boards with several memories of a kind.
WEIGHTS, ARENA = "weights", "arena"


@dataclass(frozen=True)
class Region:
    """A range of memory: constants in flash, or the arena that the caller supplies. `size` and the rest are known after
    planning.
    """

    name: str
    kind: RegionKind
    alignment: int
    size_bytes: int = 0
    lower_bound_bytes: int = 0
    is_optimal: bool = False
    method: str = ""


@dataclass(frozen=True)
class Buffer:
    """Bytes in a region that hold tensors, for `first`..`last`, the steps from the first write to the last read.

    A tensor that is only another shape of one buffer, or that is computed in its place, shares it. A buffer that is
    part of another (`whole`) lies in it, `whole_offset` bytes from its beginning.
    """

    name: str
    kind: BufferKind
    region: str
    dtype: DType
    shape: Shape
    alignment: int
    first: int = 0
    last: int = 0
    offset: int | None = None
    data: Array | None = field(default=None, compare=False)
    whole: str = ""
    whole_offset: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes that the buffer takes."""
        size = self.dtype.size_bytes
        for extent in self.shape:
            size *= extent
        return size

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of an NHWC tensor; tensors without rows are one row."""
        return self.size_bytes // self.shape[1] if len(self.shape) == 4 and self.shape[1] else self.size_bytes


@dataclass(frozen=True)
class Operand:
    """A kernel's parameter bound to a buffer."""

    kind: OperandKind
    parameter: str
    buffer: str


@dataclass(frozen=True)
class Overlap:
    """Leave for an instruction's result to share memory with an input that nobody needs afterwards: the result begins
    at least `distance_bytes` below the buffer `source`, or exactly where that begins if `in_place`.
    """

    source: str
    distance_bytes: int
    in_place: bool = False

    def allows(self, source_offset: int, result_offset: int) -> bool:
        """Whether the two may begin at these places though they share bytes."""
        below = source_offset - result_offset
        return below >= self.distance_bytes or (self.in_place and below == 0)

    def shared_bytes(self, source_bytes: int, result_bytes: int) -> int:
        """The most bytes that the two can share, given their sizes."""
        if self.in_place:
            return min(source_bytes, result_bytes)
        return source_bytes + result_bytes - max(source_bytes + self.distance_bytes, result_bytes)


@dataclass(frozen=True)
class Instruction:
    """One run of a kernel: operands in the order of the kernel's parameters, values for its scalars, and the operator
    it computes; perhaps that its one result may overlap an input.

    In a stream the kernel computes only `rows` rows of the result, and is run again for the next ones; 0 means all.
    """

    kernel: str
    operands: tuple[Operand, ...]
    operator: Operator
    recipe: str = "generic"
    scalars: tuple[int, ...] = ()
    overlap: Overlap | None = None
    rows: int = 0

    @property
    def location(self) -> Location:
        """Where the operator came from."""
        return self.operator.location

    def window(self) -> Operator:
        """What one run computes, for an instruction of a stream."""
        return self.operator.restricted_to_rows(self.rows)

    def buffers(self, *kinds: OperandKind) -> tuple[str, ...]:
        """The buffers bound to operands of these kinds (of all, when none is named)."""
        return tuple(o.buffer for o in self.operands if not kinds or o.kind in kinds)


@dataclass(frozen=True)
class Run:
    """Run an instruction of a stream once: `slots` are the rows of the buffers at which the operands begin, for those
    operands that are tensors in the arena, in order.
    """

    instruction: int
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Copy:
    """Copy rows from slot `source_slot` of a buffer to slot `slot` of another, or further down in the same one."""

    kernel: str
    target: str
    slot: int
    source: str
    source_slot: int
    rows: int


@dataclass(frozen=True)
class Fill:
    """Fill rows from slot `slot` on with one byte: rows of padding, or sums that begin at zero."""

    kernel: str
    target: str
    slot: int
    rows: int
    byte: int


@dataclass(frozen=True)
class Take:
    """Take the next rows of a model input from the caller to slot `slot` of its ring; the stream waits for them."""

    kernel: str
    target: str
    slot: int
    rows: int


Action = Run | Copy | Fill | Take

#: The buffer that keeps where a stream waits for rows: the place in its table, and how many rows have come.
STATE = "rows_state"


@dataclass(frozen=True)
class Stream:
    """The instructions `first` to `last`, run row by row: `actions` in order.

    Tensors inside live in buffers of kind `ring`, which hold the few rows that are needed at a time, one after the
    other. The schedule is found at compile time. The result `result` of the stream may overlap the input that
    `overlap` names.
    """

    first: int
    last: int
    actions: tuple[Action, ...]
    result: str = ""
    overlap: Overlap | None = None

    @property
    def steps(self) -> range:
        """The numbers of its instructions."""
        return range(self.first, self.last + 1)

    def kernels(self) -> tuple[str, ...]:
        """The kernels that copy and fill, each once."""
        return tuple(dict.fromkeys(a.kernel for a in self.actions if not isinstance(a, Run)))


@dataclass(frozen=True)
class Program:
    """Buffers, instructions and kernels; `graph` is what they compute, `bindings` says in which buffer each of its
    values lives.

    Values that no buffer holds (operands that a kernel has packed away) are not bound.
    """

    name: str
    target: str
    graph: Graph
    regions: tuple[Region, ...]
    buffers: dict[str, Buffer]
    instructions: tuple[Instruction, ...]
    kernels: dict[str, Kernel]
    bindings: dict[Value, str]
    streams: tuple[Stream, ...] = ()

    def stream_at(self, step: int) -> Stream | None:
        """The stream to which an instruction belongs."""
        return next((stream for stream in self.streams if step in stream.steps), None)

    def overlaps(self) -> tuple[tuple[str, Overlap], ...]:
        """The buffers of results that may overlap an input, and how."""
        found = [(name, i.overlap) for i in self.instructions if i.overlap is not None for name in i.buffers("out")]
        return (*found, *((s.result, s.overlap) for s in self.streams if s.overlap is not None))

    def region(self, name: str) -> Region:
        """The region of that name. Raises `KeyError`."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    @property
    def arena(self) -> Region:
        """The caller's memory."""
        return self.region(ARENA)

    @property
    def weights(self) -> Region:
        """The constants."""
        return self.region(WEIGHTS)

    def buffer_of(self, value: Value) -> Buffer:
        """The buffer in which a value of the graph lives. Raises `KeyError`."""
        return self.buffers[self.bindings[value]]

    def regions_of(self, kind: RegionKind) -> tuple[Region, ...]:
        """The regions of a kind: the weights or the arena first, then those of other memories of a board."""
        return tuple(r for r in self.regions if r.kind == kind)

    def in_region(self, region: str) -> tuple[Buffer, ...]:
        """The buffers of a region, in order."""
        return tuple(b for b in self.buffers.values() if b.region == region)

    def roots(self, region: str) -> tuple[Buffer, ...]:
        """The buffers of a region that are part of no other, in order: those that need a place."""
        return tuple(b for b in self.in_region(region) if not b.whole)

    def place_in_root(self, name: str) -> tuple[str, int]:
        """The buffer that a buffer is at last part of (itself, if of none), and how many bytes behind its beginning."""
        buffer, offset = self.buffers[name], 0
        while buffer.whole:
            offset += buffer.whole_offset
            buffer = self.buffers[buffer.whole]
        return buffer.name, offset

    def inputs(self) -> tuple[tuple[str, Value, Buffer], ...]:
        """Name, value and buffer of each model input."""
        return tuple((v.name, v, self.buffer_of(v)) for v in self.graph.inputs)

    def pushed_input(self) -> tuple[str, Value, Buffer] | None:
        """Name, value and ring of the model input whose rows come one after another, if there is one."""
        return next((entry for entry in self.inputs() if entry[2].kind == "ring"), None)

    def outputs(self) -> tuple[tuple[str, Value, Buffer], ...]:
        """Name, value and buffer of each model output."""
        return tuple((name, v, self.buffer_of(v)) for name, v in self.graph.outputs)

    def weights_blob(self, region: str = WEIGHTS) -> bytes:
        """The bytes of a region of constants; gaps between these are zero. Raises `InternalError` before planning."""
        blob = bytearray(self.region(region).size_bytes)
        for buffer in self.in_region(region):
            if buffer.data is None or buffer.offset is None:
                raise InternalError(f"constant {buffer.name} has no place yet, or no data")
            raw = buffer.data.astype(buffer.data.dtype.newbyteorder("<")).tobytes()
            blob[buffer.offset : buffer.offset + len(raw)] = raw
        return bytes(blob)

    def placed(self, offsets: dict[str, int], regions: tuple[Region, ...]) -> Program:
        """The same program with buffers at these offsets, and parts of these in them."""
        buffers = dict(self.buffers)
        for name, buffer in self.buffers.items():
            root, offset = self.place_in_root(name)
            if root in offsets:
                buffers[name] = replace(buffer, offset=offsets[root] + offset)
        return replace(self, buffers=buffers, regions=regions)


def row_places(program: Program, instruction: Instruction, run: Run) -> dict[str, int]:
    """The bytes at which the operands of a run begin in their buffers, by parameter."""
    slots = iter(run.slots)
    places = {}
    for operand in instruction.operands:
        buffer = program.buffers[operand.buffer]
        if operand.kind != "workspace" and buffer.kind != "const":
            places[operand.parameter] = next(slots) * buffer.row_bytes
    return places


def lies_in_place(program: Program, op: Operator) -> bool:
    """Whether an operator that only puts one tensor into another has nothing to do, since the one lies there."""
    parts = op.parts()
    if not parts:
        return False
    named = {**dict(op.named_operands()), "y": program.graph.result(op)}
    for part in parts:
        inner, outer = (program.buffers.get(program.bindings.get(named[n], "")) for n in (part.part, part.whole))
        if inner is None or outer is None or (inner.whole, inner.whole_offset) != (outer.name, part.offset_bytes):
            return False
    return True


def may_be_shorter(kernel: Kernel, parameter: Parameter) -> bool:
    """Whether a buffer may have fewer elements than the parameter that it is bound to: vectors of kernels with scalars,
    which say how much of them is used.
    """
    return bool(kernel.scalars) and len(parameter.shape) == 1
