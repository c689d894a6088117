"""Whole bundles of real models: the files that a user gets, built as a user builds them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.bundle import Bundle, HostSession
from luciole.emulate.bundle import UnicornBundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.ir.target import find_target
from support.native_c import WARNINGS, compiler

Models = Callable[[str], Path]

TINY = ["kws_dscnn_int8", "ic_resnet8_int8", "vww_mbv1_int8", "ad_ae_int8", "sww_int8", "hello_world_int8"]
FLOAT = ["kws_dscnn_f32", "ad_ae_f32"]
CORES = ["cortex-m0plus", "cortex-m3", "cortex-m4", "rv32imc"]


@cache
def bundle_of(path: Path, **options: str) -> Bundle:
    return luciole.compile(path, name="net", **options)


@pytest.mark.parametrize("emit", ["object", "c"])
@pytest.mark.parametrize(("name", "api"), [*((n, "luciole") for n in TINY + FLOAT), ("sww_int8", "glow")])
def test_the_test_program_says_ok(shared_model: Models, name: str, api: str, emit: str, tmp_path: Path) -> None:
    bundle = bundle_of(shared_model(name), emit=emit, bundle_api=api)
    bundle.save(tmp_path)
    sources = [f for f in bundle.files if f.endswith((".c", ".o"))]
    command = [*compiler("gcc"), "-std=c99", "-O1", *WARNINGS, "-Wundef", *sources, "-o", "test"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = subprocess.run([tmp_path / "test"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "net: ok\n")


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", TINY)
def test_the_stack_that_the_report_states_is_true(shared_model: Models, name: str, core: str) -> None:
    bundle = bundle_of(shared_model(name), target=core)
    interface = bundle.interface
    assert bundle.report.helpers == ()
    slots = [tuple(Slot(t.offset, t.size_bytes) for t in ts) for ts in (interface.inputs, interface.outputs)]
    sizes = BundleInterface("net", interface.arena_bytes, interface.arena_alignment, slots[0], slots[1])
    machine = UnicornBundle(bundle.object_bytes, find_core(find_target(core).emulated_core), sizes)
    measured = machine.run([bytes(t.size_bytes) for t in interface.inputs], measure=True).stack_bytes
    stated = bundle.report.memory.stack_bytes
    assert stated is not None
    assert measured <= stated <= 1.25 * measured + 64


def test_threads_with_an_arena_each_do_not_disturb_each_other(shared_model: Models) -> None:
    path = shared_model("kws_dscnn_int8")
    bundle = bundle_of(path)
    with np.load(path.with_name("kws_dscnn_int8.golden.npz")) as arrays:
        samples = [
            (sample.tobytes(), wanted.tobytes())
            for sample, wanted in zip(arrays["input"], arrays["output0"], strict=True)
        ]
    first = HostSession.from_object(bundle.object_bytes, bundle.interface)
    sessions = [first, *(first.another() for _ in range(7))]

    def work(number: int) -> bool:
        rotated = samples[number:] + samples[:number]
        return all(sessions[number].run([given]) == [wanted] for _ in range(5) for given, wanted in rotated)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.cross
@pytest.mark.parametrize("abi", ["soft", "softfp", "hard"])
def test_an_object_of_integers_links_whatever_the_float_abi(shared_model: Models, abi: str, tmp_path: Path) -> None:
    bundle = bundle_of(shared_model("kws_dscnn_int8"), target="cortex-m4")
    bundle.save(tmp_path)
    flags = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", f"-mfloat-abi={abi}", "--specs=nosys.specs"]
    command = ["arm-none-eabi-gcc", *flags, "-DNET_TEST_NO_STDIO", "net_test.c", "net.o", "-o", "net.elf"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.cross
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m33", "cortex-m55"])
@pytest.mark.parametrize("name", ["kws_dscnn_int8", "kws_dscnn_f32"])
def test_cross_compilers_take_the_c_without_a_word(shared_model: Models, name: str, core: str, tmp_path: Path) -> None:
    bundle = bundle_of(shared_model(name), target=core, emit="c")
    bundle.save(tmp_path)
    flags = [*find_target(core).gcc_flags, "-std=c99", "-O2", *WARNINGS, "-Wundef", "-c"]
    for file in ("net.c", "net_test.c"):
        command = ["arm-none-eabi-gcc", *flags, file, "-o", f"{file}.o"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")
