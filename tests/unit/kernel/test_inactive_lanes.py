"""What is known of the lanes that masks leave out of reads."""

from __future__ import annotations

import pytest

from luciole.kernel.inactive_lanes import inactive_lanes_matter
from luciole.kernel.text import parse_kernel
from luciole.kernel.verify import verify_kernel

KERNEL = """
kernel k(in x: i8[64], out y: i8[64], out z: i8[1])
  p: pointer = address(x, 0)
  q: pointer = address(y, 0)
{body}
end
"""

CASES = {
    "written under the same mask": (
        """
        v: i8x16 = read.i8x16(p, mask=active.boolx16(5))
        w: i8x16 = v + 1
        write.i8x16(q, mask=active.boolx16(5)) = w
        """,
        False,
    ),
    "no mask": ("write.i8x16(q) = read.i8x16(p)", False),
    "written as a whole": ("write.i8x16(q) = read.i8x16(p, mask=active.boolx16(5)) + 1", True),
    "written under another mask": (
        """
        v: i8x16 = read.i8x16(p, mask=active.boolx16(5))
        write.i8x16(q, mask=active.boolx16(6)) = v
        """,
        True,
    ),
    "summed over lanes": (
        """
        v: i8x16 = read.i8x16(p, mask=active.boolx16(5))
        z[0] = reduce_add(v)
        """,
        True,
    ),
    "summed in a register under a mask that may change": (
        """
        total: i8x16 = i8x16(0i8)
        for i in 0..20 step 16
          mask: boolx16 = active.boolx16(20 - i)
          total = total + read.i8x16(p, mask=mask)
          write.i8x16(q, mask=mask) = total
        """,
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_inactive_lanes_matter_where_results_depend_on_them(case: str) -> None:
    body, expected = CASES[case]
    lines = [line.removeprefix("        ") for line in body.strip("\n").splitlines()]
    text = KERNEL.format(body="\n".join("  " + line for line in lines if line.strip()))
    kernel = parse_kernel(text)
    verify_kernel(kernel)
    assert inactive_lanes_matter(kernel) is expected
