"""Results that overlap their inputs: every claim at its very distance, whole models in less memory, and the options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luciole.bundle.glow import separate_interface
from luciole.bundle.host import HostSession
from luciole.bundle.interface import MUTABLE, describe_interface
from luciole.bundle.objects import build_object
from luciole.bundle.sources import print_bundle_c
from luciole.compilation import Compilation, identify
from luciole.driver import build_program
from luciole.emulate.bundle import UnicornBundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.errors import CompileError, InternalError
from luciole.graph.core import Graph, Operator, Value
from luciole.graph.interpret import run_graph
from luciole.graph.samples import Samples
from luciole.graph.text import save_graph
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.kernel.hoisting import hoist
from luciole.kernel.interpret import KernelError
from luciole.kernel.text import parse_kernel
from luciole.lower import lower as lowering
from luciole.lower.lower import LoweringOptions, lower
from luciole.lower.plan import activation_sizes, plan_memory
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.options import Options
from luciole.program.core import ARENA, Overlap, Program
from luciole.program.interpret import run_program
from luciole.program.text import parse_program, print_program, render_program
from luciole.program.verify import program_problems, verify_program
from luciole.targets.base import GENERIC, KernelRecipe, candidate_recipes
from support.program_checks import assert_same_outputs, random_inputs

OVERLAPPING = LoweringOptions(allows_overlap=True)
#: Bytes of tensors in the arena on Cortex-M4 that must be enough with overlap.
GOALS = {"ic_resnet8_int8": 34_400, "kws_dscnn_int8": 9_400, "vww_mbv1_int8": 37_900, "sww_int8": 4_600}


def operators() -> Iterator[Operator]:
    """The samples of all operators whose kernels may overlap, and shapes that hand-scheduled kernels take."""
    for kind in (Conv2d, DepthwiseConv2d, AveragePool2d, MaxPool2d, Add, Mul):
        yield from kind.samples(Samples())
    s = Samples(1)
    for channels, results, pads, strides in (
        (4, 4, (1, 1, 1, 1), (1, 1)),
        (4, 6, (0, 0, 1, 1), (2, 2)),
        (3, 2, (1, 0, 1, 2), (1, 2)),
    ):
        yield Conv2d(
            s.i8(1, 7, 6, channels, zero=5),
            s.i8_weights(results, 3, 3, channels),
            s.i32_bias(results),
            strides=strides,
            pads=pads,
            quant=s.quant(0.2, -3),
        )
    wide = s.i8(1, 3, 40, 16, zero=1)
    yield Conv2d(wide, s.i8_weights(4, 3, 3, 16), s.i32_bias(4), pads=(1, 1, 1, 1), quant=s.quant(0.4))
    for channels, results in ((8, 16), (16, 8), (8, 8)):
        weights = s.i8_weights(results, 1, 1, channels)
        yield Conv2d(s.i8(1, 5, 4, channels, zero=-9), weights, s.i32_bias(results), quant=s.quant(0.2, 4))
    for size, strides in (((7, 5), (1, 1)), ((5, 9), (1, 1)), ((24, 64), (2, 2)), ((9, 6), (2, 2))):
        yield DepthwiseConv2d(
            s.i8(1, *size, 8, zero=-128),
            s.i8_weights(1, 3, 3, 8, axis=3),
            s.i32_bias(8),
            strides=strides,
            pads=(1, 1, 1, 1),
            quant=s.quant(0.15, -20),
        )
    for channels, results, options in (
        (7, 7, {"pads": (1, 1, 1, 1)}),
        (3, 6, {"pads": (1, 1, 1, 1)}),
        (5, 5, {"pads": (2, 4, 2, 4), "dilations": (2, 4)}),
        (4, 8, {"strides": (2, 1), "dilations": (1, 2)}),
    ):
        weights = s.i8_weights(1, 3, 3, results, axis=3)
        x, bias = s.i8(1, 25, 31, channels, zero=7), s.i32_bias(results)
        yield DepthwiseConv2d(x, weights, bias, quant=s.quant(0.15, -20), **options)
    column, weights = s.i8(1, 21, 1, 6), s.i8_weights(6, 3, 1, 6)
    yield Conv2d(column, weights, s.i32_bias(6), pads=(4, 0, 4, 0), dilations=(4, 1), quant=s.quant(0.2))
    yield Add(s.i8(1, 5, 3, 3), s.i8(1, 5, 3, 3), quant=s.quant(0.05))
    yield Add(s.i8(1, 5, 3, 7, scale=0.03), s.i8(7, scale=0.05), quant=s.quant(0.07))
    yield Mul(s.i8(1, 5, 3, 7, scale=0.03), s.i8(7, scale=0.05), quant=s.quant(0.07))


def graph_of(op: Operator) -> Graph:
    """A graph of a copy of one operator."""
    graph = Graph("one")
    copies: dict[Value, Value] = {}
    for name, value in op.named_operands():
        if value.data is not None:
            copies[value] = graph.add_constant(value.data, value.type.quant, name)
        elif value not in copies:
            copies[value] = graph.add_input(name, value.type)
    (result,) = graph.add(op.with_operands(copies.__getitem__), ["y"])
    graph.add_output("y", result)
    return graph


def overlapping_programs(target: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """Every sample by every kernel that lets its result overlap, placed at each nearest distance that it states."""
    for op in operators():
        if op.result_types()[0].dtype is DType.F64:  # the loops of float32, which not all targets have
            continue
        graph = graph_of(op)
        for recipe in [*candidate_recipes(op, find_target(target)), GENERIC]:

            def only(op: Operator, target: object, recipe: KernelRecipe = recipe) -> list[KernelRecipe]:
                return [] if recipe is GENERIC else [recipe]

            monkeypatch.setattr(lowering, "candidate_recipes", only)
            program = lower(graph, find_target(target), OVERLAPPING)
            overlap = program.instructions[0].overlap
            if overlap is None:
                continue
            for distance in {overlap.distance_bytes, 0 if overlap.in_place else overlap.distance_bytes}:
                yield placed(plan_memory(program), distance)


def placed(program: Program, distance: int) -> Program:
    """The program with its result at 0, and the input it overlaps as close behind it as `distance` and alignment let;
    other buffers lie behind both.
    """
    (instruction,) = program.instructions
    assert instruction.overlap is not None
    source, result = program.buffers[instruction.overlap.source], program.buffers[instruction.buffers("out")[0]]
    offsets = {result.name: 0, source.name: -(-distance // source.alignment) * source.alignment}
    end = max(offsets[b.name] + b.size_bytes for b in (source, result))
    for buffer in program.in_region(ARENA):
        if buffer.name not in offsets:
            offsets[buffer.name] = -(-end // buffer.alignment) * buffer.alignment
            end = offsets[buffer.name] + buffer.size_bytes
    arena = replace(program.arena, size_bytes=end, lower_bound_bytes=0, is_optimal=False, method="by hand")
    return program.placed(offsets, (program.weights, arena))


def by_emulation(program: Program, core: str) -> Callable[[list[bytes]], bytes]:
    slots = [
        tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in found()) for found in (program.inputs, program.outputs)
    ]
    interface = BundleInterface("net", program.arena.size_bytes, program.arena.alignment, *slots)
    bundle = UnicornBundle(build_object(program, "net", find_target(core)), find_core(core), interface)
    return lambda inputs: bundle.run(inputs).outputs[0]


def first_output(session: HostSession) -> Callable[[list[bytes]], bytes]:
    return lambda inputs: session.run(inputs)[0]


def as_machine_code(program: Program) -> Callable[[list[bytes]], bytes]:
    """The program's object on this machine or on the core it is for."""
    if program.target != "native":
        return by_emulation(program, program.target)
    data = build_object(program, "net", find_target("native"))
    return first_output(HostSession.from_object(data, describe_interface(program, "net")))


@pytest.mark.parametrize("target", ["native", "cortex-m4"])
def test_machine_code_may_overlap_as_far_as_kernels_say(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for program in overlapping_programs(target, monkeypatch):
        verify_program(program)
        inputs = random_inputs(program.graph, 3)
        given = [np.ascontiguousarray(inputs[name]).tobytes() for name, _, _ in program.inputs()]
        (expected,) = run_graph(program.graph, inputs).values()
        got = np.frombuffer(as_machine_code(program)(given), expected.dtype).reshape(expected.shape)
        assert_same_outputs({"y": got}, {"y": expected})
        found.add((program.instructions[0].operator.kind, program.instructions[0].recipe))
    generic = {(kind, "generic") for kind in ("conv2d", "depthwise_conv2d", "average_pool2d", "max_pool2d")}
    by_hand = {("conv2d", "hilo"), ("conv2d", "pointwise_hilo"), ("depthwise_conv2d", "planes"), ("add", "exhaustive")}
    by_hand |= {("mul", "halves")}
    assert found >= generic | (by_hand if target == "cortex-m4" else set())


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "cortex-m0plus"])
def test_no_kernel_reads_what_it_has_overwritten(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = set()
    for program in overlapping_programs(target, monkeypatch):
        if max(b.size_bytes for b in program.in_region(ARENA)) > 4000:
            continue  # the interpreter of kernels is slow
        inputs = random_inputs(program.graph, 4)
        expected = run_graph(program.graph, inputs)
        assert_same_outputs(run_program(program, inputs, use_kernels=True), expected)
        recipes.add(program.instructions[0].recipe)
    assert "generic" in recipes and len(recipes) > 1


def same_size_convolution() -> Graph:
    s = Samples()
    x = s.i8(1, 6, 5, 4, zero=5)
    weights = s.i8_weights(4, 3, 3, 4)
    return graph_of(Conv2d(x, weights, s.i32_bias(4), pads=(1, 1, 1, 1), quant=s.quant(0.2)))


def test_one_row_less_than_stated_loses_input() -> None:
    program = plan_memory(lower(same_size_convolution(), find_target("cortex-m4"), OVERLAPPING))
    overlap = program.instructions[0].overlap
    assert overlap is not None and overlap.distance_bytes == 5 * 4
    closer = placed(program, overlap.distance_bytes - 4)
    with pytest.raises(InternalError, match=r"13\. buffers"):
        verify_program(closer)
    with pytest.raises(KernelError, match="read before they are written"):
        run_program(closer, random_inputs(program.graph, 0), use_kernels=True)


def test_the_text_of_programs_and_kernels_keeps_the_overlap() -> None:
    program = plan_memory(lower(same_size_convolution(), find_target("cortex-m4"), OVERLAPPING))
    rendered = render_program(program)
    text = rendered.text
    assert " computes %y over %x below 20 by hilo\n" in text and ") scheduled overlapping\n" in text
    again = parse_program(text, rendered.arrays)
    assert print_program(again) == text and not list(program_problems(again))
    assert program.arena.size_bytes < plan_memory(lower(program.graph, find_target("cortex-m4"))).arena.size_bytes


@pytest.mark.parametrize(
    "overlap", [Overlap("x", -1), Overlap("y", 20), Overlap("nothing", 20)], ids=["negative", "result", "unknown"]
)
def test_a_wrong_overlap_is_found(overlap: Overlap) -> None:
    program = lower(same_size_convolution(), find_target("cortex-m4"), OVERLAPPING)
    (instruction,) = program.instructions
    assert not list(program_problems(program))
    broken = replace(instruction, overlap=overlap)
    assert 14 in {number for number, _ in program_problems(replace(program, instructions=(broken,)))}


def test_an_input_that_is_kept_is_not_overlapped() -> None:
    for options in (replace(OVERLAPPING, keep_input=True), replace(OVERLAPPING, keep_output=True)):
        program = lower(same_size_convolution(), find_target("cortex-m4"), options)
        assert program.instructions[0].overlap is None
        assert not any(kernel.may_overlap for kernel in program.kernels.values())


def test_inputs_are_not_read_before_a_loop_that_writes_over_them() -> None:
    text = "kernel f(in x: i8[4], out y: i8[4]){}\n  for i in 0..4\n    first: i8 = x[0]\n    y[i] = first\nend\n"
    apart, together = (parse_kernel(text.format(flag)) for flag in ("", " overlapping"))
    assert hoist(apart) != apart and hoist(together) == together


@pytest.mark.parametrize("name", GOALS)
def test_models_in_less_memory_give_the_recorded_bits(shared_model: Callable[[str], Path], name: str) -> None:
    path = shared_model(name)
    with np.load(path.with_name(path.stem + ".golden.npz")) as arrays:
        inputs, outputs = arrays["input"][:2], arrays["output0"][:2]
    for target in ("cortex-m4", "native"):
        with Compilation(path, Options(target=target, name="net", optimize="ram")) as run:
            program = build_program(run)
        if target == "cortex-m4":
            assert activation_sizes(program).activation_bytes <= GOALS[name]
        runs = [as_machine_code(program)]
        if target == "native":
            interface = describe_interface(program, "net")
            source = HostSession.from_c(print_bundle_c(program, interface, identify(path, "net"), "native"), interface)
            runs.append(first_output(source))
        for code in runs:
            for sample, expected in zip(inputs, outputs, strict=True):
                assert code([np.ascontiguousarray(sample).tobytes()]) == expected.tobytes()


def test_max_ram_turns_to_overlap_where_nothing_else_fits(tmp_path: Path) -> None:
    path = tmp_path / "one.graph"
    save_graph(same_size_convolution(), path)

    def arena(**options: object) -> int:
        with Compilation(path, Options(target="cortex-m4", **options)) as run:  # type: ignore[arg-type]  # any options
            return build_program(run).arena.size_bytes

    balanced, small = arena(), arena(optimize="ram")
    assert small < balanced
    assert arena(max_ram=balanced) == balanced
    assert arena(max_ram=balanced - 1) == arena(max_ram=small) == small
    with pytest.raises(CompileError, match=f"needs {small:,} B"):
        arena(max_ram=small - 1)
    with pytest.raises(CompileError, match="optimize"):
        Options(optimize="least")  # type: ignore[arg-type]  # a word that is none


def test_outputs_of_glow_bundles_lie_apart() -> None:
    graph = same_size_convolution()
    program = plan_memory(separate_interface(plan_memory(lower(graph, find_target("native"), OVERLAPPING))))
    assert program.instructions[0].overlap is not None
    assert {program.buffers[name].region for name in program.instructions[0].buffers("in", "out")} >= {MUTABLE}
