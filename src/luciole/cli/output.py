"""What verbs print: tables for people, or the same facts as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from luciole.report.table import Table, write_tables

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Facts as JSON instead of tables."""
    return click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")(command)


def show(items: Sequence[Table | str], facts: object, as_json: bool) -> None:
    """Tables for people, or the same facts as JSON, on standard output."""
    if as_json:
        sys.stdout.write(json.dumps(_finite(facts), indent=2, allow_nan=False) + "\n")
    else:
        write_tables(items, sys.stdout)


def _finite(fact: object) -> object:
    """JSON has no infinities and no NaN: they are unknown there."""
    if isinstance(fact, float):
        return fact if math.isfinite(fact) else None
    if isinstance(fact, dict):
        return {key: _finite(value) for key, value in fact.items()}
    if isinstance(fact, list | tuple):
        return [_finite(value) for value in fact]
    return fact
