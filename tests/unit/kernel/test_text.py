from __future__ import annotations

import math

import pytest

from luciole.errors import CompileError, InternalError
from luciole.ir.text import float_text, float_value, is_word, quote, unquote
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Call, Constant, Intrinsic, Variable
from luciole.kernel.text import parse_kernel, print_kernel
from support.random_kernels import random_kernel

HEAD = "kernel f(in x: i8[4], out y: i32[4], n: i32)\n"


@pytest.mark.parametrize("seed", range(60))
def test_a_kernel_that_was_printed_and_read_is_the_same_value(seed: int) -> None:
    kernel = random_kernel(seed)
    text = print_kernel(kernel)
    assert parse_kernel(text) == kernel
    assert print_kernel(parse_kernel(text)) == text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("  y[0] = 1 +\n", "expected an expression, found the end of the line"),
        ("  y[0] = $\n", "unexpected character '$'"),
        ("  y[0] = n n\n", "expected the end of the line, found 'n'"),
        ("  y[0] = x[0]\n", "expected i32, found i8"),
        ("  y[0, 0] = 1\n", "y has 1 axes, indexed with 2"),
        ("  y[n] = 1\n", "expected index, found i32"),
        ("  y[0] = z[0]\n", "no buffer is named z"),
        ("  z = 1\n", "no register is named z"),
        ("  y = 1\n", "no register is named y"),
        ("  z: i33 = 1\n", "no type is named i33"),
        ("  x: i32 = 1\n", "x is a buffer"),
        ("  y[0] = 1 + 2\n", "the number needs a type, as in 1i32"),
        ("  y[0] = i32(1)\n", "the number needs a type, as in 1i32"),
        ("  y[0] = n + 1.5\n", "1.5 is not i32"),
        ("  y[0] = n + 99999999999\n", "99999999999 is not in the range of i32, -2147483648..2147483647"),
        ("  y[0] = n + " + "9" * 99 + "\n", "the number is too long"),
        ("  y[0] = select(n, 1, n)\n", "expected bool, found i32"),
        ("  y[0] = min(n, true)\n", "min of i32 and bool"),
        ("  y[0] = multiply_wide(n)\n", "multiply_wide takes 2 arguments"),
        ("  y[0] = multiply_wide(n, n, n)\n", "multiply_wide takes 2 arguments"),
        ("  y[0] = address(x)\n", "expected i32, found pointer"),
        ("  p: pointer = address(x) + n\n", "a pointer moves by an index, not by i32"),
        ("  y[0] = read.i32(n)\n", "expected pointer, found i32"),
        ("  y[0] = read.i32(address(x), at=3)\n", "expected 'offset', found 'at'"),
        ("  y[0] = read.i32(address(x), align=99999999)\n", "an alignment of 99999999 is more than 65536"),
        ("  for i in 0 to 4\n    y[i] = 1\n", "expected '..', found 'to'"),
        ("  for i in 0..4\n  y[0] = i\n", "expected i32, found index"),
        ("  for i in 0..4\n   y[i] = 1\n", "expected an indent of 4 spaces, found 3"),
        ("  y[0] = 1\n    y[1] = 1\n", "indented more than the line above"),
        ("  else\n", "'else' belongs to nothing here"),
        ("  repeat\n    y[0] = 1\n  y[1] = 1\n", "expected 'while' after the body of repeat"),
        ("  y[0] = " + "(" * 200 + "n" + ")" * 200 + "\n", "too many levels"),
        ("  for = 1\n", "expected a loop variable, found '='"),
        ("  and = 1\n", "expected a statement, found 'and'"),
        ('  "\\q" = 1\n', "bad string: Invalid \\escape: line 1 column 2 (char 1)"),
    ],
)
def test_what_cannot_be_read_is_refused(body: str, message: str) -> None:
    with pytest.raises(CompileError) as info:
        parse_kernel(HEAD + body + "end\n")
    (diagnostic,) = info.value.diagnostics
    assert (diagnostic.code, diagnostic.message) == ("kernel-syntax", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 'kernel', found the end of the file"),
        ("kernel f(in x: i8[4], in x: i8[4])\nend\n", "two parameters are named x"),
        ("kernel f(n: i8)\nend\n", "a scalar parameter is i32"),
        ("kernel f(in x: i8[99999999999])\nend\n", "a size of 99999999999 is more than 2147483648"),
        ("kernel f()\n", "expected 'end', found the end of the file"),
        ("kernel f()\nend\nkernel g()\nend\n", "expected the end of the file, found 'kernel'"),
        ("kernel f()\n" + "".join("  " * d + "if true\n" for d in range(1, 200)) + "end\n", "too many levels"),
    ],
)  # fmt: skip
def test_what_is_no_kernel_is_refused(text: str, message: str) -> None:
    with pytest.raises(CompileError) as info:
        parse_kernel(text)
    assert info.value.diagnostics[0].message == message


def test_an_error_shows_its_line_with_a_caret() -> None:
    with pytest.raises(CompileError) as info:
        parse_kernel(f"\n\n{HEAD}  y[0] = n * total\nend\n", "dump/03.kernel")
    assert str(info.value) == (
        "error[kernel-syntax]: no register is named total\n"
        "  --> dump/03.kernel:4:14\n"
        "  note:   y[0] = n * total\n"
        "                     ^"
    )


def test_comments_and_empty_lines_around_a_kernel_do_not_matter() -> None:
    assert parse_kernel(f"# a dump\n\n{HEAD}\n\n  y[0] = 1\n\nend\n\n# done") == parse_kernel(f"{HEAD}  y[0] = 1\nend")


def test_a_long_head_breaks_after_each_parameter() -> None:
    k = LoopBuilder("f")
    for i in range(8):
        k.buffer("in", f"a_rather_long_name_{i}", DType.I8, (1, 2, 3))
    lines = print_kernel(k.build()).splitlines()
    assert lines[0] == "kernel f("
    assert lines[1] == "    in a_rather_long_name_0: i8[1,2,3],"
    assert parse_kernel("\n".join(lines)) == k.build()


def test_an_intrinsic_named_like_a_function_of_the_text_is_a_bug() -> None:
    a = Variable("a", DType.I32)
    k = LoopBuilder("f")
    k.define("t", Call(Intrinsic("min", (a,), DType.I32, (), a), (Constant(1, DType.I32),)))
    with pytest.raises(InternalError, match="cannot be named min"):
        print_kernel(k.build())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1.0, "1.0"), (1e20, "1e+20"), (-0.0, "-0.0"), (1e-45, "1e-45"), (-math.inf, "-inf"), (1e39, "inf")],
)  # fmt: skip
def test_floats_print_as_the_shortest_float32(value: float, text: str) -> None:
    assert float_text(value) == text
    assert float_text(float_value(text)) == text


@pytest.mark.parametrize("text", ["", "plain", 'a "b" \\ \n é \u2028', "for"])
def test_quoted_text_is_read_back(text: str) -> None:
    assert unquote(quote(text)) == text
    assert quote(text).isascii()


def test_words() -> None:
    assert [is_word(text) for text in ("abc", "_a1", "1a", "", "a b", "é", "a\n")] == [True, True] + [False] * 5
