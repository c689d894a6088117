"""Elementary functions: error bounds against float64, special values, and equal bits from all back ends."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, LoadedObject, compile_object
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Intrinsic, Kernel
from luciole.kernel.elementary import (
    acosh,
    asinh,
    atanh,
    cosh,
    erf,
    exp,
    expm1,
    log,
    log1p,
    logistic,
    power,
    sinh,
    tanh,
)
from luciole.kernel.evaluate import apply_intrinsic
from luciole.kernel.trigonometry import acos, asin, atan, cos, sin, tan
from support.native_c import call_kernel, compile_c, kernels_source
from support.random_kernels import equal_bits

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

FUNCTIONS = (exp, expm1, log, log1p, tanh, sinh, cosh, asinh, acosh, atanh, logistic, erf)
FUNCTIONS += (sin, cos, tan, asin, acos, atan)

#: Every 1999th positive float, from the least subnormal to the greatest: all exponents, many mantissas.
EVERYWHERE: Floats = np.arange(1, 0x7F800000, 1999, dtype=np.uint32).view(np.float32)
BOTH_SIGNS: Floats = np.concatenate([EVERYWHERE, -EVERYWHERE])

#: The floats nearest to multiples of pi / 2, where a sine or cosine is small.
NEAR_QUADRANTS: Floats = (np.arange(1, 100_000) * (np.pi / 2)).astype(np.float32)

INF, NAN = np.float32(np.inf), np.float32(np.nan)


def logistic_exact(x: Doubles) -> Doubles:
    """1 / (1 + exp(-x)) without loss for x far below zero."""
    power = np.exp(-np.abs(x))
    return np.where(x < 0, power, 1.0) / (1.0 + power)


def erf_exact(x: Doubles) -> Doubles:
    return np.fromiter(map(math.erf, x.tolist()), np.float64, len(x))


def dense(low: float, high: float, count: int) -> Floats:
    return np.linspace(low, high, count).astype(np.float32)


def error_ulp(found: Floats, exact: Doubles) -> float:
    """The largest error in units in the last place of the exact result, those of subnormal numbers being equal."""
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.array_equal(np.isfinite(found), np.isfinite(exact.astype(np.float32)))
        finite = np.isfinite(found)
        unit = np.ldexp(1.0, np.maximum(np.frexp(np.abs(exact[finite]))[1], -125) - 24)
        return float(np.max(np.abs(found[finite].astype(np.float64) - exact[finite]) / unit))


@pytest.mark.parametrize(
    ("function", "exact", "arguments", "bound"),
    [
        (exp, np.exp, BOTH_SIGNS, 1.0),
        (exp, np.exp, dense(-104, 89, 1_000_000), 1.0),
        (log, np.log, EVERYWHERE, 1.0),
        (log, np.log, dense(0.5, 2.0, 1_000_000), 1.0),
        (tanh, np.tanh, BOTH_SIGNS, 2.0),
        (tanh, np.tanh, dense(-10, 10, 1_000_000), 2.0),
        (logistic, logistic_exact, BOTH_SIGNS, 3.0),
        (logistic, logistic_exact, dense(-104, 20, 1_000_000), 3.0),
        (erf, erf_exact, BOTH_SIGNS[::7], 3.0),
        (erf, erf_exact, dense(-5, 5, 300_000), 3.0),
        (expm1, np.expm1, BOTH_SIGNS[::3], 4.0),
        (expm1, np.expm1, dense(-3, 3, 300_000), 4.0),
        (log1p, np.log1p, EVERYWHERE[::3], 3.0),
        (log1p, np.log1p, dense(-0.999999, 3, 300_000), 3.0),
        (sinh, np.sinh, BOTH_SIGNS[::3], 4.0),
        (sinh, np.sinh, dense(-10, 10, 300_000), 4.0),
        (cosh, np.cosh, BOTH_SIGNS[::3], 4.0),
        (cosh, np.cosh, dense(-10, 10, 300_000), 4.0),
        (asinh, np.arcsinh, BOTH_SIGNS[::3], 4.0),
        (asinh, np.arcsinh, dense(-10, 10, 300_000), 4.0),
        (acosh, np.arccosh, dense(1, 10, 300_000), 4.0),
        (acosh, np.arccosh, dense(1, 1e30, 300_000), 4.0),
        (atanh, np.arctanh, dense(-0.999999, 0.999999, 300_000), 4.0),
        (sin, np.sin, BOTH_SIGNS[::3], 3.0),
        (sin, np.sin, dense(-10, 10, 300_000), 3.0),
        (sin, np.sin, NEAR_QUADRANTS, 3.0),
        (cos, np.cos, BOTH_SIGNS[::3], 3.0),
        (cos, np.cos, dense(-10, 10, 300_000), 3.0),
        (cos, np.cos, NEAR_QUADRANTS, 3.0),
        (tan, np.tan, BOTH_SIGNS[::3], 4.0),
        (tan, np.tan, dense(-10, 10, 300_000), 4.0),
        (tan, np.tan, NEAR_QUADRANTS, 4.0),
        (asin, np.arcsin, dense(-1, 1, 300_000), 3.0),
        (acos, np.arccos, dense(-1, 1, 300_000), 3.0),
        (atan, np.arctan, BOTH_SIGNS[::3], 3.0),
        (atan, np.arctan, dense(-10, 10, 300_000), 3.0),
    ],
    ids=lambda value: value.name if isinstance(value, Intrinsic) else "",
)
def test_the_error_is_within_the_stated_bound(
    function: Intrinsic, exact: Callable[[Doubles], Doubles], arguments: Floats, bound: float
) -> None:
    with np.errstate(over="ignore", divide="ignore"):
        assert error_ulp(apply_intrinsic(function, arguments), exact(arguments.astype(np.float64))) <= bound


@pytest.mark.parametrize(
    ("function", "argument", "result"),
    [
        (exp, INF, INF),
        (exp, -INF, 0.0),
        (exp, NAN, NAN),
        (exp, 88.72, 3.3931806e38),
        (exp, 88.73, INF),
        (exp, -104.0, 0.0),
        (exp, -103.0, 1e-45),
        (exp, 0.0, 1.0),
        (exp, -0.0, 1.0),
        (log, 0.0, -INF),
        (log, -0.0, -INF),
        (log, -1e-45, NAN),
        (log, -INF, NAN),
        (log, INF, INF),
        (log, NAN, NAN),
        (log, 1.0, 0.0),
        (log, 1e-45, -103.27893),
        (tanh, INF, 1.0),
        (tanh, -INF, -1.0),
        (tanh, NAN, NAN),
        (tanh, 0.0, 0.0),
        (tanh, 9.02, 1.0),
        (tanh, -3e38, -1.0),
        (tanh, -1e-45, -1e-45),
        (logistic, INF, 1.0),
        (logistic, -INF, 0.0),
        (logistic, NAN, NAN),
        (logistic, 0.0, 0.5),
        (logistic, -103.0, 1e-45),
        (sin, INF, NAN),
        (sin, NAN, NAN),
        (cos, -INF, NAN),
        (cos, 0.0, 1.0),
        (tan, INF, NAN),
        (sin, -1e-45, -1e-45),
        (asin, 1.5, NAN),
        (acos, -1.5, NAN),
        (acos, 1.0, 0.0),
        (atan, INF, 1.5707964),
        (atan, -INF, -1.5707964),
        (sinh, -INF, -INF),
        (cosh, -INF, INF),
        (asinh, -INF, -INF),
        (acosh, 0.5, NAN),
        (acosh, -3.0, NAN),
        (acosh, INF, INF),
        (atanh, 1.0, INF),
        (atanh, -1.0, -INF),
        (atanh, 1.5, NAN),
        (expm1, -INF, -1.0),
        (expm1, -1e-45, -1e-45),
        (log1p, -1.0, -INF),
        (log1p, -1.5, NAN),
        (log1p, INF, INF),
        (erf, INF, 1.0),
        (erf, -INF, -1.0),
        (erf, NAN, NAN),
        (erf, 0.0, 0.0),
        (erf, 4.0, 1.0),
    ],
    ids=lambda value: value.name if isinstance(value, Intrinsic) else str(value),
)
def test_special_arguments_give_what_is_stated(function: Intrinsic, argument: float, result: float) -> None:
    found = apply_intrinsic(function, np.array([argument], np.float32))
    assert np.array_equal(found, np.array([result], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("low", "high", "exponents"),
    [(0.0, 4.0, 60.0), (0.99, 1.01, 8000.0), (1e-30, 1e30, 1.2)],
    ids=["", "near-1", "wide"],
)
def test_powers_are_within_two_units(low: float, high: float, exponents: float) -> None:
    random = np.random.default_rng(7)
    x = random.uniform(low, high, 200_000).astype(np.float32)
    y = random.uniform(-exponents, exponents, 200_000).astype(np.float32)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        assert error_ulp(apply_intrinsic(power, x, y), np.power(x.astype(np.float64), y.astype(np.float64))) <= 2.0


def test_powers_of_special_numbers_are_those_of_ieee_754() -> None:
    special = np.array(
        [0, -0.0, 1, -1, 2, -2, 0.5, -0.5, INF, -INF, NAN, 3, -3, 1e38, -1e38, 2**24, 2**24 + 2], np.float32
    )
    x, y = (array.ravel() for array in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    found = apply_intrinsic(power, x, y)
    np.testing.assert_allclose(found, exact, rtol=3e-7, atol=3e-45)
    assert np.array_equal(np.signbit(found[~np.isnan(exact)]), np.signbit(exact[~np.isnan(exact)]))


@pytest.mark.parametrize("function", [exp, tanh, logistic, erf], ids=lambda function: function.name)
def test_no_function_decreases(function: Intrinsic) -> None:
    """From one argument to one a good bit greater; between neighbors rounding may decrease them."""
    results = apply_intrinsic(function, dense(-20, 20, 20_000))
    assert np.all(np.diff(results) >= 0)


def all_functions(count: int) -> Kernel:
    """A kernel with a row of results for each function."""
    k = LoopBuilder("elementary")
    x = k.buffer("in", "x", DType.F32, (count,))
    y = k.buffer("out", "y", DType.F32, (len(FUNCTIONS), count))
    with k.loop("i", count) as i:
        for row, function in enumerate(FUNCTIONS):
            y[row, i] = function(x[i])
    return k.build()


ARGUMENTS: Floats = np.concatenate(
    [
        BOTH_SIGNS[::211],
        dense(-120, 120, 4001),
        dense(-1.5, 1.5, 2001),
        np.array([0.0, -0.0, INF, -INF, NAN], np.float32),
    ]
)


def expected() -> Any:
    return np.stack([apply_intrinsic(function, ARGUMENTS) for function in FUNCTIONS])


def test_machine_code_has_the_bits_of_numpy() -> None:
    kernel, target = all_functions(len(ARGUMENTS)), find_target("native")
    loaded = LoadedObject(compile_object([LlvmModule(print_kernel_llvm(kernel, "elementary", target))], target))
    results = np.zeros((len(FUNCTIONS), len(ARGUMENTS)), np.float32)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(loaded.address("elementary"))
    function(ARGUMENTS.ctypes.data, results.ctypes.data)
    assert equal_bits(results, expected())


@pytest.mark.parametrize("flags", [["-std=c99", "-O0"], ["-std=gnu99", "-O3", "-march=native"]], ids="".join)
def test_c_has_the_bits_of_numpy(flags: list[str], tmp_path: Path) -> None:
    kernel = all_functions(len(ARGUMENTS))
    library = compile_c(kernels_source([kernel]), tmp_path, "gcc", [*flags, "-shared", "-fPIC"])
    results = call_kernel(ctypes.CDLL(str(library)), "kernel_0", kernel, {"x": ARGUMENTS}, {})["y"]
    assert equal_bits(results, expected())
