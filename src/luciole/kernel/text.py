"""The text form of kernels: printed to be read, and read back without loss.

    kernel scale(in x: i8[2,8], out y: i8[2,8] align 4, workspace t: i32[8], n: i32) scheduled
      # whatever a reader should know
      for row in 0..2
        acc: i32 = 0
        for i in 0..8 step 2
          acc = acc + i32(x[row, i]) * 3
        if acc > n and n != 0
          y[row, 0] = i8(min(acc, 127))
        else
          fence
      p: pointer = address(t, 4)
      repeat
        write.i32(p, offset=4, align=2) = read.i32(p) + smlad(1, 2, acc)
        p = p + 4
      while p < address(t, 24)
    end

- Two spaces an indent, one statement a line; lines may break within brackets. `name: type = value` defines a register,
  `name = value` assigns one. A `#` begins a comment, which is a statement; one that is not plain stands in quotes.
- Operators by strength: `or`, `xor`, `and` and `not` (of `bool`); comparisons; `|`, `^`, `&`; shifts; `+ -`; `* / %`;
  `-` and `~` before an operand. `min max abs floor round_even sqrt select(condition, a, b)` look like functions, and so
  do conversions (`i32(x)`), `bitcast.f32(x)`, `read.i16(p, offset=2, align=1)`, `address(buffer, bytes)`, intrinsics.
- A number has the type that its place asks for, or that of the other operand; where neither says it, the type stands
  after it: `1i64`. Floats are the shortest of their type. Alignments of buffers and accesses stand where they are not
  the type's size, and offsets where they are not 0.
- Vectors have types such as `i8x16`; a number beside a vector stands in all its lanes, and `i32x4(s)` is a vector of a
  scalar's. `mask=m` in an access says which lanes it touches. `active.boolx4(n)`, `gather.i8x4(p, offsets)`,
  `lanes(a, b, c, d)`, `dot(total, a, b)` and `reduce_add(v)`, `reduce_min(v)`, `reduce_max(v)` are described in
  `vectors`. A loop whose line ends in `vectors` is to become one over vectors.
- `scheduled` and `overlapping` behind the parameters are `is_scheduled` and `may_overlap`.
- A name that is no plain word, or a keyword, stands in double quotes.
"""

from __future__ import annotations

import numpy as np

from luciole.errors import InternalError
from luciole.ir.text import float_text, is_word, quote
from luciole.ir.types import DType
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Bitcast,
    Body,
    Call,
    Cast,
    Comment,
    Compare,
    Constant,
    Define,
    Expr,
    Fence,
    For,
    If,
    Kernel,
    Load,
    Parameter,
    Read,
    Repeat,
    Select,
    Splat,
    Stmt,
    Store,
    Unary,
    Variable,
    Write,
)
from luciole.kernel.parse import parse_kernel
from luciole.kernel.parse_expressions import (
    BUILT_IN,
    COMPARISON_STRENGTH,
    INFIX,
    KEYWORDS,
    NOT_STRENGTH,
    PRIMARY_STRENGTH,
    UNARY_STRENGTH,
)
from luciole.kernel.vectors import ActiveLanes, Dot, Gather, Lanes, Reduce

__all__ = ["body_text", "parse_kernel", "print_kernel", "stmt_text", "value_text"]

_WIDTH = 120
_COMPARISONS = {o: sign for sign, (o, strength) in INFIX.items() if strength == COMPARISON_STRENGTH}
_OPERATORS = {o: (sign, s) for sign, (o, s) in INFIX.items() if not sign.isalpha() and s != COMPARISON_STRENGTH}
_TRUTH = {o: (sign, s) for sign, (o, s) in INFIX.items() if sign.isalpha()}


def print_kernel(kernel: Kernel) -> str:
    """The kernel as text, ending in a newline. `parse_kernel` reads it back."""
    parameters = [_parameter(p) for p in kernel.parameters]
    parameters += [f"{name_text(s.name)}: {s.dtype.value}" for s in kernel.scalars]
    head, tail = f"kernel {name_text(kernel.name)}(", ")" + _flags(kernel)
    line = head + ", ".join(parameters) + tail
    if len(line) > _WIDTH:
        line = head + "\n    " + ",\n    ".join(parameters) + tail
    return "\n".join([line, *body_text(kernel.body, 1), "end", ""])


def _flags(kernel: Kernel) -> str:
    return (" scheduled" if kernel.is_scheduled else "") + (" overlapping" if kernel.may_overlap else "")


def name_text(name: str) -> str:
    """A name, in quotes where it needs them."""
    return name if is_word(name) and name not in KEYWORDS and name not in BUILT_IN else quote(name)


def _parameter(parameter: Parameter) -> str:
    shape = ",".join(map(str, parameter.shape))
    alignment = f" align {parameter.alignment}" if parameter.alignment != parameter.dtype.size_bytes else ""
    return f"{parameter.kind} {name_text(parameter.name)}: {parameter.dtype.value}[{shape}]{alignment}"


# Statements


def body_text(body: Body, depth: int = 0) -> list[str]:
    """The lines of some statements, indented by two spaces a level."""
    return [line for stmt in body for line in stmt_text(stmt, depth)]


def stmt_text(stmt: Stmt, depth: int = 0) -> list[str]:
    """The lines of a statement and of those in it."""
    indent = "  " * depth
    match stmt:
        case Define():
            variable = stmt.variable
            return [f"{indent}{name_text(variable.name)}: {variable.type_text} = {value_text(stmt.value)}"]
        case Assign():
            return [f"{indent}{name_text(stmt.variable.name)} = {value_text(stmt.value)}"]
        case Store():
            return [f"{indent}{name_text(stmt.buffer)}[{_list(stmt.indices)}] = {value_text(stmt.value)}"]
        case Write():
            return [f"{indent}write{_access(stmt.value, stmt)} = {value_text(stmt.value)}"]
        case For():
            step = (f" step {stmt.step}" if stmt.step != 1 else "") + (" vectors" if stmt.is_vector else "")
            bounds = f"{value_text(stmt.begin)}..{value_text(stmt.end)}"
            return [f"{indent}for {name_text(stmt.variable.name)} in {bounds}{step}", *body_text(stmt.body, depth + 1)]
        case Repeat():
            last = f"{indent}while {value_text(stmt.condition)}"
            return [f"{indent}repeat", *body_text(stmt.body, depth + 1), last]
        case If():
            lines = [f"{indent}if {value_text(stmt.condition)}", *body_text(stmt.then, depth + 1)]
            if stmt.otherwise:
                lines += [f"{indent}else", *body_text(stmt.otherwise, depth + 1)]
            return lines
        case Fence():
            return [f"{indent}fence all" if stmt.holds_arithmetic else f"{indent}fence"]
        case Comment():
            plain = stmt.text.isprintable() and not stmt.text.startswith((" ", '"')) and not stmt.text.endswith(" ")
            text = stmt.text if plain else quote(stmt.text)
            return [f"{indent}# {text}" if text else f"{indent}#"]
    raise InternalError(f"no text for {type(stmt).__name__}")


# Expressions


def value_text(expr: Expr) -> str:
    """An expression as text, in a place that says its type."""
    number = _plain_number(expr)
    return _expr(expr)[0] if number is None else _number(number)


def _plain_number(expr: Expr) -> Constant | None:
    """The number that an expression is, in one lane or in all."""
    if isinstance(expr, Splat):
        expr = expr.a
    return expr if isinstance(expr, Constant) else None


def _list(exprs: tuple[Expr, ...]) -> str:
    return ", ".join(value_text(e) for e in exprs)


def _number(constant: Constant) -> str:
    if constant.dtype is DType.BOOL:
        return "true" if constant.value else "false"
    if constant.dtype.is_float:
        return float_text(constant.value, is_double=constant.dtype is DType.F64)
    return str(int(constant.value))


def _typed_number(constant: Constant) -> tuple[str, int]:
    text = _number(constant)
    if constant.dtype is DType.BOOL:
        return text, PRIMARY_STRENGTH
    if text in ("inf", "-inf", "nan"):
        # Words take no suffix; as bits they say their type.
        bits = np.array(float(text), constant.dtype.numpy).view(f"u{constant.dtype.size_bytes}")
        return f"bitcast.{constant.dtype.value}({bits}u{constant.dtype.bits})", PRIMARY_STRENGTH
    return f"{text}{constant.dtype.value}", UNARY_STRENGTH if text.startswith("-") else PRIMARY_STRENGTH


def _at(text: tuple[str, int], strength: int) -> str:
    return text[0] if text[1] >= strength else f"({text[0]})"


def _operand(expr: Expr, other: Expr, strength: int, is_first: bool) -> str:
    """An operand; a number needs no type beside an operand that has one."""
    number = _plain_number(expr)
    if number is not None and not (is_first and _plain_number(other) is not None):
        return _number(number)
    return _at(_expr(expr), strength)


def _expr(expr: Expr) -> tuple[str, int]:
    """The text and how strongly its outermost operator binds."""
    match expr:
        case Constant():
            return _typed_number(expr)
        case Variable():
            return name_text(expr.name), PRIMARY_STRENGTH
        case Binary() if expr.operation in ("min", "max"):
            return _function(expr.operation, expr.a, expr.b), PRIMARY_STRENGTH
        case Binary():
            table = _TRUTH if expr.dtype is DType.BOOL and expr.operation in _TRUTH else _OPERATORS
            sign, strength = table[expr.operation]
            left = _operand(expr.a, expr.b, strength, True)
            return f"{left} {sign} {_operand(expr.b, expr.a, strength + 1, False)}", strength
        case Compare():
            strength = COMPARISON_STRENGTH
            left = _operand(expr.a, expr.b, strength + 1, True)
            right = _operand(expr.b, expr.a, strength + 1, False)
            return f"{left} {_COMPARISONS[expr.operation]} {right}", strength
        case Unary():
            return _unary(expr)
        case Select():
            branches = _function("", expr.a, expr.b)
            return f"select({value_text(expr.condition)}, {branches[1:]}", PRIMARY_STRENGTH
        case Cast():
            return f"{expr.type_text}({_expr(expr.a)[0]})", PRIMARY_STRENGTH
        case Splat():
            return f"{expr.type_text}({value_text(expr.a)})", PRIMARY_STRENGTH
        case Bitcast():
            return f"bitcast.{expr.type_text}({_expr(expr.a)[0]})", PRIMARY_STRENGTH
        case Load():
            return f"{name_text(expr.buffer)}[{_list(expr.indices)}]", PRIMARY_STRENGTH
        case Address():
            has_offset = not (isinstance(expr.offset, Constant) and expr.offset.value == 0)
            offset = f", {value_text(expr.offset)}" if has_offset else ""
            return f"address({name_text(expr.buffer)}{offset})", PRIMARY_STRENGTH
        case Read():
            return f"read{_access(expr, expr)}", PRIMARY_STRENGTH
        case Lanes():
            return f"lanes({', '.join(_expr(e)[0] for e in expr.elements)})", PRIMARY_STRENGTH
        case ActiveLanes():
            return f"active.{expr.type_text}({value_text(expr.count)})", PRIMARY_STRENGTH
        case Gather():
            arguments = f"{value_text(expr.pointer)}, {_expr(expr.offsets)[0]}{_mask(expr.mask)}"
            return f"gather.{expr.type_text}({arguments})", PRIMARY_STRENGTH
        case Dot():
            return f"dot({', '.join(_expr(e)[0] for e in (expr.accumulator, expr.a, expr.b))})", PRIMARY_STRENGTH
        case Reduce():
            return f"reduce_{expr.operation}({_expr(expr.a)[0]})", PRIMARY_STRENGTH
        case Call():
            if expr.intrinsic.name in BUILT_IN or not is_word(expr.intrinsic.name):
                raise InternalError(f"an intrinsic cannot be named {expr.intrinsic.name}")
            return f"{expr.intrinsic.name}({', '.join(_arguments(expr))})", PRIMARY_STRENGTH
    raise InternalError(f"no text for {type(expr).__name__}")


def _arguments(call: Call) -> list[str]:
    """Arguments of an intrinsic; beside a vector even numbers say that they are vectors, in the first place."""
    texts = [value_text(argument) for argument in call.arguments]
    if call.lanes > 1 and all(_plain_number(argument) is not None for argument in call.arguments[:1]):
        texts[0] = _expr(call.arguments[0])[0]
    return texts


def _function(name: str, a: Expr, b: Expr) -> str:
    return f"{name}({_operand(a, b, 0, True)}, {_operand(b, a, 0, False)})"


def _unary(expr: Unary) -> tuple[str, int]:
    if expr.operation == "not" and expr.dtype is DType.BOOL:
        return f"not {_at(_expr(expr.a), NOT_STRENGTH + 1)}", NOT_STRENGTH
    if expr.operation in ("neg", "not"):
        # A minus directly before a number would be the number's own.
        strength = PRIMARY_STRENGTH + 1 if isinstance(expr.a, Constant) else UNARY_STRENGTH
        return ("-" if expr.operation == "neg" else "~") + _at(_expr(expr.a), strength), UNARY_STRENGTH
    return f"{expr.operation}({_expr(expr.a)[0]})", PRIMARY_STRENGTH


def _access(value: Expr, access: Read | Write) -> str:
    """Type and place of what is read or written."""
    offset = f", offset={access.offset}" if access.offset else ""
    alignment = f", align={access.alignment}" if access.alignment != value.dtype.size_bytes else ""
    return f".{value.type_text}({value_text(access.pointer)}{offset}{alignment}{_mask(access.mask)})"


def _mask(mask: Expr | None) -> str:
    return "" if mask is None else f", mask={_expr(mask)[0]}"
