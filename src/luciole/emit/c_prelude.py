"""What the C of kernels stands on: assumptions that the compiler checks, and small functions, printed only when used.

C99 leaves two things to the implementation that every compiler does the same way; the prelude makes the compiler check
them: an unsigned number that does not fit its signed type wraps, and a right shift of a negative number is arithmetic.
Nothing else here depends on the implementation and nothing is undefined.

Floats. A product and a sum must not become one fused operation, since each rounds on its own in every other back end.
clang and MSVC take a standard pragma; gcc ignores it and contracts unless in an ISO mode, so gcc gets `#pragma GCC
optimize`, the one switch that holds at -O3, -Ofast and in C++ alike (its `__builtin_assoc_barrier` gets lost in the
vectorizer). `float_control(precise)` undoes what -ffast-math allows; it allows contraction, so it comes first.
Registers wider than the type (x87) are refused.

Integer division without an instruction for it (Armv6-M) is done by shifting, so that int8 code calls nothing.

`floor`, `round_even`, `abs` and `sqrt` need no libm. `sqrt` is one instruction where there is one, written as assembly
because compilers turn their built-in into a call for the sake of errno; elsewhere it is computed with integers, one bit
of the root at a time, and rounded correctly, so all ways give the same bits. An LLVM back end may use `llvm.sqrt` where
the core has the instruction.

Compiling with `-DLUCIOLE_PORTABLE` chooses the plain C99 body wherever a faster one stands beside it; same bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from luciole.emit.c_doubles import DOUBLE_HELPERS
from luciole.errors import InternalError
from luciole.ir.types import DType

#: Types of registers. A truth value is an `int` in registers and a byte in memory; half floats are their bits.
REGISTER_TYPES: dict[DType, str] = {
    DType.BOOL: "int",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.I16: "int16_t",
    DType.U16: "uint16_t",
    DType.I32: "int32_t",
    DType.U32: "uint32_t",
    DType.I64: "int64_t",
    DType.U64: "uint64_t",
    DType.F16: "uint16_t",
    DType.F32: "float",
    DType.F64: "double",
    DType.INDEX: "int32_t",
}
MEMORY_TYPES: dict[DType, str] = REGISTER_TYPES | {DType.BOOL: "uint8_t"}

#: What an intrinsic's `feature` is for the preprocessor, and the compiler's header that declares its functions.
FEATURES: dict[str, tuple[str, str]] = {
    "dsp": ("defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32)", "arm_acle.h"),
    "dsp_gnu": ("defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32)", "arm_acle.h"),
    "mve": ("defined(__ARM_FEATURE_MVE)", "arm_mve.h"),
    "avx2": ("defined(__AVX2__)", "immintrin.h"),
    "neon": ("defined(__ARM_NEON)", "arm_neon.h"),
}

_HEAD = """\
#include <stdint.h>

#if defined(__cplusplus)
#define LUCIOLE_RESTRICT __restrict
#else
#define LUCIOLE_RESTRICT restrict
#endif
#if defined(__GNUC__)
#define LUCIOLE_INLINE static inline __attribute__((__always_inline__))
#else
#define LUCIOLE_INLINE static inline
#endif

/* Signed numbers wrap when converted, and shift right with their sign: C99 lets compilers choose, and all choose so. */
typedef char luciole_conversion_wraps[(int32_t)UINT32_MAX == -1 && (int8_t)255 == -1 ? 1 : -1];
typedef char luciole_shift_is_arithmetic[((int32_t)-3 >> 1) == -2 ? 1 : -1];
"""

_FLOAT_HEAD = """\
/* Each float operation rounds on its own: no contraction to fused multiply-add, nothing that -ffast-math allows. */
#if defined(__clang__)
#pragma float_control(precise, on)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize ("no-fast-math", "fp-contract=off")
#elif defined(_MSC_VER)
#pragma float_control(precise, on)
#pragma fp_contract (off)
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ > 0 && __FLT_EVAL_METHOD__ < 16
#error "floats must be computed in their own precision: compile with -msse2 -mfpmath=sse"
#endif
"""

_ENDIAN_HEAD = """\
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "this code reads little-endian memory"
#endif
"""

_FENCE_HEAD = """\
/* Keeps the compiler from moving memory accesses across; no instruction. */
#if defined(__GNUC__)
#define LUCIOLE_FENCE() __asm__ __volatile__("" ::: "memory")
#else
#define LUCIOLE_FENCE() ((void)0)
#endif
/* gcc would gather loads first and products later, and spill what stands between. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-ter", "no-tree-reassoc")
#endif
"""

_BITS_OF_F32 = """\
LUCIOLE_INLINE uint32_t luciole_bits_of_f32(float value)
{
    union { float value; uint32_t bits; } both;
    both.value = value;
    return both.bits;
}
"""

_F32_OF_BITS = """\
LUCIOLE_INLINE float luciole_f32_of_bits(uint32_t bits)
{
    union { float value; uint32_t bits; } both;
    both.bits = bits;
    return both.value;
}
"""

_ABS = """\
LUCIOLE_INLINE float luciole_abs(float value)
{
    return luciole_f32_of_bits(luciole_bits_of_f32(value) & 0x7fffffffu);
}
"""

_ROUND_EVEN = """\
/* To the nearest integer, ties to even: adding 2^23 leaves no bits for a fraction. */
LUCIOLE_INLINE float luciole_round_even(float value)
{
    const uint32_t sign = luciole_bits_of_f32(value) & 0x80000000u;
    float magnitude = luciole_f32_of_bits(luciole_bits_of_f32(value) & 0x7fffffffu);
    if (magnitude < 8388608.0f) {
        magnitude = (magnitude + 8388608.0f) - 8388608.0f;
    }
    return luciole_f32_of_bits(luciole_bits_of_f32(magnitude) | sign);
}
"""

_FLOOR = """\
LUCIOLE_INLINE float luciole_floor(float value)
{
    const float rounded = luciole_round_even(value);
    return rounded > value ? rounded - 1.0f : rounded;
}
"""

_SATURATE_BYTE = """\
/* Moved into -128..127. */
LUCIOLE_INLINE int32_t luciole_saturate_8(int32_t value)
{
#if defined(__GNUC__) && defined(__ARM_FEATURE_SAT) && !defined(LUCIOLE_PORTABLE)
    return (int32_t)__builtin_arm_ssat(value, 8);
#else
    return value < -128 ? -128 : value > 127 ? 127 : value;
#endif
}
"""

_SQRT = """\
/* The square root, correctly rounded. */
static inline float luciole_sqrt(float value)
{
#if defined(__GNUC__) && defined(__AVX__) && !defined(LUCIOLE_PORTABLE)
    float root;
    __asm__("vsqrtss %1, %1, %0" : "=x"(root) : "x"(value));
    return root;
#elif defined(__GNUC__) && defined(__SSE__) && !defined(LUCIOLE_PORTABLE)
    float root;
    __asm__("sqrtss %1, %0" : "=x"(root) : "x"(value));
    return root;
#elif defined(__GNUC__) && defined(__aarch64__) && !defined(LUCIOLE_PORTABLE)
    float root;
    __asm__("fsqrt %s0, %s1" : "=w"(root) : "w"(value));
    return root;
#elif defined(__GNUC__) && defined(__ARM_FP) && !defined(__SOFTFP__) && !defined(LUCIOLE_PORTABLE)
    float root;
    __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(value));
    return root;
#elif defined(__GNUC__) && defined(__riscv_flen) && !defined(LUCIOLE_PORTABLE)
    float root;
    __asm__("fsqrt.s %0, %1" : "=f"(root) : "f"(value));
    return root;
#else
    const uint32_t bits = luciole_bits_of_f32(value);
    int32_t exponent = (int32_t)(bits >> 23);
    uint32_t mantissa = bits & 0x007fffffu;
    uint64_t rest, root = 0, bit = (uint64_t)1 << 48;
    if ((bits & 0x7fffffffu) == 0 || (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u) {
        return value; /* zeros, not a number, infinity */
    }
    if (bits > 0x80000000u) {
        return luciole_f32_of_bits(0x7fc00000u);
    }
    if (exponent == 0) {
        for (exponent = 1; mantissa < 0x00800000u; exponent--) {
            mantissa <<= 1;
        }
    } else {
        mantissa |= 0x00800000u;
    }
    /* value = mantissa * 2^(exponent - 150); an even power of two and 50 bits give 25 bits, the last one to round. */
    rest = (uint64_t)mantissa << ((exponent & 1) != 0 ? 25 : 26);
    exponent += (exponent & 1) != 0 ? -1 : -2;
    while (bit != 0) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
        bit >>= 2;
    }
    return luciole_f32_of_bits(((uint32_t)(exponent / 2 + 64) << 23) + (((uint32_t)root + 1) >> 1) - 0x00800000u);
#endif
}
"""

_DIVISION = """\
/* Cores without a divide instruction get a function of our own, so that nothing is called from outside. */
#if (defined(__arm__) && !defined(__ARM_FEATURE_IDIV)) || defined(LUCIOLE_PORTABLE)
#define LUCIOLE_NO_DIVIDE
static uint32_t luciole_quotient(uint32_t a, uint32_t b)
{
    uint32_t quotient = 0, rest = 0;
    for (int bit = 31; bit >= 0; bit--) {
        const uint32_t carry = rest >> 31;
        rest = (rest << 1) | ((a >> bit) & 1u);
        quotient <<= 1;
        if (carry != 0 || rest >= b) {
            rest -= b;
            quotient |= 1u;
        }
    }
    return quotient;
}
#endif
"""

_HELPERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "float": (_FLOAT_HEAD, ()),
    "endian": (_ENDIAN_HEAD, ()),
    "fence": (_FENCE_HEAD, ()),
    "bits_of_f32": (_BITS_OF_F32, ()),
    "f32_of_bits": (_F32_OF_BITS, ()),
    "division": (_DIVISION, ()),
    "abs": (_ABS, ("float", "bits_of_f32", "f32_of_bits")),
    "round_even": (_ROUND_EVEN, ("float", "bits_of_f32", "f32_of_bits")),
    "floor": (_FLOOR, ("round_even",)),
    "saturate_8": (_SATURATE_BYTE, ()),
    "sqrt": (_SQRT, ("float", "bits_of_f32", "f32_of_bits")),
    **DOUBLE_HELPERS,
}


def support_c(names: Iterable[str]) -> str:
    """The prelude with the named helpers and all they need; the order does not depend on that of `names`.

    Names are those that the printer of expressions collects: `round_even`, `min_i32`, `read_i32_4` (the last number is
    an alignment), `feature_dsp`, ...
    """
    needed: dict[str, str] = {}

    def need(name: str) -> None:
        if name not in needed:
            text, needs = _helper(name)
            for other in needs:
                need(other)
            needed[name] = text

    for name in sorted(set(names)):
        need(name)
    first: list[str] = [n for n in ("float", "endian", "fence") if n in needed]
    first += [n for n in needed if n.startswith("feature_")]
    # The pragmas for floats come before the includes, so that inlined functions of headers have the same options.
    head = [needed["float"]] if "float" in needed else []
    head += [_HEAD, *(needed[n] for n in first if n != "float")]
    return "\n".join(head + [text for name, text in needed.items() if name not in first])


def _helper(name: str) -> tuple[str, tuple[str, ...]]:
    """Text and needs of a helper."""
    if name in _HELPERS:
        return _HELPERS[name]
    match = re.fullmatch(r"(alias|feature|min|max|divide|remainder|read|write)_(\w+?)(?:_(\d+))?", name)
    if match is None:
        raise InternalError(f"the C prelude has no {name}")
    what, subject, alignment = match[1], match[2], int(match[3] or 0)
    if what == "feature":
        condition, header = FEATURES[subject]
        return f"#if {condition} && !defined(LUCIOLE_PORTABLE)\n#include <{header}>\n#endif\n", ()
    dtype = DType(subject)
    if what == "alias":
        return _alias_type(dtype), ()
    ctype = REGISTER_TYPES[dtype]
    needs = ("float",) if dtype.is_float else ()
    match what:
        case "min" | "max":
            sign = "<" if what == "min" else ">"
            return _binary_function(name, ctype, f"a {sign} b ? a : b", dtype), needs
        case "divide" | "remainder":
            return _division(name, what, dtype), ("division",) if dtype.bits == 32 else ()
        case "read":
            return _read_function(name, dtype, alignment)
    return _write_function(name, dtype, alignment)


def _alias_type(dtype: DType) -> str:
    """The type of the elements of a workspace, which is bytes that kernel after kernel uses as it likes."""
    ctype = MEMORY_TYPES[dtype]
    return (
        f"#if defined(__GNUC__)\ntypedef {ctype} luciole_alias_{dtype.value} __attribute__((__may_alias__));\n"
        f"#else\ntypedef {ctype} luciole_alias_{dtype.value};\n#endif\n"
    )


def _division(name: str, what: str, dtype: DType) -> str:
    """A function that divides, or gives the remainder; 32 bits without an instruction go through `luciole_quotient`.

    The least number divided by -1 wraps; C leaves it undefined and processors trap.
    """
    ctype, unsigned = REGISTER_TYPES[dtype], f"uint{dtype.bits}_t"
    negative = f"({ctype})(({unsigned})0 - ({unsigned})a)"
    if dtype.is_signed:
        plain = f"b == -1 ? {negative} : a / b" if what == "divide" else "b == -1 ? 0 : a % b"
    else:
        plain = "a / b" if what == "divide" else "a % b"
    if dtype.bits == 64:
        return _binary_function(name, ctype, plain, dtype)
    if not dtype.is_signed:
        shifted = "luciole_quotient(a, b)" if what == "divide" else "a - luciole_quotient(a, b) * b"
        body = f"    return {shifted};\n"
    else:
        magnitudes = "a < 0 ? 0u - (uint32_t)a : (uint32_t)a, b < 0 ? 0u - (uint32_t)b : (uint32_t)b"
        body = f"    const uint32_t quotient = luciole_quotient({magnitudes});\n"
        signed = "(int32_t)((a < 0) == (b < 0) ? quotient : 0u - quotient)"
        if what == "divide":
            body += f"    return {signed};\n"
        else:
            body += f"    return (int32_t)((uint32_t)a - (uint32_t){signed} * (uint32_t)b);\n"
    return (
        f"LUCIOLE_INLINE {ctype} luciole_{name}({ctype} a, {ctype} b)\n{{\n"
        f"#if defined(LUCIOLE_NO_DIVIDE)\n{body}#else\n    return {plain};\n#endif\n}}\n"
    )


def _binary_function(name: str, ctype: str, expression: str, dtype: DType) -> str:
    if dtype.is_integer and dtype.bits < 32:
        expression = f"({ctype})({expression})"
    return f"LUCIOLE_INLINE {ctype} luciole_{name}({ctype} a, {ctype} b)\n{{\n    return {expression};\n}}\n"


def _read_function(name: str, dtype: DType, alignment: int) -> tuple[str, tuple[str, ...]]:
    register, memory, size = REGISTER_TYPES[dtype], MEMORY_TYPES[dtype], dtype.size_bytes
    head = f"LUCIOLE_INLINE {register} luciole_{name}(const unsigned char *address)\n{{\n"
    if size == 1:
        value = "*address != 0" if dtype is DType.BOOL else f"({register})*address"
        return f"{head}    return {value};\n}}\n", ()
    unsigned = f"uint{8 * size}_t"
    parts = [f"({unsigned})address[{i}] << {8 * i}" if i else f"({unsigned})address[0]" for i in range(size)]
    if size == 2:
        assembled = "(uint16_t)(address[0] | address[1] << 8)"
    else:
        assembled = "(" + " | ".join([parts[0], *(f"({p})" for p in parts[1:])]) + ")"
    value = f"luciole_{dtype.value}_of_bits{assembled}" if dtype.is_float else f"({register}){assembled}"
    text = (
        f"{head}#if defined(__GNUC__) && !defined(LUCIOLE_PORTABLE)\n"
        f"    typedef {memory} aligned __attribute__((__may_alias__, __aligned__({alignment})));\n"
        f"    return *(const aligned *)(const void *)address;\n"
        f"#else\n    return {value};\n#endif\n}}\n"
    )
    return text, ("endian", *(("float", f"{dtype.value}_of_bits") if dtype.is_float else ()))


def _write_function(name: str, dtype: DType, alignment: int) -> tuple[str, tuple[str, ...]]:
    register, memory, size = REGISTER_TYPES[dtype], MEMORY_TYPES[dtype], dtype.size_bytes
    head = f"LUCIOLE_INLINE void luciole_{name}(unsigned char *address, {register} value)\n{{\n"
    if size == 1:
        value = "value != 0" if dtype is DType.BOOL else "value"
        return f"{head}    *address = (unsigned char)({value});\n}}\n", ()
    bits = f"luciole_bits_of_{dtype.value}(value)" if dtype.is_float else f"(uint{8 * size}_t)value"
    lines = "".join(f"    address[{i}] = (unsigned char)(bits{f' >> {8 * i}' if i else ''});\n" for i in range(size))
    text = (
        f"{head}#if defined(__GNUC__) && !defined(LUCIOLE_PORTABLE)\n"
        f"    typedef {memory} aligned __attribute__((__may_alias__, __aligned__({alignment})));\n"
        f"    *(aligned *)(void *)address = value;\n"
        f"#else\n    const uint{8 * size}_t bits = {bits};\n{lines}#endif\n}}\n"
    )
    return text, ("endian", *(("float", f"bits_of_{dtype.value}") if dtype.is_float else ()))
