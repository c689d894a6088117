"""Targets as plain data: what code is made for, read from TOML files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from luciole.errors import CompileError

#: Features of cores whose compilers vectorize plain loops.
VECTOR_FEATURES = frozenset({"mve", "rvv", "neon", "sse2"})


@dataclass(frozen=True)
class Target:
    """A core (or this machine, `native`): how LLVM names it and what kernels may rely on.

    `features` are Luciole's own words that kernels ask for: dsp, mve, long_multiply (32x32->64), fpu, double, neon,
    rvv, avx2, avx512, ... `float_abi` is how functions that pass floats are called: `soft` or `hard`; int8 bundles pass
    none.
    """

    name: str
    description: str
    triple: str
    cpu: str
    llvm_features: str = ""
    features: frozenset[str] = frozenset()
    pointer_bytes: int = 4
    float_abi: str = "soft"
    code_model: str = "default"
    abi_name: str = ""
    arena_alignment: int = 16
    emulated_core: str = ""
    gcc_flags: tuple[str, ...] = ()

    @property
    def is_native(self) -> bool:
        """Whether code for this target runs on this machine, in this process."""
        return self.name == "native"

    @property
    def has_vectors(self) -> bool:
        """Whether the core has a vector unit, which plain loops then use."""
        return self.is_native or bool(VECTOR_FEATURES & self.features)

    @property
    def for_c(self) -> Target:
        """The target of generated C: compilers make vectors of plain loops for RISC-V themselves, and of ours none."""
        return replace(self, features=self.features - {"rvv"})

    def has(self, *features: str) -> bool:
        """Whether the core has all the given features."""
        return self.features.issuperset(features)


@cache
def load_targets() -> dict[str, Target]:
    """All targets by name, in order of name. Raises `ValueError` when a file has a key that targets have not."""
    targets = {}
    folder = resources.files("luciole.targets") / "data"
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            for name, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
                targets[name] = _target(name, entry)
    return dict(sorted(targets.items()))


def find_target(name: str) -> Target:
    """The target of that name. Raises `CompileError` that lists those there are."""
    targets = load_targets()
    if name not in targets:
        raise CompileError.of(
            "unknown-target", f'there is no target "{name}"', help=f"targets are {', '.join(targets)}"
        )
    return targets[name]


def _target(name: str, entry: dict[str, Any]) -> Target:
    known = set(Target.__dataclass_fields__) - {"name"}
    if unknown := set(entry) - known:
        raise ValueError(f"target {name} has unknown keys {sorted(unknown)}")
    given = dict(entry)
    given["features"] = frozenset(given.get("features", ()))
    given["gcc_flags"] = tuple(given.get("gcc_flags", ()))
    return Target(name=name, **given)
