"""Random kernels that every back end must run as the interpreter does, and random data for them.

A kernel from `random_kernel(seed)` is always valid: indices stay inside, shifts within the width, divisors are not
zero, floats that become integers are clamped. A not-a-number may appear in outputs (compare with `equal_bits`), but
its bits never decide an integer.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from luciole.ir.types import Array, DType
from luciole.kernel.builder import IntrinsicBuilder, LoopBuilder, Register, View, define_intrinsic
from luciole.kernel.core import (
    INTRINSICS,
    Binary,
    Bitcast,
    Constant,
    Expr,
    Intrinsic,
    Kernel,
    Unary,
    Variable,
    binary,
    cast,
    clamp,
    compare,
    maximum,
    select,
)
from luciole.kernel.interpret import run_kernel

INTEGERS = (DType.I8, DType.U8, DType.I16, DType.U16, DType.I32, DType.U32, DType.I64, DType.U64)
VALUES = (*INTEGERS, DType.F32, DType.F64, DType.BOOL)
SIZE = 8

#: The value that tests bind scalars to when a transform takes them away.
BOUND = 3


def high_product() -> Intrinsic:
    """An intrinsic with definitions, made once a process."""
    name = "test_high_product"
    if name not in INTRINSICS:

        @define_intrinsic(name, DType.I32, a=DType.I32, b=DType.I32)
        def meaning(k: IntrinsicBuilder, a: Variable, b: Variable) -> Expr:
            wide = k.let("wide", a.cast(DType.I64) * b.cast(DType.I64))
            return ((wide + (1 << 30)) >> 31).cast(DType.I32)

    return INTRINSICS[name]


def random_array(generator: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Numbers of a type, extremes among them."""
    if dtype is DType.BOOL:
        return generator.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_float:
        values = generator.normal(0, 10, shape).astype(dtype.numpy)
        special = np.array([0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 1e30, -1e-40, 8388607.5, 3.0], dtype.numpy)
        return np.where(generator.random(shape) < 0.25, generator.choice(special, shape), values).astype(dtype.numpy)
    low, high = dtype.limits
    values = generator.integers(low, high, shape, dtype=dtype.numpy.type, endpoint=True)
    extremes = generator.choice(np.array([low, high, 0, 1], dtype.numpy), shape)
    return np.where(generator.random(shape) < 0.25, extremes, values).astype(dtype.numpy)


def random_inputs(kernel: Kernel, seed: int) -> tuple[dict[str, Array], dict[str, int]]:
    """Arrays for the `in` and `inout` buffers and values for the scalars."""
    generator = np.random.default_rng(seed)
    buffers = {
        p.name: random_array(generator, p.dtype, p.shape) for p in kernel.parameters if p.kind in ("in", "inout")
    }
    return buffers, {s.name: int(generator.integers(-100, 100)) for s in kernel.scalars}


def equal_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have the same bits, all kinds of not-a-number counted as one."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        both, bits = np.isnan(a) & np.isnan(b), f"u{a.dtype.itemsize}"
        return bool(np.all(both | (a.view(bits) == b.view(bits))))
    return bool(np.array_equal(a, b))


def assert_same_outputs(before: Kernel, after: Kernel, seeds: int = 3) -> None:
    """Both kernels, run on random inputs, give the same bits; `after` may have other names or fewer scalars."""
    names = {old.name: new.name for old, new in zip(before.parameters, after.parameters, strict=True)}
    if len(before.scalars) == len(after.scalars):
        names |= {old.name: new.name for old, new in zip(before.scalars, after.scalars, strict=True)}
    for seed in range(seeds):
        buffers, scalars = random_inputs(before, seed)
        for scalar in scalars:
            if len(before.scalars) != len(after.scalars) and scalar not in {s.name for s in after.scalars}:
                scalars[scalar] = BOUND
        expected = run_kernel(before, buffers, scalars)
        actual = run_kernel(
            after,
            {names[name]: array for name, array in buffers.items()},
            {names.get(name, name): value for name, value in scalars.items()},
        )
        for name, array in expected.items():
            assert equal_bits(array, actual[names[name]]), f"{name} is {actual[names[name]]}, should be {array}"


def random_kernel(seed: int) -> Kernel:
    """A kernel with loops, branches, registers of all types, raw memory, and every operation sooner or later."""
    return _Generator(seed).kernel()


class _Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.k = LoopBuilder(f"random_{seed}")
        #: Registers that expressions may use, innermost scope last.
        self.registers: list[Register | Variable] = []
        self.indices: list[Register] = []
        self.inputs: list[View] = []
        self.outputs: list[View] = []

    def kernel(self) -> Kernel:
        k, r = self.k, self.random
        dtypes = r.sample(VALUES, 3)
        self.inputs = [k.buffer("in", f"x{i}", d, (SIZE, 3) if i else (SIZE,), 8) for i, d in enumerate(dtypes)]
        self.outputs = [k.buffer("out", f"y{i}", r.choice(VALUES), (SIZE,), 8) for i in range(2)]
        state = k.buffer("inout", "state", r.choice(VALUES), (SIZE,), 8)
        scratch = k.buffer("workspace", "scratch", r.choice((DType.U8, DType.I32, DType.F32)), (64,), 8)
        self.registers = [k.scalar("n"), k.scalar("register")]
        with k.loop("fill", SIZE) as i:
            for output in self.outputs:
                output[i] = self.constant(output.dtype)
        with k.loop("clear", scratch.shape[0]) as i:
            scratch[i] = Constant(0.0 if scratch.dtype.is_float else 0, scratch.dtype)
        self.inputs.append(state)
        self.outputs.append(state)
        self.pointers(scratch)
        self.block(3)
        return k.build()

    # Statements

    def block(self, depth: int) -> None:
        registers, indices = len(self.registers), len(self.indices)
        for _ in range(self.random.randint(2, 4)):
            self.statement(depth)
        del self.registers[registers:]
        del self.indices[indices:]

    def statement(self, depth: int) -> None:
        r, k = self.random, self.k
        choices: list[Callable[[], None]] = [self.define, self.define, self.store, self.store, self.assign]
        if depth:
            choices += [lambda: self.loop(depth), lambda: self.branch(depth), lambda: self.repeat(depth)]
        choices.append(
            lambda: (
                k.fence(holds_arithmetic=r.random() < 0.5)
                if r.random() < 0.5
                else k.comment("note */ with \u00e9 and ??/")
            )
        )
        r.choice(choices)()

    def define(self) -> None:
        dtype = self.random.choice(VALUES)
        name = self.random.choice(["acc", "t", "int", "index", "y1", "exp", "for", "tmp"])
        self.registers.append(self.k.define(name, self.expression(dtype, 3)))

    def assign(self) -> None:
        choices = [v for v in self.registers if isinstance(v, Register)]
        if choices:
            register = self.random.choice(choices)
            register.set(self.expression(register.dtype, 3))

    def store(self) -> None:
        output = self.random.choice(self.outputs)
        output[self.index(SIZE)] = self.expression(output.dtype, 4)

    def loop(self, depth: int) -> None:
        r = self.random
        begin = r.randint(0, 2)
        with self.k.loop("i", begin, r.randint(begin, SIZE), r.choice([1, 1, 2, 3])) as i:
            self.indices.append(i)
            self.block(depth - 1)
            self.indices.pop()

    def branch(self, depth: int) -> None:
        with self.k.if_(select(self.expression(DType.BOOL, 2), *self.two(DType.BOOL, 1))):
            self.block(depth - 1)
        if self.random.random() < 0.5:
            with self.k.else_():
                self.block(depth - 1)

    def repeat(self, depth: int) -> None:
        k = self.k
        counter = k.define("turns", 0, DType.I32)
        with k.repeat_while(lambda: left < self.random.randint(1, 3)):
            self.block(depth - 1)
            counter += 1
            left = k.define("left", counter + 0)

    def pointers(self, scratch: View) -> None:
        """Raw memory: values written and read back through a pointer that advances."""
        k, r = self.k, self.random
        for dtype in r.sample([d for d in VALUES if d is not DType.BOOL], 3):
            size = dtype.size_bytes
            p = k.define("p", scratch.address(8))
            end = k.define("end", p + 4 * size)
            total = k.define("total", self.constant(dtype))
            alignment = r.choice([1, size])
            with k.repeat_while(lambda p=p, end=end: p < end):  # type: ignore[misc]
                k.write(p, 0, self.expression(dtype, 2), alignment=alignment)
                total.set(k.read(p, 0, dtype, alignment))
                p += size
            self.registers.append(total)
        source = self.inputs[0]
        q = k.define("q", source.address(source.dtype.size_bytes * self.random.randint(0, 3)))
        if source.dtype is not DType.BOOL:
            self.registers.append(k.define("loaded", k.read(q, source.dtype.size_bytes, source.dtype)))

    # Expressions

    def index(self, size: int) -> Expr:
        r = self.random
        if not self.indices or r.random() < 0.2:
            return Constant(r.randrange(size), DType.INDEX)
        i: Expr = r.choice(self.indices).variable
        if r.random() < 0.3:
            i = i * r.randint(1, 4) + r.randint(-3, 3)
        if size < SIZE or r.random() < 0.5 or isinstance(i, Binary):
            return maximum(i, 0) % size
        return i

    def two(self, dtype: DType, depth: int) -> tuple[Expr, Expr]:
        return self.expression(dtype, depth), self.expression(dtype, depth)

    def constant(self, dtype: DType) -> Constant:
        r = self.random
        if dtype is DType.BOOL:
            return Constant(r.randint(0, 1), dtype)
        if dtype.is_float:
            number = r.choice([0.0, -0.0, 1.0, 0.1, -2.5, 1e-40, 3e38, r.uniform(-100, 100)])
            return Constant(float(dtype.numpy.type(number)), dtype)
        low, high = dtype.limits
        return Constant(r.choice([low, high, r.randint(low, high), r.randint(max(low, -9), 9), 1, 0]), dtype)

    def leaf(self, dtype: DType) -> Expr:
        r = self.random
        if dtype is DType.INDEX:
            return self.index(SIZE)
        choices: list[Callable[[], Expr]] = [lambda: self.constant(dtype)]
        registers = [v for v in self.registers if v.dtype is dtype]
        views = [v for v in self.inputs if v.dtype is dtype]
        if registers:
            choices += [lambda: r.choice(registers).as_data()] * 3
        if views:
            choices += [lambda: self.load(r.choice(views))] * 3
        return r.choice(choices)()

    def load(self, view: View) -> Expr:
        return view[tuple(self.index(size) for size in view.shape)]

    def expression(self, dtype: DType, depth: int) -> Expr:
        r = self.random
        if depth == 0 or dtype is DType.INDEX or r.random() < 0.1:
            return self.leaf(dtype)
        if dtype is DType.BOOL:
            return self.truth(depth - 1)
        if r.random() < 0.15:
            return select(self.expression(DType.BOOL, depth - 1), *self.two(dtype, depth - 1))
        if r.random() < 0.25:
            return self.conversion(dtype, depth - 1)
        return self.real(dtype, depth - 1) if dtype.is_float else self.integer(dtype, depth - 1)

    def truth(self, depth: int) -> Expr:
        r = self.random
        if r.random() < 0.5:
            operand = r.choice((*VALUES, DType.INDEX))
            return compare(r.choice(["eq", "ne", "lt", "le", "gt", "ge"]), *self.two(operand, depth))
        if r.random() < 0.3:
            return Unary("not", self.expression(DType.BOOL, depth))
        if r.random() < 0.2:
            return cast(self.expression(r.choice(VALUES), depth), DType.BOOL)
        return binary(r.choice(["and", "or", "xor", "min", "max"]), *self.two(DType.BOOL, depth))

    def integer(self, dtype: DType, depth: int) -> Expr:
        r = self.random
        kind = r.randrange(12)
        if kind < 6:
            return binary(r.choice(["add", "sub", "mul", "min", "max", "and", "or", "xor"]), *self.two(dtype, depth))
        if kind < 8:
            amount = binary("and", self.expression(dtype, depth), Constant(dtype.bits - 1, dtype))
            if r.random() < 0.5:
                amount = Constant(r.randrange(dtype.bits), dtype)  # type: ignore[assignment]
            return binary(r.choice(["shift_left", "shift_right"]), self.expression(dtype, depth), amount)
        if kind < 10:
            divisor: Expr = binary("or", self.expression(dtype, depth), Constant(1, dtype))
            if r.random() < 0.5:
                divisor = Constant(r.choice([-1, -7, 3] if dtype.is_signed else [1, 7, 3]), dtype)
            return binary(r.choice(["divide", "remainder"]), self.expression(dtype, depth), divisor)
        if kind == 10 and dtype is DType.I32:
            return high_product()(*self.two(DType.I32, depth))
        return Unary(r.choice(["neg", "not"]), self.expression(dtype, depth))

    def real(self, dtype: DType, depth: int) -> Expr:
        r = self.random
        if r.random() < 0.3:
            operation = r.choice(["neg", "abs", "floor", "round_even", "sqrt"])
            return Unary(operation, self.expression(dtype, depth))
        operation = r.choice(["add", "sub", "mul", "mul", "divide", "min", "max"])
        return binary(operation, *self.two(dtype, depth))

    def conversion(self, dtype: DType, depth: int) -> Expr:
        r = self.random
        source = r.choice([d for d in (*VALUES, DType.INDEX) if d is not dtype])
        value = self.expression(source, depth)
        if source.is_float and dtype.is_float:
            return cast(value, dtype)
        if source.is_float:
            if dtype.is_integer and dtype.bits == source.bits and r.random() < 0.3:
                return Bitcast(self.number(source, depth), dtype)
            low, high = dtype.limits
            return cast(clamp(value, max(low, -(2.0**20)), min(high, 2.0**20 - 1)), dtype)
        if dtype.is_float:
            if source.is_integer and source.bits == dtype.bits and r.random() < 0.3 and source is not DType.INDEX:
                # Exponents in the middle only: no infinity, nothing that is not a number.
                return Bitcast(binary("and", value, Constant((1 << (dtype.bits - 2)) - 1, source)), dtype)
            return cast(value, dtype)
        if source.is_integer and source.bits == dtype.bits and r.random() < 0.3 and source is not DType.INDEX:
            return Bitcast(value, dtype)
        return cast(value, dtype)

    def number(self, dtype: DType, depth: int) -> Expr:
        """A float that is a number."""
        return clamp(self.expression(dtype, depth), -1e6, 1e6)
