"""Functions of doubles that the C of kernels stands on, as those of floats in `c_prelude`."""

from __future__ import annotations

_BITS_OF_F64 = """\
LUCIOLE_INLINE uint64_t luciole_bits_of_f64(double value)
{
    union { double value; uint64_t bits; } both;
    both.value = value;
    return both.bits;
}
"""

_F64_OF_BITS = """\
LUCIOLE_INLINE double luciole_f64_of_bits(uint64_t bits)
{
    union { double value; uint64_t bits; } both;
    both.bits = bits;
    return both.value;
}
"""

_ABS_F64 = """\
LUCIOLE_INLINE double luciole_abs_f64(double value)
{
    return luciole_f64_of_bits(luciole_bits_of_f64(value) & UINT64_C(0x7fffffffffffffff));
}
"""

_ROUND_EVEN_F64 = """\
/* To the nearest integer, ties to even: adding 2^52 leaves no bits for a fraction. */
LUCIOLE_INLINE double luciole_round_even_f64(double value)
{
    const uint64_t sign = luciole_bits_of_f64(value) & UINT64_C(0x8000000000000000);
    double magnitude = luciole_f64_of_bits(luciole_bits_of_f64(value) ^ sign);
    if (magnitude < 4503599627370496.0) {
        magnitude = (magnitude + 4503599627370496.0) - 4503599627370496.0;
    }
    return luciole_f64_of_bits(luciole_bits_of_f64(magnitude) | sign);
}
"""

_FLOOR_F64 = """\
LUCIOLE_INLINE double luciole_floor_f64(double value)
{
    const double rounded = luciole_round_even_f64(value);
    return rounded > value ? rounded - 1.0 : rounded;
}
"""

_SQRT_F64 = """\
/* The square root, correctly rounded. */
static inline double luciole_sqrt_f64(double value)
{
#if defined(__GNUC__) && defined(__AVX__) && !defined(LUCIOLE_PORTABLE)
    double root;
    __asm__("vsqrtsd %1, %1, %0" : "=x"(root) : "x"(value));
    return root;
#elif defined(__GNUC__) && defined(__SSE2__) && !defined(LUCIOLE_PORTABLE)
    double root;
    __asm__("sqrtsd %1, %0" : "=x"(root) : "x"(value));
    return root;
#elif defined(__GNUC__) && defined(__aarch64__) && !defined(LUCIOLE_PORTABLE)
    double root;
    __asm__("fsqrt %d0, %d1" : "=w"(root) : "w"(value));
    return root;
#elif defined(__GNUC__) && defined(__ARM_FP) && (__ARM_FP & 8) && !defined(__SOFTFP__) && !defined(LUCIOLE_PORTABLE)
    double root;
    __asm__("vsqrt.f64 %P0, %P1" : "=w"(root) : "w"(value));
    return root;
#elif defined(__GNUC__) && defined(__riscv_flen) && __riscv_flen >= 64 && !defined(LUCIOLE_PORTABLE)
    double root;
    __asm__("fsqrt.d %0, %1" : "=f"(root) : "f"(value));
    return root;
#else
    const uint64_t bits = luciole_bits_of_f64(value);
    const uint64_t magnitude = bits & UINT64_C(0x7fffffffffffffff), infinity = UINT64_C(0x7ff0000000000000);
    int32_t exponent = (int32_t)(bits >> 52);
    uint64_t mantissa = bits & UINT64_C(0x000fffffffffffff), rest = 0, root = 0;
    if (magnitude == 0 || magnitude > infinity || bits == infinity) {
        return value; /* zeros, not a number, infinity */
    }
    if (bits > UINT64_C(0x8000000000000000)) {
        return luciole_f64_of_bits(UINT64_C(0x7ff8000000000000));
    }
    if (exponent == 0) {
        for (exponent = 1; mantissa < UINT64_C(0x0010000000000000); exponent--) {
            mantissa <<= 1;
        }
    } else {
        mantissa |= UINT64_C(0x0010000000000000);
    }
    /* value = mantissa * 2^(exponent - 1075). With an even power of two, 54 bits of the mantissa and 54 zeros give 54
       bits of the root, two digits for one; the last one is to round. */
    if ((exponent & 1) == 0) {
        mantissa <<= 1;
        exponent--;
    }
    for (int digit = 52; digit >= -54; digit -= 2) {
        const uint64_t pair = digit >= 0 ? (mantissa >> digit) & 3u : 0u;
        rest = (rest << 2) | pair;
        root <<= 1;
        if (rest > (root << 1)) {
            rest -= (root << 1) + 1;
            root++;
        }
    }
    exponent = (exponent - 1) / 2 + 512;
    return luciole_f64_of_bits(((uint64_t)exponent << 52) + ((root + 1) >> 1) - UINT64_C(0x0010000000000000));
#endif
}
"""

#: Texts and what they need, by name.
DOUBLE_HELPERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bits_of_f64": (_BITS_OF_F64, ()),
    "f64_of_bits": (_F64_OF_BITS, ()),
    "abs_f64": (_ABS_F64, ("float", "bits_of_f64", "f64_of_bits")),
    "round_even_f64": (_ROUND_EVEN_F64, ("float", "bits_of_f64", "f64_of_bits")),
    "floor_f64": (_FLOOR_F64, ("round_even_f64",)),
    "sqrt_f64": (_SQRT_F64, ("float", "bits_of_f64", "f64_of_bits")),
}
