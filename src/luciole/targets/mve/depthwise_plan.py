"""How a depthwise convolution is cut: the rows and channels copied at a time, and the pointers that reach the taps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from luciole.ops.depthwise import DepthwiseConv2d
from luciole.targets.mve.copies import copy_instructions
from luciole.targets.mve.requantization import LANES, blocks_of

#: Bytes of workspace that a kernel may take.
WORKSPACE_LIMIT = 4096
#: Windows of more taps would make long code.
TAPS_LIMIT = 32
#: The largest offset of a load of bytes into words, and how many pointers to inputs fit into registers.
OFFSET_REACH, POINTER_LIMIT = 127, 5
#: More channels than this are copied in slices, so that neighboring columns are within reach.
SLICE_LIMIT = 32


@dataclass(frozen=True)
class Group:
    """Offsets of taps, in bytes, that one pointer reaches."""

    first: int
    last: int

    @property
    def middle(self) -> int:
        """Where the pointer points."""
        return (self.first + self.last + 1) // 2


@dataclass(frozen=True)
class Plan:
    """Geometry as (rows, columns), perhaps with both exchanged; `strip` rows of outputs at a time from copies of
    `slice` channels, or no copies where `strip` is 0.
    """

    batch: int
    channels: int
    size: tuple[int, int]
    outputs: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    slice: int
    strip: int

    @property
    def taps(self) -> int:
        """Products of a sum."""
        return self.kernel[0] * self.kernel[1]

    @property
    def pixels(self) -> int:
        """Outputs side by side."""
        return min(2, self.outputs[1])

    @property
    def columns(self) -> int:
        """Columns under a row of outputs, padding included."""
        return (self.outputs[1] - 1) * self.strides[1] + self.kernel[1]

    @property
    def copied_columns(self) -> int:
        """Columns of x among them."""
        return min(self.size[1], self.columns - self.pads[1])

    @property
    def row_bytes(self) -> int:
        """From one row to the next."""
        return self.columns * self.slice if self.strip else self.size[1] * self.channels

    @property
    def strip_rows(self) -> int:
        """Rows under a strip."""
        return (self.strip - 1) * self.strides[0] + self.kernel[0] if self.strip else 0

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the copies."""
        return self.strip_rows * self.row_bytes

    def offset(self, row: int, column: int) -> int:
        """Bytes from the first tap of a window to another one, or to one of its neighbor's."""
        return row * self.row_bytes + column * self.slice

    def groups(self, pixels: int) -> tuple[Group, ...]:
        """All taps of a few pixels in groups in reach of one pointer; one group where there would be too many."""
        return self._groups[pixels]

    @cached_property
    def _groups(self) -> dict[int, tuple[Group, ...]]:
        return {pixels: self._grouped(pixels) for pixels in (1, 2)}

    def _grouped(self, pixels: int) -> tuple[Group, ...]:
        columns = range((pixels - 1) * self.strides[1] + self.kernel[1])
        offsets = sorted({self.offset(row, column) for row in range(self.kernel[0]) for column in columns})
        groups: list[Group] = []
        for offset in offsets:
            if groups and offset - groups[-1].first <= 2 * OFFSET_REACH:
                groups[-1] = replace(groups[-1], last=offset)
            else:
                groups.append(Group(offset, offset))
        return tuple(groups) if len(groups) <= POINTER_LIMIT else (Group(offsets[0], offsets[-1]),)

    @property
    def instructions(self) -> int:
        """Executed instructions for one image, from counting the loops."""
        return sum(part._part_instructions(len(found)) for part, found in self.parts())

    def parts(self) -> list[tuple[Plan, range]]:
        """The slices of whole size by where they begin, and the rest of the channels, with a plan of its own."""
        whole = self.channels // self.slice * self.slice
        parts = [(self, range(0, whole, self.slice))]
        if whole < self.channels:
            rest = replace(self, slice=self.channels - whole)
            parts.append((rest, range(whole, self.channels, rest.slice)))
        return parts

    def _part_instructions(self, slices: int) -> int:
        """Some slices of all rows of outputs."""
        return slices * (self._row_instructions * self.outputs[0] + self._copy_instructions)

    @property
    def _row_instructions(self) -> int:
        """A row of outputs of a slice."""
        far = self.taps if len(self.groups(self.pixels)) == 1 and self.kernel[0] > 1 else 0
        blocks = blocks_of(self.slice)
        shared_columns = min((self.pixels - 1) * self.strides[1] + self.kernel[1], self.pixels * self.kernel[1])
        pair = self.taps * (1 + 2 * self.pixels) + shared_columns * self.kernel[0] + 4 + 10 * self.pixels + far
        single = 4 * self.taps + 14 + far
        pairs, rest = divmod(self.outputs[1], self.pixels)
        return blocks * (pairs * pair + rest * single) + 18 * (pairs + rest) + 10

    @property
    def _copy_instructions(self) -> int:
        """All copies of a slice into strips."""
        if not self.strip:
            return 0
        row = 16 + 3 * self.copied_columns * self.slice // 16
        if self.slice < self.channels:
            row = 16 + self.copied_columns * (3 + copy_instructions(self.slice))
        strips = -(-self.outputs[0] // self.strip)
        return strips * (self.strip_rows * row + 20)


def plan_of(op: DepthwiseConv2d) -> Plan | None:
    """The plan of an operator without dilation; none where even few channels of the rows under a row of outputs do not
    fit into the workspace.
    """
    batch, height, width, channels = op.x.type.shape
    _, rows, columns, _ = op.result_types()[0].shape
    plan = Plan(
        batch,
        channels,
        (height, width),
        (rows, columns),
        op.window.kernel,
        op.strides,
        (op.pads[0], op.pads[1]),
        channels,
        0,
    )
    if width == 1 and columns == 1 and op.window.kernel[1] == 1:
        plan = replace(plan, size=(1, height), outputs=(1, rows), kernel=plan.kernel[::-1], strides=plan.strides[::-1])
        plan = replace(plan, pads=plan.pads[::-1])
    stripped = _with_strips(plan)
    if op.window.has_padding:
        return stripped
    return plan if channels <= SLICE_LIMIT or stripped is None else stripped


def _with_strips(plan: Plan) -> Plan | None:
    """The plan with as many channels in a slice, and then as many rows in a strip, as fit. Slices that leave no rest
    are better, unless they are small.
    """
    found = range(min(SLICE_LIMIT, plan.channels // LANES * LANES), 0, -LANES)
    slices = [plan.channels] if plan.channels <= SLICE_LIMIT else []
    slices += [s for s in found if plan.channels % s == 0 and s >= SLICE_LIMIT // 2]
    for channels in (*slices, *found):
        cut = replace(plan, slice=channels, strip=1)
        fitting = (WORKSPACE_LIMIT // cut.row_bytes - plan.kernel[0]) // plan.strides[0] + 1
        if fitting >= 1:
            strips = -(-plan.outputs[0] // fitting)
            return replace(cut, strip=-(-plan.outputs[0] // strips))
    return None
