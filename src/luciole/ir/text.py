"""Tokens and literals that the text forms share, and errors that show the line with a caret.

A text form says what its tokens are (`TextScanner.pattern`, a regular expression whose named groups are the kinds) and
reads them one after the other. Every error is a `CompileError`, since texts come from users too.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import numpy as np

from luciole.errors import CompileError, Location, printable

#: Longer numbers are refused; every number that we print is shorter.
MAXIMUM_NUMBER_LENGTH = 40

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quote(text: str) -> str:
    """A text in double quotes, as JSON writes it in ASCII; `unquote` gives it back."""
    return json.dumps(text)


def unquote(quoted: str) -> str:
    """The text that `quote` printed. Raises `ValueError` for anything else."""
    value = json.loads(quoted, strict=False)
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def is_word(text: str) -> bool:
    """Whether a name needs no quotes: ASCII letters, digits and underscores, not beginning with a digit."""
    return _WORD.fullmatch(text) is not None


def float_text(value: float, *, is_double: bool = False) -> str:
    """The shortest decimal number that is read back as the same float32, or float64 where `is_double`: `0.1`, `1e-05`,
    `-0.0`, `inf`, `nan`.
    """
    with np.errstate(over="ignore", under="ignore"):
        number = np.float64(value) if is_double else np.float32(value)
    if not math.isfinite(number):
        return str(float(number))
    text = str(number)
    return text if "." in text or "e" in text else f"{text}.0"


def float_value(text: str, *, is_double: bool = False) -> float:
    """The float32 number nearest to a decimal one, or the float64 where `is_double`, as a Python float."""
    with np.errstate(over="ignore", under="ignore"):
        return float(text) if is_double else float(np.float32(text))


@dataclass(frozen=True)
class Token:
    """A piece of the text: its kind (a group of the scanner's pattern), the text itself, and where it begins."""

    kind: str
    text: str
    offset: int


class TextScanner:
    """The tokens of a text, read one after the other; `file` and the number of its first line are for messages.

    A subclass sets `pattern`; its group `blank` is skipped. Kinds that methods here know: `word`, `mark`, `string`,
    `number`.
    """

    pattern: ClassVar[re.Pattern[str]]
    #: The code of errors, and what stands for the file's name where there is none.
    error_code: ClassVar[str]
    default_file: ClassVar[str]

    def __init__(self, text: str, file: str = "", first_line: int = 1) -> None:
        self.text = text
        self.file = file
        self.first_line = first_line
        self.tokens = self.scan()
        self.position = 0

    def scan(self) -> list[Token]:
        """All tokens of the text, then one of kind `end of file`."""
        tokens = []
        offset = 0
        while offset < len(self.text):
            match = self.pattern.match(self.text, offset)
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
        number = self.first_line + self.text.count("\n", 0, offset)
        place = f"{self.file or self.default_file}:{number}:{column + 1}"
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
        if token.text.strip():
            return repr(printable(token.text))
        return "the end of the line" if token.text else "the end of the file"

    def unquoted(self, token: Token) -> str:
        """The text that a token in quotes stands for."""
        try:
            return unquote(token.text)
        except ValueError as error:
            self.fail(f"bad string: {error}", token.offset)

    def integer(self, what: str) -> int:
        """Take a whole number without a sign."""
        token = self.take("number", what)
        if len(token.text) > MAXIMUM_NUMBER_LENGTH:
            self.fail("the number is too long", token.offset)
        if not token.text.isdecimal():
            self.fail(f"expected {what}, found {printable(token.text)!r}", token.offset)
        return int(token.text)
