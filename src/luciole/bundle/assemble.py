"""From a planned program to a bundle: print, compile, inspect, report."""

from __future__ import annotations

import re
from collections.abc import Iterable

from luciole.bundle.archive import write_archive
from luciole.bundle.bundle import Bundle
from luciole.bundle.check import ObjectFacts, inspect_object
from luciole.bundle.glow import separate_interface, weights_text
from luciole.bundle.header import ModelIdentity, print_header
from luciole.bundle.interface import describe_interface
from luciole.bundle.linker import print_linker_fragment
from luciole.bundle.names import check_name
from luciole.bundle.objects import build_object
from luciole.bundle.report import make_report
from luciole.bundle.sources import print_bundle_c
from luciole.bundle.test_program import make_sample, print_test_program
from luciole.emit.entry import weights_name
from luciole.errors import InternalError
from luciole.ir.board import Board
from luciole.ir.target import Target
from luciole.options import Options
from luciole.program.core import Program
from luciole.report.codec import Pairs
from luciole.report.html import render_html
from luciole.report.model import LinkReport

#: Names of the routines that every compiler for a core brings: the Arm run-time ABI's, and libgcc's for numbers of two
#: words (`di`, `ti`) and floats (`sf`, `df`). None of memory or of libm.
_SUPPORT_ROUTINE = re.compile(r"__aeabi_(?!mem)\w+|__\w*(si|di|ti|sf|df)\w*")


def assemble_bundle(
    program: Program,
    target: Target,
    model: ModelIdentity,
    options: Options,
    *,
    reported_options: Pairs = (),
    board: Board | None = None,
) -> Bundle:
    """The bundle of a planned program: `options` say whether it is an object, a library or C, and for which interface.

    `reported_options` is what the report says of the options; `board` is what the program was placed on, if any.
    Raises `CompileError` (`bad-name`) for a name that a bundle cannot have, `InternalError` when the object is not
    what every bundle promises: no writable data, no recursion.
    """
    name = model.name
    check_name(name, options.bundle_api)
    is_glow = options.bundle_api == "glow"
    if is_glow:
        program = separate_interface(program)
    interface = describe_interface(program, name, options.bundle_api, board)
    facts, object_bytes = None, b""
    if options.emit == "c":
        files = print_bundle_c(program, interface, model, target.name, options.weights, has_board=board is not None)
    else:
        object_bytes = build_object(program, name, target, options.bundle_api)
        facts = inspect_object(object_bytes, *weights_sections(program, name))
        check_promises(facts)
        files = {f"{name}.h": print_header(interface, model, target.name).encode("ascii")}
        if options.emit == "archive":
            files[f"lib{name}.a"] = write_archive({f"{name}.o": object_bytes})
        else:
            files[f"{name}.o"] = object_bytes
    constant_weights = program.weights_blob() if is_glow else b""
    if is_glow:
        files[f"{name}.weights.bin"] = constant_weights
        files[f"{name}.weights.txt"] = weights_text(constant_weights).encode("ascii")
    link = LinkReport(tuple(files), _link_lines(name, files, options.emit, target))
    if board is not None:
        files[f"{name}.ld"] = print_linker_fragment(program, name, board).encode("ascii")
    files[f"{name}_test.c"] = print_test_program(interface, model, make_sample(program.graph)).encode("ascii")
    report = make_report(program, target, model, interface, facts, link, reported_options, board)
    files[f"{name}.report.json"] = report.to_json().encode("ascii")
    files[f"{name}.report.html"] = render_html(report).encode("utf-8")
    return Bundle(name, files, report, interface, object_bytes, constant_weights)


def weights_sections(program: Program, name: str) -> tuple[str, ...]:
    """The sections of an object that hold the weights of a program."""
    return tuple(f".rodata.{weights_name(name, region.name)}" for region in program.regions_of("const"))


def check_promises(facts: ObjectFacts) -> None:
    """Raise `InternalError` when an object has writable data, recursion, or needs more than a compiler's own support.

    What it may leave to the user's toolchain are support routines, such as soft-float arithmetic on cores without FPU.
    """
    if facts.writable_bytes:
        raise InternalError(f"the object has {facts.writable_bytes} bytes of writable data")
    if cycles := facts.cycles():
        raise InternalError("the object is recursive: " + " -> ".join(cycles[0]))
    if foreign := [symbol for symbol in facts.undefined if not _SUPPORT_ROUTINE.fullmatch(symbol)]:
        raise InternalError(f"the object needs {', '.join(foreign)}")


def _link_lines(name: str, files: Iterable[str], emit: str, target: Target) -> tuple[str, ...]:
    """The command that compiles and links a program `main.c` with the bundle."""
    if target.triple.startswith("thumb"):
        compiler = "arm-none-eabi-gcc"
    elif target.triple.startswith("riscv32"):
        compiler = "riscv64-unknown-elf-gcc"
    elif target.triple.startswith(("aarch64", "riscv64")):
        compiler = target.triple.replace("-unknown", "") + "-gcc"
    else:
        compiler = "cc"
    inputs = ["main.c"]
    if emit == "archive":
        inputs += ["-L.", f"-l{name}"]
    else:
        inputs += [file for file in files if file.endswith((".c", ".o"))]
    flags = [*target.gcc_flags, *(["-std=c99", "-O3"] if emit == "c" else [])]
    return (" ".join([compiler, *flags, "-I.", *inputs]),)
