"""When a result takes over an operand's memory, and when it must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Value
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.interpret import run_kernel
from luciole.lower.inplace import in_place_operands, merge_parameters
from luciole.lower.lower import LoweringOptions
from luciole.ops.activation import Relu
from luciole.ops.concat import Concat
from luciole.ops.elementwise import Add, Mul
from luciole.ops.pad import Pad
from luciole.ops.reshape import Reshape
from luciole.program.core import Program
from luciole.targets.base import build_kernel
from support.program_checks import check


def builder(*shape: int) -> tuple[GraphBuilder, Value]:
    g = GraphBuilder("g")
    return g, g.input("x", DType.F32, shape or (4,))


def shares(program: Program, name: str, other: str) -> bool:
    """Whether two values live in one buffer."""
    buffers = {value.name: buffer for value, buffer in program.bindings.items()}
    return buffers[name] == buffers[other]


def kinds(program: Program, step: int) -> list[str]:
    return [operand.kind for operand in program.instructions[step].operands]


def test_a_chain_of_elementwise_operators_lives_in_the_inputs_buffer() -> None:
    g, x = builder(2, 3)
    y = g.add(Relu(x), "y")
    z = g.add(Mul(y, g.constant(np.float32([2, 3, 4]))), "z")
    g.output("z", z)
    program = check(g.graph)
    assert shares(program, "x", "y") and shares(program, "y", "z")
    assert program.arena.size_bytes == 24
    assert kinds(program, 0) == ["inout"]
    assert sorted(kinds(program, 1)) == ["in", "inout"]
    (buffer,) = program.in_region("arena")
    assert (buffer.kind, buffer.first, buffer.last) == ("input", -1, 2)


def test_an_input_that_must_be_kept_is_not_overwritten() -> None:
    g, x = builder()
    y = g.add(Relu(x), "y")
    z = g.add(Relu(y), "z")
    g.output("z", z)
    program = check(g.graph, options=LoweringOptions(keep_input=True))
    assert not shares(program, "x", "y")
    assert shares(program, "y", "z")
    assert program.buffers["x"].last == 2


def test_an_output_that_must_be_kept_is_not_where_the_next_input_is_written() -> None:
    g, x = builder()
    y = g.add(Relu(x), "y")
    z = g.add(Relu(y), "z")
    g.output("z", z)
    program = check(g.graph, options=LoweringOptions(keep_output=True))
    assert shares(program, "x", "y")
    assert not shares(program, "y", "z")
    assert (program.buffers["z"].first, program.buffers["z"].last) == (-1, 2)


def test_an_operand_that_is_read_later_is_not_overwritten_and_the_other_one_is() -> None:
    g, x = builder()
    y = g.add(Relu(x), "y")
    z = g.add(Add(x, y), "z")
    late = g.add(Mul(x, z), "late")
    g.output("late", late)
    program = check(g.graph)
    assert not shares(program, "x", "y")
    assert shares(program, "y", "z")
    assert shares(program, "x", "late")
    assert [operand.parameter for operand in program.instructions[1].operands] == ["a", "y"]


def test_an_operand_that_is_an_output_is_not_overwritten() -> None:
    g, x = builder()
    y = g.add(Relu(x), "y")
    z = g.add(Relu(y), "z")
    g.output("y", y)
    g.output("z", z)
    program = check(g.graph)
    assert not shares(program, "y", "z")


def test_an_operand_whose_view_is_read_later_is_not_overwritten() -> None:
    g, x = builder(2, 2)
    view = g.add(Reshape(x, (4,)), "view")
    y = g.add(Relu(x), "y")
    g.output("y", y)
    g.output("tail", g.add(Relu(view), "tail"))
    program = check(g.graph)
    assert shares(program, "x", "view")
    assert not shares(program, "x", "y")
    assert shares(program, "view", "tail")


def test_an_operand_that_is_a_view_of_an_output_is_not_overwritten() -> None:
    g, x = builder(2, 2)
    y = g.add(Add(x, g.constant(np.float32([[1], [2]]))), "y")
    view = g.add(Reshape(y, (4,)), "view")
    g.output("y", y)
    g.output("z", g.add(Relu(view), "z"))
    program = check(g.graph)
    assert not shares(program, "view", "z")


def test_an_operator_that_reads_one_tensor_twice_does_not_overwrite_it() -> None:
    g, x = builder()
    g.output("y", g.add(Add(x, x), "y"))
    program = check(g.graph)
    assert not shares(program, "x", "y")
    assert kinds(program, 0) == ["in", "in", "out"]


def test_an_operator_that_reads_a_tensor_and_its_view_does_not_overwrite_them() -> None:
    g, x = builder(2, 2)
    view = g.add(Reshape(x, (1, 2, 2)), "view")
    g.output("y", g.add(Add(x, view), "y"))
    program = check(g.graph)
    assert not shares(program, "view", "y")


def test_an_operand_that_broadcasts_is_not_overwritten() -> None:
    g, x = builder(1, 4)
    other = g.input("other", DType.F32, (3, 4))
    g.output("y", g.add(Mul(x, other), "y"))
    program = check(g.graph)
    assert not shares(program, "x", "y")
    assert shares(program, "other", "y")


def test_a_constant_is_not_overwritten() -> None:
    g, x = builder(1)
    weights = g.constant(np.float32([1, 2, 3, 4]))
    g.output("y", g.add(Add(weights, x), "y"))
    program = check(g.graph)
    assert program.buffer_of(g.graph.outputs[0][1]).region == "arena"


def test_operators_whose_loops_read_elsewhere_do_not_work_in_place() -> None:
    g, x = builder(4)
    padded = g.add(Pad(x, (0,), (0,)), "padded")
    g.output("y", g.add(Concat((padded,), 0), "y"))
    program = check(g.graph)
    assert not shares(program, "x", "padded")
    assert not shares(program, "padded", "y")


def test_hand_scheduled_kernels_do_not_work_in_place() -> None:
    _, x = builder()
    relu = Relu(x)
    bound = build_kernel(relu)
    assert in_place_operands(relu, bound) == [("x", x)]
    scheduled = replace(bound, kernel=replace(bound.kernel, is_scheduled=True))
    assert in_place_operands(relu, scheduled) == []


@pytest.mark.parametrize("dtype", [DType.I8, DType.F32])
def test_merged_parameters_keep_the_meaning_of_a_kernel(dtype: DType) -> None:
    k = LoopBuilder("toy")
    a, b = k.buffer("in", "a", dtype, (3,)), k.buffer("in", "b", dtype, (3,), 8)
    y = k.buffer("out", "y", dtype, (3,))
    with k.loop("i", 3) as i:
        y[i] = a[i] - b[i]
    kernel = k.build()
    merged = merge_parameters(kernel, "b", "y")
    assert [(p.kind, p.name, p.alignment) for p in merged.parameters] == [
        ("in", "a", dtype.size_bytes),
        ("inout", "y", 8),
    ]
    assert merged.name != kernel.name
    left, right = np.array([1, 2, 3], dtype.numpy), np.array([9, 7, 4], dtype.numpy)
    expected = run_kernel(kernel, {"a": left, "b": right})["y"]
    assert np.array_equal(run_kernel(merged, {"a": left, "y": right})["y"], expected)
