"""The vectors of the RISC-V vector extension, on registers of 128 bits at least."""

from __future__ import annotations

from luciole.kernel.vectorize import VectorUnit
from luciole.targets.mve.unit import SHORT_FORMS

#: Eight registers of 128 bits are one vector: fewest instructions, and as many beats as eight vectors would take.
RVV = VectorUnit(bits=1024, unrolled_vectors=4, forms=SHORT_FORMS)
