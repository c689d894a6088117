"""Kernel expressions as C99 expressions: typed, without undefined behavior, with few parentheses.

Signed arithmetic that may overflow is done in the unsigned type of the same width and converted back; where the bounds
of the operands show that it cannot overflow it prints plainly, and so does that of `INDEX`, which never overflows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from luciole.emit.c_prelude import REGISTER_TYPES
from luciole.emit.c_vectors import VectorFunction, vector_value
from luciole.errors import InternalError
from luciole.ir.types import DType, row_major_strides
from luciole.kernel.core import (
    Address,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Constant,
    Expr,
    Intrinsic,
    Load,
    Parameter,
    Read,
    Select,
    Unary,
    Variable,
    wrap,
)
from luciole.kernel.intervals import Interval, binary_interval, decide, interval
from luciole.kernel.vectors import Dot, Reduce

#: Binding strengths of C, strongest last; shifts and bitwise operators mix only with parentheses, as compilers want.
CONDITION, OR, AND, BITS, COMPARISON, SHIFT, SUM, PRODUCT, UNARY, PRIMARY = range(10)

_INFIX: dict[str, tuple[str, int]] = {
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", PRODUCT),
    "divide": ("/", PRODUCT),
    "remainder": ("%", PRODUCT),
    "and": ("&", BITS),
    "or": ("|", BITS),
    "xor": ("^", BITS),
    "shift_left": ("<<", SHIFT),
    "shift_right": (">>", SHIFT),
}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_LOGICAL = {"and": ("&&", AND), "or": ("||", OR), "min": ("&&", AND), "max": ("||", OR), "xor": ("!=", COMPARISON)}
#: Operations whose low bits depend on low bits only.
_MODULAR = ("add", "sub", "mul")


@dataclass(frozen=True)
class Text:
    """A C expression, how strongly its outermost operator binds, and which operator it is."""

    text: str
    strength: int
    sign: str = ""

    def at(self, strength: int) -> str:
        """The expression in a place that wants at least this strength."""
        return self.text if self.strength >= strength else f"({self.text})"


def f32_literal(value: float) -> str:
    """A finite float constant in decimal, with the fewest digits that give back the same float32."""
    shown = str(np.float32(value))
    return shown + ("f" if "." in shown or "e" in shown else ".0f")


def f64_literal(value: float) -> str:
    """A finite double constant in decimal, with the fewest digits that give back the same float64."""
    return repr(float(value))


def float_literal(value: float, dtype: DType) -> str:
    """A finite constant of a floating-point type in decimal."""
    return f64_literal(value) if dtype is DType.F64 else f32_literal(value)


@dataclass
class ExpressionPrinter:
    """Prints the expressions of one function and remembers what they use.

    `names` maps registers and buffers to C names; `known` has bounds of registers. `used` collects names of helpers,
    `vector_functions` and `vector_intrinsics` those on vectors, `read` the registers and buffers that appear.
    """

    names: Mapping[str, str]
    parameters: Mapping[str, Parameter]
    known: dict[str, Interval] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    vector_functions: set[VectorFunction] = field(default_factory=set)
    vector_intrinsics: dict[VectorFunction, Intrinsic] = field(default_factory=dict)

    def value(self, expr: Expr) -> str:
        """The expression in a place that takes any: an argument, the right side of an assignment."""
        return self.exact(expr).text

    def exact(self, expr: Expr) -> Text:
        """A C expression of the register type of `expr` (narrow constants and truth values: `int`) and of its value."""
        if not isinstance(expr, Variable) and (expr.lanes > 1 or isinstance(expr, Dot | Reduce)):
            return Text(vector_value(self, expr), PRIMARY)
        match expr:
            case Constant():
                return self._constant(expr)
            case Variable():
                self.read.add(expr.name)
                return Text(self.names[expr.name], PRIMARY)
            case Binary():
                return self._binary(expr)
            case Unary():
                return self._unary(expr)
            case Compare():
                return self._compare(expr)
            case Select():
                return self._select(expr)
            case Cast():
                return self._cast(expr)
            case Bitcast():
                return self._bitcast(expr)
            case Load():
                text = f"{self._name(expr.buffer)}[{self.element(expr.buffer, expr.indices)}]"
                return Text(f"{text} != 0", COMPARISON) if expr.dtype is DType.BOOL else Text(text, PRIMARY)
            case Address():
                return self._address(expr)
            case Read():
                return self._function(
                    f"read_{_word(expr.dtype)}_{expr.alignment}", self.address(expr.pointer, expr.offset)
                )
            case Call():
                return self._call(expr)
        raise InternalError(f"no C for {type(expr).__name__}")

    def element(self, buffer: str, indices: tuple[Expr, ...]) -> str:
        """The flat index of an element of a buffer."""
        shape = self.parameters[buffer].shape
        flat: Expr = Constant(0, DType.INDEX)
        for index, stride in zip(indices, row_major_strides(shape), strict=True):
            flat = flat + index * stride
        return self.value(flat)

    def address(self, pointer: Expr, offset: int) -> str:
        """A pointer plus a constant number of bytes."""
        return self.value(pointer + offset)

    def _name(self, name: str) -> str:
        self.read.add(name)
        return self.names[name]

    def _function(self, name: str, *arguments: str) -> Text:
        self.used.add(name)
        return Text(f"luciole_{name}({', '.join(arguments)})", PRIMARY)

    def _constant(self, expr: Constant) -> Text:
        if expr.dtype.is_float:
            self.used.add("float")
            value = np.array(expr.value, expr.dtype.numpy)
            if not np.isfinite(value):
                bits = int(value.view(f"u{expr.dtype.size_bytes}"))
                literal = f"0x{bits:08x}u" if expr.dtype is DType.F32 else f"UINT64_C(0x{bits:016x})"
                return self._function(f"{expr.dtype.value}_of_bits", literal)
            return Text(float_literal(float(value), expr.dtype), UNARY if np.signbit(value) else PRIMARY)
        number = int(expr.value)
        if expr.dtype in (DType.I32, DType.INDEX, DType.I64) and number == expr.dtype.limits[0]:
            # The literal without its sign has no type: the least number is written as a difference.
            return Text(f"{_literal(number + 1, expr.dtype)} - 1", SUM, "-")
        return Text(_literal(number, expr.dtype), UNARY if number < 0 else PRIMARY)

    # Integer arithmetic

    def _binary(self, expr: Binary) -> Text:
        operation, dtype = expr.operation, expr.dtype
        if dtype is DType.POINTER or (dtype.is_float and operation not in ("min", "max")):
            self.used.update(["float"] if dtype.is_float else [])
            return self._infix(operation, expr.a, expr.b)
        if dtype is DType.BOOL:
            return self._logical(expr)
        if operation == "min" and (saturated := _saturated_byte(expr)) is not None:
            return self._function("saturate_8", self.value(saturated))
        if operation in ("min", "max"):
            return self._function(f"{operation}_{_word(dtype)}", self.value(expr.a), self.value(expr.b))
        if operation in _MODULAR or operation == "shift_left":
            if _is_plain(expr, self.known):
                return self._narrow(self._infix(operation, expr.a, expr.b), dtype)
            return self._signed(self._modular(expr, _wide(dtype)), dtype)
        if operation in ("divide", "remainder") and not _is_power_of_two(expr.b):
            # Narrow types are promoted to `int`, as C would.
            word = dtype.value if dtype.bits == 64 or dtype is DType.U32 else "i32"
            return self._narrow(self._function(f"{operation}_{word}", self.value(expr.a), self.value(expr.b)), dtype)
        return self._narrow(self._infix(operation, expr.a, expr.b), dtype)

    def _infix(self, operation: str, a: Expr, b: Expr) -> Text:
        sign, strength = _INFIX[operation]
        if (
            operation in ("add", "sub")
            and isinstance(b, Constant)
            and b.dtype in _NEGATABLE
            and b.dtype.limits[0] < b.value < 0
        ):
            sign, b = "-" if sign == "+" else "+", Constant(-b.value, b.dtype)
        right = self._amount(b) if strength == SHIFT else self.exact(b)
        return self._join(self.exact(a), sign, strength, right)

    def _amount(self, expr: Expr) -> Text:
        """A shift's amount, which may have any type in C."""
        return Text(str(expr.value), PRIMARY) if isinstance(expr, Constant) else self.exact(expr)

    def _join(self, left: Text, sign: str, strength: int, right: Text) -> Text:
        """Two operands around an operator, in parentheses where precedence or a compiler's warning asks for them."""
        weakest = {"<<": UNARY, ">>": UNARY, "&": UNARY, "|": UNARY, "^": UNARY, "&&": BITS + 1, "||": BITS + 1}
        lower = weakest.get(sign, strength)
        left_text = left.text if left.sign == sign and sign in ("&", "|", "^", "&&", "||") else left.at(lower)
        return Text(f"{left_text} {sign} {right.at(max(lower, strength + 1))}", strength, sign)

    def _modular(self, expr: Expr, bits: int) -> Text:
        """An expression of type `uint<bits>_t` that agrees with `expr` in the low bits of expr's type."""
        unsigned = f"uint{bits}_t"
        if isinstance(expr, Constant):
            number = int(expr.value) % (1 << bits)
            return Text(_literal(number, DType.U32 if bits == 32 else DType.U64), PRIMARY)
        if expr.dtype in (DType.U32, DType.U64) and expr.dtype.bits == bits and not isinstance(expr, Binary | Unary):
            return self.exact(expr)
        if isinstance(expr, Binary) and expr.dtype.is_integer and not _is_plain(expr, self.known):
            if expr.operation in _MODULAR:
                sign, strength = _INFIX[expr.operation]
                b = expr.b
                if sign in "+-" and isinstance(b, Constant) and b.value < 0:
                    sign, b = "-" if sign == "+" else "+", Constant(-b.value, DType.I64)
                return self._join(self._modular(expr.a, bits), sign, strength, self._modular(b, bits))
            if expr.operation == "shift_left":
                return self._join(self._modular(expr.a, bits), "<<", SHIFT, self._amount(expr.b))
        if isinstance(expr, Unary) and expr.operation == "neg" and self._may_wrap(expr):
            return self._negated(expr.a, bits)
        exact = self.exact(expr)
        if expr.dtype in (DType.U32, DType.U64) and expr.dtype.bits == bits:
            return exact
        return Text(f"({unsigned}){exact.at(UNARY)}", UNARY)

    def _negated(self, expr: Expr, bits: int) -> Text:
        """The negative in an unsigned type."""
        zero = Text(_literal(0, DType.U32 if bits == 32 else DType.U64), PRIMARY)
        return self._join(zero, "-", SUM, self._modular(expr, bits))

    def _signed(self, modular: Text, dtype: DType) -> Text:
        """A result of `_modular` as `dtype`."""
        if dtype in (DType.U32, DType.U64):
            return modular
        return Text(f"({REGISTER_TYPES[dtype]}){modular.at(UNARY)}", UNARY)

    def _narrow(self, text: Text, dtype: DType) -> Text:
        """The result of an operation on types narrower than C's arithmetic, back in its type."""
        if dtype.is_integer and dtype.bits < 32:
            return Text(f"({REGISTER_TYPES[dtype]}){text.at(UNARY)}", UNARY)
        return text

    def _unary(self, expr: Unary) -> Text:
        operation, dtype = expr.operation, expr.dtype
        if operation == "neg" and isinstance(expr.a, Constant) and dtype.is_integer:
            return self._constant(Constant(wrap(-int(expr.a.value), dtype), dtype))
        if dtype.is_float and operation != "neg":
            suffix = "_f64" if dtype is DType.F64 else ""
            return self._function(operation + suffix, self.value(expr.a))
        if operation == "not" and dtype is DType.BOOL:
            return Text(f"!{self.exact(expr.a).at(UNARY)}", UNARY)
        if operation == "neg" and dtype.is_integer and dtype is not DType.INDEX and self._may_wrap(expr):
            return self._signed(self._negated(expr.a, _wide(dtype)), dtype)
        inner = self.exact(expr.a).at(UNARY)
        if operation == "not" and isinstance(expr.a, Cast) and expr.a.a.dtype is DType.BOOL:
            # Compilers suspect a mistake in the complement of a truth value.
            inner = f"({REGISTER_TYPES[dtype]})({self.exact(expr.a.a).at(OR)} ? 1 : 0)"
        inner = f"({inner})" if inner.startswith("-") else inner
        self.used.update(["float"] if dtype.is_float else [])
        return self._narrow(Text(("-" if operation == "neg" else "~") + inner, UNARY), dtype)

    # Truth values, selections, conversions

    def _logical(self, expr: Binary) -> Text:
        sign, strength = _LOGICAL[expr.operation]
        for constant, other in ((expr.a, expr.b), (expr.b, expr.a)):
            if isinstance(constant, Constant) and sign != "!=":
                return self.exact(other if bool(constant.value) is (sign == "&&") else constant)
        a, b = self.exact(expr.a), self.exact(expr.b)
        if sign == "!=":
            return Text(f"{a.at(PRIMARY)} != {b.at(PRIMARY)}", COMPARISON)
        return self._join(a, sign, strength, b)

    def _compare_truth(self, expr: Compare) -> Text:
        """A comparison of two truth values, false before true, in logical operators."""
        if expr.operation in ("eq", "ne"):
            sign = _COMPARISONS[expr.operation]
            return Text(f"{self.exact(expr.a).at(PRIMARY)} {sign} {self.exact(expr.b).at(PRIMARY)}", COMPARISON)
        is_less, sign, strength = {
            "lt": (True, "&&", AND),
            "le": (True, "||", OR),
            "gt": (False, "&&", AND),
            "ge": (False, "||", OR),
        }[expr.operation]
        a, b = (Unary("not", expr.a), expr.b) if is_less else (expr.a, Unary("not", expr.b))
        return self._join(self.exact(a), sign, strength, self.exact(b))

    def _compare(self, expr: Compare) -> Text:
        decided = decide(expr, self.known)
        if decided is None and expr.a == expr.b and not expr.a.dtype.is_float:
            decided = expr.operation in ("eq", "le", "ge")
        if decided is not None:
            # Compilers warn of comparisons that have only one outcome.
            return Text(str(int(decided)), PRIMARY)
        if expr.a.dtype is DType.BOOL:
            return self._compare_truth(expr)
        a, b = self.exact(expr.a), self.exact(expr.b)
        return Text(f"{a.at(SUM)} {_COMPARISONS[expr.operation]} {b.at(SUM)}", COMPARISON)

    def _may_wrap(self, expr: Unary) -> bool:
        """Whether a negation may leave its type: that of the least signed number, or of any unsigned one."""
        return not expr.dtype.is_signed or interval(expr.a, self.known).low == expr.dtype.limits[0]

    def _select(self, expr: Select) -> Text:
        condition, a, b = self.exact(expr.condition), self.exact(expr.a), self.exact(expr.b)
        text = f"{condition.at(OR)} ? {a.at(OR)} : {b.at(OR)}"
        return self._narrow(Text(text, CONDITION), expr.dtype)

    def _cast(self, expr: Cast) -> Text:
        source, target = expr.a.dtype, expr.dtype
        self.used.update(["float"] if source.is_float or target.is_float else [])
        if target is DType.BOOL:
            if source is DType.BOOL:
                return self.exact(expr.a)
            return Text(f"{self.exact(expr.a).at(SUM)} != 0", COMPARISON)
        if REGISTER_TYPES[source] == REGISTER_TYPES[target]:
            return self.exact(expr.a)
        if isinstance(expr.a, Constant) and not source.is_float and not target.is_float:
            return self._constant(Constant(wrap(int(expr.a.value), target), target))
        if source is DType.BOOL or source.is_float or target.is_float or target.bits > source.bits:
            return Text(f"({REGISTER_TYPES[target]}){self.exact(expr.a).at(UNARY)}", UNARY)
        if source.bits == target.bits and target in (DType.U32, DType.U64):
            return self._modular(expr.a, target.bits)
        # Truncation: only the low bits of the operand matter.
        inner = (
            self._modular(expr.a, 32 if source.bits <= 32 else 64) if _wraps(expr.a, self.known) else self.exact(expr.a)
        )
        return Text(f"({REGISTER_TYPES[target]}){inner.at(UNARY)}", UNARY)

    def _bitcast(self, expr: Bitcast) -> Text:
        source, target = expr.a.dtype, expr.dtype
        if source is target:
            return self.exact(expr.a)
        if source.is_float:
            bits = self._function(f"bits_of_{source.value}", self.value(expr.a))
            return self._signed(bits, target)
        if target.is_float:
            return self._function(f"{target.value}_of_bits", self._modular(expr.a, target.bits).text)
        return Text(f"({REGISTER_TYPES[target]}){self.exact(expr.a).at(UNARY)}", UNARY)

    # Memory and calls

    def _address(self, expr: Address) -> Text:
        parameter = self.parameters[expr.buffer]
        name = self._name(expr.buffer)
        constness = "const " if parameter.kind == "in" else ""
        base = Text(f"({constness}unsigned char *){name}", UNARY)
        if isinstance(expr.offset, Constant) and expr.offset.value == 0:
            return base
        return self._join(base, "+", SUM, self.exact(expr.offset))

    def _call(self, expr: Call) -> Text:
        return Text(f"luciole_{expr.intrinsic.name}({', '.join(self.value(a) for a in expr.arguments)})", PRIMARY)


_NEGATABLE = (DType.I8, DType.I16, DType.I32, DType.I64, DType.INDEX)


def _literal(number: int, dtype: DType) -> str:
    """A decimal literal of the type; narrow types have literals of type `int`."""
    match dtype:
        case DType.U32:
            return f"{number}u"
        case DType.U64:
            return f"UINT64_C({number})"
        case DType.I64:
            return f"INT64_C({number})" if number >= 0 else f"-INT64_C({-number})"
    return str(number)


def _word(dtype: DType) -> str:
    """The type's name within a helper's name; an index is an `int32_t`."""
    return "i32" if dtype is DType.INDEX else dtype.value


def _wide(dtype: DType) -> int:
    """Width of the unsigned type in which wrapping arithmetic of a type is done."""
    return 64 if dtype.bits == 64 else 32


def _saturated_byte(expr: Binary) -> Expr | None:
    """What is moved into -128..127: v of min(max(v, -128), 127)."""
    low = expr.a
    if expr.dtype is not DType.I32 or expr.b != Constant(127, DType.I32):
        return None
    if not isinstance(low, Binary) or low.operation != "max" or low.b != Constant(-128, DType.I32):
        return None
    return low.a


def _is_power_of_two(expr: Expr) -> bool:
    """Whether a divisor is a positive power of two, so that every core divides by shifts."""
    return isinstance(expr, Constant) and int(expr.value) > 0 and int(expr.value).bit_count() == 1


def _is_plain(expr: Binary, known: Mapping[str, Interval]) -> bool:
    """Whether a sum, difference, product or left shift can print as such: it cannot overflow."""
    if expr.operation == "shift_left" and (expr.dtype.is_signed or expr.dtype.bits < 32):
        if interval(expr.a, known).low < 0:
            return False
    elif expr.dtype is DType.INDEX:
        return True
    bounds = binary_interval(expr, known)
    return bounds is not None and bounds.fits(expr.dtype)


def _wraps(expr: Expr, known: Mapping[str, Interval]) -> bool:
    return isinstance(expr, Binary) and expr.operation in (*_MODULAR, "shift_left") and not _is_plain(expr, known)
