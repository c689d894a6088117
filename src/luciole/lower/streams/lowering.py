"""A segment as instructions on few rows, rings, and a schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from luciole.errors import InternalError
from luciole.graph.core import Operator, Value
from luciole.ir.target import Target
from luciole.ir.types import DType
from luciole.kernel.core import Kernel
from luciole.lower.inplace import merge_parameters
from luciole.lower.streams.kernels import copy_kernel, fill_kernel
from luciole.lower.streams.segment import Segment, Stage, describe_segment
from luciole.lower.streams.simulate import (
    Event,
    RowsCopied,
    RowsFilled,
    RowsMoved,
    Schedule,
    StageRun,
    overlap_distance,
    simulate,
)
from luciole.program.core import (
    ARENA,
    STATE,
    Action,
    Buffer,
    Copy,
    Fill,
    Instruction,
    Operand,
    OperandKind,
    Overlap,
    Run,
    Stream,
    Take,
)
from luciole.targets.base import GENERIC, KernelRecipe, ranked_recipes

if TYPE_CHECKING:
    from luciole.lower.lower import Lowering


#: A kernel with less workspace may take so many times the cycles of the fastest.
SLOWER_KERNELS = 1.3
#: Estimated instructions of generic loops for a multiplication, and for an element of the result.
GENERIC_PRODUCT, GENERIC_ELEMENT = 6, 12


@dataclass(frozen=True)
class StreamChoice:
    """Neighboring operators to run row by row, each on `rows` rows at a time; kernels take those workspaces that stay
    within `workspace_bytes` where they can.
    """

    operators: tuple[Operator, ...]
    rows: tuple[int, ...]
    workspace_bytes: int | None = None
    pushed: Value | None = None


def bound_operands(kernel: Kernel, buffers: Mapping[str, tuple[OperandKind, str]]) -> tuple[Operand, ...]:
    """An operand for each parameter of a kernel, from kinds and buffers by name."""
    return tuple(Operand(buffers[p.name][0], p.name, buffers[p.name][1]) for p in kernel.parameters)


@dataclass(frozen=True)
class RowKernel:
    """A recipe for an operator on a few rows, with estimates."""

    recipe: KernelRecipe
    instructions: int
    workspace_bytes: int


def row_kernels(
    window: Operator,
    row_bytes: Mapping[str, int],
    target: Target,
    *,
    use_recipes: bool = True,
    may_trade_memory: bool = True,
) -> list[RowKernel]:
    """The recipes for an operator on a few rows that are not much slower than the fastest, which comes first: operands
    begin at any row, so that what a recipe wants aligned must have rows of whole multiples of that. The generic one
    where there is none.
    """

    def is_aligned(recipe: KernelRecipe) -> bool:
        return all(row_bytes[name] % alignment == 0 for name, alignment in recipe.alignments(window).items())

    found = ranked_recipes(window, target, may_trade_memory=may_trade_memory) if use_recipes else []
    aligned = [(recipe, cost) for recipe, cost in found if is_aligned(recipe)]
    if not aligned:
        return [RowKernel(GENERIC, estimated_instructions(window, GENERIC, target), GENERIC.workspace_bytes(window))]
    # Kernels that are much slower save little: rows are narrow, and so are workspaces.
    most = SLOWER_KERNELS * aligned[0][1].cycles
    fitting = [(recipe, cost) for recipe, cost in aligned if cost.cycles <= most]
    return [RowKernel(recipe, cost.instructions, recipe.workspace_bytes(window)) for recipe, cost in fitting]


def within_workspace(kernels: Sequence[RowKernel], limit: int | None) -> RowKernel:
    """The first kernel whose workspace has at most so many bytes, or the one with the smallest."""
    small = [kernel for kernel in kernels if limit is None or kernel.workspace_bytes <= limit]
    return small[0] if small else min(kernels, key=lambda kernel: kernel.workspace_bytes)


def estimated_instructions(op: Operator, recipe: KernelRecipe, target: Target) -> int:
    """Instructions of one run of a kernel; a rough guess for generic loops."""
    try:
        return recipe.cost(op, target).instructions
    except NotImplementedError:
        return GENERIC_PRODUCT * op.macs() + GENERIC_ELEMENT * sum(type.elements for type in op.result_types())


def lower_stream(lowering: Lowering, choice: StreamChoice, steps: Mapping[Operator, int]) -> Stream:
    """Append the instructions and buffers of a stream, and make its schedule."""
    segment = describe_segment(lowering.graph, choice.operators, choice.rows, pushed=choice.pushed)
    if segment is None:
        raise InternalError(f"{choice.operators[0]} and those behind it do not run by rows")
    capacities = simulate(segment).capacities
    schedule = simulate(segment, capacities)
    return _StreamLowering(lowering, segment, schedule, choice).run(steps[choice.operators[0]])


class _StreamLowering:
    def __init__(self, lowering: Lowering, segment: Segment, schedule: Schedule, choice: StreamChoice) -> None:
        self.lowering = lowering
        self.segment = segment
        self.schedule = schedule
        self.choice = choice
        self.buffers = [self._buffer(number) for number in range(len(segment.tensors))]
        self.workspace = ""
        self.kernels: dict[tuple[Callable[..., Kernel], bool], str] = {}

    def run(self, first: int) -> Stream:
        """Append everything; the stream begins with the instruction of that number."""
        for stage in self.segment.stages:
            self._stage(stage)
        last = first + len(self.segment.stages) - 1
        actions = [action for event in self.schedule.events for action in self._actions(event, first)]
        actions += self._rows_left(actions)
        result, overlap = self._overlap(last)
        return Stream(first, last, tuple(actions), result, overlap)

    # Buffers

    def _buffer(self, number: int) -> str:
        tensor = self.segment.tensors[number]
        lowering = self.lowering
        if tensor.role == "source":
            return lowering.binding(tensor.value)
        if tensor.role == "result":
            name = lowering.new_buffer(tensor.value, "temp")
        else:
            name = lowering.new_buffer(tensor.value, "ring")
            buffer = lowering.buffers[name]
            shape = (1, self.schedule.capacities[number], *buffer.shape[2:])
            lowering.buffers[name] = replace(buffer, shape=shape)
        if tensor.role != "copied":
            lowering.bindings[tensor.value] = name
        elif tensor.value is self.choice.pushed:
            lowering.buffers.pop(lowering.bindings[tensor.value])
            lowering.bindings[tensor.value] = name
            state = Buffer(STATE, "state", ARENA, DType.U32, (2,), 4, -1, lowering.end)
            lowering.buffers[STATE] = state
        return name

    def _workspace(self, size_bytes: int) -> str:
        """The workspace that all instructions of the stream share."""
        buffers = self.lowering.buffers
        if not self.workspace:
            self.workspace = self.lowering.buffer_name("workspace")
            buffers[self.workspace] = Buffer(self.workspace, "workspace", ARENA, DType.U8, (size_bytes,), 8)
        elif buffers[self.workspace].size_bytes < size_bytes:
            buffers[self.workspace] = replace(buffers[self.workspace], shape=(size_bytes,))
        return self.workspace

    # Instructions

    def _stage(self, stage: Stage) -> None:
        lowering, op = self.lowering, stage.operator
        window = op.restricted_to_rows(stage.rows)
        reads = {read.operand: self.buffers[read.tensor] for read in stage.reads}
        row_bytes = {read.operand: self.segment.tensors[read.tensor].row_bytes for read in stage.reads}
        row_bytes["y"] = self.segment.tensors[stage.result].row_bytes
        options = lowering.options
        kernels = row_kernels(
            window,
            row_bytes,
            lowering.target,
            use_recipes=options.use_recipes,
            may_trade_memory=options.may_trade_flash(stage.rows),
        )
        recipe = within_workspace(kernels, self.choice.workspace_bytes).recipe
        bound = lowering.build(op, window, recipe)
        kernel, (result,) = bound.kernel, bound.results
        operands: dict[str, tuple[OperandKind, str]] = {
            name: ("in", reads[name]) for name, _ in bound.activations if name in reads
        }
        for name, data in bound.constants:
            operands[name] = ("in", lowering.constant(f"{lowering.graph.result(op).name}.{name}", data))
        operands[result] = ("inout" if op.adds_rows else "out", self.buffers[stage.result])
        if op.adds_rows:
            (total,) = (name for name, _ in bound.activations if name not in reads)
            kernel = merge_parameters(kernel, total, result)
        if bound.workspace_bytes:
            operands["workspace"] = ("workspace", self._workspace(bound.workspace_bytes))
        instruction = Instruction(kernel.name, bound_operands(kernel, operands), op, recipe.name, rows=stage.rows)
        lowering.append(instruction, kernel)

    # The schedule

    def _actions(self, event: Event, first: int) -> list[Action]:
        if isinstance(event, RowsCopied) and self.segment.tensors[event.tensor].value is self.choice.pushed:
            name = self.buffers[event.tensor]
            kernel = self._kernel(copy_kernel, by_words=False)
            return [Take(kernel, name, event.slot + i, 1) for i in range(event.rows)]
        return [self._action(event, first)]

    def _rows_left(self, actions: list[Action]) -> list[Action]:
        """Rows of a pushed input that nothing reads: they come all the same, when their ring is not needed any more."""
        takes = [action for action in actions if isinstance(action, Take)]
        if self.choice.pushed is None:
            return []
        return [Take(takes[0].kernel, takes[0].target, 0, 1)] * (self.choice.pushed.type.shape[1] - len(takes))

    def _action(self, event: Event, first: int) -> Action:
        if isinstance(event, StageRun):
            return self._run(event, first)
        name = self.buffers[event.tensor]
        if isinstance(event, RowsFilled):
            by_words = self._is_words(name)
            return Fill(self._kernel(fill_kernel, by_words=by_words), name, event.slot, event.rows, event.byte)
        if isinstance(event, RowsMoved):
            by_words = self._is_words(name)
            return Copy(self._kernel(copy_kernel, by_words=by_words), name, 0, name, event.slot, event.rows)
        source = self.lowering.binding(self.segment.tensors[event.tensor].value)
        by_words = self._is_words(name) and self._is_words(source)
        kernel = self._kernel(copy_kernel, by_words=by_words)
        return Copy(kernel, name, event.slot, source, event.source_row, event.rows)

    def _run(self, event: StageRun, first: int) -> Run:
        stage = self.segment.stages[event.stage]
        slots = {read.operand: slot for read, slot in zip(stage.reads, event.slots, strict=True)}
        instruction = self.lowering.instructions[first + event.stage]
        return Run(
            first + event.stage,
            tuple(
                slots[operand.parameter] if operand.kind == "in" else event.result_slot
                for operand in instruction.operands
                if operand.kind != "workspace" and self.lowering.buffers[operand.buffer].kind != "const"
            ),
        )

    def _is_words(self, name: str) -> bool:
        buffer = self.lowering.buffers[name]
        return buffer.row_bytes % 4 == 0 and buffer.alignment % 4 == 0

    def _kernel(self, make: Callable[..., Kernel], *, by_words: bool) -> str:
        """The name of a kernel that copies or fills any buffer of this stream."""
        if (make, by_words) not in self.kernels:
            largest = max(self.lowering.buffers[name].size_bytes for name in self.buffers)
            kernel = make(-(-largest // 4) * 4, by_words=by_words)
            self.lowering.kernels.setdefault(kernel.name, kernel)
            self.kernels[make, by_words] = kernel.name
        return self.kernels[make, by_words]

    def _overlap(self, last: int) -> tuple[str, Overlap | None]:
        """The result that may overlap an input of the stream, and how: the pair that saves most."""
        lowering, tensors = self.lowering, self.segment.tensors
        found: list[tuple[int, str, Overlap]] = []
        if not lowering.options.allows_overlap:
            return "", None
        sources = {
            value: number
            for number, tensor in enumerate(tensors)
            if tensor.role in ("source", "copied") and (value := tensor.value) is not self.choice.pushed
        }
        for value, number in sources.items():
            source = lowering.buffers[lowering.binding(value)]
            for result in (n for n, tensor in enumerate(tensors) if tensor.role == "result"):
                if not lowering.may_overwrite(source, tensors[result].value, last):
                    continue
                if lowering.options.keep_output and lowering.is_output(tensors[result].value):
                    continue
                size = tensors[result].value.type.size_bytes
                distance = overlap_distance(self.segment, self.schedule, number, result)
                overlap = Overlap(source.name, min(distance, size))
                found.append((overlap.shared_bytes(source.size_bytes, size), self.buffers[result], overlap))
        saved, name, best = max(found, key=lambda item: item[0], default=(0, "", None))
        return (name, best) if saved > 0 else ("", None)
