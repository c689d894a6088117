"""Memory placement: offsets for items with lives, independent of any intermediate representation.

problem = PlacementProblem((Item("input", 64, 4, first=0, last=1), Item("output", 32, 4, first=1, last=2)))
placement = solve(problem)      # placement.offsets, placement.size_bytes, placement.gap_bytes
assert not check(problem, placement.offsets)
"""

from luciole.lower.placement.bound import lower_bound
from luciole.lower.placement.problem import Forbidden, Item, Placement, PlacementProblem, check
from luciole.lower.placement.solve import FAST, NORMAL, THOROUGH, Effort, solve

__all__ = [
    "FAST",
    "NORMAL",
    "THOROUGH",
    "Effort",
    "Forbidden",
    "Item",
    "Placement",
    "PlacementProblem",
    "check",
    "lower_bound",
    "solve",
]
