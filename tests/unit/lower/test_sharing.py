"""Layers that share kernels: verified, written as text, and the same bits on every path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph
from luciole.graph.interpret import run_graph
from luciole.graph.text import save_graph
from luciole.ir.quant import Quant
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.lower.sharing import share_kernels
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.program.interpret import run_program
from luciole.program.text import load_program, save_program
from luciole.program.verify import verify_program
from support.program_checks import assert_same_outputs, build, random_inputs


def separable_layers() -> Graph:
    """Depthwise and pointwise convolutions, as in MobileNet, no two of one shape."""
    random = np.random.default_rng(3)
    g = GraphBuilder("separable")
    x = g.input("image", DType.I8, (1, 5, 4, 4), Quant.per_tensor(1 / 255, -128))
    for channels, outputs in ((4, 8), (8, 12), (12, 8)):
        kernel = g.constant(
            random.integers(-40, 40, (1, 3, 3, channels)).astype(np.int8),
            Quant(tuple(float(np.float32(v)) for v in random.uniform(0.01, 0.02, channels)), (0,) * channels, 3),
        )
        bias = g.constant(random.integers(-99, 99, channels).astype(np.int32))
        x = g.add(DepthwiseConv2d(x, kernel, bias, pads=(1, 1, 1, 1), quant=Quant.per_tensor(0.03, -128)))
        weights = g.constant(
            random.integers(-40, 40, (outputs, 1, 1, channels)).astype(np.int8),
            Quant(tuple(float(np.float32(v)) for v in random.uniform(0.01, 0.02, outputs)), (0,) * outputs, 0),
        )
        bias = g.constant(random.integers(-99, 99, outputs).astype(np.int32))
        x = g.add(Conv2d(x, weights, bias, quant=Quant.per_tensor(0.05, -128)))
    g.output("features", x)
    return g.graph


def pointwise_layers() -> Graph:
    """Pointwise convolutions of 16 channels that differ in zero points and in how many channels come out."""
    random = np.random.default_rng(4)
    g = GraphBuilder("pointwise")
    x = g.input("image", DType.I8, (1, 5, 4, 16), Quant.per_tensor(1 / 255, -128))
    for outputs, zero_point in ((16, -128), (16, 3), (16, -7), (32, 11)):
        weights = g.constant(
            random.integers(-40, 40, (outputs, 1, 1, 16)).astype(np.int8),
            Quant(tuple(float(np.float32(v)) for v in random.uniform(0.01, 0.02, outputs)), (0,) * outputs, 0),
        )
        bias = g.constant(random.integers(-99, 99, outputs).astype(np.int32))
        x = g.add(Conv2d(x, weights, bias, quant=Quant.per_tensor(0.05, zero_point)))
    g.output("features", x)
    return g.graph


def test_kernels_of_vectors_are_shared() -> None:
    graph, target = pointwise_layers(), find_target("cortex-m55")
    program = build(graph, "cortex-m55")
    shared = share_kernels(program, target, 10**9)
    verify_program(shared)
    assert {i.recipe for i in program.instructions} == {"vectors"}
    assert len(program.kernels) == 4
    assert len(shared.kernels) == 1
    inputs = random_inputs(graph, 1)
    assert_same_outputs(run_program(shared, inputs, use_kernels=True), run_graph(graph, inputs))


@pytest.mark.qemu
@pytest.mark.parametrize("emit", ["object", pytest.param("c", marks=pytest.mark.cross)])
def test_shared_kernels_of_vectors_run(emit: str, tmp_path: Path) -> None:
    graph, path = pointwise_layers(), tmp_path / "pointwise.graph"
    save_graph(graph, path)
    inputs = random_inputs(graph, 2)
    session = luciole.load(path, target="cortex-m55", optimize="size", emit=emit)  # type: ignore[arg-type]  # it knows
    assert len(session.program.kernels) == 1
    assert_same_outputs(dict(session.run(dict(inputs))), run_graph(graph, inputs))


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m3", "rv32imc"])
def test_shared_programs_are_sound(core: str, tmp_path: Path) -> None:
    graph, target = separable_layers(), find_target(core)
    program = build(graph, core)
    shared = share_kernels(program, target, 10**9)
    verify_program(shared)
    assert len(shared.kernels) <= len(program.kernels) - 2
    assert any(instruction.scalars for instruction in shared.instructions)
    inputs = random_inputs(graph, 1)
    assert_same_outputs(run_program(shared, inputs, use_kernels=True), run_graph(graph, inputs))
    save_program(shared, tmp_path / "shared.program")
    again = load_program(tmp_path / "shared.program")
    assert again.kernels == shared.kernels
    assert [i.scalars for i in again.instructions] == [i.scalars for i in shared.instructions]


def test_without_instructions_to_spare_only_free_sharing_happens() -> None:
    program, target = build(separable_layers()), find_target("cortex-m4")
    names = set(program.kernels)
    few, many = (share_kernels(program, target, allowed) for allowed in (0, 10**9))
    assert len(many.kernels) < len(few.kernels) <= len(names)


@pytest.mark.parametrize(("core", "emit"), [("cortex-m4", "object"), ("rv32imc", "object"), ("native", "c")])
def test_bundles_of_least_size(core: str, emit: str, tmp_path: Path) -> None:
    graph = separable_layers()
    path = tmp_path / "separable.graph"
    save_graph(graph, path)
    inputs = random_inputs(graph, 2)
    session = luciole.load(path, target=core, optimize="size", emit=emit)  # type: ignore[arg-type]  # a word it knows
    assert_same_outputs(dict(session.run(dict(inputs))), run_graph(graph, inputs))
    balanced = luciole.compile(path, target=core).report
    small = luciole.compile(path, target=core, optimize="size").report
    if core != "native":
        assert small.flash.total_bytes < 0.9 * balanced.flash.total_bytes
        assert len({layer.kernel for layer in small.layers}) < len({layer.kernel for layer in balanced.layers})
