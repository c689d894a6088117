"""Transforms: free functions `Kernel -> Kernel` that change how a kernel computes and not what.

The outputs are the same bits, floats included: no transform changes the order in which numbers are combined, nor that
of reads and writes of one buffer. Those of loops are in `loops`, those of definitions in `hoisting` and `pruning`,
those for small cores in `long_arithmetic`; all can be imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from luciole.kernel.core import Define, Kernel, Variable, as_expr
from luciole.kernel.hoisting import hoist
from luciole.kernel.long_arithmetic import expand_long_multiply
from luciole.kernel.loops import find_loop, peel, split, split_at, unroll
from luciole.kernel.pruning import prune
from luciole.kernel.rewrite import assigned_names, is_stable, kernel_names, rename_body, rewrite_body, substitute_body
from luciole.kernel.walk import walk

__all__ = [
    "bind_scalars",
    "expand_long_multiply",
    "find_loop",
    "hoist",
    "peel",
    "prune",
    "rename",
    "split",
    "split_at",
    "substitute",
    "unroll",
]


def rename(kernel: Kernel, names: Mapping[str, str]) -> Kernel:
    """Buffers, scalars and registers under new names.

        y[i] = acc                 ->   y[i] = total                      # rename(kernel, {"acc": "total"})

    Raises `ValueError` when two names would become one.
    """
    old = kernel_names(kernel)
    if len({names.get(name, name) for name in old}) != len(old):
        raise ValueError(f"renaming in kernel {kernel.name} makes two names one")
    return replace(
        kernel,
        parameters=tuple(replace(p, name=names.get(p.name, p.name)) for p in kernel.parameters),
        scalars=tuple(Variable(names.get(s.name, s.name), s.dtype) for s in kernel.scalars),
        body=rename_body(kernel.body, names),
    )


def bind_scalars(kernel: Kernel, values: Mapping[str, int]) -> Kernel:
    """The kernel for one value of some scalars, which are parameters no more.

        kernel f(out y: i32[8], n: i32)   ->   kernel f(out y: i32[8])    # bind_scalars(kernel, {"n": 3})
          y[0] = n + 1                           y[0] = 4

    Raises `ValueError` for a scalar that the kernel does not have.
    """
    bound = {s.name: as_expr(values[s.name], s.dtype) for s in kernel.scalars if s.name in values}
    if len(bound) != len(values):
        raise ValueError(f"kernel {kernel.name} has no scalar {', '.join(sorted(set(values) - set(bound)))}")
    scalars = tuple(s for s in kernel.scalars if s.name not in bound)
    return replace(kernel, scalars=scalars, body=substitute_body(kernel.body, bound))


def substitute(kernel: Kernel, register: str) -> Kernel:
    """The value of a register in its place wherever it is read.

        ih: index = oh * 2 + kh    ->   y[oh] = x[oh * 2 + kh]            # substitute(kernel, "ih")
        y[oh] = x[ih]

    Raises `ValueError` unless the register is never assigned and its value reads no memory and no register that is.
    """
    definitions = [s for s in walk(kernel.body) if isinstance(s, Define) and s.variable.name == register]
    if not definitions:
        raise ValueError(f"kernel {kernel.name} has no register {register}")
    definition, assigned = definitions[0], assigned_names(kernel.body)
    if register in assigned or not is_stable(definition.value, assigned):
        raise ValueError(f"register {register} of kernel {kernel.name} has no value that stays the same")
    body = rewrite_body(kernel.body, lambda stmt: () if stmt is definition else None)
    return replace(kernel, body=substitute_body(body, {register: definition.value}))
