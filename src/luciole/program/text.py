"""The text form of programs, and `.program` files.

A program file is the graph that the program computes, then the program, then its kernels:

    graph digits
      ...
    end
    program digits for "cortex-m4"
      region weights: const align 16 size 128 bound 128 optimal by "packed"
      region arena: arena align 16 size 1152 bound 1152 optimal by "first fit, longest and largest first"
      buffer %image: i8[1,8,8,1] input in arena at 1088 align 4 live -1 to 0 holds %image
      buffer %0: i8[1,8,8,16] output in arena at 0 align 4 live 0 to 1 holds %0, %1
      buffer %w: i8[16,3,3,1] const in weights at 0 align 4 = @9f2c41d0
      0: conv2d_i8_51ab20(in %image, in %w, out %0) computes %0
    end
    kernel conv2d_i8_51ab20(...)
      ...
    end

- Names, types and contents stand as in the text of graphs. A buffer without `at` has no place yet, and a region
  without `size` is not planned. Steps of `live` are those of `luciole.program.core`.
- `part of %y from 64` says that the buffer lies in %y, from its byte 64.
- `holds` names the values of the graph that are bound to the buffer. An instruction names its kernel, a buffer for each
  of the kernel's parameters in order, then numbers for the kernel's scalars (`begin=0`), then the results of the
  operator it computes, and `by` its recipe unless that is the generic one. `over %x below 64` says that the result may
  begin 64 or more bytes below %x and overlap it, with `or at it` also where %x begins.
- `rows 2` behind an instruction says how many rows of its result one run computes. A stream stands behind the
  instructions, with its actions: `run 3 at 0, 4` is instruction 3 with its tensors in the arena at these rows of their
  buffers, `take %r at 0 rows 1 by k` waits for rows from the caller, `fill %r at 0 rows 1 with 128 by k` and
  `copy %r at 0 from %x at 5 rows 2 by k` name the kernel that does it.

      stream 3 to 4 result %8 over %x below 96
        fill %r at 0 rows 1 with 128 by fill_words_e0a6c1
        copy %r at 1 from %x at 0 rows 1 by copy_words_b1d9b4
        run 3 at 0, 0
      end
- The words `program` and `kernel` that begin their parts stand at the start of a line.

Printing, parsing and printing again gives the same text. `save_program` writes the text to `x.program` and the arrays
to `x.npz`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luciole.errors import CompileError, InternalError, Location
from luciole.graph.core import Value
from luciole.graph.text import array_text, read_npz, read_text, render_graph, value_text, word_text, write_npz
from luciole.ir.types import Array
from luciole.kernel.text import print_kernel
from luciole.program.core import Action, Buffer, Fill, Instruction, Overlap, Program, Region, Run, Stream, Take
from luciole.program.parse import parse_program
from luciole.program.verify import program_problems

__all__ = ["ProgramText", "load_program", "parse_program", "print_program", "render_program", "save_program"]


@dataclass(frozen=True)
class ProgramText:
    """A program as text, and the arrays that the text names by hash."""

    text: str
    arrays: dict[str, Array]


def print_program(program: Program) -> str:
    """The program as text, ending in a newline."""
    return render_program(program).text


def render_program(program: Program) -> ProgramText:
    """The program as text, with the arrays that belong to it."""
    graph = render_graph(program.graph)
    arrays = dict(graph.arrays)
    held: dict[str, list[Value]] = {}
    for value in program.graph.values():
        if value in program.bindings:
            held.setdefault(program.bindings[value], []).append(value)
    lines = [_region(region) for region in program.regions]
    lines += [_buffer(buffer, held.get(name, []), arrays) for name, buffer in program.buffers.items()]
    lines += [_instruction(step, instruction, program) for step, instruction in enumerate(program.instructions)]
    for stream in program.streams:
        lines += _stream(stream)
    head = f"program {word_text(program.name)} for {word_text(program.target)}"
    text = "\n".join([head, *("  " + line for line in lines), "end"]) + "\n"
    kernels = "".join(print_kernel(kernel) for kernel in program.kernels.values())
    return ProgramText(graph.text + text + kernels, arrays)


def _region(region: Region) -> str:
    text = f"region {word_text(region.name)}: {region.kind} align {region.alignment}"
    if region.size_bytes:
        text += f" size {region.size_bytes}"
    if region.lower_bound_bytes:
        text += f" bound {region.lower_bound_bytes}"
    if region.is_optimal:
        text += " optimal"
    return text + (f" by {word_text(region.method)}" if region.method else "")


def _buffer(buffer: Buffer, values: list[Value], arrays: dict[str, Array]) -> str:
    shape = ",".join(map(str, buffer.shape))
    text = (
        f"buffer {value_text(buffer.name)}: {buffer.dtype.value}[{shape}] {buffer.kind} in {word_text(buffer.region)}"
    )
    if buffer.offset is not None:
        text += f" at {buffer.offset}"
    text += f" align {buffer.alignment}"
    if buffer.kind != "const" or (buffer.first, buffer.last) != (0, 0):
        text += f" live {buffer.first} to {buffer.last}"
    if buffer.whole:
        text += f" part of {value_text(buffer.whole)} from {buffer.whole_offset}"
    if values:
        text += f" holds {', '.join(value_text(value.name) for value in values)}"
    return text + (f" = {array_text(buffer.data, arrays)}" if buffer.data is not None else "")


def _instruction(step: int, instruction: Instruction, program: Program) -> str:
    if instruction.operator not in program.graph:
        raise InternalError(f"instruction {step} computes {instruction.operator}, which is not in the graph")
    scalars = program.kernels[instruction.kernel].scalars if instruction.scalars else ()
    arguments = [f"{operand.kind} {value_text(operand.buffer)}" for operand in instruction.operands]
    arguments += [f"{s.name}={value}" for s, value in zip(scalars, instruction.scalars, strict=True)]
    results = ", ".join(value_text(value.name) for value in program.graph.results(instruction.operator))
    recipe = f" by {word_text(instruction.recipe)}" if instruction.recipe != "generic" else ""
    rows = f" rows {instruction.rows}" if instruction.rows else ""
    call = f"{word_text(instruction.kernel)}({', '.join(arguments)})"
    return f"{step}: {call} computes {results}{_over(instruction.overlap)}{rows}{recipe}"


def _over(overlap: Overlap | None) -> str:
    if overlap is None:
        return ""
    return f" over {value_text(overlap.source)} below {overlap.distance_bytes}{' or at it' * overlap.in_place}"


def _stream(stream: Stream) -> list[str]:
    result = f" result {value_text(stream.result)}" if stream.result else ""
    head = f"stream {stream.first} to {stream.last}{result}{_over(stream.overlap)}"
    return [head, *("  " + _action(action) for action in stream.actions), "end"]


def _action(action: Action) -> str:
    if isinstance(action, Run):
        return f"run {action.instruction} at {', '.join(map(str, action.slots))}"
    target = f"{value_text(action.target)} at {action.slot}"
    if isinstance(action, Take):
        return f"take {target} rows {action.rows} by {word_text(action.kernel)}"
    if isinstance(action, Fill):
        return f"fill {target} rows {action.rows} with {action.byte} by {word_text(action.kernel)}"
    source = f"{value_text(action.source)} at {action.source_slot}"
    return f"copy {target} from {source} rows {action.rows} by {word_text(action.kernel)}"


# --- files ------------------------------------------------------------------------------------------------------------


def save_program(program: Program, path: Path) -> None:
    """Write `path`, which ends in `.program`, and the `.npz` beside it for large arrays; the same bytes every time."""
    rendered = render_program(program)
    path.write_text(rendered.text, encoding="utf-8", newline="\n")
    if rendered.arrays:
        path.with_suffix(".npz").write_bytes(write_npz(rendered.arrays))


def load_program(path: Path) -> Program:
    """Read a `.program` file and the `.npz` beside it, if any.

    Raises `CompileError` for whatever is wrong with them, broken invariants of the program included. Knows the
    operators and intrinsics whose modules have been imported.
    """
    text = read_text(path, "program-file")
    arrays_path = path.with_suffix(".npz")
    arrays = read_npz(arrays_path, "program-file") if arrays_path.is_file() else {}
    program = parse_program(text, arrays, str(path))
    if problems := [f"{number}. {problem}" for number, problem in program_problems(program)]:
        raise CompileError.of(
            "program-invalid", "the program contradicts itself", Location(str(path)), notes=tuple(problems)
        )
    return program
