"""Expressions that only vectors know: masks, gathers, sums over lanes.

All others work on vectors lane by lane (see `expressions`). A loop over vectors has a step of as many elements as a
vector has lanes; where the elements are no multiple, a mask says which lanes still count:

    for i in 0..n step 4
      mask: boolx4 = active.boolx4(n - i)
      write.i32x4(p, mask=mask) = read.i32x4(q, mask=mask) + 1
      p = p + 16
      q = q + 16

That is VCTP and predication in MVE, the vector length in RVV, and mask registers in AVX-512.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from luciole.ir.types import DType
from luciole.kernel.expressions import Expr

#: Ways to make one number of all lanes.
REDUCTIONS = ("add", "min", "max")
#: The most lanes a vector may have: those of bytes in 1024 bits, eight registers of RVV.
MAXIMUM_LANES = 128


@dataclass(frozen=True)
class Lanes(Expr):
    """A vector of scalars, one a lane."""

    elements: tuple[Expr, ...]

    @property
    def dtype(self) -> DType:  # type: ignore[override]  # a property stands for the base's attribute
        """The scalars' type."""
        return self.elements[0].dtype

    @property
    def lanes(self) -> int:  # type: ignore[override]  # a property stands for the base's attribute
        """How many there are."""
        return len(self.elements)


@dataclass(frozen=True)
class ActiveLanes(Expr):
    """A mask: lane i is true for i < count. `count` is an `INDEX`, not negative, and may be more than `lanes`."""

    count: Expr
    lanes: int = field()
    dtype: DType = field(default=DType.BOOL, init=False)


@dataclass(frozen=True)
class Gather(Expr):
    """Lane i is `dtype` read at `pointer` plus `offsets[i]` bytes, without alignment beyond the type's own; where a
    mask is false, the lane is 0 and its memory is not touched.
    """

    pointer: Expr
    offsets: Expr
    dtype: DType
    mask: Expr | None = None

    @property
    def lanes(self) -> int:  # type: ignore[override]  # a property stands for the base's attribute
        """Those of the offsets."""
        return self.offsets.lanes


@dataclass(frozen=True)
class Dot(Expr):
    """accumulator + sums of a * b, in `i32`; a and b are vectors of `i8` or `u8`.

    An accumulator of one lane takes the sum over all lanes, as VMLADAV does; one of a quarter as many lanes as a and b
    has that of each four neighbors, as SDOT and VPDPBUSD do; in general every lane of the accumulator takes as many.
    """

    accumulator: Expr
    a: Expr
    b: Expr

    @property
    def dtype(self) -> DType:  # type: ignore[override]  # a property stands for the base's attribute
        """The accumulator's type."""
        return self.accumulator.dtype

    @property
    def lanes(self) -> int:  # type: ignore[override]  # a property stands for the base's attribute
        """Those of the accumulator."""
        return self.accumulator.lanes


@dataclass(frozen=True)
class Reduce(Expr):
    """One number of all lanes: their wrapping sum (`add`), the least (`min`) or the largest (`max`); of integers."""

    operation: str
    a: Expr

    @property
    def dtype(self) -> DType:  # type: ignore[override]  # a property stands for the base's attribute
        """The lanes' type."""
        return self.a.dtype
