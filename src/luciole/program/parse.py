"""Reading the text form of programs; `luciole.program.text` describes it.

A `.program` file is user input: whatever is wrong with it becomes a `CompileError` with file, line and a caret.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import NoReturn, TypeVar, get_args

from luciole.graph.core import Graph, Operator, Value
from luciole.graph.parse import GraphParser
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Kernel
from luciole.kernel.text import parse_kernel
from luciole.program.core import (
    Action,
    Buffer,
    BufferKind,
    Copy,
    Fill,
    Instruction,
    Operand,
    OperandKind,
    Overlap,
    Program,
    Region,
    RegionKind,
    Run,
    Stream,
    Take,
)

_KERNEL_PART = re.compile(r"^kernel\b", re.MULTILINE)

_REGION_KINDS: dict[str, RegionKind] = {kind: kind for kind in get_args(RegionKind)}
_BUFFER_KINDS: dict[str, BufferKind] = {kind: kind for kind in get_args(BufferKind)}
_OPERAND_KINDS: dict[str, OperandKind] = {kind: kind for kind in get_args(OperandKind)}

#: Numbers of bytes and of steps that a file may name are below this.
_MAXIMUM_NUMBER = 1 << 48

T = TypeVar("T")


def parse_program(text: str, constants: Mapping[str, Array] | None = None, file: str = "") -> Program:
    """The program that a text describes; `constants` are the arrays it names by hash. `file` is for messages.

    Raises `CompileError` for whatever is wrong with the text; does not verify what the program says. Knows the
    operators and intrinsics whose modules have been imported.
    """
    starts = [match.start() for match in _KERNEL_PART.finditer(text)]
    parts = list(itertools.pairwise([*starts, len(text)]))
    parser = _ProgramParser(text[: starts[0]] if starts else text, constants or {}, file)
    kernels: dict[str, Kernel] = {}
    for start, end in parts:
        kernel = parse_kernel(text[start:end], file or parser.default_file, text.count("\n", 0, start) + 1)
        if kernel.name in kernels:
            parser.fail_at(text, start, f"the kernel {kernel.name} stands in the file twice")
        kernels[kernel.name] = kernel
    return parser.file_program(kernels)


class _ProgramParser(GraphParser):
    error_code = "program-syntax"
    default_file = "program text"

    def __init__(self, text: str, constants: Mapping[str, Array], file: str) -> None:
        super().__init__(text, constants, file)
        self.kernels: dict[str, Kernel] = {}
        self.values: dict[str, Value] = {}
        self.regions: dict[str, Region] = {}
        self.buffers: dict[str, Buffer] = {}
        self.bindings: dict[Value, str] = {}
        self.instructions: list[Instruction] = []
        self.streams: list[Stream] = []

    def fail_at(self, text: str, offset: int, message: str) -> NoReturn:
        """Fail at an offset of the whole file, of which this parser has the first part."""
        self.text = text
        self.fail(message, offset)

    def file_program(self, kernels: dict[str, Kernel]) -> Program:
        self.kernels = kernels
        graph = self.graph()
        self.values = {value.name: value for value in graph.values()}
        self.expect("program")
        name = self.word_or_string("a name for the program")
        self.expect("for")
        target = self.word_or_string("the name of a target")
        while not self.accept("end"):
            if self.accept("region"):
                self.region()
            elif self.accept("buffer"):
                self.buffer()
            elif self.accept("stream"):
                self.stream()
            elif self.peek().kind == "number":
                self.instruction(graph)
            else:
                self.fail(f"expected region, buffer, stream, or the number of an instruction, found {self.found()}")
        if self.peek().kind != "end of file":
            self.fail(f"expected a kernel or the end of the file, found {self.found()}")
        regions = tuple(self.regions.values())
        instructions, streams = tuple(self.instructions), tuple(self.streams)
        return Program(name, target, graph, regions, self.buffers, instructions, self.kernels, self.bindings, streams)

    # Regions and buffers

    def region(self) -> None:
        offset = self.peek().offset
        name = self.word_or_string("a name for the region")
        if name in self.regions:
            self.fail(f"the region {name} is declared twice", offset)
        self.expect(":")
        kind = self.choice(_REGION_KINDS, "kind of region")
        alignment = self.size("align")
        size = self.size("size") if self.peek().text == "size" else 0
        bound = self.size("bound") if self.peek().text == "bound" else 0
        is_optimal = self.accept("optimal")
        method = self.word_or_string("a method") if self.accept("by") else ""
        self.regions[name] = Region(name, kind, alignment, size, bound, is_optimal, method)

    def buffer(self) -> None:
        offset = self.peek().offset
        name = self.value_name()
        if name in self.buffers:
            self.fail(f"the buffer %{name} is declared twice", offset)
        self.expect(":")
        type = self.plain_type()
        kind = self.choice(_BUFFER_KINDS, "kind of buffer")
        self.expect("in")
        region_offset = self.peek().offset
        region = self.word_or_string("the name of a region")
        if region not in self.regions:
            self.fail(f"there is no region {region}", region_offset)
        place = self.size("at") if self.peek().text == "at" else None
        alignment = self.size("align")
        first = last = 0
        if self.accept("live"):
            first = self.bounded("the first step", -1)
            self.expect("to")
            last = self.bounded("the last step", -1)
        whole, whole_offset = self.whole() if self.accept("part") else ("", 0)
        if self.accept("holds"):
            self.hold(name)
        data = self.data(name, type) if self.accept("=") else None
        self.buffers[name] = Buffer(
            name,
            kind,
            region,
            type.dtype,
            type.shape,
            alignment,
            first,
            last,
            place,
            _read_only(data),
            whole,
            whole_offset,
        )

    def whole(self) -> tuple[str, int]:
        """What stands behind `part`: a buffer, and from which of its bytes on."""
        self.expect("of")
        return self.value_name(), self.size("from")

    def hold(self, buffer: str) -> None:
        """The values that are bound to a buffer."""
        while True:
            offset = self.peek().offset
            value = self.graph_value()
            if value in self.bindings:
                self.fail(f"%{value.name} is in %{self.bindings[value]} already", offset)
            self.bindings[value] = buffer
            if not self.accept(","):
                return

    def plain_type(self) -> TensorType:
        """An element type and a shape, without quantization."""
        offset = self.peek().offset
        name = self.take("word", "a type such as i8[1,8]").text
        known = {d.value: d for d in DType if d not in (DType.INDEX, DType.POINTER)}
        if name not in known:
            self.fail(f"unknown element type {name}", offset, help=f"element types are {', '.join(known)}")
        return TensorType(known[name], self.sizes())

    # Instructions

    def instruction(self, graph: Graph) -> None:
        offset = self.peek().offset
        step = self.integer("the number of an instruction")
        if step != len(self.instructions):
            self.fail(f"expected instruction {len(self.instructions)}, found {step}", offset)
        self.expect(":")
        kernel_offset = self.peek().offset
        name = self.word_or_string("the name of a kernel")
        if name not in self.kernels:
            self.fail(f"there is no kernel {name} in this file", kernel_offset)
        operands, scalars = self.arguments_of(self.kernels[name])
        self.expect("computes")
        operator = self.operator_of_results(graph)
        overlap = self.overlap() if self.accept("over") else None
        rows = self.size("rows") if self.peek().text == "rows" else 0
        recipe = self.word_or_string("the name of a recipe") if self.accept("by") else "generic"
        self.instructions.append(Instruction(name, operands, operator, recipe, scalars, overlap, rows))

    def overlap(self) -> Overlap:
        """What stands behind `over`."""
        source, distance = self.value_name(), self.size("below")
        in_place = self.accept("or")
        if in_place:
            self.expect("at")
            self.expect("it")
        return Overlap(source, distance, in_place)

    # Streams

    def stream(self) -> None:
        first = self.bounded("the first instruction", 0)
        self.expect("to")
        last = self.bounded("the last instruction", 0)
        result = self.value_name() if self.accept("result") else ""
        overlap = self.overlap() if self.accept("over") else None
        actions: list[Action] = []
        while not self.accept("end"):
            actions.append(self.action())
        self.streams.append(Stream(first, last, tuple(actions), result, overlap))

    def action(self) -> Action:
        if self.accept("run"):
            instruction = self.bounded("the number of an instruction", 0)
            slots = [self.size("at")]
            while self.accept(","):
                slots.append(self.bounded("a row", 0))
            return Run(instruction, tuple(slots))
        if self.accept("fill"):
            target, slot = self.value_name(), self.size("at")
            rows, byte = self.size("rows"), self.size("with")
            return Fill(self.kernel_of_action(), target, slot, rows, byte)
        if self.accept("take"):
            target, slot, rows = self.value_name(), self.size("at"), self.size("rows")
            return Take(self.kernel_of_action(), target, slot, rows)
        if not self.accept("copy"):
            self.fail(f"expected run, fill, take, copy or end, found {self.found()}")
        target, slot = self.value_name(), self.size("at")
        self.expect("from")
        source, source_slot, rows = self.value_name(), self.size("at"), self.size("rows")
        return Copy(self.kernel_of_action(), target, slot, source, source_slot, rows)

    def kernel_of_action(self) -> str:
        """What stands behind `by`."""
        self.expect("by")
        return self.word_or_string("the name of a kernel")

    def arguments_of(self, kernel: Kernel) -> tuple[tuple[Operand, ...], tuple[int, ...]]:
        """A buffer for each parameter of a kernel, then a number for each scalar."""
        operands: list[Operand] = []
        scalars: list[int] = []
        offset = self.peek().offset
        self.expect("(")
        while not self.accept(")"):
            if operands or scalars:
                self.expect(",")
            if self.tokens[self.position + 1].text == "=":
                self.scalar(kernel, scalars)
            else:
                self.operand_of(kernel, operands)
        if len(operands) != len(kernel.parameters) or len(scalars) != len(kernel.scalars):
            wanted = f"{len(kernel.parameters)} buffers and {len(kernel.scalars)} numbers"
            self.fail(f"{kernel.name} takes {wanted}, given {len(operands)} and {len(scalars)}", offset)
        return tuple(operands), tuple(scalars)

    def operand_of(self, kernel: Kernel, operands: list[Operand]) -> None:
        offset = self.peek().offset
        if len(operands) == len(kernel.parameters):
            self.fail(f"{kernel.name} takes {len(kernel.parameters)} buffers", offset)
        kind = self.choice(_OPERAND_KINDS, "kind of operand")
        parameter = kernel.parameters[len(operands)]
        if parameter.kind != kind:
            self.fail(f"parameter {parameter.name} of {kernel.name} is of kind {parameter.kind}", offset)
        name_offset = self.peek().offset
        name = self.value_name()
        if name not in self.buffers:
            self.fail(f"there is no buffer %{name}", name_offset)
        operands.append(Operand(kind, parameter.name, name))

    def scalar(self, kernel: Kernel, scalars: list[int]) -> None:
        offset = self.peek().offset
        name = self.take("word", "the name of a scalar").text
        if len(scalars) == len(kernel.scalars) or kernel.scalars[len(scalars)].name != name:
            known = ", ".join(s.name for s in kernel.scalars) or "none"
            self.fail(f"{name} is not the next scalar of {kernel.name}", offset, help=f"its scalars are {known}")
        self.expect("=")
        number_offset = self.peek().offset
        number = self.integer("a number")
        if not -(1 << 31) <= number < 1 << 31:
            self.fail("a scalar is no i32", number_offset)
        scalars.append(number)

    def operator_of_results(self, graph: Graph) -> Operator:
        """The operator that makes the values named, which are all of its results in order."""
        offset = self.peek().offset
        values = [self.graph_value()]
        while self.accept(","):
            values.append(self.graph_value())
        operator = values[0].producer
        if operator is None or list(graph.results(operator)) != values:
            self.fail("these are not the results of an operator, all of them in order", offset)
        return operator

    def graph_value(self) -> Value:
        """A value of the graph."""
        offset = self.peek().offset
        name = self.value_name()
        if name not in self.values:
            self.fail(f"the graph has no value %{name}", offset)
        return self.values[name]

    # Words and numbers

    def choice(self, words: Mapping[str, T], what: str) -> T:
        """What one of some words stands for."""
        token = self.peek()
        if token.kind != "word" or token.text not in words:
            self.fail(f"expected a {what}, found {self.found()}", help=f"it is one of {', '.join(words)}")
        return words[self.next().text]

    def size(self, word: str) -> int:
        """A word and a number that is not negative."""
        self.expect(word)
        return self.bounded(f"a number after {word}", 0)

    def bounded(self, what: str, least: int) -> int:
        """A whole number from `least` up, of a sane size."""
        offset = self.peek().offset
        number = self.integer(what)
        if not least <= number < _MAXIMUM_NUMBER:
            self.fail(f"{number} is out of range", offset)
        return number


def _read_only(data: Array | None) -> Array | None:
    if data is None:
        return None
    view = data.view()
    view.flags.writeable = False
    return view
