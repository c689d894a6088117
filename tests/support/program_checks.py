"""Graphs lowered, planned, verified and run in planned memory, held against the graph's meaning."""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.ir.target import find_target
from luciole.ir.types import Array, TensorType
from luciole.lower.lower import LoweringOptions, lower
from luciole.lower.plan import plan_memory
from luciole.program.core import ARENA, Program
from luciole.program.interpret import run_program
from luciole.program.verify import verify_program

DEFAULTS = LoweringOptions()


def random_array(type: TensorType, random: np.random.Generator) -> Array:
    """Numbers over the whole range of an integer type, small floats."""
    if type.dtype.is_float:
        return random.uniform(-4, 4, type.shape).astype(np.float32)
    low, high = type.dtype.limits
    return random.integers(low, high, type.shape, endpoint=True).astype(type.dtype.numpy)


def random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    """An array for every input of a graph."""
    random = np.random.default_rng(seed)
    return {value.name: random_array(value.type, random) for value in graph.inputs}


def assert_same_outputs(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Outputs in the same order; integers equal, floats within what the order of a sum may change."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
        else:
            assert found[name].tobytes() == array.tobytes()


def build(graph: Graph, target: str = "cortex-m4", options: LoweringOptions = DEFAULTS) -> Program:
    """The planned program, verified before and after planning."""
    program = lower(graph, find_target(target), options)
    verify_program(program)
    planned = plan_memory(program)
    verify_program(planned)
    return planned


def check(
    graph: Graph,
    target: str = "cortex-m4",
    options: LoweringOptions = DEFAULTS,
    *,
    use_kernels: bool = True,
    seeds: int = 2,
) -> Program:
    """The planned program, after it has given what the graph gives, by the operators' meaning and by their kernels."""
    program = build(graph, target, options)
    for seed in range(seeds):
        inputs = random_inputs(graph, seed)
        expected = run_graph(graph, inputs)
        assert_same_outputs(run_program(program, inputs), expected)
        if use_kernels:
            assert_same_outputs(run_program(program, inputs, use_kernels=True), expected)
    return program


def alive_bytes(program: Program) -> int:
    """The most bytes of tensors alive in one step."""
    buffers = [buffer for buffer in program.in_region(ARENA) if buffer.kind != "workspace"]
    steps = range(-1, len(program.instructions) + 1)
    return max(sum(b.size_bytes for b in buffers if b.first <= step <= b.last) for step in steps)
