"""Names that a bundle cannot have, because its files or functions would hide those of the user's compiler."""

from __future__ import annotations

from luciole.bundle.interface import Api
from luciole.emit.c import c_names
from luciole.emit.entry import c_identifier
from luciole.errors import CompileError

#: Headers of C, without `.h`: a bundle's header of the same name would be included in their place.
_HEADERS = frozenset(
    """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg
    stdatomic stdbit stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar unistd
    wchar wctype arm_acle arm_mve arm_neon immintrin
    """.split()  # noqa: SIM905  # a table of words reads better as words
)

#: Functions that compilers know by name, which Glow's one function, named as the bundle, must not be.
_FUNCTIONS = frozenset(
    """
    main abort exit malloc calloc realloc free memcpy memmove memset memcmp strlen strcpy strcmp printf puts
    putchar abs labs div exp log log2 log10 pow sqrt sin cos tan asin acos atan tanh sinh cosh floor ceil round
    trunc fabs fmod rand srand time clock read write open close index signal raise
    """.split()  # noqa: SIM905  # a table of words reads better as words
)


def check_name(name: str, api: Api) -> None:
    """Raise `CompileError` (`bad-name`) when a bundle of this interface cannot have this name."""
    help_text = "choose another name with --name"
    if c_identifier(name) != name:
        raise CompileError.of(
            "bad-name",
            f'a bundle cannot be named "{name}": names are lower-case letters, digits and underscores, 31 at most',
            help=f"{help_text}, such as {c_identifier(name)}",
        )
    if name in _HEADERS:
        raise CompileError.of(
            "bad-name", f'a bundle cannot be named "{name}": {name}.h is a header of the compiler', help=help_text
        )
    if api == "glow" and (name in _FUNCTIONS or c_names([name])[name] != name):
        raise CompileError.of(
            "bad-name", f'a bundle with Glow\'s interface cannot be named "{name}", a word of C', help=help_text
        )
