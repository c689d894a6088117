"""Options and output that verbs share."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from luciole.compilation import STAGES
from luciole.errors import CompileError
from luciole.ir.types import Array
from luciole.options import BUNDLE_APIS, EMITS, Options
from luciole.passes.manager import DeveloperOptions
from luciole.report.table import Table, write_tables

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"": 1, "B": 1, "K": 1024, "KB": 1024, "KIB": 1024, "M": 1 << 20, "MB": 1 << 20, "MIB": 1 << 20}


class SizeType(click.ParamType):
    """Bytes, as `65536`, `64K` or `1M` (units of 1024)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,12})\s*([a-zA-Z]*)", str(value).strip())
        if match is None or match[2].upper() not in _UNITS:
            self.fail(f'"{value}" is no size; write bytes, or 64K, or 1M', param, ctx)
        return int(match[1]) * _UNITS[match[2].upper()]


_COMPILE_OPTIONS = [
    click.option("--target", "-t", default="native", show_default=True, help="core or machine; see `luciole targets`"),
    click.option("--name", default="", help="prefix of files and functions [default: the file's stem]"),
    click.option("--emit", type=click.Choice(EMITS), default="object", show_default=True, help="form of the code"),
    click.option(
        "--bundle-api", type=click.Choice(BUNDLE_APIS), default="luciole", show_default=True, help="C interface"
    ),
    click.option("--keep-input", is_flag=True, help="`run` leaves the input as it was (costs RAM)"),
    click.option("--keep-output", is_flag=True, help="writing an input leaves the last output as it was (costs RAM)"),
    click.option("--max-ram", type=SizeType(), help="refuse an arena larger than this, such as 64K"),
    click.option("--max-flash", type=SizeType(), help="refuse code and constants larger than this, such as 256K"),
    click.option("--generic-kernels", is_flag=True, help="use no hand-scheduled kernels"),
]

_DEVELOPER_OPTIONS = [
    click.option(
        "--print-before", multiple=True, metavar="PASS", help="print the text before a pass or stage (or `all`)"
    ),
    click.option(
        "--print-after", multiple=True, metavar="PASS", help="print the text after a pass or stage (or `all`)"
    ),
    click.option("--print-changed", is_flag=True, help="print what each pass changed, as a diff"),
    click.option("--dump", type=click.Path(path_type=Path), help="write the text after each change into this folder"),
    click.option(
        "--verify", type=click.Choice(["each", "ends", "off"]), default="ends", help="when to check invariants"
    ),
    click.option("--time", "show_time", is_flag=True, help="print where the time went"),
    click.option("--trace-rules", is_flag=True, help="print each rewriting as it happens"),
    click.option("--limit-rules", type=int, help="stop rewriting after so many, to find the one that breaks a model"),
]


def model_argument(command: Command) -> Command:
    """The model file."""
    return click.argument("model", type=click.Path(path_type=Path))(command)


def json_option(command: Command) -> Command:
    """Facts as JSON instead of tables."""
    return click.option("--json", "as_json", is_flag=True, help="print the facts as JSON")(command)


def compile_options(command: Command) -> Command:
    """The options of a compilation, passed on as keywords; `options_of` and `developer_of` collect them."""
    for option in reversed(_COMPILE_OPTIONS + _DEVELOPER_OPTIONS):
        command = option(command)
    return command


def options_of(given: dict[str, Any]) -> Options:
    """The compile options among a command's keywords."""
    return Options(
        target=given["target"],
        name=given["name"],
        emit=given["emit"],
        bundle_api=given["bundle_api"],
        keep_input=given["keep_input"],
        keep_output=given["keep_output"],
        max_ram=given["max_ram"],
        max_flash=given["max_flash"],
        use_recipes=not given["generic_kernels"],
    )


def developer_of(given: dict[str, Any]) -> DeveloperOptions:
    """The developer options among a command's keywords."""
    return DeveloperOptions(
        print_before=given["print_before"],
        print_after=given["print_after"],
        print_changed=given["print_changed"],
        dump=given["dump"],
        verify=given["verify"],
        time=given["show_time"],
        trace_rules=given["trace_rules"],
        limit_rules=given["limit_rules"],
    )


def show(items: Sequence[Table | str], facts: object, as_json: bool) -> None:
    """Tables for people, or the same facts as JSON."""
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        write_tables(items, sys.stdout)


def load_arrays(path: Path) -> dict[str | int, Array]:
    """The arrays of an `.npz` by name, or of an `.npy` as position 0. Raises `CompileError` when it cannot be read."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {0: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise CompileError.of("unreadable-file", f'cannot read arrays from "{path}": {error}') from None
    except Exception as error:  # zipfile and numpy raise many kinds on damaged archives
        raise CompileError.of("unreadable-file", f'"{path}" is no .npz or .npy file: {error}') from None


def stage_option(command: Command, flag: str, help: str) -> Command:
    """`--to` or `--from`."""
    return click.option(flag, type=click.Choice(STAGES), help=help)(command)
