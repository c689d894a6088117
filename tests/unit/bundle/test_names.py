"""Names of bundles that would hide something of the compiler."""

from __future__ import annotations

import pytest

from luciole.bundle.interface import Api
from luciole.bundle.names import check_name
from luciole.errors import CompileError


@pytest.mark.parametrize(
    ("name", "api", "message"),
    [
        (
            "Kws 1",
            "luciole",
            'error[bad-name]: a bundle cannot be named "Kws 1": names are lower-case letters, digits and underscores, '
            "31 at most\n  help: choose another name with --name, such as kws_1",
        ),
        (
            "string",
            "luciole",
            'error[bad-name]: a bundle cannot be named "string": string.h is a header of the compiler\n'
            "  help: choose another name with --name",
        ),
        (
            "int",
            "glow",
            'error[bad-name]: a bundle with Glow\'s interface cannot be named "int", a word of C\n'
            "  help: choose another name with --name",
        ),
        (
            "main",
            "glow",
            'error[bad-name]: a bundle with Glow\'s interface cannot be named "main", a word of C\n'
            "  help: choose another name with --name",
        ),
    ],
)
def test_such_names_are_refused(name: str, api: Api, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        check_name(name, api)
    assert str(caught.value) == message


@pytest.mark.parametrize(("name", "api"), [("kws", "glow"), ("int", "luciole"), ("main", "luciole"), ("a1_b", "glow")])
def test_others_are_not(name: str, api: Api) -> None:
    check_name(name, api)
