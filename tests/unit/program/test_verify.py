"""Every invariant of programs: broken on purpose, and reported by its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from luciole.errors import InternalError
from luciole.graph.builder import GraphBuilder
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.kernel.core import Variable
from luciole.lower.lower import lower
from luciole.lower.placement import check as check_placement
from luciole.lower.plan import placement_problem, plan_memory
from luciole.ops.activation import Relu
from luciole.ops.concat import Concat
from luciole.ops.elementwise import Add
from luciole.ops.reshape import Reshape
from luciole.program.core import ARENA, WEIGHTS, Buffer, Operand, Program
from luciole.program.verify import program_problems, verify_program


def sound_program(*, planned: bool = True) -> Program:
    """x and c are added to s; s joined with x gives j; a view of j, after relu in place, is the output."""
    g = GraphBuilder("sound")
    x = g.input("x", DType.F32, (4,))
    s = g.add(Add(x, g.constant(np.float32([1, 2, 3, 4]), name="c")), "s")
    j = g.add(Concat((s, x), 0), "j")
    view = g.add(Reshape(j, (2, 4)), "view")
    g.output("y", g.add(Relu(view), "y"))
    g.output("s", s)
    program = lower(g.graph, find_target("cortex-m4"))
    return plan_memory(program) if planned else program


def changed_buffer(program: Program, buffer: str, /, **changes: object) -> Program:
    changed = replace(program.buffers[buffer], **changes)
    return replace(program, buffers=program.buffers | {buffer: changed})


def changed_instruction(program: Program, step: int, **changes: object) -> Program:
    instructions = list(program.instructions)
    instructions[step] = replace(instructions[step], **changes)
    return replace(program, instructions=tuple(instructions))


def changed_operand(program: Program, step: int, index: int, **changes: object) -> Program:
    operands = list(program.instructions[step].operands)
    operands[index] = replace(operands[index], **changes)
    return changed_instruction(program, step, operands=tuple(operands))


def changed_region(program: Program, name: str, **changes: object) -> Program:
    regions = tuple(replace(r, **changes) if r.name == name else r for r in program.regions)
    return replace(program, regions=regions)


def bound_to(program: Program, name: str, buffer: str | None) -> Program:
    """The program with the value of that name bound to another buffer, or to none."""
    bindings = {v: (buffer if v.name == name else b) for v, b in program.bindings.items()}
    return replace(program, bindings={v: b for v, b in bindings.items() if b is not None})


def with_workspace(program: Program, *steps: int, first: int = 0, last: int = 0, kind: str = "workspace") -> Program:
    """The program with one more arena buffer, as a workspace of the instructions of `steps`."""
    size = program.arena.size_bytes
    work = Buffer("work", kind, ARENA, DType.U8, (8,), 8, first, last, size)
    program = changed_region(program, ARENA, size_bytes=size + 8, lower_bound_bytes=size + 8)
    program = replace(program, buffers=program.buffers | {"work": work})
    for step in steps:
        operands = (*program.instructions[step].operands, Operand("workspace", "workspace", "work"))
        program = changed_instruction(program, step, operands=operands)
    return program


def problems(program: Program) -> list[str]:
    return [f"{number}. {text}" for number, text in program_problems(program)]


@pytest.mark.parametrize("planned", [False, True])
def test_sound_programs_pass(planned: bool) -> None:
    program = sound_program(planned=planned)
    assert problems(program) == []
    verify_program(program)
    kinds = {buffer.name: (buffer.kind, buffer.first, buffer.last) for buffer in program.buffers.values()}
    assert kinds == {
        "x": ("input", -1, 1),
        "s.b": ("const", 0, 0),
        "s": ("output", 0, 3),
        "j": ("output", 1, 3),
    }


def test_all_broken_invariants_are_listed_together() -> None:
    program = changed_buffer(sound_program(), "j", name="k", first=2)
    with pytest.raises(InternalError) as caught:
        verify_program(program)
    lines = str(caught.value).splitlines()
    assert lines[0] == "program sound is broken:"
    assert lines[1] == "  2. buffer k stands under the name j"
    assert "  10. buffer j lives 2 to 3 and is touched in step 1" in lines


def extra_scalar(program: Program) -> Program:
    name = program.instructions[0].kernel
    kernel = replace(program.kernels[name], scalars=(Variable("n", DType.I32),))
    return replace(program, kernels=program.kernels | {name: kernel})


def operator_of_another_graph(program: Program) -> Program:
    other = sound_program()
    return changed_instruction(program, 0, operator=other.instructions[0].operator)


def written_constant(program: Program) -> Program:
    return changed_operand(program, 0, 1, kind="out")


def one_buffer_twice(program: Program) -> Program:
    """The sum reads x and writes it as another operand."""
    return bound_to(changed_operand(program, 0, 2, buffer="x"), "s", "x")


def overwritten_before_its_last_reader(program: Program) -> Program:
    """The sum is written over x, in place, although the concatenation reads x afterwards."""
    first, *others = program.instructions
    name = first.kernel
    parameters = tuple(replace(p, kind="inout") if p.name == "a" else p for p in program.kernels[name].parameters[:2])
    kernel = replace(program.kernels[name], parameters=parameters)
    operands = (Operand("inout", "a", "x"), first.operands[1])
    changed = replace(
        program, kernels=program.kernels | {name: kernel}, instructions=(replace(first, operands=operands), *others)
    )
    return changed_operand(bound_to(changed, "s", "x"), 1, 0, buffer="x")


BROKEN: dict[str, tuple[Callable[[Program], Program], str]] = {
    "no arena": (
        lambda p: replace(p, regions=p.regions[:1]),
        "1. the regions are weights (const)",
    ),
    "two arenas": (
        lambda p: replace(p, regions=(*p.regions, p.regions[1])),
        "1. the regions are weights (const), arena (arena), arena (arena)",
    ),
    "an alignment of 3 of a region": (
        lambda p: changed_region(p, WEIGHTS, alignment=3),
        "1. region weights is aligned to 3",
    ),
    "a constant in the arena": (
        lambda p: changed_buffer(p, "s.b", region=ARENA),
        "2. buffer s.b of kind const is in region arena",
    ),
    "an alignment of 2 of floats": (
        lambda p: changed_buffer(p, "x", alignment=2),
        "2. buffer x of f32 is aligned to 2",
    ),
    "an alignment above the region's": (
        lambda p: changed_buffer(p, "x", alignment=32),
        "2. buffer x is aligned to 32, its region to 16",
    ),
    "a buffer of addresses": (
        lambda p: changed_buffer(p, "x", dtype=DType.INDEX),
        "2. buffer x has the type index[4]",
    ),
    "data in the arena": (
        lambda p: changed_buffer(p, "x", data=np.zeros(4, np.float32)),
        "3. buffer x of kind input has data",
    ),
    "a constant without data": (
        lambda p: changed_buffer(p, "s.b", data=None),
        "3. constant s.b has no data",
    ),
    "data of another type": (
        lambda p: changed_buffer(p, "s.b", data=np.zeros(4, np.int32)),
        "3. constant s.b of f32[4] holds int32[4]",
    ),
    "data that can be written": (
        lambda p: changed_buffer(p, "s.b", data=np.zeros(4, np.float32)),
        "3. constant s.b can be written",
    ),
    "a kernel under another name": (
        lambda p: replace(p, kernels={("k" if i == 0 else n): k for i, (n, k) in enumerate(p.kernels.items())}),
        "4. kernel k is not used",
    ),
    "a missing kernel": (
        lambda p: replace(p, kernels={}),
        "4. there is no kernel ",
    ),
    "operands in another order": (
        lambda p: changed_instruction(p, 0, operands=p.instructions[0].operands[::-1]),
        "takes (in a, in b, out y), given (out y, in b, in a)",
    ),
    "a scalar that is missing": (extra_scalar, " takes 1 scalars, given 0"),
    "a scalar that is no i32": (
        lambda p: changed_instruction(p, 0, scalars=(1 << 31,)),
        "5. instruction 0: a scalar of (2147483648,) is no i32",
    ),
    "a buffer of another size": (
        lambda p: changed_buffer(p, "s", shape=(5,)),
        "5. instruction 0: buffer s is f32 of 20 bytes, y is f32 of 16 bytes",
    ),
    "a buffer of another type": (
        lambda p: changed_buffer(p, "s", dtype=DType.I32),
        "5. instruction 0: buffer s is i32 of 16 bytes, y is f32 of 16 bytes",
    ),
    "an operator computed twice": (
        lambda p: replace(p, instructions=(*p.instructions, p.instructions[0])),
        "6. instructions 0 and 3 both compute ",
    ),
    "an operator not computed": (
        lambda p: replace(p, instructions=p.instructions[:2]),
        "6. no instruction computes relu(%view)",
    ),
    "an operator of another graph": (
        operator_of_another_graph,
        "6. instruction 0 computes add(%x, %c), which is not in",
    ),
    "instructions in another order": (
        lambda p: replace(p, instructions=(p.instructions[0], p.instructions[2], p.instructions[1])),
        "6. instruction 1 reads %view: f32[2,4], which instruction 2 makes",
    ),
    "an input without a buffer": (lambda p: bound_to(p, "x", None), "7. %x: f32[4] is bound to no buffer"),
    "a view without a buffer": (lambda p: bound_to(p, "view", None), "7. %view: f32[2,4] is bound to no buffer"),
    "a buffer that is missing": (
        lambda p: bound_to(p, "s", "nowhere"),
        "7. %s: f32[4] is bound to nowhere, and there is no such buffer",
    ),
    "a buffer too small for its value": (
        lambda p: bound_to(p, "view", "s"),
        "7. %view: f32[2,4] is bound to buffer s, which is f32 of 16 bytes",
    ),
    "an input in a temporary buffer": (
        lambda p: changed_buffer(p, "x", kind="temp"),
        "7. input %x: f32[4] has no input buffer of its own, but x of kind temp",
    ),
    "an output in a temporary buffer": (
        lambda p: changed_buffer(p, "j", kind="temp"),
        "7. output y is in buffer j of kind temp",
    ),
    "an operand that is missing": (
        lambda p: changed_operand(p, 0, 0, buffer="nowhere"),
        "8. instruction 0: there is no buffer nowhere",
    ),
    "an operand that is not the operator's": (
        lambda p: changed_operand(p, 0, 0, buffer="s"),
        "8. instruction 0 reads buffer s, in which no operand of add(%x, %c) lives",
    ),
    "a constant that is written": (written_constant, "8. instruction 0 writes the constant s.b"),
    "a result written elsewhere": (
        lambda p: changed_operand(p, 0, 2, buffer="j"),
        "8. instruction 0 writes j, its results live in s",
    ),
    "a buffer both read and written": (one_buffer_twice, "8. instruction 0 has buffer x as in and as out"),
    "an operand that is a workspace": (
        lambda p: with_workspace(p, 0, kind="temp"),
        "8. instruction 0 uses buffer work of kind temp as workspace",
    ),
    "an operand overwritten too early": (
        overwritten_before_its_last_reader,
        "9. instruction 1 reads %x: f32[4], which buffer x does not hold then",
    ),
    "an output overwritten": (
        lambda p: bound_to(p, "s", "j"),
        "9. output s is %s: f32[4], which buffer j does not hold at the end",
    ),
    "a life that begins too late": (
        lambda p: changed_buffer(p, "x", first=0),
        "10. buffer x lives 0 to 1 and is touched in step -1",
    ),
    "a life that ends too early": (
        lambda p: changed_buffer(p, "s", last=1),
        "10. buffer s lives 0 to 1 and is touched in step 3",
    ),
    "a life beyond the end": (
        lambda p: changed_buffer(p, "s", last=4),
        "10. buffer s lives 0 to 4, the steps are -1 to 3",
    ),
    "a workspace of two instructions": (
        lambda p: with_workspace(p, 0, 1, last=1),
        "11. workspace work belongs to 2 instructions",
    ),
    "a workspace of nobody": (with_workspace, "11. workspace work belongs to 0 instructions"),
    "a workspace that lives too long": (
        lambda p: with_workspace(p, 0, last=1),
        "11. workspace work of instruction 0 lives 0 to 1",
    ),
    "a buffer without a place": (
        lambda p: changed_buffer(p, "s", offset=None),
        "12. some buffers have a place, but not s",
    ),
    "a place that is not aligned": (
        lambda p: changed_buffer(p, "s.b", offset=2),
        "12. buffer s.b of 16 bytes at 2 is not aligned to 4",
    ),
    "a place outside the region": (
        lambda p: changed_buffer(p, "s.b", offset=4),
        "12. buffer s.b of 16 bytes at 4 is not inside weights of 16 bytes",
    ),
    "a place before the region": (
        lambda p: changed_buffer(p, "s.b", offset=-4),
        "12. buffer s.b of 16 bytes at -4 is not inside weights of 16 bytes",
    ),
    "a bound above the size": (
        lambda p: changed_region(p, ARENA, lower_bound_bytes=1000),
        "12. region arena has 64 bytes, a bound of 1000, and is said to be optimal",
    ),
    "a bound that claims too little": (
        lambda p: changed_region(p, ARENA, is_optimal=False),
        "12. region arena has 64 bytes, a bound of 64, and is not said to be optimal",
    ),
    "two tensors at one place": (
        lambda p: changed_buffer(p, "s", offset=p.buffers["j"].offset),
        "overlap in arena",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_invariant_is_found(name: str) -> None:
    change, expected = BROKEN[name]
    found = problems(change(sound_program()))
    assert any(expected in problem for problem in found), found


def test_every_invariant_has_a_case() -> None:
    numbers = {
        int(problem.split(".")[0]) for change, _ in BROKEN.values() for problem in problems(change(sound_program()))
    }
    assert numbers == set(range(1, 14))


def test_constants_that_overlap_are_found() -> None:
    program = sound_program()
    copy = replace(program.buffers["s.b"], name="d", offset=8)
    program = changed_region(
        replace(program, buffers=program.buffers | {"d": copy}), WEIGHTS, size_bytes=24, lower_bound_bytes=24
    )
    assert problems(program) == ["13. buffers s.b and d overlap in weights"]


@pytest.mark.parametrize("seed", range(30))
def test_overlaps_agree_with_the_check_of_the_placement(seed: int) -> None:
    """Offsets at random: the verifier and the solver's independent check refuse the same ones."""
    random = np.random.default_rng(seed)
    program = sound_program()
    for buffer in program.in_region(ARENA):
        program = changed_buffer(program, buffer.name, offset=4 * int(random.integers(0, 12)))
    program = changed_region(program, ARENA, size_bytes=1 << 10, lower_bound_bytes=0, is_optimal=False)
    buffers = program.in_region(ARENA)
    offsets = [buffer.offset for buffer in buffers if buffer.offset is not None]
    refused = check_placement(placement_problem(buffers), offsets)
    assert len(problems(program)) == len(refused)
