"""Functions through tables: every number, rests of turns, every operator, in place, and what it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.ops.activation import LeakyRelu, Relu
from luciole.ops.int8 import Lookup
from luciole.ops.quantization import Requantize
from luciole.targets.base import recipes
from luciole.targets.scalar.machine import MACHINES, Machine
from luciole.targets.scalar.table import TABULATED, Tabulated
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

THUMB2, RISCV32, THUMB1 = (machine for machine in MACHINES if machine.dtype is DType.I8)


def case(elements: int, machine: Machine = THUMB2) -> RecipeCase:
    """A table of random entries; all numbers are among the elements where there is room."""
    s = Samples(elements)
    x = s.i8(1, elements, zero=4)
    s.arrays[x][0, : min(256, elements)] = np.arange(-128, 128)[:elements]
    entries = tuple(int(n) for n in s.random.integers(-128, 128, 256))
    return RecipeCase(Lookup(x, entries, quant=s.quant(0.1, 3)), s, Tabulated(machine))


def cases(machine: Machine = THUMB2) -> list[RecipeCase]:
    """Turns with and without a rest, and operators that have tables of their own."""
    s = Samples(3)
    x = s.i8(3, 5, 7, zero=-20)
    operators = (
        Relu(x, quant=s.quant(0.04, -128)),
        LeakyRelu(x, alpha=0.3, quant=s.quant(0.04, 0)),
        Requantize(x, quant=s.quant(0.07, 9)),
    )
    return [case(n, machine) for n in (1, 3, 4, 8, 13, 300)] + [
        RecipeCase(op, s, Tabulated(machine)) for op in operators
    ]


def test_tables_in_the_interpreter() -> None:
    check_interpreted(cases())


def test_tables_as_c(tmp_path: Path) -> None:
    check_as_c(cases(), tmp_path)


@pytest.mark.parametrize(
    ("core", "machine", "each"), [("cortex-m4", THUMB2, 3.7), ("cortex-m0plus", THUMB1, 3.8), ("rv32imc", RISCV32, 4.5)]
)
def test_tables_on_emulated_cores(core: str, machine: Machine, each: float) -> None:
    measure_emulated(cases(machine), core)
    (instructions,) = measure_emulated([case(4096, machine)], core)
    assert instructions <= each * 4096
    estimate = Tabulated(machine).cost(case(4096).op, find_target(core)).instructions
    assert abs(estimate / instructions - 1) < 0.15


def test_every_operator_with_a_table_has_the_recipe() -> None:
    s = Samples(0)
    assert "table" in Lookup(s.i8(3), tuple(range(-128, 128)), quant=s.quant()).parameters()
    found = {registration.operator for registration in recipes() if isinstance(registration.recipe, Tabulated)}
    assert found == set(TABULATED)
