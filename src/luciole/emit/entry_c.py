"""The C of a bundle apart from its kernels: weights as a structure, and the entry functions.

Weights are one constant structure whose members have the types that the kernels read, so that neither byte order nor
strict aliasing matters; explicit padding puts every member where the plan has it, so that the structure equals the
planned blob byte for byte on little-endian cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from luciole.emit.c import comment_c
from luciole.emit.c_expressions import float_literal
from luciole.emit.c_prelude import MEMORY_TYPES
from luciole.emit.entry import (
    STATUSES,
    Port,
    c_identifier,
    input_ports,
    kernel_function,
    output_ports,
    table_name,
    weights_name,
)
from luciole.emit.schedule import Number, schedule_table
from luciole.errors import printable
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Parameter
from luciole.program.core import ARENA, STATE, WEIGHTS, Buffer, Instruction, Program, Stream

_WIDTH = 120


@dataclass(frozen=True)
class WeightMember:
    """A member of the structure of weights: a constant of the program, or padding (then `buffer` is None)."""

    name: str
    c_type: str
    elements: int
    offset: int
    buffer: Buffer | None


def weight_members(program: Program, region: str = WEIGHTS) -> tuple[WeightMember, ...]:
    """The members in the order of their offsets, padding included. Only after planning."""
    members: list[WeightMember] = []
    end = 0
    for index, buffer in enumerate(program.in_region(region)):
        assert buffer.offset is not None
        if buffer.offset > end:
            members.append(WeightMember(f"padding_{index}", "uint8_t", buffer.offset - end, end, None))
        elements = buffer.size_bytes // buffer.dtype.size_bytes
        name = f"w{index}_{c_identifier(buffer.name, 24)}"
        members.append(WeightMember(name, MEMORY_TYPES[buffer.dtype], elements, buffer.offset, buffer))
        end = buffer.offset + buffer.size_bytes
    return tuple(members)


def print_weights_type(program: Program, prefix: str) -> str:
    """The structures of the weights, one for each region of them; empty when there are none."""
    lines = []
    for region in program.regions_of("const"):
        if not (members := weight_members(program, region.name)):
            continue
        lines.append("typedef struct {")
        for member in members:
            said = f" {_comment(member.buffer.name)}" if member.buffer is not None else ""
            lines.append(f"    {member.c_type} {member.name}[{member.elements}];{said}")
        lines += [f"}} {weights_name(prefix, region.name)}_type;", ""]
    return "\n".join(lines)


def print_weights(program: Program, prefix: str, linkage: str, region: str = WEIGHTS) -> str:
    """The definition of a region of weights; `linkage` stands before the type. Empty when there are none."""
    members = weight_members(program, region)
    if not members:
        return ""
    name = weights_name(prefix, region)
    lines = [f"{linkage} const {name}_type {name} {name.upper()}_ATTRIBUTES = {{".lstrip()]
    for index, member in enumerate(members):
        data = member.buffer.data if member.buffer is not None else np.zeros(member.elements, np.uint8)
        assert data is not None
        comma = "," if index + 1 < len(members) else ""
        lines += ["    {", *wrapped(literals(data), "        "), f"    }}{comma}"]
    return "\n".join([*lines, "};", ""])


def print_entry(program: Program, prefix: str) -> str:
    """The functions of Luciole's interface; they need the bundle's header, the kernels and the weights before them."""
    lines = [*print_tables(program, prefix).splitlines(), *_init(program, prefix), ""]
    pushed = program.pushed_input()
    for port in input_ports(program, prefix) if pushed is None else ():
        lines += [*_accessor(program, prefix, port, ""), ""]
    for port in output_ports(program, prefix):
        lines += [*_accessor(program, prefix, port, "const "), ""]
    upper = prefix.upper()
    if pushed is not None:
        return "\n".join([*lines, *_push_rows(program, prefix, pushed[1].type), ""])
    lines += [f"{prefix}_status {prefix}_run({prefix}_model *model)", "{"]
    pointers, calls = _arenas_and_calls(program, prefix)
    lines += [*pointers, *calls]
    return "\n".join([*lines, f"    return {upper}_{STATUSES[0]};", "}", ""])


def _arenas_and_calls(program: Program, prefix: str) -> tuple[list[str], list[str]]:
    """The statements that load the pointers to all arenas, and those of `run` behind them."""
    arenas = {region.name: region.name for region in program.regions_of("arena")}
    pointers = [f"    unsigned char *const {name} = model->{name};\n    (void){name};" for name in arenas]
    return pointers, list(_calls(program, prefix, "{region}.{name}", arenas))


def _push_rows(program: Program, prefix: str, type: TensorType) -> list[str]:
    """Goes on where the stream waits, through the rows given; behind the last one the rest of the program follows."""
    row = type.elements // type.shape[1]
    pointers, calls = _arenas_and_calls(program, prefix)
    state = program.buffers[STATE]
    return [
        f"int32_t {prefix}_push_rows({prefix}_model *model, const {MEMORY_TYPES[type.dtype]} *rows, int32_t count)",
        "{",
        *pointers,
        f"    uint32_t *const state = (uint32_t *)(void *)({state.region} + {state.offset});",
        f"    const int32_t missing = {type.shape[1]} - (int32_t)state[1];",
        f"    const int32_t row = {row};",
        "    int32_t left = count;",
        "",
        "    if (count < 0 || count > missing) {",
        "        return -1;",
        "    }",
        *calls,
        "    state[0] = 0u;",
        "    state[1] = 0u;",
        "    return 0;",
        "}",
    ]


def print_glow_entry(program: Program, prefix: str, mutable_region: str) -> str:
    """The one function of Glow's interface. Constants come through its first argument, as a blob."""
    bases = {ARENA: "activations", mutable_region: "mutableWeight", WEIGHTS: "constantWeight"}
    lines = print_tables(program, prefix).splitlines()
    lines += [f"int {prefix}(uint8_t *constantWeight, uint8_t *mutableWeight, uint8_t *activations)", "{"]
    lines += [f"    (void){name};" for name in ("constantWeight", "mutableWeight", "activations")]
    lines += _calls(program, prefix, "", bases)
    return "\n".join([*lines, f"    return {STATUSES.index('OK')};", "}", ""])


def _init_memories(program: Program, prefix: str) -> list[str]:
    """`init` where there are several arenas: the caller gives a pointer and a size for each, in a structure."""
    upper = prefix.upper()
    arenas = program.regions_of("arena")
    lines = [f"{prefix}_status {prefix}_init({prefix}_model *model, const {prefix}_memories *memories)", "{"]
    for region in arenas:
        name = region.name
        lines += [f"    if (memories->{name} == NULL) {{", f"        return {upper}_ERROR_ARENA_NULL;", "    }"]
        if region.size_bytes:
            lines += [f"    if (memories->{name}_size < {upper}_{name.upper()}_SIZE) {{"]
            lines += [f"        return {upper}_ERROR_ARENA_SIZE;", "    }"]
        lines += [f"    if (((uintptr_t)memories->{name} & ({upper}_{name.upper()}_ALIGN - 1u)) != 0u) {{"]
        lines += [f"        return {upper}_ERROR_ARENA_ALIGN;", "    }"]
    lines += [f"    model->{region.name} = (unsigned char *)memories->{region.name};" for region in arenas]
    lines += _first_state(program)
    return [*lines, f"    return {upper}_OK;", "}"]


def _init(program: Program, prefix: str) -> list[str]:
    if len(program.regions_of("arena")) > 1:
        return _init_memories(program, prefix)
    upper = prefix.upper()
    lines = [
        f"{prefix}_status {prefix}_init({prefix}_model *model, void *arena, size_t size)",
        "{",
        "    if (arena == NULL) {",
        f"        return {upper}_ERROR_ARENA_NULL;",
        "    }",
    ]
    if program.arena.size_bytes:
        lines += [f"    if (size < {upper}_ARENA_SIZE) {{", f"        return {upper}_ERROR_ARENA_SIZE;", "    }"]
    else:
        lines += ["    (void)size;"]
    return [
        *lines,
        f"    if (((uintptr_t)arena & ({upper}_ARENA_ALIGN - 1u)) != 0u) {{",
        f"        return {upper}_ERROR_ARENA_ALIGN;",
        "    }",
        "    model->arena = (unsigned char *)arena;",
        *_first_state(program),
        f"    return {upper}_OK;",
        "}",
    ]


def _first_state(program: Program) -> list[str]:
    """The statement with which a stream that takes rows begins at the first one."""
    if program.pushed_input() is None:
        return []
    state = program.buffers[STATE]
    place = f"((uint32_t *)(void *)(model->{state.region} + {state.offset}))"
    return [f"    {place}[0] = 0u;", f"    {place}[1] = 0u;"]


def _accessor(program: Program, prefix: str, port: Port, constness: str) -> list[str]:
    c_type = MEMORY_TYPES[port.type.dtype]
    lines = [f"{constness}{c_type} *{port.function}(const {prefix}_model *model)", "{"]
    region = port.buffer.region
    if program.region(region).kind == "arena":
        lines.append(f"    return ({constness}{c_type} *)({constness}void *)(model->{region} + {port.buffer.offset});")
    else:
        name = weights_name(prefix, region)
        lines += ["    (void)model;", f"    return {name}.{_member_names(program)[port.buffer.name]};"]
    return [*lines, "}"]


def _member_names(program: Program) -> dict[str, str]:
    """Members of the structures of weights by buffer."""
    members = [m for region in program.regions_of("const") for m in weight_members(program, region.name)]
    return {m.buffer.name: m.name for m in members if m.buffer is not None}


def _calls(program: Program, prefix: str, member: str, bases: dict[str, str]) -> Iterator[str]:
    """The statements of `run`: a comment and a call for each layer, a loop for each stream."""
    names = _member_names(program)

    def pointer(buffer: Buffer, parameter: Parameter, offset: str) -> str:
        if buffer.region in bases:
            return _pointer(parameter, f"{bases[buffer.region]} + {offset}")
        text = member.format(region=weights_name(prefix, buffer.region), name=names[buffer.name])
        is_same = MEMORY_TYPES[buffer.dtype] == MEMORY_TYPES[parameter.dtype]
        return text if is_same else _pointer(parameter, text)

    for step, instruction in enumerate(program.instructions):
        stream = program.stream_at(step)
        if stream is not None:
            if step == stream.first:
                yield from _stream(program, prefix, stream, pointer)
            continue
        kernel = program.kernels[instruction.kernel]
        arguments = []
        for operand in instruction.operands:
            buffer = program.buffers[operand.buffer]
            arguments.append(pointer(buffer, kernel.parameter(operand.parameter), str(buffer.offset)))
        arguments += [_scalar(scalar) for scalar in instruction.scalars]
        yield ""
        yield f"    {_comment(_title(instruction))}"
        yield from _call(kernel_function(prefix, instruction.kernel), arguments, "    ")
    yield ""


def _call(function: str, arguments: list[str], indent: str) -> Iterator[str]:
    yield f"{indent}{function}("
    yield from (f"{indent}    {a}{',' if i + 1 < len(arguments) else ');'}" for i, a in enumerate(arguments))


def _stream(
    program: Program, prefix: str, stream: Stream, pointer: Callable[[Buffer, Parameter, str], str]
) -> Iterator[str]:
    """A loop over the table of a stream: which call comes next, and at which rows."""
    table = schedule_table(program, stream)
    yield ""
    yield "    {"
    name = table_name(prefix, stream)[1:]
    start = " + state[0]" if any(call.taken_bytes for call in table.calls) else ""
    yield f"        const {MEMORY_TYPES[table.dtype]} *at = {name}{start};"
    yield "        int running = 1;"
    yield "        while (running) {"
    yield "            switch (*at) {"
    for number, call in enumerate(table.calls):
        kernel = program.kernels[call.kernel]
        places = [pointer(p.buffer, kernel.parameter(p.parameter), _number(p.offset)) for p in call.pointers]
        yield f"            case {number}: {_comment(call.title)}"
        if call.taken_bytes:
            places.insert(0, _pointer(kernel.parameter("x"), "rows"))
            yield "                if (left == 0) {"
            yield f"                    state[0] = (uint32_t)(at - {name});"
            yield "                    state[1] += (uint32_t)count;"
            yield "                    return missing - count;"
            yield "                }"
        arguments = places + [_number(scalar) for scalar in call.scalars]
        yield from _call(kernel_function(prefix, call.kernel), arguments, " " * 16)
        if call.taken_bytes:
            yield "                rows += row;"
            yield "                left--;"
        yield f"                at += {1 + call.entries};"
        yield "                break;"
    yield "            default:"
    yield "                running = 0;"
    yield "                break;"
    yield from ("            }", "        }", "    }")


def _number(number: Number) -> str:
    """A number of a call, which may be one of the table."""
    if not number.entry:
        return _scalar(number.base)
    return f"{number.base} + {number.scale} * (int32_t)at[{number.entry}]"


def _scalar(value: int) -> str:
    return str(value) if value > -(1 << 31) else "(-2147483647 - 1)"


def print_tables(program: Program, prefix: str) -> str:
    """The tables of the streams; empty when there are none."""
    lines = []
    for stream in program.streams:
        table = schedule_table(program, stream)
        lines.append(f"static const {MEMORY_TYPES[table.dtype]} {table_name(prefix, stream)[1:]}[] = {{")
        lines += [*wrapped([str(number) for number in table.numbers], "    "), "};", ""]
    return "\n".join(lines)


def _title(instruction: Instruction) -> str:
    node = instruction.location.node
    return f"{node} ({instruction.operator.kind})" if node else instruction.operator.kind


def _pointer(parameter: Parameter, address: str) -> str:
    constness = "const " if parameter.kind == "in" else ""
    c_type = "unsigned char" if parameter.kind == "workspace" else MEMORY_TYPES[parameter.dtype]
    return f"({constness}{c_type} *)({constness}void *)({address})"


def _comment(text: str) -> str:
    return comment_c(printable(text))


def literals(data: Array) -> list[str]:
    """The elements as constants of C that compilers take without a warning for the element's type, in C99 and C++98."""
    values = np.ascontiguousarray(data).reshape(-1)
    match DType.of(data):
        case DType.F16:
            return [str(v) for v in values.view(np.uint16).tolist()]
        case DType.F32 | DType.F64 as dtype:
            return [_float_literal(float(v), dtype) for v in values]
        case DType.U32:
            return [f"{v}u" for v in values.tolist()]
        case DType.I64 | DType.U64 as dtype:
            return [_wide_literal(v, dtype) for v in values.tolist()]
        case DType.I32:
            return [str(v) if v > -(1 << 31) else "(-2147483647 - 1)" for v in values.tolist()]
        case DType.BOOL:
            return ["1" if v else "0" for v in values.tolist()]
    return [str(v) for v in values.tolist()]


def _float_literal(value: float, dtype: DType) -> str:
    """A float constant; infinities and not-a-number are computed by the compiler, so that no header of libm is
    needed.
    """
    suffix = "f" if dtype is DType.F32 else ""
    if math.isnan(value):
        return f"(0.0{suffix} / 0.0{suffix})"
    if not math.isfinite(value):
        return f"({'-' if value < 0 else ''}1.0{suffix} / 0.0{suffix})"
    return float_literal(value, dtype)


def _wide_literal(value: int, dtype: DType) -> str:
    if dtype is DType.U64:
        return f"UINT64_C({value})"
    return f"INT64_C({value})" if value > -(1 << 63) else "(-INT64_C(9223372036854775807) - 1)"


def wrapped(items: list[str], indent: str) -> Iterator[str]:
    """Lines of items with commas between them, none longer than the width."""
    line: list[str] = []
    length = len(indent)
    for index, item in enumerate(items):
        text = item if index + 1 == len(items) else f"{item},"
        if line and length + len(text) > _WIDTH:
            yield indent + " ".join(line)
            line, length = [], len(indent)
        line.append(text)
        length += len(text) + 1
    if line:
        yield indent + " ".join(line)
