"""Glow's bundle interface: its macros, its memories, and programs that were written for it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from luciole.bundle import assemble_bundle, describe_interface
from luciole.bundle.glow import placeholder_macros, separate_interface, weights_text
from luciole.bundle.interface import MUTABLE
from luciole.bundle.test_program import make_sample
from luciole.errors import CompileError
from luciole.ir.target import find_target
from luciole.options import Options
from luciole.program.core import ARENA
from support.native_c import compiler
from unit.bundle.graphs import HOSTILE_NAMES, IDENTITY, chain, constant_output, many_ports, program_of

#: As application code for Glow's bundles is written: three arrays, macros for places, one call.
APPLICATION = """
#include <stdio.h>
#include <string.h>
#include "toy.h"
GLOW_MEM_ALIGN(TOY_MEM_ALIGN)
uint8_t constantWeight[TOY_CONSTANT_MEM_SIZE] = {
#include "toy.weights.txt"
};
GLOW_MEM_ALIGN(TOY_MEM_ALIGN)
uint8_t mutableWeight[TOY_MUTABLE_MEM_SIZE];
GLOW_MEM_ALIGN(TOY_MEM_ALIGN)
uint8_t activations[TOY_ACTIVATIONS_MEM_SIZE];
int main(void) {
  uint8_t *input = GLOW_GET_ADDR(mutableWeight, TOY_image);
  uint8_t *output = GLOW_GET_ADDR(mutableWeight, TOY_scores);
  if (fread(input, 1, 192, stdin) != 192) return 2;
  if (toy(constantWeight, mutableWeight, activations) != GLOW_SUCCESS) return 3;
  fwrite(output, 1, 256, stdout);
  return 0;
}
"""


@pytest.mark.parametrize("emit", ["object", "archive", "c"])
def test_an_application_for_glow_compiles_and_runs(emit: str, tmp_path: Path) -> None:
    options = Options(bundle_api="glow", emit=emit)  # type: ignore[arg-type]  # one of its words
    bundle = assemble_bundle(program_of(chain()), find_target("native"), IDENTITY, options)
    bundle.save(tmp_path)
    (tmp_path / "main.c").write_text(APPLICATION)
    code = {"object": "toy.o", "archive": "libtoy.a", "c": "toy.c"}[emit]
    command = [*compiler("gcc"), "-Wall", "-Wextra", "-Werror", "main.c", code, "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    sample = make_sample(chain())
    output = subprocess.run([tmp_path / "main"], input=sample.inputs[0].tobytes(), capture_output=True, check=True)
    assert output.stdout == sample.outputs[0].tobytes()


def test_inputs_and_outputs_have_a_memory_of_their_own() -> None:
    program = separate_interface(program_of(chain()))
    interface = describe_interface(program, "toy", "glow")
    assert [t.region for t in (*interface.inputs, *interface.outputs)] == [MUTABLE, MUTABLE]
    assert interface.mutable_bytes == 192 + 256
    assert {b.kind for b in program.in_region(ARENA)} == {"temp"}
    assert interface.arena_bytes == program.arena.size_bytes == 8 * 8 * 24
    assert all(t.offset % 64 == 0 for t in (*interface.inputs, *interface.outputs))


def test_macros_are_those_of_glow() -> None:
    options = Options(bundle_api="glow")
    bundle = assemble_bundle(program_of(chain()), find_target("native"), IDENTITY, options)
    found = dict(re.findall(r"^#define (\w+) (\d+)$", bundle.files["toy.h"].decode(), flags=re.MULTILINE))
    assert found == {
        "GLOW_SUCCESS": "0",
        "TOY_image": "0",
        "TOY_scores": "192",
        "TOY_CONSTANT_MEM_SIZE": str(len(bundle.constant_weights)),
        "TOY_MUTABLE_MEM_SIZE": "448",
        "TOY_ACTIVATIONS_MEM_SIZE": str(bundle.interface.arena_bytes),
        "TOY_MEM_ALIGN": "64",
    }
    assert bundle.files["toy.weights.bin"] == bundle.constant_weights


def test_placeholders_of_any_name_have_macros_of_their_own() -> None:
    program = separate_interface(program_of(many_ports()))
    macros = dict(placeholder_macros(describe_interface(program, "toy", "glow")))
    assert len(macros) == 2 * len(HOSTILE_NAMES)
    assert all(re.fullmatch(r"TOY_[A-Za-z0-9_]*", name) for name in macros)


def test_constants_as_text_are_their_bytes() -> None:
    data = bytes(range(40))
    text = weights_text(data)
    assert bytes(int(n, 16) for n in re.findall(r"0X[0-9A-F]{2}(?=,)", text)) == data
    assert len(text.splitlines()) == 3


def test_a_constant_output_is_refused() -> None:
    with pytest.raises(CompileError) as caught:
        separate_interface(program_of(constant_output()))
    assert str(caught.value) == (
        'error[unsupported-output]: output "table" is a constant, which a bundle with Glow\'s interface cannot have\n'
        "  help: compile with --bundle-api luciole, or remove the output"
    )
