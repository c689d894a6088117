"""Instructions of the DSP extension that kernels name, each with its meaning.

Source: Armv7-M Architecture Reference Manual, DDI 0403, chapter A7 (SMLAD, SMLABB, SMLAWB, SXTB16, SXTAB16, PKHBT,
PKHTB, SADD16, SSUB16, SSUB8, SEL, SMMLAR, SSAT). Spellings in C are those of the Arm C Language Extensions. What has
none there, LLVM finds in the formula; for gcc it is assembly.
"""

from __future__ import annotations

from collections.abc import Callable

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import Expr, Intrinsic, cast, clamp, maximum, select

I16, I32, I64, U32 = DType.I16, DType.I32, DType.I64, DType.U32

Half = Callable[[Expr], Expr]

#: The feature word of targets that have these instructions, and the C macro that says so.
DSP = "dsp"


#: The same where a compiler takes assembly in the manner of GNU.
DSP_GNU = "dsp_gnu"


def _assembly(instruction: str, *operands: str) -> str:
    """One instruction as a C expression."""
    places = ", ".join(f"%{i}" for i in range(1 + len(operands)))
    placed = instruction.replace("...", places)
    inputs = ", ".join(f'"r"({{{name}}})' for name in operands)
    return f'__extension__({{{{ int32_t result_; __asm__("{placed}" : "=r"(result_) : {inputs}); result_; }}}})'


def kept(pointer: Expr) -> Expr:
    """The pointer, chosen among two equal ones, so that LLVM's loop strength reduction does not see how it moves: in
    long loop bodies that already use every register it adds induction variables, and spills for them.
    """
    return select(pointer.eq(pointer), pointer, pointer)


def low_half(value: Expr) -> Expr:
    """Bits 0..15 as a signed number."""
    return value.cast(I16).cast(I32)


def high_half(value: Expr) -> Expr:
    """Bits 16..31 as a signed number."""
    return value >> 16


def rotated_by_8(value: Expr) -> Expr:
    """The word rotated right by one byte."""
    bits = value.cast(U32)
    return ((bits >> 8) | (bits << 24)).cast(I32)


def _joined(low: Expr, high: Expr) -> Expr:
    return ((low.cast(U32) & 0xFFFF) | (high.cast(U32) << 16)).cast(I32)


@define_intrinsic(
    "packed_halves", I32, feature=DSP_GNU, c=_assembly("pkhbt ..., lsl #16", "low", "high"), low=I32, high=I32
)
def packed_halves(k: IntrinsicBuilder, low: Expr, high: Expr) -> Expr:
    """The low halves of two words in one word (PKHBT)."""
    return _joined(low, high)


@define_intrinsic(
    "packed_high_halves", I32, feature=DSP_GNU, c=_assembly("pkhtb ..., asr #16", "high", "low"), low=I32, high=I32
)
def packed_high_halves(k: IntrinsicBuilder, low: Expr, high: Expr) -> Expr:
    """The high halves of two words in one word (PKHTB)."""
    return ((low.cast(U32) >> 16) | (high.cast(U32) & 0xFFFF0000)).cast(I32)


def _low_byte(value: Expr) -> Expr:
    return value.cast(DType.I8).cast(I32)


@define_intrinsic(
    "smlad",
    I32,
    feature=DSP,
    c="__smlad({a}, {b}, {accumulator})",
    llvm="llvm.arm.smlad",
    a=I32,
    b=I32,
    accumulator=I32,
)
def smlad(k: IntrinsicBuilder, a: Expr, b: Expr, accumulator: Expr) -> Expr:
    """accumulator + a.low * b.low + a.high * b.high, wrapping."""
    return accumulator + low_half(a) * low_half(b) + high_half(a) * high_half(b)


def _define_half_product(suffix: str, first: Half, second: Half) -> Intrinsic:
    """accumulator + one half of a * one half of b: SMLABB and its kin, wrapping."""

    def meaning(k: IntrinsicBuilder, a: Expr, b: Expr, accumulator: Expr) -> Expr:
        return accumulator + first(a) * second(b)

    name = f"smla{suffix}"
    c, llvm = f"__{name}({{a}}, {{b}}, {{accumulator}})", f"llvm.arm.{name}"
    return define_intrinsic(name, I32, feature=DSP, c=c, llvm=llvm, a=I32, b=I32, accumulator=I32)(meaning)


smlabb = _define_half_product("bb", low_half, low_half)
smlabt = _define_half_product("bt", low_half, high_half)
smlatb = _define_half_product("tb", high_half, low_half)


def _define_word_by_half(suffix: str, half: Half) -> Intrinsic:
    """accumulator + the upper 32 of the 48 bits of a word * one half of another: SMLAWB and SMLAWT, wrapping."""

    def meaning(k: IntrinsicBuilder, a: Expr, b: Expr, accumulator: Expr) -> Expr:
        return accumulator + ((a.cast(I64) * half(b).cast(I64)) >> 16).cast(I32)

    name = f"smlaw{suffix}"
    c, llvm = f"__{name}({{a}}, {{b}}, {{accumulator}})", f"llvm.arm.{name}"
    return define_intrinsic(name, I32, feature=DSP, c=c, llvm=llvm, a=I32, b=I32, accumulator=I32)(meaning)


smlawb = _define_word_by_half("b", low_half)
smlawt = _define_word_by_half("t", high_half)


@define_intrinsic("sxtb16", I32, feature=DSP, c="__sxtb16({a})", llvm="llvm.arm.sxtb16", a=I32)
def sxtb16(k: IntrinsicBuilder, a: Expr) -> Expr:
    """Bytes 0 and 2 of a word, each sign-extended to a half."""
    return _joined(_low_byte(a), _low_byte(a >> 16))


@define_intrinsic("sxtab16", I32, feature=DSP, c="__sxtab16({halves}, {a})", llvm="llvm.arm.sxtab16", halves=I32, a=I32)
def sxtab16(k: IntrinsicBuilder, halves: Expr, a: Expr) -> Expr:
    """Bytes 0 and 2 of a word, sign-extended, added to the two halves of another."""
    return _joined(low_half(halves) + _low_byte(a), high_half(halves) + _low_byte(a >> 16))


@define_intrinsic("sxtb16_odd", I32, feature=DSP_GNU, c=_assembly("sxtb16 ..., ror #8", "a"), a=I32)
def sxtb16_odd(k: IntrinsicBuilder, a: Expr) -> Expr:
    """Bytes 1 and 3 of a word, each sign-extended to a half."""
    return sxtb16(rotated_by_8(a))


@define_intrinsic(
    "sxtab16_odd", I32, feature=DSP_GNU, c=_assembly("sxtab16 ..., ror #8", "halves", "a"), halves=I32, a=I32
)
def sxtab16_odd(k: IntrinsicBuilder, halves: Expr, a: Expr) -> Expr:
    """Bytes 1 and 3 of a word, sign-extended, added to the two halves of another."""
    return sxtab16(halves, rotated_by_8(a))


def _define_halves(name: str, combine: Callable[[Expr, Expr], Expr]) -> Intrinsic:
    """An operation on both halves of two words, wrapping."""

    def meaning(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
        return _joined(combine(low_half(a), low_half(b)), combine(high_half(a), high_half(b)))

    c, llvm = f"__{name}({{a}}, {{b}})", f"llvm.arm.{name}"
    return define_intrinsic(name, I32, feature=DSP, c=c, llvm=llvm, a=I32, b=I32)(meaning)


sadd16 = _define_halves("sadd16", lambda a, b: a + b)
ssub16 = _define_halves("ssub16", lambda a, b: a - b)


@define_intrinsic(
    "max_bytes",
    I32,
    feature=DSP,
    c="(__ssub8({a}, {b}), __sel({a}, {b}))",
    llvm="llvm.arm.ssub8 llvm.arm.sel",
    a=I32,
    b=I32,
)
def max_bytes(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """The greater of each signed byte of two words: SSUB8 sets a flag for each, which SEL reads."""
    total = cast(0, U32)
    for shift in (0, 8, 16, 24):
        greater = maximum(_low_byte(a >> shift), _low_byte(b >> shift))
        total = total | ((greater.cast(U32) & 0xFF) << shift)
    return total.cast(I32)


@define_intrinsic(
    "smmlar", I32, feature=DSP_GNU, c=_assembly("smmlar ...", "a", "b", "accumulator"), a=I32, b=I32, accumulator=I32
)
def smmlar(k: IntrinsicBuilder, a: Expr, b: Expr, accumulator: Expr) -> Expr:
    """accumulator + a * b / 2**32, rounded to nearest, halves up. Back ends match the instruction from this form."""
    addend = (accumulator.cast(U32).cast(I64) << 32) | (1 << 31)
    return ((a.cast(I64) * b.cast(I64) + addend) >> 32).cast(I32)


@define_intrinsic("saturate_byte", I32, feature=DSP_GNU, c="(int32_t)__builtin_arm_ssat({value}, 8)", value=I32)
def saturate_byte(k: IntrinsicBuilder, value: Expr) -> Expr:
    """value moved into -128..127 (SSAT). As a built-in function, since the macro `__ssat` of gcc 12 warns of itself."""
    return clamp(value, -128, 127)
