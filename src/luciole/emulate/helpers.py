"""The compiler's support functions, done in Python when an object on an emulated core calls one.

A core without a floating-point unit, or without a divider, calls such functions; a firmware has them from libgcc or
compiler-rt. Here the loader gives each an address at which the emulator stops, and the meaning is computed on plain
numbers: IEEE 754 with round to nearest even, one quiet NaN, saturating conversions. Names and meanings: "Run-time ABI
for the Arm Architecture" (IHI 0043) and the GCC internals manual, "The GCC low-level runtime library". One call counts
as one instruction.

A signature is written as letters: f and d for 32- and 64-bit floats, i and u for signed and unsigned 32-bit integers, l
and q for 64-bit ones; two letters of results are a pair returned in registers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Number = int | float
Operation = Callable[..., Number | tuple[Number, ...]]


@dataclass(frozen=True)
class Helper:
    """A support function: the letters of its arguments and results, and what it computes."""

    arguments: str
    results: str
    compute: Operation


def letter_words(letter: str) -> int:
    """How many 32-bit registers a value of this letter takes on a 32-bit core."""
    return 2 if letter in "dlq" else 1


def decode(letter: str, bits: int) -> Number:
    """The number that register contents mean."""
    if letter == "f":
        return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFF_FFFF))[0])
    if letter == "d":
        return float(struct.unpack("<d", struct.pack("<Q", bits))[0])
    if letter in "il":
        width = 32 * letter_words(letter)
        return bits - (1 << width) if bits >> (width - 1) else bits
    return bits


def encode(letter: str, value: Number) -> int:
    """The register contents of a result: floats are rounded to nearest even, integers wrap."""
    if letter == "f":
        return _float_bits(float(value))
    if letter == "d":
        bits = 0x7FF8 << 48 if math.isnan(value) else struct.unpack("<Q", struct.pack("<d", value))[0]
        return int(bits)
    return int(value) & ((1 << 32 * letter_words(letter)) - 1)


def _float_bits(value: float) -> int:
    if math.isnan(value):
        return 0x7FC0_0000
    try:
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    except OverflowError:  # rounds beyond the largest finite float
        return 0xFF80_0000 if value < 0 else 0x7F80_0000


def _divide(a: float, b: float) -> float:
    """IEEE division, where Python would raise. Through float64 is right for float32: 53 >= 2 * 24 + 2 bits."""
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _multiply(a: float, b: float) -> float:
    return a * b


def _to_integer(low: int, high: int) -> Operation:
    """Truncation toward zero, saturating at `low` and `high`; NaN gives 0, as libgcc's does on Arm."""

    def convert(value: float) -> int:
        if math.isnan(value):
            return 0
        if math.isinf(value):
            return high if value > 0 else low
        return min(max(math.trunc(value), low), high)

    return convert


def _same(value: Number) -> Number:
    return value


def _integer_to_float32(value: int) -> float:
    """The nearest float32, ties to even, straight from the integer: through a float64 it would be rounded twice."""
    magnitude = abs(value)
    excess = magnitude.bit_length() - 24
    if excess > 0:
        quotient, rest = magnitude >> excess, magnitude & ((1 << excess) - 1)
        half = 1 << (excess - 1)
        quotient += rest > half or (rest == half and bool(quotient & 1))
        magnitude = quotient << excess
    return float(-magnitude if value < 0 else magnitude)


def _quotient(a: int, b: int) -> int:
    """Division toward zero; by zero it gives 0, as the hardware's does."""
    return 0 if b == 0 else (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)


def _remainder(a: int, b: int) -> int:
    return a - _quotient(a, b) * b


def _quotient_and_remainder(a: int, b: int) -> tuple[int, int]:
    return _quotient(a, b), _remainder(a, b)


def _three_way(unordered: int) -> Operation:
    """libgcc's comparison: negative, zero or positive, and `unordered` where an argument is NaN."""

    def compare(a: float, b: float) -> int:
        if math.isnan(a) or math.isnan(b):
            return unordered
        return (a > b) - (a < b)

    return compare


def _is_unordered(a: float, b: float) -> int:
    return int(math.isnan(a) or math.isnan(b))


_COMPARISONS: Mapping[str, Operation] = {
    "eq": lambda a, b: int(a == b),
    "lt": lambda a, b: int(a < b),
    "le": lambda a, b: int(a <= b),
    "gt": lambda a, b: int(a > b),
    "ge": lambda a, b: int(a >= b),
    "un": _is_unordered,
}

#: Results of libgcc's comparisons on NaN are such that the test that follows fails.
_GCC_COMPARISONS: Mapping[str, int] = {"eq": 1, "ne": 1, "lt": 1, "le": 1, "gt": -1, "ge": -1, "cmp": 1}

_INTEGER_LIMITS: Mapping[str, tuple[int, int]] = {
    "i": (-(1 << 31), (1 << 31) - 1),
    "u": (0, (1 << 32) - 1),
    "l": (-(1 << 63), (1 << 63) - 1),
    "q": (0, (1 << 64) - 1),
}


def _float_helpers() -> dict[str, Helper]:
    """Arithmetic, comparisons and conversions of both float types, under the Arm and the GCC names."""
    table: dict[str, Helper] = {}
    for letter, gcc in (("f", "sf"), ("d", "df")):
        pair = letter * 2
        arithmetic: tuple[tuple[str, Operation], ...] = (
            ("add", lambda a, b: a + b),
            ("sub", lambda a, b: a - b),
            ("mul", _multiply),
            ("div", _divide),
        )
        for name, operation in arithmetic:
            table[f"__aeabi_{letter}{name}"] = table[f"__{name}{gcc}3"] = Helper(pair, letter, operation)
        table[f"__aeabi_{letter}rsub"] = Helper(pair, letter, lambda a, b: b - a)
        table[f"__aeabi_{letter}neg"] = table[f"__neg{gcc}2"] = Helper(letter, letter, lambda a: -a)
        for name, operation in _COMPARISONS.items():
            table[f"__aeabi_{letter}cmp{name}"] = Helper(pair, "i", operation)
        for name, unordered in _GCC_COMPARISONS.items():
            table[f"__{name}{gcc}2"] = Helper(pair, "i", _three_way(unordered))
        table[f"__unord{gcc}2"] = Helper(pair, "i", _is_unordered)
        for integer, arm, gcc_integer in (("i", "i", "si"), ("u", "ui", "si"), ("l", "l", "di"), ("q", "ul", "di")):
            unsigned = "un" if integer in "uq" else ""
            convert = _integer_to_float32 if letter == "f" else _same
            to_float = Helper(integer, letter, convert)
            table[f"__aeabi_{arm}2{letter}"] = table[f"__float{unsigned}{gcc_integer}{gcc}"] = to_float
            z = {"i": "iz", "u": "uiz", "l": "lz", "q": "ulz"}[integer]
            to_integer = Helper(letter, integer, _to_integer(*_INTEGER_LIMITS[integer]))
            table[f"__aeabi_{letter}2{z}"] = to_integer
            table[f"__fix{'uns' if unsigned else ''}{gcc}{gcc_integer}"] = to_integer
    table["__aeabi_f2d"] = table["__extendsfdf2"] = Helper("f", "d", _same)
    table["__aeabi_d2f"] = table["__truncdfsf2"] = Helper("d", "f", _same)
    return table


def _integer_helpers() -> dict[str, Helper]:
    """Division, and the 64-bit operations of 32-bit cores."""
    table = {
        "__aeabi_idiv": Helper("ii", "i", _quotient),
        "__aeabi_uidiv": Helper("uu", "u", _quotient),
        "__aeabi_idivmod": Helper("ii", "ii", _quotient_and_remainder),
        "__aeabi_uidivmod": Helper("uu", "uu", _quotient_and_remainder),
        "__aeabi_ldivmod": Helper("ll", "ll", _quotient_and_remainder),
        "__aeabi_uldivmod": Helper("qq", "qq", _quotient_and_remainder),
        "__mulsi3": Helper("uu", "u", _multiply),
    }
    for letter, gcc in (("i", "si"), ("l", "di")):
        unsigned = "u" if letter == "i" else "q"
        table[f"__div{gcc}3"] = Helper(letter * 2, letter, _quotient)
        table[f"__mod{gcc}3"] = Helper(letter * 2, letter, _remainder)
        table[f"__udiv{gcc}3"] = Helper(unsigned * 2, unsigned, _quotient)
        table[f"__umod{gcc}3"] = Helper(unsigned * 2, unsigned, _remainder)
    table["__aeabi_lmul"] = table["__muldi3"] = Helper("qq", "q", _multiply)
    table["__aeabi_llsl"] = table["__ashldi3"] = Helper("qi", "q", lambda a, n: a << (n & 63))
    table["__aeabi_llsr"] = table["__lshrdi3"] = Helper("qi", "q", lambda a, n: a >> (n & 63))
    table["__aeabi_lasr"] = table["__ashrdi3"] = Helper("li", "l", lambda a, n: a >> (n & 63))
    table["__aeabi_lcmp"] = Helper("ll", "i", lambda a, b: (a > b) - (a < b))
    table["__aeabi_ulcmp"] = Helper("qq", "i", lambda a, b: (a > b) - (a < b))
    return table


#: Every support function on numbers that can be provided, by name.
HELPERS: Mapping[str, Helper] = {**_float_helpers(), **_integer_helpers()}

#: Support functions on memory, by name: what they do ("copy" or "set") and the positions of the destination, the source
#: or fill byte (None for a fill with zeros), and the size among the arguments.
MEMORY_HELPERS: Mapping[str, tuple[str, int, int | None, int]] = {
    "memcpy": ("copy", 0, 1, 2),
    "memmove": ("copy", 0, 1, 2),
    "memset": ("set", 0, 1, 2),
    **{f"__aeabi_memcpy{suffix}": ("copy", 0, 1, 2) for suffix in ("", "4", "8")},
    **{f"__aeabi_memmove{suffix}": ("copy", 0, 1, 2) for suffix in ("", "4", "8")},
    **{f"__aeabi_memset{suffix}": ("set", 0, 2, 1) for suffix in ("", "4", "8")},
    **{f"__aeabi_memclr{suffix}": ("set", 0, None, 1) for suffix in ("", "4", "8")},
}


def call_helper(helper: Helper, words: Sequence[int]) -> tuple[int, ...]:
    """Run a helper on the 32-bit argument registers of a 32-bit core; the result registers come back.

    Both the Arm base standard and RISC-V's ilp32 pass our signatures as consecutive words, low half first, in four
    registers.
    """
    values: list[Number] = []
    position = 0
    for letter in helper.arguments:
        bits = words[position]
        if letter_words(letter) == 2:
            bits |= words[position + 1] << 32
        values.append(decode(letter, bits))
        position += letter_words(letter)
    result = helper.compute(*values)
    results = result if isinstance(result, tuple) else (result,)
    registers: list[int] = []
    for letter, value in zip(helper.results, results, strict=True):
        bits = encode(letter, value)
        registers.append(bits & 0xFFFF_FFFF)
        if letter_words(letter) == 2:
            registers.append(bits >> 32)
    return tuple(registers)
