"""Lowering: values and buffers, lives, kernels and constants shared, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.errors import CompileError, InternalError, Location
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.interpret import run_graph
from luciole.ir.quant import Quant
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.lower.lower import LoweringOptions, lower
from luciole.ops.activation import Relu
from luciole.ops.concat import Concat
from luciole.ops.conv import Conv2d
from luciole.ops.elementwise import Add
from luciole.ops.reshape import Reshape
from luciole.program.interpret import run_program
from luciole.program.verify import verify_program
from support.program_checks import build, check, random_inputs
from support.toy_operators import ToySplit
from support.two_results import Halves

TARGET = find_target("cortex-m4")
QUANT = Quant.per_tensor(0.05, -3)


def convolution(g: GraphBuilder, x: Value, channels: int, size: int, seed: int = 0, **attributes: object) -> Value:
    random = np.random.default_rng(seed)
    shape = (channels, size, size, x.type.shape[3])
    w = g.constant(random.integers(-127, 128, shape).astype(np.int8), Quant.per_tensor(0.01), "w")
    b = g.constant(random.integers(-500, 500, channels).astype(np.int32), name="b")
    return g.add(Conv2d(x, w, b, quant=QUANT, **attributes))


def two_convolutions() -> Graph:
    g = GraphBuilder("two")
    y = g.input("x", DType.I8, (1, 5, 5, 4), QUANT)
    for _ in range(2):
        y = convolution(g, y, 4, 3, pads=(1, 1, 1, 1))
    g.output("y", y)
    return g.graph


@pytest.mark.parametrize("target", ["native", "cortex-m0plus", "cortex-m4", "rv32imc"])
def test_convolutions_run_in_planned_memory(target: str) -> None:
    program = check(two_convolutions(), target, seeds=1)
    assert program.target == target
    tensors = [(b.kind, b.first, b.last) for b in program.in_region("arena") if b.kind != "workspace"]
    assert tensors == [("input", -1, 0), ("temp", 0, 1), ("output", 1, 2)]


def test_equal_kernels_and_equal_constants_are_shared() -> None:
    program = build(two_convolutions())
    assert len(program.kernels) == 1
    first, second = program.instructions
    assert first.kernel == second.kernel
    assert first.buffers("in")[1:] == second.buffers("in")[1:]
    assert len(program.in_region("weights")) == len(first.buffers("in")) - 1


def test_constants_of_equal_bytes_and_unequal_type_are_not_shared() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (2,))
    zero = g.add(Add(x, g.constant(np.zeros(2, np.float32))))
    other = g.add(Add(g.add(Reshape(zero, (1, 2))), g.constant(np.zeros((1, 2), np.float32))))
    g.output("y", other)
    assert len(check(g.graph).in_region("weights")) == 2


def test_a_hand_scheduled_kernel_is_taken_where_it_applies_unless_it_is_switched_off() -> None:
    g = GraphBuilder("pointwise")
    g.output("y", convolution(g, g.input("x", DType.I8, (1, 2, 3, 8), QUANT), 4, 1))
    program = check(g.graph, seeds=1)
    assert program.instructions[0].recipe != "generic"
    workspaces = [b for b in program.in_region("arena") if b.kind == "workspace"]
    assert [(b.first, b.last) for b in workspaces] == [(0, 0)] * len(workspaces)
    program = check(g.graph, options=LoweringOptions(use_recipes=False), seeds=1)
    assert program.instructions[0].recipe == "generic"


def test_an_output_may_be_an_input() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (3,))
    g.output("same", x)
    g.output("relu", g.add(Relu(x)))
    program = check(g.graph)
    assert program.outputs()[0][2] == program.inputs()[0][2]
    assert program.outputs()[0][2].last == 1


def test_a_graph_without_operators_is_a_program_without_instructions() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.I8, (3,), QUANT)
    g.output("x", x)
    program = check(g.graph)
    assert (program.instructions, program.arena.size_bytes) == ((), 3)


def test_an_output_may_be_a_view_of_an_input() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (2, 3))
    g.output("y", g.add(Reshape(x, (6,))))
    program = check(g.graph)
    assert program.instructions == ()


def test_an_output_may_be_constant_or_a_view_of_a_constant() -> None:
    g = GraphBuilder("g")
    g.input("x", DType.F32, (2,))
    c = g.constant(np.arange(4, dtype=np.float32))
    g.output("c", c)
    g.output("view", g.add(Reshape(c, (2, 2))))
    program = check(g.graph)
    assert [buffer.kind for _, _, buffer in program.outputs()] == ["const", "const"]
    assert program.weights.size_bytes == 16


def test_one_value_may_be_several_outputs() -> None:
    g = GraphBuilder("g")
    y = g.add(Relu(g.input("x", DType.F32, (2,))))
    g.output("a", y)
    g.output("b", y)
    program = check(g.graph)
    assert len(program.outputs()) == 2
    assert len(program.in_region("arena")) == 1


def test_an_input_that_nothing_reads_has_memory_only_while_inputs_are_written() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (4,))
    g.input("unused", DType.F32, (100,))
    w = g.constant(np.arange(400, dtype=np.float32).reshape(100, 4))
    g.output("y", g.add(Add(w, x)))
    program = check(g.graph)
    assert (program.buffers["unused"].first, program.buffers["unused"].last) == (-1, -1)
    assert program.arena.size_bytes == 4 * (4 + 400)


def test_a_result_that_nothing_reads_lives_for_one_step() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (4,))
    dead = g.add(Concat((x, x), 0), "dead")
    y = g.add(Relu(x))
    g.output("y", g.add(Relu(y)))
    program = check(g.graph)
    assert (program.buffer_of(dead).first, program.buffer_of(dead).last) == (0, 0)


def test_kept_inputs_and_outputs_share_no_memory_with_anything() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (4,))
    y = g.add(Concat((x, x), 0))
    g.output("y", g.add(Concat((y, y), 0)))
    program = check(g.graph, options=LoweringOptions(keep_input=True, keep_output=True))
    lives = {buffer.kind: (buffer.first, buffer.last) for buffer in program.in_region("arena")}
    assert lives == {"input": (-1, 2), "temp": (0, 1), "output": (-1, 2)}
    assert program.arena.size_bytes == 4 * (4 + 8 + 16)


def test_operators_with_several_results() -> None:
    g = GraphBuilder("g")
    a, b = g.add_all(Halves(g.input("x", DType.I8, (4, 3), QUANT)), ("a", "b"))
    g.output("b", b)
    g.output("sum", g.add(Add(a, b, quant=QUANT)))
    program = check(g.graph)
    assert [operand.kind for operand in program.instructions[0].operands] == ["in", "out", "out"]


def test_tensors_without_elements() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (0, 4))
    y = g.add(Relu(x))
    g.output("y", g.add(Concat((y, g.input("z", DType.F32, (2, 4))), 0)))
    check(g.graph, use_kernels=False)


def test_scalar_tensors() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, ())
    g.output("y", g.add(Add(x, g.constant(np.array(2.5, np.float32)))))
    check(g.graph)


def test_names_of_tensors_become_names_of_buffers() -> None:
    g = GraphBuilder("g")
    x = g.input("serving default/image:0", DType.F32, (2,))
    y = g.add(Concat((x, x), 0), "a/b")
    z = g.add(Concat((y, y), 0), "a:b")
    g.output("z", z)
    names = [buffer.name for buffer in check(g.graph).in_region("arena")]
    assert names == ["serving_default_image_0", "a_b", "a_b.1"]


def test_all_operators_without_a_kernel_are_named_together() -> None:
    g = GraphBuilder("g")
    x = g.input("x", DType.F32, (4,))
    a, _ = g.add_all(ToySplit(x, location=Location("m", "first", "SPLIT")))
    b, _ = g.add_all(ToySplit(a, location=Location("m", "second", "SPLIT")))
    g.output("y", g.add(Reshape(g.add(Relu(b)), (1,))))
    with pytest.raises(CompileError) as caught:
        lower(g.graph, TARGET)
    assert [(d.code, d.location.node) for d in caught.value.diagnostics] == [
        ("unsupported-operator", "first"),
        ("unsupported-operator", "second"),
    ]
    assert str(caught.value.diagnostics[0]) == (
        "error[unsupported-operator]: toy_split: has no kernel\n"
        '  --> m: node "first" (SPLIT)\n'
        "  note: operands are x: f32[4]"
    )


def test_a_program_without_places_does_not_run() -> None:
    program = lower(two_convolutions(), TARGET)
    verify_program(program)
    with pytest.raises(InternalError, match="has no place yet"):
        run_program(program, random_inputs(program.graph, 0))


def test_watching_a_run_shows_every_result() -> None:
    graph = two_convolutions()
    program = build(graph)
    inputs = random_inputs(graph, 3)
    expected: dict[str, bytes] = {}
    found: dict[str, bytes] = {}
    run_graph(graph, inputs, lambda value, array: expected.__setitem__(value.name, array.tobytes()))
    run_program(program, inputs, watch=lambda value, array: found.__setitem__(value.name, array.tobytes()))
    assert found == expected
