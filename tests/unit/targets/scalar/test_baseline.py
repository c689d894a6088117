"""Cortex-M23: no instruction that Armv8-M Baseline lacks, though the core that runs it here has more."""

from __future__ import annotations

import io
from collections.abc import Iterator

import capstone
from elftools.elf.elffile import ELFFile

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.ir.target import find_target
from luciole.kernel.transform import expand_long_multiply
from luciole.targets.base import GENERIC, build_kernel, candidate_recipes
from support.layer_sweep import random_layers, sweep

CORE = "cortex-m23"
#: The instructions of 32 bits that Armv8-M Baseline has and compilers use (Armv8-M Architecture Reference Manual,
#: DDI 0553, chapter C1.3); all those of 16 bits but IT are in it.
WIDE = {"bl", "b.w", "movw", "movt", "sdiv", "udiv"}
#: What decoders also call a MOVW, and the 16-bit instruction that Baseline lacks.
MOVW, MAINLINE_ONLY = "mov.w", "it"


def instructions(data: bytes) -> Iterator[tuple[int, str]]:
    """Size and name of each instruction of an object, not of the data between them."""
    elf = ELFFile(io.BytesIO(data))
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    marks = [s for s in elf.get_section_by_name(".symtab").iter_symbols() if s.name[:2] in ("$t", "$d")]
    for index, section in enumerate(elf.iter_sections()):
        if not section.name.startswith(".text"):
            continue
        own = sorted((s["st_value"], s.name[:2]) for s in marks if s["st_shndx"] == index)
        ends = [begin for begin, _ in own[1:]] + [section.data_size] * bool(own)
        for (begin, mark), end in zip(own, ends, strict=True):
            if mark == "$t":
                yield from ((i.size, i.mnemonic) for i in decoder.disasm(section.data()[begin:end], begin))


def test_kernels_have_instructions_of_the_baseline_only() -> None:
    target, seen = find_target(CORE), set()
    for layer in random_layers(CORE, 1, 12):
        recipe = next(iter(candidate_recipes(layer.op, target)), GENERIC)
        kernel = expand_long_multiply(build_kernel(layer.op, recipe).kernel)
        text = print_kernel_llvm(kernel, "kernel", target, section=".text.kernel")
        seen |= set(instructions(compile_object([LlvmModule(text, not kernel.is_scheduled)], target)))
    assert {name for size, name in seen if size == 4} <= WIDE | {MOVW}
    assert not any(name.startswith(MAINLINE_ONLY) for _, name in seen)
    assert "muls" in {name for _, name in seen}


def test_random_layers_take_the_tiles_of_armv6m() -> None:
    swept = sweep(CORE, random_layers(CORE, 1, 12))
    assert "tiled_thumb1" in {layer.recipe for layer in swept}
