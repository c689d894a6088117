"""A bundle run through its C interface under unicorn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luciole.emulate.bundle import UnicornBundle, open_bundle
from luciole.emulate.cores import CORES, find_core
from luciole.emulate.interface import Slot
from luciole.emulate.result import EmulationFault
from luciole.errors import CompileError, InternalError
from unit.emulate.objects import TOY, TOY_INTERFACE, make_object, toy_output

SAMPLE = bytes(range(256)) * 2


@pytest.mark.parametrize("core", [core.name for core in CORES if core.unicorn_model])
def test_a_bundle_gives_its_outputs_and_its_cost_by_layer(core: str) -> None:
    bundle = open_bundle(make_object(core, TOY), find_core(core), TOY_INTERFACE)
    assert isinstance(bundle, UnicornBundle)
    result = bundle.run([SAMPLE], measure=True)
    assert result.outputs == (toy_output(SAMPLE),)
    assert [call.symbol for call in result.calls] == ["toy_square", "toy_shift", "toy_square"]
    assert [call.index for call in result.calls] == [0, 1, 2]
    assert result.calls[0].instructions == result.calls[2].instructions
    by_function = result.instructions_by_function
    assert by_function["toy_square"] == 2 * result.calls[0].instructions
    assert by_function["toy_shift"] == result.calls[1].instructions
    assert result.instructions == sum(by_function.values())
    assert 128 <= result.stack_bytes <= 256
    assert result.helpers == ()
    assert core in result.emulator and "unicorn" in result.emulator


def test_many_samples_are_run_one_after_another() -> None:
    bundle = open_bundle(make_object("cortex-m7", TOY), find_core("cortex-m7"), TOY_INTERFACE)
    samples = [bytes((i * step) & 0xFF for i in range(512)) for step in (1, 3, 5)]
    assert [result.outputs for result in bundle.run_many([[s] for s in samples])] == [(toy_output(s),) for s in samples]
    assert bundle.run_many([]) == []


def test_a_run_that_was_not_measured_has_no_figures() -> None:
    bundle = open_bundle(make_object("cortex-m4", TOY), find_core("cortex-m4"), TOY_INTERFACE)
    result = bundle.run([SAMPLE])
    assert result.measurement is None
    with pytest.raises(InternalError, match="this run was not measured"):
        _ = result.instructions


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([], "toy takes 1 inputs, 0 given"), ([bytes(511)], "input 0 of toy has 512 B, 511 given")],
)
def test_inputs_of_another_number_or_size_are_refused(inputs: list[bytes], message: str) -> None:
    bundle = open_bundle(make_object("cortex-m4", TOY), find_core("cortex-m4"), TOY_INTERFACE)
    with pytest.raises(CompileError, match=message):
        bundle.run(inputs)


def test_a_status_other_than_ok_is_a_fault() -> None:
    interface = replace(TOY_INTERFACE, arena_bytes=1000)
    with pytest.raises(EmulationFault, match="toy_init returned status 1"):
        open_bundle(make_object("cortex-m4", TOY), find_core("cortex-m4"), interface)


def test_an_accessor_that_disagrees_with_the_plan_is_a_fault() -> None:
    interface = replace(TOY_INTERFACE, outputs=(Slot(256, 512),))
    with pytest.raises(EmulationFault, match=r"toy_output points to arena \+ 512, the plan says arena \+ 256"):
        open_bundle(make_object("cortex-m4", TOY), find_core("cortex-m4"), interface)


def test_a_bundle_that_lacks_its_functions_is_refused() -> None:
    interface = replace(TOY_INTERFACE, prefix="kws")
    with pytest.raises(CompileError, match='the object has no symbol "kws_init"'):
        open_bundle(make_object("cortex-m4", TOY), find_core("cortex-m4"), interface)
