"""Kernels as text, their verifier, their transforms and their C: `tests/golden/kernel/*.case`.

A transform's case runs the kernel before and after on three random inputs, and both must agree in every bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import luciole.kernel.intrinsics  # noqa: F401  # defines the intrinsics that the cases call
from luciole.emit.c import print_kernel_c
from luciole.ir.types import DType
from luciole.kernel.core import Constant, Kernel, Operand
from luciole.kernel.running import run_pointers
from luciole.kernel.text import parse_kernel, print_kernel
from luciole.kernel.transform import (
    bind_scalars,
    expand_long_multiply,
    hoist,
    peel,
    prune,
    rename,
    split,
    split_at,
    substitute,
    unroll,
)
from luciole.kernel.vectorize import vectorize
from luciole.kernel.verify import verify_kernel
from luciole.targets.mve.unit import MVE
from support.cases import find_cases, run_case
from support.random_kernels import assert_same_outputs


def transform(function: Callable[[Kernel, list[str]], Kernel]) -> Callable[[list[str], str], str]:
    def command(words: list[str], text: str) -> str:
        before = parse_kernel(text)
        assert print_kernel(before) == text, "the kernel is not written as it prints"
        verify_kernel(before)
        after = function(before, words)
        verify_kernel(after)
        assert_same_outputs(before, after)
        return print_kernel(after)

    return command


def pairs(words: list[str]) -> dict[str, str]:
    return dict(tuple(word.split("=", 1)) for word in words)  # type: ignore[misc]  # two parts each


def bind(kernel: Kernel, words: list[str]) -> Kernel:
    return bind_scalars(kernel, {name: int(value) for name, value in pairs(words).items()})


def points(words: list[str]) -> list[Operand]:
    return [Constant(int(word), DType.INDEX) for word in words]


def emit_c(words: list[str], text: str) -> str:
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    return print_kernel_c(kernel, "function", *words)


def print_again(words: list[str], text: str) -> str:
    printed = print_kernel(parse_kernel(text))
    assert print_kernel(parse_kernel(printed)) == printed
    return printed


def verify(words: list[str], text: str) -> str:
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    return print_kernel(kernel)


COMMANDS = {
    "bind_scalars": transform(bind),
    "c": emit_c,
    "expand_long_multiply": transform(lambda kernel, words: expand_long_multiply(kernel)),
    "hoist": transform(lambda kernel, words: hoist(kernel)),
    "peel": transform(lambda kernel, words: peel(kernel, words[0], int(words[1]))),
    "print": print_again,
    "prune": transform(lambda kernel, words: prune(kernel)),
    "rename": transform(lambda kernel, words: rename(kernel, pairs(words))),
    "run_pointers": transform(lambda kernel, words: run_pointers(kernel)),
    "split": transform(lambda kernel, words: split(kernel, words[0], int(words[1]))),
    "split_at": transform(lambda kernel, words: split_at(kernel, words[0], *points(words[1:]))),
    "split_at_and_prune": transform(lambda kernel, words: prune(split_at(kernel, words[0], *points(words[1:])))),
    "substitute": transform(lambda kernel, words: substitute(kernel, words[0])),
    "unroll": transform(lambda kernel, words: unroll(kernel, words[0], *map(int, words[1:]))),
    "vectorize": transform(lambda kernel, words: vectorize(kernel, MVE)),
    "verify": verify,
}


@pytest.mark.parametrize("path", find_cases("kernel"), ids=lambda path: path.stem)
def test_case(path: Path, update_cases: bool) -> None:
    run_case(path, COMMANDS, update_cases)
