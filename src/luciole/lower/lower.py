"""Graph -> Program: one instruction an operator, a kernel chosen for each, values bound to buffers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from luciole.errors import CompileError, Diagnostics
from luciole.graph.core import Graph, Operator, Value
from luciole.ir.target import Target, load_targets
from luciole.ir.types import Array, DType
from luciole.kernel.core import Kernel
from luciole.lower.inplace import in_place_operands, merge_parameters
from luciole.lower.streams.lowering import StreamChoice, bound_operands, lower_stream
from luciole.program.core import (
    ARENA,
    WEIGHTS,
    Buffer,
    Copy,
    Instruction,
    OperandKind,
    Overlap,
    Program,
    Region,
    Stream,
)
from luciole.targets.base import CONSTANT_ALIGNMENT, GENERIC, BoundKernel, KernelRecipe, build_kernel, candidate_recipes

#: The weights region starts at a multiple of this.
WEIGHTS_ALIGNMENT = 16


#: Kernels by operator, rows that they compute (0 for all) and recipe.
BuiltKernels = dict[tuple[Operator, int, KernelRecipe], BoundKernel]


@dataclass(frozen=True)
class LoweringOptions:
    """What the user may ask of lowering: hand-scheduled kernels or not, inputs that `run` must not overwrite, results
    that may overlap inputs, tensors that may lie in others instead of being copied, streams that may buy speed with
    much flash; and the recipes that were chosen for some operators, the others take the usual one.
    """

    use_recipes: bool = True
    keep_input: bool = False
    keep_output: bool = False
    allows_overlap: bool = False
    places_parts: bool = True
    trades_flash: bool = False
    chosen: Mapping[Operator, KernelRecipe] = field(default_factory=dict, compare=False)

    def may_trade_flash(self, rows: int) -> bool:
        """Whether kernels of streams that compute so many rows at a time may buy speed with flash.

        Where it is one row, what is prepared at compile time need not be prepared again for each, and takes little.
        """
        return rows == 1 or self.trades_flash


def lower(
    graph: Graph,
    target: Target,
    options: LoweringOptions = LoweringOptions(),
    small: AbstractSet[Operator] = frozenset(),
    streams: Sequence[StreamChoice] = (),
    built: BuiltKernels | None = None,
) -> Program:
    """A program without places yet; the operators `small` take the kernel that can overlap most, the others the
    fastest; those of `streams` run row by row. `built` keeps kernels for the next time that the same graph is lowered.

    Raises `CompileError` with all operators that have no kernel.
    """
    return Lowering(graph, target, options, small, streams, built if built is not None else {}).run()


def check_doubles(op: Operator, target: Target) -> None:
    """Raise `CompileError` for float64 on a core without a double-precision unit: no bundle calls soft-float routines
    for it.
    """
    types = (*(value.type for value in op.operands), *op.result_types())
    if op.is_view or target.has("double") or all(type.dtype is not DType.F64 for type in types):
        return
    able = ", ".join(name for name, other in load_targets().items() if other.has("double"))
    raise op.error(
        f"numbers are f64, and {target.name} has no double-precision unit",
        "unsupported-types",
        help=f"make the model float32, or compile for one of {able}",
    )


class Lowering:
    """One run of `lower`: buffers, instructions and kernels so far."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        options: LoweringOptions,
        small: AbstractSet[Operator],
        streams: Sequence[StreamChoice],
        built: BuiltKernels,
    ) -> None:
        self.graph = graph
        self.built = built
        self.choices = {choice.operators[0]: choice for choice in streams}
        self.streams: list[Stream] = []
        self.target = target
        self.options = options
        self.small = small
        self.buffers: dict[str, Buffer] = {}
        self.bindings: dict[Value, str] = {}
        self.kernels: dict[str, Kernel] = {}
        self.instructions: list[Instruction] = []
        self.constants: dict[bytes, str] = {}
        self.last_use: dict[Value, int] = {}
        self.end = 0

    def run(self) -> Program:
        self._bind_inputs()
        code = [op for op in self.graph.operators if not op.is_view]
        steps = {op: i for i, op in enumerate(code)}
        self.end = len(code)
        self._measure_lives(steps)
        problems = Diagnostics()
        streamed = {op for choice in self.choices.values() for op in choice.operators}
        for op in self.graph.operators:
            try:
                check_doubles(op, self.target)
                if op in self.choices:
                    self.streams.append(lower_stream(self, self.choices[op], steps))
                elif op in streamed:
                    continue
                elif op.is_view:
                    self.bindings[self.graph.result(op)] = self.binding(op.operands[0])
                else:
                    self._lower_operator(op, steps[op])
            except CompileError as error:
                problems.extend(error)
                for value in self.graph.results(op):
                    self.bindings.setdefault(value, self.new_buffer(value, "temp"))
        problems.raise_if_any()
        for _, value in self.graph.outputs:
            self._bind_output(value)
        self._set_lives()
        regions = (
            Region(WEIGHTS, "const", WEIGHTS_ALIGNMENT),
            Region(ARENA, "arena", self.target.arena_alignment),
        )
        return Program(
            self.graph.name,
            self.target.name,
            self.graph,
            regions,
            self.buffers,
            tuple(self.instructions),
            self.kernels,
            self.bindings,
            tuple(self.streams),
        )

    # Values and buffers

    def _bind_inputs(self) -> None:
        for value in self.graph.inputs:
            self.bindings[value] = self.new_buffer(value, "input")

    def new_buffer(self, value: Value, kind: str) -> str:
        """A buffer for a value as a whole."""
        name = self.buffer_name(value.name)
        alignment = max(value.type.dtype.size_bytes, min(self.target.arena_alignment, 4))
        self.buffers[name] = Buffer(name, kind, ARENA, value.type.dtype, value.type.shape, alignment)  # type: ignore[arg-type]  # a BufferKind
        return name

    def buffer_name(self, wanted: str) -> str:
        """A name that no buffer has yet, after what it is to hold."""
        base = re.sub(r"[^A-Za-z0-9_.]+", "_", wanted)[:48].strip("_") or "t"
        name, count = base, 1
        while name in self.buffers:
            name, count = f"{base}.{count}", count + 1
        return name

    def binding(self, value: Value) -> str:
        """The buffer in which a value lives."""
        if value.data is not None:
            return self.constant(value.name, value.data)
        return self.bindings[value]

    def constant(self, name: str, data: Array) -> str:
        """A constant buffer, one for all constants of the same type, shape and bytes."""
        key = hashlib.sha256(f"{data.dtype.str}{data.shape}".encode() + data.tobytes()).digest()
        if key not in self.constants:
            unique = self.buffer_name(name)
            kept = data.view()
            kept.flags.writeable = False
            shape = tuple(data.shape)
            alignment = max(CONSTANT_ALIGNMENT, data.itemsize)
            self.buffers[unique] = Buffer(unique, "const", WEIGHTS, DType.of(data), shape, alignment, data=kept)
            self.constants[key] = unique
        return self.constants[key]

    def _bind_output(self, value: Value) -> None:
        name = self.binding(value)
        self.bindings[value] = name
        buffer = self.buffers[name]
        if buffer.kind == "temp":
            self.buffers[name] = replace(buffer, kind="output")

    # Lives

    def _measure_lives(self, steps: dict[Operator, int]) -> None:
        """The last step that reads each value, through its views."""
        for value in self.graph.values():
            reads = [steps[user] for user in value.users if user in steps]
            self.last_use[value] = self.end if self.graph.is_output(value) else max(reads, default=-1)
        if self.options.keep_input:
            self.last_use |= {value: self.end for value in self.graph.inputs}
        for op in reversed(self.graph.operators):
            if op.is_view:
                source = op.operands[0]
                self.last_use[source] = max(self.last_use[source], self.last_use[self.graph.result(op)])

    def _set_lives(self) -> None:
        """First and last step of every buffer of the arena, from the instructions."""
        lives: dict[str, tuple[int, int]] = {}

        def extend(name: str, step: int) -> None:
            first, last = lives.get(name, (step, step))
            lives[name] = min(first, step), max(last, step)

        for value in self.graph.inputs:
            extend(self.bindings[value], -1)
            if self.options.keep_input:
                extend(self.bindings[value], self.end)
        ends = {step: (stream.first, stream.last) for stream in self.streams for step in stream.steps}
        for step, instruction in enumerate(self.instructions):
            for operand in instruction.operands:
                for end in ends.get(step, (step,)):
                    extend(operand.buffer, end)
        for stream in self.streams:
            for action in stream.actions:
                if isinstance(action, Copy):
                    extend(action.source, stream.first)
                    extend(action.source, stream.last)
        for _, value in self.graph.outputs:
            extend(self.bindings[value], self.end)
            if self.options.keep_output:
                extend(self.bindings[value], -1)
        for name, (first, last) in lives.items():
            if self.buffers[name].region == ARENA:
                self.buffers[name] = replace(self.buffers[name], first=first, last=last)

    # Operators

    def _lower_operator(self, op: Operator, step: int) -> None:
        bound, recipe = self._choose_kernel(op, step)
        kernel = bound.kernel
        in_place = self._in_place_operand(op, bound, step)
        overlap = None if in_place else self._overlap(op, recipe, step)
        operands: dict[str, tuple[OperandKind, str]] = {}
        for name, value in bound.activations:
            operands[name] = ("in", self.binding(value))
        for name, data in bound.constants:
            operands[name] = ("in", self.constant(f"{self.graph.results(op)[0].name}.{name}", data))
        for name, value in zip(bound.results, self.graph.results(op), strict=True):
            self.bindings[value] = self.bindings[in_place[1]] if in_place else self.new_buffer(value, "temp")
            operands[name] = ("inout" if in_place else "out", self.bindings[value])
        if bound.workspace_bytes:
            name = self.buffer_name("workspace")
            self.buffers[name] = Buffer(name, "workspace", ARENA, DType.U8, (bound.workspace_bytes,), 8)
            operands["workspace"] = ("workspace", name)
        if in_place is not None:
            kernel = merge_parameters(kernel, in_place[0], bound.results[0])
        if overlap is not None:
            kernel = replace(kernel, name=f"{kernel.name}_over", may_overlap=True)
        self.append(
            Instruction(kernel.name, bound_operands(kernel, operands), op, recipe.name, overlap=overlap), kernel
        )

    def append(self, instruction: Instruction, kernel: Kernel) -> None:
        """The next instruction, whose buffers get the alignment that its kernel needs."""
        self.kernels.setdefault(kernel.name, kernel)
        self.instructions.append(instruction)
        for operand in instruction.operands:
            buffer = self.buffers[operand.buffer]
            needed = kernel.parameter(operand.parameter).alignment
            if buffer.alignment < needed:
                self.buffers[operand.buffer] = replace(buffer, alignment=needed)

    def _choose_kernel(self, op: Operator, step: int) -> tuple[BoundKernel, KernelRecipe]:
        """The chosen kernel, else the cheapest hand-scheduled one that applies, else the generic one; where memory
        counts, the cheapest of those whose result overlaps an input most.
        """
        candidates = candidate_recipes(op, self.target) if self.options.use_recipes else []
        recipe = self.options.chosen.get(op) or (candidates[0] if candidates else GENERIC)
        if op in self.small:
            recipe = min([*candidates, GENERIC], key=lambda recipe: self._added_bytes(op, recipe, step))
        return self.build(op, op, recipe), recipe

    def build(self, op: Operator, part: Operator, recipe: KernelRecipe) -> BoundKernel:
        """The kernel of an operator, or of `part`, some rows of it; made once for each recipe."""
        rows = part.result_types()[0].shape[1] if part is not op else 0
        # Sums over rows have one row, whatever they add.
        rows = part.operands[-1].type.shape[1] if op.adds_rows and part is not op else rows
        key = (op, rows, recipe)
        if key not in self.built:
            try:
                self.built[key] = build_kernel(part, recipe)
            except NotImplementedError:
                raise op.error("has no kernel", "unsupported-operator") from None
        return self.built[key]

    def _in_place_operand(self, op: Operator, bound: BoundKernel, step: int) -> tuple[str, Value] | None:
        """Buffer name and value of the first operand that the result may replace in memory."""
        sources = [self.binding(value) for _, value in bound.activations]
        for name, value in in_place_operands(op, bound):
            buffer = self.buffers[self.binding(value)]
            if sources.count(buffer.name) == 1 and self.may_overwrite(buffer, self.graph.result(op), step):
                return name, value
        return None

    def _overlap(self, op: Operator, recipe: KernelRecipe, step: int) -> Overlap | None:
        """The input over which the result may be written, where that saves memory: the one that saves most."""
        if not self.options.allows_overlap or len(self.graph.results(op)) != 1:
            return None
        result, distances, in_place = self.graph.result(op), recipe.overlap_bytes(op), recipe.in_place(op)
        if self.options.keep_output and self.is_output(result):
            return None
        activations = [(name, self.buffers[self.binding(value)]) for name, value in recipe.activations(op)]
        used = [buffer.name for _, buffer in activations]
        found: list[tuple[int, Overlap]] = []
        for name, buffer in activations:
            if used.count(buffer.name) > 1 or not self.may_overwrite(buffer, result, step):
                continue
            size = result.type.size_bytes
            overlap = Overlap(buffer.name, min(distances.get(name, size), size), name in in_place)
            found.append((overlap.shared_bytes(buffer.size_bytes, size), overlap))
        saved, best = max(found, key=lambda pair: pair[0], default=(0, None))
        return best if saved > 0 else None

    def _added_bytes(self, op: Operator, recipe: KernelRecipe, step: int) -> int:
        """Bytes that an operator's results take beyond what its inputs hold anyway."""
        total = sum(value.type.size_bytes for value in self.graph.results(op))
        overlap = self._overlap(op, recipe, step)
        if overlap is not None:
            return total - overlap.shared_bytes(self.buffers[overlap.source].size_bytes, total)
        if recipe is not GENERIC or not op.in_place_operands() or len(self.graph.results(op)) != 1:
            return total
        return 0 if self._in_place_operand(op, self.build(op, op, recipe), step) is not None else total

    def is_output(self, value: Value) -> bool:
        """Whether the caller reads a value at the end, perhaps through a view."""
        return self.last_use[value] >= self.end

    def may_overwrite(self, buffer: Buffer, result: Value, step: int) -> bool:
        """Whether nobody reads a buffer after this step, so that `result` may stand in it.

        An output that must outlast the writing of the next input does not stand in an input's buffer.
        """
        if buffer.region != ARENA:
            return False
        if self.options.keep_output and buffer.kind == "input" and self.is_output(result):
            return False
        sharing = [value for value, bound in self.bindings.items() if bound == buffer.name]
        return all(self.last_use[value] <= step for value in sharing)
