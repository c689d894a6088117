"""Kernel recipes: how an operator becomes a kernel, and which of several ways a target takes.

Every operator has the generic recipe, made from its own `loops`. A hand-scheduled recipe is a class under `@kernel`: it
says when it applies, how constants are packed, what workspace it needs and what it costs, so that lowering can choose
and the planner can see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib import import_module
from typing import ClassVar

import numpy as np

from luciole.errors import InternalError
from luciole.graph.core import Elementwise, Operator, Value, Views
from luciole.graph.facts import found_once
from luciole.graph.samples import Samples
from luciole.ir.target import VECTOR_FEATURES, Target
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder, View
from luciole.kernel.core import Kernel
from luciole.kernel.estimate import estimated_code_bytes, estimated_instructions
from luciole.kernel.long_arithmetic import expand_long_multiply
from luciole.ops.loops import elementwise_loops
from luciole.targets.tuning import load_tuning

#: Modules that register recipes, one folder an instruction set; the only place that lists them.
RECIPE_MODULES = (
    "luciole.targets.mve.conv",
    "luciole.targets.mve.elementwise",
    "luciole.targets.mve.depthwise",
    "luciole.targets.mve.pool",
    "luciole.targets.rvv.conv",
    "luciole.targets.rvv.depthwise",
    "luciole.targets.rvv.elementwise",
    "luciole.targets.rvv.pool",
    "luciole.targets.armv7em.pointwise",
    "luciole.targets.armv7em.conv",
    "luciole.targets.armv7em.winograd",
    "luciole.targets.armv7em.depthwise",
    "luciole.targets.armv7em.fc",
    "luciole.targets.scalar.conv",
    "luciole.targets.armv7em.add",
    "luciole.targets.armv7em.mul",
    "luciole.targets.armv7em.pool",
    "luciole.targets.scalar.depthwise",
    "luciole.targets.scalar.pad",
    "luciole.targets.scalar.table",
)

#: Constants start at multiples of this, so that kernels may read them by words.
CONSTANT_ALIGNMENT = 4


@dataclass(frozen=True)
class Cost:
    """What one run of a kernel costs: executed instructions and estimated cycles."""

    instructions: int
    cycles: int


class KernelRecipe:
    """A way to compute one operator. Instances are values: they hold nothing but parameters of the recipe, such as how
    far a loop is unrolled, as the fields of a frozen dataclass.
    """

    name: str = "generic"
    #: The parameters that `luciole tune` tries, with the values to try, the usual one first.
    parameter_space: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    #: Whether it buys speed with much flash or workspace, so that it is taken only where speed is asked for.
    trades_memory: bool = False

    def applies(self, op: Operator) -> str:
        """Why this recipe cannot compute `op`, or an empty string."""
        return ""

    def shape_class(self, op: Operator) -> str:
        """The class of layers to which an operator belongs for tuning: those of a class take the same parameters."""
        return ""

    def tuning_layers(self, s: Samples) -> Iterator[Operator]:
        """Layers that stand for the classes, those that models have."""
        yield from ()

    def variants(self) -> tuple[KernelRecipe, ...]:
        """This recipe with parameters that trade speed for bytes of flash."""
        return ()

    def suits(self, target: Target) -> bool:
        """Whether it is meant for a target, beyond the features that it needs."""
        return True

    def constants(self, op: Operator) -> dict[str, Array]:
        """All constants that the kernel reads, packed as it reads them, by buffer name."""
        raise NotImplementedError

    def activations(self, op: Operator) -> tuple[tuple[str, Value], ...]:
        """The operands that are not constant and that the kernel reads, by buffer name."""
        return tuple((name, value) for name, value in op.named_operands() if not value.is_constant)

    def workspace_bytes(self, op: Operator) -> int:
        """Bytes of temporary memory."""
        return 0

    def cost(self, op: Operator, target: Target) -> Cost:
        """What it costs on a target, from its shapes."""
        raise NotImplementedError

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        """Append the kernel's loops; `v` holds activations, constants, results (`y`, or `y0`, `y1`, ...) and
        `workspace`.
        """
        raise NotImplementedError

    @property
    def is_scheduled(self) -> bool:
        """Whether back ends must keep the order of the loops as built."""
        return True

    def shapes(self, op: Operator) -> dict[str, Shape]:
        """Buffers that the kernel sees under another shape of the same size."""
        return {}

    def alignments(self, op: Operator) -> dict[str, int]:
        """Alignment in bytes that the kernel needs of activations and results beyond that of their elements."""
        return {}

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        """Activations over which the kernel may write its one result, and how many bytes the result must begin below
        each, at least: then nothing is overwritten before its last read. None that are not named.
        """
        return {}

    def in_place(self, op: Operator) -> tuple[str, ...]:
        """Activations over which the kernel may write its one result if that begins exactly where they begin."""
        return ()


class GenericRecipe(KernelRecipe):
    """The operator's own loops."""

    def constants(self, op: Operator) -> dict[str, Array]:
        wanted = op.kernel_operands()
        operands = {n: v.data for n, v in op.named_operands() if n in wanted and v.data is not None}
        return operands | op.parameters()

    def activations(self, op: Operator) -> tuple[tuple[str, Value], ...]:
        wanted = op.kernel_operands()
        return tuple((n, v) for n, v in op.named_operands() if n in wanted and not v.is_constant)

    def workspace_bytes(self, op: Operator) -> int:
        return op.workspace_bytes()

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        if isinstance(op, Elementwise):
            elementwise_loops(k, op, v)
        else:
            op.loops(k, v)

    def cost(self, op: Operator, target: Target) -> Cost:
        """From the loops of the kernel. What LLVM makes vectors of is not foreseen."""
        instructions = estimated_instructions(_final(build_kernel(op, self).kernel, target), target)
        return Cost(instructions, int(1.3 * instructions))

    @property
    def is_scheduled(self) -> bool:
        return False

    def shapes(self, op: Operator) -> dict[str, Shape]:
        return op.kernel_shapes()

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        return op.overlap_bytes()


GENERIC = GenericRecipe()


@dataclass(frozen=True)
class Registration:
    """A recipe with what it is for."""

    recipe: KernelRecipe
    operator: str
    dtype: DType
    needs: frozenset[str]

    def fits(self, target: Target) -> bool:
        """Whether a target has all the features that the recipe needs.

        Where compilers vectorize plain loops, only recipes that name a vector unit are better than those.
        """
        is_vector = bool(VECTOR_FEATURES & self.needs)
        return target.has(*self.needs) and (is_vector or not target.has_vectors)


_RECIPES: list[Registration] = []


def kernel(operator: str, dtype: DType, needs: AbstractSet[str]) -> Callable[[type[KernelRecipe]], type[KernelRecipe]]:
    """Register a recipe for an operator of an element type, on targets that have the features it needs."""

    def decorate(cls: type[KernelRecipe]) -> type[KernelRecipe]:
        register(cls(), operator, dtype, needs)
        return cls

    return decorate


def register(recipe: KernelRecipe, operator: str, dtype: DType, needs: AbstractSet[str]) -> None:
    """Add a recipe for an operator of an element type, on targets that have the features it needs."""
    _RECIPES.append(Registration(recipe, operator, dtype, frozenset(needs)))


@cache
def recipes() -> tuple[Registration, ...]:
    """All registered recipes, in order of registration."""
    for module in RECIPE_MODULES:
        import_module(module)
    return tuple(_RECIPES)


def tuned(recipe: KernelRecipe, op: Operator, target: Target) -> KernelRecipe:
    """A recipe with the parameters that suit the class of an operator on a target."""
    if not recipe.parameter_space:
        return recipe
    given = load_tuning(target.name).get(recipe.name, {}).get(recipe.shape_class(op), {})
    return replace(recipe, **given) if given else recipe  # type: ignore[type-var]  # recipes with parameters are dataclasses


def candidate_recipes(op: Operator, target: Target, *, may_trade_memory: bool = False) -> list[KernelRecipe]:
    """The hand-scheduled recipes that can compute `op` on a target, cheapest in estimated cycles first; those that buy
    speed with much memory only where that is allowed.
    """
    return [recipe for recipe, _ in ranked_recipes(op, target, may_trade_memory=may_trade_memory)]


def ranked_recipes(op: Operator, target: Target, *, may_trade_memory: bool = False) -> list[tuple[KernelRecipe, Cost]]:
    """The same with what each costs."""
    return found_once(op, ("recipes", target, may_trade_memory), lambda: _ranked(op, target, may_trade_memory))


def _ranked(op: Operator, target: Target, may_trade_memory: bool) -> list[tuple[KernelRecipe, Cost]]:
    (type, *_) = op.result_types()
    if type.dtype is DType.I8 and type.quant is None:
        return []  # plain integers, which no recipe is for
    found = [
        tuned(r.recipe, op, target)
        for r in recipes()
        if r.operator == op.kind and r.dtype is type.dtype and r.fits(target)
        if may_trade_memory or not r.recipe.trades_memory
        if r.recipe.suits(target) and not r.recipe.applies(op)
    ]
    costs = [(recipe, recipe.cost(op, target)) for recipe in found]
    return sorted(costs, key=lambda pair: pair[1].cycles)


@dataclass(frozen=True, eq=False)
class Alternative:
    """A recipe for an operator with the kernel that it makes, what a run costs, and the estimated bytes of code."""

    recipe: KernelRecipe
    bound: BoundKernel
    cost: Cost
    code_bytes: int

    @property
    def words(self) -> str:
        """The recipe's name and the parameters that are not as usual."""
        parameters: tuple[Field[object], ...] = fields(self.recipe) if is_dataclass(self.recipe) else ()
        given = [
            (f.name, getattr(self.recipe, f.name)) for f in parameters if getattr(self.recipe, f.name) != f.default
        ]
        return " ".join([self.recipe.name, *(n if value is True else f"{n}={value}" for n, value in given)])


def alternatives(
    op: Operator, target: Target, *, may_trade_memory: bool = True, is_quick: bool = False
) -> list[Alternative]:
    """All ways to compute `op` on a target, fewest estimated cycles first: recipes, their variants, and the generic
    kernel; with `is_quick` the variants of the first recipe only. Empty for an operator that has no kernel.
    """
    usual = candidate_recipes(op, target, may_trade_memory=may_trade_memory)
    recipes = [recipe for first in usual for recipe in (first, *first.variants())] + [GENERIC]
    if is_quick:
        recipes = [usual[0], *usual[0].variants()] if usual else [GENERIC]
        if len(recipes) == 1:
            return []
    found: list[Alternative] = []
    for recipe in recipes:
        try:
            bound = build_kernel(op, recipe)
        except NotImplementedError:
            continue
        if bound.kernel not in [other.bound.kernel for other in found]:
            code_bytes = estimated_code_bytes(_final(bound.kernel, target), target)
            found.append(Alternative(recipe, bound, recipe.cost(op, target), code_bytes))
    return sorted(found, key=lambda alternative: alternative.cost.cycles)


def _final(kernel: Kernel, target: Target) -> Kernel:
    """The kernel with the multiplications that a target has, for estimates."""
    return kernel if target.has("long_multiply") else expand_long_multiply(kernel)


@dataclass(frozen=True)
class BoundKernel:
    """A kernel for one operator: the code, its constants, and which values its buffers stand for."""

    kernel: Kernel
    recipe: str
    #: Buffer name -> operand value, for activations.
    activations: tuple[tuple[str, Value], ...]
    #: Buffer name -> packed data.
    constants: tuple[tuple[str, Array], ...]
    #: Names of the result buffers in order.
    results: tuple[str, ...]
    workspace_bytes: int

    @property
    def constant_bytes(self) -> int:
        """Bytes of the packed constants."""
        return sum(data.nbytes for _, data in self.constants)


def build_kernel(op: Operator, recipe: KernelRecipe = GENERIC) -> BoundKernel:
    """The kernel that a recipe makes for an operator; its name ends in a hash of what it does."""
    found = found_once(op, ("kernel", recipe), lambda: _built(op, recipe))
    return replace(found, activations=recipe.activations(op))


def _built(op: Operator, recipe: KernelRecipe) -> BoundKernel:
    types = op.result_types()
    result_names = ("y",) if len(types) == 1 else tuple(f"y{i}" for i in range(len(types)))
    activations, constants = recipe.activations(op), recipe.constants(op)
    shapes, alignments, workspace = recipe.shapes(op), recipe.alignments(op), recipe.workspace_bytes(op)
    k = LoopBuilder(op.kind, is_scheduled=recipe.is_scheduled)
    views: dict[str, View] = {}

    def declare(kind: str, name: str, type: TensorType, alignment: int) -> None:
        shape = shapes.get(name, type.shape)
        if int(np.prod(shape, dtype=np.int64)) != type.elements:
            raise InternalError(f"{op}: {name} of {type} seen as {shape}")
        views[name] = k.buffer(kind, name, type.dtype, shape, alignment)  # type: ignore[arg-type]  # the three kinds below

    for name, value in activations:
        declare("in", name, value.type, alignments.get(name, 1))
    for name, data in constants.items():
        declare("in", name, TensorType(DType.of(data), tuple(data.shape)), CONSTANT_ALIGNMENT)
    for name, type in zip(result_names, types, strict=True):
        declare("out", name, type, alignments.get(name, 1))
    if workspace:
        views["workspace"] = k.buffer("workspace", "workspace", DType.U8, (workspace,), 8)
    recipe.build(k, op, Views(views))
    built = _named(k.build(), op, recipe)
    return BoundKernel(built, recipe.name, activations, tuple(constants.items()), result_names, workspace)


def _named(built: Kernel, op: Operator, recipe: KernelRecipe) -> Kernel:
    """Name a kernel by operator, element type, recipe and content, so that equal kernels have equal names."""
    dtype = op.result_types()[0].dtype.value
    digest = hashlib.sha256(repr(replace(built, name="")).encode()).hexdigest()[:6]
    parts = [op.kind, dtype] + ([recipe.name] if recipe.name != "generic" else []) + [digest]
    return replace(built, name="_".join(parts))
