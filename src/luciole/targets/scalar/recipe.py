"""What register-tiled recipes share: one instance for each family of cores."""

from __future__ import annotations

from collections.abc import Callable

from luciole.ir.target import Target
from luciole.targets.base import KernelRecipe, register
from luciole.targets.scalar.machine import MACHINES, Machine


class TiledRecipe(KernelRecipe):
    """A recipe for a family of cores."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = f"tiled_{machine.name}"

    def suits(self, target: Target) -> bool:
        return self.machine.suits(target)


def tiled(operator: str) -> Callable[[type[TiledRecipe]], type[TiledRecipe]]:
    """Register a recipe for an operator on every family of cores."""

    def decorate(cls: type[TiledRecipe]) -> type[TiledRecipe]:
        for machine in MACHINES:
            register(cls(machine), operator, machine.dtype, machine.needs)
        return cls

    return decorate
