"""Boards from TOML files, and what such a file may say instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from luciole.errors import CompileError
from luciole.ir.board import Memory, board_texts, find_board, read_board
from luciole.ir.target import load_targets

RAM = '[memory.tcm]\nkind = "ram"\nbase = 0x20000000\nsize = "16K"\n'
FLASH = '[memory.flash]\nkind = "flash"\nbase = 0x8000000\nsize = 1000\n'


def board_of(folder: Path, text: str) -> Path:
    path = folder / "nucleo.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_memories_of_a_board_fastest_first(tmp_path: Path) -> None:
    slow = '[memory.psram]\nkind = "ram"\nbase = 0x60000000\nsize = "8M"\ncycles = 12.5\nsection = ".external"\n'
    board = read_board(board_of(tmp_path, slow + RAM + FLASH))
    assert board.name == "nucleo"
    assert board.fastest_first("ram") == (
        Memory("tcm", "ram", 0x20000000, 16384, 1.0, ".tcm", "TCM"),
        Memory("psram", "ram", 0x60000000, 8 << 20, 12.5, ".external", "PSRAM"),
    )
    assert board.fastest_first("flash") == (Memory("flash", "flash", 0x8000000, 1000, 1.0, ".flash", "FLASH"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no tables"),
        ("memory = 5", "it has no tables"),
        ("[memory", "this is no board"),
        (RAM, 'no memory is of the kind "flash"'),
        (FLASH, 'no memory is of the kind "ram"'),
        (RAM + FLASH + RAM.replace("tcm", "other"), "the memories other and tcm overlap"),
        (RAM + FLASH.replace("flash]", "input]"), '"input" cannot be the name of a memory'),
        (RAM + FLASH.replace("flash]", '"Ä"]'), "cannot be the name of a memory"),
        (RAM + FLASH.replace('"flash"', '"rom"'), 'memory.flash.kind is "ram" or "flash"'),
        (RAM + FLASH.replace("1000", "-1"), "memory.flash.size is a number of bytes"),
        (RAM + FLASH.replace("1000", '"many"'), "memory.flash.size is bytes, or text such as 64K"),
        (RAM + FLASH.replace("0x8000000", "true"), "memory.flash.base is a number of bytes"),
        (RAM + FLASH + "cycles = 0\n", "memory.flash.cycles is a positive number"),
        (RAM + FLASH + "cycles = nan\n", "memory.flash.cycles is a positive number"),
        (RAM + FLASH + 'section = "a b"\n', 'memory.flash.section is a name such as ".dtcm"'),
        (RAM + FLASH + "speed = 3\n", "memory.flash has the keys kind, base, size, cycles, section, region, not speed"),
        ("[memory]\nflash = 3\n", "memory.flash is a table with the keys"),
        (RAM + FLASH + 'region = "1"\n', "memory.flash.region is a name such as"),
        (RAM + FLASH + "[board]\ntarget = 4\n", "board is a table with texts for the keys description, target, source"),
        ("board = 5\n" + RAM + FLASH, "board is a table with texts"),
        (RAM + FLASH + '[board]\ncolor = "green"\n', "board is a table with texts"),
    ],
)
def test_what_is_no_board(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=message):
        read_board(board_of(tmp_path, text))


def test_a_board_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cannot read the board"):
        read_board(tmp_path / "none.toml")
    path = tmp_path / "large.toml"
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(CompileError, match="it is too large"):
        read_board(path)


@pytest.mark.parametrize("name", board_texts())
def test_a_known_board_tells_its_core_its_memories_and_their_source(name: str) -> None:
    board = find_board(name)
    assert board.name == name and board.description and board.source
    assert board.target in load_targets()
    assert board.fastest_first("ram") and board.fastest_first("flash")
    # Memories begin at multiples of 16 KiB, and are as large.
    assert all(memory.base % (1 << 14) == 0 and memory.size_bytes % (1 << 13) == 0 for memory in board.memories)


def test_a_file_that_is_missing_tells_the_boards_there_are(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        find_board(str(tmp_path / "nucleo-f9"))
    assert "one of the boards mps2-an500" in (caught.value.diagnostics[0].help or "")
