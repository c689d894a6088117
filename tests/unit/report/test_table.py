from __future__ import annotations

import io
import json

import pytest

from luciole.report.table import (
    Column,
    Table,
    format_cell,
    format_count,
    format_size,
    shorten,
    text_width,
    visible,
    write_tables,
)

COLUMNS = (
    Column("name", "name", limit=12),
    Column("bytes", "size_bytes", right=True),
    Column("ratio", "ratio", True, 2),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_is_aligned() -> None:
    table = Table(
        COLUMNS, (("conv", 49152, 1.5), ("a name that is long", None, 0.123)), "layers", ("total", 49152, None)
    )
    assert table.to_text() == (
        "layers\n"
        "name           bytes  ratio\n"
        "------------  ------  -----\n"
        "conv          49,152   1.50\n"
        "a nam\u2026s long       -   0.12\n"
        "------------  ------  -----\n"
        "total         49,152\n"
    )


def test_wide_and_combining_characters_keep_the_columns() -> None:
    assert text_width("\u756a\u53f7") == 4 and text_width("e\u0301") == 1
    lines = Table(COLUMNS[:2], (("\u756a\u53f7", 1), ("e\u0301", 2))).to_text().splitlines()
    assert lines[2] == "\u756a\u53f7      1" and lines[3] == "e\u0301         2"


def test_programs_get_cells_whole() -> None:
    table = Table(
        (*COLUMNS, Column("shape", "shape")), (("a name that is long", None, 0.123, (1, 2)),), total=(None,) * 4
    )
    record = {"name": "a name that is long", "size_bytes": None, "ratio": 0.123, "shape": [1, 2]}
    assert json.loads(table.to_json()) == [record]
    assert Table(COLUMNS, ()).to_json() == "[]\n"


def test_rows_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the table 3 columns"):
        Table(COLUMNS, (("a",),))


def test_a_pipe_gets_plain_text_and_a_terminal_the_same_facts() -> None:
    table = Table(COLUMNS, (("[red]conv[/]", 49152, 1.5),), "layers")
    pipe, terminal = io.StringIO(), Terminal()
    write_tables([table, "a line\n"], pipe)
    write_tables([table, "a line\n"], terminal)
    assert pipe.getvalue() == table.to_text() + "\na line\n"
    for fact in ("layers", "[red]conv[/]", "49,152", "1.50", "a line"):
        assert fact in terminal.getvalue()


def test_names_cannot_send_escapes_to_the_terminal() -> None:
    table = Table((Column("name", "name"),), (("\x1b[31m\r\n\u202e",),), title="\x1b]0;owned\x07")
    for stream in (io.StringIO(), Terminal()):
        write_tables([table], stream)
        assert "\x1b[31m" not in stream.getvalue() and "\x1b]0" not in stream.getvalue()
        assert "\\x1b[31m\\r\\n\\u202e" in stream.getvalue()


def test_characters_that_a_stream_lacks_are_escaped() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write_tables([Table((Column("name", "name"),), (("\u00e9t\u00e9",),))], stream)
    stream.seek(0)
    assert "\\xe9t\\xe9" in stream.read()


def test_formats() -> None:
    assert [format_cell(c) for c in (None, True, 49152, 0.1, (1, 2), (), "a\nb")] == [
        "-",
        "yes",
        "49,152",
        "0.1",
        "1x2",
        "scalar",
        "a\\nb",
    ]
    assert [format_size(n) for n in (0, 1023, 1024, 49152, 1 << 20)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "48.0 KiB",
        "1.00 MiB",
    ]
    assert [format_count(n) for n in (640, 9_999, 10_000, 264_192, 999_600, 12_501_632, 300_774_272, 10**12)] == [
        "640",
        "9,999",
        "10.0 k",
        "264 k",
        "1.00 M",
        "12.5 M",
        "301 M",
        "1,000 G",
    ]


def test_shorten_keeps_both_ends() -> None:
    assert shorten("model/conv2d/BiasAdd", 20) == "model/conv2d/BiasAdd"
    assert shorten("model/conv2d/BiasAdd", 11) == "model\u2026asAdd"
    assert len(shorten("x" * 10_000_000, 40)) == 40
    assert shorten("\x00" * 5, 12) == "\\x00\\\u202600\\x00"
    assert visible("\ud800") == "\\ud800"
