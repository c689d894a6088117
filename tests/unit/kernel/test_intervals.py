from __future__ import annotations

import random

import pytest

from luciole.ir.types import DType
from luciole.kernel.core import Binary, Compare, Constant, Expr, Load, Read, Variable, select
from luciole.kernel.evaluate import EvaluationError, evaluate
from luciole.kernel.intervals import Interval, decide, interval, of_type
from luciole.kernel.walk import expressions, walk, walk_expr
from support.random_kernels import random_kernel

I32, INDEX = DType.I32, DType.INDEX


def i32(number: int) -> Constant:
    return Constant(number, I32)


@pytest.mark.parametrize("seed", range(40))
def test_no_expression_leaves_its_bounds(seed: int) -> None:
    chance = random.Random(seed)
    known: dict[str, Interval] = {}
    for stmt in walk(random_kernel(seed).body):
        for root in expressions(stmt):
            nodes = list(walk_expr(root))
            variables = {e.name: e.dtype for e in nodes if isinstance(e, Variable)}
            if any(isinstance(e, Load | Read) or e.dtype is DType.POINTER for e in nodes):
                continue
            values = {}
            for name, dtype in variables.items():
                if dtype.is_float:
                    values[name] = dtype.numpy.type(chance.uniform(-9, 9))
                    continue
                low, high = (0, 20) if dtype is INDEX else of_type(dtype)
                number = chance.choice([low, high, chance.randint(low, high)])
                known[name] = Interval(number, min(number + chance.randint(0, 3), high))
                values[name] = dtype.numpy.type(number)
            for node in nodes:
                check_inside(node, known, values)


def check_inside(node: Expr, known: dict[str, Interval], values: dict[str, object]) -> None:
    if not (node.dtype.is_integer or node.dtype is DType.BOOL):
        return
    try:
        value = int(evaluate(node, values))  # type: ignore[arg-type]  # numpy scalars are arrays here
    except EvaluationError:
        return
    bounds = interval(node, known)
    assert bounds.low <= value <= bounds.high, node
    assert bounds.fits(node.dtype)


@pytest.mark.parametrize(
    ("expr", "bounds"),
    [
        (Variable("i", INDEX) * 2 - 1, (-1, 13)),
        ((Variable("i", INDEX) + 3) % 4, (0, 3)),
        ((Variable("i", INDEX) + 1) // 2, (0, 4)),
        (Variable("unknown", I32) & 7, (0, 7)),
        ((Variable("unknown", I32) & 7) | 32, (32, 63)),
        (Variable("unknown", I32) >> 24, (-128, 127)),
        (Variable("byte", DType.I8).cast(I32) * Variable("byte", DType.I8).cast(I32), (-16256, 16384)),
        (Variable("unknown", I32) + 1, (-(2**31), 2**31 - 1)),
        (select(Variable("i", INDEX) > 3, Constant(1, I32), i32(5)), (1, 5)),
        (Binary("min", Variable("i", INDEX), Constant(3, INDEX)), (0, 3)),
        (~Variable("i", INDEX), (-8, -1)),
        (-Variable("i", INDEX), (-7, 0)),
    ],
)
def test_bounds(expr: Expr, bounds: tuple[int, int]) -> None:
    assert interval(expr, {"i": Interval(0, 7)}) == bounds


@pytest.mark.parametrize(
    ("operation", "limit", "outcome"),
    [
        ("lt", 8, True), ("lt", 0, False), ("lt", 3, None), ("ge", 0, True), ("ge", 8, False), ("gt", 7, False),
        ("le", 7, True), ("le", -1, False), ("gt", -1, True), ("eq", 9, False), ("eq", 3, None), ("ne", -1, True),
        ("ne", 3, None),
    ],
)  # fmt: skip
def test_comparisons_are_decided_by_bounds(operation: str, limit: int, outcome: bool | None) -> None:
    comparison = Compare(operation, Variable("i", INDEX), Constant(limit, INDEX))
    assert decide(comparison, {"i": Interval(0, 7)}) is outcome
