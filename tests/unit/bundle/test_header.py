"""The header: its macros, and that names of models stay comments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luciole.bundle import describe_interface, print_header
from luciole.bundle.templating import comment_text
from luciole.emit.entry import c_identifier
from luciole.program.core import Program
from luciole.version import __version__
from support.native_c import WARNINGS, compile_c
from unit.bundle.graphs import HOSTILE_NAMES, IDENTITY, chain, many_ports, program_of, real


def header(program: Program) -> str:
    return print_header(describe_interface(program, "toy"), IDENTITY, "cortex-m4")


def macros(text: str) -> dict[str, str]:
    return dict(re.findall(r"^#define (\w+) (.+)$", text, flags=re.MULTILINE))


def test_macros_state_sizes_shapes_and_quantization() -> None:
    program = program_of(chain(), "cortex-m4")
    found = macros(header(program))
    assert found["TOY_ARENA_SIZE"] == f"{program.arena.size_bytes}u"
    assert found["TOY_ARENA_ALIGN"] == f"{program.arena.alignment}u"
    assert found["TOY_ABI_VERSION"] == "1"
    assert found["TOY_COMPILER_VERSION"] == f'"{__version__}"'
    assert found["TOY_MODEL_SHA256"] == f'"{"ab" * 32}"'
    assert (found["TOY_INPUT_COUNT"], found["TOY_OUTPUT_COUNT"]) == ("1u", "1u")
    assert {k: v for k, v in found.items() if k.startswith("TOY_INPUT_")} == {
        "TOY_INPUT_COUNT": "1u",
        "TOY_INPUT_ELEMENTS": "192u",
        "TOY_INPUT_BYTES": "192u",
        "TOY_INPUT_RANK": "4u",
        "TOY_INPUT_SHAPE": "{1, 8, 8, 3}",
        "TOY_INPUT_SCALE": "0.05f",
        "TOY_INPUT_ZERO_POINT": "(-3)",
    }
    assert found["TOY_OUTPUT_BYTES"] == "256u"


def test_floats_have_no_scale_and_four_bytes_each() -> None:
    text = header(program_of(real()))
    found = macros(text)
    assert found["TOY_INPUT_BYTES"] == "288u"
    assert found["TOY_INPUT_ELEMENTS"] == "72u"
    assert "TOY_INPUT_SCALE" not in found
    assert "float *toy_input(const toy_model *model);" in text


def test_several_inputs_are_told_apart_by_name() -> None:
    text = header(program_of(many_ports()))
    functions = re.findall(r"^int8_t \*(toy_input_\w+)\(", text, flags=re.MULTILINE)
    assert len(set(functions)) == len(HOSTILE_NAMES)
    assert all(re.fullmatch(r"[a-z0-9_]+", function) for function in functions)
    found = macros(text)
    assert [found[f"{f.upper()}_BYTES"] for f in functions] == [f"{4 * (i + 1)}u" for i in range(len(functions))]


def test_there_is_neither_a_date_nor_a_path() -> None:
    text = header(program_of(chain()))
    assert text == header(program_of(chain()))
    assert not re.search(r"\b(19|20)\d\d\b|/work|/home|/tmp|\.tflite", text)
    assert text.startswith("/* SPDX-License-Identifier: ")
    assert text.isascii()


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_in_a_comment_stays_in_the_comment(name: str) -> None:
    shown = comment_text(name)
    assert "*/" not in shown and "/*" not in shown and "\n" not in shown and "??" not in shown
    assert shown.isascii() and len(shown) < 1000


@pytest.mark.parametrize("compiler", ["gcc", "g++", "clang", "clang++"])
@pytest.mark.parametrize("graph", [chain, many_ports, real])
def test_compilers_take_the_header_without_a_word(compiler: str, graph: object, tmp_path: Path) -> None:
    standard = "-std=c++98" if compiler.endswith("++") else "-std=c99"
    flags = [standard, *WARNINGS, "-Wundef", "-c"]
    if not compiler.endswith("++"):
        flags += ["-Wstrict-prototypes", "-Wmissing-prototypes"]
    text = header(program_of(graph()))  # type: ignore[operator]  # one of the functions above
    compile_c(f"{text}\n{text}\nextern int unused;\nint unused;\n", tmp_path, compiler, flags, ".o")


@pytest.mark.parametrize(
    ("text", "identifier"),
    [("Kws DS-CNN", "kws_ds_cnn"), ("3d", "m3d"), ("", "model"), ("../x", "x"), ("a" * 40, "a" * 31)],
)
def test_prefixes_are_made_c_safe(text: str, identifier: str) -> None:
    assert c_identifier(text) == identifier
