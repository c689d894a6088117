"""All options of a compilation, as one tree of immutable values; the command line and the Python API fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from luciole.errors import EXIT_USER, CompileError

Emit = Literal["object", "archive", "c"]
BundleApi = Literal["luciole", "glow"]

EMITS: tuple[Emit, ...] = get_args(Emit)
BUNDLE_APIS: tuple[BundleApi, ...] = get_args(BundleApi)


@dataclass(frozen=True)
class Options:
    """What the user asks for. Raises `CompileError` for a word that an option does not know."""

    #: The core, board or machine to compile for; see `luciole targets`.
    target: str = "native"
    #: Prefix of files, functions and macros; the file's stem by default, made C-safe.
    name: str = ""
    #: What the code is written as: an object file, a static library, or C99 source.
    emit: Emit = "object"
    #: The C interface: Luciole's own, or that of Glow's bundles.
    bundle_api: BundleApi = "luciole"
    #: Forbid `run` to overwrite the input; forbid writing an input to overwrite the last output.
    keep_input: bool = False
    keep_output: bool = False
    #: Refuse a bundle whose arena or flash is larger than this, in bytes.
    max_ram: int | None = None
    max_flash: int | None = None
    #: Use hand-scheduled kernels where they apply; off, every layer takes its generic loops.
    use_recipes: bool = True

    def __post_init__(self) -> None:
        for option, value, allowed in (("emit", self.emit, EMITS), ("bundle-api", self.bundle_api, BUNDLE_APIS)):
            if value not in allowed:
                message = f'--{option} cannot be "{value}"'
                raise CompileError.of(
                    "bad-option", message, help=f"it is one of {', '.join(allowed)}", exit_code=EXIT_USER
                )
