"""The Cortex-M4 estimate, rule by rule; figures from the manual's tables (DDI 0439D, 3.3.1 and 3.3.2)."""

from __future__ import annotations

import pytest

from luciole.emulate.cores import find_core
from luciole.emulate.cycles import cycle_estimator

ADDRESS = 0x0800_1000


def estimate(code: str, executed: int = 1, taken: int = 0) -> int:
    data = bytes.fromhex(code)
    estimator = cycle_estimator(find_core("cortex-m4"), lambda address, size: data[address - ADDRESS :][:size])
    assert estimator is not None
    return estimator({(ADDRESS, len(data)): (executed, taken)})


@pytest.mark.parametrize(
    ("code", "cycles"),
    [
        ("8818", 1),  # ADDS r0, r1, r2
        ("0868", 2),  # LDR r0, [r1]
        ("08681368", 3),  # LDR r0, [r1]; LDR r3, [r2]: the second is pipelined
        ("08680268", 4),  # LDR r0, [r1]; LDR r2, [r0]: not, since its address is the first one's result
        ("08601360", 2),  # STR r0, [r1]; STR r3, [r2]
        ("8850", 2),  # STR r0, [r1, r2]
        ("0b688850", 3),  # LDR r3, [r1]; STR r0, [r1, r2]
        ("89180868", 4),  # ADDS r1, r1, r2; LDR r0, [r1]: one more for the address
        ("0eb4", 4),  # PUSH {r1, r2, r3}
        ("0ebd", 5 + 2),  # POP {r1, r2, r3, pc}
        ("0ec9", 4),  # LDM r1!, {r1, r2, r3}
        ("91fbf2f0", 7),  # SDIV r0, r1, r2
        ("80fb0123", 1),  # SMULL r2, r3, r0, r1
        ("7047", 3),  # BX lr
        ("80ee210a", 14),  # VDIV.F32 s0, s0, s3
        ("00ee210a", 3),  # VMLA.F32 s0, s0, s3
        ("30ee210a30ee200a", 3),  # VADD s0, s0, s3; VADD s0, s0, s1: the result is waited for
        ("d1e90023", 3),  # LDRD r2, r3, [r1]
    ],
)
def test_cycles_of_instructions(code: str, cycles: int) -> None:
    assert estimate(code) == cycles


def test_a_conditional_branch_costs_more_when_taken() -> None:
    assert estimate("fed0", executed=10, taken=0) == 10
    assert estimate("fed0", executed=10, taken=7) == 10 + 7 * 2


def test_only_a_core_with_a_model_is_estimated() -> None:
    for name in ("cortex-m0plus", "cortex-m33", "rv32imc"):
        assert cycle_estimator(find_core(name), lambda address, size: b"") is None
