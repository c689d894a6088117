from __future__ import annotations

import random

import numpy as np
import pytest

import luciole.kernel.intrinsics  # noqa: F401  # defines high_multiply and others
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import INTRINSICS, Binary, Call, Constant, For, If, Kernel
from luciole.kernel.evaluate import apply_intrinsic
from luciole.kernel.interpret import run_kernel
from luciole.kernel.long_arithmetic import narrow_intrinsic
from luciole.kernel.rewrite import kernel_names
from luciole.kernel.text import parse_kernel, print_kernel
from luciole.kernel.transform import (
    bind_scalars,
    expand_long_multiply,
    find_loop,
    hoist,
    peel,
    prune,
    rename,
    split,
    split_at,
    substitute,
    unroll,
)
from luciole.kernel.verify import verify_kernel
from luciole.kernel.walk import children, walk
from support.random_kernels import assert_same_outputs, equal_bits, random_kernel


def loops(kernel: Kernel) -> list[str]:
    return [s.variable.name for s in walk(kernel.body) if isinstance(s, For)]


def scaled_copy(begin: int = 0, end: int = 8, step: int = 1) -> Kernel:
    k = LoopBuilder("copy")
    x, y = k.buffer("in", "x", DType.I32, (10,)), k.buffer("out", "y", DType.I32, (10,))
    n = k.scalar("n")
    with k.loop("clear", 10) as i:
        y[i] = 0
    with k.loop("i", begin, end, step) as i:
        twice = k.define("twice", x[i] * 2)
        y[i] = twice + n
    return k.build()


@pytest.mark.parametrize("seed", range(25))
def test_transforms_of_random_kernels_keep_every_bit(seed: int) -> None:
    kernel = before = random_kernel(seed)
    chance = random.Random(seed)
    for _ in range(4):
        loop = chance.choice(loops(kernel))
        factor = chance.randint(1, 4)
        step = find_loop(kernel, loop).step
        begin = find_loop(kernel, loop).begin
        choices = [
            lambda k, n=loop: unroll(k, n),
            lambda k, n=loop, f=factor: unroll(k, n, f),
            lambda k, n=loop, f=factor: split(k, n, f),
            lambda k, n=loop, f=factor: peel(k, n, f),
            lambda k, n=loop, b=begin, s=step: split_at(k, n, b + s, b + 3 * s),
            hoist,
            prune,
            expand_long_multiply,
        ]
        kernel = chance.choice(choices)(kernel)
        verify_kernel(kernel)
        assert parse_kernel(print_kernel(kernel)) == kernel
        if not loops(kernel):
            break
    assert_same_outputs(before, kernel)


@pytest.mark.parametrize("factor", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("bounds", [(0, 8, 1), (1, 10, 2), (3, 4, 1), (5, 5, 1), (7, 2, 1), (0, 10, 3)])
def test_loops_of_all_kinds_keep_their_turns(bounds: tuple[int, int, int], factor: int) -> None:
    kernel = scaled_copy(*bounds)
    for changed in (
        unroll(kernel, "i"),
        unroll(kernel, "i", factor),
        split(kernel, "i", factor),
        peel(kernel, "i", factor),
        split_at(kernel, "i", bounds[0] + bounds[2], bounds[0] + 2 * bounds[2]),
        prune(kernel),
    ):
        verify_kernel(changed)
        assert_same_outputs(kernel, changed)


def test_a_bound_that_is_read_once_is_still_read_once() -> None:
    k = LoopBuilder("bounds")
    y = k.buffer("out", "y", DType.I32, (8,))
    n = k.scalar("n")
    with k.loop("clear", 8) as i:
        y[i] = 0
    last = k.define("last", n & 7)
    with k.loop("i", 0, last.as_data().cast(DType.INDEX)) as i:
        y[i] = last
        last -= 1
    kernel = k.build()
    for changed in (unroll(kernel, "i", 3), split_at(kernel, "i", 2)):
        verify_kernel(changed)
        assert_same_outputs(kernel, changed, seeds=8)


def test_unrolled_loops_are_gone_and_names_stay_unique() -> None:
    changed = unroll(scaled_copy(), "i")
    assert loops(changed) == ["clear"]
    assert {"twice", "twice_7"} <= kernel_names(changed)


def test_splitting_at_borders_resolves_every_test_inside() -> None:
    k = LoopBuilder("padded")
    x, y = k.buffer("in", "x", DType.I8, (8,)), k.buffer("out", "y", DType.I32, (8,))
    with k.loop("i", 8) as i:
        total = k.define("total", 0, DType.I32)
        with k.loop("j", 3) as j:
            at = k.define("at", i + j - 1)
            with k.if_((at >= 0) & (at < 8)):
                total += x[at].cast(DType.I32)
        y[i] = total
    kernel = k.build()
    changed = prune(split_at(kernel, "i", 1, 7))
    assert_same_outputs(kernel, changed)
    inside = find_loop(changed, "i_1")
    assert not any(isinstance(s, If) for s in walk(inside.body))
    assert sum(isinstance(s, If) for s in walk(prune(unroll(unroll(changed, "j"), "j_2")).body)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: unroll(k, "z"), "kernel copy has no loop z"),
        (lambda k: unroll(k, "i", 0), "loop i cannot be unrolled by 0"),
        (lambda k: split(k, "i", 0), "loop i cannot be split by 0"),
        (lambda k: split_at(k, "i", 1), "1 is no step of loop i"),
        (lambda k: rename(k, {"x": "y"}), "renaming in kernel copy makes two names one"),
        (lambda k: bind_scalars(k, {"n": 1, "q": 2}), "kernel copy has no scalar q"),
        (lambda k: substitute(k, "q"), "kernel copy has no register q"),
        (lambda k: substitute(k, "twice"), "register twice of kernel copy has no value that stays the same"),
    ],
)
def test_a_transform_that_cannot_be_says_why(change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change(scaled_copy(step=2))  # type: ignore[operator]


def test_variable_bounds_cannot_be_unrolled_fully() -> None:
    k = LoopBuilder("k")
    y = k.buffer("out", "y", DType.I32, (8,))
    with k.loop("i", k.scalar("n").cast(DType.INDEX)) as i:
        y[i] = 0
    with pytest.raises(ValueError, match="the bounds of loop i are not constants"):
        unroll(k.build(), "i")


EXTREMES = np.array([0, 1, -1, 2**31 - 1, -(2**31), 65535, 65536, -65536, -65535, 32768], np.int64)


def pairs() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    values = np.concatenate([EXTREMES, generator.integers(-(2**31), 2**31, 300)])
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def test_wide_products_are_exact() -> None:
    a, b = pairs()
    assert np.array_equal(apply_intrinsic(INTRINSICS["multiply_wide"], a.astype(np.int32), b.astype(np.int32)), a * b)
    u, v = a.astype(np.uint32), b.astype(np.uint32)
    product = apply_intrinsic(INTRINSICS["multiply_wide_unsigned"], u, v)
    assert np.array_equal(product, u.astype(np.uint64) * v.astype(np.uint64))
    c, d = (a * 4294967311 + b).view(np.uint64), (b * 4294967279 - a).view(np.uint64)
    assert np.array_equal(apply_intrinsic(INTRINSICS["multiply_long"], c, d), c * d)


def test_long_shifts_are_exact() -> None:
    a, b = pairs()
    value = a * 4294967311 + b
    amount = (b & 63).astype(np.uint32)
    wide = amount.astype(np.uint64)
    left = apply_intrinsic(INTRINSICS["shift_left_long"], value.view(np.uint64), amount)
    assert np.array_equal(left, value.view(np.uint64) << wide)
    right = apply_intrinsic(INTRINSICS["shift_right_long"], value, amount)
    assert np.array_equal(right, value >> wide.astype(np.int64))
    logical = apply_intrinsic(INTRINSICS["shift_right_long_unsigned"], value.view(np.uint64), amount)
    assert np.array_equal(logical, value.view(np.uint64) >> wide)


@pytest.mark.parametrize("name", ["high_multiply", "multiply_add_high", "requantize_tflite", "requantize_single"])
def test_narrow_intrinsics_mean_the_same_and_have_no_long_products(name: str) -> None:
    wide = INTRINSICS[name]
    narrow = narrow_intrinsic(wide)
    assert narrow.name == f"{name}_narrow"
    assert narrow_intrinsic(narrow) is narrow
    generator = np.random.default_rng(7)
    arguments = [generator.integers(-(2**31) + 1, 2**31, 2000).astype(np.int32) for _ in wide.parameters]
    if len(arguments) == 3:
        arguments[2] = generator.integers(-31, 1, 2000).astype(np.int32)
    assert equal_bits(apply_intrinsic(wide, *arguments), apply_intrinsic(narrow, *arguments))
    stack = [narrow.result, *(d.value for d in narrow.definitions)]
    while stack:
        expr = stack.pop()
        stack += children(expr)
        if isinstance(expr, Call):
            stack += [expr.intrinsic.result, *(d.value for d in expr.intrinsic.definitions)]
        if isinstance(expr, Binary) and expr.dtype.bits == 64:
            is_shift = expr.operation.startswith("shift")
            assert expr.operation != "mul" and not (is_shift and not isinstance(expr.b, Constant))


def test_a_renamed_kernel_runs_under_its_new_names() -> None:
    renamed = rename(scaled_copy(), {"x": "input", "n": "count", "i": "turn", "twice": "t"})
    verify_kernel(renamed)
    x = np.arange(10, dtype=np.int32)
    assert run_kernel(renamed, {"input": x}, {"count": 5})["y"].tolist() == [2 * i + 5 for i in range(8)] + [0, 0]


def test_a_bound_scalar_is_folded() -> None:
    bound = bind_scalars(scaled_copy(), {"n": 0})
    assert bound.scalars == ()
    assert "y[i] = twice\n" in print_kernel(bound)
