"""Tokens and expressions of kernel text; `luciole.kernel.parse` reads statements and kernels with them."""

from __future__ import annotations

import re
from typing import NoReturn

from luciole.errors import printable
from luciole.ir.text import MAXIMUM_NUMBER_LENGTH, TextScanner, Token, float_value
from luciole.ir.types import DType
from luciole.kernel.core import (
    INTRINSICS,
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
    Splat,
    Unary,
    Variable,
)
from luciole.kernel.expressions import type_text
from luciole.kernel.vectors import MAXIMUM_LANES, REDUCTIONS, ActiveLanes, Dot, Gather, Lanes, Reduce

#: Infix operators: how they are written, what they are, and how strongly they bind; larger binds more.
INFIX: dict[str, tuple[str, int]] = {
    "or": ("or", 1),
    "xor": ("xor", 2),
    "and": ("and", 3),
    "==": ("eq", 5),
    "!=": ("ne", 5),
    "<": ("lt", 5),
    "<=": ("le", 5),
    ">": ("gt", 5),
    ">=": ("ge", 5),
    "|": ("or", 6),
    "^": ("xor", 7),
    "&": ("and", 8),
    "<<": ("shift_left", 9),
    ">>": ("shift_right", 9),
    "+": ("add", 10),
    "-": ("sub", 10),
    "*": ("mul", 11),
    "/": ("divide", 11),
    "%": ("remainder", 11),
}
NOT_STRENGTH, COMPARISON_STRENGTH, UNARY_STRENGTH, PRIMARY_STRENGTH = 4, 5, 12, 13
FUNCTIONS = ("min", "max")
UNARY_FUNCTIONS = ("abs", "floor", "round_even", "sqrt")

#: Words that names cannot be without quotes.
KEYWORDS = frozenset(
    ["and", "else", "false", "fence", "for", "if", "in", "inf", "inout", "nan", "not", "or", "out"]
    + ["repeat", "step", "true", "while", "workspace", "xor", "write"]
)
#: Names that call something when a parenthesis follows; no intrinsic may have one.
BUILT_IN = frozenset(
    [*FUNCTIONS, *UNARY_FUNCTIONS, "select", "address", "bitcast", "read", "active", "gather", "dot", "lanes"]
    + [*(f"reduce_{operation}" for operation in REDUCTIONS), *(d.value for d in DType)]
)

_TOKEN = re.compile(
    r"""
      (?P<line>\r?\n[ ]*)
    | (?P<blank>[ \t]+)
    | (?P<comment>\#[^\r\n]*)
    | (?P<string>"(?:[^"\\\r\n]|\\.)*")
    | (?P<range>\.\.)
    | (?P<number>(?:[0-9]+\.[0-9]+(?:e[-+]?[0-9]+)?|[0-9]+(?:e[-+]?[0-9]+)?)
        (?:(?:[iu](?:8|16|32|64)|f(?:32|64)|index)(?![A-Za-z0-9_]))?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<mark><<|>>|==|!=|<=|>=|[][(),:=.<>+*/%&|^~-])
    """,
    re.VERBOSE,
)
_VECTOR_TYPE = re.compile(r"([a-z]+[0-9]*)x([1-9][0-9]{0,2})")
_SUFFIX = re.compile(r"([0-9.]+(?:e[-+]?[0-9]+)?)([a-z]\w*)?")

#: How deep expressions and statements may nest together; a bound on hostile text.
MAXIMUM_DEPTH = 100


class _Literal(Expr):
    """A number whose type the context has yet to say."""

    def __init__(self, text: str, offset: int) -> None:
        self.text = text
        self.offset = offset


def _type_of(word: str) -> tuple[DType, int] | None:
    """Element type and lanes that a word such as `i32` or `i8x16` names."""
    match = _VECTOR_TYPE.fullmatch(word)
    name, lanes = (match[1], int(match[2])) if match else (word, 1)
    is_type = name in (d.value for d in DType) and (match is None or (name != "pointer" and lanes > 1))
    return (DType(name), lanes) if is_type and lanes <= MAXIMUM_LANES else None


def _text_of(expr: Expr) -> str:
    """An expression's type in messages."""
    return type_text(expr.dtype, expr.lanes)


class ExpressionParser(TextScanner):
    """Reads expressions over the buffers and registers that the text has named so far."""

    pattern = _TOKEN
    error_code = "kernel-syntax"
    default_file = "kernel text"

    def __init__(self, text: str, file: str = "", first_line: int = 1) -> None:
        super().__init__(text, file, first_line)
        self.buffers: dict[str, Parameter] = {}
        self.variables: dict[str, Variable] = {}
        self.depth = 0

    def scan(self) -> list[Token]:
        """Tokens without the ends of lines that are empty or lie within brackets."""
        kept: list[Token] = []
        brackets = 0
        for token in super().scan():
            if token.kind == "line":
                if brackets == 0:
                    if kept and kept[-1].kind == "line":
                        kept.pop()
                    kept.append(token)
                continue
            if token.kind == "mark":
                brackets += (token.text in ("(", "[")) - (token.text in (")", "]"))
            kept.append(token)
        return kept

    # Expressions

    def typed(self, dtype: DType, lanes: int = 1) -> Expr:
        """An expression that must have the type."""
        offset = self.peek().offset
        expr = self._resolved(self._expression(0), dtype, lanes)
        if expr.dtype is not dtype or expr.lanes != lanes:
            self.fail(f"expected {type_text(dtype, lanes)}, found {_text_of(expr)}", offset)
        return expr

    def _expression(self, strength: int) -> Expr:
        """An expression of operators that bind at least as strongly as `strength`."""
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            self.fail("too many levels")
        left = self._prefix()
        while True:
            token = self.peek()
            known = INFIX.get(token.text) if token.kind in ("mark", "word") else None
            if known is None or known[1] < strength:
                break
            self.next()
            operation, bound = known
            left = self._combine(token, operation, bound, left, self._expression(bound + 1))
        self.depth -= 1
        return left

    def _combine(self, token: Token, operation: str, strength: int, a: Expr, b: Expr) -> Expr:
        is_pointer = not isinstance(a, _Literal) and a.dtype is DType.POINTER
        if is_pointer and operation in ("add", "sub"):
            b = self._resolved(b, DType.INDEX)
            if b.dtype is not DType.INDEX:
                self.fail(f"a pointer moves by an index, not by {b.dtype.value}", token.offset)
            return Binary(operation, a, b)
        a, b = self._alike(token, a, b)
        return Compare(operation, a, b) if strength == COMPARISON_STRENGTH else Binary(operation, a, b)

    def _prefix(self) -> Expr:
        token = self.peek()
        if token.kind == "mark" and token.text in ("-", "~"):
            self.next()
            if token.text == "-" and (self.peek().kind == "number" or self.peek().text == "inf"):
                return self._number("-")
            operand = self._known(self._expression(UNARY_STRENGTH), token.offset)
            return Unary("neg" if token.text == "-" else "not", operand)
        if token.kind == "word" and token.text == "not":
            self.next()
            return Unary("not", self._known(self._expression(NOT_STRENGTH + 1), token.offset))
        if token.kind == "number" or (token.kind == "word" and token.text in ("inf", "nan")):
            return self._number("")
        if self.accept("("):
            expr = self._expression(0)
            self.expect(")")
            return expr
        if token.kind == "word" and token.text in ("true", "false"):
            self.next()
            return Constant(int(token.text == "true"), DType.BOOL)
        name = self.name("an expression")
        if token.kind == "word" and self.peek().text in ("(", ".") and self.peek().kind == "mark":
            return self._call(token)
        if self.peek().text == "[" and self.peek().kind == "mark":
            buffer = self.buffer(name, token.offset)
            return Load(name, self.indices(buffer), buffer.dtype)
        return self.variable(name, token.offset)

    def _number(self, sign: str) -> Expr:
        token = self.next()
        match = _SUFFIX.fullmatch(token.text)
        literal = _Literal(sign + (match[1] if match else token.text), token.offset)
        return self._resolved(literal, DType(match[2])) if match and match[2] else literal

    def _resolved(self, expr: Expr, dtype: DType, lanes: int = 1) -> Expr:
        """A literal as a constant of the type, in so many lanes; any other expression as it is."""
        if not isinstance(expr, _Literal):
            return expr
        if lanes > 1:
            return Splat(self._resolved(expr, dtype), lanes)
        if len(expr.text) > MAXIMUM_NUMBER_LENGTH:
            self.fail("the number is too long", expr.offset)
        if dtype.is_float:
            return Constant(float_value(expr.text, is_double=dtype is DType.F64), dtype)
        if not dtype.is_integer or not expr.text.lstrip("-").isdecimal():
            self.fail(f"{expr.text} is not {dtype.value}", expr.offset)
        low, high = dtype.limits
        number = int(expr.text)
        if not low <= number <= high:
            self.fail(f"{expr.text} is not in the range of {dtype.value}, {low}..{high}", expr.offset)
        return Constant(number, dtype)

    def _known(self, expr: Expr, offset: int) -> Expr:
        """An expression whose type must be clear without context."""
        if isinstance(expr, _Literal):
            self.fail("the number needs a type, as in 1i32", offset)
        return expr

    def _call(self, token: Token) -> Expr:
        match token.text:
            case "read":
                return self.access()
            case "bitcast":
                self.expect(".")
                dtype, lanes = self.type()
                operand = self._one(token)
                self._check_lanes(token, operand, lanes)
                return Bitcast(operand, dtype)
            case "active":
                return self._active(token)
            case "gather":
                return self._gather(token)
            case "dot":
                return self._dot()
            case "lanes":
                return self._lanes(token)
            case "address":
                return self._address()
            case "select":
                self.expect("(")
                condition = self._condition()
                self.expect(",")
                a, b = self._two(token)
                self._check_lanes(token, condition, a.lanes)
                return Select(condition, a, b)
            case "min" | "max":
                self.expect("(")
                return Binary(token.text, *self._two(token))
        if token.text in UNARY_FUNCTIONS:
            return Unary(token.text, self._one(token))
        if token.text.startswith("reduce_") and token.text.removeprefix("reduce_") in REDUCTIONS:
            return Reduce(token.text.removeprefix("reduce_"), self._one(token))
        type = _type_of(token.text)
        if type is not None:
            return self._conversion(token, *type)
        intrinsic = INTRINSICS.get(token.text)
        if intrinsic is None:
            self.fail(f"no intrinsic is named {printable(token.text)}", token.offset)
        return Call(intrinsic, self._arguments(intrinsic))

    def _condition(self) -> Expr:
        """A truth value, or a vector of them."""
        offset = self.peek().offset
        expr = self._known(self._expression(0), offset)
        if expr.dtype is not DType.BOOL:
            self.fail(f"expected bool, found {_text_of(expr)}", offset)
        return expr

    def _check_lanes(self, token: Token, expr: Expr, lanes: int) -> None:
        if expr.lanes != lanes:
            self.fail(f"{token.text} of {lanes} lanes and {_text_of(expr)}", token.offset)

    def _conversion(self, token: Token, dtype: DType, lanes: int) -> Expr:
        """`i32(x)`, `i32x4(v)`: another element type; `i32x4(s)`: a scalar of that type in all lanes."""
        if lanes == 1:
            operand = self._one(token)
            self._check_lanes(token, operand, 1)
            return Cast(operand, dtype)
        self.expect("(")
        operand = self._resolved(self._expression(0), dtype)
        self.expect(")")
        if operand.lanes > 1:
            self._check_lanes(token, operand, lanes)
            return Cast(operand, dtype)
        if operand.dtype is not dtype:
            self.fail(f"{token.text} of {_text_of(operand)}", token.offset)
        return Splat(operand, lanes)

    def _active(self, token: Token) -> Expr:
        self.expect(".")
        dtype, lanes = self.type()
        if dtype is not DType.BOOL or lanes == 1:
            self.fail("a mask is a vector of bool", token.offset)
        self.expect("(")
        count = self.typed(DType.INDEX)
        self.expect(")")
        return ActiveLanes(count, lanes)

    def _gather(self, token: Token) -> Expr:
        self.expect(".")
        dtype, lanes = self.type()
        self.expect("(")
        pointer = self.typed(DType.POINTER)
        self.expect(",")
        offsets = self._known(self._expression(0), self.peek().offset)
        self._check_lanes(token, offsets, lanes)
        mask = self._mask(lanes) if self.accept(",") and self.accept("mask") else None
        self.expect(")")
        return Gather(pointer, offsets, dtype, mask)

    def _mask(self, lanes: int) -> Expr:
        """`=m` behind the word `mask`."""
        self.expect("=")
        return self.typed(DType.BOOL, lanes)

    def _operands(self) -> list[Expr]:
        """`(a, b, ...)`: any number of operands, each with a type of its own."""
        operands: list[Expr] = []
        self.expect("(")
        while not operands or not self.accept(")"):
            if operands:
                self.expect(",")
            offset = self.peek().offset
            operands.append(self._known(self._expression(0), offset))
        return operands

    def _dot(self) -> Expr:
        offset = self.peek().offset
        operands = self._operands()
        if len(operands) != 3:
            self.fail("dot takes 3 arguments", offset)
        return Dot(*operands)

    def _lanes(self, token: Token) -> Expr:
        elements = self._operands()
        for element in elements:
            if element.dtype is not elements[0].dtype or element.lanes != 1:
                self.fail(f"lanes of {', '.join(map(_text_of, elements))}", token.offset)
        return Lanes(tuple(elements))

    def _one(self, token: Token) -> Expr:
        """`(a)`: the argument of a function that takes any type."""
        self.expect("(")
        expr = self._known(self._expression(0), self.peek().offset)
        self.expect(")")
        return expr

    def _two(self, token: Token) -> tuple[Expr, Expr]:
        """`a, b)`: two operands of one type; a literal takes that of the other."""
        a = self._expression(0)
        self.expect(",")
        b = self._expression(0)
        self.expect(")")
        return self._alike(token, a, b)

    def _alike(self, token: Token, a: Expr, b: Expr) -> tuple[Expr, Expr]:
        if isinstance(a, _Literal):
            a = self._resolved(a, self._known(b, token.offset).dtype, b.lanes)
        b = self._resolved(b, a.dtype, a.lanes)
        if a.dtype is not b.dtype or a.lanes != b.lanes:
            self.fail(f"{token.text} of {_text_of(a)} and {_text_of(b)}", token.offset)
        return a, b

    def _arguments(self, intrinsic: Intrinsic) -> tuple[Expr, ...]:
        start = self.peek().offset
        self.expect("(")
        result: list[Expr] = []
        for parameter in intrinsic.parameters:
            if self.peek().text == ")":
                break
            if result:
                self.expect(",")
            offset = self.peek().offset
            lanes = result[0].lanes if result else 1
            argument = self._resolved(self._expression(0), parameter.dtype, lanes)
            if argument.dtype is not parameter.dtype or (result and argument.lanes != lanes):
                wanted = type_text(parameter.dtype, lanes)
                self.fail(f"expected {wanted}, found {_text_of(argument)}", offset)
            result.append(argument)
        if len(result) != len(intrinsic.parameters) or self.peek().text != ")":
            self.fail(f"{intrinsic.name} takes {len(intrinsic.parameters)} arguments", start)
        self.expect(")")
        return tuple(result)

    def _address(self) -> Expr:
        self.expect("(")
        offset = self.peek().offset
        buffer = self.buffer(self.name("a buffer"), offset)
        distance: Expr = Constant(0, DType.INDEX)
        if self.accept(","):
            distance = self.typed(DType.INDEX)
        self.expect(")")
        return Address(buffer.name, distance)

    def access(self) -> Read:
        """`.i32x4(p, offset=4, align=2, mask=m)`, as a read of that place."""
        self.expect(".")
        dtype, lanes = self.type()
        if dtype is DType.POINTER:
            self.fail("a pointer is not in memory")
        self.expect("(")
        pointer = self.typed(DType.POINTER)
        distance, alignment, mask = 0, dtype.size_bytes, None
        while self.accept(","):
            if self.accept("mask"):
                mask = self._mask(lanes)
            elif self.accept("align"):
                self.expect("=")
                alignment = self.bounded("an alignment", 1 << 16)
            else:
                self.expect("offset")
                self.expect("=")
                sign = -1 if self.accept("-") else 1
                distance = sign * self.bounded("an offset", 1 << 31)
        self.expect(")")
        return Read(pointer, distance, dtype, alignment, lanes, mask)

    # Names and small things

    def indices(self, buffer: Parameter) -> tuple[Expr, ...]:
        start = self.peek().offset
        self.expect("[")
        indices: list[Expr] = []
        while not self.accept("]"):
            if indices:
                self.expect(",")
            indices.append(self.typed(DType.INDEX))
        if len(indices) != len(buffer.shape):
            self.fail(f"{printable(buffer.name)} has {len(buffer.shape)} axes, indexed with {len(indices)}", start)
        return tuple(indices)

    def name(self, what: str) -> str:
        token = self.peek()
        if token.kind == "string":
            self.next()
            return self.unquoted(token)
        if token.kind == "word" and token.text in KEYWORDS:
            self.fail(f"expected {what}, found {token.text!r}")
        return self.take("word", what).text

    def buffer(self, name: str, offset: int) -> Parameter:
        if name not in self.buffers:
            self._unknown("buffer", name, offset)
        return self.buffers[name]

    def variable(self, name: str, offset: int) -> Variable:
        if name not in self.variables:
            self._unknown("register", name, offset)
        return self.variables[name]

    def _unknown(self, what: str, name: str, offset: int) -> NoReturn:
        self.fail(f"no {what} is named {printable(name)}", offset)

    def dtype(self) -> DType:
        token = self.take("word", "a type")
        if token.text not in (d.value for d in DType):
            self.fail(f"no type is named {printable(token.text)}", token.offset)
        return DType(token.text)

    def type(self) -> tuple[DType, int]:
        """An element type and how many lanes: `i32`, `i8x16`."""
        token = self.take("word", "a type")
        found = _type_of(token.text)
        if found is None:
            self.fail(f"no type is named {printable(token.text)}", token.offset)
        return found

    def bounded(self, what: str, limit: int) -> int:
        offset = self.peek().offset
        number = self.integer(what)
        if number > limit:
            self.fail(f"{what} of {number} is more than {limit}", offset)
        return number
