"""The bundle's entry functions from a program: what every back end must print.

<prefix>_init(model, arena, size)    checks the arena and remembers it
<prefix>_run(model)                  one call a layer, in order; for streams a loop over a table of calls
<prefix>_input..., <prefix>_output...(model)   pointers into the arena (or, for a constant output, into the weights)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from luciole.emit.schedule import Number, schedule_table
from luciole.graph.core import Value
from luciole.ir.target import Target
from luciole.ir.types import TensorType
from luciole.program.core import ARENA, STATE, WEIGHTS, Buffer, Program, Stream

#: The status values of the C interface, in order; the header prints them as an enumeration.
STATUSES = ("OK", "ERROR_ARENA_SIZE", "ERROR_ARENA_ALIGN", "ERROR_ARENA_NULL")


#: What all functions with calls are: jump tables would be more constants, with addresses in them.
_ATTRIBUTES = 'nounwind "no-builtins" "no-jump-tables"="true"'


@dataclass(frozen=True)
class Port:
    """A model input or output: its C name (`input`, or `input_<name>` where there are several), its type, and where it
    lies.

    `name` is the user's, any text; `function` and `macro` are identifiers.
    """

    function: str
    macro: str
    name: str
    type: TensorType
    buffer: Buffer
    index: int


@dataclass(frozen=True)
class Layer:
    """One call of `run`: the function, its pointer arguments as (region, offset), its scalars, and what it stands
    for.
    """

    function: str
    pointers: tuple[tuple[str, int], ...]
    scalars: tuple[int, ...]
    location: str


def c_identifier(text: str, limit: int = 31) -> str:
    """`text` made of `[a-z0-9_]`, not starting with a digit, at most `limit` characters; empty text gives `model`."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:limit].strip("_")
    if not name:
        return "model"
    return name if not name[0].isdigit() else f"m{name}"[:limit]


def weights_name(prefix: str, region: str) -> str:
    """The symbol of a region of constants, and the last part of the name of its section."""
    return f"{prefix}_weights" if region == WEIGHTS else f"{prefix}_weights_{region}"


def kernel_function(prefix: str, kernel: str) -> str:
    """The name of a kernel's function in a bundle."""
    return f"{prefix}_{kernel}"


def ports(prefix: str, kind: str, entries: tuple[tuple[str, Value, Buffer], ...]) -> tuple[Port, ...]:
    """The accessors of a model's inputs or outputs (`kind`); several get their names made C-safe and unique."""
    found: list[Port] = []
    taken: set[str] = set()
    for index, (name, value, buffer) in enumerate(entries):
        safe = unique = c_identifier(name)
        number = index
        while unique in taken:
            unique, number = f"{safe[:24]}_{number}", number + len(entries)
        taken.add(unique)
        function = f"{prefix}_{kind}" if len(entries) == 1 else f"{prefix}_{kind}_{unique}"
        found.append(Port(function, function.upper(), name, value.type, buffer, index))
    return tuple(found)


def input_ports(program: Program, prefix: str) -> tuple[Port, ...]:
    """The model's inputs in order."""
    return ports(prefix, "input", program.inputs())


def output_ports(program: Program, prefix: str) -> tuple[Port, ...]:
    """The model's outputs in order."""
    return ports(prefix, "output", program.outputs())


def layers(program: Program, prefix: str) -> tuple[Layer, ...]:
    """The layers of `run`, a call each; those of a stream are called once for some rows at a time."""
    found = []
    for instruction in program.instructions:
        pointers = []
        for operand in instruction.operands:
            buffer = program.buffers[operand.buffer]
            assert buffer.offset is not None
            pointers.append((buffer.region, buffer.offset))
        function = kernel_function(prefix, instruction.kernel)
        found.append(Layer(function, tuple(pointers), instruction.scalars, instruction.location.node))
    return tuple(found)


def print_entry_llvm(program: Program, prefix: str, target: Target) -> str:
    """A module with the entry functions; kernels and weights are external to it."""
    size_type = f"i{8 * target.pointer_bytes}"
    lines = [
        f"@{weights_name(prefix, r.name)} = external hidden constant [{max(1, r.size_bytes)} x i8], align {r.alignment}"
        for r in program.regions_of("const")
    ]
    lines += _declarations_llvm(program, prefix)
    lines += _tables_llvm(program, prefix)
    if len(program.regions_of("arena")) > 1:
        lines += _init_memories_llvm(program, prefix, size_type, target)
    else:
        lines += _init_llvm(program, prefix, size_type)
    pushes = program.pushed_input() is not None
    lines += (_push_rows_llvm if pushes else _run_llvm)(program, prefix, target)
    for port in (*input_ports(program, prefix), *output_ports(program, prefix)):
        if port.buffer.kind != "ring":
            lines += _accessor_llvm(program, prefix, port, target)
    return "\n".join(lines) + "\n"


def _init_llvm(program: Program, prefix: str, size_type: str) -> list[str]:
    arena = program.arena
    return [
        f"define i32 @{prefix}_init(ptr %model, ptr %arena, {size_type} %size)"
        f' nounwind "no-builtins" section ".text.{prefix}_init" {{',
        "  %absent = icmp eq ptr %arena, null",
        "  br i1 %absent, label %null, label %present",
        "null:",
        f"  ret i32 {STATUSES.index('ERROR_ARENA_NULL')}",
        "present:",
        f"  %small = icmp ult {size_type} %size, {arena.size_bytes}",
        "  br i1 %small, label %too_small, label %fits",
        "too_small:",
        f"  ret i32 {STATUSES.index('ERROR_ARENA_SIZE')}",
        "fits:",
        f"  %address = ptrtoint ptr %arena to {size_type}",
        f"  %low = and {size_type} %address, {arena.alignment - 1}",
        f"  %odd = icmp ne {size_type} %low, 0",
        "  br i1 %odd, label %misaligned, label %good",
        "misaligned:",
        f"  ret i32 {STATUSES.index('ERROR_ARENA_ALIGN')}",
        "good:",
        "  store ptr %arena, ptr %model",
        *(_state_llvm(program, "%arena", "0", "0") if program.pushed_input() else ()),
        f"  ret i32 {STATUSES.index('OK')}",
        "}",
    ]


def _init_memories_llvm(program: Program, prefix: str, size_type: str, target: Target) -> list[str]:
    """`init` where there are several arenas: the caller gives a pointer and a size for each, in a structure."""
    lines = [
        f'define i32 @{prefix}_init(ptr %model, ptr %memories) nounwind "no-builtins" section ".text.{prefix}_init" {{',
    ]
    for index, region in enumerate(program.regions_of("arena")):
        at, step = f"%m{index}", target.pointer_bytes
        lines += [
            f"  {at}.from = getelementptr i8, ptr %memories, i32 {2 * index * step}",
            f"  {at} = load ptr, ptr {at}.from",
            f"  {at}.absent = icmp eq ptr {at}, null",
            f"  br i1 {at}.absent, label %null, label %present{index}",
            f"present{index}:",
            f"  {at}.size_at = getelementptr i8, ptr %memories, i32 {(2 * index + 1) * step}",
            f"  {at}.size = load {size_type}, ptr {at}.size_at",
            f"  {at}.small = icmp ult {size_type} {at}.size, {region.size_bytes}",
            f"  br i1 {at}.small, label %too_small, label %fits{index}",
            f"fits{index}:",
            f"  {at}.address = ptrtoint ptr {at} to {size_type}",
            f"  {at}.low = and {size_type} {at}.address, {region.alignment - 1}",
            f"  {at}.odd = icmp ne {size_type} {at}.low, 0",
            f"  br i1 {at}.odd, label %misaligned, label %good{index}",
            f"good{index}:",
            f"  {at}.to = getelementptr i8, ptr %model, i32 {index * step}",
            f"  store ptr {at}, ptr {at}.to",
        ]
    if program.pushed_input():
        regions = [region.name for region in program.regions_of("arena")]
        lines += _state_llvm(program, f"%m{regions.index(program.buffers[STATE].region)}", "0", "0")
    lines.append(f"  ret i32 {STATUSES.index('OK')}")
    for label, status in (("null", "NULL"), ("too_small", "SIZE"), ("misaligned", "ALIGN")):
        lines += [f"{label}:", f"  ret i32 {STATUSES.index(f'ERROR_ARENA_{status}')}"]
    return [*lines, "}"]


def _bases_llvm(program: Program, prefix: str, target: Target) -> tuple[list[str], dict[str, str]]:
    """Lines that load the pointers to the arenas from the model's handle, and the pointers to all regions."""
    lines = ["  %arena = load ptr, ptr %model"]
    bases = {ARENA: "%arena"} | {r.name: f"@{weights_name(prefix, r.name)}" for r in program.regions_of("const")}
    for index, region in enumerate(program.regions_of("arena")[1:], 1):
        bases[region.name] = f"%arena.{index}"
        lines.append(f"  %arena.{index}.from = getelementptr i8, ptr %model, i32 {index * target.pointer_bytes}")
        lines.append(f"  %arena.{index} = load ptr, ptr %arena.{index}.from")
    return lines, bases


def _state_llvm(program: Program, arena: str, position: str, taken: str) -> list[str]:
    """Stores to where a stream remembers its place in the table and the rows that have come."""
    offset = program.buffers[STATE].offset
    name = f"%s{position.strip('%').replace('.', '')}"
    return [
        f"  {name}.p = getelementptr i8, ptr {arena}, i32 {offset}",
        f"  store i32 {position}, ptr {name}.p",
        f"  {name}.q = getelementptr i8, ptr {name}.p, i32 4",
        f"  store i32 {taken}, ptr {name}.q",
    ]


def _push_rows_llvm(program: Program, prefix: str, target: Target) -> list[str]:
    """Goes on where the stream waits, through the rows given; behind the last one the rest of the program follows."""
    pushed = program.pushed_input()
    assert pushed is not None
    height = pushed[1].type.shape[1]
    loads, bases = _bases_llvm(program, prefix, target)
    memory = bases[program.buffers[STATE].region]
    function = f"{prefix}_push_rows"
    lines = [
        f'define i32 @{function}(ptr %model, ptr %rows, i32 %count) {_ATTRIBUTES} section ".text.{function}" {{',
        "  %next = alloca ptr",
        "  %left = alloca i32",
        *loads,
        f"  %state = getelementptr i8, ptr {memory}, i32 {program.buffers[STATE].offset}",
        "  %position = load i32, ptr %state",
        "  %taken.p = getelementptr i8, ptr %state, i32 4",
        "  %taken = load i32, ptr %taken.p",
        f"  %missing = sub i32 {height}, %taken",
        "  %many = icmp ugt i32 %count, %missing",
        "  br i1 %many, label %refused, label %given",
        "refused:",
        "  ret i32 -1",
        "wait:",
        "  %waiting = phi i32 [ %waited, %pause ]",
        "  %all = add i32 %taken, %count",
        *_state_llvm(program, memory, "%waiting", "%all"),
        "  %still = sub i32 %missing, %count",
        "  ret i32 %still",
        "given:",
        "  store ptr %rows, ptr %next",
        "  store i32 %count, ptr %left",
        *_steps_llvm(program, prefix, bases, start="%position"),
        *_state_llvm(program, memory, "0", "0"),
        "  ret i32 0",
        "}",
    ]
    return lines


def _run_llvm(program: Program, prefix: str, target: Target) -> list[str]:
    loads, bases = _bases_llvm(program, prefix, target)
    lines = [
        f'define i32 @{prefix}_run(ptr %model) {_ATTRIBUTES} section ".text.{prefix}_run" {{',
        *loads,
        *_steps_llvm(program, prefix, bases),
    ]
    return [*lines, f"  ret i32 {STATUSES.index('OK')}", "}"]


def _steps_llvm(program: Program, prefix: str, bases: dict[str, str], start: str = "0") -> list[str]:
    """A call for each layer, a loop for each stream; `bases` are the pointers to the regions, `start` the place at
    which the first stream goes on.
    """
    lines = []
    for index, layer in enumerate(layers(program, prefix)):
        stream = program.stream_at(index)
        if stream is not None:
            if index == stream.first:
                lines += _stream_llvm(program, prefix, stream, bases, start if index == 0 else "0")
            continue
        arguments = []
        for number, (region, offset) in enumerate(layer.pointers):
            lines.append(f"  %p{index}.{number} = getelementptr i8, ptr {bases[region]}, i32 {offset}")
            arguments.append(f"ptr %p{index}.{number}")
        arguments += [f"i32 {scalar}" for scalar in layer.scalars]
        lines.append(f"  call void @{layer.function}({', '.join(arguments)})")
    return lines


def _stream_llvm(program: Program, prefix: str, stream: Stream, bases: dict[str, str], start: str) -> list[str]:
    """A loop over the table of a stream from a place on, with a block for each of its calls."""
    table, name = schedule_table(program, stream), f"s{stream.first}"
    type, size = f"i{table.dtype.bits}", table.dtype.size_bytes
    ways = [
        f"[ %{name}.after{number}, %{name}.{'take' if call.taken_bytes else 'call'}{number} ]"
        for number, call in enumerate(table.calls)
    ]
    lines = [
        f"  br label %{name}.enter",
        f"{name}.enter:",
        f"  br label %{name}.next",
        f"{name}.next:",
        f"  %{name}.place = phi i32 [ {start}, %{name}.enter ], {', '.join(ways)}",
        f"  %{name}.at = getelementptr i8, ptr {table_name(prefix, stream)}, i32 %{name}.place",
        f"  %{name}.number = load {type}, ptr %{name}.at",
        f"  switch {type} %{name}.number, label %{name}.end [",
        *(f"    {type} {number}, label %{name}.call{number}" for number in range(len(table.calls))),
        "  ]",
    ]
    for number, call in enumerate(table.calls):
        here = f"%{name}.{number}"
        lines.append(f"{name}.call{number}:")
        if call.taken_bytes:
            lines += [
                f"  {here}.left = load i32, ptr %left",
                f"  {here}.none = icmp eq i32 {here}.left, 0",
                f"  br i1 {here}.none, label %pause, label %{name}.take{number}",
                "pause:",
                f"  %waited = add i32 %{name}.place, 0",
                "  br label %wait",
                f"{name}.take{number}:",
                f"  {here}.fewer = sub i32 {here}.left, 1",
                f"  store i32 {here}.fewer, ptr %left",
                f"  {here}.row = load ptr, ptr %next",
                f"  {here}.following = getelementptr i8, ptr {here}.row, i32 {call.taken_bytes}",
                f"  store ptr {here}.following, ptr %next",
            ]
        for entry in range(1, call.entries + 1):
            lines += [
                f"  {here}.q{entry} = getelementptr i8, ptr %{name}.at, i32 {entry * size}",
                f"  {here}.r{entry} = load {type}, ptr {here}.q{entry}",
                f"  {here}.v{entry} = zext {type} {here}.r{entry} to i32",
            ]
        arguments = [f"ptr {here}.row"] if call.taken_bytes else []
        for index, place in enumerate(call.pointers):
            text = _number_llvm(lines, f"{here}.o{index}", f"{here}.v", place.offset)
            lines.append(f"  {here}.p{index} = getelementptr i8, ptr {bases[place.buffer.region]}, i32 {text}")
            arguments.append(f"ptr {here}.p{index}")
        for index, scalar in enumerate(call.scalars):
            arguments.append(f"i32 {_number_llvm(lines, f'{here}.n{index}', f'{here}.v', scalar)}")
        lines += [
            f"  call void @{kernel_function(prefix, call.kernel)}({', '.join(arguments)})",
            f"  %{name}.after{number} = add i32 %{name}.place, {(1 + call.entries) * size}",
            f"  br label %{name}.next",
        ]
    return [*lines, f"{name}.end:"]


def _number_llvm(lines: list[str], name: str, entries: str, number: Number) -> str:
    """The operand that a number of a call is, after lines that compute it."""
    if not number.entry:
        return str(number.base)
    lines.append(f"  {name}.m = mul i32 {entries}{number.entry}, {number.scale}")
    lines.append(f"  {name} = add i32 {name}.m, {number.base}")
    return name


def table_name(prefix: str, stream: Stream) -> str:
    """The symbol of a stream's table in LLVM assembly."""
    return f"@{prefix}_rows_{stream.first}"


def _tables_llvm(program: Program, prefix: str) -> list[str]:
    lines = []
    for stream in program.streams:
        table, name = schedule_table(program, stream), table_name(prefix, stream)
        type = f"i{table.dtype.bits}"
        values = ", ".join(f"{type} {number}" for number in table.numbers)
        section = f'section ".rodata.{name[1:]}", align {table.dtype.size_bytes}'
        lines.append(f"{name} = internal constant [{len(table.numbers)} x {type}] [{values}], {section}")
    return lines


def _declarations_llvm(program: Program, prefix: str) -> list[str]:
    lines = []
    for name, kernel in program.kernels.items():
        types = ["ptr"] * len(kernel.parameters) + ["i32"] * len(kernel.scalars)
        lines.append(f"declare hidden void @{kernel_function(prefix, name)}({', '.join(types)})")
    return lines


def print_glow_entry_llvm(program: Program, prefix: str, mutable_region: str) -> str:
    """A module with the one function of Glow's interface; kernels are external to it, weights come as its first
    argument.
    """
    bases = {WEIGHTS: "%constant", mutable_region: "%mutable", ARENA: "%activations"}
    lines = [
        *_declarations_llvm(program, prefix),
        *_tables_llvm(program, prefix),
        f"define i32 @{prefix}(ptr %constant, ptr %mutable, ptr %activations) {_ATTRIBUTES} "
        f'section ".text.{prefix}" {{',
        *_steps_llvm(program, prefix, bases),
        f"  ret i32 {STATUSES.index('OK')}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _accessor_llvm(program: Program, prefix: str, port: Port, target: Target) -> list[str]:
    loads, bases = _bases_llvm(program, prefix, target)
    return [
        f'define ptr @{port.function}(ptr %model) nounwind "no-builtins" section ".text.{port.function}" {{',
        *loads,
        f"  %data = getelementptr i8, ptr {bases[port.buffer.region]}, i32 {port.buffer.offset}",
        "  ret ptr %data",
        "}",
    ]


def print_weights_llvm(program: Program, prefix: str) -> str:
    """A module of constants: the weights, one for each region of them."""
    spelled = [chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in range(256)]
    lines = []
    for region in program.regions_of("const"):
        blob = program.weights_blob(region.name) or b"\0"
        name, text = weights_name(prefix, region.name), "".join(map(spelled.__getitem__, blob))
        value, section = f'[{len(blob)} x i8] c"{text}"', f'section ".rodata.{name}"'
        lines.append(f"@{name} = hidden constant {value}, {section}, align {region.alignment}\n")
    return "".join(lines)
