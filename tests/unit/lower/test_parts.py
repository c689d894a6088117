"""Tensors that lie in others: no copies in machine code, and every broken claim is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.text import parse_graph, save_graph
from luciole.ir.target import find_target
from luciole.lower import parts
from luciole.lower.lower import LoweringOptions, lower
from luciole.lower.parts import place_parts
from luciole.lower.plan import plan_memory
from luciole.ops.catalog import load_operators
from luciole.options import OptionKeywords
from luciole.program.core import Program
from luciole.program.text import parse_program, print_program
from luciole.program.verify import program_problems, verify_program
from support.program_checks import DEFAULTS, random_inputs

HEADS = """\
graph heads
  quant q0 = affine(scale=0.05, zero=-3)
  in %x: i8[1,4,3,2]:q0
  %a: i8[1,2,3,2]:q0 = slice(%x, begin=[0, 0, 0, 0], size=[1, 2, 3, 2])
  %b: i8[1,2,3,2]:q0 = slice(%x, begin=[0, 2, 0, 0], size=[1, 2, 3, 2])
  %c: i8[1,2,3,2]:q0 = max_pool2d(%a, size=[1, 1], strides=[1, 1])
  %d: i8[1,1,1,2]:q0 = average_pool2d(%b, size=[2, 3], strides=[1, 1])
  %e: i8[1,2]:q0 = reshape(%d, shape=[1, 2])
  %f: i8[1,12]:q0 = reshape(%c, shape=[1, 12])
  %y: i8[1,14]:q0 = concat([%f, %e], axis=1)
  out %y as "y"
end
"""


def heads() -> Graph:
    load_operators()
    return parse_graph(HEADS)


def program_of(graph: Graph, options: LoweringOptions = DEFAULTS) -> Program:
    program = place_parts(lower(graph, find_target("cortex-m4"), options))
    verify_program(program)
    return plan_memory(program)


def test_nothing_is_copied() -> None:
    program = program_of(heads())
    assert [i.operator.kind for i in program.instructions] == ["max_pool2d", "average_pool2d"]
    wholes = {name: (b.whole, b.whole_offset) for name, b in program.buffers.items() if b.whole}
    assert wholes == {"a": ("x", 0), "b": ("x", 12), "c": ("y", 0), "d": ("y", 12)}
    again = parse_program(print_program(program), {})
    assert print_program(again) == print_program(program)


def test_an_input_that_is_kept_is_copied() -> None:
    program = program_of(heads(), LoweringOptions(keep_input=True))
    assert [i.operator.kind for i in program.instructions].count("slice") == 2


@pytest.mark.parametrize("emit", ["object", "c"])
@pytest.mark.parametrize("options", [{}, {"optimize": "ram"}, {"keep_input": True, "keep_output": True}], ids=str)
def test_machine_code_gives_what_the_graph_gives(emit: str, options: OptionKeywords, tmp_path: Path) -> None:
    path = tmp_path / "heads.graph"
    graph = heads()
    save_graph(graph, path)
    try:
        session = luciole.load(path, emit=emit, **options)
    except luciole.ToolError as missing:
        pytest.skip(str(missing))
    for seed in range(3):
        inputs = random_inputs(graph, seed)
        assert np.array_equal(session.run(inputs)["y"], run_graph(graph, inputs)["y"])


def changed(program: Program, name: str, **changes: object) -> Program:
    return replace(program, buffers=program.buffers | {name: replace(program.buffers[name], **changes)})  # type: ignore[arg-type]  # fields of Buffer


BROKEN: dict[str, tuple[Callable[[Program], Program], str]] = {
    "a part of nothing": (lambda p: changed(p, "b", whole="z"), "17. buffer b, part of z, is part of nothing that is"),
    "a part of itself": (lambda p: changed(p, "b", whole="b"), "17. buffer b, part of b, is part of nothing that is"),
    "bytes behind the whole": (lambda p: changed(p, "b", whole_offset=20), "17. buffer b, part of x, takes bytes 20"),
    "a place elsewhere": (lambda p: changed(p, "b", offset=p.arena.size_bytes - 12), "17. buffer b, part of x, is at"),
    "a life beyond the whole's": (
        lambda p: changed(p, "x", last=p.buffers["b"].last - 1),
        "17. buffer b, part of x, lives",
    ),
    "other bytes than the operator's": (lambda p: changed(p, "b", whole_offset=8), "6. no instruction computes slice"),
    "no part at all": (lambda p: changed(p, "b", whole="", whole_offset=0), "13. buffers"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_claim_is_found(name: str) -> None:
    change, expected = BROKEN[name]
    program = program_of(heads())
    found = [f"{number}. {text}" for number, text in program_problems(change(program))]
    assert any(problem.startswith(expected) for problem in found), found


OVERWRITTEN = """\
graph overwritten
  in %x: f32[2,2]
  %w: f32[2,2] = tanh(%x)
  %a: f32[1,2] = slice(%w, begin=[0, 0], size=[1, 2])
  %b: f32[1,2] = relu(%a)
  %y: f32[2,2] = mul(%w, %b)
  out %y as "y"
end
"""


def test_what_overwrites_a_part_destroys_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    load_operators()
    program = lower(parse_graph(OVERWRITTEN), find_target("cortex-m4"))
    assert place_parts(program) is program
    monkeypatch.setattr(parts, "_are_read_last", lambda *_: True)
    monkeypatch.setattr(parts, "_is_slice", lambda _: True)
    monkeypatch.setattr(parts, "_placed", lambda program, steps, placed=parts._placed: placed(program, [1]))
    broken = place_parts(program)
    found = [f"{number}. {text}" for number, text in program_problems(broken)]
    assert found == ["9. instruction 2 reads %w: f32[2,2], which buffer x does not hold then"]
