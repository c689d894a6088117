"""Tokens of the text form of graphs, and errors that show the line with a caret."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from luciole.errors import CompileError, Location, printable

#: Longer numbers are refused; every number that we print is shorter.
_MAXIMUM_NUMBER_LENGTH = 40

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


@dataclass(frozen=True)
class Token:
    """A piece of the text: its kind (a group of the pattern above), the text itself, and where it begins."""

    kind: str
    text: str
    offset: int


class Scanner:
    """The tokens of a text, read one after the other; `file` is for messages."""

    #: The code of errors, and what stands for the file's name where there is none.
    error_code = "graph-syntax"
    default_file = "graph text"

    def __init__(self, text: str, file: str = "") -> None:
        self.text = text
        self.file = file
        self.tokens = self._scan()
        self.position = 0

    def _scan(self) -> list[Token]:
        tokens = []
        offset = 0
        while offset < len(self.text):
            match = _TOKEN.match(self.text, offset)
            if match is None:
                self.fail(f"unexpected character {self.text[offset]!r}", offset)
            if match.lastgroup != "blank":
                tokens.append(Token(str(match.lastgroup), match.group(), offset))
            offset = match.end()
        tokens.append(Token("end of file", "", len(self.text)))
        return tokens

    def fail(self, message: str, offset: int | None = None, notes: tuple[str, ...] = (), help: str = "") -> NoReturn:
        """Raise a `CompileError` that shows the line of `offset` (by default of the next token) with a caret."""
        if offset is None:
            offset = self.peek().offset
        start = self.text.rfind("\n", 0, offset) + 1
        end = self.text.find("\n", offset)
        line = self.text[start : end if end >= 0 else len(self.text)].rstrip("\r").replace("\t", " ")
        column = offset - start
        # A window of the line around the caret; notes follow an eight-column "  note: ".
        first = max(0, column - 70)
        caret = " " * (8 + len(printable(line[first:column]))) + "^"
        place = f"{self.file or self.default_file}:{self.text.count(chr(10), 0, offset) + 1}:{column + 1}"
        notes = (f"{printable(line[first : first + 140])}\n{caret}", *notes)
        raise CompileError.of(self.error_code, message, Location(place), notes=notes, help=help)

    def peek(self) -> Token:
        """The next token, left where it is."""
        return self.tokens[self.position]

    def next(self) -> Token:
        """Take the next token; at the end of the file, again and again the last."""
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def accept(self, text: str) -> bool:
        """Take the next token if it is this word or mark."""
        token = self.peek()
        if token.kind in ("word", "mark") and token.text == text:
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Take this word or mark, or fail."""
        if not self.accept(text):
            self.fail(f"expected {text!r}, found {self.found()}")

    def take(self, kind: str, what: str) -> Token:
        """Take a token of a kind, or fail saying `what` was expected."""
        if self.peek().kind != kind:
            self.fail(f"expected {what}, found {self.found()}")
        return self.next()

    def found(self) -> str:
        """The next token for a message."""
        token = self.peek()
        return repr(printable(token.text)) if token.text else "the end of the file"

    def string(self, what: str) -> str:
        """Take a string in quotes."""
        return self.unquote(self.take("string", what))

    def unquote(self, token: Token) -> str:
        """The string that a token in quotes stands for."""
        try:
            return str(json.loads(token.text.removeprefix("%"), strict=False))
        except ValueError as error:
            self.fail(f"bad string: {error}", token.offset)

    def word_or_string(self, what: str) -> str:
        """Take a name that may stand in quotes."""
        return self.unquote(self.next()) if self.peek().kind == "string" else self.take("word", what).text

    def value_name(self) -> str:
        """Take the name of a value, without the percent sign."""
        token = self.take("value", "a value such as %x")
        return self.unquote(token) if token.text.startswith('%"') else token.text[1:]

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
        if len(text) > _MAXIMUM_NUMBER_LENGTH:
            self.fail("the number is too long", token.offset)
        if "0x" in text:
            return float.fromhex(text)
        if text.lstrip("-").isdigit():
            return int(text)
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float32(text))
