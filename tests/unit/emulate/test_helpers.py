"""The compiler's support functions against numpy."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luciole.emulate.helpers import HELPERS, call_helper

words = st.integers(0, 0xFFFF_FFFF)
#: Float bit patterns with zeros, subnormals, infinities and NaN likely.
floats = st.one_of(
    words,
    st.sampled_from([0, 0x8000_0000, 1, 0x807F_FFFF, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x3F80_0000, 0x7F7F_FFFF]),
)
doubles = st.one_of(st.integers(0, (1 << 64) - 1), floats.map(lambda bits: double_bits(float(to_float(bits)))))


def to_float(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)


def double_bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def split(bits: int) -> tuple[int, int]:
    return bits & 0xFFFF_FFFF, bits >> 32


def same_float(bits: int, wanted: np.float32) -> bool:
    return bits == 0x7FC0_0000 if np.isnan(wanted) else bits == int(wanted.view(np.uint32))


@settings(max_examples=300)
@given(a=floats, b=floats)
@example(a=0x0080_0000, b=0x3F00_0001)  # a product that is rounded as a subnormal
@example(a=0, b=0)
def test_float_arithmetic_is_that_of_ieee_754(a: int, b: int) -> None:
    x, y = to_float(a), to_float(b)
    with np.errstate(all="ignore"):
        wanted = {"add": x + y, "sub": x - y, "mul": x * y, "div": x / y}
    for name, value in wanted.items():
        for symbol in (f"__aeabi_f{name}", f"__{name}sf3"):
            (found,) = call_helper(HELPERS[symbol], (a, b, 0, 0))
            assert same_float(found, value), symbol
    assert call_helper(HELPERS["__aeabi_frsub"], (b, a, 0, 0)) == call_helper(HELPERS["__aeabi_fsub"], (a, b, 0, 0))


@settings(max_examples=200)
@given(a=doubles, b=doubles)
def test_double_arithmetic_is_that_of_ieee_754(a: int, b: int) -> None:
    x, y = np.uint64(a).view(np.float64), np.uint64(b).view(np.float64)
    with np.errstate(all="ignore"):
        wanted = {"add": x + y, "sub": x - y, "mul": x * y, "div": x / y}
    for name, value in wanted.items():
        low, high = call_helper(HELPERS[f"__aeabi_d{name}"], (*split(a), *split(b)))
        bits = 0x7FF8 << 48 if np.isnan(value) else int(value.view(np.uint64))
        assert low | high << 32 == bits, name


@settings(max_examples=200)
@given(a=floats, b=floats)
def test_comparisons_are_false_for_nan(a: int, b: int) -> None:
    x, y = to_float(a), to_float(b)
    tests = {"eq": x == y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}
    unordered = bool(np.isnan(x) or np.isnan(y))
    for name, wanted in tests.items():
        assert call_helper(HELPERS[f"__aeabi_fcmp{name}"], (a, b, 0, 0)) == (int(wanted),)
        (found,) = call_helper(HELPERS[f"__{name}sf2"], (a, b, 0, 0))
        three_way = found - (1 << 32) if found >> 31 else found
        gcc = {
            "eq": three_way == 0,
            "lt": three_way < 0,
            "le": three_way <= 0,
            "gt": three_way > 0,
            "ge": three_way >= 0,
        }
        assert gcc[name] == bool(wanted)
    assert call_helper(HELPERS["__aeabi_fcmpun"], (a, b, 0, 0)) == (int(unordered),)
    assert call_helper(HELPERS["__unordsf2"], (a, b, 0, 0)) == (int(unordered),)


@settings(max_examples=200)
@given(value=st.one_of(words, st.integers(0, (1 << 64) - 1)))
@example(value=(1 << 54) + (1 << 30) + 1)  # rounds up, which a way through float64 would miss
def test_integers_become_the_nearest_float(value: int) -> None:
    pair = split(value)
    signed = np.uint64(value).view(np.int64)
    cases = {
        "__aeabi_ul2f": np.float32(np.uint64(value)),
        "__floatundisf": np.float32(np.uint64(value)),
        "__aeabi_l2f": np.float32(signed),
        "__floatdisf": np.float32(signed),
        "__aeabi_ui2f": np.float32(np.uint32(pair[0])),
        "__floatsisf": np.float32(np.uint32(pair[0]).view(np.int32)),
    }
    for symbol, wanted in cases.items():
        assert same_float(call_helper(HELPERS[symbol], (*pair, 0, 0))[0], wanted), symbol


@pytest.mark.parametrize(
    ("value", "signed", "unsigned"),
    [
        (0.9, 0, 0),
        (-1.9, -1, 0),
        (3e9, (1 << 31) - 1, 3_000_000_000),
        (-3e9, -(1 << 31), 0),
        (float("inf"), (1 << 31) - 1, (1 << 32) - 1),
        (float("-inf"), -(1 << 31), 0),
        (float("nan"), 0, 0),
    ],
)
def test_floats_become_integers_toward_zero_and_saturate(value: float, signed: int, unsigned: int) -> None:
    bits = int(np.float32(value).view(np.uint32))
    for prefix, wanted in (("i", signed), ("ui", unsigned)):
        assert call_helper(HELPERS[f"__aeabi_f2{prefix}z"], (bits, 0, 0, 0)) == (wanted & 0xFFFF_FFFF,)
    assert call_helper(HELPERS["__fixsfsi"], (bits, 0, 0, 0)) == (signed & 0xFFFF_FFFF,)
    assert call_helper(HELPERS["__fixunssfsi"], (bits, 0, 0, 0)) == (unsigned,)
    assert call_helper(HELPERS["__fixdfsi"], (*split(double_bits(value)), 0, 0)) == (signed & 0xFFFF_FFFF,)


@settings(max_examples=100)
@given(bits=floats)
def test_widening_and_narrowing(bits: int) -> None:
    low, high = call_helper(HELPERS["__aeabi_f2d"], (bits, 0, 0, 0))
    (back,) = call_helper(HELPERS["__aeabi_d2f"], (low, high, 0, 0))
    assert same_float(back, to_float(bits))


@settings(max_examples=200)
@given(a=st.integers(-(1 << 63), (1 << 63) - 1), b=st.integers(-(1 << 63), (1 << 63) - 1), n=st.integers(0, 63))
@example(a=-(1 << 63), b=-1, n=1)
@example(a=7, b=0, n=0)
def test_64_bit_integers(a: int, b: int, n: int) -> None:
    mask = (1 << 64) - 1

    def run(symbol: str, *arguments: int) -> list[int]:
        registers = call_helper(HELPERS[symbol], arguments)
        pairs = zip(registers[::2], registers[1::2], strict=True)
        return [low | high << 32 for low, high in pairs]

    both = (*split(a & mask), *split(b & mask))
    assert run("__muldi3", *both) == [a * b & mask]
    assert run("__aeabi_llsl", *split(a & mask), n, 0) == [a << n & mask]
    assert run("__aeabi_llsr", *split(a & mask), n, 0) == [(a & mask) >> n]
    assert run("__aeabi_lasr", *split(a & mask), n, 0) == [a >> n & mask]
    if b != 0:
        quotient = abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)
        assert run("__aeabi_ldivmod", *both) == [quotient & mask, a - quotient * b & mask]
        assert run("__divdi3", *both) == [quotient & mask]
        assert run("__moddi3", *both) == [a - quotient * b & mask]
        unsigned = divmod(a & mask, b & mask)
        assert run("__aeabi_uldivmod", *both) == list(unsigned)
    else:
        assert run("__divdi3", *both) == [0]


def test_32_bit_division_rounds_toward_zero() -> None:
    minus_seven = -7 & 0xFFFF_FFFF
    assert call_helper(HELPERS["__aeabi_idivmod"], (minus_seven, 2, 0, 0)) == (-3 & 0xFFFF_FFFF, -1 & 0xFFFF_FFFF)
    assert call_helper(HELPERS["__aeabi_uidivmod"], (minus_seven, 2, 0, 0)) == (minus_seven // 2, minus_seven % 2)
    assert call_helper(HELPERS["__divsi3"], (7, minus_seven, 0, 0)) == (-1 & 0xFFFF_FFFF,)
