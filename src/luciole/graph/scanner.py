"""Tokens of the text form of graphs."""

from __future__ import annotations

import re

from luciole.ir.text import MAXIMUM_NUMBER_LENGTH, TextScanner, Token, float_value

_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t\r\n]+|\#[^\n]*)
    | (?P<value>%(?:[A-Za-z0-9_./;$-]+|"(?:[^"\\\n]|\\.)*"))
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<hash>@[0-9A-Za-z_.]+)
    | (?P<number>-?(?:0x[0-9a-f]\.[0-9a-f]+p[-+]?[0-9]+|[0-9]+(?:\.[0-9]*)?(?:e[-+]?[0-9]+)?|inf\b))
    | (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    | (?P<mark>[][(){},:=@])
    """,
    re.VERBOSE,
)


class Scanner(TextScanner):
    """The tokens of a graph's text, read one after the other."""

    pattern = _TOKEN
    error_code = "graph-syntax"
    default_file = "graph text"

    def string(self, what: str) -> str:
        """Take a string in quotes."""
        return self.unquoted(self.take("string", what))

    def word_or_string(self, what: str) -> str:
        """Take a name that may stand in quotes."""
        return self.unquoted(self.next()) if self.peek().kind == "string" else self.take("word", what).text

    def value_name(self) -> str:
        """Take the name of a value, without the percent sign."""
        token = self.take("value", "a value such as %x")
        name = token.text.removeprefix("%")
        return self.unquoted(Token("string", name, token.offset)) if name.startswith('"') else name

    def integer(self, what: str) -> int:
        """Take a whole number."""
        offset = self.peek().offset
        number = self.number(self.take("number", what))
        if not isinstance(number, int):
            self.fail(f"expected {what}, found a float", offset)
        return number

    def number(self, token: Token) -> int | float:
        """The number of a token: an int, or a float32 number (a double where the text is hexadecimal)."""
        text = token.text
        if len(text) > MAXIMUM_NUMBER_LENGTH:
            self.fail("the number is too long", token.offset)
        if "0x" in text:
            return float.fromhex(text)
        if text.lstrip("-").isdigit():
            return int(text)
        return float_value(text)
