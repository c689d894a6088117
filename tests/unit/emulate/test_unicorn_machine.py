"""Functions called on emulated cores: results, counts, stack, and what happens to bad programs."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from luciole.emulate.cores import CORES, find_core
from luciole.emulate.result import EmulationFault
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.errors import CompileError, InternalError, ToolError
from unit.emulate.objects import FLOATS, MISCHIEF, TABLE, make_object

UNICORN_CORES = [core.name for core in CORES if core.unicorn_model]
VALUES = [3, 1, 2, 0, 7, 6, 1] * 20
TOTAL = sum((value & 3) * 10 + 10 for value in VALUES)


def machine_with(core: str, text: str, **options: float) -> EmulatedMachine:
    return EmulatedMachine(make_object(core, text), find_core(core), **options)


def with_values(core: str, **options: str) -> tuple[EmulatedMachine, int]:
    machine = EmulatedMachine(make_object(core, TABLE, **options), find_core(core))
    address = machine.allocate(4 * len(VALUES))
    machine.write(address, struct.pack(f"<{len(VALUES)}i", *VALUES))
    return machine, address


@pytest.mark.parametrize("core", UNICORN_CORES)
def test_a_function_with_a_table_and_calls_gives_its_result(core: str) -> None:
    machine, address = with_values(core)
    assert machine.call("total", address, len(VALUES)) & 0xFFFF_FFFF == TOTAL


@pytest.mark.parametrize("core", ["cortex-m4", "rv32imc", "rv64gc", "cortex-a53"])
@pytest.mark.parametrize("code_model", ["small", "jitdefault"])
def test_code_models_differ_in_relocations_only(core: str, code_model: str) -> None:
    machine, address = with_values(core, code_model=code_model)
    assert machine.call("total", address, len(VALUES)) & 0xFFFF_FFFF == TOTAL


@pytest.mark.parametrize("core", UNICORN_CORES)
def test_instructions_are_counted_by_function_and_by_call(core: str) -> None:
    machine, address = with_values(core)
    short = machine.measure("total", address, 10)
    long = machine.measure("total", address, 110)
    assert long.value & 0xFFFF_FFFF == machine.call("total", address, 110) & 0xFFFF_FFFF
    assert short.instructions == sum(short.instructions_by_function.values())
    assert list(short.instructions_by_function) == ["lookup", "total"]
    assert len(short.calls) == 10 and {call.symbol for call in short.calls} == {"lookup"}
    each = short.calls[0].instructions
    assert short.instructions_by_function["lookup"] == 10 * each
    step = (long.instructions - short.instructions) / 100
    assert step == int(step)
    assert step * 110 + (short.instructions - step * 10) == long.instructions


def test_counting_is_the_same_before_and_after_other_calls() -> None:
    machine, address = with_values("cortex-m4")
    before = machine.measure("total", address, 50)
    machine.call("total", address, 50)
    assert machine.measure("total", address, 50) == before


def test_calls_need_not_be_told_apart() -> None:
    machine, address = with_values("cortex-m4")
    apart, together = (machine.measure("total", address, 50, by_call=by_call) for by_call in (True, False))
    assert (len(apart.calls), together.calls) == (50, ())
    assert together.instructions_by_function == apart.instructions_by_function
    assert (together.instructions, together.estimated_cycles) == (apart.instructions, apart.estimated_cycles)


def test_cycles_are_estimated_for_the_cortex_m4_only() -> None:
    machine, address = with_values("cortex-m4")
    measured = machine.measure("total", address, 50)
    assert measured.estimated_cycles is not None and measured.estimated_cycles > measured.instructions
    assert sum(call.estimated_cycles or 0 for call in measured.calls) < measured.estimated_cycles
    machine, address = with_values("cortex-m33")
    assert machine.measure("total", address, 50).estimated_cycles is None


@pytest.mark.parametrize("core", UNICORN_CORES)
@pytest.mark.parametrize(("a", "b"), [(1.5, 0.3), (-2.5e10, 3.0), (1e-40, 1e-42)])
def test_floats_are_computed_with_and_without_a_floating_point_unit(core: str, a: float, b: float) -> None:
    machine = machine_with(core, FLOATS)
    numbers = np.array([a, b], np.float32)
    source, result = machine.allocate(8), machine.allocate(12)
    machine.write(source, numbers.tobytes())
    measured = machine.measure("floats", source, result)
    found = machine.read(result, 12)
    assert found[:8] == np.array([numbers[0] + numbers[1], numbers[0] * numbers[1]], np.float32).tobytes()
    quotient = max(min(int(numbers[0] / numbers[1]), (1 << 31) - 1), -(1 << 31))
    assert struct.unpack("<i", found[8:])[0] == quotient
    soft = core in ("cortex-m0plus", "cortex-m23", "cortex-m3", "rv32imc")
    assert measured.helpers == machine.helpers
    assert len(machine.helpers) == (4 if soft else 0)
    for name in machine.helpers:
        assert measured.instructions_by_function[name] == 1


def test_support_functions_on_memory_are_provided() -> None:
    text = """
    declare ptr @memcpy(ptr, ptr, i32)
    declare ptr @memset(ptr, i32, i32)
    define void @fill(ptr %a, ptr %b) nounwind {
      call ptr @memset(ptr %a, i32 300, i32 8)
      call ptr @memcpy(ptr %b, ptr %a, i32 4)
      ret void
    }
    """
    machine = machine_with("cortex-m4", text)
    a, b = machine.allocate(8), machine.allocate(8)
    machine.call("fill", a, b)
    assert (machine.read(a, 8), machine.read(b, 8)) == (bytes([44]) * 8, bytes([44] * 4 + [0] * 4))
    assert {name.removeprefix("__aeabi_").rstrip("48") for name in machine.helpers} == {"memcpy", "memset"}


def test_what_nobody_provides_is_an_error() -> None:
    text = "declare float @expf(float)\ndefine float @f(float %a) {\n %b = call float @expf(float %a)\n ret float %b\n}"
    with pytest.raises(CompileError, match="the object needs 1 undefined symbol: expf"):
        machine_with("cortex-m4", text)


@pytest.mark.parametrize("core", UNICORN_CORES)
def test_a_store_outside_of_memory_is_told_with_its_place(core: str) -> None:
    machine = machine_with(core, MISCHIEF)
    pattern = f"poke on {core}: write of 1 B outside of its memory, address 0x70000000, at pc 0x0800.... in poke"
    with pytest.raises(EmulationFault, match=pattern):
        machine.call("poke", 0x7000_0000)
    with pytest.raises(EmulationFault, match="read of 4 B outside of its memory, address 0x70000000"):
        machine.call("peek", 0x7000_0000)
    with pytest.raises(EmulationFault, match="write of 1 B to read-only memory"):
        machine.call("poke", machine.loaded.code.address)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc", "cortex-a53"])
def test_a_byte_past_an_allocation_is_noticed(core: str) -> None:
    machine = machine_with(core, MISCHIEF)
    address = machine.allocate(4096, name="arena")
    machine.call("poke", address)
    machine.call("poke", address + 4095)
    with pytest.raises(EmulationFault, match="outside of its memory"):
        machine.call("poke", address + 4096)
    address = machine.allocate(1000, alignment=64, name="arena")
    assert address % 64 == 0
    with pytest.raises(EmulationFault, match=r"wrote just after its arena \(1000 B\)"):
        machine.call("poke", address + 1000)


def test_a_byte_before_an_allocation_is_noticed_in_a_measured_call_too() -> None:
    machine = machine_with("cortex-m4", MISCHIEF)
    address = machine.allocate(1000, name="arena")
    with pytest.raises(EmulationFault, match="wrote just before its arena"):
        machine.measure("poke", address - 1)


@pytest.mark.parametrize("core", ["cortex-m0plus", "rv32imc"])
def test_a_measured_unaligned_read_is_told_where_cores_may_fault(core: str) -> None:
    strict, lenient = machine_with(core, MISCHIEF), machine_with("cortex-m4", MISCHIEF)
    assert lenient.measure("peek", lenient.allocate(8) + 1).value == 0
    address = strict.allocate(8)
    assert strict.measure("peek", address).value == 0
    wanted = f"access that is not aligned to its size, address 0x{address + 1:08x}, at pc 0x[0-9a-f]+ in peek"
    with pytest.raises(EmulationFault, match=wanted):
        strict.measure("peek", address + 1)


@pytest.mark.parametrize("core", UNICORN_CORES)
def test_the_stack_really_used_is_measured(core: str) -> None:
    machine = machine_with(core, MISCHIEF)
    used = [machine.measure("dig", depth).stack_bytes for depth in (1, 5, 9)]
    frame = (used[1] - used[0]) // 4
    assert 1024 < frame < 1024 + 96
    assert used[2] - used[1] == 4 * frame


def test_a_stack_that_is_too_small_is_told() -> None:
    machine = machine_with("cortex-m4", MISCHIEF, stack_bytes=8192)
    assert machine.call("dig", 6) == 6
    with pytest.raises(EmulationFault, match=r"just below the stack of 8192 B\), at pc 0x[0-9a-f]+ in dig"):
        machine.call("dig", 9)


def test_a_program_that_does_not_end_is_stopped() -> None:
    machine = machine_with("cortex-m4", MISCHIEF, time_limit_s=0.2)
    with pytest.raises(EmulationFault, match=r"no end after 0\.2 s, at pc 0x[0-9a-f]+ in forever"):
        machine.call("forever")


def test_memory_is_carried_through_a_measured_call() -> None:
    machine = machine_with("rv32imc", MISCHIEF)
    address = machine.allocate(16)
    machine.write(address, bytes(range(16)))
    machine.measure("poke", address + 3)
    assert machine.read(address, 16) == bytes([0, 1, 2, 1, *range(4, 16)])


def test_arguments_beyond_the_registers_go_on_the_stack() -> None:
    text = """
    define i32 @sixth(i32 %a, i32 %b, i32 %c, i32 %d, i32 %e, i32 %f, i32 %g, i32 %h, i32 %i, i32 %j) nounwind {
      %r = shl i32 %f, 8
      %s = or i32 %r, %j
      ret i32 %s
    }
    """
    for core in ("cortex-m4", "rv32imc"):
        assert machine_with(core, text).call("sixth", *range(1, 11)) == 6 << 8 | 10


def test_memory_that_is_not_there_cannot_be_read_or_written() -> None:
    machine = machine_with("cortex-m4", TABLE)
    with pytest.raises(InternalError, match="no emulated memory at 0x70000000, 4 B"):
        machine.read(0x7000_0000, 4)
    with pytest.raises(InternalError, match="no emulated memory"):
        machine.write(0x7000_0000, b"1234")


def test_a_core_that_unicorn_lacks_is_an_error() -> None:
    with pytest.raises(ToolError, match="unicorn has no cortex-m55; qemu-system-arm has"):
        EmulatedMachine(make_object("cortex-m55", TABLE), find_core("cortex-m55"))


def test_without_unicorn_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with pytest.raises(ToolError, match=r"pip install luciole\[emulate\]"):
        EmulatedMachine(make_object("cortex-m4", TABLE), find_core("cortex-m4"))
