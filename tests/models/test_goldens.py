"""Whole models against recorded outputs: bit for bit where integers decide, on this machine, as C, and on emulated
cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from luciole.bundle.host import HostSession
from luciole.bundle.interface import Interface, describe_interface
from luciole.bundle.objects import build_object
from luciole.bundle.sources import print_bundle_c
from luciole.compilation import Compilation, identify
from luciole.driver import build_program
from luciole.emulate.bundle import UnicornBundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, EmulatedBundle, Slot
from luciole.emulate.qemu import QemuBundle
from luciole.ir.target import find_target
from luciole.ir.types import Array
from luciole.options import Options
from luciole.program.core import Program
from luciole.program.interpret import run_program

TINY = ("ic_resnet8_int8", "kws_dscnn_int8", "vww_mbv1_int8", "ad_ae_int8", "sww_int8")
OTHER = ("mobilenet_v2_224_int8", "micro_speech_quantized", "hello_world_int8")
FLOAT = ("ic_resnet8_f32", "kws_dscnn_f32", "vww_mbv1_f32", "ad_ae_f32")

#: How many of the recorded samples run where running is slow.
FEW = 2

#: Layer-by-layer minimum of live activations, bytes.
ACTIVATION_BOUNDS = {
    "ic_resnet8_int8": 49152,
    "kws_dscnn_int8": 16000,
    "vww_mbv1_int8": 55296,
    "ad_ae_int8": 768,
    "sww_int8": 6656,
}


def golden(path: Path) -> tuple[Array, Array]:
    """Inputs and expected outputs, one sample along the first axis."""
    with np.load(path.with_name(path.stem + ".golden.npz")) as arrays:
        return arrays["input"], arrays["output0"]


@cache
def compiled(path: Path, target: str) -> tuple[Program, Interface]:
    """The program of a model for a target, compiled once."""
    with Compilation(path, Options(target=target, name="net")) as run:
        program = build_program(run)
    return program, describe_interface(program, "net")


def c_source(path: Path, program: Program, interface: Interface) -> dict[str, bytes]:
    """The C files of a bundle."""
    return print_bundle_c(program, interface, identify(path, "net"), program.target)


def emulated_interface(program: Program) -> BundleInterface:
    """The bundle's interface as the emulators take it."""

    def slots(entries: tuple[tuple[str, object, object], ...]) -> tuple[Slot, ...]:
        return tuple(Slot(buffer.offset, buffer.size_bytes) for _, _, buffer in entries)  # type: ignore[attr-defined]

    return BundleInterface(
        "net", program.arena.size_bytes, program.arena.alignment, slots(program.inputs()), slots(program.outputs())
    )


def check_outputs(run: Callable[[bytes], bytes], inputs: Array, expected: Array, tolerance: float = 0.0) -> None:
    """Every output equals the recorded one: in every bit, or within `tolerance` of the largest magnitude."""
    for sample, wanted in zip(inputs, expected, strict=True):
        found = np.frombuffer(run(np.ascontiguousarray(sample).tobytes()), wanted.dtype).reshape(wanted.shape)
        if tolerance:
            assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
        else:
            np.testing.assert_array_equal(found, wanted)


def emulated_run(bundle: EmulatedBundle) -> Callable[[bytes], bytes]:
    return lambda data: bundle.run([data]).outputs[0]


@pytest.mark.parametrize("name", [*TINY, *OTHER[1:]])
def test_reference_program_and_host_equal_the_recorded_bits(shared_model: Callable[[str], Path], name: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    program, interface = compiled(path, "native")
    input_name, output_name = program.graph.inputs[0].name, program.graph.outputs[0][0]
    for sample, wanted in zip(inputs[:FEW], expected[:FEW], strict=True):
        np.testing.assert_array_equal(run_program(program, {input_name: sample})[output_name], wanted)
    session = HostSession.from_object(build_object(program, "net", find_target("native")), interface)
    check_outputs(lambda data: session.run([data])[0], inputs, expected)


@pytest.mark.parametrize("name", FLOAT)
def test_float_models_on_the_host(shared_model: Callable[[str], Path], name: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    program, interface = compiled(path, "native")
    session = HostSession.from_object(build_object(program, "net", find_target("native")), interface)
    check_outputs(lambda data: session.run([data])[0], inputs, expected, 1e-5)
    source = HostSession.from_c(c_source(path, program, interface), interface)
    for sample in inputs[:FEW]:
        data = np.ascontiguousarray(sample).tobytes()
        first, second = (np.frombuffer(s.run([data])[0], np.float32) for s in (session, source))
        assert np.abs(first - second).max() <= 1e-6 * np.abs(first).max()


@pytest.mark.parametrize("name", [*TINY, *OTHER[1:]])
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_c_source_equals_the_recorded_bits(shared_model: Callable[[str], Path], name: str, compiler: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    program, interface = compiled(path, "native")
    command = [sys.executable, "-m", "ziglang", "cc"] if compiler == "zig" else ["gcc"]
    session = HostSession.from_c(c_source(path, program, interface), interface, compiler=command)
    check_outputs(lambda data: session.run([data])[0], inputs, expected)


@pytest.mark.parametrize("name", [*TINY])
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "rv32imc"])
def test_emulated_cores_equal_the_recorded_bits(shared_model: Callable[[str], Path], name: str, core: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    count = len(inputs) if core == "cortex-m4" else FEW
    program, _ = compiled(path, core)
    data = build_object(program, "net", find_target(core))
    bundle = UnicornBundle(data, find_core(core), emulated_interface(program))
    check_outputs(emulated_run(bundle), inputs[:count], expected[:count])
    result = UnicornBundle(data, find_core(core), emulated_interface(program)).run([inputs[0].tobytes()], measure=True)
    assert result.outputs[0] == expected[0].tobytes()
    assert result.stack_bytes <= 1024
    assert not result.helpers


@pytest.mark.parametrize("name", TINY)
def test_activations_are_at_the_bound(shared_model: Callable[[str], Path], name: str) -> None:
    from luciole.lower.plan import activation_sizes

    program, _ = compiled(shared_model(name), "cortex-m4")
    sizes = activation_sizes(program)
    assert sizes.activation_bytes == ACTIVATION_BOUNDS[name]
    assert sizes.workspace_bytes <= 4096
    assert program.arena.is_optimal


@pytest.mark.qemu
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("core", ["cortex-m55", "rv32imc", "rv32imc-zve32x", "rv64gcv"])
def test_qemu_cores_equal_the_recorded_bits(shared_model: Callable[[str], Path], name: str, core: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    program, _ = compiled(path, core)
    bundle = QemuBundle(build_object(program, "net", find_target(core)), find_core(core), emulated_interface(program))
    results = bundle.run_many([[sample.tobytes()] for sample in inputs[:FEW]])
    for result, wanted in zip(results, expected[:FEW], strict=True):
        assert result.outputs[0] == wanted.tobytes()


@pytest.mark.qemu
def test_both_emulators_count_the_same_instructions(shared_model: Callable[[str], Path]) -> None:
    path = shared_model("kws_dscnn_int8")
    inputs, _ = golden(path)
    program, _ = compiled(path, "cortex-m4")
    data = build_object(program, "net", find_target("cortex-m4"))
    counts = [
        kind(data, find_core("cortex-m4"), emulated_interface(program))
        .run([inputs[0].tobytes()], measure=True)
        .instructions
        for kind in (UnicornBundle, QemuBundle)
    ]
    assert abs(counts[0] - counts[1]) <= counts[0] // 1000


@pytest.mark.cross
@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_c_source_on_an_emulated_cortex_m4(shared_model: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    program, interface = compiled(path, "cortex-m4")
    data = cross_compile(c_source(path, program, interface), tmp_path)
    bundle = UnicornBundle(data, find_core("cortex-m4"), emulated_interface(program))
    check_outputs(emulated_run(bundle), inputs[:FEW], expected[:FEW])


def cross_compile(files: dict[str, bytes], folder: Path) -> bytes:
    """The C files of a bundle as one object for Cortex-M4."""
    compiler = shutil.which("arm-none-eabi-gcc")
    assert compiler is not None
    for name, data in files.items():
        (folder / name).write_bytes(data)
    sources = [str(folder / name) for name in files if name.endswith(".c") and not name.endswith("_test.c")]
    flags = [*find_target("cortex-m4").gcc_flags, "-O2", "-std=c99", "-ffunction-sections", "-nostdlib", "-r"]
    subprocess.run([compiler, *flags, "-o", str(folder / "net.o"), *sources], check=True)
    return (folder / "net.o").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("core", ["native", "cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("name", OTHER)
def test_other_models(shared_model: Callable[[str], Path], name: str, core: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    program, interface = compiled(path, core)
    data = build_object(program, "net", find_target(core))
    if core == "native":
        session = HostSession.from_object(data, interface)
        check_outputs(lambda raw: session.run([raw])[0], inputs, expected)
    else:
        bundle = UnicornBundle(data, find_core(core), emulated_interface(program))
        check_outputs(emulated_run(bundle), inputs[:1], expected[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOAT)
def test_float_models_on_an_emulated_cortex_m4(shared_model: Callable[[str], Path], name: str) -> None:
    path = shared_model(name)
    inputs, expected = golden(path)
    program, _ = compiled(path, "cortex-m4")
    data = build_object(program, "net", find_target("cortex-m4"))
    bundle = UnicornBundle(data, find_core("cortex-m4"), emulated_interface(program))
    check_outputs(emulated_run(bundle), inputs[:1], expected[:1], 1e-5)
