"""What holds of every program.

1. There are a region `weights` of constants and a region `arena`, perhaps others of either kind for a board with more
   memories, all under names of their own; their alignments are powers of two.
2. A buffer stands under its name, in a region of its kind: constants in one of constants, all others in arenas. Its
   alignment is a power of two that suits its element type and is at most that of the region.
3. A constant has data of its type that cannot be written; no other buffer has data.
4. A kernel stands under its name, is used, and no instruction uses another.
5. An instruction's operands are the kernel's parameters in order: name, kind, element type, bytes, alignment; it gives
   an i32 for each scalar. Vectors of kernels with scalars may have fewer bytes.
6. Every operator of the graph that needs code has one instruction, in an order in which values are made before they are
   used, and no instruction computes anything else. An operator that only puts one tensor into another needs no code
   where the buffers of its parts lie in the other's as it says.
7. A value is bound to a buffer of its element type and size that exists. Inputs, outputs and the results of operators
   are bound; inputs each to one of kind `input`; outputs to one of kind `input`, `output` or `const`.
8. An instruction reads constants and the buffers of its operator's operands, and writes the buffers of its results,
   each once. It writes no constant. What it both reads and writes is one operand of kind `inout`.
9. What an instruction reads, and what the caller reads at the end, is the value that was last written there; who writes
   a buffer writes the parts and the wholes that share bytes with it.
10. A life begins no earlier than step -1, ends no later than the step after the last instruction, and covers every step
    that touches the buffer: the caller's writing of inputs, instructions, the caller's reading of outputs.
11. A workspace belongs to one instruction, and lives for that step.
12. Either no buffer has a place, or every buffer has: aligned, inside its region; a region's bound is at most its size,
    and equal to it just when the plan is said to be optimal.
13. No two buffers of a region share a byte while both live; constants always live. Exceptions are a result that
    overlaps an input by leave of 14, and parts by 17.
14. An instruction that lets its one result overlap an input has a kernel that may, reads that input as one operand
    whose life ends there, and begins the life of the result; placed so that they share bytes, the result begins at
    least the stated distance below the input, or exactly at it where that is said. The same holds of a stream as a
    whole, whose rows are read and written in the order of its schedule.
15. Streams are ranges of instructions one behind the other. Just their instructions run by rows, a number that divides
   what they go through; actions name instructions of the stream, buffers, and kernels that fit their rows.
16. Following the schedule, every run reads the very rows of the values that its operator needs, and padding where it
   reads outside; results are made once, from the first row to the last; nothing is read or written outside a buffer.
17. A buffer that is part of another lies in the arena, in bytes that the other has and at which it is aligned, lives
    while the other lives, and has its place there. No instruction of a stream uses one of the two.

For instructions of streams 5 and 7 to 11 hold with these differences: operands are rows of a buffer that may hold more
of them, or fewer than the value bound to it if it is a ring; 16 takes the place of 9; buffers live for the whole
stream; its instructions share one workspace.
"""

from __future__ import annotations

from collections.abc import Iterator

from luciole.errors import InternalError
from luciole.graph.core import Operator, Value
from luciole.ir.types import DType
from luciole.kernel.core import Kernel
from luciole.program.core import (
    ARENA,
    WEIGHTS,
    Buffer,
    Copy,
    Instruction,
    Operand,
    Program,
    Region,
    Stream,
    lies_in_place,
    may_be_shorter,
)
from luciole.program.verify_parts import byte_sharers, is_within, part_problems
from luciole.program.verify_streams import stream_problems

Problems = Iterator[tuple[int, str]]

_REGION_KINDS = {WEIGHTS: "const", ARENA: "arena"}


def verify_program(program: Program) -> None:
    """Raise `InternalError` that lists every broken invariant by its number (see the module's text)."""
    problems = [f"{number}. {text}" for number, text in program_problems(program)]
    if problems:
        raise InternalError(f"program {program.name} is broken:\n  " + "\n  ".join(problems))


def program_problems(program: Program) -> Problems:
    """The broken invariants of a program, each with its number; those of streams where nothing else is broken."""
    is_sound = True
    for problem in _basic_problems(program):
        is_sound = False
        yield problem
    if is_sound:
        yield from stream_problems(program)
        for stream in program.streams:
            yield from _stream_overlap(program, stream)
    yield from _places(program)


def _basic_problems(program: Program) -> Problems:
    """The broken invariants 1 to 14, but for those of places."""
    yield from _regions(program)
    for name, buffer in program.buffers.items():
        yield from _buffer(program, name, buffer)
    yield from _kernels(program)
    for step, instruction in enumerate(program.instructions):
        kernel = program.kernels.get(instruction.kernel)
        if kernel is not None:
            yield from _operands(program, step, instruction, kernel)
        yield from _buffers_of(program, step, instruction)
    yield from _operators(program)
    yield from _bindings(program)
    yield from _contents(program)
    yield from _lives(program)
    yield from _workspaces(program)
    yield from part_problems(program)
    for step, instruction in enumerate(program.instructions):
        yield from _overlap(program, step, instruction)


# Regions, buffers, kernels


def _regions(program: Program) -> Problems:
    found = {region.name: region.kind for region in program.regions}
    if not _REGION_KINDS.items() <= found.items() or len(program.regions) != len(found):
        yield 1, f"the regions are {', '.join(f'{r.name} ({r.kind})' for r in program.regions) or 'missing'}"
    for region in program.regions:
        if not _is_power_of_two(region.alignment):
            yield 1, f"region {region.name} is aligned to {region.alignment}"


def _buffer(program: Program, name: str, buffer: Buffer) -> Problems:
    if name != buffer.name:
        yield 2, f"buffer {buffer.name} stands under the name {name}"
    home = _find_region(program, buffer.region)
    if home is None or home.kind != ("const" if buffer.kind == "const" else "arena"):
        yield 2, f"buffer {name} of kind {buffer.kind} is in region {buffer.region}"
    if buffer.dtype in (DType.INDEX, DType.POINTER) or any(size < 0 for size in buffer.shape):
        yield 2, f"buffer {name} has the type {buffer.dtype.value}{list(buffer.shape)}"
    elif not _is_power_of_two(buffer.alignment) or buffer.alignment % buffer.dtype.size_bytes:
        yield 2, f"buffer {name} of {buffer.dtype.value} is aligned to {buffer.alignment}"
    region = _find_region(program, buffer.region)
    if region is not None and buffer.alignment > region.alignment:
        yield 2, f"buffer {name} is aligned to {buffer.alignment}, its region to {region.alignment}"
    data = buffer.data
    if buffer.kind != "const":
        if data is not None:
            yield 3, f"buffer {name} of kind {buffer.kind} has data"
    elif data is None:
        yield 3, f"constant {name} has no data"
    elif tuple(data.shape) != buffer.shape or data.dtype != buffer.dtype.numpy:
        yield 3, f"constant {name} of {buffer.dtype.value}{list(buffer.shape)} holds {data.dtype}{list(data.shape)}"
    elif data.flags.writeable:
        yield 3, f"constant {name} can be written"


def _kernels(program: Program) -> Problems:
    used = {instruction.kernel: None for instruction in program.instructions}
    used |= dict.fromkeys(name for stream in program.streams for name in stream.kernels())
    for name, kernel in program.kernels.items():
        if name != kernel.name:
            yield 4, f"kernel {kernel.name} stands under the name {name}"
        if name not in used:
            yield 4, f"kernel {name} is not used"
    for name in used:
        if name not in program.kernels:
            yield 4, f"there is no kernel {name}"


# Instructions


def _operands(program: Program, step: int, instruction: Instruction, kernel: Kernel) -> Problems:
    given = [(operand.kind, operand.parameter) for operand in instruction.operands]
    wanted = [(parameter.kind, parameter.name) for parameter in kernel.parameters]
    if given != wanted:
        texts = [", ".join(f"{kind} {name}" for kind, name in pairs) for pairs in (wanted, given)]
        yield 5, f"instruction {step}: {kernel.name} takes ({texts[0]}), given ({texts[1]})"
        return
    if len(instruction.scalars) != len(kernel.scalars):
        count = len(instruction.scalars)
        yield 5, f"instruction {step}: {kernel.name} takes {len(kernel.scalars)} scalars, given {count}"
    if not all(-(1 << 31) <= scalar < 1 << 31 for scalar in instruction.scalars):
        yield 5, f"instruction {step}: a scalar of {instruction.scalars} is no i32"
    for operand, parameter in zip(instruction.operands, kernel.parameters, strict=True):
        buffer = program.buffers.get(operand.buffer)
        if buffer is None:
            continue
        where = f"instruction {step}: buffer {buffer.name}"
        needed = _size_bytes(parameter.dtype, parameter.shape)
        is_part = bool(instruction.rows) and buffer.kind != "const" and buffer.size_bytes >= needed
        is_part |= may_be_shorter(kernel, parameter) and not instruction.rows and buffer.size_bytes <= needed
        if buffer.dtype is not parameter.dtype or (buffer.size_bytes != needed and not is_part):
            have = f"{buffer.dtype.value} of {buffer.size_bytes} bytes"
            yield 5, f"{where} is {have}, {parameter.name} is {parameter.dtype.value} of {needed} bytes"
        if parameter.alignment > 0 and buffer.alignment % parameter.alignment:
            yield 5, f"{where} is aligned to {buffer.alignment}, {parameter.name} needs {parameter.alignment}"


def _buffers_of(program: Program, step: int, instruction: Instruction) -> Problems:
    """Invariant 8 for one instruction."""
    where = f"instruction {step}"
    for operand in instruction.operands:
        if operand.buffer not in program.buffers:
            yield 8, f"{where}: there is no buffer {operand.buffer}"
    if instruction.operator not in program.graph:
        return
    known = [operand for operand in instruction.operands if operand.buffer in program.buffers]
    sources = {program.bindings.get(value) for value in instruction.operator.operands}
    for operand in known:
        buffer = program.buffers[operand.buffer]
        is_known = buffer.kind in ("const", "ring") or (instruction.rows and operand.kind == "inout")
        if operand.kind in ("in", "inout") and not is_known and operand.buffer not in sources:
            yield 8, f"{where} reads buffer {operand.buffer}, in which no operand of {instruction.operator} lives"
        if operand.kind != "in" and buffer.kind == "const":
            yield 8, f"{where} writes the constant {operand.buffer}"
        if (operand.kind == "workspace") != (buffer.kind == "workspace"):
            yield 8, f"{where} uses buffer {operand.buffer} of kind {buffer.kind} as {operand.kind}"
    written = [operand.buffer for operand in known if operand.kind in ("out", "inout")]
    results = [program.bindings.get(value) for value in program.graph.results(instruction.operator)]
    if sorted(written) != sorted(name for name in results if name is not None):
        yield 8, f"{where} writes {', '.join(written)}, its results live in {', '.join(map(str, results))}"
    uses: dict[str, list[Operand]] = {}
    for operand in known:
        uses.setdefault(operand.buffer, []).append(operand)
    for name, operands in uses.items():
        if len(operands) > 1 and any(operand.kind != "in" for operand in operands):
            yield 8, f"{where} has buffer {name} as {' and as '.join(operand.kind for operand in operands)}"


def _operators(program: Program) -> Problems:
    computed: dict[Operator, int] = {}
    for step, instruction in enumerate(program.instructions):
        op = instruction.operator
        if op not in program.graph:
            yield 6, f"instruction {step} computes {op}, which is not in the graph"
        elif op.is_view:
            yield 6, f"instruction {step} computes {op}, which needs no code"
        elif op in computed:
            yield 6, f"instructions {computed[op]} and {step} both compute {op}"
        computed.setdefault(op, step)
    for op in program.graph.operators:
        if op.is_view or (op not in computed and lies_in_place(program, op)):
            continue
        if op not in computed:
            yield 6, f"no instruction computes {op}"
            continue
        for value in op.operands:
            for maker in _makers(program, value):
                if computed.get(maker, -1) >= computed[op]:
                    yield 6, f"instruction {computed[op]} reads {value!r}, which instruction {computed[maker]} makes"


def _makers(program: Program, value: Value) -> Iterator[Operator]:
    """The operators whose code makes a value, through views and parts."""
    op = value.producer
    if op is None:
        return
    if op.is_view or lies_in_place(program, op):
        for operand in op.operands:
            yield from _makers(program, operand)
    else:
        yield op


# Bindings and contents


def _bindings(program: Program) -> Problems:
    graph = program.graph
    values = set(graph.values())
    for value, name in program.bindings.items():
        buffer = program.buffers.get(name)
        if value not in values:
            yield 7, f"{value!r} is bound and not in the graph"
        if buffer is None:
            yield 7, f"{value!r} is bound to {name}, and there is no such buffer"
        elif not _can_hold(buffer, value):
            have = f"{buffer.dtype.value} of {buffer.size_bytes} bytes"
            yield 7, f"{value!r} is bound to buffer {name}, which is {have}"
    needed = [*graph.inputs, *(v for op in graph.operators for v in graph.results(op)), *(v for _, v in graph.outputs)]
    for value in dict.fromkeys(needed):
        if value not in program.bindings:
            yield 7, f"{value!r} is bound to no buffer"
    taken: dict[str, Value] = {}
    for value in graph.inputs:
        buffer = _buffer_of(program, value)
        if buffer is not None and (
            buffer.kind not in ("input", "ring") or taken.setdefault(buffer.name, value) is not value
        ):
            yield 7, f"input {value!r} has no input buffer of its own, but {buffer.name} of kind {buffer.kind}"
    for name, value in graph.outputs:
        buffer = _buffer_of(program, value)
        if buffer is not None and buffer.kind not in ("input", "output", "const"):
            yield 7, f"output {name} is in buffer {buffer.name} of kind {buffer.kind}"


def _can_hold(buffer: Buffer, value: Value) -> bool:
    """Whether a buffer has the element type and size of a value, or of its rows."""
    type = value.type
    if buffer.kind == "ring" and type.rank == 4 and len(buffer.shape) == 4:
        return (buffer.dtype, buffer.shape[2:]) == (type.dtype, type.shape[2:]) and buffer.shape[0] == type.shape[
            0
        ] == 1
    return (buffer.dtype, buffer.size_bytes) == (type.dtype, type.size_bytes)


def _contents(program: Program) -> Problems:
    """Follow which values each buffer holds, step by step (invariant 9)."""
    graph, bindings = program.graph, program.bindings
    views: dict[Value, list[Value]] = {}
    for op in graph.operators:
        if op.is_view:
            views.setdefault(op.operands[0], []).extend(graph.results(op))
    placed = [op for op in graph.operators if not op.is_view and lies_in_place(program, op)]
    families = byte_sharers(program)
    holds: dict[str, set[Value]] = {}

    def write(value: Value) -> None:
        """The buffer of `value` now holds it, and what shares bytes with that buffer holds nothing else."""
        name = bindings.get(value)
        if name is None:
            return
        for other in families.get(name, ()):
            holds.pop(other, None)
        settle(value, name)

    def settle(value: Value, name: str) -> None:
        """A buffer holds a value, those of its views that share the buffer, and what lies in place in these or around
        them.
        """
        pending, found = [value], {value}
        while pending:
            for view in views.get(pending.pop(), []):
                if bindings.get(view) == name:
                    found.add(view)
                    pending.append(view)
        holds[name] = found
        for op in placed:
            result = graph.result(op)
            if not found.isdisjoint(op.operands) and not any(map(is_lost, op.operands)):
                settle(result, bindings[result])

    def is_lost(value: Value) -> bool:
        buffer = _buffer_of(program, value)
        return buffer is not None and buffer.kind != "const" and value not in holds.get(buffer.name, ())

    for value in graph.inputs:
        write(value)
    streamed = {step: stream for stream in program.streams for step in stream.steps}
    for step, instruction in enumerate(program.instructions):
        if instruction.operator not in graph:
            continue
        read = set(instruction.buffers("in", "inout"))
        if step in streamed:
            read |= {action.source for action in streamed[step].actions if isinstance(action, Copy)}
        for value in dict.fromkeys(instruction.operator.operands):
            buffer = _buffer_of(program, value)
            if buffer is not None and buffer.kind == "ring" and step in streamed:
                continue
            if bindings.get(value) in read and is_lost(value):
                yield 9, f"instruction {step} reads {value!r}, which buffer {bindings[value]} does not hold then"
        for value in graph.results(instruction.operator):
            write(value)
    for name, value in graph.outputs:
        if is_lost(value):
            yield 9, f"output {name} is {value!r}, which buffer {bindings[value]} does not hold at the end"


# Lives and places


def _lives(program: Program) -> Problems:
    end = len(program.instructions)
    touched: dict[str, list[int]] = {}
    for value in program.graph.inputs:
        touched.setdefault(program.bindings.get(value, ""), []).append(-1)
    for step, instruction in enumerate(program.instructions):
        stream = program.stream_at(step)
        steps = (step,) if stream is None else (stream.first, stream.last)
        for name in instruction.buffers():
            touched.setdefault(name, []).extend(steps)
    for stream in program.streams:
        for action in stream.actions:
            if isinstance(action, Copy):
                touched.setdefault(action.source, []).extend((stream.first, stream.last))
    for _, value in program.graph.outputs:
        touched.setdefault(program.bindings.get(value, ""), []).append(end)
    for name, buffer in program.buffers.items():
        if buffer.kind == "const":
            continue
        life = f"buffer {name} lives {buffer.first} to {buffer.last}"
        if not -1 <= buffer.first <= buffer.last <= end:
            yield 10, f"{life}, the steps are -1 to {end}"
        missed = [step for step in sorted(set(touched.get(name, []))) if not buffer.first <= step <= buffer.last]
        if missed:
            yield 10, f"{life} and is touched in step {', '.join(map(str, dict.fromkeys(missed)))}"


def _workspaces(program: Program) -> Problems:
    users: dict[str, list[tuple[int, int]]] = {}
    for step, instruction in enumerate(program.instructions):
        stream = program.stream_at(step)
        steps = (step, step) if stream is None else (stream.first, stream.last)
        for name in instruction.buffers("workspace"):
            if steps not in users.setdefault(name, []) or stream is None:
                users[name].append(steps)
    for name, buffer in program.buffers.items():
        if buffer.kind != "workspace":
            continue
        owners = users.get(name, [])
        if len(owners) != 1:
            yield 11, f"workspace {name} belongs to {len(owners)} instructions"
        elif (buffer.first, buffer.last) != owners[0]:
            yield 11, f"workspace {name} of instruction {owners[0][0]} lives {buffer.first} to {buffer.last}"


def _overlap(program: Program, step: int, instruction: Instruction) -> Problems:
    """Invariant 14 for one instruction, but for the places."""
    overlap = instruction.overlap
    if overlap is None:
        return
    where = f"instruction {step}: the result over {overlap.source}"
    kernel = program.kernels.get(instruction.kernel)
    if kernel is not None and not kernel.may_overlap:
        yield 14, f"{where} is not what {kernel.name} allows"
    if overlap.distance_bytes < 0:
        yield 14, f"{where} is {overlap.distance_bytes} bytes below it"
    results = instruction.buffers("out", "inout")
    if len(results) != 1 or instruction.buffers("in").count(overlap.source) != 1:
        yield 14, f"{where} is not one result over one input"
        return
    source, result = program.buffers.get(overlap.source), program.buffers.get(results[0])
    if source is None or result is None:
        return
    yield from _overlap_lives(source, result, range(step, step + 1), where)


def _stream_overlap(program: Program, stream: Stream) -> Problems:
    """Invariant 14 for one stream, but for the order of its rows and for places."""
    if stream.overlap is None:
        return
    where = f"stream {stream.first} to {stream.last}: the result over {stream.overlap.source}"
    source, result = program.buffers.get(stream.overlap.source), program.buffers.get(stream.result)
    if source is None or result is None:
        yield 14, f"{where} is not one result over one input"
        return
    if stream.overlap.distance_bytes < 0 or stream.overlap.in_place:
        yield 14, f"{where} is {stream.overlap.distance_bytes} bytes below it, or at it"
    yield from _overlap_lives(source, result, stream.steps, where)


def _overlap_lives(source: Buffer, result: Buffer, steps: range, where: str) -> Problems:
    if source.kind == "const" or source.last != steps[-1] or result.first != steps[0]:
        lives = f"{source.first} to {source.last} and {result.first} to {result.last}"
        yield 14, f"{where} needs the input to end and the result to begin, they live {lives}"


def _places(program: Program) -> Problems:
    unplaced = [buffer.name for buffer in program.buffers.values() if buffer.offset is None]
    if len(unplaced) == len(program.buffers):
        return
    if unplaced:
        yield 12, f"some buffers have a place, but not {', '.join(unplaced)}"
    for buffer in program.buffers.values():
        region = _find_region(program, buffer.region)
        if buffer.offset is None or region is None:
            continue
        place = f"buffer {buffer.name} of {buffer.size_bytes} bytes at {buffer.offset}"
        if _is_power_of_two(buffer.alignment) and buffer.offset % buffer.alignment:
            yield 12, f"{place} is not aligned to {buffer.alignment}"
        if buffer.offset < 0 or buffer.offset + buffer.size_bytes > region.size_bytes:
            yield 12, f"{place} is not inside {region.name} of {region.size_bytes} bytes"
    for region in program.regions:
        size, bound = region.size_bytes, region.lower_bound_bytes
        if bound > size or region.is_optimal != (bound == size):
            claim = "said" if region.is_optimal else "not said"
            yield 12, f"region {region.name} has {size} bytes, a bound of {bound}, and is {claim} to be optimal"
        yield from _overlaps(program, region)


def _overlaps(program: Program, region: Region) -> Problems:
    """Pairs that share bytes and steps, found by a sweep over the offsets."""
    placed = [b for b in program.in_region(region.name) if b.offset is not None and b.size_bytes > 0]
    placed.sort(key=_offset)
    allowed = {(overlap.source, result): overlap for result, overlap in program.overlaps()}
    open_buffers: list[Buffer] = []
    for buffer in placed:
        open_buffers = [b for b in open_buffers if _offset(b) + b.size_bytes > _offset(buffer)]
        for other in open_buffers:
            in_time = buffer.first <= other.last and other.first <= buffer.last
            if any(
                (a.name, b.name) in allowed and allowed[a.name, b.name].allows(_offset(a), _offset(b))
                for a, b in ((buffer, other), (other, buffer))
            ):
                continue
            if (in_time or region.kind == "const") and not is_within(program, buffer, other):
                yield 13, f"buffers {other.name} and {buffer.name} overlap in {region.name}"
        open_buffers.append(buffer)


def _offset(buffer: Buffer) -> int:
    return buffer.offset or 0


def _find_region(program: Program, name: str) -> Region | None:
    return next((region for region in program.regions if region.name == name), None)


def _buffer_of(program: Program, value: Value) -> Buffer | None:
    return program.buffers.get(program.bindings.get(value, ""))


def _size_bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    size = dtype.size_bytes
    for extent in shape:
        size *= extent
    return size


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
