"""Signs of life on a terminal while something takes long; nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def working(on_what: str) -> Iterator[None]:
    """Show that work goes on, on standard error, until the block ends."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(on_what)):
        yield
