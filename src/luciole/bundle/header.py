"""The header of a bundle: sizes, shapes, quantization and functions, for C99 and C++."""

from __future__ import annotations

from dataclasses import dataclass

from luciole.bundle.glow import placeholder_macros
from luciole.bundle.interface import Interface
from luciole.bundle.templating import render
from luciole.emit.entry import STATUSES
from luciole.version import __version__

#: Raised when a bundle's functions change so that old callers break.
ABI_VERSION = 1


@dataclass(frozen=True)
class ModelIdentity:
    """The model a bundle is made of.

    `name` is the prefix of files, functions and macros, a name that `c_identifier` leaves as it is; `original_name`
    what the user calls the model, any text; `file` its file's name without folder; `sha256` the digest of the file's
    bytes.
    """

    name: str
    original_name: str
    file: str
    sha256: str


def print_header(interface: Interface, model: ModelIdentity, target: str) -> str:
    """The text of `<prefix>.h`: the same for the same model, whatever the date and the machine."""
    template = "glow.h.j2" if interface.api == "glow" else "bundle.h.j2"
    return render(
        template,
        prefix=interface.prefix,
        upper=interface.prefix.upper(),
        interface=interface,
        original_name=model.original_name,
        sha256=model.sha256,
        target=target,
        compiler_version=__version__,
        abi_version=ABI_VERSION,
        statuses=STATUSES,
        placeholders=placeholder_macros(interface) if interface.api == "glow" else (),
    )
