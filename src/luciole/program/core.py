"""Regions, buffers, instructions and programs.

A program is what is left of a graph when memory is decided: each value of the graph lives in a buffer, each operator
that needs code is an instruction that runs one kernel over buffers. There is no control flow, so liveness is a range of
instruction numbers.

Step -1 is the caller writing the inputs, steps 0..n-1 are the instructions, step n is the caller reading the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from luciole.errors import InternalError, Location
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.types import Array, DType, Shape
from luciole.kernel.core import Kernel

RegionKind = Literal["const", "arena"]
BufferKind = Literal["input", "output", "temp", "const", "workspace"]
OperandKind = Literal["in", "out", "inout", "workspace"]

#: Names of the two regions that every program has.
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

    A tensor that is only another shape of one buffer, or that is computed in its place, shares it.
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

    @property
    def size_bytes(self) -> int:
        """Bytes that the buffer takes."""
        size = self.dtype.size_bytes
        for extent in self.shape:
            size *= extent
        return size


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
    """

    kernel: str
    operands: tuple[Operand, ...]
    operator: Operator
    recipe: str = "generic"
    scalars: tuple[int, ...] = ()
    overlap: Overlap | None = None

    @property
    def location(self) -> Location:
        """Where the operator came from."""
        return self.operator.location

    def buffers(self, *kinds: OperandKind) -> tuple[str, ...]:
        """The buffers bound to operands of these kinds (of all, when none is named)."""
        return tuple(o.buffer for o in self.operands if not kinds or o.kind in kinds)


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

    def in_region(self, region: str) -> tuple[Buffer, ...]:
        """The buffers of a region, in order."""
        return tuple(b for b in self.buffers.values() if b.region == region)

    def inputs(self) -> tuple[tuple[str, Value, Buffer], ...]:
        """Name, value and buffer of each model input."""
        return tuple((v.name, v, self.buffer_of(v)) for v in self.graph.inputs)

    def outputs(self) -> tuple[tuple[str, Value, Buffer], ...]:
        """Name, value and buffer of each model output."""
        return tuple((name, v, self.buffer_of(v)) for name, v in self.graph.outputs)

    def weights_blob(self) -> bytes:
        """The bytes of the weights region; gaps between constants are zero. Raises `InternalError` before planning."""
        blob = bytearray(self.weights.size_bytes)
        for buffer in self.in_region(WEIGHTS):
            if buffer.data is None or buffer.offset is None:
                raise InternalError(f"constant {buffer.name} has no place yet, or no data")
            raw = buffer.data.astype(buffer.data.dtype.newbyteorder("<")).tobytes()
            blob[buffer.offset : buffer.offset + len(raw)] = raw
        return bytes(blob)

    def placed(self, offsets: dict[str, int], regions: tuple[Region, ...]) -> Program:
        """The same program with buffers at these offsets."""
        buffers = {n: replace(b, offset=offsets[n]) if n in offsets else b for n, b in self.buffers.items()}
        return replace(self, buffers=buffers, regions=regions)
