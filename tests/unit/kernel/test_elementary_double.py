"""Elementary functions of doubles: error bounds against `decimal`, special values."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest

from luciole.ir.types import Array
from luciole.kernel import elementary_double as functions
from luciole.kernel.core import Intrinsic
from luciole.kernel.evaluate import apply_intrinsic

RANDOM = np.random.default_rng(7)


def spread(low: float, high: float, count: int = 700) -> Array:
    return RANDOM.uniform(low, high, count)


def powers(low: float, high: float, sign: float = 1.0) -> Array:
    """Magnitudes of ten from `low` to `high`."""
    return sign * 10.0 ** RANDOM.uniform(low, high, 700)


def exact_tanh(x: Decimal) -> Decimal:
    power = (2 * x).exp()
    return (power - 1) / (power + 1)


CASES: dict[Intrinsic, tuple[Callable[[Decimal], Decimal], float, tuple[Array, ...]]] = {
    functions.exp: (lambda x: x.exp(), 1.0, (spread(-1, 1), spread(-745, 709), spread(-745, -708))),
    functions.log: (
        lambda x: x.ln(),
        1.0,
        (spread(0.3, 3), spread(0.999, 1.001), powers(-300, 300), spread(0, 2.2e-308)),
    ),
    functions.expm1: (lambda x: x.exp() - 1, 3.0, (spread(-1, 1), spread(-40, 40), powers(-20, 0))),
    functions.log1p: (lambda x: (1 + x).ln(), 3.0, (spread(-0.9, 1), powers(-20, 2), powers(-20, -0.1, -1.0))),
    functions.tanh: (exact_tanh, 4.0, (spread(-1, 1), spread(-20, 20), powers(-17, 0))),
    functions.logistic: (lambda x: 1 / (1 + (-x).exp()), 3.0, (spread(-1, 1), spread(-40, 40), spread(-700, 0))),
}


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.name)
def test_results_are_as_near_as_promised(function: Intrinsic) -> None:
    exact, bound, arguments = CASES[function]
    x = np.concatenate(arguments)
    with localcontext() as context:
        context.prec = 60
        for argument, found in zip(x.tolist(), apply_intrinsic(function, x).tolist(), strict=True):
            wanted = exact(Decimal(argument))
            error = abs(Decimal(found) - wanted) / Decimal(math.ulp(float(wanted)))
            assert error <= bound, f"{function.name}({argument}) is {found}, {error} ulp off"


SPECIAL = (0.0, math.inf, -math.inf, math.nan, -1.0, 1e308, -1e308, 5e-324)
VALUES: dict[Intrinsic, tuple[float, ...]] = {
    functions.exp: (1.0, math.inf, 0.0, math.nan, 0.36787944117144233, math.inf, 0.0, 1.0),
    functions.log: (-math.inf, math.inf, math.nan, math.nan, math.nan, 709.1962086421661, math.nan, -744.4400719213812),
    functions.expm1: (0.0, math.inf, -1.0, math.nan, -0.6321205588285577, math.inf, -1.0, 5e-324),
    functions.log1p: (0.0, math.inf, math.nan, math.nan, -math.inf, 709.1962086421661, math.nan, 5e-324),
    functions.tanh: (0.0, 1.0, -1.0, math.nan, -0.7615941559557649, 1.0, -1.0, 5e-324),
    functions.logistic: (0.5, 1.0, 0.0, math.nan, 0.2689414213699951, 1.0, 0.0, 0.5),
}


@pytest.mark.parametrize("function", VALUES, ids=lambda function: function.name)
def test_special_values(function: Intrinsic) -> None:
    np.testing.assert_array_equal(apply_intrinsic(function, np.array(SPECIAL)), np.array(VALUES[function]))
