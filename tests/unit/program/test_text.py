"""Programs as text: printing, parsing, files, and what is said about bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luciole.errors import CompileError, InternalError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph
from luciole.ir.quant import Quant
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.lower.lower import lower
from luciole.lower.plan import plan_memory
from luciole.ops.activation import Relu
from luciole.ops.conv import Conv2d
from luciole.ops.elementwise import Add
from luciole.ops.reshape import Reshape
from luciole.program.core import Program
from luciole.program.interpret import run_program
from luciole.program.text import load_program, parse_program, print_program, render_program, save_program
from support.program_checks import assert_same_outputs, build, random_inputs
from support.two_results import Halves, registered_halves

QUANT = Quant.per_tensor(0.5, -1)


@pytest.fixture(autouse=True)
def halves() -> Iterator[None]:
    with registered_halves():
        yield


def small_graph() -> Graph:
    """An addition in place, seen under another shape."""
    g = GraphBuilder("small one")
    x = g.input("x:0", DType.F32, (2, 2))
    y = g.add(Add(x, g.constant(np.float32([1, -0.5]))), "y")
    g.output("y", g.add(Reshape(y, (4,)), "flat"))
    return g.graph


SMALL = """\
graph "small one"
  in %"x:0": f32[2,2]
  const %c: f32[2] = [1.0, -0.5]
  %y: f32[2,2] = add(%"x:0", %c)
  %flat: f32[4] = reshape(%y, shape=[4])
  out %flat as "y"
end
program "small one" for "cortex-m4"
  region weights: const align 16 size 8 bound 8 optimal by packed
  region arena: arena align 16 size 16 bound 16 optimal by "METHOD"
  buffer %x_0: f32[2,2] input in arena at 0 align 4 live -1 to 1 holds %"x:0", %y, %flat
  buffer %y.b: f32[2] const in weights at 0 align 4 = [1.0, -0.5]
  0: KERNEL(in %y.b, inout %x_0) computes %y
end
kernel KERNEL(in b: f32[1,2], inout y: f32[2,2])
  for i in 0..2
    for i_1 in 0..2
      y[i, i_1] = y[i, i_1] + b[0, i_1]
end
"""


def small_text() -> str:
    program = build(small_graph())
    (kernel,) = program.kernels
    return SMALL.replace("KERNEL", kernel).replace("METHOD", program.arena.method)


def test_a_program_prints_as_documented() -> None:
    rendered = render_program(build(small_graph()))
    assert rendered.text == small_text()
    assert rendered.arrays == {}


def test_a_program_without_places_prints_none() -> None:
    text = print_program(lower(small_graph(), find_target("cortex-m4")))
    assert "  region weights: const align 16\n  region arena: arena align 16\n" in text
    assert "  buffer %x_0: f32[2,2] input in arena align 4 live -1 to 1 holds" in text
    assert "  buffer %y.b: f32[2] const in weights align 4 = [1.0, -0.5]\n" in text


def assert_round_trip(program: Program) -> Program:
    rendered = render_program(program)
    again = parse_program(rendered.text, rendered.arrays)
    second = render_program(again)
    assert second.text == rendered.text
    assert list(second.arrays) == list(rendered.arrays)
    assert (again.name, again.target, again.regions) == (program.name, program.target, program.regions)
    assert again.buffers == program.buffers
    assert list(again.kernels.items()) == list(program.kernels.items())
    for new, old in zip(again.instructions, program.instructions, strict=True):
        assert (new.kernel, new.operands, new.recipe, new.scalars) == (
            old.kernel,
            old.operands,
            old.recipe,
            old.scalars,
        )
        results = [[v.name for v in p.graph.results(i.operator)] for p, i in ((again, new), (program, old))]
        assert results[0] == results[1]
    for name, buffer in program.buffers.items():
        data = again.buffers[name].data
        assert (data is None) == (buffer.data is None)
        if data is not None and buffer.data is not None:
            assert (data.tobytes(), data.dtype, data.shape) == (
                buffer.data.tobytes(),
                buffer.data.dtype,
                buffer.data.shape,
            )
    assert {v.name: b for v, b in again.bindings.items()} == {v.name: b for v, b in program.bindings.items()}
    return again


def convolutions() -> Graph:
    g = GraphBuilder("convolutions")
    random = np.random.default_rng(0)
    y = g.input("x", DType.I8, (1, 4, 4, 4), QUANT)
    for size in (3, 1):
        w = random.integers(-127, 128, (4, size, size, 4)).astype(np.int8)
        weights = Quant((0.125, 0.25, 0.5, 0.375), (0,) * 4, 0)
        y = g.add(Conv2d(y, g.constant(w, weights), pads=(size // 2,) * 4, quant=QUANT))
    g.output("y", y)
    return g.graph


def two_results() -> Graph:
    g = GraphBuilder("g")
    a, b = g.add_all(Halves(g.input("x", DType.I8, (4, 2), QUANT)), ("a", "b"))
    g.output("sum", g.add(Add(a, b, quant=QUANT)))
    g.output("b", b)
    return g.graph


def constant_output() -> Graph:
    g = GraphBuilder("program")
    x = g.input("kernel", DType.F32, (2,))
    g.output("c", g.constant(np.array([np.nan, np.inf], np.float32)))
    g.output("x", x)
    g.output("y", g.add(Relu(x)))
    return g.graph


@pytest.mark.parametrize("make", [small_graph, convolutions, two_results, constant_output], ids=lambda f: f.__name__)
@pytest.mark.parametrize("planned", [False, True], ids=["lowered", "planned"])
def test_text_round_trips(make: object, planned: bool) -> None:
    assert callable(make)
    program = lower(make(), find_target("cortex-m4"))
    again = assert_round_trip(plan_memory(program) if planned else program)
    if planned:
        inputs = random_inputs(program.graph, 0)
        assert_same_outputs(run_program(again, inputs), run_program(plan_memory(program), inputs))


def test_large_constants_stand_beside_the_text() -> None:
    rendered = render_program(build(convolutions()))
    assert max(map(len, rendered.text.splitlines())) < 400
    assert any(array.size == 4 * 3 * 3 * 4 for array in rendered.arrays.values())


def with_scalars() -> Program:
    """The small program with a kernel that takes the factor and the summand as numbers."""
    program = build(small_graph())
    k = LoopBuilder("scaled")
    b, y = k.buffer("in", "b", DType.F32, (2,)), k.buffer("inout", "y", DType.F32, (2, 2))
    begin, end = k.scalar("begin"), k.scalar("end")
    with k.loop("i", begin.cast(DType.INDEX), end.cast(DType.INDEX)) as i, k.loop("j", 2) as j:
        y[i, j] = y[i, j] + b[j]
    operands = tuple(
        replace(o, parameter=p.name)
        for o, p in zip(program.instructions[0].operands, k.build().parameters, strict=True)
    )
    instruction = replace(program.instructions[0], kernel="scaled", operands=operands, scalars=(0, 2))
    return replace(program, kernels={"scaled": k.build()}, instructions=(instruction,))


def test_scalars_stand_with_their_names() -> None:
    program = with_scalars()
    assert "  0: scaled(in %y.b, inout %x_0, begin=0, end=2) computes %y\n" in print_program(program)
    again = assert_round_trip(program)
    inputs = random_inputs(program.graph, 1)
    assert_same_outputs(run_program(again, inputs, use_kernels=True), run_program(build(small_graph()), inputs))


def test_an_instruction_of_another_graph_has_no_text() -> None:
    program = build(small_graph())
    other = build(small_graph()).instructions[0].operator
    broken = replace(program, instructions=(replace(program.instructions[0], operator=other),))
    with pytest.raises(InternalError, match="which is not in the graph"):
        print_program(broken)


# Bad texts

#: What is replaced in the small program, by what (`^` stands before the token that the caret shows), and the message.
BAD: dict[str, tuple[str, str, str]] = {
    "no program": ("program ", "^programme ", "expected 'program', found 'programme'"),
    "no target": (' for "cortex-m4"\n  region', "\n  ^region", "expected 'for', found 'region'"),
    "an unknown statement": (
        "  region arena",
        "  ^place arena",
        "expected region, buffer, stream, or the number of an instruction, found 'place'",
    ),
    "a region twice": ("region arena:", "region ^weights:", "the region weights is declared twice"),
    "an unknown kind of region": ("weights: const", "weights: ^flash", "expected a kind of region, found 'flash'"),
    "no alignment": ("arena align 16 size", "arena ^size", "expected 'align', found 'size'"),
    "a negative size": ("size 16", "size ^-16", "-16 is out of range"),
    "a size that no memory has": ("size 16", f"size ^{1 << 48}", f"{1 << 48} is out of range"),
    "a size that is no integer": ("size 16", "size ^1.5", "expected a number after size, found a float"),
    "a buffer twice": ("buffer %y.b", "buffer ^%x_0", "the buffer %x_0 is declared twice"),
    "a type of addresses": ("%x_0: f32", "%x_0: ^pointer", "unknown element type pointer"),
    "too many elements": (
        "%x_0: f32[2,2]",
        "%x_0: f32^[65536,65536]",
        "the tensor has 4294967296 elements, the limit is 2147483648",
    ),
    "an unknown kind of buffer": ("[2,2] input", "[2,2] ^inputs", "expected a kind of buffer, found 'inputs'"),
    "an unknown region": ("input in arena", "input in ^sram", "there is no region sram"),
    "a step that is too early": ("live -1", "live ^-2", "-2 is out of range"),
    "a value that the graph has not": ('holds %"x:0"', "holds ^%x", "the graph has no value %x"),
    "a value in two buffers": ("%y, %flat\n", "%y, ^%y\n", "%y is in %x_0 already"),
    "contents of another size": (
        "align 4 = [1.0, -0.5]",
        "align 4 = ^[1.0]",
        "expected a list of 2 numbers, or a hash",
    ),
    "contents that are missing": ("align 4 = [1.0, -0.5]", "align 4 = ^@0123", "there is no array @0123"),
    "an instruction out of turn": ("  0: KERNEL", "  ^1: KERNEL", "expected instruction 0, found 1"),
    "an unknown kernel": ("0: KERNEL", "0: ^unheard_of", "there is no kernel unheard_of in this file"),
    "too few operands": (
        "KERNEL(in %y.b, inout %x_0",
        "KERNEL^(in %y.b",
        "KERNEL takes 2 buffers and 0 numbers, given 1 and 0",
    ),
    "too many operands": ("inout %x_0)", "inout %x_0, ^in %y.b)", "KERNEL takes 2 buffers"),
    "an operand of another kind": ("inout %x_0)", "^out %x_0)", "parameter y of KERNEL is of kind inout"),
    "an unknown kind of operand": ("(in %y.b", "(^into %y.b", "expected a kind of operand, found 'into'"),
    "an unknown buffer": ("(in %y.b", "(in ^%z", "there is no buffer %z"),
    "a scalar that the kernel has not": ("inout %x_0)", "inout %x_0, ^n=1)", "n is not the next scalar of KERNEL"),
    "no operator": (
        "computes %y",
        "computes ^%c",
        "these are not the results of an operator, all of them in order",
    ),
    "too many results": (
        "computes %y",
        "computes ^%y, %flat",
        "these are not the results of an operator, all of them in order",
    ),
    "something after the program": (
        "%y\nend\nkernel",
        "%y\nend\n^end\nkernel",
        "expected a kernel or the end of the file, found 'end'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_texts_are_refused_with_the_place(name: str) -> None:
    old, new, message = BAD[name]
    assert old in SMALL
    (kernel,) = build(small_graph()).kernels
    marked = SMALL.replace(old, new, 1).replace("KERNEL", kernel)
    before, after = marked.split("^")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    with pytest.raises(CompileError) as caught:
        parse_program(before + after, {}, "a.program")
    (problem,) = caught.value.diagnostics
    assert problem.message == message.replace("KERNEL", kernel)
    assert (problem.code, str(problem.location)) == ("program-syntax", f"a.program:{line}:{column}")
    shown, caret = problem.notes[0].split("\n")
    assert (
        shown[len(caret) - 9 :] == (before + after).splitlines()[line - 1][column - 1 :][: len(shown) - len(caret) + 9]
    )


def test_errors_in_the_graph_and_in_kernels_name_the_line_of_the_file() -> None:
    text = small_text()
    with pytest.raises(CompileError, match=r"a\.program:4:18\b"):
        parse_program(text.replace("= add", "= addd"), {}, "a.program")
    with pytest.raises(CompileError, match=r"a\.program:18:19\b"):
        parse_program(text.replace("y[i, i_1] = y[i, i_1] + b[0, i_1]", "y[i, i_1] = z"), {}, "a.program")


def test_a_kernel_twice_is_refused() -> None:
    text = small_text()
    kernel = text[text.index("\nkernel") + 1 :]
    with pytest.raises(CompileError, match=r"stands in the file twice\n  --> a\.program:20:1\n"):
        parse_program(text + kernel, {}, "a.program")


# Files


def test_files_round_trip_with_the_same_bytes(tmp_path: Path) -> None:
    program = build(convolutions())
    path, again = tmp_path / "a.program", tmp_path / "b.program"
    save_program(program, path)
    loaded = load_program(path)
    save_program(loaded, again)
    assert path.read_bytes() == again.read_bytes()
    assert path.with_suffix(".npz").read_bytes() == again.with_suffix(".npz").read_bytes()
    inputs = random_inputs(program.graph, 0)
    assert_same_outputs(run_program(loaded, inputs), run_program(program, inputs))


def test_a_program_of_small_constants_has_no_file_of_arrays(tmp_path: Path) -> None:
    save_program(build(small_graph()), tmp_path / "a.program")
    assert [path.name for path in tmp_path.iterdir()] == ["a.program"]
    load_program(tmp_path / "a.program")


def test_files_that_contradict_themselves_are_the_users_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.program"
    path.write_text(small_text().replace("at 0 align 4 live -1 to 1", "at 4 align 4 live -1 to 0"))
    with pytest.raises(CompileError) as caught:
        load_program(path)
    assert str(caught.value) == (
        "error[program-invalid]: the program contradicts itself\n"
        f"  --> {path}\n"
        "  note: 10. buffer x_0 lives -1 to 0 and is touched in step 1\n"
        "  note: 12. buffer x_0 of 16 bytes at 4 is not inside arena of 16 bytes"
    )


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"program-file.*cannot read the file"):
        load_program(tmp_path / "missing.program")
    path = tmp_path / "a.program"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CompileError, match="not UTF-8"):
        load_program(path)
    path.write_text(small_text())
    path.with_suffix(".npz").write_bytes(b"no archive")
    with pytest.raises(CompileError, match="not a file of numpy arrays"):
        load_program(path)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_texts_are_refused_without_any_other_error(seed: int) -> None:
    """A token deleted, repeated or moved: a program or a `CompileError`, never anything else."""
    random = np.random.default_rng(seed)
    tokens = small_text().split(" ")
    position, other = (int(i) for i in random.integers(0, len(tokens), 2))
    if seed % 3 == 0:
        del tokens[position]
    elif seed % 3 == 1:
        tokens.insert(position, tokens[other])
    else:
        tokens[position], tokens[other] = tokens[other], tokens[position]
    try:
        program = parse_program(" ".join(tokens))
    except CompileError:
        return
    assert isinstance(program, Program)
