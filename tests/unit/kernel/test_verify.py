"""Broken kernels for each invariant; the numbers are those of `luciole.kernel.verify`."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from luciole.errors import InternalError
from luciole.ir.types import DType
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Parameter,
    Read,
    Repeat,
    Select,
    Stmt,
    Store,
    Unary,
    Variable,
    Write,
)
from luciole.kernel.verify import kernel_problems, verify_kernel
from support.random_kernels import random_kernel

I8, I32, F32, BOOL, INDEX, POINTER = DType.I8, DType.I32, DType.F32, DType.BOOL, DType.INDEX, DType.POINTER
X, Y = Parameter("in", "x", I32, (4,), 4), Parameter("out", "y", I32, (4,), 4)
ZERO, ONE, TRUE = Constant(0, INDEX), Constant(1, I32), Constant(1, BOOL)
T, P = Variable("t", I32), Variable("p", POINTER)
AT_Y = Address("y", ZERO)


def kernel(*body: Stmt) -> Kernel:
    return Kernel("k", (X, Y), body, (Variable("n", I32),))


def store(value: Expr) -> Kernel:
    return kernel(Store("y", (ZERO,), value))


def meaning(result: Expr, *definitions: Define) -> Kernel:
    intrinsic = Intrinsic("odd", (Variable("a", I32),), I32, definitions, result)
    return store(Call(intrinsic, (ONE,)))


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (kernel(Define(T, ONE), Define(T, ONE)), "[1] the name t is given twice: t: i32 = 1"),
        (kernel(Define(Variable("", I32), ONE)), '[1] a register has no name: "": i32 = 1'),
        (store(T), "[2] t is read before it is defined: y[0] = t"),
        (kernel(Assign(T, ONE)), "[2] t is assigned before it is defined: t = 1"),
        (kernel(Define(T, ONE), Store("y", (ZERO,), Cast(Variable("t", I8), I32))), "[2] t is i32, read as i8"),
        (kernel(Repeat((Define(T, ONE),), TRUE), Store("y", (ZERO,), T)), "[2] t is read before it is defined"),
        (kernel(Define(T, Constant(1.0, F32))), "[3] t is i32, given f32: t: i32 = 1.0"),
        (store(Constant(1, I8)), "[3] y holds i32, given i8"),
        (kernel(If(ONE, ())), "[3] a condition is bool, given i32: if 1"),
        (kernel(Repeat((), ONE)), "[3] a condition is bool, given i32: while 1"),
        (kernel(For(Variable("i", INDEX), ZERO, ONE, 1, ())), "[3] a bound is index, given i32: for i in 0..1"),
        (kernel(For(Variable("i", I32), ZERO, ZERO, 1, ())), "[3] loop variable i is i32, not index"),
        (kernel(Store("y", (ONE,), ONE)), "[3] an index of y is i32"),
        (kernel(Define(P, Address("x", ONE))), "[3] an offset is index, given i32"),
        (kernel(Write(AT_Y, 0, Address("y", ZERO), 4)), "[3] a pointer is written to memory"),
        (store(Binary("add", ONE, Constant(1, I8))), "[4] add of i32 and i8"),
        (store(Binary("power", ONE, ONE)), "[4] there is no operation power"),
        (store(Cast(Binary("and", Constant(1.0, F32), Constant(1.0, F32)), I32)), "[4] and of f32"),
        (store(Cast(Binary("add", TRUE, TRUE), I32)), "[4] add of bool"),
        (store(Cast(Compare("eq", ONE, TRUE), I32)), "[4] eq of i32 and bool"),
        (store(Cast(Compare("near", ONE, ONE), I32)), "[4] there is no comparison near"),
        (store(Unary("sqrt", ONE)), "[4] sqrt of i32"),
        (store(Unary("twice", ONE)), "[4] there is no operation twice"),
        (store(Select(ONE, ONE, ONE)), "[4] select of i32, i32, i32"),
        (store(Cast(Address("x", ZERO), I32)), "[4] pointer cannot become i32"),
        (store(Bitcast(Constant(1, I8), I32)), "[4] the bits of i8 are no i32"),
        (store(Read(ONE, 0, I32, 4)), "[4] memory at i32"),
        (kernel(Define(P, Binary("mul", Address("x", ZERO), ZERO))), "[4] mul of pointer and index"),
        (kernel(Assign(Variable("n", I32), ONE)), "[5] n cannot be assigned: n = 1"),
        (kernel(Store("q", (ZERO,), ONE)), "[6] no buffer is named q"),
        (store(Load("x", (), I32)), "[6] x has 1 axes, indexed with 0"),
        (store(Load("x", (Constant(-1, INDEX),), I32)), "[6] index -1 of axis 0 of x is outside 0..4"),
        (store(Cast(Load("x", (ZERO,), I8), I32)), "[6] x holds i32, loaded as i8"),
        (kernel(Store("x", (ZERO,), ONE)), "[7] the input x is written: x[0] = 1"),
        (kernel(Write(Address("x", ZERO), 0, ONE, 4)), "[7] the input x is written: write.i32(address(x)) = 1"),
        (kernel(For(Variable("i", INDEX), ZERO, ZERO, 0, ())), "[8] the step of i is 0"),
        (kernel(Write(AT_Y, 0, ONE, 3)), "[9] an access is aligned to 3"),
        (kernel(Write(AT_Y, 0, ONE, 8)), "[9] y is aligned to 4, accessed with 8"),
        (kernel(Write(AT_Y, 2, ONE, 4)), "[9] address 2 of y is not a multiple of 4"),
        (kernel(Write(AT_Y, 16, ONE, 4)), "[9] bytes 16..20 are outside y of 16 bytes"),
        (replace(kernel(), parameters=(replace(X, alignment=6),)), "[9] buffer x is aligned to 6"),
        (store(Constant(1 << 31, I32)), "[10] 2147483648 is no i32"),
        (store(Cast(Constant(2, BOOL), I32)), "[10] 2 is no bool"),
        (store(Binary("shift_left", ONE, Constant(-1, I32))), "[10] i32 shifted by -1"),
        (store(Binary("remainder", ONE, Constant(0, I32))), "[10] remainder by 0"),
        (meaning(Variable("b", I32)), "[11] the meaning of odd reads b"),
        (meaning(Load("x", (ZERO,), I32)), "[11] the meaning of odd touches memory"),
        (meaning(Constant(1, I8)), "[11] the meaning of odd gives i8 for i32"),
        (meaning(T, Define(T, Constant(1, I8))), "[11] the meaning of odd gives i8 for i32"),
        (store(Call(Intrinsic("two", (T, T), I32, (), T), (ONE,))), "[11] two takes (i32, i32), given (i32)"),
        (replace(kernel(), parameters=(replace(X, dtype=INDEX),)), "[12] buffer x holds index"),
        (replace(kernel(), parameters=(replace(X, shape=(-1,)),)), "[12] buffer x has the shape [-1]"),
        (replace(kernel(), scalars=(Variable("n", I8),)), "[12] scalar n is i8, not i32"),
        (kernel(If(Compare("eq", Address("x", ZERO), AT_Y), ())), "[13] pointers into x and y are compared"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value) if isinstance(value, str) else "",
)  # fmt: skip
def test_a_violation_is_reported_with_its_number(broken: Kernel, problem: str) -> None:
    assert any(found.startswith(problem) for found in kernel_problems(broken)), kernel_problems(broken)


def test_all_violations_are_reported_together() -> None:
    with pytest.raises(InternalError) as info:
        verify_kernel(kernel(Store("x", (ZERO,), ONE), Store("y", (ZERO,), T)))
    assert str(info.value) == (
        "kernel k is not valid:\n  [7] the input x is written: x[0] = 1\n  [2] t is read before it is defined: y[0] = t"
    )


def test_the_condition_of_repeat_sees_its_body() -> None:
    verify_kernel(kernel(Repeat((Define(T, ONE),), Compare("lt", T, ONE))))


@pytest.mark.parametrize("seed", range(40))
def test_valid_kernels_have_no_problems(seed: int) -> None:
    assert kernel_problems(random_kernel(seed)) == []
