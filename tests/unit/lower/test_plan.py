"""Planning: constants one after the other, tensors in as little memory as can be; the MLPerf Tiny models too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luciole.errors import InternalError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph
from luciole.importers import load_model
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.lower import plan
from luciole.lower.lower import lower
from luciole.lower.order import order_operators
from luciole.lower.placement import Placement, PlacementProblem
from luciole.lower.placement import check as check_placement
from luciole.lower.plan import activation_sizes, placement_problem, plan_memory
from luciole.ops.concat import Concat
from luciole.ops.elementwise import Mul
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.passes.pipeline import OPTIMIZE
from luciole.program.core import Buffer, Operand, Program
from luciole.program.interpret import run_program
from luciole.program.verify import verify_program
from support.program_checks import alive_bytes, build

TARGET = find_target("cortex-m4")


def growing_chain() -> Graph:
    g = GraphBuilder("chain")
    y = g.input("x", DType.F32, (4,))
    for count in (2, 3, 1):
        y = g.add(Concat((y,) * count, 0))
    factors = g.constant(np.arange(y.type.elements, dtype=np.float32))
    g.output("y", g.add(Mul(y, factors)))
    return g.graph


def test_the_arena_is_as_small_as_the_tensors_alive_at_once() -> None:
    program = build(growing_chain())
    assert program.arena.size_bytes == alive_bytes(program) == program.arena.lower_bound_bytes == 4 * (24 + 24)
    assert program.arena.is_optimal and program.arena.method


def test_places_pass_the_check_of_the_placement() -> None:
    buffers = build(growing_chain()).in_region("arena")
    offsets = [buffer.offset for buffer in buffers if buffer.offset is not None]
    assert check_placement(placement_problem(buffers), offsets) == ()


def test_constants_stand_in_order_at_multiples_of_their_alignment() -> None:
    program = lower(growing_chain(), TARGET)
    sizes = {"a": 3, "b": 8, "c": 1}
    extra = {
        name: Buffer(name, "const", "weights", DType.I8, (size,), 4, data=np.full(size, index + 1, np.int8))
        for index, (name, size) in enumerate(sizes.items())
    }
    planned = plan_memory(replace(program, buffers=extra | program.buffers))
    constants = planned.in_region("weights")
    assert [(b.name, b.offset) for b in constants[:3]] == [("a", 0), ("b", 4), ("c", 12)]
    assert constants[3].offset == 16
    assert planned.weights.size_bytes == 16 + constants[3].size_bytes
    blob = planned.weights_blob()
    assert blob[:16] == bytes([1] * 3 + [0] + [2] * 8 + [3] + [0] * 3)
    assert blob[16:] == np.arange(24, dtype=np.float32).tobytes()


def with_workspace(program: Program, size: int) -> Program:
    """The first instruction with a workspace. It runs no more, since its kernel knows of none."""
    work = Buffer("work", "workspace", "arena", DType.U8, (size,), 8, 0, 0)
    first = program.instructions[0]
    first = replace(first, operands=(*first.operands, Operand("workspace", "workspace", "work")))
    return replace(program, buffers=program.buffers | {"work": work}, instructions=(first, *program.instructions[1:]))


def test_workspaces_are_told_apart_from_tensors() -> None:
    program = lower(growing_chain(), TARGET)
    sizes = activation_sizes(plan_memory(program))
    assert (sizes.activation_bytes, sizes.workspace_bytes) == (192, 0)
    # The first step holds 16 + 32 bytes of tensors, so that a small workspace is free and a large one is not.
    sizes = activation_sizes(plan_memory(with_workspace(program, 144)))
    assert (sizes.activation_bytes, sizes.workspace_bytes) == (192, 0)
    sizes = activation_sizes(plan_memory(with_workspace(program, 160)))
    assert (sizes.activation_bytes, sizes.workspace_bytes) == (192, 16)


def test_a_wrong_placement_is_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything_at_zero(problem: PlacementProblem, effort: object) -> Placement:
        return Placement((0,) * len(problem.items), 96, 96, True, "wishful")

    monkeypatch.setattr(plan, "solve", everything_at_zero)
    with pytest.raises(InternalError, match=r"the placement is wrong: .* overlap in memory and in time"):
        plan_memory(lower(growing_chain(), TARGET))


def test_planning_twice_gives_the_same_places() -> None:
    program = lower(growing_chain(), TARGET)
    first, second = plan_memory(program), plan_memory(program)
    assert (first.buffers, first.regions) == (second.buffers, second.regions)
    assert plan_memory(first).buffers == first.buffers


#: Bytes of activations of the five int8 models, model input and output included: the sum of what is alive at the peak.
ACTIVATION_BYTES = {
    "ic_resnet8_int8": 49_152,
    "kws_dscnn_int8": 16_000,
    "vww_mbv1_int8": 55_296,
    "ad_ae_int8": 768,
    "sww_int8": 6_656,
}


@pytest.mark.parametrize("name", ACTIVATION_BYTES)
def test_models_need_no_more_than_the_tensors_alive_at_once(name: str, shared_model: Callable[[str], Path]) -> None:
    path = shared_model(name)
    graph = load_model(path)
    PassContext(DeveloperOptions()).run_pipeline(graph, OPTIMIZE)
    order_operators(graph)
    program = plan_memory(lower(graph, TARGET))
    verify_program(program)
    sizes = activation_sizes(program)
    assert sizes.activation_bytes == ACTIVATION_BYTES[name]
    assert sizes.workspace_bytes <= 4096
    assert program.arena.is_optimal
    golden = np.load(path.with_suffix(".golden.npz"))
    (given,) = graph.inputs
    (wanted,) = [value for _, value in graph.outputs]
    outputs = run_program(program, {given.name: golden["input"][0].reshape(given.type.shape)})
    assert np.array_equal(next(iter(outputs.values())), golden["output0"][0].reshape(wanted.type.shape))
