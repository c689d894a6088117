"""Operators that run row by row: windows, schedules, rings, what verification finds, and machine code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luciole.bundle.host import HostSession
from luciole.bundle.interface import describe_interface
from luciole.bundle.objects import build_object
from luciole.emulate.bundle import UnicornBundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.errors import InternalError
from luciole.graph.core import OPERATORS, Graph, Operator, RowAccess
from luciole.graph.interpret import compute_operator, run_graph
from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ir.types import Array
from luciole.kernel.interpret import run_kernel
from luciole.kernel.verify import verify_kernel
from luciole.lower.lower import LoweringOptions, lower
from luciole.lower.plan import plan_memory
from luciole.lower.schedule import schedule_kernels
from luciole.lower.streams.kernels import copy_kernel, fill_kernel
from luciole.lower.streams.pools import split_global_averages
from luciole.lower.streams.segment import describe_segment
from luciole.lower.streams.simulate import simulate
from luciole.ops.catalog import load_operators
from luciole.program.core import Copy, Fill, Program, Run
from luciole.program.interpret import run_program
from luciole.program.text import parse_program, render_program
from luciole.program.verify import program_problems, verify_program
from support.program_checks import assert_same_outputs, random_inputs
from support.row_graphs import greedy_streams, row_graph

OVERLAPPING = LoweringOptions(allows_overlap=True)


def streamed(graph: Graph, target: str = "cortex-m4", rows: int = 1) -> Program:
    """The planned program with as much as possible in streams."""
    split_global_averages(graph)
    streams = greedy_streams(graph, rows)
    program = lower(graph, find_target(target), OVERLAPPING, streams=streams)
    verify_program(program)
    planned = plan_memory(program)
    verify_program(planned)
    return planned


def rows_of(array: Array, first: int, count: int, access: RowAccess) -> Array:
    """Rows of an NHWC array, filled outside."""
    taken = []
    for row in range(first, first + count):
        if 0 <= row < array.shape[1]:
            taken.append(array[:, row])
        else:
            assert access.fill is not None
            raw = np.full(array[:, 0].nbytes, access.fill, np.uint8)
            taken.append(raw.view(array.dtype).reshape(array[:, 0].shape))
    return np.stack(taken, axis=1)


def operators_with_rows() -> list[tuple[str, Operator, Samples]]:
    load_operators()
    found = []
    for kind, cls in OPERATORS.items():
        made = Samples()
        for number, op in enumerate(cls.samples(made)):
            if op.row_accesses() is not None and not op.adds_rows:
                found.append((f"{kind}-{number}", op, made))
    return found


@pytest.mark.parametrize(("op", "made"), [pytest.param(o, m, id=name) for name, o, m in operators_with_rows()])
def test_rows_of_an_operator_are_the_operator_on_rows(op: Operator, made: Samples) -> None:
    arrays = {v: v.data if v.data is not None else made.arrays[v] for v in op.operands}
    (whole,) = compute_operator(op, arrays)
    accesses = op.row_accesses()
    assert accesses is not None
    for rows in {1, 2, whole.shape[1]}:
        window = op.restricted_to_rows(rows)
        for first in range(0, whole.shape[1] - rows + 1):
            given = {}
            for (name, value), (_, narrow) in zip(op.named_operands(), window.named_operands(), strict=True):
                array = arrays[value]
                if name in accesses:
                    access = accesses[name]
                    begin = first * access.stride - access.before
                    array = rows_of(array, begin, access.window_rows(rows), access)
                given[narrow] = array
            (part,) = compute_operator(window, given)
            assert_same_outputs({"y": part}, {"y": whole[:, first : first + rows]})


def test_the_operators_that_have_rows() -> None:
    kinds = {name.partition("-")[0] for name, _, _ in operators_with_rows()}
    windows = {"conv2d", "depthwise_conv2d", "average_pool2d", "max_pool2d", "pad"}
    assert kinds >= windows | {"add", "mul", "fused", "average_of_sums"}


@pytest.mark.parametrize("seed", range(24))
def test_random_networks_give_the_same_bits_row_by_row(seed: int) -> None:
    graph = row_graph(seed)
    inputs = random_inputs(graph, seed)
    expected = run_graph(graph, inputs)
    program = streamed(graph, rows=1 + seed % 2)
    assert program.streams
    assert_same_outputs(run_program(program, inputs), expected)
    if seed < 3:
        assert_same_outputs(run_program(program, inputs, use_kernels=True), expected)


@pytest.mark.parametrize("seed", range(6))
def test_programs_with_streams_print_and_read_back(seed: int) -> None:
    program = streamed(row_graph(seed))
    rendered = render_program(program)
    again = parse_program(rendered.text, rendered.arrays)
    assert render_program(again).text == rendered.text
    verify_program(again)
    assert again.streams == program.streams


def run_natively(program: Program, inputs: dict[str, Array], *, from_c: bool) -> dict[str, Array]:
    from luciole.bundle.header import ModelIdentity
    from luciole.bundle.sources import print_bundle_c

    interface = describe_interface(program, "net")
    if from_c:
        files = print_bundle_c(program, interface, ModelIdentity("net", "net", "net.graph", "0" * 64), program.target)
        session = HostSession.from_c(files, interface)
    else:
        session = HostSession.from_object(build_object(program, "net", find_target(program.target)), interface)
    with session:
        raw = session.run([np.ascontiguousarray(inputs[name]).tobytes() for name, _, _ in program.inputs()])
    return {
        name: np.frombuffer(data, value.type.dtype.numpy).reshape(value.type.shape)
        for (name, value, _), data in zip(program.outputs(), raw, strict=True)
    }


@pytest.mark.parametrize("from_c", [False, True], ids=["object", "c"])
@pytest.mark.parametrize("seed", range(4))
def test_machine_code_runs_row_by_row(seed: int, from_c: bool) -> None:
    graph = row_graph(seed)
    inputs = random_inputs(graph, seed)
    expected = run_graph(graph, inputs)
    program = streamed(graph, "native", rows=1 + seed % 2)
    assert_same_outputs(run_natively(program, inputs, from_c=from_c), expected)


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
@pytest.mark.parametrize("seed", [2, 5])
def test_cores_run_row_by_row(seed: int, core: str) -> None:
    graph = row_graph(seed)
    inputs = random_inputs(graph, seed)
    expected = run_graph(graph, inputs)
    program = schedule_kernels(streamed(graph, core), find_target(core))
    slots = [
        tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in found()) for found in (program.inputs, program.outputs)
    ]
    interface = BundleInterface("net", program.arena.size_bytes, program.arena.alignment, *slots)
    bundle = UnicornBundle(build_object(program, "net", find_target(core)), find_core(core), interface)
    raw = bundle.run([np.ascontiguousarray(inputs[name]).tobytes() for name, _, _ in program.inputs()]).outputs
    got = {
        name: np.frombuffer(data, value.type.dtype.numpy).reshape(value.type.shape)
        for (name, value, _), data in zip(program.outputs(), raw, strict=True)
    }
    assert_same_outputs(got, expected)


# Verification


def test_a_schedule_that_reads_a_wrong_row_is_found() -> None:
    program = streamed(row_graph(2))
    (stream, *others) = program.streams
    for number, action in enumerate(stream.actions):
        if isinstance(action, Run):
            changed: Run | Copy | Fill = replace(action, slots=(action.slots[0] + 1, *action.slots[1:]))
        else:
            changed = replace(action, slot=action.slot + 1)
        actions = (*stream.actions[:number], changed, *stream.actions[number + 1 :])
        broken = replace(program, streams=(replace(stream, actions=actions), *others))
        assert {n for n, _ in program_problems(broken)} & {14, 16}, action
        without = (*stream.actions[:number], *stream.actions[number + 1 :])
        if isinstance(action, Run):
            broken = replace(program, streams=(replace(stream, actions=without), *others))
            assert {n for n, _ in program_problems(broken)} & {16}


def test_streams_that_are_no_streams_are_found() -> None:
    program = streamed(row_graph(2))
    (stream, *_) = program.streams
    run = next(action for action in stream.actions if isinstance(action, Run))
    for streams in (
        (replace(stream, first=stream.first + 1),),
        (),
        (replace(stream, actions=(replace(run, instruction=99), *stream.actions)),),
        (replace(stream, actions=(replace(run, slots=()), *stream.actions)),),
        (replace(stream, actions=(Fill("nothing", "nowhere", 0, 1, 0), *stream.actions)),),
    ):
        with pytest.raises(InternalError, match=r"(15|4|10|11)\. "):
            verify_program(replace(program, streams=streams))


# Schedules and kernels


def test_a_chain_of_windows_keeps_the_rows_under_one_window() -> None:
    s = Samples()
    graph = Graph("chain")
    x = graph.add_input("x", s.i8(1, 12, 4, 4).type)
    conv, depthwise = OPERATORS["conv2d"], OPERATORS["depthwise_conv2d"]
    weights = s.i8_weights(4, 3, 3, 4)
    values = [x]
    for kind, w, pads in ((conv, weights, (1, 1, 1, 1)), (depthwise, s.i8_weights(1, 3, 3, 4, axis=3), (0, 0, 0, 0))):
        w = graph.add_constant(w.data, w.type.quant)  # type: ignore[arg-type]  # a constant has data
        op = kind(values[-1], w, pads=pads, quant=s.quant(0.2))  # type: ignore[call-arg]  # both are convolutions
        values.append(*graph.add(op))
    graph.add_output("y", values[-1])
    segment = describe_segment(graph, graph.operators, (1, 1))
    assert segment is not None
    assert [tensor.role for tensor in segment.tensors] == ["copied", "ring", "result"]
    assert simulate(segment).capacities == [3, 3, 0]
    two = describe_segment(graph, graph.operators, (2, 2))
    assert two is not None and simulate(two).capacities == [4, 4, 0]


@pytest.mark.parametrize("by_words", [False, True])
@pytest.mark.parametrize("count", [1, 8, 13])
def test_kernels_copy_and_fill(by_words: bool, count: int) -> None:
    size = count * (4 if by_words else 1)
    copy, fill = copy_kernel(size, by_words=by_words), fill_kernel(size, by_words=by_words)
    x = np.arange(count).astype(copy.parameters[0].dtype.numpy)
    for kernel in (copy, fill):
        verify_kernel(kernel)
    assert (run_kernel(copy, {"x": x}, {"count": count})["y"] == x).all()
    assert (run_kernel(fill, {}, {"count": count, "value": -7})["y"] == -7).all()
