"""What a caller of a bundle has to know: the functions' prefix, the memory to supply, inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luciole.emit.c_expressions import f32_literal
from luciole.emit.c_prelude import MEMORY_TYPES
from luciole.emit.entry import Port, input_ports, output_ports
from luciole.errors import CompileError
from luciole.ir.board import Board
from luciole.ir.quant import Quant
from luciole.ir.types import DType, Shape
from luciole.lower.regions import memory_of
from luciole.program.core import ARENA, Program

#: Which functions a bundle has: `<name>_init`, `<name>_run`, ..., or the one function of Glow's bundles.
Api = Literal["luciole", "glow"]

#: Glow's name for the memory of inputs and outputs; a region of programs that are made for that interface.
MUTABLE = "mutable"


@dataclass(frozen=True)
class Tensor:
    """A model input or output: `function` points to it, `macro` begins its macros, `name` is the user's (any text).

    It has `size_bytes` from `offset` in the region `region`, which is `arena` or another of the caller's, `weights` (an
    output that is constant), or `mutable` (all of them, in Glow's interface).
    """

    function: str
    macro: str
    name: str
    dtype: DType
    shape: Shape
    quant: Quant | None
    region: str
    offset: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return self.elements * self.dtype.size_bytes

    @property
    def c_type(self) -> str:
        """The type of an element in C."""
        return MEMORY_TYPES[self.dtype]

    @property
    def scale_text(self) -> str:
        """The scale as a constant of C, which reads back as the same float; empty when there is no single scale."""
        if self.quant is None or self.quant.is_per_channel:
            return ""
        return f32_literal(self.quant.scale)

    @property
    def zero_point_text(self) -> str:
        """The zero point as a constant of C, in parentheses when negative; empty when there is no single one."""
        if self.quant is None or self.quant.is_per_channel:
            return ""
        zero_point = self.quant.zero_point
        return str(zero_point) if zero_point >= 0 else f"({zero_point})"

    @property
    def shape_text(self) -> str:
        """The shape as a brace list of C. A scalar has one element, since C has no empty list."""
        return "{" + ", ".join(map(str, self.shape or (1,))) + "}"


@dataclass(frozen=True)
class Range:
    """Memory that the caller supplies beside others: the region, `size_bytes` of it, and where the board has it.

    `memory` is the board's name, `section` what its linker script calls the place.
    """

    region: str
    size_bytes: int
    alignment: int
    memory: str
    section: str


@dataclass(frozen=True)
class Interface:
    """The C interface of one bundle.

    `places` are all memories that the caller supplies and where a board has them, the arena first; empty without a
    board.

    `arena_bytes` is Luciole's arena, or Glow's activations; `mutable_bytes` and `constant_bytes` belong to Glow's
    interface and are 0 in Luciole's.
    """

    prefix: str
    api: Api
    arena_bytes: int
    arena_alignment: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constant_bytes: int = 0
    mutable_bytes: int = 0
    places: tuple[Range, ...] = ()
    #: Whether the rows of the one input come one after another, through `<prefix>_push_rows`.
    takes_rows: bool = False

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The memories that the caller supplies, where there are several; else there is the arena alone."""
        return self.places if len(self.places) > 1 else ()

    def check_inputs(self, inputs: tuple[bytes, ...]) -> None:
        """Raise `CompileError` (`bad-input`) unless `inputs` are as many and as large as the model's."""
        if len(inputs) != len(self.inputs):
            raise CompileError.of("bad-input", f"{self.prefix} takes {len(self.inputs)} inputs, {len(inputs)} given")
        for index, (data, tensor) in enumerate(zip(inputs, self.inputs, strict=True)):
            if len(data) != tensor.size_bytes:
                raise CompileError.of(
                    "bad-input", f"input {index} of {self.prefix} has {tensor.size_bytes} B, {len(data)} given"
                )


def describe_interface(program: Program, prefix: str, api: Api = "luciole", board: Board | None = None) -> Interface:
    """The interface of a planned program; for `glow`, of one that `glow.separate_interface` has planned. `board` tells
    where regions are, for a program that was made for one.
    """
    is_glow = api == "glow"
    arenas = () if is_glow else program.regions_of("arena")
    if board is None and len(program.regions) > (3 if is_glow else 2):
        raise CompileError.of("bad-option", "the program was placed on a board", help="name the board with --memory")
    places = []
    for region in arenas if board is not None else ():
        assert board is not None
        memory = memory_of(region.name, board)
        places.append(Range(region.name, region.size_bytes, region.alignment, memory.name, memory.section))
    return Interface(
        prefix,
        api,
        program.region(ARENA).size_bytes,
        program.region(ARENA).alignment,
        tuple(_tensor(port) for port in input_ports(program, prefix)),
        tuple(_tensor(port) for port in output_ports(program, prefix)),
        program.weights.size_bytes if is_glow else 0,
        program.region(MUTABLE).size_bytes if is_glow else 0,
        tuple(places),
        takes_rows=program.pushed_input() is not None,
    )


def _tensor(port: Port) -> Tensor:
    assert port.buffer.offset is not None
    return Tensor(
        port.function,
        port.macro,
        port.name,
        port.type.dtype,
        port.type.shape,
        port.type.quant,
        port.buffer.region,
        port.buffer.offset,
    )
