"""Headers and test programs from templates; names of models are data and become comments that cannot end early."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from luciole.emit.c import comment_c
from luciole.errors import printable


def comment_text(text: str) -> str:
    """Any text made fit to stand inside a comment of C: one line of bounded length, ASCII, neither `*/` nor
    trigraphs.
    """
    return comment_c(printable(text))[3:-3].replace("??", "? ?")


def render(template: str, **values: object) -> str:
    """A template of this package with its values. A value that the template names and that is missing is an error."""
    return str(_environment().get_template(template).render(**values))


@cache
def _environment() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined

    folder = resources.files("luciole.bundle") / "templates"
    texts = {
        file.name: file.read_text(encoding="ascii")
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".j2")
    }
    environment = Environment(
        loader=DictLoader(texts),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["comment"] = comment_text
    return environment
