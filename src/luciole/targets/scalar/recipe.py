"""What register-tiled recipes share: one instance for each family of cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from luciole.ir.target import Target
from luciole.targets.base import KernelRecipe, register
from luciole.targets.scalar.machine import MACHINES, Machine


@dataclass(frozen=True)
class TiledRecipe(KernelRecipe):
    """A recipe for a family of cores. `tile` is ten times the windows of a tile plus its channels, or 0 for what is
    estimated to be cheapest.
    """

    machine: Machine
    tile: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"tiled_{self.machine.name}")

    def suits(self, target: Target) -> bool:
        return self.machine.suits(target)


def tiled(operator: str) -> Callable[[type[TiledRecipe]], type[TiledRecipe]]:
    """Register a recipe for an operator on every family of cores."""

    def decorate(cls: type[TiledRecipe]) -> type[TiledRecipe]:
        for machine in MACHINES:
            register(cls(machine), operator, machine.dtype, machine.needs)
        return cls

    return decorate
