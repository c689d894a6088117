"""Tables that every verb prints: with rich on a terminal, as aligned text in a pipe, as records in JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table as RichTable

#: What a cell holds. A tuple is a shape. `None` is a fact that is not known.
Cell = str | int | float | bool | tuple[int, ...] | None


@dataclass(frozen=True)
class Column:
    """A column: the `title` people read, the `key` programs read, and how cells look to people.

    Cells are aligned `right` if asked, floats have `decimals` digits (`None`: nine significant ones), and texts lose
    their middle beyond `limit` characters (0: never). Programs get the cells as they are.
    """

    title: str
    key: str
    right: bool = False
    decimals: int | None = None
    limit: int = 0

    def format(self, cell: Cell, unknown: str = "-") -> str:
        """A cell for people; what is not known shows as `unknown`."""
        if isinstance(cell, float) and self.decimals is not None:
            return f"{cell:,.{self.decimals}f}"
        if isinstance(cell, str) and self.limit:
            return shorten(cell, self.limit)
        return unknown if cell is None else format_cell(cell)


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns, with an optional `title` above and an optional `total` row below.

    Raises `ValueError` when a row has another length than the columns.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    total: tuple[Cell, ...] = ()

    def __post_init__(self) -> None:
        for row in (*self.rows, *([self.total] if self.total else [])):
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells, the table {len(self.columns)} columns")

    def records(self) -> list[dict[str, object]]:
        """The rows as JSON objects by column key; the total is left out, as programs add for themselves."""
        keys = [column.key for column in self.columns]
        return [
            dict(zip(keys, (list(c) if isinstance(c, tuple) else c for c in row), strict=True)) for row in self.rows
        ]

    def to_json(self) -> str:
        """The records as a JSON list, one a line, with a newline at the end."""
        lines = ",\n".join("  " + json.dumps(record, ensure_ascii=True) for record in self.records())
        return f"[\n{lines}\n]\n" if lines else "[]\n"

    def to_text(self) -> str:
        """Aligned text without color, every line ended by a newline: two spaces between columns, nothing cut."""
        body = [self._texts(row) for row in self.rows]
        total = self._texts(self.total, unknown="") if self.total else []
        header = [column.title for column in self.columns]
        everything = [header, *body, *([total] if total else [])]
        widths = [max(text_width(row[index]) for row in everything) for index in range(len(header))]
        lines = [visible(self.title)] if self.title else []
        lines += [self._line(header, widths), "  ".join("-" * width for width in widths)]
        lines += [self._line(row, widths) for row in body]
        if total:
            lines += ["  ".join("-" * width for width in widths), self._line(total, widths)]
        return "".join(line.rstrip() + "\n" for line in lines)

    def _texts(self, row: tuple[Cell, ...], unknown: str = "-") -> list[str]:
        """The cells of one row for people."""
        return [column.format(cell, unknown) for column, cell in zip(self.columns, row, strict=True)]

    def _line(self, texts: Sequence[str], widths: Sequence[int]) -> str:
        """One line of aligned text."""
        padded = []
        for column, text, width in zip(self.columns, texts, widths, strict=True):
            padding = " " * (width - text_width(text))
            padded.append(padding + text if column.right else text + padding)
        return "  ".join(padded)

    def to_rich(self) -> RichTable:
        """The table for a terminal. Cells are plain text to rich: no markup of theirs is obeyed."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=Text(visible(self.title), style="bold") if self.title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_footer=bool(self.total),
            header_style="bold",
            footer_style="bold",
            pad_edge=False,
            expand=False,
        )
        footer = self.total or (None,) * len(self.columns)
        for column, cell in zip(self.columns, footer, strict=True):
            table.add_column(
                Text(column.title),
                footer=Text(column.format(cell, "")),
                justify="right" if column.right else "left",
                no_wrap=column.right,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(Text(text, style="dim" if text == "-" else "") for text in self._texts(row)))
        return table


def write_tables(items: Sequence[Table | str], stream: TextIO) -> None:
    """Print tables and texts to `stream`, an empty line between them: rich on a terminal, plain text elsewhere.

    Characters that the stream's encoding lacks are written as escapes.
    """
    if stream.isatty():
        from rich.console import Console
        from rich.text import Text

        console = Console(file=stream, highlight=False)
        for index, item in enumerate(items):
            if index and isinstance(item, str):
                console.print()
            if isinstance(item, str):
                console.print(Text(item.rstrip("\n")), soft_wrap=True)
            else:
                console.print(item.to_rich())
        return
    texts = [item.rstrip("\n") + "\n" if isinstance(item, str) else item.to_text() for item in items]
    encoding = stream.encoding or "utf-8"
    stream.write("\n".join(texts).encode(encoding, "backslashreplace").decode(encoding))


def format_cell(cell: Cell) -> str:
    """A cell for people: thousands with commas, floats in nine digits (as float32 needs), shapes with an x.

    >>> format_cell(49152), format_cell((1, 32, 32, 3)), format_cell(None)
    ('49,152', '1x32x32x3', '-')
    """
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.9g}"
    if isinstance(cell, tuple):
        return "x".join(map(str, cell)) if cell else "scalar"
    return visible(cell)


def format_size(size_bytes: int) -> str:
    """A byte count for people: `768 B`, `48.0 KiB`, `1.25 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    if size_bytes < 1024 * 1024:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{size_bytes / (1024 * 1024):.2f} MiB"


def format_count(count: int) -> str:
    """A large count for people in about three digits: `640`, `826 k`, `12.5 M`, `1.20 G`."""
    if count < 10_000:
        return f"{count:,}"
    for divisor, unit in ((10**3, "k"), (10**6, "M"), (10**9, "G")):
        value = count / divisor
        if value < 999.5 or unit == "G":
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f} {unit}"


def visible(text: str) -> str:
    """`text` with all that does not print (line breaks, escapes, direction marks, lone surrogates) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shorten(text: str, length: int) -> str:
    """`text`, made visible, in at most `length` characters: the middle goes, as both ends of a name say something."""
    shown = visible(text if len(text) <= length else text[:length] + text[-length:])
    if len(shown) <= length:
        return shown
    head = (length - 1) // 2
    return shown[:head] + "\u2026" + shown[len(shown) - (length - 1 - head) :]


def text_width(text: str) -> int:
    """Columns that `text` takes on a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )
