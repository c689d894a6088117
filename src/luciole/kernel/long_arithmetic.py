"""64-bit products and shifts from 32-bit ones, for cores where compilers would call a helper for them (Armv6-M).

Products are those of schoolbook multiplication with digits of 16 bits; every partial sum fits 32 bits.
"""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.builder import IntrinsicBuilder, define_intrinsic
from luciole.kernel.core import INTRINSICS, Binary, Call, Cast, Constant, Define, Expr, Intrinsic, Kernel, cast, select
from luciole.kernel.intervals import interval
from luciole.kernel.rewrite import map_expressions
from luciole.kernel.walk import map_expr

I32, I64, U32, U64 = DType.I32, DType.I64, DType.U32, DType.U64

#: What the name of an intrinsic ends with when its meaning was rewritten by `expand_long_multiply`.
SUFFIX = "_narrow"


@define_intrinsic("multiply_wide", I64, a=I32, b=I32)
def multiply_wide(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """a * b without loss, from products of 32 bits.

    a = ah * 2**16 + al, b likewise, with 0 <= al, bl < 2**16. The sums `middle` and `cross` stay inside i32:
    |ah * bl| <= 2**15 * (2**16 - 1), plus at most 2**16 - 1.
    """
    al, ah = k.let("al", a & 0xFFFF), k.let("ah", a >> 16)
    bl, bh = k.let("bl", b & 0xFFFF), k.let("bh", b >> 16)
    lowest = k.let("lowest", (al.cast(U32) * bl.cast(U32)) >> 16)
    middle = k.let("middle", ah * bl + lowest.cast(I32))
    cross = k.let("cross", al * bh + (middle & 0xFFFF))
    high = k.let("high", ah * bh + (middle >> 16) + (cross >> 16))
    return (high.cast(I64) << 32) | (a * b).cast(U32).cast(I64)


@define_intrinsic("multiply_wide_unsigned", U64, a=U32, b=U32)
def multiply_wide_unsigned(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """a * b without loss, from products of 32 bits; see `multiply_wide`."""
    al, ah = k.let("al", a & 0xFFFF), k.let("ah", a >> 16)
    bl, bh = k.let("bl", b & 0xFFFF), k.let("bh", b >> 16)
    middle = k.let("middle", ah * bl + ((al * bl) >> 16))
    cross = k.let("cross", al * bh + (middle & 0xFFFF))
    high = k.let("high", ah * bh + (middle >> 16) + (cross >> 16))
    return (high.cast(U64) << 32) | (a * b).cast(U64)


def _upper_digits(k: IntrinsicBuilder, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """(high, cross) with a * b = high * 2**32 + cross * 2**16 + a number of 16 bits; digits as in `multiply_wide`."""
    al, ah = k.let("al", a & 0xFFFF), k.let("ah", a >> 16)
    bl, bh = k.let("bl", b & 0xFFFF), k.let("bh", b >> 16)
    lowest = k.let("lowest", (al.cast(U32) * bl.cast(U32)) >> 16)
    middle = k.let("middle", ah * bl + lowest.cast(I32))
    cross = k.let("cross", al * bh + (middle & 0xFFFF))
    return k.let("high", ah * bh + (middle >> 16)), cross


@define_intrinsic("multiply_add_high_narrow", I32, a=I32, b=I32, addend=I32)
def multiply_add_high_narrow(k: IntrinsicBuilder, a: Expr, b: Expr, addend: Expr) -> Expr:
    """What `multiply_add_high` is rewritten to: addend + a * b / 2**32, rounded to nearest, halves up.

    As `multiply_wide`, but the low word is never made: its highest bit, which rounds, is bit 15 of `cross`. The shift
    before the sum of `cross` and one half keeps that sum inside i32.
    """
    high, cross = _upper_digits(k, a, b)
    return addend + (high + (((cross >> 15) + 1) >> 1))


@define_intrinsic("high_multiply_narrow", I32, a=I32, b=I32)
def high_multiply_narrow(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """What `high_multiply` is rewritten to: a * b / 2**31, rounded to nearest, halves up; see above."""
    high, cross = _upper_digits(k, a, b)
    return (high << 1) + (((cross >> 14) + 1) >> 1)


@define_intrinsic("multiply_long", U64, a=U64, b=U64)
def multiply_long(k: IntrinsicBuilder, a: Expr, b: Expr) -> Expr:
    """The low 64 bits of a * b: al * bl + (ah * bl + al * bh) * 2**32 with digits of 32 bits."""
    al, ah = k.let("al", a.cast(U32)), k.let("ah", (a >> 32).cast(U32))
    bl, bh = k.let("bl", b.cast(U32)), k.let("bh", (b >> 32).cast(U32))
    return multiply_wide_unsigned(al, bl) + ((ah * bl + al * bh).cast(U64) << 32)


@define_intrinsic("shift_left_long", U64, value=U64, amount=U32)
def shift_left_long(k: IntrinsicBuilder, value: Expr, amount: Expr) -> Expr:
    """value << amount for 0 <= amount <= 63, in words: what leaves the low word enters the high one."""
    near = k.let("near", amount & 31)
    low, high = k.let("low", value.cast(U32)), k.let("high", (value >> 32).cast(U32))
    low_near = k.let("low_near", low << near)
    high_near = k.let("high_near", (high << near) | ((low >> 1) >> (31 - near)))
    is_far = k.let("is_far", amount >= 32)
    high_result = select(is_far, low_near, high_near)
    return (high_result.cast(U64) << 32) | select(is_far, 0, low_near).cast(U64)


@define_intrinsic("shift_right_long", I64, value=I64, amount=U32)
def shift_right_long(k: IntrinsicBuilder, value: Expr, amount: Expr) -> Expr:
    """value >> amount for 0 <= amount <= 63, with the sign, in words: what leaves the high word enters the low one."""
    near = k.let("near", amount & 31)
    low, high = k.let("low", value.cast(U32)), k.let("high", (value >> 32).cast(I32))
    high_near = k.let("high_near", high >> near.cast(I32))
    low_near = k.let("low_near", (low >> near) | ((high.cast(U32) << 1) << (31 - near)))
    is_far = k.let("is_far", amount >= 32)
    high_result = select(is_far, high >> 31, high_near)
    return (high_result.cast(I64) << 32) | select(is_far, high_near.cast(U32), low_near).cast(I64)


@define_intrinsic("shift_right_long_unsigned", U64, value=U64, amount=U32)
def shift_right_long_unsigned(k: IntrinsicBuilder, value: Expr, amount: Expr) -> Expr:
    """value >> amount for 0 <= amount <= 63, see `shift_right_long`."""
    near = k.let("near", amount & 31)
    low, high = k.let("low", value.cast(U32)), k.let("high", (value >> 32).cast(U32))
    high_near = k.let("high_near", high >> near)
    low_near = k.let("low_near", (low >> near) | ((high << 1) << (31 - near)))
    is_far = k.let("is_far", amount >= 32)
    return (select(is_far, 0, high_near).cast(U64) << 32) | select(is_far, high_near, low_near).cast(U64)


_PARTS = frozenset(
    ["multiply_wide", "multiply_wide_unsigned", "multiply_long"]
    + ["shift_left_long", "shift_right_long", "shift_right_long_unsigned"]
)


def expand_long_multiply(kernel: Kernel) -> Kernel:
    """Replace 64-bit products and shifts by a variable amount with intrinsics of 32-bit operations.

        y[i] = i32(i64(a) * i64(b) >> 31)   ->   y[i] = i32(multiply_wide(a, b) >> 31)
        y[i] = i32(i64(a) >> s)             ->   y[i] = i32(shift_right_long(i64(a), u32(s)))
        y[i] = high_multiply(a, b)          ->   y[i] = high_multiply_narrow(a, b)

    The last form is for intrinsics with such operations in their meaning. Products by a power of two become shifts.
    """
    return map_expressions(kernel, lambda expr: map_expr(expr, _expand))


def narrow_intrinsic(intrinsic: Intrinsic) -> Intrinsic:
    """The intrinsic with the products in its meaning expanded: itself when there are none.

    The new one is called by the old name and `SUFFIX`, is known to the parser, and has no spelling for any feature.
    """
    if intrinsic.name in _PARTS or intrinsic.name.endswith(SUFFIX):
        return intrinsic
    definitions = tuple(Define(d.variable, map_expr(d.value, _expand)) for d in intrinsic.definitions)
    result = map_expr(intrinsic.result, _expand)
    if definitions == intrinsic.definitions and result == intrinsic.result:
        return intrinsic
    name = intrinsic.name + SUFFIX
    return INTRINSICS.setdefault(name, Intrinsic(name, intrinsic.parameters, intrinsic.dtype, definitions, result))


def _expand(expr: Expr) -> Expr | None:
    match expr:
        case Binary("mul") if expr.dtype in (I64, U64):
            return _product(expr.a, expr.b, expr.dtype)
        case Binary("shift_left" | "shift_right") if expr.dtype in (I64, U64) and not isinstance(expr.b, Constant):
            return _shift(expr)
        case Call():
            narrow = narrow_intrinsic(expr.intrinsic)
            return None if narrow is expr.intrinsic else Call(narrow, expr.arguments)
    return None


def _product(a: Expr, b: Expr, dtype: DType) -> Expr:
    for constant, other in ((a, b), (b, a)):
        if isinstance(constant, Constant) and int(constant.value) > 0 and int(constant.value).bit_count() == 1:
            return other << int(constant.value).bit_length() - 1
    bounds = interval(a, {}), interval(b, {})
    if all(x.fits(I32) for x in bounds):
        return cast(multiply_wide(_narrowed(a, I32), _narrowed(b, I32)), dtype)
    if all(x.fits(U32) for x in bounds):
        return cast(multiply_wide_unsigned(_narrowed(a, U32), _narrowed(b, U32)), dtype)
    return cast(multiply_long(cast(a, U64), cast(b, U64)), dtype)


def _shift(expr: Binary) -> Expr:
    amount = _narrowed(expr.b, U32)
    if expr.operation == "shift_left":
        return cast(shift_left_long(cast(expr.a, U64), amount), expr.dtype)
    return (shift_right_long if expr.dtype is I64 else shift_right_long_unsigned)(expr.a, amount)


def _narrowed(expr: Expr, dtype: DType) -> Expr:
    """A 64-bit expression whose value fits `dtype`, in that type; conversions to 64 bits fall away."""
    if isinstance(expr, Cast) and not expr.a.dtype.is_float and expr.a.dtype.bits <= 32:
        return cast(expr.a, dtype)
    return cast(expr, dtype)
