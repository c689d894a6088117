"""What can go wrong, told in the words of the user's model.

Three classes say whose fault it is: `CompileError` (the model or the arguments), `ToolError` (something outside is
missing) and `InternalError` (ours). A stage collects its problems in `Diagnostics` and raises them together, so that a
user sees all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

#: Exit codes of the command line, see the README.
EXIT_USER, EXIT_UNSUPPORTED, EXIT_BUDGET, EXIT_MISMATCH, EXIT_INTERNAL = 1, 2, 3, 4, 70

#: How much of a user's string an error repeats; names in models are data and may be megabytes long.
_MAXIMUM_NAME_LENGTH = 160


def printable(text: str) -> str:
    """`text` with control characters escaped and its length bounded, fit for one line of a message."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if len(shown) <= _MAXIMUM_NAME_LENGTH else shown[: _MAXIMUM_NAME_LENGTH - 3] + "..."


@dataclass(frozen=True)
class Location:
    """Where in the user's model something stands: the file, the node's name and its kind in the file's own words."""

    file: str = ""
    node: str = ""
    kind: str = ""

    def __str__(self) -> str:
        parts = [printable(self.file)] if self.file else []
        if self.node or self.kind:
            kind = f" ({printable(self.kind)})" if self.kind else ""
            parts.append(f'node "{printable(self.node)}"{kind}')
        return ": ".join(parts)

    def __bool__(self) -> bool:
        return bool(self.file or self.node or self.kind)


@dataclass(frozen=True)
class Diagnostic:
    """One problem: a stable `code`, what is wrong, where, further facts, and the remedy."""

    code: str
    message: str
    location: Location = Location()
    notes: tuple[str, ...] = ()
    help: str = ""
    exit_code: int = EXIT_USER

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        if self.location:
            lines.append(f"  --> {self.location}")
        lines += [f"  --> {note}" if not self.location else f"  note: {note}" for note in self.notes]
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class LucioleError(Exception):
    """Base of all errors that Luciole raises on purpose; `exit_code` is what the command line returns for it."""

    exit_code = EXIT_INTERNAL


class CompileError(LucioleError):
    """The model or the arguments are at fault: one or more diagnostics, reported together."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("\n".join(str(d) for d in diagnostics))
        self.diagnostics = diagnostics
        self.exit_code = max((d.exit_code for d in diagnostics), default=EXIT_USER)

    @classmethod
    def of(
        cls,
        code: str,
        message: str,
        location: Location = Location(),
        *,
        notes: tuple[str, ...] = (),
        help: str = "",
        exit_code: int = EXIT_USER,
    ) -> CompileError:
        """An error with a single diagnostic."""
        return cls(Diagnostic(code, message, location, notes, help, exit_code))


class ToolError(LucioleError):
    """A program or package that this action needs is missing; the message says how to get it."""

    exit_code = EXIT_USER


class InternalError(LucioleError):
    """A bug in Luciole: an invariant of ours does not hold."""

    exit_code = EXIT_INTERNAL


@dataclass
class Diagnostics:
    """Collects the problems of one stage."""

    items: list[Diagnostic] = field(default_factory=list)

    def add(
        self,
        code: str,
        message: str,
        location: Location = Location(),
        *,
        notes: tuple[str, ...] = (),
        help: str = "",
        exit_code: int = EXIT_USER,
    ) -> None:
        """Remember one problem and go on."""
        self.items.append(Diagnostic(code, message, location, notes, help, exit_code))

    def extend(self, error: CompileError) -> None:
        """Remember the problems of an error that was caught."""
        self.items.extend(error.diagnostics)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.items)

    def __bool__(self) -> bool:
        return bool(self.items)

    def raise_if_any(self) -> None:
        """Raise `CompileError` with everything collected, if anything was."""
        if self.items:
            raise CompileError(*self.items)
