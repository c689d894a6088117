"""Bundles under `qemu-system-*`, and its agreement with unicorn."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from luciole.emulate.bundle import UnicornBundle, open_bundle
from luciole.emulate.cores import CORES, Counter, find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.emulate.qemu import QemuBundle
from luciole.emulate.result import EmulationFault
from luciole.errors import CompileError, ToolError
from unit.emulate.objects import FLOATS, TOY, TOY_INTERFACE, make_object, toy_output

QEMU_CORES = [core.name for core in CORES if core.qemu is not None]
BOTH = [core.name for core in CORES if core.qemu is not None and core.unicorn_model]
SAMPLE = bytes(range(256)) * 2

#: The same bundle on 16384 inputs: enough instructions that a timer's tick is less than 0.02 % of them.
LARGE = TOY.replace("512", "16384").replace("1024", "32768")
LARGE_INTERFACE = BundleInterface("toy", 32768, 16, (Slot(0, 16384),), (Slot(16384, 16384),))
LARGE_SAMPLE = bytes(range(256)) * 64


def require_qemu(core: str) -> None:
    machine = find_core(core).qemu
    assert machine is not None
    if shutil.which(machine.program) is None:
        pytest.skip(f"{machine.program} is not installed")


def qemu_bundle(core: str, text: str, interface: BundleInterface = TOY_INTERFACE, **options: float) -> QemuBundle:
    require_qemu(core)
    return QemuBundle(make_object(core, text), find_core(core), interface, **options)


@pytest.mark.qemu
@pytest.mark.parametrize("core", QEMU_CORES)
def test_a_bundle_gives_its_outputs_and_its_cost_by_layer(core: str) -> None:
    bundle = qemu_bundle(core, TOY)
    result = bundle.run([SAMPLE], measure=True)
    assert result.outputs == (toy_output(SAMPLE),)
    assert [call.symbol for call in result.calls] == ["toy_square", "toy_shift", "toy_square"]
    # a reading of a timer is a tick off at most, and a tick is 50 instructions at most
    assert abs(sum(call.instructions for call in result.calls) - result.instructions) < 4 * 50 + 40
    assert abs(result.calls[0].instructions - result.calls[2].instructions) <= 50
    assert 128 <= result.stack_bytes <= 256
    assert core in result.emulator


@pytest.mark.qemu
@pytest.mark.parametrize("core", BOTH)
def test_both_emulators_count_the_same_instructions(core: str) -> None:
    require_qemu(core)
    data = make_object(core, LARGE)
    ours = UnicornBundle(data, find_core(core), LARGE_INTERFACE).run([LARGE_SAMPLE], measure=True)
    judge = QemuBundle(data, find_core(core), LARGE_INTERFACE).run([LARGE_SAMPLE], measure=True)
    machine = find_core(core).qemu
    assert machine is not None
    tolerance = 0 if machine.counter is Counter.MINSTRET else ours.instructions // 1000
    assert ours.outputs == judge.outputs
    assert abs(ours.instructions - judge.instructions) <= tolerance
    assert ours.stack_bytes == judge.stack_bytes
    for left, right in zip(ours.calls, judge.calls, strict=True):
        assert left.symbol == right.symbol
        assert abs(left.instructions - right.instructions) <= tolerance


@pytest.mark.qemu
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55", "rv32imc", "rv64gcv"])
def test_many_samples_are_run_in_one_start(core: str) -> None:
    bundle = qemu_bundle(core, TOY)
    samples = [bytes((i * step) & 0xFF for i in range(512)) for step in (1, 3, 5)]
    results = bundle.run_many([[sample] for sample in samples])
    assert [result.outputs for result in results] == [(toy_output(sample),) for sample in samples]
    assert all(result.measurement is None for result in results)
    assert bundle.run_many([]) == []


@pytest.mark.qemu
def test_a_core_that_unicorn_lacks_goes_to_qemu() -> None:
    require_qemu("cortex-m55")
    bundle = open_bundle(make_object("cortex-m55", TOY), find_core("cortex-m55"), TOY_INTERFACE)
    assert isinstance(bundle, QemuBundle)
    assert bundle.emulator == "qemu-system-arm -M mps3-an547 (cortex-m55)"


VECTORS = """
declare <16 x i8> @llvm.smax.v16i8(<16 x i8>, <16 x i8>)
define i32 @toy_init(ptr %model, ptr %arena, SIZE %size) nounwind {
  store ptr %arena, ptr %model
  ret i32 0
}
define i32 @toy_run(ptr %model) nounwind {
  %in = load ptr, ptr %model
  %out = getelementptr i8, ptr %in, i32 16
  %v = load <16 x i8>, ptr %in, align 16
  %w = call <16 x i8> @llvm.smax.v16i8(<16 x i8> %v, <16 x i8> zeroinitializer)
  %x = add <16 x i8> %w, %w
  store <16 x i8> %x, ptr %out, align 16
  ret i32 0
}
"""


@pytest.mark.qemu
@pytest.mark.parametrize(("core", "count"), [("cortex-m55", 12), ("rv64gcv", 12)])
def test_vector_instructions_run(core: str, count: int) -> None:
    interface = BundleInterface("toy", 32, 16, (Slot(0, 16),), (Slot(16, 16),))
    values = [-128, -64, -3, -1, 0, 1, 2, 3, 5, 7, 11, 13, 63, 64, 100, 127]
    result = qemu_bundle(core, VECTORS, interface).run([bytes(value & 0xFF for value in values)], measure=True)
    assert result.outputs == (bytes(2 * max(value, 0) & 0xFF for value in values),)
    if core == "rv64gcv":  # counted exactly; scalar code would take more than 16
        assert result.instructions <= count


FAULTY = """
define i32 @toy_init(ptr %model, ptr %arena, SIZE %size) nounwind {
  ret i32 INIT
}
define i32 @toy_run(ptr %model) nounwind {
  %wild = inttoptr SIZE WILD to ptr
  store volatile i32 1, ptr %wild, align 4
  ret i32 0
}
"""


def faulty(status: int = 0, wild: int = 0x4F00_0000) -> str:
    return FAULTY.replace("INIT", str(status)).replace("WILD", str(wild))


@pytest.mark.qemu
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m33", "cortex-m55", "rv32imc", "rv64gc"])
def test_a_bad_store_is_told_with_its_place(core: str) -> None:
    wild = 0x9000_0000 if core.startswith("rv") else 0x4F00_0000  # where the machine has nothing
    bundle = qemu_bundle(core, faulty(wild=wild))
    with pytest.raises(EmulationFault, match=rf"address 0x{wild:08x}, at pc 0x[0-9a-f]{{8}} in toy_run\+0x"):
        bundle.run([SAMPLE])


@pytest.mark.qemu
@pytest.mark.parametrize("core", ["cortex-m4", "rv32imc"])
def test_a_status_other_than_ok_is_a_fault(core: str) -> None:
    text = faulty(status=2).replace("store volatile i32 1, ptr %wild, align 4", "")
    with pytest.raises(EmulationFault, match="toy_init returned status 2"):
        qemu_bundle(core, text).run([SAMPLE])


@pytest.mark.qemu
def test_a_program_that_does_not_end_is_stopped() -> None:
    endless = faulty().replace("ret i32 0\n}\n", "br label %l\nl:\n  br label %l\n}\n", 2)
    endless = endless.replace("  store volatile i32 1, ptr %wild, align 4\n", "")
    bundle = qemu_bundle("cortex-m4", endless, time_limit_s=0.5)
    with pytest.raises(EmulationFault, match=r"no end after 0\.5 s"):
        bundle.run([SAMPLE])


@pytest.mark.qemu
def test_an_arena_beyond_the_machine_is_refused() -> None:
    interface = replace(TOY_INTERFACE, arena_bytes=1 << 23)
    with pytest.raises(CompileError, match=r"an arena of 8388608 B does not fit in the 4194304 B of mps2-an386"):
        qemu_bundle("cortex-m4", TOY, interface)


@pytest.mark.qemu
def test_support_functions_are_not_provided() -> None:
    with pytest.raises(CompileError, match="the object needs 4 undefined symbols"):
        qemu_bundle("cortex-m3", TOY + FLOATS)


def test_a_missing_qemu_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for core, package in (("cortex-m55", "qemu-system-arm"), ("rv64gcv", "qemu-system-misc")):
        with pytest.raises(ToolError, match=f"emulating {core} needs qemu-system-.*apt-get install {package}"):
            QemuBundle(make_object(core, TOY), find_core(core), TOY_INTERFACE)


def test_a_core_without_a_machine_is_an_error() -> None:
    with pytest.raises(ToolError, match="QEMU has no machine with a cortex-a53"):
        QemuBundle(make_object("cortex-a53", TOY), find_core("cortex-a53"), TOY_INTERFACE)
