"""The relocating loader: placement, symbols, and what it refuses."""

from __future__ import annotations

import pytest

from luciole.emulate.cores import CORES, Family, find_core
from luciole.emulate.loader import load_object, undefined_symbols
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.errors import CompileError
from unit.emulate.objects import FLOATS, TABLE, make_object

FLASH, RAM = 0x0800_1000, 0x2000_0000


def test_code_comes_first_then_constants_and_nothing_overlaps() -> None:
    loaded = load_object(make_object("cortex-m4", TABLE), Family.THUMB, FLASH, RAM)
    assert loaded.code.address == FLASH
    assert loaded.constants.address >= FLASH + len(loaded.code.data)
    assert loaded.constants.data[:16] == b"".join(value.to_bytes(4, "little") for value in (10, 20, 30, 40))
    assert loaded.writable.data == b""


def test_functions_are_listed_by_address_with_their_sizes() -> None:
    loaded = load_object(make_object("cortex-m4", TABLE), Family.THUMB, FLASH, RAM)
    assert [function.name for function in loaded.functions] == ["lookup", "total"]
    for function in loaded.functions:
        assert function.address % 2 == 0 and function.size > 0
        assert loaded.function_at(function.address) == function
        assert loaded.function_at(function.address + function.size - 2) == function
        assert loaded.address_of(function.name) == function.address | 1
    assert loaded.function_at(FLASH - 2) is None


def test_writable_data_goes_to_ram_with_its_contents_and_zeros() -> None:
    text = """
    @counter = global i32 7
    @buffer = global [3 x i32] zeroinitializer
    define ptr @where() nounwind {
      ret ptr @buffer
    }
    """
    loaded = load_object(make_object("rv32imc", text), Family.RISCV32, FLASH, RAM)
    assert loaded.writable.address == RAM
    assert sorted(loaded.writable.data) == [0] * 15 + [7]
    assert RAM <= loaded.address_of("buffer") < RAM + 16


def test_every_undefined_symbol_is_reported_at_once() -> None:
    data = make_object("cortex-m3", FLOATS)
    names = undefined_symbols(data, Family.THUMB)
    assert len(names) == 4
    with pytest.raises(CompileError) as caught:
        load_object(data, Family.THUMB, FLASH, RAM, {names[0]: FLASH | 1})
    missing = ", ".join(names[1:])
    assert str(caught.value) == f"error[undefined-symbol]: the object needs 3 undefined symbols: {missing}"


def test_undefined_weak_symbols_are_zero() -> None:
    text = """
    declare extern_weak void @hook()
    define i1 @has_hook() nounwind {
      %c = icmp ne ptr @hook, null
      ret i1 %c
    }
    """
    data = make_object("cortex-m4", text)
    assert undefined_symbols(data, Family.THUMB) == ()
    assert "has_hook" in load_object(data, Family.THUMB, FLASH, RAM).symbols


def test_calls_are_listed_and_can_be_redirected() -> None:
    data = make_object("cortex-m4", TABLE)
    loaded = load_object(data, Family.THUMB, FLASH, RAM)
    (call,) = loaded.calls
    assert (call.symbol, call.target) == ("lookup", loaded.address_of("lookup"))
    assert loaded.function_at(call.address) == loaded.functions[1]
    redirected = load_object(data, Family.THUMB, FLASH, RAM, redirect={call.address: FLASH + 0x101})
    assert redirected.calls[0].target == FLASH + 0x101
    differing = [i for i, (a, b) in enumerate(zip(loaded.code.data, redirected.code.data, strict=True)) if a != b]
    assert differing and all(0 <= i + FLASH - call.address < 4 for i in differing)


@pytest.mark.parametrize("core", ["cortex-a53", "rv64gc", "rv32imc"])
def test_addresses_may_come_from_a_global_offset_table(core: str) -> None:
    text = """
    @value = global i32 77
    define i32 @read() nounwind {
      %v = load i32, ptr @value
      ret i32 %v
    }
    """
    data = make_object(core, text, relocation="pic")
    family = find_core(core).family
    loaded = load_object(data, family, FLASH, RAM)
    slot = int.from_bytes(loaded.constants.data[-family.pointer_bytes :], "little")
    assert slot == loaded.address_of("value") == RAM
    assert EmulatedMachine(data, find_core(core)).call("read") == 77


def test_an_unknown_symbol_is_an_error() -> None:
    loaded = load_object(make_object("cortex-m4", TABLE), Family.THUMB, FLASH, RAM)
    with pytest.raises(CompileError, match='the object has no symbol "kws_run"'):
        loaded.address_of("kws_run")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not ELF"),
        (b"int main;", "not ELF"),
        (make_object("cortex-m4", TABLE), "it is made for EM_ARM, 32 bits, and the core is riscv32"),
        (make_object("rv64gc", TABLE), "it is made for EM_RISCV, 64 bits, and the core is riscv32"),
    ],
)
def test_what_is_no_object_for_the_core_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CompileError, match=f"the object file cannot be loaded: {reason}"):
        load_object(data, Family.RISCV32, FLASH, RAM)


def test_a_cut_off_object_is_refused() -> None:
    data = make_object("cortex-m4", TABLE)
    for size in range(0, len(data), 7):
        with pytest.raises(CompileError, match="the object file cannot be loaded"):
            load_object(data[:size], Family.THUMB, FLASH, RAM)


def test_unknown_cores_are_refused_with_the_known_ones() -> None:
    assert [find_core(core.name) for core in CORES] == list(CORES)
    with pytest.raises(CompileError) as caught:
        find_core("cortex-m9")
    assert str(caught.value).startswith(
        'error[unknown-core]: no emulated core is called "cortex-m9"\n  help: known cores'
    )
