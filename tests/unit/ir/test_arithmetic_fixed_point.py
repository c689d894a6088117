"""Fixed-point functions: their accuracy, their exact ends, and the operations that kernels are written from."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luciole.ir import fixed_point
from luciole.ir.arithmetic import INT32_MAX
from luciole.ir.quant import Quant

ONE = float(1 << 31)

#: The polynomial of degree 4 around -1/8 leaves (1/8)**5 / 5! = 2.5e-7 of exp, which dominates the roundings.
EXP_ERROR = 2.7e-7


def test_exp_is_accurate_and_exact_at_zero() -> None:
    for bits in (4, 5):
        x = np.linspace(-(1 << bits) + 0.001, 0, 5001)
        raw = (x * 2.0 ** (31 - bits)).astype(np.int64)
        result = fixed_point.exp_on_negative_values(raw, bits)
        assert np.max(np.abs(result / ONE - np.exp(raw / 2.0 ** (31 - bits)))) < EXP_ERROR
        assert result[-1] == INT32_MAX


def test_logistic_and_tanh_are_accurate_and_odd() -> None:
    raw = (np.linspace(-15, 15, 4001) * 2.0**27).astype(np.int64)
    x = raw / 2.0**27
    logistic, tanh = fixed_point.logistic(raw), fixed_point.tanh(raw)
    assert np.max(np.abs(logistic / ONE - 1 / (1 + np.exp(-x)))) < EXP_ERROR
    assert np.max(np.abs(tanh / ONE - np.tanh(x))) < EXP_ERROR
    assert fixed_point.logistic(0) == 1 << 30
    assert fixed_point.tanh(0) == 0
    assert np.array_equal(fixed_point.tanh(-raw), -tanh)
    assert np.array_equal(fixed_point.logistic(-raw[raw != 0]), INT32_MAX - logistic[raw != 0])


def test_reciprocals() -> None:
    x = np.linspace(0, 1, 1001)
    raw = np.minimum((x * ONE).astype(np.int64), INT32_MAX)
    assert np.max(np.abs(fixed_point.one_over_one_plus_x(raw) / ONE - 1 / (1 + raw / ONE))) < 3e-9
    assert np.max(np.abs(fixed_point.one_minus_x_over_one_plus_x(raw) / ONE - (1 - x) / (1 + x))) < 8e-9
    assert fixed_point.one_over_one_plus_x(0) == INT32_MAX


def test_tables_are_indexed_from_minus_128() -> None:
    assert fixed_point.table_of(lambda q: q + 5)[[0, 128, 255]].tolist() == [-123, 5, 127]
    relu = fixed_point.relu_table(Quant.per_tensor(0.5, -10), Quant.per_tensor(1.0, 3))
    assert relu[[0, 118, 120, 128]].tolist() == [3, 3, 4, 8]
    relu6 = fixed_point.relu6_table(Quant.per_tensor(0.5, -10))
    assert relu6[[0, 118, 119, 130, 255]].tolist() == [-10, -10, -9, 2, 2]
    leaky = fixed_point.leaky_relu_table(Quant.per_tensor(1.0, 0), Quant.per_tensor(1.0, 0), 0.5)
    assert leaky[[0, 126, 128, 255]].tolist() == [-64, -1, 0, 127]


def test_saturating_tables_reach_both_ends() -> None:
    table = fixed_point.logistic_table(Quant.per_tensor(0.25, 10))
    assert (table[0], table[128 + 10], table[255]) == (-128, 0, 127)
    assert np.all(np.diff(table.astype(int)) >= 0)
    table = fixed_point.tanh_table(Quant.per_tensor(0.25, -20))
    assert (table[0], table[128 - 20], table[255]) == (-128, 0, 127)
    # So large a scale leaves no input inside the radius; zero counts as negative.
    assert set(fixed_point.tanh_table(Quant.per_tensor(100.0))[:129].tolist()) == {-128}


def test_tables_refuse_other_outputs() -> None:
    source = Quant.per_tensor(0.1)
    with pytest.raises(ValueError, match="logistic of int8 has the output"):
        fixed_point.logistic_table(source, Quant.per_tensor(1 / 128, -128))
    with pytest.raises(ValueError, match="tanh of int8 has the output"):
        fixed_point.tanh_table(source, Quant.per_tensor(1 / 128, 1))


@pytest.mark.parametrize("scale", [1e-6, 0.01, 0.1, 1.0, 30.0, 40.0])
def test_exp_table(scale: float) -> None:
    table = fixed_point.exp_table(1.0, scale)
    argument = -scale * np.arange(256)
    assert table[0] == INT32_MAX
    assert np.max(np.abs(table / ONE - np.exp(argument))) < EXP_ERROR
    assert np.all(table[argument < -32] == 0)


@pytest.mark.parametrize(("beta", "scale"), [(0.0, 0.1), (-1.0, 0.1), (float("nan"), 0.1)])
def test_exp_table_refuses_what_is_not_positive(beta: float, scale: float) -> None:
    with pytest.raises(ValueError, match="positive beta"):
        fixed_point.exp_table(beta, scale)


@given(st.integers(1 << 19, (1 << 32) - (1 << 20)))
@example(1 << 19)
@example((1 << 20) - 1)
@example(8191 << 19)
def test_softmax_reciprocal_is_what_its_docstring_lists(total: int) -> None:
    def multiply(a: int, b: int) -> int:
        assert -(1 << 31) <= a < 1 << 31
        assert -(1 << 31) <= b < 1 << 31
        return (a * b + (1 << 30)) >> 31

    leading = 32 - total.bit_length()
    bits = 12 - leading
    f = ((total << leading) - (1 << 31)) % (1 << 32)
    h = (f >> 1) + (1 << 30)
    x = 1515870810 + multiply(h, -1010580540)
    for _ in range(3):
        e = (1 << 29) - multiply(h, x)
        step = multiply(x, e) << 2
        assert abs(step) < 1 << 31
        x += step
    scale = INT32_MAX if x > (1 << 30) - 1 else 2 * x
    result, shift = fixed_point.softmax_reciprocal(total)
    assert (int(result), int(shift)) == (scale, bits + 23)
    assert abs(scale / ONE * 2.0**-bits * (total / 2.0**19) - 1) < 1e-8


def test_softmax() -> None:
    assert fixed_point.softmax_int8([5], 1.0, 0.1).tolist() == [127]
    assert fixed_point.softmax_int8([[0, 0], [-128, 127]], 1.0, 0.1).tolist() == [[0, 0], [-128, 127]]
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (50, 12))
    result = fixed_point.softmax_int8(x, 1.0, 0.05)
    real = np.exp(x * 0.05)
    assert np.max(np.abs((result.astype(int) + 128) / 256 - real / real.sum(axis=1, keepdims=True))) < 0.6 / 256


def test_softmax_of_many_classes_is_defined() -> None:
    assert set(fixed_point.softmax_int8(np.zeros((1, 511)), 1.0, 0.1).ravel().tolist()) == {-127}
    for length in (513, 4096, fixed_point.SOFTMAX_MAXIMUM_ROW):
        assert set(fixed_point.softmax_int8(np.zeros((1, length)), 1.0, 0.1).ravel().tolist()) == {-128}
    with pytest.raises(ValueError, match="a row of 8192 elements"):
        fixed_point.softmax_int8(np.zeros((1, 8192)), 1.0, 0.1)
