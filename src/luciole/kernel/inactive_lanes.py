"""Whether it matters what stands in the lanes of a vector that were not read from memory.

Lanes of a masked read are zeros where the mask is false. Where results are written under the same mask, whatever stands
there is lost, and back ends may leave it open.
"""

from __future__ import annotations

from luciole.kernel.core import Assign, Constant, Define, Expr, Kernel, Read, Variable, Write
from luciole.kernel.vectors import ActiveLanes, Dot, Gather, Lanes, Reduce
from luciole.kernel.walk import expressions, walk, walk_expr

#: What each register's inactive lanes come from: the masks of the reads.
_Masks = dict[str, set[Expr]]


def inactive_lanes_matter(kernel: Kernel) -> bool:
    """Whether a result depends on inactive lanes of a masked read, as far as one can see.

    It does not if vectors that come from masked reads go through operations lane by lane only, and are written under
    the very mask of the reads.
    """
    masks: _Masks = {}
    is_changed = True
    while is_changed:
        is_changed = False
        for stmt in walk(kernel.body):
            if isinstance(stmt, Define | Assign):
                known = masks.setdefault(stmt.variable.name, set())
                found = _masks_in(stmt.value, masks)
                is_changed |= not found <= known
                known |= found
    for stmt in walk(kernel.body):
        if isinstance(stmt, Write) and _masks_in(stmt.value, masks) - {stmt.mask}:
            return True
        # A mask in a register may be another one when a register that lives longer is written.
        if isinstance(stmt, Assign) and any(not _is_constant(mask) for mask in _masks_in(stmt.value, masks)):
            return True
        if any(_mixes_lanes(expr, masks) for expr in expressions(stmt)):
            return True
    return False


def _masks_in(expr: Expr, masks: _Masks) -> set[Expr]:
    found: set[Expr] = set()
    for node in walk_expr(expr):
        if isinstance(node, Read) and node.mask is not None:
            found.add(node.mask)
        elif isinstance(node, Variable):
            found |= masks.get(node.name, set())
    return found


def _is_constant(mask: Expr) -> bool:
    return isinstance(mask, ActiveLanes) and isinstance(mask.count, Constant)


def _mixes_lanes(expr: Expr, masks: _Masks) -> bool:
    """Whether lanes meet others, or become addresses, in an expression over what masked reads gave."""
    mixing = (Dot, Reduce, Gather, Lanes)
    return any(isinstance(node, mixing) and bool(_masks_in(node, masks)) for node in walk_expr(expr))
