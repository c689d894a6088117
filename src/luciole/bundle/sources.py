"""The C99 source of a bundle: kernels, weights and entry functions, for any compiler."""

from __future__ import annotations

from luciole.bundle.header import ModelIdentity, print_header
from luciole.bundle.interface import MUTABLE, Interface
from luciole.bundle.templating import comment_text
from luciole.emit.c import prelude_c, print_kernel_c
from luciole.emit.entry import kernel_function, weights_name
from luciole.emit.entry_c import print_entry, print_glow_entry, print_weights, print_weights_type
from luciole.options import WeightsFormat
from luciole.program.core import Program
from luciole.version import __version__

#: Weights up to this size stand in the same file as the code.
LARGEST_INLINE_WEIGHTS = 100 * 1000


_ATTRIBUTES = """\
#if !defined({upper}_ALIGNED)
#error "define {upper}_ALIGNED(bytes) as what aligns a variable in this compiler"
#endif

/* Where constants go, such as __attribute__((section(".sdram"))). */
#if !defined({upper}_WEIGHTS_ATTRIBUTES)
#define {upper}_WEIGHTS_ATTRIBUTES
#endif
"""

_OTHER_ATTRIBUTES = """\
#if !defined({upper}_ATTRIBUTES)
#if defined(__GNUC__) && defined(__ELF__)
#define {upper}_ATTRIBUTES __attribute__((section(".rodata.{name}")))
#else
#define {upper}_ATTRIBUTES
#endif
#endif
"""

_CODE_ATTRIBUTES = """\
/* Where the code of layers goes, such as __attribute__((noinline, section(".itcm"))). Layers share functions. */
#if !defined({upper}_CODE_ATTRIBUTES)
#if defined(__GNUC__)
#define {upper}_CODE_ATTRIBUTES __attribute__((noinline))
#else
#define {upper}_CODE_ATTRIBUTES
#endif
#endif
"""

_INCLUDED_WEIGHTS = """\
/* The file with the weights, as the assembler finds it: a path, or a name in a folder given with -Wa,-I. */
#if !defined({upper}_WEIGHTS_FILE)
#define {upper}_WEIGHTS_FILE "{prefix}_weights.bin"
#endif
#if !defined(__GNUC__) || !defined(__ELF__)
#error "weights in a binary file need a compiler like gcc or clang and ELF; compile the model with weights as an array"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the weights are little endian"
#endif

__asm__(
    "    .section .rodata.{prefix}_weights,\\"a\\"\\n"
    "    .balign {alignment}\\n"
    "    .globl {prefix}_weights\\n"
    "    .hidden {prefix}_weights\\n"
    "{prefix}_weights:\\n"
    "    .incbin \\"" {upper}_WEIGHTS_FILE "\\"\\n"
    "    .size {prefix}_weights, . - {prefix}_weights\\n"
    "    .text\\n");

/* The file has the size of the structure. */
typedef char {prefix}_weights_size[sizeof({prefix}_weights_type) == {size}u ? 1 : -1];
"""


def print_bundle_c(
    program: Program,
    interface: Interface,
    model: ModelIdentity,
    target_name: str,
    weights: WeightsFormat = "array",
    *,
    has_board: bool = False,
) -> dict[str, bytes]:
    """The files of a bundle in C by name: header and source, and the weights apart when they are large.

    For a board the weights have sections of their own, as in an object, for its linker script.

    Everything is ASCII, C99 and C++98, and the same for the same program.
    """
    prefix = interface.prefix
    files = {f"{prefix}.h": print_header(interface, model, target_name)}
    top = _top(model)
    if interface.api == "glow":
        files[f"{prefix}.c"] = "\n".join(
            [top, *_kernels(program, prefix), f'#include "{prefix}.h"\n', print_glow_entry(program, prefix, MUTABLE)]
        )
        return {name: text.encode("ascii") for name, text in files.items()}
    is_large = sum(region.size_bytes for region in program.regions_of("const")) > LARGEST_INLINE_WEIGHTS
    attributes = _ATTRIBUTES.format(upper=prefix.upper())
    if has_board:
        attributes = _OTHER_ATTRIBUTES.format(name=f"{prefix}_weights", upper=f"{prefix.upper()}_WEIGHTS") + attributes
    main = [top, *_kernels(program, prefix), f'#include "{prefix}.h"\n']
    extra: dict[str, bytes] = {}
    if is_large:
        main.append(f'#include "{prefix}_weights.h"\n')
        files[f"{prefix}_weights.h"] = _weights_header(program, prefix, top)
        body = [top, f'#include "{prefix}_weights.h"\n', attributes]
        if weights == "binary":
            extra[f"{prefix}_weights.bin"] = program.weights_blob()
            body.append(_included_weights(program, prefix))
        else:
            body.append(print_weights(program, prefix, _aligned(program, prefix, "")))
        body += _other_weights(program, prefix, "")
        files[f"{prefix}_weights.c"] = "\n".join(body)
    else:
        main += [attributes, print_weights_type(program, prefix)]
        main.append(print_weights(program, prefix, _aligned(program, prefix, "static")))
        main += _other_weights(program, prefix, "static")
    main.append(print_entry(program, prefix))
    files[f"{prefix}.c"] = "\n".join(part for part in main if part)
    return {name: text.encode("ascii") for name, text in files.items()} | extra


def _top(model: ModelIdentity) -> str:
    return (
        "/* SPDX-License-Identifier: Apache-2.0 */\n"
        f"/* Neural network {comment_text(model.original_name)}, compiled by luciole {__version__}. */\n"
    )


def _kernels(program: Program, prefix: str) -> list[str]:
    """What kernels need, and the kernels; before any other header, since the options for floats hold from there on."""
    upper = prefix.upper()
    parts = [prelude_c(program.kernels.values()), _CODE_ATTRIBUTES.format(upper=upper)]
    for name, kernel in program.kernels.items():
        parts.append(print_kernel_c(kernel, kernel_function(prefix, name), f"static {upper}_CODE_ATTRIBUTES"))
    return parts


def _aligned(program: Program, prefix: str, linkage: str) -> str:
    return f"{prefix.upper()}_ALIGNED({program.weights.alignment}) {linkage}".strip()


def _weights_header(program: Program, prefix: str, top: str) -> str:
    """The header that the two source files share; a user does not include it."""
    upper = prefix.upper()
    return "\n".join(
        [
            top + f"#ifndef {upper}_WEIGHTS_H\n#define {upper}_WEIGHTS_H\n",
            f'#include "{prefix}.h"\n',
            print_weights_type(program, prefix),
            '#if defined(__cplusplus)\nextern "C" {\n#endif',
            *(
                f"extern const {name}_type {name};"
                for region in program.regions_of("const")
                if region.size_bytes
                for name in (weights_name(prefix, region.name),)
            ),
            f"#if defined(__cplusplus)\n}}\n#endif\n\n#endif /* {upper}_WEIGHTS_H */\n",
        ]
    )


def _other_weights(program: Program, prefix: str, linkage: str) -> list[str]:
    """The weights in other memories of a board, each in a section of its own."""
    parts = []
    for region in program.regions_of("const")[1:]:
        name = weights_name(prefix, region.name)
        parts.append(_OTHER_ATTRIBUTES.format(name=name, upper=name.upper()))
        parts.append(print_weights(program, prefix, _aligned(program, prefix, linkage), region.name))
    return parts


def _included_weights(program: Program, prefix: str) -> str:
    return _INCLUDED_WEIGHTS.format(
        prefix=prefix, upper=prefix.upper(), alignment=program.weights.alignment, size=program.weights.size_bytes
    )
