"""Bundles on this machine: equal to the reference, kept to their memory, and errors in the user's words."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from luciole.bundle import HostSession, assemble_bundle, describe_interface
from luciole.bundle.host import build_library, find_compiler
from luciole.bundle.sources import print_bundle_c
from luciole.bundle.test_program import make_sample
from luciole.errors import CompileError, InternalError, ToolError
from luciole.graph.core import Graph
from luciole.ir.target import find_target
from luciole.options import Options
from support.native_c import compiler
from unit.bundle.graphs import IDENTITY, chain, constant_output, large, many_ports, program_of, real

GRAPHS = [chain, many_ports, large, real, constant_output]


def run_and_compare(session: HostSession, graph: Graph) -> None:
    sample = make_sample(graph)
    for _ in range(2):
        outputs = session.run([a.tobytes() for a in sample.inputs])
        for raw, expected in zip(outputs, sample.outputs, strict=True):
            actual = np.frombuffer(raw, expected.dtype).reshape(expected.shape)
            if expected.dtype == np.float32:
                np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
            else:
                np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("api", ["luciole", "glow"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_object_equals_the_reference(graph: object, api: str) -> None:
    model: Graph = graph()  # type: ignore[operator]  # one of the functions above
    if model is constant_output() and api == "glow":
        pytest.skip("refused, see test_glow.py")
    options = Options(bundle_api=api)  # type: ignore[arg-type]  # one of its words
    bundle = assemble_bundle(program_of(model), find_target("native"), IDENTITY, options)
    run_and_compare(HostSession.from_object(bundle.object_bytes, bundle.interface, bundle.constant_weights), model)


@pytest.mark.parametrize("name", ["gcc", "clang"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_c_equals_the_reference(graph: object, name: str) -> None:
    model: Graph = graph()  # type: ignore[operator]  # one of the functions above
    program = program_of(model)
    interface = describe_interface(program, "toy")
    files = print_bundle_c(program, interface, IDENTITY, "native")
    with HostSession.from_c(files, interface, compiler=compiler(name)) as session:
        run_and_compare(session, model)


def test_two_instances_do_not_disturb_each_other() -> None:
    bundle = assemble_bundle(program_of(chain()), find_target("native"), IDENTITY, Options())
    sessions = [HostSession.from_object(bundle.object_bytes, bundle.interface) for _ in range(2)]
    for session in sessions:
        run_and_compare(session, chain())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([], "toy takes 1 inputs, 0 given"), ([bytes(191)], "input 0 of toy has 192 B, 191 given")],
)
def test_inputs_of_another_number_or_size_are_refused(inputs: list[bytes], message: str) -> None:
    bundle = assemble_bundle(program_of(chain()), find_target("native"), IDENTITY, Options())
    with pytest.raises(CompileError, match=message):
        HostSession.from_object(bundle.object_bytes, bundle.interface).run(inputs)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("model->arena[-1] = 0;", "the bundle wrote before its arena"),
        ("model->arena[TOY_ARENA_SIZE] = 0;", "the bundle wrote after its arena"),
        ("return TOY_ERROR_ARENA_NULL;", "the bundle returned the status ERROR_ARENA_NULL"),
    ],
)
def test_what_a_bundle_must_not_do_is_found(statement: str, message: str) -> None:
    program = program_of(chain())
    interface = describe_interface(program, "toy")
    files = print_bundle_c(program, interface, IDENTITY, "native")
    text = files["toy.c"].decode()
    start = "unsigned char *const arena = model->arena;"
    assert text.count(start) == 1
    files["toy.c"] = text.replace(start, f"{start} {statement}").encode()
    with HostSession.from_c(files, interface) as session, pytest.raises(InternalError, match=message):
        session.run([bytes(192)])


def test_a_plan_that_is_not_the_codes_is_found() -> None:
    program = program_of(chain())
    interface = describe_interface(program, "toy")
    files = print_bundle_c(program, interface, IDENTITY, "native")
    place = b"return (int8_t *)(void *)(model->arena"
    files["toy.c"] = files["toy.c"].replace(place, place + b" + 1")
    with (
        HostSession.from_c(files, interface) as session,
        pytest.raises(InternalError, match="toy_input is not at arena"),
    ):
        session.run([bytes(192)])


def test_temporary_files_go() -> None:
    program = program_of(chain())
    interface = describe_interface(program, "toy")
    session = HostSession.from_c(print_bundle_c(program, interface, IDENTITY, "native"), interface)
    session.close()
    session.close()
    run_and_compare(session, chain())


def test_the_compiler_is_the_one_that_cc_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", f"{sys.executable} -m something")
    assert find_compiler() == [sys.executable, "-m", "something"]
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolError, match="there is no C compiler"):
        find_compiler()


def test_what_the_compiler_says_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="the C compiler failed"):
        build_library({"bad.c": b"#error no\n"}, tmp_path, find_compiler())
